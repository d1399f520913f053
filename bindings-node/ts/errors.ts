/** Errors by their number. */

import { rows } from "./codes";
import { HitherError } from "./error";
import type { RawError } from "./native";

export * from "./codes";
export { HitherError } from "./error";

const table = new Map(rows.map((row) => [row[0], row]));
for (const of of [HitherError, ...rows.map((row) => row[2])]) {
  // Not an own property: it would be printed with every error.
  Object.defineProperty(of.prototype, "name", { value: of.name, configurable: true, writable: true });
}

/** @internal An error of the core. */
export function errorOf(raw: RawError): HitherError {
  const [, name, of] = table.get(raw[0]) ?? [0, "Other", HitherError];
  return new of(raw, name);
}

/** @internal An argument is wrong. */
export function invalid(detail: string): HitherError {
  return errorOf([3001, "no", "never", detail, null, null, []]);
}
