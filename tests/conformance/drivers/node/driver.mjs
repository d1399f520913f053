// The driver of Node: it carries out what the runner says, with the package's public interface, and judges nothing. See
// tests/conformance/README.md.

import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";

const { HITHER_NPM_PROJECT } = process.env;
const require = createRequire(HITHER_NPM_PROJECT ? `${HITHER_NPM_PROJECT}/package.json` : import.meta.url);
const { connect, HitherError } = require("hither");

const handles = new Map();
const underWay = new Map();
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// Values.

const bytes = (value) => (typeof value === "object" ? Buffer.from(value.base64, "base64") : value);
const show = {
  bytes: (value) =>
    Buffer.from(value.toString()).equals(value) ? value.toString() : { base64: value.toString("base64") },
  entry: (entry) =>
    entry && {
      key: entry.key,
      value: show.bytes(entry.value),
      create_revision: Number(entry.createRevision),
      mod_revision: Number(entry.modRevision),
      version: Number(entry.version),
      lease: entry.lease,
    },
  list: (list) => ({ entries: list.entries.map(show.entry), count: list.count, more: list.more }),
  put: ({ revision, previous }) => ({ revision: Number(revision), previous: show.entry(previous ?? null) }),
  deleted: ({ revision, deleted, previous }) => ({
    revision: Number(revision),
    deleted,
    previous: (previous ?? []).map(show.entry),
  }),
  step: (result) => {
    if (result.op === "get") return { entry: show.entry(result.entry) };
    return { list: show.list, put: show.put, delete: show.deleted }[result.op](result);
  },
  event: (event) => {
    const shown = { type: event.type, revision: Number(event.revision) };
    if (event.type === "liveness") return { ...shown, lease: event.lease, state: event.state };
    if (event.previousForgotten) shown.previous = "forgotten";
    else if (event.previous !== undefined) shown.previous = show.entry(event.previous);
    return { ...shown, ...(event.type === "put" ? show.entry(event.entry) : { key: event.key }) };
  },
  update: ({ revision, kind, events, folded }) => ({
    revision: Number(revision),
    kind,
    events: events.map(show.event),
    folded,
  }),
  instance: (instance) => {
    const { startedAt: started_at, epoch, unknown, ...record } = instance;
    const [url, urls] = [instance.url() ?? null, instance.urls()];
    return { ...record, started_at, ...unknown, epoch: Number(epoch), url, urls };
  },
  view: ({ service, revision, state, ageMs, source, instances, invalid }) => ({
    service,
    revision: Number(revision),
    state,
    age_ms: ageMs,
    source,
    instances: instances.map(show.instance),
    invalid,
  }),
  serviceUpdate: ({ view, added, changed, removed }) => ({
    view: show.view(view),
    added: added.map(show.instance),
    changed: changed.map(show.instance),
    removed: removed.map(show.instance),
  }),
  error: (error) => ({
    code: error.name.replace(/Error$/, ""),
    number: error.number,
    retryable: error.retryable,
    applied: error.applied,
    detail: error.message,
    revision: error.revision === undefined ? null : Number(error.revision),
    extra:
      error.known === undefined ? null : { known: error.known, suspect: error.suspect, age_ms: error.ageMs ?? null },
  }),
};

const consistency = (asked) => {
  if (asked?.at_least !== undefined) return { atLeast: BigInt(asked.at_least) };
  return asked?.stale_ms === undefined ? asked : { staleMs: asked.stale_ms };
};
const range = ({ key, prefix, from, to, all }) => {
  if (key !== undefined) return { key };
  if (prefix !== undefined) return { prefix };
  return from === undefined ? { all } : { from, to };
};
const numbers = { version: "version", create_revision: "createRevision", mod_revision: "modRevision" };
const condition = (said) => {
  if (said.empty) return { empty: range(said.empty) };
  if (said.exists !== undefined) return { key: said.key, exists: said.exists };
  if (said.lease !== undefined) return { key: said.key, lease: said.lease };
  const to = said.on === "value" ? bytes(said.to) : BigInt(said.to);
  const related = { "==": to, "!=": { not: to }, "<": { below: to }, ">": { above: to } }[said.is];
  return { key: said.key, [numbers[said.on] ?? "value"]: related };
};
const step = ({ get, list, put, delete: removed }) => {
  if (get) return { get: get.key };
  if (list) return { list: range(list), limit: list.limit, reverse: list.reverse, keysOnly: list.keys_only };
  if (put) return { put: put.key, value: bytes(put.value), lease: put.lease, previous: put.previous };
  return { delete: range(removed), previous: removed.previous };
};
const registration = ({ ttl_ms: ttlMs, timeout_ms: timeoutMs, service: _, ...said }) => ({ ...said, ttlMs, timeoutMs });

/** Waits for `wait_ms` at most for what `next` brings; it takes the signal that ends the wait. */
async function within({ wait_ms: wait }, signal, next) {
  if (wait === undefined) return await next(signal);
  const late = AbortSignal.timeout(wait);
  try {
    return await next(AbortSignal.any([signal, late]));
  } catch (error) {
    if (error === late.reason) return { none: "timeout" };
    throw error;
  }
}

/** What an iterator brings next. */
const read = (iterator, args, signal, shown) =>
  within(args, signal, async (signal) => {
    const { done, value } = await iterator.next({ signal });
    return done ? { none: "end" } : shown(value);
  });

// Operations: each takes the handle it is done on, its arguments, the signal that takes it back, and the new handle's
// name.

const operations = {
  probe: () => ({
    clients: clients().length,
    ops: underWay.size - 1,
    threads: readdirSync("/proc/self/task").length,
    rss_kb: Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]),
    fds: readdirSync("/proc/self/fd").length,
  }),
  cancel: (_, { id }) => {
    const found = underWay.get(id);
    found?.abort(found);
    return { found: found !== undefined };
  },
  reset: async () => {
    await Promise.all(clients().map(({ client }) => client.close()));
    handles.clear();
    return {};
  },
  exit: async ({ client }, { how, calls = 0, key, watch }) => {
    for (let n = 0; n < calls; n++) void client.kv.get(key).catch(() => {});
    if (watch) (await client.watch(key).opened).next().catch(() => {});
    ending = how;
    return { started: calls };
  },
  worker: (_, args) => worker(args),

  connect: async (_, { url, context }, signal, name) => {
    const client = await connect(url, { context, signal });
    // States are told in order; those that nobody has asked for yet wait here.
    handles.set(name, { client, states: client.states(), left: undefined });
    return { state: client.state };
  },
  close: async ({ client }) => (await client.close(), {}),
  release: (_, __, ___, ____, name) => {
    const handle = handles.get(name);
    handles.delete(name);
    handle.release?.();
    setImmediate(collect);
    return {};
  },
  state: ({ client }) => ({ state: client.state }),
  "state.next": (handle, args, signal) =>
    within(args, signal, async (signal) => {
      // A generator has no wait that can be taken back: what was asked for is kept for the next time.
      handle.left ??= handle.states.next();
      const { done, value } = await Promise.race([handle.left, aborted(signal)]);
      handle.left = undefined;
      return done ? { none: "end" } : { state: value };
    }),
  metrics: ({ client }) => {
    const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return Object.fromEntries(Object.entries(client.metrics().toJSON()).map(([name, count]) => [snake(name), count]));
  },

  "kv.get": async ({ client }, { key, consistency: asked, timeout_ms: timeoutMs }, signal) => {
    const entry = await client.kv.get(key, { consistency: consistency(asked), timeoutMs, signal });
    return { entry: show.entry(entry ?? null) };
  },
  "kv.put": async ({ client }, { key, value, lease, previous, timeout_ms: timeoutMs }, signal) =>
    show.put(await client.kv.put(key, bytes(value), { lease, previous, timeoutMs, signal })),
  "kv.delete": async ({ client }, { previous, timeout_ms: timeoutMs, ...keys }, signal) =>
    show.deleted(await client.kv.delete(range(keys), { previous, timeoutMs, signal })),
  "kv.list": async (
    { client },
    { limit, reverse, keys_only: keysOnly, consistency: asked, timeout_ms: timeoutMs, ...keys },
    signal,
  ) =>
    show.list(
      await client.kv.list(range(keys), {
        limit,
        reverse,
        keysOnly,
        consistency: consistency(asked),
        timeoutMs,
        signal,
      }),
    ),
  "kv.txn": async ({ client }, { when = [], then = [], else: otherwise = [], timeout_ms: timeoutMs }, signal) => {
    const txn = { if: when.map(condition), then: then.map(step), else: otherwise.map(step) };
    const { succeeded, revision, results } = await client.kv.txn(txn, { timeoutMs, signal });
    return { succeeded, revision: Number(revision), results: results.map(show.step) };
  },

  "lease.grant": async ({ client }, { ttl_ms: ttlMs, keep = true }, signal, name) => {
    if (!keep) {
      const { id: lease, ttlMs: granted } = await client.leases.grant(ttlMs, { signal });
      return { lease, ttl_ms: granted };
    }
    const lease = await client.lease(ttlMs, { signal });
    handles.set(name, lease);
    return { lease: lease.id, ttl_ms: lease.ttlMs };
  },
  "lease.renew": async ({ client }, { lease }, signal) => ({
    ttl_ms: (await client.leases.renew(lease, { signal })).ttlMs,
  }),
  "lease.revoke": (handle, { lease }, signal) =>
    lease === undefined ? handle.revoke({ signal }) : handle.client.leases.revoke(lease, { signal }),
  "lease.lost": (lease, args, signal) =>
    within(args, signal, async (signal) => {
      if (!lease.lost)
        await Promise.race([
          new Promise((resolve) => lease.signal.addEventListener("abort", resolve)),
          aborted(signal),
        ]);
      return { lost: true };
    }),
  "lease.info": async ({ client }, { lease: asked }, signal) => {
    const { id: lease, ttlMs: ttl_ms, state, keys } = await client.leases.info(asked, { signal });
    return { lease, ttl_ms, state, keys };
  },

  "watch.open": async ({ client }, args, signal, name) => {
    const { start, mode, filter, previous, min_interval_ms: minIntervalMs, timeout_ms: timeoutMs, ...keys } = args;
    const from = start?.after === undefined ? { start } : { after: BigInt(start.after) };
    const latest = mode === "latest";
    const watch = client.watch(range(keys), { ...from, ...filter, latest, previous, minIntervalMs, timeoutMs });
    await opened(watch, signal);
    handles.set(name, watch);
    return { revision: Number(watch.revision) };
  },
  "watch.next": (watch, args, signal) => read(watch, args, signal, show.update),
  "watch.close": async (watch) => (await watch.close(), {}),

  register: async ({ client }, args, signal, name) => {
    const registered = await client.register(args.service, { ...registration(args), signal });
    handles.set(name, registered);
    return { instance: show.instance(registered.instance), epoch: Number(registered.epoch) };
  },
  update: async (registered, { set }, signal) => {
    const instance = await registered.update(set, { signal });
    return { instance: show.instance(instance), epoch: Number(instance.epoch) };
  },
  drain: async (registered, _, signal) => ({ instance: show.instance(await registered.drain({ signal })) }),
  deregister: async (registered, _, signal) => ({ removed: await registered.deregister({ signal }) }),
  "registration.state": (registered) => ({ state: registered.state, epoch: Number(registered.epoch) }),
  "registration.lost": (registered, args, signal) =>
    within(args, signal, async (signal) => (await registered.lost({ signal }), { lost: true })),
  discover: async ({ client }, { service, filter, max_staleness_ms: maxStalenessMs, timeout_ms: timeoutMs }, signal) =>
    show.view(await client.discover(service, { filter, maxStalenessMs, timeoutMs, signal })),
  view: ({ client }, { service }) => {
    const view = client.view(service);
    return { view: view ? show.view(view) : null };
  },
  wait_for: async ({ client }, { service, count, filter, timeout_ms: timeoutMs }, signal) =>
    show.view(await client.waitFor(service, count, { filter, timeoutMs, signal })),
  pick: ({ client }, { service, policy, filter, times = 1 }) => {
    const options = { policy: policy === "random" ? "random" : "roundRobin", filter };
    const picked = Array.from({ length: times }, () => client.pick(service, options));
    return { ids: picked.map(({ id }) => id), instance: show.instance(picked.at(-1)) };
  },
  "service.watch.open": async (
    { client },
    { service, filter, min_interval_ms: minIntervalMs, timeout_ms: timeoutMs },
    signal,
    name,
  ) => {
    const watch = client.watchService(service, { filter, minIntervalMs, timeoutMs });
    await opened(watch, signal);
    handles.set(name, watch);
    return {};
  },
  "service.watch.next": (watch, args, signal) => read(watch, args, signal, show.serviceUpdate),
  "service.watch.close": async (watch) => (await watch.close(), {}),
};

const clients = () => [...handles.values()].filter((handle) => handle.client && handle.client.state !== "closed");

const aborted = (signal) =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
  });

/** A watch that is taken back while it opens is closed. */
async function opened(watch, signal) {
  try {
    await Promise.race([watch.opened, aborted(signal)]);
  } catch (error) {
    await watch.close();
    throw error;
  }
}

/** What nobody holds any more goes now. */
function collect() {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
}

function worker({ url, context, key, terminate }) {
  const project = JSON.stringify(`${HITHER_NPM_PROJECT}/package.json`);
  const script = `
    const { connect } = require("node:module").createRequire(${project})("hither");
    const { parentPort } = require("node:worker_threads");
    const { url, context, key, terminate } = ${JSON.stringify({ url, context, key, terminate })};
    (async () => {
      const client = await connect(url, { context });
      const entry = await client.kv.get(key);
      const watch = client.watch(key);
      await watch.next();
      parentPort.postMessage(entry);
      if (terminate) return await watch.next();
      await watch.close();
      await client.close();
    })();`;
  return new Promise((resolve, reject) => {
    const worker = new Worker(script, { eval: true });
    let entry = null;
    worker.on("error", reject);
    worker.on("message", (read) => {
      const { createRevision: create_revision, modRevision: mod_revision, value, version, lease } = read;
      const numbers = { create_revision, mod_revision, version };
      for (const name in numbers) numbers[name] = Number(numbers[name]);
      entry = { key, value: Buffer.from(value).toString(), ...numbers, lease };
      if (terminate) worker.terminate();
    });
    worker.on("exit", (exit) => resolve({ entry, exit }));
  });
}

// The process.

let ending;

async function answer({ id, op, on, as, args = {} }) {
  const controller = new AbortController();
  underWay.set(id, controller);
  let line;
  try {
    const operation = operations[op];
    const handle = on === undefined ? undefined : handles.get(on);
    if (operation === undefined) line = { unsupported: `there is no ${op}` };
    else line = { ok: await operation(handle, args, controller.signal, as, on) };
  } catch (error) {
    if (error === controller) line = { cancelled: true };
    else if (error instanceof HitherError) line = { err: show.error(error) };
    else line = { crash: String(error?.stack ?? error) };
  }
  underWay.delete(id);
  say({ id, ...line });
  if (ending === undefined) return;
  if (ending === "exit") process.exit(0);
  if (ending === "raise")
    setImmediate(() => {
      throw new Error("told to");
    });
  // To return is to have nothing more to do: what is under way then keeps nobody.
  clients().forEach(({ client }) => client.unref());
  lines.close();
  process.stdin.destroy();
}

const goodbye = () => Promise.all(clients().map(({ client }) => client.close()));
process.once("SIGINT", () => void goodbye().then(() => process.exit(130)));

const { version } = require("hither/package.json");
say({ hello: { protocol: 1, language: "node", version, ops: Object.keys(operations) } });
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => void answer(JSON.parse(line)));
lines.on("close", () => {
  if (ending === undefined) void goodbye();
});
