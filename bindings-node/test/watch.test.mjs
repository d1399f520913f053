import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";

import { InvalidArgumentError } from "hither";

import { eventually, gauge, run, Server } from "./support.mjs";

describe("watches", () => {
  let server, client;
  before(async () => {
    server = await Server.start();
    client = await server.connect();
  });
  after(async () => {
    await client.close();
    await server.remove();
  });
  const open = async () => [client.metrics().watches, await gauge(server, "hither_watches")];
  const closed = () => eventually("no watch is open", async () => (await open()).every((count) => count === 0));

  test("it begins with the state and goes on without a gap; leaving the loop closes it at the server", async () => {
    await client.kv.put("w/a", "1");
    const seen = [];
    for await (const update of client.watch({ prefix: "w/" })) {
      for (const event of update.events) seen.push([update.kind, event.type, event.key, event.entry?.text()]);
      if (seen.length === 1) {
        assert.deepEqual(await open(), [1, 1]);
        await client.kv.put("w/b", "2");
        await client.kv.delete("w/a");
      }
      if (seen.length === 3) break;
    }
    assert.deepEqual(seen, [
      ["snapshot", "put", "w/a", "1"],
      ["changes", "put", "w/b", "2"],
      ["changes", "delete", "w/a", undefined],
    ]);
    await closed();
  });

  test("it goes on from a revision, with what was before", async () => {
    const { revision } = await client.kv.put("from/a", "1");
    await client.kv.put("from/a", "2");
    const watch = client.kv.watch({ prefix: "from/" }, { after: revision, previous: true });
    await watch.opened;
    assert.equal(watch.revision, revision);
    const { value: update } = await watch.next();
    assert.equal(update.events[0].previous.text(), "1");
    assert.equal(watch.revision, update.revision);
    const json = JSON.parse(JSON.stringify(update));
    assert.deepEqual([json.kind, json.events[0].type, json.events[0].value], ["changes", "put", "2"]);
    await watch.close();
    assert.deepEqual(await watch.next(), { done: true, value: undefined });
  });

  test("events come one by one, if that is enough", async () => {
    await client.kv.put("events/a", "1");
    await client.kv.put("events/b", "2");
    const keys = [];
    for await (const event of client.watch({ prefix: "events/" }).events()) {
      keys.push(event.key);
      if (keys.length === 2) break;
    }
    assert.deepEqual(keys, ["events/a", "events/b"]);
    await closed();
  });

  test("events say what a read says, whatever the key and the value", async () => {
    const lease = await client.lease(10_000);
    const keys = ["plain", "ключ", "🔑", "plain/🔑/é", Buffer.from("all/\xff\x00", "latin1"), "last"];
    const sizes = [0, 1, 4_095, 4_096, 4_097, 70_000];
    const name = (key) => Buffer.concat([Buffer.from("all/"), Buffer.from(key)]);
    const watch = client.watch({ prefix: "all/" }, { start: "now", previous: true });
    await watch.opened;
    const steps = keys.map((key, n) => ({ put: name(key), value: Buffer.alloc(sizes[n], `${n}`) }));
    await client.kv.txn({ then: [...steps, { put: "all/leased", value: "x", lease }] });
    const { entries } = await client.kv.list("all/");
    const told = (await watch.next()).value.events;
    const sorted = told.map((event) => event.entry).sort((a, b) => Buffer.compare(a.keyBytes, b.keyBytes));
    assert.deepEqual(sorted, entries);
    assert.deepEqual(
      sorted.map((entry) => entry.keyBytes),
      entries.map((entry) => entry.keyBytes),
    );
    assert.equal(JSON.stringify(sorted), JSON.stringify(entries));
    assert.ok(told.every((event) => event.type === "put" && event.previous === null && !event.previousForgotten));
    assert.equal(entries.find((entry) => entry.key === "all/leased").lease, lease.id);
    // One key again and again, with what was before it; then all of them gone.
    const before = await client.kv.get(name("🔑"));
    const again = await client.kv.put(name("🔑"), "again");
    const { revision, previous } = await client.kv.delete({ prefix: "all/" }, { previous: true });
    const events = [];
    while (events.length < 1 + previous.length) {
      const { value: update } = await watch.next();
      assert.deepEqual([update.kind, update.folded], ["changes", false]);
      events.push(...update.events);
    }
    const [put, ...deletes] = events;
    assert.deepEqual([put.key, put.revision, put.value.toString()], ["all/🔑", again.revision, "again"]);
    assert.deepEqual(put.previous, before);
    assert.deepEqual(
      deletes.map((event) => [event.type, event.revision, event.keyBytes, event.previous]),
      previous.map((entry) => ["delete", revision, entry.keyBytes, entry]),
    );
    await watch.close();
    await lease.revoke();
  });

  test("a value is the reader's own: to write to, not to take its neighbours with it, and small to keep", async () => {
    const count = 1_000;
    const value = Buffer.alloc(500, "x");
    await Promise.all(Array.from({ length: count }, (_, n) => client.kv.put(`own/${n}`, value)));
    const watch = client.watch({ prefix: "own/" });
    const { events } = (await watch.next()).value;
    assert.equal(events.length, count);
    for (const event of events) assert.ok(event.value.buffer.byteLength <= 128 << 10, "it does not keep all of them");
    await watch.close();
    const few = client.watch({ from: "own/1", to: "own/101" });
    const [one, other] = (await few.next()).value.events;
    one.value.fill("y");
    try {
      structuredClone(one.value.buffer, { transfer: [one.value.buffer] });
    } catch (refused) {
      // Before version 21, Node copies what must not be transferred.
      assert.equal(refused.name, "DataCloneError");
    }
    assert.ok(other.value.equals(value));
    await few.close();
  });

  test("while many events come, timers and sockets have their turn", async () => {
    const watches = Array.from({ length: 20 }, () => client.watch("flood", { start: "now" }));
    await Promise.all(watches.map((watch) => watch.opened));
    const writes = 500;
    await Promise.all(Array.from({ length: writes }, (_, n) => client.kv.put("flood", `${n}`)));
    let turn = 0;
    let most = 0;
    const tick = () => {
      most = Math.max(most, turn);
      turn = 0;
      ticking = setImmediate(tick);
    };
    let ticking = setImmediate(tick);
    const read = async (watch) => {
      let events = 0;
      for await (const update of watch) {
        turn += update.events.length;
        events += update.events.length;
        if (events === writes) return;
      }
    };
    await Promise.all(watches.map(read));
    clearImmediate(ticking);
    assert.ok(most > 0 && most <= 2_600, `${most} events in one turn`);
  });

  test("closing ends what waits, aborting rejects it with the reason, both close it at the server", async () => {
    const quiet = client.watch("quiet", { start: "now" });
    const waiting = quiet.next();
    await quiet.opened;
    await quiet.close();
    assert.deepEqual(await waiting, { done: true, value: undefined });
    await quiet.close();

    const controller = new AbortController();
    const aborted = client.watch("quiet", { start: "now", signal: controller.signal });
    await aborted.opened;
    const rejected = assert.rejects(aborted.next(), /enough/);
    controller.abort(new Error("enough"));
    await rejected;
    await assert.rejects(client.watch("quiet", { signal: AbortSignal.abort(new Error("before")) }).next(), /before/);
    const opening = client.watch("quiet");
    await opening.close();
    await closed();
  });

  test("what cannot be watched is told when it is read, and when its opening is awaited", async () => {
    const wrong = client.watch({ from: "b", to: "a" });
    await assert.rejects(wrong.opened, { code: "HITHER_INVALID_RANGE" });
    await assert.rejects(wrong.next(), { code: "HITHER_INVALID_RANGE" });
    assert.throws(() => client.watch(7), InvalidArgumentError);
    // Nobody looks at this one: it must not end the process as an unhandled rejection.
    client.watch({ from: "b", to: "a" });
    // One that is opened after it has failed when it has, and a turn later it would have been reported.
    await assert.rejects(client.watch({ from: "b", to: "a" }).opened, { code: "HITHER_INVALID_RANGE" });
    await turn();
  });

  test("the standing of leases is told where it is asked for", async () => {
    const lease = await client.lease(10_000);
    await client.kv.put("lively", "x", { lease });
    const watch = client.watch("lively", { liveness: true });
    assert.equal((await watch.next()).value.events[0].entry.lease, lease.id);
    await lease.revoke();
    assert.ok((await watch.next()).value.events.some((event) => event.type === "delete"));
    await watch.close();
  });

  test("that a lease's holder falls silent is told where it is asked for", async () => {
    const watch = client.watch("silent", { liveness: true, start: "now" });
    await watch.opened;
    const { code } = await run(`
      import { connect } from "hither";
      const options = { session_ttl: "4s", beat_interval: "100ms" };
      const client = await connect({ contexts: ${JSON.stringify(server.contexts)}, options });
      const lease = await client.lease(4_000);
      await client.kv.put("silent", lease.id, { lease });
      process.kill(process.pid, "SIGKILL");
    `);
    assert.equal(code, null);
    const seen = [];
    for await (const event of watch.events()) {
      seen.push(event);
      if (event.type === "delete") break;
    }
    assert.deepEqual(
      seen.map(({ type, state }) => state ?? type),
      ["put", "suspect", "delete"],
    );
    const [put, suspect, gone] = seen;
    assert.equal(suspect.lease, put.value.toString());
    assert.ok(put.revision < suspect.revision && suspect.revision < gone.revision);
    assert.equal(JSON.parse(JSON.stringify(suspect)).state, "suspect");
  });

  test("a reader that stops reading costs a bounded amount here, and loses nothing", async () => {
    const watch = client.watch({ prefix: "slow/" }, { start: "now" });
    await watch.opened;
    const value = "x".repeat(1_000);
    const writer = await server.connect();
    const before = process.memoryUsage.rss();
    const writes = 10_000;
    for (let n = 0; n < writes; n += 500) {
      await Promise.all(Array.from({ length: 500 }, (_, i) => writer.kv.put(`slow/${(n + i) % 100}`, value)));
    }
    assert.ok(process.memoryUsage.rss() - before < 32 << 20, "10 MB of events wait at the server, not here");
    let revision = 0n;
    let events = 0;
    while (events < writes) {
      const { value: update } = await watch.next();
      assert.equal(update.kind, "changes");
      for (const event of update.events) {
        assert.ok(event.revision > revision);
        revision = event.revision;
        events += 1;
      }
    }
    await Promise.all([watch.close(), writer.close()]);
  });

  test("a watch that nobody holds any more is closed", async () => {
    await (async () => {
      await client.watch("forgotten", { start: "now" }).opened;
    })();
    await eventually("it is collected", async () => {
      globalThis.gc();
      return client.metrics().watches === 0;
    });
    await closed();
  });

  test("it goes on where it was when the server was killed and came back", async () => {
    const own = await Server.start();
    const ours = await own.connect({ options: { backoff_max: "200ms" } });
    const watch = ours.watch({ prefix: "again/" });
    await ours.kv.put("again/a", "1");
    const seen = [];
    const read = (async () => {
      for await (const event of watch.events()) {
        seen.push(event.entry.text());
        if (seen.length === 2) break;
      }
    })();
    await eventually("the first", () => seen.length === 1);
    await own.stop("SIGKILL");
    await eventually("the client has noticed", () => ours.state !== "connected");
    await own.restart();
    await ours.kv.put("again/a", "2", { timeoutMs: 20_000 });
    await read;
    assert.deepEqual(seen, ["1", "2"]);
    await ours.close();
    await own.remove();
  });
});
