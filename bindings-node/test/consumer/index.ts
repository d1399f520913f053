// What a TypeScript project sees of the package: compiled with --strict and without skipLibCheck, never run.

import {
  type Client,
  type Condition,
  connect,
  Entry,
  type Event,
  HitherError,
  type Lease,
  NotFoundError,
  type SessionState,
  type Txn,
} from "hither";

export async function keys(signal: AbortSignal): Promise<string[]> {
  await using client: Client = await connect("hither://127.0.0.1:7400/prod", { requestTimeoutMs: 1_000, signal });
  const entry: Entry | undefined = await client.kv.get("a", { consistency: { atLeast: 7n }, timeoutMs: 5 });
  const revision: bigint | undefined = entry?.modRevision;
  await using lease: Lease = await client.lease(10_000);
  await client.kv.put("a", Buffer.from("b"), { lease, signal: lease.signal });
  const unless: Condition = { key: "a", modRevision: revision ?? 0n };
  const txn: Txn = { if: [unless, { empty: { prefix: "jobs/" } }], then: [{ put: "a", value: "b", lease: lease.id }] };
  const { succeeded, results } = await client.kv.txn(txn, { signal });
  for (const result of results) {
    if (result.op === "get") result.entry?.json<{ limit: number }>().limit.toFixed();
    if (result.op === "list") result.count.toFixed();
  }
  const seen: string[] = [];
  for await (const update of client.watch({ from: "a", to: "b" }, { after: 7n, liveness: true })) {
    update.events.forEach((event: Event) => {
      switch (event.type) {
        case "put":
          return seen.push(event.entry.text(), event.previous?.key ?? "");
        case "delete":
          return seen.push(event.key);
        case "liveness":
          return seen.push(event.lease);
      }
    });
    if (succeeded) break;
  }
  client.on("state", (state: SessionState) => seen.push(state));
  for await (const state of client.states({ signal })) if (state === "closed") break;
  try {
    await client.kv.get("a");
  } catch (error) {
    if (error instanceof NotFoundError || (error instanceof HitherError && error.code === "HITHER_NOT_FOUND")) {
      const applied: "no" | "unknown" = error.applied;
      seen.push(applied, error.retryable ? "later" : "never");
    }
  }
  return seen;
}

// @ts-expect-error a revision is a bigint
export const wrong: Txn = { if: [{ key: "a", modRevision: 7 }] };
// @ts-expect-error the native half is private
export type Native = import("hither/dist/native").Native;
