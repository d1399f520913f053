/**
 * The native half: finds it, loads it, and says what it has. Private: nothing here is part of the package's interface.
 *
 * Tuples are flat because an object costs a look-up per property at the border; classes are made of them on this side.
 */

export type RawKey = string | Buffer;
export type RawEntry = [
  key: RawKey,
  value: Buffer,
  createRevision: bigint,
  modRevision: bigint,
  version: bigint,
  lease: string | null,
];
/** Updates of a watch in a block of bytes, and the large values among them. */
export type RawBatch = [updates: Buffer, ...values: Buffer[]];
export type RawResult =
  | ["get", RawEntry | null]
  | ["list", count: number, more: boolean, RawEntry[]]
  | ["put", revision: bigint, previous: RawEntry | null]
  | ["delete", revision: bigint, deleted: number, previous: RawEntry[]];
export type RawLease = [
  lease: string,
  ttl: number,
  remaining: number | null,
  kind: "ttl" | "bound",
  state: "alive" | "suspect" | "expired",
  epoch: bigint,
  session: string | null,
  keys: number,
  owner: string,
  grantedAt: number,
];
export type RawError = [
  number: number,
  applied: "no" | "unknown",
  retry: "never" | "later" | "elsewhere",
  detail: string,
  revision: bigint | null,
  leader: string | null,
  causes: string[],
  noInstances?: [known: number, suspect: number, ageMs: number | null] | null,
];

/** Bytes of a key or a value; text is UTF-8. */
export type Octets = string | Uint8Array;
export interface RawRange {
  kind: "one" | "prefix" | "span" | "all";
  start?: Octets;
  end?: Octets;
}
/** A bigint is the revision that must be seen at least, a number the milliseconds that it may be old. */
export type RawConsistency = bigint | number | undefined;

export interface RawSettings {
  url?: string;
  context?: string;
  contexts?: string;
  ca?: string;
  identity?: string;
  namespace?: string;
  connectTimeoutMs?: number;
  requestTimeoutMs?: number;
  agent: string;
  options: [string, string][];
}

export interface RawCondition {
  on: string;
  key?: Octets;
  relation?: string;
  number?: bigint;
  value?: Octets;
  lease?: string;
  range?: RawRange;
}

export interface RawStep {
  op: string;
  key?: Octets;
  value?: Octets;
  lease?: string;
  previous: boolean;
  range?: RawRange;
  limit: number;
  reverse: boolean;
  keysOnly: boolean;
}

export interface RawWatchSettings {
  range: RawRange;
  start: "snapshot" | "now" | "after";
  after?: bigint;
  latest: boolean;
  puts: boolean;
  deletes: boolean;
  liveness: boolean;
  previous: boolean;
  minIntervalMs: number;
  timeoutMs?: number;
}

export interface RawFilter {
  tags: string[];
  metadata: Record<string, string>;
  versions: string[];
  zones: string[];
  regions: string[];
  statuses: string[];
}
/** Of records and the epochs that belong to them. */
export type RawRecords = [json: string, epochs: bigint[]];
export type RawDifference = [
  added: RawRecords,
  changed: RawRecords,
  removed: string[],
  revision: bigint,
  state: "synced" | "resuming" | "stale" | "offline",
  source: "live",
  invalid: [key: RawKey, reason: string][],
  view: NativeView,
];

export interface RawRecord {
  endpoints?: string[];
  version?: string;
  tags?: string[];
  metadata?: Record<string, string>;
  zone?: string;
  region?: string;
  weight?: number;
  status?: string;
}

export interface RawRegistration {
  service: string;
  id?: string;
  port?: number;
  address?: string;
  scheme?: string;
  record: RawRecord;
  ttlMs?: number;
  lease?: string;
  permanent: boolean;
  timeoutMs?: number;
}

export interface NativePort {
  /** `[more, id, ok, value, id, ok, value, ...]` */
  drain(): unknown[];
  cancel(call: number): void;
  readonly running: number;
}

export interface NativeClient {
  readonly state: string;
  readonly namespace: string;
  states(call: number): void;
  metrics(): bigint[];
  session(call: number, timeout: number | undefined): void;
  close(call: number): void;
  get(call: number, key: Octets, consistency: RawConsistency, timeout: number | undefined): void;
  put(
    call: number,
    key: Octets,
    value: Octets,
    lease: string | undefined,
    previous: boolean,
    timeout: number | undefined,
  ): void;
  delete(call: number, range: RawRange, previous: boolean, timeout: number | undefined): void;
  list(
    call: number,
    range: RawRange,
    what: "entries" | "keys" | "count",
    limit: number,
    reverse: boolean,
    consistency: RawConsistency,
    timeout: number | undefined,
  ): void;
  txn(call: number, when: RawCondition[], then: RawStep[], otherwise: RawStep[], timeout: number | undefined): void;
  watch(call: number, settings: RawWatchSettings): void;
  lease(call: number, lost: number, ttl: number, timeout: number | undefined): void;
  leaseGrant(call: number, ttl: number, timeout: number | undefined): void;
  leaseRenew(call: number, lease: string, timeout: number | undefined): void;
  leaseRevoke(call: number, lease: string, timeout: number | undefined): void;
  leaseInfo(call: number, lease: string, timeout: number | undefined): void;
  leaseList(call: number, timeout: number | undefined): void;
  register(call: number, registration: RawRegistration): void;
  service(service: string): NativeService;
  services(call: number, timeout: number | undefined): void;
}

export interface NativeService {
  discover(call: number, maxStaleness: number | undefined, timeout: number | undefined): void;
  waitFor(call: number, count: number, filter: RawFilter | undefined, timeout: number | undefined): void;
  /** Null if nothing is different, undefined if nothing is known. */
  refresh(): RawDifference | null | undefined;
  select(filter: RawFilter): number[];
  /** A place, or -1: refresh, then ask for what was `picked`; or -2: ask for the `failure`. */
  pick(pick: NativePick, besides?: readonly string[]): number;
  picked(): number;
  failure(): RawError;
  /** Null: ask for the `failure`. */
  keep(): NativeKept | null;
  watch(call: number, filter: RawFilter | undefined, minInterval: number, timeout: number | undefined): void;
}

/** It has nothing to ask for. */
export type NativePick = object & { readonly pick?: never };

export interface NativeView {
  readonly age: number;
}

export interface NativeKept {
  close(): void;
}

export interface NativeServiceWatch {
  next(call: number): void;
  close(): void;
}

export interface NativeRegistered {
  readonly state: string;
  instance(): [json: string, epoch: bigint];
  follow(call: number): void;
  update(call: number, record: RawRecord, timeout: number | undefined): void;
  deregister(call: number, timeout: number | undefined): void;
  release(): void;
}

export interface NativeWatch {
  /** Where it began. */
  readonly revision: bigint;
  next(call: number): void;
  close(): void;
}

export interface NativeLease {
  readonly id: string;
  readonly ttl: number;
  revoke(call: number): void;
  release(): void;
}

export interface Native {
  version(): string;
  errorCodes(): [number: number, name: string, retry: string, meaning: string][];
  connect(port: NativePort, call: number, settings: RawSettings): void;
  Port: new (wake: () => void) => NativePort;
  NativePick: new (random: boolean, filter: RawFilter | undefined) => NativePick;
}

/**
 * The package of each platform, as a literal: bundlers must see what may be required. Where a system has two C
 * libraries, npm installs the right one of the two, and the other is not there to be loaded.
 */
const packages: Record<string, [name: string, load: () => Native][]> = {
  "linux-x64": [
    ["@hither/client-linux-x64-gnu", () => require("@hither/client-linux-x64-gnu")],
    ["@hither/client-linux-x64-musl", () => require("@hither/client-linux-x64-musl")],
  ],
  "linux-arm64": [
    ["@hither/client-linux-arm64-gnu", () => require("@hither/client-linux-arm64-gnu")],
    ["@hither/client-linux-arm64-musl", () => require("@hither/client-linux-arm64-musl")],
  ],
  "darwin-x64": [["@hither/client-darwin-x64", () => require("@hither/client-darwin-x64")]],
  "darwin-arm64": [["@hither/client-darwin-arm64", () => require("@hither/client-darwin-arm64")]],
  "win32-x64": [["@hither/client-win32-x64-msvc", () => require("@hither/client-win32-x64-msvc")]],
};

function load(): Native {
  const path = process.env.HITHER_NATIVE_PATH;
  if (path) return require(path) as Native;
  const platform = `${process.platform}-${process.arch}`;
  const tried: string[] = [];
  const causes: unknown[] = [];
  for (const [name, load] of packages[platform] ?? []) {
    try {
      return load();
    } catch (cause) {
      tried.push(`${name} (${cause instanceof Error ? cause.message.split("\n", 1)[0] : String(cause)})`);
      causes.push(cause);
    }
  }
  const why =
    tried.length === 0
      ? `there is no build for it; there are builds for ${Object.keys(packages).join(", ")}`
      : `tried ${tried.join(" and ")}. If node_modules came from another platform, or npm left optional dependencies ` +
        "out, delete node_modules and package-lock.json and install again";
  throw Object.assign(
    new Error(
      `hither has no native binary for ${platform} with Node ${process.version}: ${why}. ` +
        "HITHER_NATIVE_PATH may name a binary of your own.",
      { cause: causes[0] },
    ),
    { code: "HITHER_NATIVE_MISSING" },
  );
}

export const native: Native = load();
