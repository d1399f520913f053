/** Instances of services, and which of them. */

import { invalid } from "./errors";
import { Plain } from "./json";
import type { RawFilter, RawRecords } from "./native";

/**
 * How an instance is. `suspect`: its process has not been heard of for a second or more; the registry says so. A newer
 * version may have other words.
 */
export type Status = "passing" | "warning" | "critical" | "draining" | "maintenance" | "suspect" | (string & {});

/** Where an instance listens. */
export interface Endpoint {
  /** What it speaks there: `tcp`, `http`, `grpc`. */
  readonly scheme: string;
  /** Name or address, without brackets. */
  readonly host: string;
  readonly port: number;
}

/** An instance of a service, as it stands in the registry. */
export class Instance extends Plain {
  /** The version of the record: 1. */
  readonly schema: number;
  readonly service: string;
  /** Unique in its service. */
  readonly id: string;
  readonly endpoints: readonly Endpoint[];
  /** The version of the service's software, or an empty string. */
  readonly version: string;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly zone: string;
  readonly region: string;
  /** Its share of the load, relative to the others'; 0 takes none. */
  readonly weight: number;
  readonly status: Status;
  /** UTC, RFC 3339. */
  readonly startedAt: string;
  /** Which registration under this id it is: the revision that created its key. */
  readonly epoch: bigint;
  /** Fields of a newer version, as they stand in the record. */
  readonly unknown: Readonly<Record<string, unknown>> | undefined;

  /** @internal */
  constructor(record: Record<string, unknown>, epoch: bigint) {
    super();
    // Absent fields are those with their default.
    const said = record as Partial<Instance> & { started_at?: string };
    this.schema = said.schema ?? 1;
    this.service = said.service ?? "";
    this.id = said.id ?? "";
    this.endpoints = said.endpoints ?? [];
    this.version = said.version ?? "";
    this.tags = said.tags ?? [];
    this.metadata = said.metadata ?? {};
    this.zone = said.zone ?? "";
    this.region = said.region ?? "";
    this.weight = said.weight ?? 1;
    this.status = said.status ?? "passing";
    this.startedAt = said.started_at ?? "";
    this.epoch = epoch;
    this.unknown = unknown(record);
  }

  /** The URL of its first endpoint: `http://10.0.0.5:8080`. Undefined if it listens nowhere. */
  url(): string | undefined {
    const [first] = this.endpoints;
    return first && url(first);
  }

  /** The URLs of all its endpoints. */
  urls(): string[] {
    return this.endpoints.map(url);
  }
}

const KNOWN = new Set(
  "schema service id endpoints version tags metadata zone region weight status started_at".split(" "),
);

/** Nearly always nothing, and then nothing is made: there may be ten thousand records. */
function unknown(record: Record<string, unknown>): Record<string, unknown> | undefined {
  let more: Record<string, unknown> | undefined;
  for (const name in record) if (!KNOWN.has(name)) (more ??= {})[name] = record[name];
  return more;
}

/** An endpoint that was given without a scheme is recorded as `tcp`, and asked over `http`. */
function url({ scheme, host, port }: Endpoint): string {
  return `${scheme === "tcp" ? "http" : scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** @internal */
export function instances([json, epochs]: RawRecords): Instance[] {
  const records = JSON.parse(json) as Record<string, unknown>[];
  return records.map((record, at) => new Instance(record, epochs[at] ?? 0n));
}

/** Which instances: those that meet every condition that is there. A list of versions, say, is any of them. */
export interface Filter {
  /** All of these. */
  tags?: string | readonly string[] | undefined;
  /** All of these, with these values. */
  metadata?: Readonly<Record<string, string>> | undefined;
  version?: string | readonly string[] | undefined;
  zone?: string | readonly string[] | undefined;
  region?: string | readonly string[] | undefined;
  status?: Status | readonly Status[] | undefined;
}

/** @internal */
export function filter(asked: Filter | undefined): RawFilter | undefined {
  if (asked === undefined) return undefined;
  const words = (value: string | readonly string[] | undefined, name: string): string[] => {
    const list = value === undefined ? [] : typeof value === "string" ? [value] : [...value];
    if (list.every((word) => typeof word === "string")) return list;
    throw invalid(`${name} of a filter must be a string or a list of strings`);
  };
  return {
    tags: words(asked.tags, "tags"),
    metadata: { ...asked.metadata },
    versions: words(asked.version, "version"),
    zones: words(asked.zone, "zone"),
    regions: words(asked.region, "region"),
    statuses: words(asked.status, "status"),
  };
}
