// The package as a whole: both module systems, types, the loader, the table of errors.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import * as hither from "hither";

import { run, Server } from "./support.mjs";

const execute = promisify(execFile);
const require = createRequire(import.meta.url);
const project = join(import.meta.dirname, "..");
const installed = join(project, "node_modules/hither");
const tool = (name, ...args) =>
  execute(join(process.env.HITHER_TOOLS, name), args, { cwd: project }).catch((error) => {
    assert.fail(`${name}: ${error.stdout}${error.stderr}`);
  });

test("import and require give the same objects", async () => {
  const required = require("hither");
  const names = Object.keys(required);
  assert.ok(names.includes("connect") && names.includes("NotFoundError"));
  for (const name of names) assert.equal(hither[name], required[name], name);
  for (const name of Object.keys(hither))
    assert.ok(name in required || name === "default" || name === "module.exports", name);
});

test("five lines print a value of a running server", async (t) => {
  const server = await Server.start(t);
  const lines = `import { connect } from "hither";
    const client = await connect();
    await client.kv.put("greeting", "hello");
    console.log((await client.kv.get("greeting")).text());
    await client.close();`;
  const env = { XDG_CONFIG_HOME: server.environment.XDG_CONFIG_HOME, HITHER_URL: "" };
  const result = await run(lines, { env });
  assert.deepEqual([result.code, result.out, result.err], [0, "hello\n", ""]);
  assert.ok(result.took < 5_000, `${result.took} ms`);
});

test("each error of the core has its class, and none is left over", () => {
  const native = require("@hither/client-linux-x64-gnu");
  const name = (name) => name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  const { errorOf, rows } = require(join(installed, "dist/errors.js"));
  const core = native.errorCodes();
  const known = rows.map(([number, name]) => [number, name]);
  assert.deepEqual(
    known,
    core.map(([number, name]) => [number, name]),
    "run: node bindings-node/tools/codes.mjs",
  );
  for (const [number, spelt, retry] of core) {
    const error = errorOf([number, "no", retry, "why", null, null, ["the cable is cut", "a digger"]]);
    assert.equal(error.constructor, hither[`${spelt}Error`], spelt);
    assert.deepEqual([error.name, error.code, error.message], [`${spelt}Error`, `HITHER_${name(spelt)}`, "why"]);
    assert.equal(error.retryable, retry !== "never");
    assert.equal(error.cause.cause.message, "a digger");
  }
  const newer = errorOf([9999, "unknown", "never", "why", 7n, "10.0.0.1:7400", []]);
  assert.deepEqual([newer.constructor, newer.code, newer.number], [hither.HitherError, "HITHER_OTHER", 9999]);
  assert.deepEqual([newer.revision, newer.leader], [7n, "10.0.0.1:7400"]);
});

test("the native half has what its types say", () => {
  const native = require("@hither/client-linux-x64-gnu");
  const source = readFileSync(join(process.env.HITHER_REPOSITORY, "bindings-node/ts/native.ts"), "utf8");
  const said = (type) => {
    const body = new RegExp(`export interface ${type} \\{\\n([^]*?)\\n\\}`).exec(source)?.[1] ?? "";
    return [...body.matchAll(/^  (?:readonly )?(\w+)(?=[(:])/gm)].map((match) => match[1]).sort();
  };
  const has = (of) =>
    Object.getOwnPropertyNames(of.prototype)
      .filter((name) => name !== "constructor")
      .sort();
  const classes = Object.keys(native).filter((name) => typeof native[name] === "function" && /^[A-Z]/.test(name));
  for (const name of classes) {
    assert.deepEqual(said(name === "Port" ? "NativePort" : name), has(native[name]), name);
  }
  assert.deepEqual(new Set([...classes, ...said("Native")]), new Set(Object.keys(native)));
});

test("types hold in a strict project, as an ES module and as CommonJS", async () => {
  for (const type of ["module", "commonjs"]) {
    const folder = mkdtempSync(join(project, `consumer-${type}-`));
    cpSync(join(import.meta.dirname, "consumer"), folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), JSON.stringify({ type }));
    const compilerOptions = {
      strict: true,
      noEmit: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false,
      module: "nodenext",
      target: "es2022",
      lib: ["es2023", "esnext.disposable"],
      types: ["node"],
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions }));
    await tool("tsc", "--project", folder);
  }
});

test("what `await using` holds is let go of when its block is left, however it is left", async (t) => {
  const server = await Server.start(t);
  const folder = mkdtempSync(join(project, "using-"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  writeFileSync(
    join(folder, "index.ts"),
    `import { connect } from "hither";
     await using witness = await connect();
     try {
       await using client = await connect();
       await using registered = await client.register("using", { port: 1 });
       await using lease = await client.lease(60_000);
       await using watch = client.watch({ all: true });
       await client.kv.put("using", registered.id, { lease });
       console.log((await watch.next()).value!.events.length > 0, (await witness.discover("using")).length);
       throw new Error("left");
     } catch (error) {
       console.log((error as Error).message, await witness.kv.get("using"), await witness.kv.count("services/using/"));
     }`,
  );
  const options = [
    "--module",
    "nodenext",
    "--target",
    "es2022",
    "--lib",
    "es2023,esnext.disposable",
    "--types",
    "node",
  ];
  await tool("tsc", "--strict", ...options, join(folder, "index.ts"));
  const env = { ...process.env, XDG_CONFIG_HOME: server.environment.XDG_CONFIG_HOME, HITHER_URL: "" };
  const { stdout, stderr } = await execute(process.execPath, [join(folder, "index.js")], { env });
  assert.deepEqual([stdout, stderr], ["true 1\nleft undefined 0\n", ""]);
});

test("publint and arethetypeswrong find nothing", async () => {
  const packed = readdirSync(join(project, "packed")).map((file) => join(project, "packed", file));
  const [main] = packed.filter((file) => /hither-\d/.test(file));
  await tool("publint", main, "--strict");
  // One export has no types: the package's own description.
  await tool("attw", main, "--profile", "node16", "--exclude-entrypoints", "./package.json");
});

test("packages are small, and hold no source, test or script", async () => {
  const files = readdirSync(installed, { recursive: true }).filter(
    (file) => !statSync(join(installed, file)).isDirectory(),
  );
  for (const file of files)
    assert.match(file, /^(dist\/[\w-]+\.(d\.)?(m?js|m?ts)|package\.json|README\.md|LICENSE-\w+)$/);
  for (const name of ["hither", "@hither/client-linux-x64-gnu"]) {
    const { scripts, dependencies } = require(`${name}/package.json`);
    assert.deepEqual([scripts, dependencies], [undefined, undefined], "nothing runs or is added at install");
  }
});

test("the loader names the platform, the Node version and what it tried", async () => {
  const missing = mkdtempSync(join(tmpdir(), "hither-missing-"));
  try {
    cpSync(installed, join(missing, "node_modules/hither"), { recursive: true });
    const script = join(missing, "a.cjs");
    writeFileSync(script, 'try { require("hither") } catch (error) { console.log(error.code, error.message) }');
    const env = { ...process.env, HITHER_NATIVE_PATH: "" };
    const { stdout } = await execute(process.execPath, [script], { env });
    assert.match(stdout, /^HITHER_NATIVE_MISSING/);
    for (const part of [
      `linux-${process.arch}`,
      process.version,
      "@hither/client-linux-x64-gnu",
      "package-lock.json",
      "HITHER_NATIVE_PATH",
    ]) {
      assert.ok(stdout.includes(part), `${part} in ${stdout}`);
    }
    const path = require.resolve("@hither/client-linux-x64-gnu");
    assert.ok(existsSync(path));
    const own = await execute(process.execPath, [script], { env: { ...env, HITHER_NATIVE_PATH: path } });
    assert.equal(own.stdout, "", "it loads what the variable names");
  } finally {
    rmSync(missing, { recursive: true });
  }
});

test("every platform of the table is an optional dependency, at exactly this version, and known to the loader", () => {
  const { optionalDependencies, version } = require("hither/package.json");
  const table = JSON.parse(readFileSync(join(process.env.HITHER_REPOSITORY, "bindings-node/platforms.json"), "utf8"));
  const names = table.map(({ name }) => `@hither/client-${name}`);
  assert.deepEqual(optionalDependencies, Object.fromEntries(names.map((name) => [name, version])));
  const loader = readFileSync(join(installed, "dist/native.js"), "utf8");
  for (const name of names) assert.ok(loader.includes(`require("${name}")`), name);
});
