#!/usr/bin/env node
// Runs the program in place of this one, as far as Node allows: its signals and its exit code are passed on.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { binary } from "./index.js";

let program;
try {
  program = binary();
} catch (error) {
  console.error(`hither: ${error.message}`);
  process.exit(1);
}
const child = spawn(program, process.argv.slice(2), { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]) {
  // A terminal tells the whole group of Ctrl-C; twice would mean "at once".
  process.on(signal, () => signal === "SIGINT" && process.stdin.isTTY ? undefined : child.kill(signal));
}
child.on("error", (error) => {
  console.error(`hither: ${program}: ${error.message}`);
  process.exit(126);
});
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
