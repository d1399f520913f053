// The code in docs/node.md and in the package's own page, from top to bottom: each block is a module in a process of
// its own, beside a server for the page. `// prints:` says what it writes. One marked `runs` goes on until it is told
// to end.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { run, Server } from "./support.mjs";

for (const page of ["docs/node.md", "bindings-node/README.md", "README.md"]) {
  // The front page speaks every language; scripts/readme-blocks and the tests of Python run the others.
  const others = page === "README.md" ? ["text", "sh", "console", "rust", "python"] : ["text"];
  test(`the code in ${page} does what it says`, async (t) => {
    const server = await Server.start(t);
    const env = { XDG_CONFIG_HOME: server.environment.XDG_CONFIG_HOME, HITHER_URL: "" };
    const text = readFileSync(join(process.env.HITHER_REPOSITORY, page), "utf8");
    const blocks = [...text.matchAll(/^```(\w+)([^\n]*)\n([^]*?)^```$/gm)];
    assert.ok(blocks.length > 0);
    for (const [, language, info, code] of blocks) {
      if (others.includes(language)) continue;
      assert.equal(language, "js", "a block of another language would not be run");
      const runs = info.trim() === "runs";
      const prints = [...code.matchAll(/\/\/ prints: (.*)$/gm)].map(([, line]) => `${line}\n`).join("");
      const result = await run(`${code}${runs ? 'console.log("now");' : ""}`, {
        env,
        ...(runs ? { signal: "SIGTERM" } : {}),
      });
      const ended = runs ? [null, "SIGTERM"] : [0, null];
      assert.deepEqual([result.code, result.signal, result.err], [...ended, ""], code);
      assert.equal(result.out, runs ? `${prints}now\n` : prints, code);
    }
  });
}
