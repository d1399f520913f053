import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { InvalidNameError, NoInstancesError, ServiceView, TimeoutError } from "hither";

import { eventually, gauge, run, Server } from "./support.mjs";

describe("the registry", () => {
  let server, client, other;
  before(async () => {
    server = await Server.start();
    [client, other] = await Promise.all([server.connect(), server.connect()]);
  });
  after(async () => {
    await Promise.all([client.close(), other.close()]);
    await server.remove();
  });
  const ids = (view) => view.instances.map((instance) => instance.id);

  test("what is registered is found, with all that it said", async () => {
    const said = {
      id: "a",
      port: 8080,
      version: "1.2",
      tags: ["blue"],
      metadata: { team: "red" },
      zone: "z",
      region: "r",
      weight: 2,
    };
    const registered = await client.register("all", said);
    assert.equal(registered.state, "registered");
    const view = await other.discover("all");
    assert.ok(view instanceof ServiceView);
    const [found] = view;
    assert.deepEqual(
      [view.service, view.state, view.source, view.invalid, view.length],
      ["all", "synced", "live", [], 1],
    );
    assert.deepEqual(
      [found.service, found.id, found.version, found.tags, found.metadata, found.zone, found.region, found.weight],
      ["all", "a", "1.2", ["blue"], { team: "red" }, "z", "r", 2],
    );
    assert.deepEqual(
      [found.status, found.url(), found.urls()],
      ["passing", "http://127.0.0.1:8080", ["http://127.0.0.1:8080"]],
    );
    assert.equal(found.epoch, registered.epoch);
    assert.ok(view.ageMs < 5_000);
    assert.ok(!Number.isNaN(Date.parse(found.startedAt)));
    const json = JSON.parse(JSON.stringify(view));
    assert.deepEqual([json.instances[0].id, json.instances[0].epoch], ["a", Number(found.epoch)]);
    assert.equal(typeof json.ageMs, "number");
    assert.deepEqual(await other.services(), new Map([["all", 1]]));
    assert.equal(await registered.deregister(), true);
    assert.equal(registered.state, "deregistered");
    await registered.lost();
    await eventually("it is gone", () => other.view("all").length === 0);
    assert.ok(await client.kv.get("stopped/all/a"), "it left word");
  });

  test("a record is changed, drained, and taken out when its block is left", async () => {
    const registered = await client.register("change", { endpoints: ["grpc://[::1]:9000", "10.0.0.1:80"] });
    assert.deepEqual(registered.instance.urls(), ["grpc://[::1]:9000", "http://10.0.0.1:80"]);
    const changed = await registered.update({ weight: 7, tags: ["x"], metadata: { a: "1" }, status: "warning" });
    assert.deepEqual(
      [changed.weight, changed.tags, changed.status, changed.endpoints.length],
      [7, ["x"], "warning", 2],
    );
    assert.equal((await registered.drain()).status, "draining");
    await assert.rejects(registered.update({ endpoints: ["nowhere"] }), { code: "HITHER_INVALID_ARGUMENT" });
    await assert.rejects(registered.update({ weight: -1 }), /weight/);
    const view = await client.discover("change");
    assert.equal(view.instances[0].status, "draining");
    assert.throws(() => client.pick("change"), NoInstancesError);
    await registered[Symbol.asyncDispose]();
    assert.equal((await client.discover("change")).length, 0, "its own change is in its view");
  });

  test("views share what did not change, and filters choose", async () => {
    await client.register("filter", { id: "a", port: 1, zone: "z1", tags: ["blue", "fast"], version: "1" });
    await client.register("filter", { id: "c", port: 3, zone: "z2", tags: ["blue"], metadata: { team: "red" } });
    const before = await client.discover("filter");
    assert.equal(client.view("filter"), before, "nothing changed");
    await client.register("filter", { id: "b", port: 2, zone: "z2" });
    const view = await client.discover("filter");
    assert.deepEqual(
      [ids(before), ids(view)],
      [
        ["a", "c"],
        ["a", "b", "c"],
      ],
    );
    assert.equal(view.instances[0], before.instances[0]);
    assert.equal(view.instances[2], before.instances[1]);
    const chosen = async (filter) => ids(await client.discover("filter", { filter }));
    assert.deepEqual(await chosen({ tags: "blue" }), ["a", "c"]);
    assert.deepEqual(await chosen({ tags: ["blue", "fast"] }), ["a"]);
    assert.deepEqual(await chosen({ zone: ["z1", "z2"], metadata: { team: "red" } }), ["c"]);
    assert.deepEqual(await chosen({ version: "1", status: "passing" }), ["a"]);
    assert.deepEqual(await chosen({ region: "x" }), []);
    await assert.rejects(client.discover("filter", { filter: { tags: [1] } }), /tags of a filter/);
    await assert.rejects(client.discover("No Name"), InvalidNameError);
    assert.throws(() => client.service("No Name"), InvalidNameError);
  });

  test("picks take turns, are weighted at random, and go by a filter", async () => {
    await Promise.all(
      ["a", "b", "c"].map((id, n) =>
        client.register("pick", { id, port: n + 1, weight: id === "c" ? 98 : 1, zone: id }),
      ),
    );
    await other.waitFor("pick", 3);
    const turns = Array.from({ length: 6 }, () => other.pick("pick").id);
    assert.deepEqual([...turns.slice(0, 3)].sort(), ["a", "b", "c"]);
    assert.deepEqual(turns.slice(3), turns.slice(0, 3));
    const random = { policy: "random" };
    const often = Array.from({ length: 300 }, () => other.pick("pick", random).id).filter((id) => id === "c").length;
    assert.ok(often > 250, `${often} of 300`);
    const only = { filter: { zone: ["a", "b"] } };
    const some = new Set(Array.from({ length: 10 }, () => other.pick("pick", only).id));
    assert.deepEqual([...some].sort(), ["a", "b"]);
    assert.throws(() => other.pick("pick", { policy: "best" }), /policy/);
    // Another instance is picked as soon as the view has it, without anyone asking for the view.
    await client.register("pick", { id: "d", port: 4 });
    await eventually("it has its turn", () => other.pick("pick").id === "d");
  });

  test("who has nobody to talk to is told what is known", async () => {
    const unknown = (() => {
      try {
        client.pick("nobody");
      } catch (error) {
        return error;
      }
    })();
    assert.ok(unknown instanceof NoInstancesError);
    assert.deepEqual([unknown.code, unknown.known, unknown.suspect], ["HITHER_NO_INSTANCES", 0, 0]);
    assert.ok(
      unknown.ageMs === undefined || unknown.ageMs < 1_000,
      "nothing is known yet, unless the answer was quick",
    );
    await eventually("the pick has subscribed", () => client.view("nobody"));
    const waiting = client.waitFor("nobody", 1, { timeoutMs: 100 });
    await assert.rejects(waiting, TimeoutError);
    await assert.rejects(client.waitFor("nobody", 1, { signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
    assert.equal(client.view("never-asked-for"), undefined);
  });

  test("a service held is kept up to date", async () => {
    const service = client.service("held");
    const ready = service.ready(2);
    await Promise.all([other.register("held", { id: "1", port: 1 }), other.register("held", { id: "2", port: 2 })]);
    assert.deepEqual(ids(await ready), ["1", "2"]);
    assert.equal(service.name, "held");
    assert.deepEqual(ids(service.view()), ["1", "2"]);
    assert.ok(service.pick().url());
    assert.equal((await service.discover()).length, 2);
    for await (const update of service.watch()) {
      assert.equal(update.added.length, 2);
      break;
    }
    service.close();
  });

  test("a watch tells the state, then each difference, and what no filter lets through any more as removed", async () => {
    const [watch, blue] = [
      client.watchService("watched"),
      client.watchService("watched", { filter: { tags: "blue" } }),
    ];
    const next = async (of = watch) => {
      const { value: update } = await of.next();
      return [update.added, update.changed, update.removed].map((list) => list.map((instance) => instance.id));
    };
    assert.deepEqual(await next(), [[], [], []], "the first is the state, even if there is nothing in it");
    await next(blue);
    const a = await other.register("watched", { id: "a", port: 1, tags: ["blue"] });
    assert.deepEqual(await next(), [["a"], [], []]);
    assert.deepEqual(await next(blue), [["a"], [], []]);
    await a.update({ tags: [] });
    assert.deepEqual(await next(), [[], ["a"], []]);
    assert.deepEqual(await next(blue), [[], [], ["a"]]);
    await a.deregister();
    assert.deepEqual(await next(), [[], [], ["a"]]);
    const last = watch.next();
    await Promise.all([watch.close(), blue.close()]);
    assert.ok((await last).done);
    assert.ok(JSON.stringify(await client.discover("watched")).includes('"instances":[]'));
  });

  test("differences add up to the view, whatever happens", async () => {
    const watch = client.watchService("churn");
    const live = new Map();
    let seen = [];
    const registered = new Map();
    let view;
    const read = (async () => {
      for await (const update of watch) {
        for (const instance of [...update.added, ...update.changed]) live.set(instance.id, instance);
        for (const instance of update.removed) assert.ok(live.delete(instance.id));
        view = update.view;
        seen = ids(view);
        assert.deepEqual(seen, [...live.keys()].sort());
        if (live.has("end")) break;
      }
    })();
    for (let n = 0; n < 120; n++) {
      const id = String((n * 7) % 20);
      const known = registered.get(id);
      if (known && n % 3 === 0) {
        await known.deregister();
        registered.delete(id);
      } else if (known) await known.update({ weight: n });
      else registered.set(id, await other.register("churn", { id, port: 1 }));
    }
    await other.register("churn", { id: "end", port: 1 });
    await read;
    assert.deepEqual(seen, [...registered.keys(), "end"].sort());
    assert.deepEqual(ids(await client.discover("churn")), seen);
  });

  test("a record that cannot be read is shown, not skipped", async () => {
    await client.kv.put("services/broken/x", "{");
    const view = await client.discover("broken");
    assert.deepEqual([view.length, view.invalid.length, view.invalid[0].key], [0, 1, "services/broken/x"]);
    await client.kv.put("services/broken/y", JSON.stringify({ schema: 1, service: "broken", id: "y", colour: "red" }));
    await eventually("the other is there", () => client.view("broken").length === 1);
    assert.deepEqual(client.view("broken").instances[0].unknown, { colour: "red" });
  });

  test("a registration ends with its process, and keeps it until then", async () => {
    const env = { XDG_CONFIG_HOME: server.environment.XDG_CONFIG_HOME, HITHER_URL: "" };
    const script = `import { connect } from "hither";
      const client = await connect(); client.closeOnSignal();
      await client.register("process", { id: "p", port: 1 });
      console.log("now");`;
    const seen = client.waitFor("process", 1, { timeoutMs: 10_000 });
    const ended = run(script, { env, signal: "SIGTERM" });
    await seen;
    assert.equal((await ended).signal, "SIGTERM");
    assert.equal((await ended).err, "");
    await eventually(
      "it is gone at once, not after its time to live",
      () => client.view("process").length === 0,
      2_000,
    );
  });

  test("discovery goes on answering without a server, and says how old the answer is; what was lost is declared again", async () => {
    const own = await Server.start();
    const options = { backoff_max: "200ms", beat_interval: "100ms", session_ttl: "2s" };
    const [finder, service] = await Promise.all([own.connect({ options }), own.connect({ options })]);
    const registered = await service.register("survivor", { id: "s", port: 1, ttlMs: 2_000 });
    await finder.waitFor("survivor");
    const sizes = [];
    const watch = finder.watchService("survivor");
    const read = (async () => {
      for await (const update of watch) sizes.push([update.view.state, update.view.length]);
    })();
    await own.stop("SIGKILL");
    await eventually("it is known to be old", async () => (await finder.discover("survivor")).state === "offline");
    const { epoch } = registered;
    await registered.lost();
    assert.equal(registered.state, "lost");
    assert.equal(finder.pick("survivor").id, "s");
    assert.ok((await finder.discover("survivor")).ageMs > 300);
    await assert.rejects(finder.discover("survivor", { maxStalenessMs: 10, timeoutMs: 50 }), {
      code: "HITHER_TOO_STALE",
    });
    await own.restart();
    await eventually("it is registered again", () => registered.state === "registered", 20_000);
    await eventually("the view is live again", () => finder.view("survivor").state === "synced", 20_000);
    assert.ok(
      sizes.every(([, size]) => size === 1),
      `no update ever showed an empty service: ${JSON.stringify(sizes)}`,
    );
    assert.ok(registered.epoch >= epoch);
    await Promise.all([finder.close(), service.close()]);
    await read;
    await own.remove();
  });

  test("a large service is loaded, and picking out of it is local", async () => {
    const count = 2_000;
    const record = (n) =>
      JSON.stringify({
        schema: 1,
        service: "large",
        id: `i${String(n).padStart(5, "0")}`,
        endpoints: [{ scheme: "http", host: "10.0.0.1", port: 80 }],
      });
    for (let n = 0; n < count; n += 200) {
      const then = Array.from({ length: 200 }, (_, i) => ({
        put: `services/large/i${String(n + i).padStart(5, "0")}`,
        value: record(n + i),
      }));
      await client.kv.txn({ then });
    }
    assert.equal((await other.discover("large")).length, count);
    const requests = other.metrics().requests;
    const picked = new Set(Array.from({ length: count }, () => other.pick("large").id));
    assert.equal(picked.size, count);
    assert.equal(other.metrics().requests, requests);
  });

  test("nothing is left open at the server", async () => {
    await Promise.all([client.close(), other.close()]);
    await eventually("no watch is open", async () => (await gauge(server, "hither_watches")) === 0);
    await eventually("no session is left", async () => (await gauge(server, "hither_sessions")) === 0);
  });
});
