/** Transactions, as data. */

import { count, type Key, lease, octets, range, type Range, revision, type Value } from "./arguments";
import { invalid } from "./errors";
import type { RawCondition, RawStep } from "./native";

/** How a number or value must stand to one given: the same, or as said. */
export type Relation<T> = T | { not: T } | { below: T } | { above: T };

/**
 * One condition. The numbers of a key that does not exist are 0, its value equals no value, and it hangs on no lease.
 *
 * - `{ key, exists: false }`: it does not exist.
 * - `{ key, modRevision: 7n }`: nobody has written it since; also `createRevision` and `version`.
 * - `{ key, value: "x" }`: it has this value.
 * - `{ key, lease }`: it hangs on this lease, or on none if it is null.
 * - `{ empty: { prefix: "jobs/" } }`: no key of the range exists.
 */
export type Condition =
  | { key: Key; exists: boolean }
  | { key: Key; value: Relation<Value> }
  | { key: Key; version: Relation<bigint> }
  | { key: Key; createRevision: Relation<bigint> }
  | { key: Key; modRevision: Relation<bigint> }
  | { key: Key; lease: string | { readonly id: string } | null }
  | { empty: Key | Range };

/** One step: what to read, write or delete. */
export type Step =
  | { get: Key }
  | { list: Key | Range; limit?: number; reverse?: boolean; keysOnly?: boolean }
  | { put: Key; value: Value; lease?: string | { readonly id: string } | null; previous?: boolean }
  | { delete: Key | Range; previous?: boolean };

/** A transaction: if, then, else. Steps run in order and see what earlier ones did. */
export interface Txn {
  /** Every one must hold for `then` to run. */
  if?: Condition[];
  /** What to do if all hold. */
  then?: Step[];
  /** What to do if one does not. */
  else?: Step[];
}

/** @internal */
export function conditions(list: Condition[] = []): RawCondition[] {
  return list.map((condition) => {
    if ("empty" in condition) return { on: "rangeEmpty", range: range(condition.empty) };
    const key = octets(condition.key, "key of a condition");
    if ("exists" in condition) return { on: condition.exists ? "exists" : "absent", key };
    if ("lease" in condition) {
      const id = lease(condition.lease);
      return id === undefined ? { on: "lease", key } : { on: "lease", key, lease: id };
    }
    if ("value" in condition) {
      const [relation, value] = related(condition.value, (value) => value instanceof Uint8Array);
      return { on: "value", key, relation, value: octets(value, "value of a condition") };
    }
    const numbers: Partial<Record<"version" | "createRevision" | "modRevision", Relation<bigint>>> = condition;
    for (const on of ["version", "createRevision", "modRevision"] as const) {
      const asked = numbers[on];
      if (asked === undefined) continue;
      const [relation, number] = related(asked, () => false);
      return { on, key, relation, number: revision(number, `${on} of a condition`) };
    }
    throw invalid("a condition has one of exists, value, version, createRevision, modRevision, lease or empty");
  });
}

function related<T>(asked: Relation<T>, isValue: (value: unknown) => boolean): [relation: string, value: unknown] {
  if (typeof asked === "object" && asked !== null && !isValue(asked)) {
    if ("not" in asked) return ["notEqual", asked.not];
    if ("below" in asked) return ["less", asked.below];
    if ("above" in asked) return ["greater", asked.above];
  }
  return ["equal", asked];
}

/** @internal */
export function steps(list: Step[] = []): RawStep[] {
  const plain = { previous: false, limit: 0, reverse: false, keysOnly: false };
  return list.map((step) => {
    if ("get" in step) return { ...plain, op: "get", key: octets(step.get, "get") };
    if ("put" in step) {
      const id = lease(step.lease);
      const put = { ...plain, op: "put", key: octets(step.put, "put"), value: octets(step.value, "value of a put") };
      return { ...put, previous: step.previous === true, ...(id === undefined ? {} : { lease: id }) };
    }
    if ("delete" in step) {
      return { ...plain, op: "delete", range: range(step.delete), previous: step.previous === true };
    }
    if ("list" in step) {
      const prefixed =
        typeof step.list === "string" || step.list instanceof Uint8Array ? { prefix: step.list } : step.list;
      const [limit, reverse] = [count(step.limit, "limit"), step.reverse === true];
      return { ...plain, op: "list", range: range(prefixed), limit, reverse, keysOnly: step.keysOnly === true };
    }
    throw invalid("a step of a transaction is { get }, { list }, { put, value } or { delete }");
  });
}
