// What tests share: a real node for each file, a client of it, and waiting with a deadline.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import { connect } from "hither";

/** Whatever ends a test file, its servers end with it. */
const running = new Set();
process.on("exit", () => running.forEach((server) => server.kill("SIGKILL")));
process.once("SIGTERM", () => process.exit(1));

/** `hither dev` on a free port with a folder of its own. */
export class Server {
  static async start(context = {}) {
    const server = new Server();
    server.root = mkdtempSync(join(tmpdir(), "hither-node-"));
    // Nothing else: a server takes what begins with HITHER_NODE_ for a setting of its own.
    server.environment = { PATH: process.env.PATH, XDG_CONFIG_HOME: join(server.root, "config") };
    await server.run("0");
    context.after?.(() => server.remove());
    return server;
  }

  async run(port) {
    const data = join(this.root, "data");
    this.process = spawn(process.env.HITHER_BIN, ["dev", "--data", data, "--port", port], {
      env: this.environment,
      stdio: ["ignore", "pipe", "ignore"],
    });
    running.add(this.process);
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    for await (const line of createInterface({ input: this.process.stdout })) {
      assert.match(line, /^ready /, "the server is ready");
      this.ready = line;
      break;
    }
    this.process.stdout.resume();
  }

  get contexts() {
    return join(this.root, "config", "hither");
  }

  /** The client port. */
  get port() {
    return Number(/client=\S+:(\d+)/.exec(this.ready)[1]);
  }

  connect(options = {}) {
    return connect({ contexts: this.contexts, ...options });
  }

  /** Ends the process; its data stays. */
  async stop(signal = "SIGTERM") {
    this.process.kill(signal);
    await this.ended;
  }

  /** Stops it from doing anything, until it is told to go on. */
  async pause() {
    this.process.kill("SIGSTOP");
    const stat = `/proc/${this.process.pid}/stat`;
    await eventually("it is stopped", () => readFileSync(stat, "utf8").split(") ")[1].startsWith("T"));
  }

  go() {
    this.process.kill("SIGCONT");
  }

  /** Starts it again where it was. */
  async restart() {
    await this.run(String(this.port));
  }

  async remove() {
    if (this.process.exitCode === null && this.process.signalCode === null) await this.stop("SIGKILL");
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Asks until it is so. */
export async function eventually(what, ask, within = 10_000) {
  const deadline = Date.now() + within;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    assert.ok(Date.now() < deadline, `within ${within} ms: ${what}`);
    await sleep(10);
  }
}

let scripts = 0;

/**
 * Runs a script in a process of its own. Returns its exit code, what it printed, and how long it took. A `signal` is sent
 * when it has printed `now`; then also when that was, and how long the end took from there.
 */
export async function run(script, { env = {}, args = [], signal } = {}) {
  // A file of the project, so that it finds the installed package as anyone's would.
  const file = join(import.meta.dirname, "..", `script-${process.pid}-${++scripts}.mjs`);
  writeFileSync(file, script);
  const begin = performance.now();
  const child = spawn(process.execPath, [...args, file], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  let signalled;
  child.stdout.setEncoding("utf8").on("data", (text) => {
    out += text;
    if (!signal || signalled || !out.includes("now\n")) return;
    signalled = performance.now();
    child.kill(signal);
  });
  child.stderr.setEncoding("utf8").on("data", (text) => (err += text));
  const timer = setTimeout(() => child.kill("SIGKILL"), 30_000);
  const [code, killed] = await new Promise((resolve) => child.once("close", (...how) => resolve(how)));
  const end = performance.now();
  clearTimeout(timer);
  rmSync(file);
  return { code, signal: killed, out, err, took: end - begin, signalled, ending: end - signalled };
}

/** A gauge or counter of the server's own. */
export async function gauge(server, name) {
  const admin = /admin=(\S+)/.exec(server.ready)[1];
  const metrics = await (await fetch(`${admin}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(metrics)?.[1]);
}
