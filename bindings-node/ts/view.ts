/** Views: what is known of a service, kept by differences. */

import { type Instance, instances } from "./instance";
import { Plain } from "./json";
import type { NativeView, RawDifference } from "./native";
import { text } from "./values";

/**
 * Whether a view is the present. `synced`: a server confirms it with every beat. `resuming`: a server answers, and what
 * happened meanwhile is being caught up with. `stale`: it has not been confirmed for three beats or more. `offline`: no
 * server answers; this is what was known last.
 */
export type ViewState = "synced" | "resuming" | "stale" | "offline";

/** What is known of a service at one moment: it never changes. */
export class ServiceView extends Plain implements Iterable<Instance> {
  readonly service: string;
  /** The revision of the newest change in it. */
  readonly revision: bigint;
  readonly state: ViewState;
  /** Where it comes from: a subscription at a server. */
  readonly source: "live";
  /** By id. */
  readonly instances: readonly Instance[];
  /** Records that cannot be read: shown, so that a service does not lack instances without anyone knowing why. */
  readonly invalid: readonly { readonly key: string; readonly reason: string }[];
  readonly #native: NativeView;

  /** @internal */
  constructor(service: string, instances: readonly Instance[], difference: RawDifference) {
    super();
    const [, , , revision, state, source, invalid, native] = difference;
    this.service = service;
    this.revision = revision;
    this.state = state;
    this.source = source;
    this.instances = instances;
    this.invalid = invalid.map(([key, reason]) => ({ key: text(key), reason }));
    this.#native = native;
  }

  /** Milliseconds since it was last known to be the present. It goes on: ask when you need to know. */
  get ageMs(): number {
    return this.#native.age;
  }

  /** How many instances are in it. */
  get length(): number {
    return this.instances.length;
  }

  [Symbol.iterator](): Iterator<Instance> {
    return this.instances[Symbol.iterator]();
  }

  override toJSON(): Record<string, unknown> {
    return { ...super.toJSON(), ageMs: this.ageMs };
  }

  /** @internal The same with other instances. */
  with(instances: readonly Instance[]): ServiceView {
    const invalid: [string, string][] = this.invalid.map(({ key, reason }) => [key, reason]);
    const none: [string, bigint[]] = ["[]", []];
    const { service, revision, state, source } = this;
    return new ServiceView(service, instances, [none, none, [], revision, state, source, invalid, this.#native]);
  }
}

/** What a difference changes. */
export interface Change {
  view: ServiceView;
  added: Instance[];
  changed: Instance[];
  removed: Instance[];
}

/** The view after a difference, and the difference in its instances. Both lists are by id, as the core orders them. */
export function apply(service: string, before: readonly Instance[], difference: RawDifference): Change {
  const [added, changed, gone] = [instances(difference[0]), instances(difference[1]), new Set(difference[2])];
  const removed = before.filter((instance) => gone.has(instance.id));
  let after: readonly Instance[] = before;
  if (added.length + changed.length + removed.length > 0) {
    const now = new Map(changed.map((instance) => [instance.id, instance]));
    const stay = before
      .filter((instance) => !gone.has(instance.id))
      .map((instance) => now.get(instance.id) ?? instance);
    after = merge(stay, added);
  }
  return { view: new ServiceView(service, Object.freeze(after), difference), added, changed, removed };
}

function merge(stay: Instance[], added: Instance[]): Instance[] {
  if (added.length === 0 || stay.length === 0) return added.length === 0 ? stay : added;
  const merged: Instance[] = [];
  let next = 0;
  for (const instance of stay) {
    while (next < added.length && (added[next] as Instance).id < instance.id) merged.push(added[next++] as Instance);
    merged.push(instance);
  }
  return merged.concat(added.slice(next));
}
