/** Finding services. */

import { type CallOptions, count, milliseconds, timeout } from "./arguments";
import { errorOf, invalid } from "./errors";
import type { Handle } from "./handle";
import { type Filter, filter, type Instance } from "./instance";
import { Plain } from "./json";
import {
  native,
  type NativeKept,
  type NativePick,
  type NativeService,
  type NativeServiceWatch,
  type RawDifference,
  type RawFilter,
} from "./native";
import { unwrap } from "./port";
import { Reader, Source } from "./source";
import { apply, type Change, type ServiceView } from "./view";

export interface DiscoverOptions extends CallOptions {
  /** Only these instances. Default: all. */
  filter?: Filter | undefined;
  /** How old the view may be; an older one is waited for to be confirmed. Default: any age. */
  maxStalenessMs?: number | undefined;
}

export interface WaitForOptions extends CallOptions {
  /** Only these instances. Default: all. */
  filter?: Filter | undefined;
}

/** Keep the object and use it again: with a filter, what the filter let through is remembered with it. */
export interface PickOptions {
  /** One after the other (the default), or at random by weight. */
  policy?: "roundRobin" | "random" | undefined;
  /** Only among these. */
  filter?: Filter | undefined;
}

/** `signal` closes the watch whenever it is aborted; `timeoutMs` is for opening. */
export interface WatchServiceOptions extends CallOptions {
  /** Only these instances; one that no longer meets the filter is told as removed. Default: all. */
  filter?: Filter | undefined;
  /** Least time between two updates; what happens meanwhile is told as one. Default: none. */
  minIntervalMs?: number | undefined;
}

/** What changed in a service. */
export class ServiceUpdate extends Plain {
  /** The service as it is now. */
  readonly view: ServiceView;
  /** Instances that the update before did not have. */
  readonly added: Instance[];
  /** Instances that are different now. */
  readonly changed: Instance[];
  /** Instances that are gone, as they were. */
  readonly removed: Instance[];

  /** @internal */
  constructor({ view, added, changed, removed }: Change) {
    super();
    this.view = view;
    this.added = added;
    this.changed = changed;
    this.removed = removed;
  }
}

/**
 * Follows a service: an async iterable of updates. The first is the complete state; each later one is the exact
 * difference to the one before, and what happens while nobody asks is folded into the next. It goes on when servers are
 * gone: the view's state and age say so. Leaving a `for await` loop closes it.
 */
export class ServiceWatch extends Reader<NativeServiceWatch, RawDifference | null, ServiceUpdate> {
  /** @internal */
  constructor(handle: Handle, service: string, of: NativeService, options: WatchServiceOptions) {
    let before: readonly Instance[] = [];
    const open = (id: number): void => {
      const interval = milliseconds(options.minIntervalMs, "minIntervalMs") ?? 0;
      of.watch(id, filter(options.filter), interval, timeout(options));
    };
    const decode = (difference: RawDifference | null): ServiceUpdate[] => {
      if (difference === null) return [];
      const change = apply(service, before, difference);
      before = change.view.instances;
      return [new ServiceUpdate(change)];
    };
    super(new Source(handle, options.signal, open, decode));
  }
}

/** Above so many services, those that the core no longer follows are forgotten. */
const ROOMS_MAX = 64;

/** What this environment knows of services: a copy of each view, brought up to date when somebody looks. */
export class Services {
  readonly #handle: Handle;
  readonly #rooms = new Map<string, Room>();

  constructor(handle: Handle) {
    this.#handle = handle;
  }

  room(service: string): Room {
    let room = this.#rooms.get(service);
    if (room === undefined) {
      if (typeof service !== "string") throw invalid("a service is named by a string");
      if (this.#rooms.size >= ROOMS_MAX) this.#sweep();
      room = new Room(service, this.#handle);
      this.#rooms.set(service, room);
    }
    return room;
  }

  #sweep(): void {
    for (const [service, room] of this.#rooms) if (room.view() === undefined) this.#rooms.delete(service);
  }
}

/** The copy of one service's view. */
export class Room {
  readonly native: NativeService;
  readonly #picks = new WeakMap<PickOptions, NativePick>();
  #view: ServiceView | undefined;

  constructor(
    readonly service: string,
    readonly handle: Handle,
  ) {
    this.native = handle.native.service(service);
  }

  view(): ServiceView | undefined {
    const difference = this.native.refresh();
    if (difference === undefined) this.#view = undefined;
    else if (difference !== null) this.#view = apply(this.service, this.#view?.instances ?? [], difference).view;
    return this.#view;
  }

  discover(options: DiscoverOptions): Promise<ServiceView> {
    return this.#find(options, (id) =>
      this.native.discover(id, milliseconds(options.maxStalenessMs, "maxStalenessMs"), timeout(options)),
    );
  }

  waitFor(instances: number, options: WaitForOptions): Promise<ServiceView> {
    return this.#find(options, (id) =>
      this.native.waitFor(id, count(instances, "count"), filter(options.filter), timeout(options)),
    );
  }

  async #find(options: WaitForOptions, start: (id: number) => void): Promise<ServiceView> {
    for (;;) {
      unwrap(await this.handle.call<undefined>(options, start));
      const view = this.view();
      // Else it had to make room for others in the meantime.
      if (view !== undefined) return this.#only(view, filter(options.filter));
    }
  }

  #only(view: ServiceView, asked: RawFilter | undefined): ServiceView {
    if (asked === undefined) return view;
    return view.with(this.native.select(asked).map((at) => view.instances[at] as Instance));
  }

  pick(options: PickOptions, besides?: readonly string[]): Instance {
    let pick = this.#picks.get(options);
    if (pick === undefined) this.#picks.set(options, (pick = picker(options)));
    let at = this.native.pick(pick, besides);
    if (at === -1) {
      this.view();
      at = this.native.picked();
    }
    const instance = this.#view?.instances[at];
    if (instance !== undefined) return instance;
    // Gone between the pick and the look: the next pick knows.
    if (at === -1) return this.pick(options, besides);
    throw errorOf(this.native.failure());
  }

  watch(options: WatchServiceOptions): ServiceWatch {
    return new ServiceWatch(this.handle, this.service, this.native, options);
  }
}

/** @internal The way to pick of those who say nothing. */
export const inTurn: PickOptions = Object.freeze({});

function picker({ policy = "roundRobin", filter: asked }: PickOptions): NativePick {
  if (policy !== "roundRobin" && policy !== "random") throw invalid('policy is "roundRobin" or "random"');
  return new native.NativePick(policy === "random", filter(asked));
}

/** A service whose view is kept up to date for as long as this is held and not closed. Made by `client.service`. */
export class Service implements Disposable {
  readonly #room: Room;
  readonly #kept: NativeKept;

  /** @internal */
  constructor(room: Room) {
    this.#room = room;
    const kept = room.native.keep();
    if (kept === null) throw errorOf(room.native.failure());
    this.#kept = kept;
  }

  get name(): string {
    return this.#room.service;
  }

  /** The view as it is known here now. See `client.view`. */
  view(): ServiceView | undefined {
    return this.#room.view();
  }

  /** Waits for the first state, if need be. See `client.discover`. */
  discover(options: DiscoverOptions = {}): Promise<ServiceView> {
    return this.#room.discover(options);
  }

  /** Picks an instance, locally and at once. See `client.pick`. */
  pick(options: PickOptions = inTurn, besides?: readonly string[]): Instance {
    return this.#room.pick(options, besides);
  }

  /** Waits until it has at least `count` instances that work. See `client.waitFor`. */
  ready(count = 1, options: WaitForOptions = {}): Promise<ServiceView> {
    return this.#room.waitFor(count, options);
  }

  /** Follows its instances. See `client.watchService`. */
  watch(options: WatchServiceOptions = {}): ServiceWatch {
    return this.#room.watch(options);
  }

  /** Lets go of it: the view is dropped when nobody else needs it. */
  close(): void {
    this.#kept.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
