// Starts three nodes, a shop on the first and a shop on the third, and the page that shows both:
// main.mjs [PORT]. The binary is that of `make`, or $RINGWOOD.
import { fileURLToPath } from 'node:url';
import express from 'express';
import { createClient } from 'redis';
import { Cluster } from './cluster.mjs';
import { fillShelves, shop } from './shop.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const cluster = new Cluster();
const end = async (error) => {
  if (error instanceof Error) console.error(error);
  await cluster.stop();
  process.exit(error instanceof Error ? 1 : 0);
};
for (const event of ['SIGINT', 'SIGTERM', 'uncaughtException', 'unhandledRejection']) process.once(event, end);
await cluster.start(process.env.RINGWOOD ?? here('../../target/release/ringwood'));

const app = express();
app.use(express.static(here('public')));
for (const [side, url] of [['phone', cluster.urls[0]], ['laptop', cluster.urls[2]]]) {
  const redis = createClient({ url });
  redis.on('error', () => {});
  await redis.connect();
  await fillShelves(redis);
  app.use(`/${side}`, shop(redis));
}
app.get('/network', (req, res) => res.json({ cut: cluster.isCut }));
app.post('/network/:state', (req, res) => {
  cluster.cut(req.params.state === 'cut');
  res.json({ cut: cluster.isCut });
});
const server = app.listen(Number(process.argv[2] ?? 8080), '127.0.0.1', (error) => {
  if (error) throw error;
  console.log(`the shop is open: http://127.0.0.1:${server.address().port} (Ctrl-C closes it)`);
});
