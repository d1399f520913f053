/**
 * A real server for tests: its own folder, its own port, gone when the test is.
 *
 * @packageDocumentation
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { type Client, connect, type ConnectOptions } from "./client";

export interface StartServerOptions {
  /**
   * The program `hither`. Default: `HITHER_BIN`, then that of the npm package `hither-server` if it is installed, then
   * `hither` in the `PATH`.
   */
  binary?: string | undefined;
  /** More arguments of `hither dev`. */
  args?: readonly string[] | undefined;
  /** How long it may take to be ready. Default 30,000. */
  timeoutMs?: number | undefined;
}

/** Servers that run now: they end with this process, however it ends. */
const running = new Set<TestServer>();
process.on("exit", () => running.forEach((server) => server.kill()));

/**
 * Starts `hither dev` with an empty folder on a free port.
 *
 * ```ts
 * await using server = await startServer();
 * const client = await server.connect();
 * ```
 */
export async function startServer(options: StartServerOptions = {}): Promise<TestServer> {
  const binary = options.binary ?? process.env.HITHER_BIN ?? (await installed()) ?? "hither";
  const folder = await mkdtemp(join(tmpdir(), "hither-test-"));
  const server = new TestServer(binary, folder, options.args ?? []);
  running.add(server);
  try {
    await server.ready(options.timeoutMs ?? 30_000);
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function installed(): Promise<string | undefined> {
  // Not a literal: bundlers and compilers need not find what is optional.
  const name = "hither-server";
  const found = (await import(name).catch(() => undefined)) as { binary(): string } | undefined;
  return found?.binary();
}

/** A running server. */
export class TestServer implements AsyncDisposable {
  /** What it said when it was ready. */
  #line = "";
  #said = "";
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;

  /** @internal */
  constructor(binary: string, folder: string, args: readonly string[]) {
    this.#folder = folder;
    this.#process = spawn(binary, ["dev", "--data", join(folder, "data"), "--port", "0", ...args], {
      // Nothing of the surroundings: they may be another server's.
      env: { PATH: process.env.PATH, XDG_CONFIG_HOME: join(folder, "config") },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process.stderr
      ?.setEncoding("utf8")
      .on("data", (text: string) => (this.#said = (this.#said + text).slice(-4_096)));
    this.#ended = once(this.#process, "exit").catch((error: Error) => (this.#said += error.message));
  }

  /** Its URL. The identity for it is in {@link contexts}. */
  get url(): string {
    return this.#field("client");
  }

  /** The folder of contexts that `connect` takes. */
  get contexts(): string {
    return join(this.#folder, "config", "hither");
  }

  /** Where its metrics and health are. */
  get admin(): string {
    return this.#field("admin");
  }

  /** What programs that find their server by themselves need in their environment. */
  get env(): { XDG_CONFIG_HOME: string } {
    return { XDG_CONFIG_HOME: join(this.#folder, "config") };
  }

  /** Connects a client, which is the caller's to close. Give each test a namespace of its own to share a server. */
  connect(options: ConnectOptions = {}): Promise<Client> {
    return connect({ contexts: this.contexts, ...options });
  }

  /** Ends it and deletes its folder. */
  async stop(): Promise<void> {
    if (!running.delete(this)) return;
    this.#process.ref();
    this.#process.kill("SIGKILL");
    await this.#ended;
    await rm(this.#folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** @internal */
  kill(): void {
    this.#process.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** @internal */
  async ready(timeoutMs: number): Promise<void> {
    const lines = createInterface({ input: this.#process.stdout as NodeJS.ReadableStream });
    const late = AbortSignal.timeout(timeoutMs);
    const line = once(lines, "line", { signal: late }).then(([line]) => line as string);
    const ended = this.#ended.then(() => undefined);
    const first = await Promise.race([line, ended]).catch(() => undefined);
    line.catch(() => {});
    if (first?.startsWith("ready ") !== true) {
      const why = late.aborted ? `it was not ready within ${timeoutMs} ms` : "it ended";
      throw new Error(`the server ${this.#process.spawnfile} did not start: ${why}. It said: ${this.#said.trim()}`);
    }
    this.#line = first;
    // A test that is over need not wait for its server.
    this.#process.unref();
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.resume();
      (stream as unknown as { unref?(): void } | null)?.unref?.();
    }
  }

  #field(name: string): string {
    return new RegExp(`${name}=(\\S+)`).exec(this.#line)?.[1] ?? "";
  }
}
