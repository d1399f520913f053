/**
 * A Fastify plugin: the application is registered when it listens, and leaves in good order when it closes.
 *
 * @packageDocumentation
 */

import type { Server } from "node:http";
import type { AddressInfo } from "node:net";

import { type Client, connect, type ConnectOptions } from "./client";
import { type AnnounceOptions, at, withdraw } from "./http";
import type { Registered } from "./registration";

export interface HitherPluginOptions extends Omit<AnnounceOptions, "signal"> {
  /** The service that the application is an instance of. */
  service: string;
  /** A client of yours, which you close; or how to connect one, which the plugin closes. */
  client?: Client | undefined;
  connect?: ConnectOptions | undefined;
}

/** As much of Fastify as the plugin needs. */
interface Instance {
  server: unknown;
  addHook(name: "onListen" | "preClose" | "onClose", hook: () => Promise<void>): unknown;
}

/**
 * ```ts
 * app.register(hither, { client, service: "api", version: "1.2" });
 * await app.listen({ port: 0 });
 * ```
 */
export async function hither(app: Instance, options: HitherPluginOptions): Promise<void> {
  const { service, client: given, connect: how, drainMs = 200, ...said } = options;
  const client = given ?? (await connect(how));
  let registered: Registered | undefined;
  app.addHook("onListen", async () => {
    registered = await client.register(service, { ...at((app.server as Server).address() as AddressInfo), ...said });
  });
  app.addHook("preClose", () => withdraw(registered, drainMs));
  app.addHook("onClose", async () => {
    if (given === undefined) await client.close();
  });
}

// Hooks are for the whole application, not for what is registered after the plugin.
Object.assign(hither, {
  [Symbol.for("skip-override")]: true,
  [Symbol.for("fastify.display-name")]: "hither",
});
