/** What a watch reads from: it opens at once, asks for more when what came was taken, and closes whatever happens. */

import { onAbort } from "./abort";
import type { Handle } from "./handle";
import { type Outcome, unwrap } from "./port";

interface NativeSource {
  next(call: number): void;
  close(): void;
}

/** The reason for which a source that was simply closed stops. */
const CLOSED = Symbol("closed");

/** A source that nobody holds any more closes. What it does must not know its reader. */
const abandoned = new FinalizationRegistry<Source<NativeSource, unknown, unknown>>((source) => void source.close());

export class Source<Native extends NativeSource, Raw, Value> {
  readonly open: Promise<Outcome<Native>>;
  readonly #handle: Handle;
  readonly #decode: (raw: Raw) => Value[];
  /** What came and was not taken; the next is the last. */
  #ready: Value[] = [];
  /** Ends the call that waits, whether for the opening or for values. */
  readonly #stop = new AbortController();
  readonly #forget: () => void;
  #turn: Promise<unknown> = Promise.resolve();
  /** Calls that wait for their turn. */
  #waiting = 0;
  #held = true;

  /** `decode`: the values of what came; none at the end. */
  constructor(
    handle: Handle,
    signal: AbortSignal | undefined,
    open: (id: number) => void,
    decode: (raw: Raw) => Value[],
  ) {
    this.#handle = handle;
    this.#decode = decode;
    handle.holder.hold();
    if (signal?.aborted) this.#stop.abort(signal.reason);
    this.open = handle.port.call<Native>(handle.holder, this.#stop.signal, open);
    this.#forget = onAbort(signal, () => {
      this.#stop.abort(signal?.reason);
      void this.close();
    });
    void this.open.then((outcome) => {
      if (outcome.ok !== true) this.#release();
    });
  }

  /** Closes with its reader. */
  belongsTo(reader: object): void {
    abandoned.register(reader, this as Source<NativeSource, unknown, unknown>, this);
  }

  /** The next value if it is here, and nobody waits for it. */
  ready(): Value | undefined {
    return this.#waiting === 0 && !this.#stop.signal.aborted ? this.#ready.pop() : undefined;
  }

  /** The next value, or none at the end. Calls take turns. */
  next(): Promise<Outcome<Value | undefined>> {
    this.#waiting += 1;
    const turn = this.#turn.then(() => this.#take()).finally(() => (this.#waiting -= 1));
    this.#turn = turn;
    return turn;
  }

  async close(): Promise<void> {
    abandoned.unregister(this);
    if (!this.#stop.signal.aborted) this.#stop.abort(CLOSED);
    this.#release();
    const outcome = await this.open;
    if (outcome.ok === true) outcome.value.close();
  }

  async #take(): Promise<Outcome<Value | undefined>> {
    // Aborted by its signal, it says so even if values wait.
    if (this.#stop.signal.aborted) return this.#stopped();
    if (this.#ready.length === 0) {
      const opened = await this.open;
      if (opened.ok !== true) return opened.ok === "aborted" ? this.#stopped(opened.reason) : opened;
      const outcome = await this.#handle.port.call<Raw>(this.#handle.holder, this.#stop.signal, (id) =>
        opened.value.next(id),
      );
      if (outcome.ok === "aborted") return this.#stopped(outcome.reason);
      if (outcome.ok === false) {
        this.#release();
        return outcome;
      }
      this.#ready = this.#decode(outcome.value).reverse();
    }
    const value = this.#ready.pop();
    if (value === undefined) this.#release();
    return { ok: true, value };
  }

  #stopped(reason: unknown = this.#stop.signal.reason): Outcome<undefined> {
    return reason === CLOSED ? { ok: true, value: undefined } : { ok: "aborted", reason };
  }

  /** Once: what is open keeps the process. */
  #release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#forget();
    this.#handle.holder.release();
  }
}

/** Ends a wait for an update, and loses nothing by it. */
export interface NextOptions {
  signal?: AbortSignal | undefined;
}

/** An async iterable over a source, whose loop closes it. */
export abstract class Reader<Native extends NativeSource, Raw, Value>
  implements AsyncIterableIterator<Value, undefined, NextOptions | undefined>, AsyncDisposable
{
  readonly #source: Source<Native, Raw, Value>;
  /** What was asked for by those who did not wait for it. */
  readonly #left: Promise<Outcome<Value | undefined>>[] = [];

  /** @internal */
  constructor(source: Source<Native, Raw, Value>) {
    this.#source = source;
    source.belongsTo(this);
  }

  /** Resolves when it is open. Not needed before reading: what goes wrong is told there too. */
  get opened(): Promise<this> {
    return this.#source.open.then((outcome) => (unwrap(outcome), this));
  }

  /** Waits for the next update. With a signal, who stops waiting loses nothing: the next call gets what came. */
  next(options?: NextOptions): Promise<IteratorResult<Value, undefined>> {
    if (options?.signal === undefined && this.#left.length === 0) {
      const value = this.#source.ready();
      if (value !== undefined) {
        this.told(value);
        return Promise.resolve({ done: false, value });
      }
    }
    return this.#wait(options?.signal);
  }

  /** @internal A value is handed to the application. */
  protected told(_value: Value): void {}

  async #wait(signal: AbortSignal | undefined): Promise<IteratorResult<Value, undefined>> {
    signal?.throwIfAborted();
    const asked = this.#left.shift() ?? this.#source.next();
    let outcome: Outcome<Value | undefined> | "stopped";
    if (signal === undefined) {
      outcome = await asked;
    } else {
      let forget = (): void => {};
      const stopped = new Promise<"stopped">((resolve) => (forget = onAbort(signal, () => resolve("stopped"))));
      outcome = await Promise.race([asked, stopped]);
      forget();
    }
    if (outcome === "stopped") {
      this.#left.unshift(asked);
      throw signal?.reason;
    }
    const value = unwrap(outcome);
    if (value === undefined) return { done: true, value: undefined };
    this.told(value);
    return { done: false, value };
  }

  /** Closes it, at the server too. What waits for an update is told the end. Closing twice is fine. */
  async close(): Promise<void> {
    await this.#source.close();
  }

  async return(): Promise<IteratorResult<Value, undefined>> {
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
