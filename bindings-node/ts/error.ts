/** The one error of a client; `codes.ts` has a class of it for each number. */

import { digits } from "./json";
import type { RawError } from "./native";

/** Why a call failed. Either `instanceof` or `code` tells which error it is. */
export class HitherError extends Error {
  /** `HITHER_` and the error's name: stable, the same in every version. */
  readonly code: string;
  /** The number, the same in every language. 0 if it did not come from the core. */
  readonly number: number;
  /** Whether the request changed anything: `unknown` if it may have, or still may. */
  readonly applied: "no" | "unknown";
  /** What may be done: nothing, the same again later, or the same at another server. */
  readonly retry: "never" | "later" | "elsewhere";
  /** The revision that the error speaks of. */
  readonly revision: bigint | undefined;
  /** The address of the server that leads, where the error says so. */
  readonly leader: string | undefined;

  /** @internal */
  constructor([number, applied, retry, detail, revision, leader, causes]: RawError, name = "Other") {
    super(detail, causes.length === 0 ? undefined : { cause: chain(causes) });
    this.code = code(name);
    this.number = number;
    this.applied = applied;
    this.retry = retry;
    this.revision = revision ?? undefined;
    this.leader = leader ?? undefined;
  }

  /** Whether the same call may succeed later. */
  get retryable(): boolean {
    return this.retry !== "never";
  }

  toJSON(): Record<string, unknown> {
    const { name, code, number, message, retryable, applied, retry, leader } = this;
    const revision = this.revision === undefined ? undefined : digits(this.revision);
    return { name, code, number, message, retryable, applied, retry, revision, leader };
  }
}

/** The service has no instance to talk to; the detail says how many are known. */
export class NoInstancesError extends HitherError {
  /** Instances that are known, such as draining ones; after a filter, those that it let through. */
  readonly known: number;
  /** How many of these are suspect. */
  readonly suspect: number;
  /** The age of that knowledge; undefined if nothing is known of the service yet. */
  readonly ageMs: number | undefined;

  /** @internal */
  constructor(raw: RawError, name?: string) {
    super(raw, name);
    const [known, suspect, age] = raw[7] ?? [0, 0, null];
    this.known = known;
    this.suspect = suspect;
    this.ageMs = age ?? undefined;
  }

  override toJSON(): Record<string, unknown> {
    const { known, suspect, ageMs } = this;
    return { ...super.toJSON(), known, suspect, ageMs };
  }
}

/** `NotFound` as `HITHER_NOT_FOUND`. */
function code(name: string): string {
  return `HITHER_${name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase()}`;
}

function chain(causes: string[]): Error {
  const [first, ...rest] = causes;
  return new Error(first, rest.length === 0 ? undefined : { cause: chain(rest) });
}
