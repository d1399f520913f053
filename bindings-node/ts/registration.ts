/** Registering instances of services. */

import { onAbort } from "./abort";
import { type CallOptions, lease, milliseconds, timeout } from "./arguments";
import { invalid } from "./errors";
import type { Handle } from "./handle";
import { Instance, type Status } from "./instance";
import type { NativeRegistered, RawRecord, RawRegistration } from "./native";
import { unwrap } from "./port";

/** What an instance says of itself. */
export interface InstanceRecord {
  /** `scheme://host:port` each, or `host:port` for `tcp`. */
  endpoints?: readonly string[] | undefined;
  /** The version of the service's software. */
  version?: string | undefined;
  /** Words to select it by. */
  tags?: readonly string[] | undefined;
  /** Anything else about it. */
  metadata?: Readonly<Record<string, string>> | undefined;
  zone?: string | undefined;
  region?: string | undefined;
  /** Its share of the load, relative to the others'. Default 1; 0 takes none. */
  weight?: number | undefined;
}

export interface RegisterOptions extends CallOptions, InstanceRecord {
  /** Unique in its service; one that is registered already is replaced. Default: a random one. */
  id?: string | undefined;
  /** The port that it listens on. */
  port?: number | undefined;
  /** The name or address that others reach it at, for `port`. Default: the one that leads to the server. */
  address?: string | undefined;
  /** What it speaks at its `port`. Default `http`. */
  scheme?: string | undefined;
  /** How long it outlives silence; the client keeps it alive meanwhile. Default 10,000. */
  ttlMs?: number | undefined;
  /** It lives as long as this lease. */
  lease?: string | { readonly id: string } | null | undefined;
  /** It stays until it is deregistered, whatever becomes of this process. */
  permanent?: boolean | undefined;
}

/** What may be changed of an instance. */
export interface InstanceChange extends InstanceRecord {
  status?: Status | undefined;
}

/**
 * How a registration stands. `suspended`: no server answers; it is still in the registry, as far as is known. `lost`:
 * it must be taken as gone, and is declared again as soon as possible. `deregistered`: it was taken out.
 */
export type RegistrationState = "registered" | "suspended" | "lost" | "deregistered";

/**
 * A registered instance. It stays registered, and keeps the process running, until it is deregistered or its client is
 * closed, also if nobody holds this object; after any loss the client declares it again by itself.
 */
export class Registered implements AsyncDisposable {
  readonly #handle: Handle;
  readonly #native: NativeRegistered;
  readonly #losses: Losses;

  private constructor(handle: Handle, native: NativeRegistered) {
    this.#handle = handle;
    this.#native = native;
    this.#losses = new Losses(handle, native);
  }

  /** @internal */
  static async register(handle: Handle, service: string, options: RegisterOptions): Promise<Registered> {
    const outcome = await handle.call<NativeRegistered>(options, (id, native) =>
      native.register(id, registration(service, options)),
    );
    return new Registered(handle, unwrap(outcome));
  }

  /** The record, as it is stored. */
  get instance(): Instance {
    const [json, epoch] = this.#native.instance();
    return new Instance(JSON.parse(json) as Record<string, unknown>, epoch);
  }

  get id(): string {
    return this.instance.id;
  }

  /** Which registration under its id it is: the revision that created its key. It is another after a loss. */
  get epoch(): bigint {
    return this.#native.instance()[1];
  }

  /** How it stands. */
  get state(): RegistrationState {
    return this.#native.state as RegistrationState;
  }

  /**
   * Waits until it must be taken as gone from the registry: no server confirmed it for so long that it may end soon,
   * its lease or session ended, or it was deregistered. At once, if it is so now.
   */
  lost(options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    return this.#losses.wait(options.signal);
  }

  /** Changes the record; its service and id stay. What is not named stays as it is. */
  async update(change: InstanceChange, options: CallOptions = {}): Promise<Instance> {
    const outcome = await this.#handle.call<undefined>(options, (id) =>
      this.#native.update(id, record(change), timeout(options)),
    );
    unwrap(outcome);
    return this.instance;
  }

  /** Asks for no new work: what was begun can be finished. Then {@link deregister}. */
  async drain(options: CallOptions = {}): Promise<Instance> {
    return await this.update({ status: "draining" }, options);
  }

  /** Takes it out of the registry, and leaves word there that it stopped. Returns whether it was there. */
  async deregister(options: CallOptions = {}): Promise<boolean> {
    const outcome = await this.#handle.call<boolean>(options, (id) => this.#native.deregister(id, timeout(options)));
    return unwrap(outcome);
  }

  /** Lets go of it: it is deregistered in the background, unless it hangs on a given lease or on nothing. */
  release(): void {
    this.#losses.end();
    this.#native.release();
  }

  /** Deregisters it, unless its client is closed, which has done so. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.state !== "deregistered") await this.deregister();
  }

  toJSON(): Record<string, unknown> {
    const { instance, state } = this;
    return { instance, state };
  }
}

/** Whoever waits for a registration to be lost. While the registration lasts, it keeps the process running. */
class Losses {
  #lost = false;
  #over = false;
  readonly #waiting = new Set<() => void>();
  readonly #stop: () => void;

  constructor(handle: Handle, native: NativeRegistered) {
    handle.holder.hold();
    const listener = handle.port.listen((ok, lost) => {
      if (!ok || lost === undefined) this.end();
      else if (lost === true) this.#lose();
      else this.#lost = false;
    });
    this.#stop = () => {
      handle.port.unlisten(listener);
      handle.holder.release();
    };
    native.follow(listener);
  }

  /** Once: it is over. */
  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stop();
    this.#lose();
  }

  #lose(): void {
    this.#lost = true;
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  async wait(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#lost) return;
    let forget = (): void => {};
    await new Promise<void>((resolve, reject) => {
      this.#waiting.add(resolve);
      forget = onAbort(signal, () => {
        this.#waiting.delete(resolve);
        reject(signal?.reason as Error);
      });
    });
    forget();
  }
}

function registration(service: string, options: RegisterOptions): RawRegistration {
  if (typeof service !== "string") throw invalid("a service is named by a string");
  const raw: RawRegistration = { service, record: record(options), permanent: options.permanent === true };
  if (options.id !== undefined) raw.id = options.id;
  if (options.port !== undefined) {
    const { port } = options;
    if (!Number.isInteger(port) || port < 1 || port > 65_535) throw invalid(`port must be 1 to 65535, not ${port}`);
    raw.port = port;
  }
  if (options.address !== undefined) raw.address = options.address;
  if (options.scheme !== undefined) raw.scheme = options.scheme;
  const [ttlMs, timeoutMs, id] = [milliseconds(options.ttlMs, "ttlMs"), timeout(options), lease(options.lease)];
  if (ttlMs !== undefined) raw.ttlMs = ttlMs;
  if (timeoutMs !== undefined) raw.timeoutMs = timeoutMs;
  if (id !== undefined) raw.lease = id;
  return raw;
}

function record(said: InstanceChange): RawRecord {
  const raw: RawRecord = {};
  if (said.endpoints !== undefined) raw.endpoints = [...said.endpoints];
  if (said.tags !== undefined) raw.tags = [...said.tags];
  if (said.metadata !== undefined) raw.metadata = { ...said.metadata };
  if (said.version !== undefined) raw.version = said.version;
  if (said.zone !== undefined) raw.zone = said.zone;
  if (said.region !== undefined) raw.region = said.region;
  if (said.status !== undefined) raw.status = said.status;
  if (said.weight !== undefined) {
    const { weight } = said;
    if (!Number.isInteger(weight) || weight < 0 || weight > 2 ** 32 - 1)
      throw invalid(`weight must be 0 or more, not ${weight}`);
    raw.weight = weight;
  }
  return raw;
}
