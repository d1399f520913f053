/**
 * Servers of `node:http`, and so of Express and Koa, that register when they listen and leave in good order.
 *
 * @packageDocumentation
 */

import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

import type { Client } from "./client";
import type { Registered, RegisterOptions } from "./registration";

export interface AnnounceOptions extends RegisterOptions {
  /** How long to go on serving after draining: time for others to hear of it. Default 200. */
  drainMs?: number | undefined;
}

/** A server that is registered while it listens. */
export class Announced implements AsyncDisposable {
  readonly #server: Server;
  readonly #drainMs: number;
  readonly #registered: Promise<Registered>;
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(client: Client, server: Server, service: string, { drainMs = 200, ...options }: AnnounceOptions) {
    this.#server = server;
    this.#drainMs = drainMs;
    this.#registered = listening(server).then((address) => client.register(service, { ...at(address), ...options }));
    // Whoever awaits `registered` or `close` is told; nobody else needs to be.
    this.#registered.catch(() => {});
    // Closed without us: what does not listen must not be found.
    server.once("close", () => void this.#leave().catch(() => {}));
  }

  /** Resolves when the server listens and is registered. */
  get registered(): Promise<Registered> {
    return this.#registered;
  }

  /** Drains, goes on serving while others hear of it, deregisters, and closes the server. Closing twice is fine. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    await withdraw(await this.#registered.catch(() => undefined), this.#drainMs);
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeIdleConnections();
    });
  }

  async #leave(): Promise<void> {
    if (this.#closing === undefined) await (await this.#registered).deregister();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Registers a server when it listens, at the port that it listens on.
 *
 * ```ts
 * const announced = announce(client, app.listen(0), "api");
 * process.once("SIGTERM", () => announced.close());
 * ```
 */
export function announce(client: Client, server: Server, service: string, options: AnnounceOptions = {}): Announced {
  return new Announced(client, server, service, options);
}

async function listening(server: Server): Promise<AddressInfo> {
  if (!server.listening) {
    await new Promise<void>((resolve, reject) => server.once("listening", resolve).once("error", reject));
  }
  return server.address() as AddressInfo;
}

/** @internal The endpoint of a socket. One that listens everywhere has the address that leads to the Hither server. */
export function at(address: AddressInfo): { port: number; address?: string } {
  const everywhere = address.address === "::" || address.address === "0.0.0.0";
  return everywhere ? { port: address.port } : { port: address.port, address: address.address };
}

/** @internal In good order: nothing new, time for others to hear of it, gone; also if no server answers. */
export async function withdraw(registered: Registered | undefined, drainMs: number): Promise<void> {
  if (registered === undefined || registered.state === "deregistered") return;
  try {
    await registered.drain();
    await sleep(drainMs);
    await registered.deregister();
  } catch {
    registered.release();
  }
}
