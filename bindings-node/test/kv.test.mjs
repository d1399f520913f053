import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { before, after, describe, test } from "node:test";

import { Entry, HitherError, InvalidArgumentError, KeyEmptyError, TimeoutError, ValueTooLargeError } from "hither";

import { eventually, Server } from "./support.mjs";

describe("keys", () => {
  let server, client;
  before(async () => {
    server = await Server.start();
    client = await server.connect();
  });
  after(async () => {
    await client.close();
    await server.remove();
  });

  test("what is put is got, with its revisions", async () => {
    const { revision, previous } = await client.kv.put("kv/a", "one");
    assert.equal(typeof revision, "bigint");
    assert.equal(previous, undefined);
    const entry = await client.kv.get("kv/a");
    assert.ok(entry instanceof Entry);
    assert.ok(Buffer.isBuffer(entry.value));
    assert.equal(entry.text(), "one");
    assert.deepEqual(
      [entry.key, entry.createRevision, entry.modRevision, entry.version, entry.lease],
      ["kv/a", revision, revision, 1n, null],
    );
    assert.equal(await client.kv.get("kv/nothing"), undefined);
    await client.kv.put("kv/json", JSON.stringify({ limit: 7 }));
    assert.deepEqual((await client.kv.get("kv/json")).json(), { limit: 7 });
  });

  test("a put returns what it replaced, if asked", async () => {
    assert.equal((await client.kv.put("kv/previous", "1", { previous: true })).previous, null);
    assert.equal((await client.kv.put("kv/previous", "2", { previous: true })).previous.text(), "1");
  });

  test("keys and values may be any bytes", async () => {
    const key = Buffer.from([0xff, 0x00, 0x2f]);
    const value = new Uint8Array([0, 255, 128]);
    await client.kv.put(key, value);
    const entry = await client.kv.get(key);
    assert.deepEqual(entry.keyBytes, key);
    assert.deepEqual(entry.value, Buffer.from(value));
    assert.equal(JSON.parse(JSON.stringify(entry)).valueBase64, "AP+A");
  });

  test("a large value is the caller's own to change", async () => {
    const written = Buffer.alloc(300_000, "x");
    await client.kv.put("kv/large", written);
    const first = await client.kv.get("kv/large");
    first.value.fill(0);
    const second = await client.kv.get("kv/large");
    assert.ok(second.value.equals(written));
    // Nor does a watch that shares what it has with another see what was done to it.
    const [one, other] = [client.kv.watch("kv/large"), client.kv.watch("kv/large")];
    (await one.next()).value.events[0].value.fill(0);
    assert.ok((await other.next()).value.events[0].value.equals(written));
    await Promise.all([one.close(), other.close()]);
  });

  test("a value may change while its put is under way", async () => {
    const value = Buffer.from("before");
    const put = client.kv.put("kv/changing", value);
    value.fill("!");
    await put;
    assert.equal((await client.kv.get("kv/changing")).text(), "before");
  });

  test("lists are in order, limited, reversed, counted, and without values if asked", async () => {
    for (const name of ["c", "a", "b"]) await client.kv.put(`list/${name}`, name);
    const keys = (list) => [...list].map((entry) => entry.key);
    const all = await client.kv.list("list/");
    assert.deepEqual(keys(all), ["list/a", "list/b", "list/c"]);
    assert.deepEqual([all.count, all.more], [3, false]);
    const some = await client.kv.list({ prefix: "list/" }, { limit: 2, reverse: true, keysOnly: true });
    assert.deepEqual(keys(some), ["list/c", "list/b"]);
    assert.deepEqual([some.count, some.more, some.entries[0].value.length], [3, true, 0]);
    assert.deepEqual(keys(await client.kv.list({ from: "list/a", to: "list/c" })), ["list/a", "list/b"]);
    assert.equal(await client.kv.count("list/"), 3);
    const { deleted, previous } = await client.kv.delete({ prefix: "list/" }, { previous: true });
    assert.deepEqual([deleted, previous.map((entry) => entry.text())], [3, ["a", "b", "c"]]);
    assert.equal((await client.kv.delete("list/a")).deleted, 0);
  });

  test("a transaction is if, then, else", async () => {
    const txn = {
      if: [{ key: "txn/owner", exists: false }, { empty: { prefix: "txn/busy/" } }],
      then: [{ put: "txn/owner", value: "me" }, { get: "txn/owner" }],
      else: [{ get: "txn/owner" }, { list: "txn/", keysOnly: true }, { delete: "txn/other" }],
    };
    const mine = await client.kv.txn(txn);
    assert.equal(mine.succeeded, true);
    assert.equal(mine.results[0].revision, mine.revision);
    assert.equal(mine.results[1].entry.text(), "me");
    const taken = await client.kv.txn(txn);
    assert.equal(taken.succeeded, false);
    assert.deepEqual(
      taken.results.map((result) => result.op),
      ["get", "list", "delete"],
    );
    assert.equal(taken.results[1].count, 1);

    const { modRevision } = await client.kv.get("txn/owner");
    const holds = async (...conditions) => (await client.kv.txn({ if: conditions })).succeeded;
    assert.ok(await holds({ key: "txn/owner", modRevision }, { key: "txn/owner", version: 1n }));
    assert.ok(await holds({ key: "txn/owner", createRevision: { above: 0n } }, { key: "txn/owner", exists: true }));
    assert.ok(await holds({ key: "txn/owner", value: "me" }, { key: "txn/owner", value: { not: Buffer.from("you") } }));
    assert.ok(await holds({ key: "txn/owner", lease: null }));
    assert.ok(!(await holds({ key: "txn/owner", modRevision: { below: modRevision } })));
  });

  test("reads see at least a revision, or whatever is fresh enough", async () => {
    const { revision } = await client.kv.put("kv/consistency", "x");
    assert.ok(await client.kv.get("kv/consistency", { consistency: { atLeast: revision } }));
    await client.kv.get("kv/consistency", { consistency: { staleMs: 60_000 } });
  });

  test("errors are of their class, with code, number and effect, and the caller's stack", async () => {
    const error = await (async function theCaller() {
      await client.kv.put("", "x");
    })().catch((error) => error);
    assert.ok(error instanceof KeyEmptyError && error instanceof HitherError && error instanceof Error);
    assert.equal(error.name, "KeyEmptyError");
    assert.deepEqual(
      [error.code, error.number, error.applied, error.retryable],
      ["HITHER_KEY_EMPTY", 3003, "no", false],
    );
    assert.match(error.message, /at least one byte/);
    assert.match(error.stack, /theCaller/);
    await assert.rejects(client.kv.put("kv/big", Buffer.alloc(1_048_577)), ValueTooLargeError);
  });

  test("a wrong argument is a rejection that names it", async () => {
    await assert.rejects(client.kv.get(7), { code: "HITHER_INVALID_ARGUMENT", message: /key must be a string/ });
    await assert.rejects(client.kv.get("a", { timeoutMs: "soon" }), InvalidArgumentError);
    await assert.rejects(client.kv.get("a", { consistency: { atLeast: 7 } }), /bigint/);
    await assert.rejects(client.kv.delete({ suffix: "x" }), InvalidArgumentError);
    await assert.rejects(client.kv.txn({ if: [{ key: "a" }] }), /a condition has one of/);
    await assert.rejects(client.kv.put("a", "b", { lease: "what" }), /hexadecimal/);
  });

  test("what is returned can be said as JSON", async () => {
    await client.kv.put("json/a", "1");
    const list = await client.kv.list("json/");
    const json = JSON.parse(JSON.stringify({ list, put: await client.kv.put("json/a", "2", { previous: true }) }));
    assert.equal(json.list.entries[0].value, "1");
    assert.equal(typeof json.list.revision, "number");
    assert.equal(json.put.previous.key, "json/a");
    for (const value of [client, client.metrics(), await client.kv.txn({ then: [{ get: "json/a" }] })]) {
      assert.ok(JSON.stringify(value).length > 2);
    }
    const error = await client.kv.get("").catch((error) => error);
    assert.equal(JSON.parse(JSON.stringify(error)).code, "HITHER_KEY_EMPTY");
  });

  test("more calls may be taken back at once than a function takes arguments", async () => {
    const { port } = createRequire(import.meta.url)(join(import.meta.dirname, "../node_modules/hither/dist/port.js"));
    for (let n = 0; n < 200_000; n++) port().unlisten(port().listen(() => {}));
    assert.equal(await client.kv.get("kv/nothing"), undefined);
  });

  test("an aborted call rejects with the signal's reason and is taken back", async () => {
    const reason = new Error("enough");
    await assert.rejects(client.kv.get("a", { signal: AbortSignal.abort(reason) }), reason);
    // Nobody answers a server that is stopped, so the calls wait.
    await server.pause();
    try {
      const controller = new AbortController();
      const calls = Array.from({ length: 50 }, (_, n) => client.kv.get(`abort/${n}`, { signal: controller.signal }));
      const settled = Promise.allSettled(calls);
      await eventually("they are under way", () => client.metrics().inFlight >= 50);
      controller.abort(reason);
      for (const { status, reason: why } of await settled) {
        assert.deepEqual([status, why], ["rejected", reason]);
      }
      await eventually("the core has let go of them", () => client.metrics().inFlight === 0);
      await assert.rejects(client.kv.get("a", { signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
      const timed = await client.kv.put("a", "b", { timeoutMs: 50 }).catch((error) => error);
      assert.ok(timed instanceof TimeoutError, timed);
      assert.deepEqual([timed.code, timed.applied, timed.retryable], ["HITHER_TIMEOUT", "unknown", true]);
    } finally {
      server.go();
    }
    await eventually("it answers again", () =>
      client.kv.get("a").then(
        () => true,
        () => false,
      ),
    );
  });

  test("many calls at once all find their answers", async () => {
    const keys = Array.from({ length: 2_000 }, (_, n) => `many/${n}`);
    await Promise.all(keys.map((key) => client.kv.put(key, key)));
    const entries = await Promise.all(keys.map((key) => client.kv.get(key)));
    assert.deepEqual(
      entries.map((entry) => entry.text()),
      keys,
    );
  });
});
