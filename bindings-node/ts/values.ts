/** What calls bring: keys with their values, and what was done to them. */

import { Plain, utf8 } from "./json";
import type { RawEntry, RawKey, RawLease, RawResult } from "./native";

/** A key, its value, and when and how it came to be. */
export class Entry extends Plain {
  /** The key. One that is not UTF-8 shows `�` where it cannot be read; `keyBytes` is exact. */
  readonly key: string;
  /** The value: yours to keep and to change. Empty where only keys were asked for. */
  readonly value: Buffer;
  /** The revision that created the key. A fencing token where the key is a lock. */
  readonly createRevision: bigint;
  /** The revision that last wrote it. */
  readonly modRevision: bigint;
  /** Writes since creation, the creation among them. */
  readonly version: bigint;
  /** The lease it dies with, in hexadecimal. */
  readonly lease: string | null;
  readonly #key: RawKey;

  /** @internal */
  constructor(
    key: RawKey,
    value: Buffer,
    createRevision: bigint,
    modRevision: bigint,
    version: bigint,
    lease: string | null,
  ) {
    super();
    this.#key = key;
    this.key = text(key);
    this.value = value;
    this.createRevision = createRevision;
    this.modRevision = modRevision;
    this.version = version;
    this.lease = lease;
  }

  /** The key's bytes. */
  get keyBytes(): Buffer {
    return bytes(this.#key);
  }

  /** The value as text; what is not UTF-8 shows as `�`. */
  text(): string {
    return this.value.toString("utf8");
  }

  /** The value read as JSON. */
  json<T = unknown>(): T {
    return JSON.parse(this.text()) as T;
  }
}

/** What a write did. */
export class PutReply extends Plain {
  readonly revision: bigint;
  /** The entry that it replaced, if that was asked for: null if there was none. */
  readonly previous: Entry | null | undefined;

  /** @internal */
  constructor(revision: bigint, previous: RawEntry | null, asked: boolean) {
    super();
    this.revision = revision;
    this.previous = asked ? maybe(previous) : undefined;
  }
}

/** What a deletion did. */
export class DeleteReply extends Plain {
  /** The revision of the deletion, or the current one if nothing was there. */
  readonly revision: bigint;
  /** How many keys were deleted. */
  readonly deleted: number;
  /** Their entries, if that was asked for. */
  readonly previous: Entry[] | undefined;

  /** @internal */
  constructor(revision: bigint, deleted: number, previous: RawEntry[], asked: boolean) {
    super();
    this.revision = revision;
    this.deleted = deleted;
    this.previous = asked ? all(previous) : undefined;
  }
}

/** The keys of a range, all at one revision. */
export class Listing extends Plain implements Iterable<Entry> {
  /** The store's revision when they were read. */
  readonly revision: bigint;
  /** In the order of their keys, or the reverse. */
  readonly entries: Entry[];
  /** How many keys the range has, the limit aside. */
  readonly count: number;
  /** Whether the limit left entries out. */
  readonly more: boolean;

  /** @internal */
  constructor(revision: bigint, count: number, more: boolean, entries: RawEntry[]) {
    super();
    this.revision = revision;
    this.entries = all(entries);
    this.count = count;
    this.more = more;
  }

  [Symbol.iterator](): Iterator<Entry> {
    return this.entries[Symbol.iterator]();
  }
}

/** What a step of a transaction did; `op` says which of the results it is. */
export type TxnResult = GetStepResult | ListStepResult | PutStepResult | DeleteStepResult;

export class GetStepResult extends Plain {
  readonly op = "get";
  /** @internal */
  constructor(
    /** Null if there was none. */
    readonly entry: Entry | null,
  ) {
    super();
  }
}

export class ListStepResult extends Plain {
  readonly op = "list";
  /** @internal */
  constructor(
    readonly entries: Entry[],
    readonly count: number,
    readonly more: boolean,
  ) {
    super();
  }
}

export class PutStepResult extends Plain {
  readonly op = "put";
  /** @internal */
  constructor(
    readonly revision: bigint,
    /** Null if there was none, or it was not asked for. */
    readonly previous: Entry | null,
  ) {
    super();
  }
}

export class DeleteStepResult extends Plain {
  readonly op = "delete";
  /** @internal */
  constructor(
    readonly revision: bigint,
    readonly deleted: number,
    readonly previous: Entry[],
  ) {
    super();
  }
}

/** What a transaction did. */
export class TxnReply extends Plain {
  /** Its revision, or the current one if nothing changed. */
  readonly revision: bigint;
  /** Whether the conditions held, so that `then` ran. */
  readonly succeeded: boolean;
  /** One for each step that ran. */
  readonly results: TxnResult[];
  /** It ran, was retried, and its results were too large for the server to remember: `results` is empty. */
  readonly resultsForgotten: boolean;

  /** @internal */
  constructor(revision: bigint, succeeded: boolean, forgotten: boolean, results: RawResult[]) {
    super();
    this.revision = revision;
    this.succeeded = succeeded;
    this.results = results.map(step);
    this.resultsForgotten = forgotten;
  }
}

function step(result: RawResult): TxnResult {
  switch (result[0]) {
    case "get":
      return new GetStepResult(maybe(result[1]));
    case "list":
      return new ListStepResult(all(result[3]), result[1], result[2]);
    case "put":
      return new PutStepResult(result[1], maybe(result[2]));
    case "delete":
      return new DeleteStepResult(result[1], result[2], all(result[3]));
  }
}

/** A lease as it stands. */
export class LeaseInfo extends Plain {
  /** Its id, in hexadecimal. */
  readonly id: string;
  readonly ttlMs: number;
  /** Time left without a renewal, as the leader counts; null where the answering node cannot tell. */
  readonly remainingMs: number | null;
  /** What keeps it alive: renewals, or the session that granted it. */
  readonly kind: "ttl" | "bound";
  readonly state: "alive" | "suspect" | "expired";
  /** Raised when it came back from suspect. */
  readonly epoch: bigint;
  /** The session that it is bound to. */
  readonly session: string | null;
  /** Number of keys that hang on it. */
  readonly keyCount: number;
  /** The identity that granted it. */
  readonly owner: string;
  readonly grantedAt: Date;
  /** Its keys, where one lease was asked after. */
  readonly keys: string[] | undefined;

  /** @internal */
  constructor(raw: RawLease, keys?: RawKey[]) {
    super();
    [this.id, this.ttlMs, this.remainingMs, this.kind, this.state, this.epoch, this.session, this.keyCount] = raw;
    this.owner = raw[8];
    this.grantedAt = new Date(raw[9]);
    this.keys = keys?.map(text);
  }
}

/** @internal */
export function maybe(raw: RawEntry | null): Entry | null {
  return raw === null ? null : new Entry(...raw);
}

function all(raw: RawEntry[]): Entry[] {
  return raw.map((entry) => new Entry(...entry));
}

/** @internal */
export function text(key: RawKey): string {
  return typeof key === "string" ? key : (utf8(key) ?? key.toString("utf8"));
}

/** @internal */
export function bytes(key: RawKey): Buffer {
  return Buffer.from(key as Buffer);
}
