import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";

import { ClosedError, LeaseNotFoundError } from "hither";

import { eventually, Server } from "./support.mjs";

describe("leases and states", () => {
  let server, client;
  before(async () => {
    server = await Server.start();
    client = await server.connect({ options: { backoff_max: "200ms" } });
  });
  after(async () => {
    await client.close();
    await server.remove();
  });

  test("keys live as long as their lease", async () => {
    const lease = await client.lease(5_000);
    assert.match(lease.id, /^[0-9a-f]+$/);
    assert.equal(lease.ttlMs, 5_000);
    await client.kv.put("lease/a", "x", { lease });
    const info = await client.leases.info(lease.id);
    assert.deepEqual([info.id, info.state, info.kind, info.keys], [lease.id, "alive", "bound", ["lease/a"]]);
    assert.ok((await client.leases.list()).some((other) => other.id === lease.id));
    assert.deepEqual(await lease.revoke(), { deleted: 1 });
    assert.equal(await client.kv.get("lease/a"), undefined);
    await assert.rejects(lease.revoke(), LeaseNotFoundError);
  });

  test("a lease is revoked when its block is left, and when it is released", async () => {
    const lease = await client.lease(60_000);
    await client.kv.put("lease/block", "x", { lease });
    await lease[Symbol.asyncDispose]();
    assert.equal(await client.kv.get("lease/block"), undefined);
    const released = await client.lease(60_000);
    await client.kv.put("lease/released", "x", { lease: released });
    released.release();
    await eventually("it is revoked", async () => (await client.kv.get("lease/released")) === undefined);
    assert.ok(released.lost);
  });

  test("a lease stays while its client does, also if nobody holds it", async () => {
    await (async () => client.kv.put("lease/forgotten", "x", { lease: await client.lease(60_000) }))();
    for (let n = 0; n < 5; n++) {
      globalThis.gc();
      assert.ok(await client.kv.get("lease/forgotten"));
    }
  });

  test("a lease that nobody keeps is renewed by anyone", async () => {
    const { id, ttlMs } = await client.leases.grant(5_000);
    assert.equal(ttlMs, 5_000);
    assert.deepEqual(await client.leases.renew(id), { ttlMs: 5_000 });
    assert.deepEqual(await client.leases.revoke(id), { deleted: 0 });
    await assert.rejects(client.leases.renew(id), LeaseNotFoundError);
  });

  test("a lease that another revokes is told as lost", async () => {
    const lease = await client.lease(1_500);
    const lost = once(lease.signal, "abort");
    await client.leases.revoke(lease.id);
    await lost;
    assert.ok(lease.lost);
    assert.ok(lease.signal.reason instanceof LeaseNotFoundError);
  });

  test("states are told as events and as an iterable; a lease is lost before it ends", async () => {
    const own = await Server.start();
    const ours = await own.connect({ options: { backoff_max: "200ms", session_ttl: "2s", beat_interval: "100ms" } });
    assert.equal(ours.state, "connected");
    const lease = await ours.lease(2_000);
    const events = [];
    ours.on("state", (state) => events.push(state));
    const iterated = (async () => {
      const states = [];
      for await (const state of ours.states()) states.push(state);
      return states;
    })();
    await own.pause();
    await once(lease.signal, "abort");
    await eventually("the session is lost", () => ours.state === "lost");
    own.go();
    await eventually("it is connected again", () => ours.state === "connected");
    await ours.close();
    assert.deepEqual(events, ["suspended", "lost", "connected", "closed"]);
    assert.deepEqual(await iterated, events);
    await own.remove();
  });

  test("a listener that throws is its own affair", async () => {
    const other = await server.connect();
    const caught = new Promise((resolve) => process.setUncaughtExceptionCaptureCallback(resolve));
    other.on("state", () => {
      throw new Error("mine");
    });
    try {
      const calls = Array.from({ length: 50 }, () => other.kv.get("a").catch((error) => error.code));
      const [, ...answers] = await Promise.all([other.close(), ...calls]);
      assert.ok(answers.every((answer) => answer === undefined || answer === "HITHER_CLOSED"));
      assert.equal((await caught).message, "mine");
    } finally {
      process.setUncaughtExceptionCaptureCallback(null);
    }
  });

  test("closing ends everything: calls, watches, leases", async () => {
    const other = await server.connect();
    const lease = await other.lease(60_000);
    await other.kv.put("closing", "x", { lease });
    const watch = other.watch("closing", { start: "now" });
    const waiting = watch.next();
    await watch.opened;
    await Promise.all([other.close(), other.close()]);
    assert.equal(other.state, "closed");
    assert.ok((await waiting).done);
    await eventually("the lease is taken as lost", () => lease.lost);
    await assert.rejects(other.kv.get("closing"), ClosedError);
    assert.equal(await client.kv.get("closing"), undefined);
  });
});
