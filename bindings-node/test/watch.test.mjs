import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";

import { InvalidArgumentError } from "hither";

import { eventually, gauge, Server } from "./support.mjs";

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
