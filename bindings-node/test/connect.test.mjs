import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { connect, TimeoutError } from "hither";

import { Server } from "./support.mjs";

test("a client finds its server by URL, context and identity, and stays in its namespace", async (t) => {
  const server = await Server.start(t);
  const url = `hither://127.0.0.1:${server.port}/prod`;
  const contexts = server.contexts;
  const prod = await connect(url, { contexts });
  assert.equal(prod.namespace, "prod");
  await prod.kv.put("a", "1");
  const context = readFileSync(`${contexts}/current`, "utf8").trim();
  const staging = await connect({ contexts, context, namespace: "staging" });
  assert.equal(await staging.kv.get("a"), undefined);
  const pem = (end) => readFileSync(`${contexts}/contexts/${context}.${end}`, "utf8");
  const own = await connect({ url, identity: { ca: pem("ca.pem"), identity: pem("pem") } });
  assert.equal((await own.kv.get("a")).text(), "1");
  await Promise.all([prod, staging, own].map((client) => client.close()));
});

test("who cannot connect is told why", async (t) => {
  const server = await Server.start(t);
  await assert.rejects(connect({ contexts: "/nowhere", url: "hither://127.0.0.1:1" }), {
    code: "HITHER_UNAUTHENTICATED",
    message: /hither dev/,
  });
  await assert.rejects(connect("mailto:me"), { code: "HITHER_INVALID_ARGUMENT" });
  await assert.rejects(connect({ options: { no_such: 1 }, contexts: server.contexts }), /no option no_such/);
  const unreachable = connect({ contexts: server.contexts, url: "hither://127.0.0.1:9", connectTimeoutMs: 200 });
  const error = await unreachable.catch((error) => error);
  assert.ok(error.retryable, error);
  const controller = new AbortController();
  const attempt = connect({ contexts: server.contexts, url: "hither://127.0.0.1:9", signal: controller.signal });
  controller.abort(new Error("enough"));
  await assert.rejects(attempt, /enough/);
  assert.ok(TimeoutError);
});
