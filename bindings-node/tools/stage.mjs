// Lays out the two packages that `npm pack` packs: the one that people install, and this platform's binary.
//   node stage.mjs FOLDER LIBRARY PLATFORM
// FOLDER/main/dist has the compiled TypeScript already.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [folder, library, name] = process.argv.slice(2);
const source = join(import.meta.dirname, "..");
const read = (path) => JSON.parse(readFileSync(join(source, path), "utf8"));
const platforms = read("platforms.json");
const platform = platforms.find((platform) => platform.name === name);
if (!platform) throw new Error(`there is no platform ${name} in platforms.json`);
const main = read("package.json");
const { version, license, repository, engines } = main;

/** Both module systems get the same objects: an ES module is a name for the CommonJS one beside it. */
for (const [entry, { import: modern }] of Object.entries(main.exports).filter(([, to]) => to.import)) {
  const stem = modern.default.replace(/^\.\/dist\/(.*)\.mjs$/, "$1");
  if (stem === modern.default) throw new Error(`the export ${entry} is no module of dist`);
  for (const end of [".mjs", ".d.mts"]) {
    writeFileSync(join(folder, "main/dist", stem + end), `export * from "./${stem}.js";\n`);
  }
}
// Every platform, at exactly this version: npm installs the one whose os, cpu and libc fit.
main.optionalDependencies = Object.fromEntries(platforms.map(({ name }) => [`@hither/client-${name}`, version]));
put("main/package.json", main);
for (const file of ["README.md"]) copyFileSync(join(source, file), join(folder, "main", file));

mkdirSync(join(folder, "binary"), { recursive: true });
copyFileSync(library, join(folder, "binary/hither.node"));
put("binary/package.json", {
  name: `@hither/client-${name}`,
  version,
  description: `The native binary of the package hither for ${platform.target}.`,
  license,
  repository,
  engines,
  main: "hither.node",
  files: ["hither.node"],
  os: [platform.os],
  cpu: [platform.cpu],
  ...(platform.libc ? { libc: [platform.libc] } : {}),
});
for (const licence of ["LICENSE-MIT", "LICENSE-APACHE"]) {
  for (const to of ["main", "binary"]) copyFileSync(join(source, "..", licence), join(folder, to, licence));
}

function put(path, value) {
  writeFileSync(join(folder, path), `${JSON.stringify(value, null, 2)}\n`);
}
