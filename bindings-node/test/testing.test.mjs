import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";

import { startServer } from "hither/testing";

import { run } from "./support.mjs";

test("a test has a real server of its own, and leaves nothing behind", async () => {
  const [one, two] = await Promise.all([startServer(), startServer()]);
  const [a, b] = await Promise.all([one.connect(), two.connect({ namespace: "mine" })]);
  await a.kv.put("key", "a");
  assert.equal(await b.kv.get("key"), undefined);
  assert.match(one.url, /^hither:\/\/127\.0\.0\.1:\d+/);
  assert.equal((await fetch(`${one.admin}/metrics`)).status, 200);
  const child = await run(
    'import { connect } from "hither"; const c = await connect(); console.log((await c.kv.get("key")).text());',
    { env: one.env },
  );
  assert.equal(child.out, "a\n");
  await Promise.all([a.close(), b.close()]);
  await one.stop();
  await one.stop();
  await two[Symbol.asyncDispose]();
  assert.ok(!existsSync(dirname(dirname(one.contexts))));
});

test("a process that forgets its server ends, and its server with it", async () => {
  const script = `import { startServer } from "hither/testing";
    const server = await startServer();
    const client = await server.connect();
    console.log(server.contexts, server.admin);`;
  const { code, out, err } = await run(script);
  assert.deepEqual([code, err], [0, ""]);
  const [contexts, admin] = out.trim().split(" ");
  assert.ok(!existsSync(contexts));
  await assert.rejects(fetch(admin));
});

test("a server that does not start says why", async () => {
  await assert.rejects(startServer({ binary: "/no/such/program" }), /ENOENT/);
  await assert.rejects(startServer({ args: ["--no-such-flag"] }), /did not start.*--no-such-flag/s);
});
