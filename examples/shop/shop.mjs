// The shop itself: an Express application as it would be written for Redis. It knows one node, and nothing of
// clusters. What is Ringwood's own in it is the note: SIBLINGS and RESOLVE.
import express from 'express';
import session from 'express-session';
import { RedisStore } from 'connect-redis';

export const GOODS = ['milk', 'bread', 'tea'];
const IN_STOCK = 20;

/** Puts what there is on the shelves, where nothing is yet. */
export async function fillShelves(redis) {
  for (const item of GOODS) await redis.set(`stock:${item}`, IN_STOCK, { condition: 'NX' });
}

export function shop(redis) {
  const app = express.Router();
  app.use(express.json());
  app.use(session({ store: new RedisStore({ client: redis }), secret: 'for trying it out', resave: false, saveUninitialized: false }));
  // Who comes first gets a cart, and finds it again through its session.
  app.use((req, res, next) => {
    req.session.cart ??= `${Date.now()}-${Math.floor(Math.random() * 1e9)}`;
    next();
  });
  const cartOf = (req) => `cart:${req.session.cart}`;
  const noteOf = (req) => `note:${req.session.cart}`;

  app.get('/', async (req, res) => {
    const cart = await redis.hGetAll(cartOf(req));
    const stock = {};
    for (const item of GOODS) stock[item] = Number(await redis.get(`stock:${item}`));
    const [context, notes] = await redis.sendCommand(['SIBLINGS', noteOf(req)]);
    res.json({ cart: { ...cart }, stock, notes, context });
  });
  app.use('/:act', (req, res, next) => {
    if (req.body?.item !== undefined && !GOODS.includes(req.body.item)) return res.status(400).json({ error: 'no such item' });
    return next();
  });
  app.post('/add', async (req, res) => {
    await redis.hIncrBy(cartOf(req), req.body.item, 1);
    await redis.decr(`stock:${req.body.item}`);
    res.json({});
  });
  app.post('/remove', async (req, res) => {
    // Of two clicks at a time one finds what there was, and puts it back.
    const [count] = await redis.multi().hGet(cartOf(req), req.body.item).hDel(cartOf(req), req.body.item).exec();
    await redis.incrBy(`stock:${req.body.item}`, Number(count ?? 0));
    res.json({});
  });
  // The page sends what it had read: a note that was written beside that is not lost.
  app.post('/note', async (req, res) => {
    await redis.sendCommand(['RESOLVE', noteOf(req), req.body.context, req.body.note]);
    res.json({});
  });
  app.use((error, req, res, next) => res.status(503).json({ error: error.message }));
  return app;
}
