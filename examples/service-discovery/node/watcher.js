// Prints every change of a key, or of all instances of a service.
//
//   node watcher.js --key "services/api-gateway/node1"
//   node watcher.js --service api-gateway
import { parseArgs } from "node:util";
import { connect } from "hither";
import { endpoints } from "./record.js";

const { values } = parseArgs({ options: { key: { type: "string" }, service: { type: "string" } } });
if (!values.key === !values.service) throw new Error("name a --key or a --service");

const client = await connect();
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
const target = values.key ?? { prefix: `services/${values.service}/` };
try {
  const watch = await client.watch(target, { signal: stop.signal });
  console.error("watching; Ctrl-C ends it");
  for await (const update of watch) {
    for (const event of update.events) {
      if (event.type === "put") console.log(`[PUT] ${event.key} = ${endpoints(event.entry.value)}`);
      if (event.type === "delete") console.log(`[DELETE] ${event.key}`);
    }
  }
} catch (error) {
  if (!stop.signal.aborted) throw error;
} finally {
  await client.close();
}
