// How a process that uses the package ends: each script runs in a process of its own.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Worker } from "node:worker_threads";
import { readdirSync } from "node:fs";

import { eventually, gauge, run, Server } from "./support.mjs";

const RUNS = Number(process.env.HITHER_EXIT_RUNS ?? 20);
const OPENS = Number(process.env.HITHER_OPEN_RUNS ?? 20);
const WORKERS = Number(process.env.HITHER_WORKER_RUNS ?? 20);

describe("the end of a process", () => {
  let server, env;
  before(async () => {
    server = await Server.start();
    env = { XDG_CONFIG_HOME: server.environment.XDG_CONFIG_HOME, HITHER_URL: "" };
  });
  after(() => server.remove());

  const start = 'import { connect } from "hither"; const client = await connect();';
  const clean = (result, code = 0) => assert.deepEqual([result.code, result.signal, result.err], [code, null, ""]);

  test("an idle client does not keep it, what is awaited at the top does", async () => {
    const result = await run(
      `${start} await client.kv.put("a", "b"); console.log((await client.kv.get("a")).text());`,
      {
        env,
      },
    );
    clean(result);
    assert.equal(result.out, "b\n");
    assert.ok(result.took < 5_000, `${result.took} ms`);
  });

  test("a call that nobody awaits is still made", async () => {
    clean(await run(`${start} client.kv.put("unawaited", "x").then(() => console.log("done"));`, { env }));
    const client = await server.connect();
    assert.equal((await client.kv.get("unawaited")).text(), "x");
    await client.close();
  });

  test("an open watch, a lease and a wait for a state keep it; unref lets go, ref takes hold again", async () => {
    const later = "setTimeout(() => { console.log('still'); process.exit(7); }, 300).unref();";
    for (const hold of [
      'client.watch("a", { start: "now" });',
      "await client.lease(10_000);",
      "void client.states().next();",
      'client.unref(); client.watch("a"); client.ref();',
    ]) {
      const result = await run(`${start} ${hold} ${later}`, { env });
      assert.deepEqual([result.code, result.out, result.err], [7, "still\n", ""], hold);
    }
    for (const free of [
      'client.watch("a"); client.unref();',
      'client.unref(); client.watch("a").next(); await 0;',
      "const lease = await client.lease(10_000); await lease.revoke();",
      "const lease = await client.lease(10_000); lease.release();",
      'const watch = client.watch("a"); await watch.next(); await watch.close();',
      'for await (const _ of client.watch("a")) break;',
    ]) {
      const result = await run(`${start} ${free} ${later}`, { env });
      assert.deepEqual([result.code, result.out, result.err], [0, "", ""], free);
    }
  });

  test(`${RUNS} times it ends with calls in flight, a watch and a lease: code 0, nothing on stderr`, async () => {
    const script = `${start}
      await client.kv.put("a", "b", { lease: await client.lease(10_000) });
      client.watch("a").next();
      for (let n = 0; n < 500; n++) void client.kv.get("a").catch(() => {});
      setTimeout(() => process.exit(0), Math.random() * 20);`;
    for (let n = 0; n < RUNS; n++) clean(await run(script, { env }));
  });

  test("an exception that nobody catches ends it as it should", async () => {
    const result = await run(`${start} client.watch("a"); client.kv.get("a"); throw new Error("mine");`, { env });
    assert.equal(result.code, 1);
    assert.match(result.err, /Error: mine/);
  });

  test("a signal ends it within 0.3 s, in a watch and 100 calls; closeOnSignal takes what it registered along", async () => {
    const client = await server.connect();
    const busy = (more) => `${start} ${more}
      await client.register("signalled", { port: 80, address: "h" });
      const watch = await client.watch("never", { start: "now" }).opened;
      void watch.next();
      const calls = async () => { for (;;) await client.kv.get("k"); };
      for (let n = 0; n < 100; n++) void calls().catch(() => {});
      console.log("now");`;
    // When others saw the instance come, and then go.
    const seen = async () => {
      let came = false;
      for await (const { view } of client.watchService("signalled")) {
        if (came && view.length === 0) return performance.now();
        came ||= view.length > 0;
      }
    };
    const signalled = async (more, signal) => {
      const gone = more === "" ? undefined : seen();
      const result = await run(busy(more), { env, signal });
      assert.equal(result.err, "");
      assert.ok(result.ending < 300, `${more || signal}: it ended ${result.ending} ms after the signal`);
      if (gone) {
        const took = (await gone) - result.signalled;
        assert.ok(took < 1_000, `${more}: what it registered was gone after ${took} ms`);
      }
      return result;
    };
    assert.equal((await signalled("client.closeOnSignal();", "SIGINT")).signal, "SIGINT");
    const handled = await signalled(
      "client.closeOnSignal(); process.on('SIGTERM', () => client.close().then(() => process.exit(3)));",
      "SIGTERM",
    );
    assert.equal(handled.code, 3);
    // The last: its instance stays for its time to live.
    assert.equal((await signalled("", "SIGINT")).signal, "SIGINT");
    await client.close();
  });

  test(`${WORKERS} workers load it, use it and are terminated`, async () => {
    const script = `
      const { parentPort } = require("node:worker_threads");
      const { connect } = require("hither");
      (async () => {
        const client = await connect({ contexts: ${JSON.stringify(server.contexts)} });
        const lease = await client.lease(10_000);
        await client.kv.put("worker", "x", { lease });
        const watch = client.watch("worker");
        await watch.next();
        for (let n = 0; n < 100; n++) void client.kv.get("worker").catch(() => {});
        parentPort.postMessage("used");
        void watch.next();
      })().catch((error) => parentPort.postMessage(String(error)));`;
    for (let n = 0; n < WORKERS; n++) {
      const worker = new Worker(script, { eval: true });
      const said = await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
      assert.equal(said, "used");
      assert.equal(await worker.terminate(), 1);
    }
    await eventually(
      "the server has let go of them",
      async () => (await gauge(server, "hither_connections")) === 0,
      20_000,
    );
  });

  test("a process whose workers alone use it ends cleanly", async () => {
    const result = await run(
      `import { Worker } from "node:worker_threads";
       for (let n = 0; n < 5; n++) {
         const worker = new Worker(
           'import("hither").then(({ connect }) => connect()).then((client) => client.kv.get("a")).then(() => process.exit(5))',
           { eval: true },
         );
         console.log(await new Promise((resolve) => worker.once("exit", resolve)));
       }`,
      { env },
    );
    clean(result);
    assert.equal(result.out, "5\n".repeat(5));
  });

  test(`${OPENS} times it is opened and closed: memory, threads and descriptors stay`, async () => {
    const once = async () => {
      const client = await server.connect();
      await client.kv.get("a");
      const watch = client.watch("a");
      await watch.next();
      await client.close();
    };
    const measure = () => ({
      rss: process.memoryUsage.rss(),
      threads: readdirSync("/proc/self/task").length,
      descriptors: readdirSync("/proc/self/fd").length,
    });
    for (let n = 0; n < 10; n++) await once();
    globalThis.gc();
    const first = measure();
    for (let n = 0; n < OPENS; n++) await once();
    globalThis.gc();
    await eventually("descriptors are back", () => measure().descriptors <= first.descriptors);
    const last = measure();
    assert.equal(last.threads, first.threads);
    assert.ok(last.rss - first.rss < 32 << 20, `${first.rss} to ${last.rss} bytes`);
    if (process.env.HITHER_OPEN_RUNS) console.log({ first, last });
  });
});
