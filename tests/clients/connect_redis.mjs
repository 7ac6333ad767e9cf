// express-session with connect-redis against a server: connect_redis.mjs HOST PORT [--ringwood].
// Empties all databases. First an app that is driven by requests, then the store's own methods;
// all of it with the protocol that node-redis chooses by itself, and with RESP2.
import express from 'express';
import session from 'express-session';
import { RedisStore } from 'connect-redis';
import { DEFAULT_RESP, createClient } from 'redis';
import request from 'supertest';
import { Checks, numbers, serverArguments, sleep, within } from './check.mjs';

function makeApp(store) {
  const app = express();
  app.use(express.json());
  app.use(session({ store, secret: 'for tests', resave: false, saveUninitialized: false, cookie: { maxAge: 100_000 } }));
  const ended = (res, next) => (error) => (error ? next(error) : res.json({}));
  app.post('/login', (req, res, next) => req.session.regenerate((error) => {
    if (error) return next(error);
    Object.assign(req.session, { user: req.body.user, visits: 0 });
    return res.json({ id: req.sessionID });
  }));
  app.get('/visits', (req, res) => {
    if (!req.session.user) return res.status(401).json({});
    req.session.visits += 1;
    return res.json({ user: req.session.user, visits: req.session.visits });
  });
  app.get('/whoami', (req, res) => res.json({ user: req.session.user ?? null }));
  app.post('/brief', (req, res) => {
    req.session.cookie.maxAge = 300;
    res.json({});
  });
  app.post('/logout', (req, res, next) => req.session.destroy(ended(res, next)));
  return app;
}

async function sessions(t, r) {
  const app = makeApp(new RedisStore({ client: r }));
  const browser = request.agent(app);
  const stranger = request.agent(app);
  const body = (reply) => reply.then((got) => ({ status: got.status, ...got.body }));

  await t.eq('no session', body(browser.get('/visits')), { status: 401 });
  await t.eq('nothing stored for strangers', r.keys('*'), []);
  const { id } = await body(browser.post('/login').send({ user: 'Zoë 🌲' }));
  await t.eq('stored under', r.keys('*'), [`sess:${id}`]);
  await t.that('TTL of the cookie', r.pTTL(`sess:${id}`), within(98_000, 100_000));
  await t.that('stored text', r.get(`sess:${id}`).then(JSON.parse), (got) => got.user === 'Zoë 🌲' && got.visits === 0);
  for (const visits of [1, 2, 3]) {
    await t.eq(`visit ${visits}`, body(browser.get('/visits')), { status: 200, user: 'Zoë 🌲', visits });
  }
  await t.eq('strangers have none', body(stranger.get('/whoami')), { status: 200, user: null });

  await r.expire(`sess:${id}`, 5);
  await t.eq('a request that changes nothing', body(browser.get('/whoami')), { status: 200, user: 'Zoë 🌲' });
  await t.that('touched', r.pTTL(`sess:${id}`), within(98_000, 100_000));

  const again = await body(browser.post('/login').send({ user: 'Zoë 🌲' }));
  await t.that('regenerated', again.id, (got) => typeof got === 'string' && got !== id);
  await t.eq('the old session is gone', r.keys('*'), [`sess:${again.id}`]);
  await t.eq('the counter starts again', body(browser.get('/visits')), { status: 200, user: 'Zoë 🌲', visits: 1 });

  await t.eq('two users', body(stranger.post('/login').send({ user: 'other' })).then(({ status }) => status), 200);
  await t.eq('keys of two users', r.dbSize(), 2);
  await t.eq('logout', body(browser.post('/logout')), { status: 200 });
  await t.eq('logged out', body(browser.get('/whoami')), { status: 200, user: null });
  await t.eq('destroyed', r.get(`sess:${again.id}`), null);
  await t.eq('the other user stays', body(stranger.get('/visits')), { status: 200, user: 'other', visits: 1 });

  const server = app.listen(0);
  const crowd = numbers(50).map(() => request.agent(server));
  await t.that('50 logins at once', Promise.all(crowd.map((one, at) => body(one.post('/login').send({ user: `u${at}` })))), (got) =>
    new Set(got.map((reply) => reply.id)).size === 50);
  await t.eq('each its own', Promise.all(crowd.map((one) => body(one.get('/whoami')).then(({ user }) => user))), crowd.map((_, at) => `u${at}`));
  await t.eq('keys of 51 users', r.dbSize(), 51);
  server.close();
}

async function store(t, r) {
  const forever = new RedisStore({ client: r, prefix: 'forever:', disableTTL: true });
  const kept = new RedisStore({ client: r, prefix: 'kept:', ttl: 50, scanCount: 7 });
  const cookie = (maxAge) => ({ originalMaxAge: maxAge, expires: new Date(Date.now() + maxAge).toISOString() });

  await t.eq('get missing', kept.get('a'), null);
  await t.eq('set', kept.set('a', { name: 'first' }), null);
  await t.eq('get', kept.get('a'), { name: 'first' });
  await t.that('ttl option', r.ttl('kept:a'), within(49, 50));
  await kept.set('b', { name: 'second', cookie: cookie(20_000) });
  await t.that('ttl of the cookie', r.pTTL('kept:b'), within(19_000, 20_000));
  await t.eq('touch', kept.touch('b', { cookie: cookie(90_000) }), null);
  await t.that('touched', r.pTTL('kept:b'), within(89_000, 90_000));
  await t.eq('touch missing', kept.touch('z', {}), null);
  await kept.set('past', { cookie: cookie(-1000) });
  await t.eq('a past cookie is not stored', kept.get('past'), null);
  await t.eq('with a callback', new Promise((resolve) => { kept.get('a', (error, got) => resolve([error, got])); }), [null, { name: 'first' }]);
  await forever.set('a', { name: 'apart' });
  await t.eq('disableTTL', r.ttl('forever:a'), -1);

  await t.eq('length', kept.length(), 2);
  await t.eq('ids', kept.ids().then((got) => got.sort()), ['a', 'b']);
  await t.that('all', kept.all(), (got) => got.length === 2 && got.some(({ id, name }) => id === 'a' && name === 'first'));
  await t.eq('destroy', kept.destroy('a'), null);
  await t.eq('destroyed', kept.get('a'), null);

  // One after the other, as one busy session does it; then pages of SCAN over many keys.
  for (const number of numbers(1000)) await kept.set(`n${number}`, { number });
  await t.eq('1,000 more', kept.length(), 1001);
  await t.that('the last of them', kept.get('n1000'), (got) => got.number === 1000);
  await t.that('all of them', kept.all(), (got) => got.reduce((sum, { number = 0 }) => sum + number, 0) === 500_500);
  for (const number of numbers(1000)) await kept.set('same', { number });
  await t.eq('1,000 writes of one', kept.get('same'), { number: 1000 });
  await t.eq('clear', kept.clear(), null);
  await t.eq('cleared', kept.length(), 0);
  await t.eq('all of none', kept.all(), []);
  await t.eq('clear nothing', kept.clear(), null);
  await t.eq('another prefix stays', forever.ids(), ['a']);
}

async function expiry(t, r) {
  const browser = request.agent(makeApp(new RedisStore({ client: r })));
  await browser.post('/login').send({ user: 'brief' });
  await browser.post('/brief');
  const [key] = await r.keys('sess:*');
  await t.that('rounded up to a second', r.pTTL(key), within(1, 1000));
  await r.pExpire(key, 20);
  await sleep(50);
  await t.eq('expired', browser.get('/whoami').then((got) => got.body), { user: null });
}

/** A session with siblings, made behind the store's back: the store reads the newest. */
async function siblings(t, r) {
  const kept = new RedisStore({ client: r });
  const [missing] = await r.sendCommand(['SIBLINGS', 'sess:s']);
  for (const user of ['one', 'two']) await r.sendCommand(['RESOLVE', 'sess:s', missing, JSON.stringify({ user })]);
  await t.that('two siblings', r.sendCommand(['SIBLINGS', 'sess:s']), ([, values]) => values.length === 2);
  await t.eq('the newest is read', kept.get('s'), { user: 'two' });
  await t.eq('one session', kept.ids(), ['s']);
  await kept.set('s', { user: 'three' });
  await t.eq('what the store writes is the newest', kept.get('s'), { user: 'three' });
}

const { host, port, ringwood } = serverArguments();
const t = new Checks('connect_redis');
for (const options of [{}, { RESP: 2 }]) {
  const r = createClient({ socket: { host, port }, ...options });
  r.on('error', () => {}); // every command that fails is checked by itself
  await r.connect();
  t.context = `RESP${options.RESP ?? DEFAULT_RESP} `;
  for (const group of [sessions, store, expiry, ...(ringwood ? [siblings] : [])]) {
    await r.flushAll();
    await t.group(group, r);
  }
  await r.flushAll();
  r.destroy();
}
t.finish();
