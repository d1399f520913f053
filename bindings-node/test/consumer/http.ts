// The other entries of the package, with Fastify's and Express's own types.

import express from "express";
import fastify from "fastify";
import type { Client } from "hither";
import { hither } from "hither/fastify";
import { serviceFetch } from "hither/fetch";
import { announce } from "hither/http";
import { startServer } from "hither/testing";

export async function serve(): Promise<string> {
  await using server = await startServer({ timeoutMs: 5_000 });
  await using client: Client = await server.connect({ namespace: "test" });
  const app = fastify();
  await app.register(hither, { client, service: "api", version: "1.2", drainMs: 0 });
  await app.listen({ port: 0 });
  await using announced = announce(client, express().listen(0), "web", { tags: ["blue"] });
  const id: string = (await announced.registered).id;
  const fetch: typeof globalThis.fetch = serviceFetch(client, {
    onRetry: ({ instance, attempt }) => [instance.id, attempt],
  });
  const instance = client.pick("api", { policy: "random", filter: { zone: ["a", "b"] } });
  const url: string | undefined = instance.url();
  for await (const { view, removed } of client.watchService("api", { minIntervalMs: 100 })) {
    if (view.state === "offline" || removed.length > 0) break;
  }
  const registered = await client.register("api", { port: 8080, metadata: { a: "b" } });
  await registered.update({ status: "draining", weight: 2 });
  const epoch: bigint = registered.epoch;
  return `${await (await fetch("svc://api/", { method: "POST" })).text()} ${id} ${url} ${epoch} ${registered.state}`;
}
