import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/** The packages that hold a binary, by platform. */
const PACKAGES = { "linux-x64-gnu": "@hither/server-linux-x64-gnu" };

function platform() {
  if (process.platform !== "linux") return `${process.platform}-${process.arch}`;
  const glibc = process.report.getReport().header.glibcVersionRuntime;
  return `linux-${process.arch}-${glibc ? "gnu" : "musl"}`;
}

/** The path of the program `hither` for this machine. */
export function binary() {
  const name = PACKAGES[platform()];
  if (!name) {
    throw new Error(
      `hither-server has no binary for ${platform()} yet (there is one for ${Object.keys(PACKAGES).join(", ")}); ` +
        "build it from source with `make install`",
    );
  }
  try {
    return require.resolve(`${name}/hither`);
  } catch (cause) {
    throw new Error(
      `${name} is not installed: npm leaves optional dependencies out with --omit=optional; run \`npm install ${name}\``,
      { cause },
    );
  }
}
