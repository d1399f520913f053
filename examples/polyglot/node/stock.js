// The service `stock`, with Fastify: how many there are of an article, and the discount that `orders` gives on it.
import fastify from "fastify";
import { connect } from "hither";
import { hither } from "hither/fastify";
import { serviceFetch } from "hither/fetch";

const client = await connect();
const fetch = serviceFetch(client);
const app = fastify();
await app.register(hither, { client, service: "stock", version: "1.0.0", ttlMs: 2_000 });

app.get("/stock/:article", async (request, reply) => {
  const { article } = request.params;
  try {
    const response = await fetch(`svc://orders/discounts/${article}`);
    if (!response.ok) throw new Error(`orders answers ${response.status}`);
    return { article, level: (article * 7) % 50, discount: await response.json(), by: "node" };
  } catch (error) {
    console.error(`stock: orders does not answer: ${error.message}`);
    // Whoever asks may ask another instance.
    return reply.code(503).send({ error: error.message });
  }
});

await app.listen({ host: "127.0.0.1", port: 0 });
process.once("SIGTERM", async () => {
  await app.close();
  await client.close();
});
