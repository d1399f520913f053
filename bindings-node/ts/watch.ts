/** Watches of keys. */

import { onAbort } from "./abort";
import { type CallOptions, milliseconds, revision, timeout } from "./arguments";
import type { Handle } from "./handle";
import { digits, Plain } from "./json";
import type { NativeWatch, RawEntry, RawEvent, RawKey, RawPrevious, RawRange, RawUpdate } from "./native";
import { type Outcome, unwrap } from "./port";
import { bytes, Entry, text } from "./values";

/** `signal` closes the watch whenever it is aborted; `timeoutMs` is for opening, an open watch has no deadline. */
export interface WatchOptions extends CallOptions {
  /** From where: the state first (the default), only what is new, or after a revision that was seen already. */
  start?: "snapshot" | "now" | { after: bigint } | undefined;
  /** Every change (the default), or only the newest state of each key if there are more than can be taken. */
  mode?: "every" | "latest" | undefined;
  /** Which kinds of events. Default: writes and deletions. */
  filter?: { puts?: boolean; deletes?: boolean; liveness?: boolean } | undefined;
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
  constructor([kind, revision, folded, events]: RawUpdate) {
    super();
    this.kind = kind;
    this.revision = revision;
    this.events = events.map(event);
    this.folded = folded;
  }
}

/** One change to one key, or to the standing of the lease that it hangs on. */
export type Event = PutEvent | DeleteEvent | LivenessEvent;

abstract class KeyEvent extends Plain {
  abstract readonly type: "put" | "delete";
  readonly key: string;
  readonly revision: bigint;
  /** What it was before, if that was asked for: null if there was nothing, undefined if history is gone. */
  readonly previous: Entry | null | undefined;
  /** There was something before, and history no longer has it. */
  readonly previousForgotten: boolean;
  readonly #key: RawKey;

  constructor(key: RawKey, revision: bigint, previous: RawPrevious) {
    super();
    this.#key = key;
    this.key = text(key);
    this.revision = revision;
    this.previousForgotten = previous === "forgotten";
    this.previous = typeof previous === "object" && previous !== null ? new Entry(previous) : (previous as null);
    if (this.previousForgotten) this.previous = undefined;
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
  constructor(entry: RawEntry, previous: RawPrevious) {
    super(entry[0], entry[3], previous);
    this.entry = new Entry(entry);
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

function event(raw: RawEvent): Event {
  switch (raw[0]) {
    case "put":
      return new PutEvent(raw[1], raw[2]);
    case "delete":
      return new DeleteEvent(raw[1], raw[2], raw[3]);
    case "liveness":
      return new LivenessEvent(raw[1], raw[2], raw[3]);
  }
}

/**
 * An open watch: an async iterable of updates. It goes on where it was after any reconnect, and ends only if it is
 * closed, if the client is, or with an error that says why the server will not go on.
 *
 * It asks for more when the application has taken what came. Until then a bounded amount waits in this process and the
 * server keeps its place. Leaving a `for await` loop closes it; so do `close()`, `await using` and its signal.
 */
export class Watch implements AsyncIterableIterator<Update>, AsyncDisposable {
  readonly #source: Source;

  /** @internal */
  constructor(handle: Handle, range: RawRange, options: WatchOptions) {
    this.#source = new Source(handle, range, options);
    abandoned.register(this, this.#source, this);
  }

  /** Resolves when a server has opened it. Not needed before reading: what goes wrong is told there too. */
  get opened(): Promise<this> {
    return this.#source.open.then((outcome) => (unwrap(outcome), this));
  }

  /** The revision up to which everything was told: a watch that starts after it goes on from here. */
  get revision(): bigint {
    return this.#source.revision;
  }

  /** Waits for the next update. */
  async next(): Promise<IteratorResult<Update, undefined>> {
    const update = unwrap(await this.#source.next());
    return update === undefined ? { done: true, value: undefined } : { done: false, value: update };
  }

  /** The events one by one, for a loop that does not care which revisions belong together. */
  async *events(): AsyncGenerator<Event, void, undefined> {
    for await (const update of this) yield* update.events;
  }

  /** Closes it, at the server too. What waits for an update is told the end. Closing twice is fine. */
  async close(): Promise<void> {
    abandoned.unregister(this);
    await this.#source.close();
  }

  async return(): Promise<IteratorResult<Update, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A watch that nobody holds any more closes. Its source does not know it. */
const abandoned = new FinalizationRegistry<Source>((source) => void source.close());

/** What a watch reads from. */
class Source {
  readonly open: Promise<Outcome<NativeWatch>>;
  revision = 0n;
  readonly #handle: Handle;
  readonly #ready: Update[] = [];
  readonly #forget: () => void;
  /** Ends the call that waits, whether for the opening or for updates. */
  readonly #stop = new AbortController();
  #turn: Promise<unknown> = Promise.resolve();
  #held = true;

  constructor(handle: Handle, range: RawRange, options: WatchOptions) {
    this.#handle = handle;
    handle.holder.hold();
    const { start = "snapshot", filter = {} } = options;
    const { signal } = options;
    if (signal?.aborted) this.#stop.abort(signal.reason);
    this.open = handle.port.call<NativeWatch>(handle.holder, this.#stop.signal, (id) => {
      const timeoutMs = timeout(options);
      handle.native.watch(id, {
        range,
        start: typeof start === "object" ? "after" : start,
        ...(typeof start === "object" ? { after: revision(start.after, "start.after") } : {}),
        latest: options.mode === "latest",
        puts: filter.puts ?? true,
        deletes: filter.deletes ?? true,
        liveness: filter.liveness ?? false,
        previous: options.previous === true,
        minIntervalMs: milliseconds(options.minIntervalMs, "minIntervalMs") ?? 0,
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      });
    });
    this.#forget = onAbort(signal, () => {
      this.#stop.abort(signal?.reason);
      void this.close();
    });
    void this.open.then((outcome) => {
      if (outcome.ok === true) this.revision = outcome.value.revision;
      else this.#release();
    });
  }

  /** The next update, or none at the end. Calls take turns. */
  next(): Promise<Outcome<Update | undefined>> {
    const turn = this.#turn.then(() => this.#take());
    this.#turn = turn;
    return turn;
  }

  async close(): Promise<void> {
    if (!this.#stop.signal.aborted) this.#stop.abort(CLOSED);
    this.#release();
    const outcome = await this.open;
    if (outcome.ok === true) outcome.value.close();
  }

  async #take(): Promise<Outcome<Update | undefined>> {
    // Aborted by its signal, it says so even if updates wait.
    if (this.#stop.signal.aborted) return this.#stopped();
    if (this.#ready.length === 0) {
      const opened = await this.open;
      if (opened.ok !== true) return opened.ok === "aborted" ? this.#stopped(opened.reason) : opened;
      const outcome = await this.#handle.port.call<RawUpdate[]>(this.#handle.holder, this.#stop.signal, (id) =>
        opened.value.next(id),
      );
      if (outcome.ok === "aborted") return this.#stopped(outcome.reason);
      if (outcome.ok === false) {
        this.#release();
        return outcome;
      }
      for (const update of outcome.value) this.#ready.push(new Update(update));
    }
    const update = this.#ready.shift();
    if (update === undefined) this.#release();
    else this.revision = update.revision;
    return { ok: true, value: update };
  }

  #stopped(reason: unknown = this.#stop.signal.reason): Outcome<undefined> {
    return reason === CLOSED ? { ok: true, value: undefined } : { ok: "aborted", reason };
  }

  /** Once: an open watch keeps the process. */
  #release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#forget();
    this.#handle.holder.release();
  }
}

/** The reason for which a watch that was simply closed stops. */
const CLOSED = Symbol("closed");
