/**
 * `fetch` for services: `svc://service/path` is asked of an instance of the service, and of another one if that fails.
 *
 * @packageDocumentation
 */

import { setTimeout as sleep } from "node:timers/promises";

import { NoInstancesError } from "./codes";
import type { Client } from "./client";
import { HitherError } from "./error";
import type { Instance } from "./instance";
import type { PickOptions } from "./services";

/** What happened before another instance is asked. */
export interface Retry {
  service: string;
  /** The instance that was asked. */
  instance: Instance;
  /** How many were asked so far. */
  attempt: number;
  /** Why it is not enough: an error, or an answer. */
  error?: unknown;
  response?: Response;
}

export interface ServiceFetchOptions {
  /** How to pick. Keep the object for as long as the function. */
  pick?: PickOptions | undefined;
  /** How often one request is sent at most. Default 3. */
  attempts?: number | undefined;
  /** How long to wait for an instance where there is none. Default 1,000. */
  waitMs?: number | undefined;
  /** Answers after which another instance is asked. Default 502, 503 and 504. */
  retryStatuses?: readonly number[] | undefined;
  /** Is told of each retry. */
  onRetry?: ((retry: Retry) => void) | undefined;
  /** What asks an instance. Default: the global `fetch`. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** Before an instance is asked for the second time: all others have failed too. */
const PAUSE_MS = 50;
/** Methods that may be sent twice (RFC 9110, section 9.2.2). */
const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);
/** Errors after which nothing was sent: whatever the method, another instance may be asked. */
const UNSENT = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/**
 * A `fetch` that also takes `svc://service/path`. An idempotent request is asked of another instance if the first
 * cannot be reached, breaks off, or answers that it cannot serve; any other only if nothing was sent. What streams its
 * body is sent once. When all have been asked, one that answered is asked again a moment later, rather than one that
 * could not be reached.
 *
 * ```ts
 * const fetch = serviceFetch(client);
 * const response = await fetch("svc://api/users?limit=10", { signal: AbortSignal.timeout(2_000) });
 * ```
 */
export function serviceFetch(client: Client, options: ServiceFetchOptions = {}): typeof globalThis.fetch {
  const { attempts = 3, waitMs = 1_000, retryStatuses = [502, 503, 504], pick = {}, onRetry } = options;
  const plain = options.fetch ?? globalThis.fetch;

  return async function fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const url = new URL(input instanceof Request ? input.url : String(input));
    if (url.protocol !== "svc:") return await plain(input, init);
    const service = url.hostname;
    const request = input instanceof Request ? input : undefined;
    const signal = init?.signal ?? request?.signal ?? undefined;
    const method = (init?.method ?? request?.method ?? "GET").toUpperCase();
    const body = init?.body ?? request?.body;
    const once =
      body instanceof ReadableStream || (typeof body === "object" && body !== null && Symbol.asyncIterator in body);
    const asked: string[] = [];
    const unreached: string[] = [];

    for (let attempt = 1; ; attempt++) {
      let instance = await some(service, asked, signal);
      if (asked.includes(instance.id)) {
        await sleep(PAUSE_MS);
        instance = await some(service, unreached, signal);
      }
      asked.push(instance.id);
      const target = at(instance, url);
      const last = attempt >= attempts || once;
      try {
        const response = await plain(request === undefined ? target : new Request(target, request), init);
        if (last || !IDEMPOTENT.has(method) || !retryStatuses.includes(response.status)) return response;
        onRetry?.({ service, instance, attempt, response });
        await response.body?.cancel();
      } catch (error) {
        if (last || signal?.aborted || !(IDEMPOTENT.has(method) || unsent(error))) throw error;
        unreached.push(instance.id);
        onRetry?.({ service, instance, attempt, error });
      }
    }
  };

  /** An instance, not one of those with these ids if there is another. */
  async function some(service: string, besides: string[], signal: AbortSignal | undefined): Promise<Instance> {
    try {
      return client.pick(service, pick, besides);
    } catch (error) {
      if (!(error instanceof NoInstancesError)) throw error;
    }
    // Nobody followed the service yet, or all of its instances are gone: one of these passes.
    try {
      await client.waitFor(service, 1, { filter: pick.filter, timeoutMs: waitMs, signal });
    } catch (error) {
      if (!(error instanceof HitherError) || error.code !== "HITHER_TIMEOUT") throw error;
    }
    return client.pick(service, pick, besides);
  }
}

/** The URL at which an instance is asked: its first endpoint that speaks HTTP. */
function at(instance: Instance, { pathname, search }: URL): string {
  const base = instance.urls().find((url) => /^https?:/.test(url));
  if (base !== undefined) return `${base}${pathname}${search}`;
  throw new TypeError(`instance ${instance.id} of ${instance.service} has no endpoint that speaks http or https`);
}

function unsent(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (UNSENT.has((cause as NodeJS.ErrnoException).code ?? "")) return true;
    if (cause instanceof AggregateError) return cause.errors.every(unsent);
  }
  return false;
}
