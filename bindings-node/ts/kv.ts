/** Reading, writing and watching keys. */

import {
  type CallOptions,
  consistency,
  count,
  type Key,
  lease,
  octets,
  range,
  type Range,
  type ReadOptions,
  timeout,
  type Value,
} from "./arguments";
import type { Handle } from "./handle";
import type { RawEntry, RawResult } from "./native";
import { unwrap } from "./port";
import { conditions, steps, type Txn } from "./txn";
import { DeleteReply, Entry, Listing, PutReply, TxnReply } from "./values";
import { Watch, type WatchOptions } from "./watch";

export interface PutOptions extends CallOptions {
  /** The lease, or its id, that the key dies with. Without one, a lease that the key had is detached. */
  lease?: string | { readonly id: string } | null | undefined;
  /** Return the entry that it replaces. */
  previous?: boolean | undefined;
}

export interface DeleteOptions extends CallOptions {
  /** Return the entries that are deleted. */
  previous?: boolean | undefined;
}

export interface ListOptions extends ReadOptions {
  /** Most entries to return. Default: no limit. */
  limit?: number | undefined;
  /** From the last key to the first. */
  reverse?: boolean | undefined;
  /** Leave the values out. */
  keysOnly?: boolean | undefined;
}

/** The keys of the client's namespace. */
export class Kv {
  readonly #handle: Handle;

  /** @internal */
  constructor(handle: Handle) {
    this.#handle = handle;
  }

  /** Reads one key: its entry, or undefined if it does not exist. */
  async get(key: Key, options: ReadOptions = {}): Promise<Entry | undefined> {
    const outcome = await this.#handle.call<RawEntry | null>(options, (id, native) =>
      native.get(id, octets(key, "key"), consistency(options), timeout(options)),
    );
    const entry = unwrap(outcome);
    return entry === null ? undefined : new Entry(...entry);
  }

  /** Writes one key. */
  async put(key: Key, value: Value, options: PutOptions = {}): Promise<PutReply> {
    const previous = options.previous === true;
    const outcome = await this.#handle.call<[bigint, RawEntry | null]>(options, (id, native) =>
      native.put(id, octets(key, "key"), octets(value, "value"), lease(options.lease), previous, timeout(options)),
    );
    const [revision, before] = unwrap(outcome);
    return new PutReply(revision, before, previous);
  }

  /** Deletes a key, or every key of a range, in one revision. Deleting nothing succeeds and says 0. */
  async delete(keys: Key | Range, options: DeleteOptions = {}): Promise<DeleteReply> {
    const previous = options.previous === true;
    const outcome = await this.#handle.call<[bigint, number, RawEntry[]]>(options, (id, native) =>
      native.delete(id, range(keys), previous, timeout(options)),
    );
    const [revision, deleted, before] = unwrap(outcome);
    return new DeleteReply(revision, deleted, before, previous);
  }

  /** Reads every key of a range, all at one revision. Text is a prefix: `list("config/")`. */
  async list(keys: Key | Range, options: ListOptions = {}): Promise<Listing> {
    const outcome = await this.#handle.call<[bigint, number, boolean, RawEntry[]]>(options, (id, native) =>
      native.list(
        id,
        range(prefixed(keys)),
        options.keysOnly === true ? "keys" : "entries",
        count(options.limit, "limit"),
        options.reverse === true,
        consistency(options),
        timeout(options),
      ),
    );
    return new Listing(...unwrap(outcome));
  }

  /** How many keys a range has. Text is a prefix. */
  async count(keys: Key | Range, options: ReadOptions = {}): Promise<number> {
    const outcome = await this.#handle.call<number>(options, (id, native) =>
      native.list(id, range(prefixed(keys)), "count", 0, false, consistency(options), timeout(options)),
    );
    return unwrap(outcome);
  }

  /** Runs `then` if every condition of `if` holds, `else` if not, as one step with one revision. */
  async txn(txn: Txn, options: CallOptions = {}): Promise<TxnReply> {
    const outcome = await this.#handle.call<[bigint, boolean, boolean, RawResult[]]>(options, (id, native) =>
      native.txn(id, conditions(txn.if), steps(txn.then), steps(txn.else), timeout(options)),
    );
    return new TxnReply(...unwrap(outcome));
  }

  /**
   * Watches a key or a range of keys: the state as it is first, then every change, without a gap between the two. It
   * opens at once; leaving the loop closes it.
   *
   * ```ts
   * for await (const update of client.kv.watch({ prefix: "config/" })) {
   *   for (const event of update.events) console.log(event.type, event.revision);
   * }
   * ```
   */
  watch(keys: Key | Range, options: WatchOptions = {}): Watch {
    return new Watch(this.#handle, range(keys), options);
  }
}

function prefixed(keys: Key | Range): Range {
  return typeof keys === "string" || keys instanceof Uint8Array ? { prefix: keys } : keys;
}
