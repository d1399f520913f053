/** Watches of keys. */

import { type CallOptions, milliseconds, revision, timeout } from "./arguments";
import { Batch } from "./batch";
import { invalid } from "./errors";
import type { Handle } from "./handle";
import { digits, Plain } from "./json";
import type { NativeWatch, RawBatch, RawKey, RawRange, RawWatchSettings } from "./native";
import { Reader, Source } from "./source";
import { bytes, Entry, text } from "./values";

/** `signal` closes the watch whenever it is aborted; `timeoutMs` is for opening, an open watch has no deadline. */
export interface WatchOptions extends CallOptions {
  /** From where: the state first (the default), or only what is new. */
  start?: "snapshot" | "now" | undefined;
  /** Goes on after a revision that was seen already, instead of `start`. */
  after?: bigint | undefined;
  /** Lets changes to one key be folded when there are more than can be taken. Default: every change. */
  latest?: boolean | undefined;
  /** Whether writes are told. Default: yes. */
  puts?: boolean | undefined;
  /** Whether deletions are told. Default: yes. */
  deletes?: boolean | undefined;
  /** Whether it is told that the holder of a key's lease falls silent. Default: no. */
  liveness?: boolean | undefined;
  /** With the entry before each event, as far as history has it. */
  previous?: boolean | undefined;
  /** Least time between two updates. Default: none. */
  minIntervalMs?: number | undefined;
}

/** The next step of a watch: whole revisions, in order, none twice, none left out. */
export class Update extends Plain {
  /**
   * How to read the events. `snapshot`: the whole state, a put for each key; forget what was known before. `changes`:
   * what changed since. `reset`: the same, found by comparing states, since the server no longer has the history
   * between; intermediate values are missing, the result is exact.
   */
  readonly kind: "snapshot" | "changes" | "reset";
  /** The watch has now told everything up to this revision. */
  readonly revision: bigint;
  /** By revision, then in the order of the operations that made them. */
  readonly events: Event[];
  /** Changes to one key were folded into the last of them. */
  readonly folded: boolean;

  /** @internal */
  constructor(kind: Update["kind"], revision: bigint, events: Event[], folded: boolean) {
    super();
    this.kind = kind;
    this.revision = revision;
    this.events = events;
    this.folded = folded;
  }
}

/** One change to one key, or to the standing of the lease that it hangs on. */
export type Event = PutEvent | DeleteEvent | LivenessEvent;

/** What was before, and is no longer in history. */
const FORGOTTEN = "forgotten";
type Previous = Entry | null | undefined | typeof FORGOTTEN;

abstract class KeyEvent extends Plain {
  abstract readonly type: "put" | "delete";
  readonly key: string;
  readonly revision: bigint;
  /** What it was before, if that was asked for: null if there was nothing, undefined if history is gone. */
  readonly previous: Entry | null | undefined;
  /** There was something before, and history no longer has it. */
  readonly previousForgotten: boolean;
  readonly #key: RawKey;

  /** @internal */
  constructor(key: RawKey, revision: bigint, previous: Previous) {
    super();
    this.#key = key;
    this.key = text(key);
    this.revision = revision;
    this.previousForgotten = previous === FORGOTTEN;
    this.previous = previous === FORGOTTEN ? undefined : previous;
  }

  /** The key's bytes. */
  get keyBytes(): Buffer {
    return bytes(this.#key);
  }
}

/** The key was written. */
export class PutEvent extends KeyEvent {
  readonly type = "put";
  /** The key as it is now; its `modRevision` is this event's revision. */
  readonly entry: Entry;

  /** @internal */
  constructor(key: RawKey, entry: Entry, previous: Previous) {
    super(key, entry.modRevision, previous);
    this.entry = entry;
  }

  /** The value now. */
  get value(): Buffer {
    return this.entry.value;
  }

  override toJSON(): Record<string, unknown> {
    const { type, revision, previous, previousForgotten } = this;
    return { type, revision: digits(revision), ...this.entry.toJSON(), previous, previousForgotten };
  }
}

/** The key was deleted, by a request or with its lease. */
export class DeleteEvent extends KeyEvent {
  readonly type = "delete";
}

/** The lease of a watched key changed its standing; the key itself did not change. */
export class LivenessEvent extends Plain {
  readonly type = "liveness";
  /** @internal */
  constructor(
    readonly lease: string,
    readonly state: "alive" | "suspect" | "expired",
    readonly revision: bigint,
  ) {
    super();
  }
}

const KINDS = ["snapshot", "changes", "reset"] as const;
const STATES = ["alive", "suspect", "expired"] as const;

/** What came: nothing at the end. */
function updates(raw: RawBatch | undefined): Update[] {
  if (raw === undefined) return [];
  const batch = new Batch(raw);
  return Array.from({ length: batch.updates }, () => update(batch));
}

function update(batch: Batch): Update {
  const revision = batch.u64();
  const count = batch.u32();
  const how = batch.u32();
  const events: Event[] = [];
  for (let number = 0; number < count; number += 1) events.push(event(batch));
  return new Update(KINDS[how & 0xffff] as Update["kind"], revision, events, how >>> 16 !== 0);
}

function event(batch: Batch): Event {
  const type = batch.u32();
  const form = batch.u32();
  if (type === 0) {
    const key = batch.key();
    const entry = batch.entry(key);
    return new PutEvent(key, entry, previous(batch, form));
  }
  if (type === 1) {
    const key = batch.key();
    const revision = batch.u64();
    return new DeleteEvent(key, revision, previous(batch, form));
  }
  const lease = batch.lease() as string;
  return new LivenessEvent(lease, STATES[form] as LivenessEvent["state"], batch.u64());
}

function previous(batch: Batch, form: number): Previous {
  if (form === 3) return batch.entry(batch.key());
  return form === 0 ? undefined : form === 1 ? null : FORGOTTEN;
}

/**
 * An open watch: an async iterable of updates. It goes on where it was after any reconnect, and ends only if it is
 * closed, if the client is, or with an error that says why the server will not go on.
 *
 * It asks for more when the application has taken what came. Until then a bounded amount waits in this process and the
 * server keeps its place. Leaving a `for await` loop closes it; so do `close()`, `await using` and its signal.
 */
export class Watch extends Reader<NativeWatch, RawBatch | undefined, Update> {
  readonly #position: { revision: bigint };

  /** @internal */
  constructor(handle: Handle, range: RawRange, options: WatchOptions) {
    const source = new Source<NativeWatch, RawBatch | undefined, Update>(
      handle,
      options.signal,
      (id) => handle.native.watch(id, settings(range, options)),
      updates,
    );
    super(source);
    // Where it begins is told to an object of its own: nothing may hold a watch that its reader has let go of.
    const position = { revision: 0n };
    this.#position = position;
    void source.open.then((outcome) => {
      if (outcome.ok === true) position.revision = outcome.value.revision;
    });
  }

  /** The revision up to which everything was told: a watch that starts after it goes on from here. */
  get revision(): bigint {
    return this.#position.revision;
  }

  /** @internal */
  protected override told({ revision }: Update): void {
    // Of two calls that wait, the second may be told first.
    if (revision > this.#position.revision) this.#position.revision = revision;
  }

  /** The events one by one, for a loop that does not care which revisions belong together. */
  async *events(): AsyncGenerator<Event, void, undefined> {
    for await (const update of this) yield* update.events;
  }
}

function settings(range: RawRange, options: WatchOptions): RawWatchSettings {
  const { start = "snapshot", after, puts = true, deletes = true, liveness = false } = options;
  if (start !== "snapshot" && start !== "now") throw invalid('start is "snapshot" or "now"');
  const timeoutMs = timeout(options);
  return {
    range,
    ...(after === undefined ? { start } : { start: "after", after: revision(after, "after") }),
    latest: options.latest === true,
    puts,
    deletes,
    liveness,
    previous: options.previous === true,
    minIntervalMs: milliseconds(options.minIntervalMs, "minIntervalMs") ?? 0,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  };
}
