/** Leases: those that the client keeps alive, and all others. */

import { type CallOptions, milliseconds, timeout } from "./arguments";
import { errorOf, invalid } from "./errors";
import type { Handle } from "./handle";
import type { NativeLease, RawKey, RawLease } from "./native";
import { type Outcome, unwrap } from "./port";
import { LeaseInfo } from "./values";

/**
 * A lease that is kept alive in the background until it is revoked or released. Keys written with it live as long as it
 * does. It is kept, and keeps the process running, also if nobody holds this object.
 */
export class Lease implements AsyncDisposable {
  /** Its id, in hexadecimal. */
  readonly id: string;
  /** Its time to live, as the server granted it. */
  readonly ttlMs: number;
  /**
   * Aborted when the lease must be taken as lost: it was revoked, its session ended, or no server has confirmed it for
   * so long that it may end soon. That comes before the server lets it end, so whoever holds something by it can stop
   * in time: `await work({ signal: lease.signal })`. A lost lease never comes back.
   */
  readonly signal: AbortSignal;
  readonly #handle: Handle;
  readonly #native: NativeLease;

  private constructor(handle: Handle, native: NativeLease, signal: AbortSignal) {
    this.#handle = handle;
    this.#native = native;
    this.id = native.id;
    this.ttlMs = native.ttl;
    this.signal = signal;
  }

  /** @internal */
  static async grant(handle: Handle, ttlMs: number, options: CallOptions): Promise<Lease> {
    const { port, holder } = handle;
    const ttl = milliseconds(ttlMs, "ttlMs");
    if (ttl === undefined) throw invalid("a lease has a ttlMs");
    const lost = new AbortController();
    // It holds the lease: what hangs on it must not end when a collector comes by.
    let kept: NativeLease | undefined;
    const listener = port.listen(() => {
      kept?.release();
      lost.abort(errorOf([4004, "no", "never", "the lease must be taken as lost", null, null, []]));
      port.unlisten(listener);
      holder.release();
    });
    holder.hold();
    const outcome: Outcome<NativeLease> = await handle.call(options, (id, native) =>
      native.lease(id, listener, ttl, options.timeoutMs),
    );
    if (outcome.ok !== true) {
      port.unlisten(listener);
      holder.release();
    }
    kept = unwrap(outcome);
    return new Lease(handle, kept, lost.signal);
  }

  /** Whether it must be taken as lost. */
  get lost(): boolean {
    return this.signal.aborted;
  }

  /** Ends it now and deletes its keys. Returns how many there were. */
  async revoke(options: Pick<CallOptions, "signal"> = {}): Promise<{ deleted: number }> {
    const outcome = await this.#handle.call<[bigint, number]>(options, (id) => this.#native.revoke(id));
    return { deleted: unwrap(outcome)[1] };
  }

  /** Keeps it no longer: it is revoked in the background, and ends with its time to live if no server can be asked. */
  release(): void {
    this.#native.release();
  }

  /** Revokes it, unless it is lost already. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.lost) this.release();
    else await this.revoke();
  }

  toJSON(): Record<string, unknown> {
    const { id, ttlMs, lost } = this;
    return { id, ttlMs, lost };
  }
}

/** A lease that was granted, and that nobody keeps. */
export interface LeaseGrant {
  /** Its id, in hexadecimal. */
  readonly id: string;
  /** Its time to live, as the server granted it. */
  readonly ttlMs: number;
}

/** Leases that nobody keeps, and what the server knows of all: `client.leases`. */
export class Leases {
  readonly #handle: Handle;

  /** @internal */
  constructor(handle: Handle) {
    this.#handle = handle;
  }

  /** Grants a lease that nobody keeps: it ends unless {@link renew} is called, by anyone, in time. */
  async grant(ttlMs: number, options: CallOptions = {}): Promise<LeaseGrant> {
    const ttl = milliseconds(ttlMs, "ttlMs") ?? 0;
    const outcome = await this.#handle.call<[string, number]>(options, (id, native) =>
      native.leaseGrant(id, ttl, timeout(options)),
    );
    const [lease, granted] = unwrap(outcome);
    return { id: lease, ttlMs: granted };
  }

  /** Lets a lease live another full time to live from now. */
  async renew(lease: string, options: CallOptions = {}): Promise<{ ttlMs: number }> {
    const outcome = await this.#handle.call<number>(options, (id, native) =>
      native.leaseRenew(id, lease, timeout(options)),
    );
    return { ttlMs: unwrap(outcome) };
  }

  /** Ends a lease now and deletes its keys. Returns how many there were. */
  async revoke(lease: string, options: CallOptions = {}): Promise<{ deleted: number }> {
    const outcome = await this.#handle.call<[bigint, number]>(options, (id, native) =>
      native.leaseRevoke(id, lease, timeout(options)),
    );
    return { deleted: unwrap(outcome)[1] };
  }

  /** A lease and its keys. */
  async info(lease: string, options: CallOptions = {}): Promise<LeaseInfo> {
    const outcome = await this.#handle.call<[RawLease, RawKey[]]>(options, (id, native) =>
      native.leaseInfo(id, lease, timeout(options)),
    );
    return new LeaseInfo(...unwrap(outcome));
  }

  /** Every lease of the namespace, by id. */
  async list(options: CallOptions = {}): Promise<LeaseInfo[]> {
    const outcome = await this.#handle.call<RawLease[]>(options, (id, native) =>
      native.leaseList(id, timeout(options)),
    );
    return unwrap(outcome).map((lease) => new LeaseInfo(lease));
  }
}
