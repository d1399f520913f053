// Registers and unregisters instances of services, for programs that do not do it themselves.
//
//   node admin.js register --name api-gateway --instance node1 --endpoint "192.168.1.10:8080"
//   node admin.js unregister --name api-gateway --instance node1
import { parseArgs } from "node:util";
import { connect } from "hither";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    name: { type: "string" },
    instance: { type: "string" },
    endpoint: { type: "string" },
    // Seconds that it stays; without it, until it is unregistered.
    ttl: { type: "string" },
    // It stays for as long as this program runs.
    hold: { type: "boolean" },
  },
});
const { name, instance: id, endpoint } = values;
if (!name || !id) throw new Error("name the service (--name) and its instance (--instance)");

const client = await connect();
try {
  if (positionals[0] === "register") {
    const endpoints = [endpoint];
    if (values.hold) {
      const registration = await client.register(name, { id, endpoints });
      console.error("registered until Ctrl-C");
      const stopped = new Promise((resolve) => process.once("SIGINT", resolve));
      await Promise.race([stopped, registration.lost()]);
      await registration.deregister();
    } else if (values.ttl) {
      const lease = await client.leases.grant(Number(values.ttl) * 1000);
      await client.register(name, { id, endpoints, lease });
    } else {
      await client.register(name, { id, endpoints, permanent: true });
    }
  } else if (positionals[0] === "unregister") {
    const key = `services/${name}/${id}`;
    const { deleted } = await client.kv.delete(key);
    if (deleted === 0) console.error(`${key} was not registered`);
  } else {
    throw new Error("say register or unregister");
  }
} finally {
  await client.close();
}
