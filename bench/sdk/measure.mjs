// One run of the Node client of Hither, or of etcd3: prints one JSON object. Started by `scripts/bench-sdk`.
//
//   node measure.mjs hither hither://127.0.0.1:7400
//   node measure.mjs etcd 127.0.0.1:2379
//   node measure.mjs finding hither://127.0.0.1:7400
//   node measure.mjs hither hither://127.0.0.1:7400 live=5000
import { monitorEventLoopDelay } from "node:perf_hooks";
import { readdirSync } from "node:fs";

const IN_FLIGHT = 256;
const SECONDS = 3;
const WATCHERS = 100;
const PUTS = 1_000;
const WRITERS = 64;
const LIVE_WATCHERS = 20;
const VALUE = Buffer.alloc(256, "v");

const threads = () => readdirSync("/proc/self/task").length;
const threadsBefore = threads();

/** Calls per second and microseconds of this process's CPU per call, with so many under way at all times. */
async function closedLoop(call) {
  let calls = 0;
  const begin = performance.now();
  const cpu = process.cpuUsage();
  // Told when it is over, rather than asking each time: what this loop costs is counted too.
  let over = false;
  setTimeout(() => (over = true), SECONDS * 1e3);
  const caller = async (number) => {
    while (!over) {
      await call(number);
      calls += 1;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, (_, number) => caller(number)));
  const used = process.cpuUsage(cpu);
  return [calls / ((performance.now() - begin) / 1e3), (used.user + used.system) / calls];
}

/** Events per second and CPU per event, from the first write until every watcher of one key has all of them. */
async function fanOut(target) {
  const watchers = [];
  for (let count = 0; count < WATCHERS; count += 1) watchers.push(await target.watch());
  const cpu = process.cpuUsage();
  const begin = performance.now();
  const writer = async (lane) => {
    for (let number = lane; number < PUTS; number += WRITERS) await target.record(number);
  };
  await Promise.all([...Array.from({ length: WRITERS }, (_, lane) => writer(lane)), ...watchers.map((read) => read())]);
  const used = process.cpuUsage(cpu);
  const events = PUTS * WATCHERS;
  return [events / ((performance.now() - begin) / 1e3), (used.user + used.system) / events];
}

async function hither(address, options = {}) {
  const { connect } = await import("hither");
  const client = await connect(address, options);
  return {
    /** A client whose watches have a stream each, where identical ones share one unless told not to. */
    alone: () => hither(address, { options: { share_watches: "false" } }),
    get: (number) => client.kv.get(`bench/${number}`),
    put: (number) => client.kv.put(`bench/${number}`, VALUE),
    record: (number) => client.kv.put("watched", VALUE),
    /** With the state first, as it is unless told otherwise: only such watches can share a stream. */
    async watch() {
      const before = (await client.kv.get("watched"))?.modRevision ?? 0n;
      const updates = await client.watch("watched").opened;
      return async () => {
        let seen = 0;
        for await (const update of updates) {
          for (const event of update.events) seen += event.revision > before && event.entry.value.length > 0 ? 1 : 0;
          if (seen === PUTS) return;
        }
      };
    },
    /** Twenty watchers of one key, until each has so many events. */
    async live(count) {
      const watches = [];
      for (let number = 0; number < LIVE_WATCHERS; number += 1) watches.push(await client.watch("live", { start: "now" }));
      console.error("watching");
      await Promise.all(
        watches.map(async (updates) => {
          let seen = 0;
          for await (const update of updates) {
            seen += update.events.length;
            if (seen >= count) return;
          }
        }),
      );
    },
    close: () => client.close(),
  };
}

async function etcd(address) {
  const { Etcd3 } = await import("etcd3");
  const client = new Etcd3({ hosts: address });
  const open = [];
  return {
    get: (number) => client.get(`bench/${number}`).buffer(),
    put: (number) => client.put(`bench/${number}`).value(VALUE),
    record: (number) => client.put("watched").value(VALUE),
    async watch() {
      const watcher = await client.watch().key("watched").create();
      open.push(watcher);
      return () =>
        new Promise((resolve) => {
          let seen = 0;
          watcher.on("put", (kv) => {
            seen += kv.value.length > 0 ? 1 : 0;
            if (seen === PUTS) resolve();
          });
        });
    },
    // Closed while it watches, it would keep the process for ever.
    async close() {
      await Promise.all(open.map((watcher) => watcher.cancel()));
      client.close();
    },
  };
}

/** What a pick costs, in nanoseconds, of a service with 16 instances. */
async function finding(address) {
  const { connect } = await import("hither");
  const client = await connect(address);
  for (let number = 0; number < 16; number += 1) {
    await client.register("picked", { id: `i${number}`, endpoints: [`http://10.0.0.${number + 1}:80`], permanent: true });
  }
  await client.waitFor("picked", 16);
  const calls = 200_000;
  for (let call = 0; call < calls; call += 1) client.pick("picked");
  const begin = process.hrtime.bigint();
  for (let call = 0; call < calls; call += 1) client.pick("picked");
  console.log(JSON.stringify({ "pick ns": Number(process.hrtime.bigint() - begin) / calls }));
  await client.close();
  process.exit();
}

const [system, address, workload] = process.argv.slice(2);
if (system === "finding") await finding(address);
const target = await (system === "hither" ? hither : etcd)(address);
if (workload?.startsWith("live=")) {
  // Somebody else writes 1,000 times a second; how late does the event loop become?
  const count = Number(workload.slice(5));
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  await target.live(count);
  delay.disable();
  console.log(JSON.stringify({ "event loop delay p99 ms": delay.percentile(99) / 1e6 }));
} else {
  const puts = await closedLoop(target.put);
  const gets = await closedLoop(target.get);
  const busy = threads() - threadsBefore;
  const events = await fanOut(target);
  const figures = {
    "puts/s": puts[0],
    "CPU us/put": puts[1],
    "gets/s": gets[0],
    "CPU us/get": gets[1],
    "events/s": events[0],
    "CPU us/event": events[1],
    threads: busy,
  };
  if (target.alone) {
    const other = await target.alone();
    const [perSecond, cpu] = await fanOut(other);
    figures["events/s, a stream each"] = perSecond;
    figures["CPU us/event, a stream each"] = cpu;
    await other.close();
  }
  console.log(JSON.stringify(figures));
}
await target.close();
