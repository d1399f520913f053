// What the package brings for HTTP: fetch by service, servers that register, the Fastify plugin.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";

import express from "express";
import Fastify from "fastify";
import { NoInstancesError } from "hither";
import { hither } from "hither/fastify";
import { serviceFetch } from "hither/fetch";
import { announce } from "hither/http";

import { eventually, Server } from "./support.mjs";

describe("HTTP", () => {
  let server, client, finder;
  before(async () => {
    server = await Server.start();
    [client, finder] = await Promise.all([server.connect(), server.connect()]);
  });
  after(async () => {
    await Promise.all([client.close(), finder.close()]);
    await server.remove();
  });
  const listen = (handler) =>
    new Promise((resolve) => {
      const http = createServer(handler);
      http.listen(0, "127.0.0.1", () => resolve(http));
    });
  const port = (http) => http.address().port;

  test("a service is asked by its name: path, query, method, headers and body arrive", async () => {
    const http = await listen(async (request, response) => {
      let body = "";
      for await (const part of request) body += part;
      response.end(JSON.stringify([request.method, request.url, request.headers["x-a"], body]));
    });
    await client.register("echo", { port: port(http), address: "127.0.0.1" });
    const fetch = serviceFetch(finder);
    const asked = await fetch("svc://echo/users/1?limit=2", { method: "POST", headers: { "x-a": "b" }, body: "hi" });
    assert.deepEqual(await asked.json(), ["POST", "/users/1?limit=2", "b", "hi"]);
    const request = new Request("svc://echo/", { method: "PUT", body: "again", headers: { "x-a": "c" } });
    assert.deepEqual(await (await fetch(request)).json(), ["PUT", "/", "c", "again"]);
    assert.deepEqual((await (await fetch(`http://127.0.0.1:${port(http)}/plain`)).json())[1], "/plain");
    http.close();
  });

  test("what fails is asked of another instance: always if nothing was sent, else if it may be sent twice", async () => {
    const counts = { good: 0, broken: 0, busy: 0 };
    const good = await listen((_, response) => (counts.good++, response.end("good")));
    const broken = await listen((request) => (counts.broken++, request.socket.destroy()));
    const busy = await listen((_, response) => (counts.busy++, response.writeHead(503).end("busy")));
    const gone = await listen(() => {});
    const places = { good, broken, busy, gone };
    for (const [id, http] of Object.entries(places)) {
      await client.register("mixed", { id, port: port(http), address: "127.0.0.1" });
    }
    await new Promise((resolve) => gone.close(resolve));
    await finder.waitFor("mixed", 4);
    const retries = [];
    const fetch = serviceFetch(finder, { attempts: 4, onRetry: ({ instance }) => retries.push(instance.id) });
    for (let n = 0; n < 8; n++) assert.equal(await (await fetch("svc://mixed/")).text(), "good");
    assert.ok(retries.includes("broken") && retries.includes("busy") && retries.includes("gone"), String(retries));
    assert.ok(counts.good === 8 && counts.busy > 0 && counts.broken > 0);

    // A POST is sent once: what broke off may have been done, and what answered has answered.
    const { broken: before } = counts;
    const post = (id) =>
      serviceFetch(finder, { pick: { filter: { metadata: { id } } } })(`svc://posts/`, { method: "POST", body: "x" });
    for (const id of ["broken", "busy", "gone"]) {
      await client.register("posts", {
        id,
        port: port(places[id] === gone ? await closedPort() : places[id]),
        address: "127.0.0.1",
        metadata: { id },
      });
    }
    await finder.waitFor("posts", 3);
    await assert.rejects(post("broken"), TypeError);
    assert.equal(counts.broken, before + 1);
    assert.equal((await post("busy")).status, 503);
    const told = [];
    const anywhere = serviceFetch(finder, { attempts: 3, onRetry: ({ instance }) => told.push(instance.id) });
    for (let n = 0; n < 6; n++) await anywhere("svc://posts/", { method: "POST", body: "x" }).catch(() => {});
    assert.ok(told.length > 0 && told.every((id) => id === "gone"), String(told));
    [good, broken, busy].forEach((http) => http.close());

    async function closedPort() {
      const http = await listen(() => {});
      const was = { address: () => ({ port: number }) };
      const number = port(http);
      await new Promise((resolve) => http.close(resolve));
      return was;
    }
  });

  test("an instance that answered is asked again before one that cannot be reached", async () => {
    let asked = 0;
    const busy = await listen((_, response) => (asked++, response.writeHead(503).end("busy")));
    const gone = await listen(() => {});
    for (const http of [busy, gone]) await client.register("dying", { port: port(http), address: "127.0.0.1" });
    await new Promise((resolve) => gone.close(resolve));
    await finder.waitFor("dying", 2);
    const fetch = serviceFetch(finder, { pick: { policy: "random" } });
    for (let round = 1; round <= 20; round++) {
      // Three attempts: both, and then the one that lives.
      assert.equal((await fetch("svc://dying/")).status, 503);
      assert.equal(asked, 2 * round);
    }
    busy.close();
  });

  test("where there is nobody it waits a little, is taken back by its signal, and says what is known", async () => {
    const fetch = serviceFetch(finder, { waitMs: 100 });
    await assert.rejects(fetch("svc://nobody/"), NoInstancesError);
    await assert.rejects(serviceFetch(finder)("svc://nobody/", { signal: AbortSignal.timeout(50) }), {
      name: "TimeoutError",
    });
    await client.register("no-http", { endpoints: ["grpc://127.0.0.1:1"] });
    await assert.rejects(fetch("svc://no-http/"), /no endpoint that speaks http/);
  });

  test("a Fastify application is registered while it listens, and loses no request when it leaves", async () => {
    const app = Fastify();
    app.get("/", async () => "fastify");
    app.register(hither, { client, service: "fastify", version: "2", tags: ["web"] });
    await app.listen({ port: 0, host: "127.0.0.1" });
    const other = Fastify();
    other.get("/", async () => "other");
    other.register(hither, { connect: { contexts: server.contexts }, service: "fastify" });
    await other.listen({ port: 0, host: "127.0.0.1" });
    const view = await finder.waitFor("fastify", 2);
    assert.ok(view.instances.some((instance) => instance.version === "2" && instance.tags[0] === "web"));

    const fetch = serviceFetch(finder, { attempts: 1 });
    const answers = [];
    let left = false;
    const load = (async () => {
      while (!left) answers.push(await (await fetch("svc://fastify/")).text());
    })();
    await eventually("both answer", () => answers.includes("fastify") && answers.includes("other"));
    await app.close();
    const closed = answers.length;
    await eventually("the load goes on without it", () => answers.length > closed + 10);
    left = true;
    await load;
    assert.equal(answers.at(-1), "other", "no request failed, although none was sent twice");
    assert.deepEqual(finder.view("fastify").instances.length, 1);
    await other.close();
    await eventually("both are gone", () => finder.view("fastify").length === 0);
  });

  test("an Express application is announced while it listens", async () => {
    const app = express();
    app.get("/", (_, response) => response.send("express"));
    const announced = announce(client, app.listen(0, "127.0.0.1"), "express", { weight: 3 });
    assert.equal((await announced.registered).instance.weight, 3);
    assert.equal(await (await serviceFetch(finder)("svc://express/")).text(), "express");
    await Promise.all([announced.close(), announced.close()]);
    await eventually("it is gone", () => finder.view("express").length === 0);
    assert.ok(await client.kv.list("stopped/express/"));

    const alone = app.listen(0);
    await announce(client, alone, "express").registered;
    assert.equal((await finder.waitFor("express")).length, 1);
    alone.close();
    await eventually("what does not listen is not found", () => finder.view("express").length === 0);
    const taken = createServer();
    const refused = announce(client, taken, "express");
    const { port } = server;
    taken.listen(port, "192.0.2.1");
    await assert.rejects(refused.registered, /EADDRNOTAVAIL/);
  });
});
