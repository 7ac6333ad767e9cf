// express-session with connect-redis on node-redis: express.mjs PORT HOST:PORT
import express from 'express';
import session from 'express-session';
import { RedisStore } from 'connect-redis';
import { createClient } from 'redis';

const [port, node] = process.argv.slice(2);
const client = createClient({ url: `redis://${node}`, disableOfflineQueue: true });
client.on('error', () => {}); // a request that meets it fails by itself
client.connect().catch(() => {});
const app = express();
app.use(session({ store: new RedisStore({ client }), secret: 'for tests', resave: false, saveUninitialized: false }));
app.get('/visit', (req, res, next) => {
  req.session.visits = (req.session.visits ?? 0) + 1;
  // The answer waits for the store.
  req.session.save((error) => (error ? next(error) : res.json({ visits: req.session.visits })));
});
app.use((error, req, res, next) => res.status(500).send(String(error)));
app.listen(Number(port), '127.0.0.1');
