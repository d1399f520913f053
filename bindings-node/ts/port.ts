/**
 * Where this environment and the native runtime meet: promises by number, and one wake-up for all outcomes that wait.
 * Each worker thread has a port of its own.
 */

import { onAbort } from "./abort";
import { errorOf } from "./errors";
import { native, type NativePort, type RawError } from "./native";

/** How a call ended. The caller turns it into a value with {@link unwrap}, so that errors have the caller's stack. */
export type Outcome<T> = { ok: true; value: T } | { ok: false; error: RawError } | { ok: "aborted"; reason: unknown };

/** Whoever keeps the process running: a client, by its calls, watches, leases and registrations. */
export class Holder {
  #count = 0;
  #counts = true;
  readonly #port: Port;

  constructor(port: Port) {
    this.#port = port;
  }

  hold(): void {
    if (++this.#count === 1 && this.#counts) this.#port.hold();
  }

  release(): void {
    if (--this.#count === 0 && this.#counts) this.#port.release();
  }

  ref(): void {
    if (!this.#counts && this.#count > 0) this.#port.hold();
    this.#counts = true;
  }

  unref(): void {
    if (this.#counts && this.#count > 0) this.#port.release();
    this.#counts = false;
  }
}

type Settle = (ok: boolean, value: unknown) => void;

export class Port {
  readonly native: NativePort;
  /**
   * Under their numbers. Not a map: as calls come and go it would be replaced by another again and again, and those that
   * were, each pointing to the next, would keep what ended long ago until the next full collection.
   */
  readonly #calls: (Settle | undefined)[] = [];
  /** Numbers that are free. */
  readonly #free: number[] = [];
  /** Those that became so while outcomes are told: one of them may still be told under such a number. */
  readonly #freed: number[] = [];
  /**
   * The wake-up does not keep the process, since an idle client must not. While a holder holds, this does: without it
   * a pending top-level await would end with code 13.
   */
  readonly #keepAlive = setInterval(() => {}, 2 ** 31 - 1);
  #holders = 0;
  readonly #drain = (): void => {
    const drained = this.native.drain();
    for (let at = 1; at < drained.length; at += 3) {
      this.#calls[drained[at] as number]?.(drained[at + 1] as boolean, drained[at + 2]);
    }
    // One by one: there may be more than a call takes arguments.
    for (const id of this.#freed) this.#free.push(id);
    this.#freed.length = 0;
    // In the turn after the next timers and sockets: a wake-up would come before them.
    if (drained[0] === true) setImmediate(this.#drain);
  };

  constructor() {
    this.#keepAlive.unref();
    this.native = new native.Port(this.#drain);
  }

  hold(): void {
    if (++this.#holders === 1) this.#keepAlive.ref();
  }

  release(): void {
    if (--this.#holders === 0) this.#keepAlive.unref();
  }

  /** Starts a call and waits for its outcome. `start` may throw for an argument that the native half refuses. */
  call<T>(holder: Holder, signal: AbortSignal | undefined, start: (id: number) => void): Promise<Outcome<T>> {
    if (signal?.aborted) return Promise.resolve({ ok: "aborted", reason: signal.reason });
    return new Promise((resolve) => {
      const end = (outcome: Outcome<T>): void => {
        this.#end(id);
        forget();
        holder.release();
        resolve(outcome);
      };
      const forget = onAbort(signal, () => {
        this.native.cancel(id);
        end({ ok: "aborted", reason: signal?.reason });
      });
      const id = this.#begin((ok, value) => {
        end(ok ? { ok, value: value as T } : { ok, error: value as RawError });
      });
      holder.hold();
      try {
        start(id);
      } catch (error) {
        end({ ok: "aborted", reason: error });
      }
    });
  }

  /** Takes what is told under a number, again and again, without holding the process. Returns the number. */
  listen(told: Settle): number {
    return this.#begin(told);
  }

  /** Listens no longer, and ends what tells. */
  unlisten(id: number): void {
    if (this.#calls[id] === undefined) return;
    this.#end(id);
    this.native.cancel(id);
  }

  #begin(settle: Settle): number {
    const id = this.#free.pop() ?? this.#calls.length;
    this.#calls[id] = settle;
    return id;
  }

  #end(id: number): void {
    this.#calls[id] = undefined;
    this.#freed.push(id);
  }
}

/** The value of an outcome, or its error thrown. */
export function unwrap<T>(outcome: Outcome<T>): T {
  if (outcome.ok === true) return outcome.value;
  throw outcome.ok === "aborted" ? outcome.reason : errorOf(outcome.error);
}

let own: Port | undefined;

/** The port of this environment. */
export function port(): Port {
  return (own ??= new Port());
}
