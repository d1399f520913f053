/** What callers say, checked, as the native half takes it. */

import { invalid } from "./errors";
import type { Octets, RawConsistency, RawRange } from "./native";

/** A key: text, which is stored as UTF-8, or bytes. */
export type Key = string | Uint8Array;

/** A value: text, which is stored as UTF-8, or bytes. */
export type Value = string | Uint8Array;

/**
 * Which keys: one, those that begin with `prefix`, those from `from` up to but without `to`, or all of the namespace.
 */
export type Range = { key: Key } | { prefix: Key } | { from: Key; to: Key } | { all: true };

/** What every call takes. */
export interface CallOptions {
  /** Takes the call back, at the server too. The promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** How long the call may take in all. Default: the client's `requestTimeoutMs`. */
  timeoutMs?: number | undefined;
}

/**
 * Which state a read must see: every write that was acknowledged before (the default), a revision or a later one, or
 * whatever the server has, if it is no older than so many milliseconds.
 */
export type Consistency = "linearizable" | { atLeast: bigint } | { staleMs: number };

export interface ReadOptions extends CallOptions {
  consistency?: Consistency | undefined;
}

/** @internal */
export function octets(value: unknown, name: string): Octets {
  if (typeof value === "string" || value instanceof Uint8Array) return value;
  throw invalid(`${name} must be a string or a Uint8Array, not ${kind(value)}`);
}

/** @internal A string is one key. */
export function range(of: Key | Range): RawRange {
  if (typeof of === "string" || of instanceof Uint8Array) return { kind: "one", start: of };
  if (typeof of === "object" && of !== null) {
    if ("key" in of) return { kind: "one", start: octets(of.key, "key") };
    if ("prefix" in of) {
      const start = octets(of.prefix, "prefix");
      return start.length === 0 ? { kind: "all" } : { kind: "prefix", start };
    }
    if ("from" in of) return { kind: "span", start: octets(of.from, "from"), end: octets(of.to, "to") };
    if ("all" in of && of.all === true) return { kind: "all" };
  }
  throw invalid("keys are named by a key, { key }, { prefix }, { from, to } or { all: true }");
}

/** @internal */
export function timeout(options: CallOptions): number | undefined {
  return milliseconds(options.timeoutMs, "timeoutMs");
}

/** @internal */
export function milliseconds(value: number | undefined, name: string): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "number" && value >= 0 && value <= Number.MAX_SAFE_INTEGER) return value;
  throw invalid(`${name} must be a number of milliseconds, not ${kind(value)}`);
}

/** @internal */
export function count(value: number | undefined, name: string): number {
  if (value === undefined) return 0;
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw invalid(`${name} must be a whole number, not ${kind(value)}`);
}

/** @internal */
export function revision(value: unknown, name: string): bigint {
  if (typeof value === "bigint" && value >= 0n) return value;
  throw invalid(`${name} must be a bigint, such as 7n, not ${kind(value)}`);
}

/** @internal */
export function consistency(options: ReadOptions): RawConsistency {
  const asked = options.consistency;
  if (asked === undefined || asked === "linearizable") return undefined;
  if (typeof asked === "object" && "atLeast" in asked) return revision(asked.atLeast, "consistency.atLeast");
  if (typeof asked === "object" && "staleMs" in asked) return milliseconds(asked.staleMs, "consistency.staleMs");
  throw invalid('consistency is "linearizable", { atLeast: 7n } or { staleMs: 1000 }');
}

/** @internal A lease by its id or its object. */
export function lease(of: string | { readonly id: string } | null | undefined): string | undefined {
  if (of === undefined || of === null) return undefined;
  const id = typeof of === "object" ? of.id : of;
  if (typeof id === "string") return id;
  throw invalid(`lease must be a lease or its id, not ${kind(of)}`);
}

function kind(value: unknown): string {
  return value === null ? "null" : typeof value === "number" || typeof value === "bigint" ? `${value}` : typeof value;
}
