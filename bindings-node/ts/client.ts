/** The client. */

import { EventEmitter } from "node:events";
import { readFileSync } from "node:fs";

import { type CallOptions, type Key, milliseconds, type Range, timeout } from "./arguments";
import { invalid } from "./errors";
import { Handle } from "./handle";
import type { Instance } from "./instance";
import { Plain } from "./json";
import { Kv } from "./kv";
import { Lease, Leases } from "./lease";
import { native, type NativeClient, type RawSettings } from "./native";
import { Holder, port, unwrap } from "./port";
import { Registered, type RegisterOptions } from "./registration";
import {
  type DiscoverOptions,
  inTurn,
  type PickOptions,
  Service,
  Services,
  type ServiceWatch,
  type WaitForOptions,
  type WatchServiceOptions,
} from "./services";
import { type SessionState, States } from "./states";
import type { ServiceView } from "./view";
import type { Watch, WatchOptions } from "./watch";

/** How to connect. What is not said comes from the URL, the environment (`HITHER_CLIENT_...`), or the default. */
export interface ConnectOptions {
  /**
   * The servers: `hither://host:port[,host:port...]/namespace?option=value`, or an enrolment string. Default:
   * `HITHER_URL`, then the servers of the context.
   */
  url?: string | undefined;
  /** The context that servers and identity come from. Default: the current one, which `hither dev` writes. */
  context?: string | undefined;
  /** The folder of contexts. Default: `$XDG_CONFIG_HOME/hither` or `~/.config/hither`. */
  contexts?: string | undefined;
  /** The identity to show, as PEM: the cluster's CA, and certificate and key in one. Default: the context's. */
  identity?: { ca: string; identity: string } | undefined;
  /** The namespace of everything that the client does. Default: the URL's, then the context's, then `default`. */
  namespace?: string | undefined;
  /** How long connecting may take in all. Default 5,000. */
  connectTimeoutMs?: number | undefined;
  /** How long a call may take in all, unless it says otherwise. Default 5,000. */
  requestTimeoutMs?: number | undefined;
  /** Any option of the core by its name, such as `{ backoff_max: "2s" }`. */
  options?: Record<string, string | number | boolean> | undefined;
  /** Takes the attempt back. */
  signal?: AbortSignal | undefined;
}

const agent = (() => {
  const { version } = JSON.parse(readFileSync(`${__dirname}/../package.json`, "utf8")) as { version: string };
  if (native.version() !== version) {
    throw new Error(`hither ${version} found a native binary of version ${native.version()}: install both anew`);
  }
  return `hither-node/${version} node/${process.versions.node}`;
})();

/**
 * Connects to the cluster that the URL names, or `HITHER_URL`, or the current context.
 *
 * ```ts
 * await using client = await connect();
 * await client.kv.put("config/greeting", "hello");
 * ```
 */
export async function connect(url?: string, options?: Omit<ConnectOptions, "url">): Promise<Client>;
export async function connect(options?: ConnectOptions): Promise<Client>;
export async function connect(first?: string | ConnectOptions, second: ConnectOptions = {}): Promise<Client> {
  const options = typeof first === "string" ? { ...second, url: first } : (first ?? {});
  const ours = port();
  const holder = new Holder(ours);
  const outcome = await ours.call<NativeClient>(holder, options.signal, (id) =>
    native.connect(ours.native, id, settings(options)),
  );
  return new Client(new Handle(unwrap(outcome), ours, holder));
}

function settings(options: ConnectOptions): RawSettings {
  const raw: RawSettings = {
    agent,
    options: Object.entries(options.options ?? {}).map(([name, value]) => [name, String(value)]),
  };
  for (const name of ["url", "context", "contexts", "namespace"] as const) {
    const value = options[name];
    if (value === undefined) continue;
    if (typeof value !== "string") throw invalid(`${name} must be a string`);
    raw[name] = value;
  }
  for (const name of ["connectTimeoutMs", "requestTimeoutMs"] as const) {
    const value = milliseconds(options[name], name);
    if (value !== undefined) raw[name] = value;
  }
  if (options.identity) Object.assign(raw, options.identity);
  return raw;
}

/** What a client has counted since it was made. All but the last three only grow. */
export class Metrics extends Plain {
  readonly connects: number;
  /** Connections after the first. */
  readonly reconnects: number;
  readonly dialFailures: number;
  readonly sessionsLost: number;
  /** Requests answered, refused or given up. */
  readonly requests: number;
  readonly retries: number;
  readonly timeouts: number;
  /** Watches that went on after a reconnect where they had been. */
  readonly watchResumes: number;
  readonly watchGaps: number;
  readonly watchDuplicates: number;
  readonly watchResets: number;
  /** Events handed to the application. */
  readonly events: number;
  /** Requests that wait for an answer now. */
  readonly inFlight: number;
  /** Watches that are open now. */
  readonly watches: number;
  /** Watch streams open now: fewer, where identical watches share one. */
  readonly watchStreams: number;

  /** @internal */
  constructor(raw: bigint[]) {
    super();
    const at = (index: number) => Number(raw[index]);
    this.connects = at(0);
    this.reconnects = at(1);
    this.dialFailures = at(2);
    this.sessionsLost = at(3);
    this.requests = at(4);
    this.retries = at(5);
    this.timeouts = at(6);
    this.watchResumes = at(7);
    this.watchGaps = at(8);
    this.watchDuplicates = at(9);
    this.watchResets = at(10);
    this.events = at(11);
    this.inFlight = at(12);
    this.watches = at(13);
    this.watchStreams = at(14);
  }
}

interface ClientEvents {
  state: [state: SessionState];
}

/**
 * A client of a cluster: share one, it is meant to be used from everywhere at once.
 *
 * An idle client does not keep the process running; calls, watches, leases and registrations do (see {@link unref}).
 * Emits `state` with each new {@link SessionState}.
 */
export class Client extends EventEmitter<ClientEvents> implements AsyncDisposable {
  /** Keys. */
  readonly kv: Kv;
  /** Leases that nobody keeps, and what the server knows of all. */
  readonly leases: Leases;
  readonly #handle: Handle;
  readonly #states: States;
  readonly #services: Services;
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(handle: Handle) {
    super();
    this.#handle = handle;
    this.kv = new Kv(handle);
    this.leases = new Leases(handle);
    this.#services = new Services(handle);
    this.#states = new States(handle);
    // The states outlive a client that nobody holds, and must not hold it.
    const client = new WeakRef(this);
    // A listener that throws must not keep others from hearing of their outcomes.
    this.#states.tell((state) => queueMicrotask(() => client.deref()?.emit("state", state)));
  }

  /** How the client stands to its cluster now. */
  get state(): SessionState {
    return this.#handle.native.state as SessionState;
  }

  /** The namespace of everything that the client does. */
  get namespace(): string {
    return this.#handle.native.namespace;
  }

  /** Each state to come; `closed` is the last. One that did not last may be left out. */
  states(options: { signal?: AbortSignal | undefined } = {}): AsyncGenerator<SessionState, void, undefined> {
    return this.#states.changes(this.#handle, options.signal);
  }

  /** What this client has counted so far. */
  metrics(): Metrics {
    return new Metrics(this.#handle.native.metrics());
  }

  /** Watches keys: the same as `kv.watch`. */
  watch(keys: Key | Range, options: WatchOptions = {}): Watch {
    return this.kv.watch(keys, options);
  }

  /** The client's session, opened now if it has none, in hexadecimal; the lease of the same number lives as long. */
  async session(options: CallOptions = {}): Promise<string> {
    return unwrap(await this.#handle.call<string>(options, (id, native) => native.session(id, timeout(options))));
  }

  /** A lease that is kept alive in the background. `ttlMs`: how long it outlives silence, 1 s to 24 h. */
  async lease(ttlMs: number, options: CallOptions = {}): Promise<Lease> {
    return await Lease.grant(this.#handle, ttlMs, options);
  }

  /**
   * Registers an instance of a service, bound to this client's session unless the options say otherwise.
   *
   * ```ts
   * await using registered = await client.register("api", { port: 8080, version: "1.2", tags: ["blue"] });
   * ```
   */
  async register(service: string, options: RegisterOptions = {}): Promise<Registered> {
    return await Registered.register(this.#handle, service, options);
  }

  /**
   * The instances of a service. The first call subscribes to the service and waits for its state; from then on the
   * answer is local, and stays so when every server is gone: the view says how old it is.
   */
  async discover(service: string, options: DiscoverOptions = {}): Promise<ServiceView> {
    return await this.#services.room(service).discover(options);
  }

  /** Waits until a service has at least `count` instances that work. */
  async waitFor(service: string, count = 1, options: WaitForOptions = {}): Promise<ServiceView> {
    return await this.#services.room(service).waitFor(count, options);
  }

  /** The view of a service as it is known here now; undefined if this client does not follow the service. Local. */
  view(service: string): ServiceView | undefined {
    return this.#services.room(service).view();
  }

  /**
   * Picks an instance of a service out of its view: local, immediate, and never waiting. The first pick of a service
   * that this client does not follow yet begins to, and fails with `HITHER_NO_INSTANCES`; {@link waitFor} before it
   * waits. Instances with the ids in `besides` are passed over as long as there is another: for a request that failed
   * there and is tried elsewhere.
   */
  pick(service: string, options: PickOptions = inTurn, besides?: readonly string[]): Instance {
    return this.#services.room(service).pick(options, besides);
  }

  /** A handle to a service. Its view is kept up to date for as long as the handle is held and not closed. */
  service(service: string): Service {
    return new Service(this.#services.room(service));
  }

  /** Follows a service: its state first, then each difference. */
  watchService(service: string, options: WatchServiceOptions = {}): ServiceWatch {
    return this.#services.room(service).watch(options);
  }

  /** The services that have instances, and how many, by name. */
  async services(options: CallOptions = {}): Promise<Map<string, number>> {
    const outcome = await this.#handle.call<[string, number][]>(options, (id, native) =>
      native.services(id, timeout(options)),
    );
    return new Map(unwrap(outcome));
  }

  /** Calls, watches, leases and registrations of this client keep the process running: as it is by default. */
  ref(): this {
    this.#handle.holder.ref();
    return this;
  }

  /** Nothing of this client keeps the process running. */
  unref(): this {
    this.#handle.holder.unref();
    return this;
  }

  /**
   * Leaves: what waits fails with `HITHER_CLOSED`, watches end, the session and the leases bound to it end at the
   * server now rather than with their time to live. Closing twice is fine.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    unwrap(await this.#handle.call<undefined>({}, (id, native) => native.close(id)));
  }

  /**
   * Closes the client when the process is told to end, and then lets it end as it would have: so that what it has
   * registered is gone at once. Where others listen for the signal too, ending is left to them.
   *
   * Returns how to undo it.
   */
  closeOnSignal(
    signals: NodeJS.Signals[] = ["SIGINT", "SIGTERM"],
    options: { timeoutMs?: number | undefined } = {},
  ): () => void {
    const undo = (): void => signals.forEach((signal) => process.removeListener(signal, close));
    const close = (signal: NodeJS.Signals): void => {
      undo();
      const alone = process.listenerCount(signal) === 0;
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, options.timeoutMs ?? 1_000);
      });
      void Promise.race([this.close(), late]).finally(() => {
        clearTimeout(timer);
        if (alone) process.kill(process.pid, signal);
      });
    };
    signals.forEach((signal) => process.on(signal, close));
    return undo;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  toJSON(): Record<string, unknown> {
    const { state, namespace } = this;
    return { state, namespace };
  }
}
