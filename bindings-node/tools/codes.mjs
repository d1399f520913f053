// Writes ts/codes.ts, the classes of errors, from the table in docs/errors.md, which is that of every language.
//   node bindings-node/tools/codes.mjs

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Written by hand, since they carry more than the others. */
const special = ["NoInstances"];

const here = import.meta.dirname;
const page = readFileSync(join(here, "../../docs/errors.md"), "utf8");
const rows = [...page.matchAll(/^\| (\d+) \| `(\w+)` \| (.+?) \|/gm)].map(([, number, name, meaning]) => ({
  number,
  name,
  meaning,
}));
const classes = rows
  .filter(({ name }) => !special.includes(name))
  .map(({ name, meaning }) => `/** ${meaning} */\nexport class ${name}Error extends HitherError {}\n`);
const names = special.map((name) => `${name}Error`).join(", ");

writeFileSync(
  join(here, "../ts/codes.ts"),
  `/** The classes of errors. Made by tools/codes.mjs from docs/errors.md; a test compares them with the core's table. */

import { HitherError, ${names} } from "./error";
import type { RawError } from "./native";

export { ${names} };

${classes.join("")}
type Row = [number: number, name: string, of: new (raw: RawError, name?: string) => HitherError];

/** @internal */
export const rows: Row[] = [
${rows.map(({ number, name }) => `  [${number}, "${name}", ${name}Error],\n`).join("")}];
`,
);
