/** How a client stands to its cluster, as it changes. */

import { onAbort } from "./abort";
import type { Handle } from "./handle";

/**
 * `connected`: a server answers. `suspended`: none does, and the client looks for one; leases still hold. `lost`: the
 * session is over, and every lease bound to it; the next write opens another. `closed`: the client was closed.
 */
export type SessionState = "connected" | "suspended" | "lost" | "closed";

/** States that wait for a reader; of more, the oldest are left out. */
const WAITING_MAX = 16;

/** Tells the states of a client to whoever wants to know. */
export class States {
  readonly #told = new Set<(state: SessionState) => void>();
  last: SessionState;

  constructor(handle: Handle) {
    this.last = handle.native.state as SessionState;
    const listener = handle.port.listen((ok, told) => {
      const state = ok ? (told as SessionState) : "closed";
      if (state === this.last) return;
      this.last = state;
      for (const tell of [...this.#told]) tell(state);
      if (state === "closed") handle.port.unlisten(listener);
    });
    handle.native.states(listener);
  }

  /** Calls back with each state to come. Returns how to stop that. */
  tell(tell: (state: SessionState) => void): () => void {
    this.#told.add(tell);
    return () => this.#told.delete(tell);
  }

  /** Each state to come from now on; `closed` is the last. Waiting for one keeps the process running. */
  changes(handle: Handle, signal: AbortSignal | undefined): AsyncGenerator<SessionState, void, undefined> {
    const waiting: SessionState[] = [];
    let wake = (): void => {};
    const ended = this.last === "closed";
    const stop = this.tell((state) => {
      waiting.push(state);
      if (waiting.length > WAITING_MAX) waiting.shift();
      wake();
    });
    const forget = onAbort(signal, () => wake());
    return (async function* () {
      try {
        while (!ended) {
          signal?.throwIfAborted();
          const state = waiting.shift();
          if (state === undefined) {
            handle.holder.hold();
            await new Promise<void>((resolve) => (wake = resolve));
            handle.holder.release();
            continue;
          }
          yield state;
          if (state === "closed") return;
        }
      } finally {
        stop();
        forget();
      }
    })();
  }
}
