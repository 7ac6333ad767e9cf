// Scripts and messages of ioredis and node-redis, a rate limiter, and locks: scripts.mjs HOST PORT [--cluster]
import { RateLimiterRedis } from 'rate-limiter-flexible';
import Redis from 'ioredis';
import Redlock from 'redlock';
import { createClient, defineScript } from 'redis';
import { Checks } from './check.mjs';

const [host, port] = [process.argv[2], Number(process.argv[3])];
const nodes = process.argv.includes('--cluster') ? ['127.0.0.1', '127.0.0.2', '127.0.0.3'] : [host];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function ioredis(t) {
  const clients = nodes.map((node) => new Redis(port, node));
  const [one, other] = [clients[0], clients.at(-1)];
  await one.flushall();
  for (const client of clients) {
    client.defineCommand('add', { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
  }
  await t.eq('a defined command', one.add('n', 2), 2);
  await t.eq('at another node', other.add('n', 2), 4);
  await t.eq('in a pipeline', one.pipeline().add('n', 1).get('n').exec(), [[null, 5], [null, '5']]);
  await t.eq('in a transaction', one.multi().add('n', 1).exec(), [[null, 6]]);
  const listener = new Redis(port, nodes.at(-1));
  const heard = [];
  listener.on('message', (channel, text) => heard.push([channel, text]));
  listener.on('pmessage', (pattern, channel, text) => heard.push([pattern, channel, text]));
  await t.eq('subscribed', listener.subscribe('a', 'b'), 2);
  await t.eq('to a pattern', listener.psubscribe('a*'), 3);
  await t.eq('published', one.publish('a', 'x'), 2);
  await pause(100);
  await t.eq('heard', () => heard, [['a', 'x'], ['a*', 'a', 'x']]);
  await t.eq('left', listener.unsubscribe('a', 'b'), 1);
  listener.disconnect();
  for (const client of clients) client.disconnect();
}

async function nodeRedis(t) {
  const scripts = {
    add: defineScript({
      NUMBER_OF_KEYS: 1,
      SCRIPT: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
      parseCommand(parser, key, amount) {
        parser.pushKey(key);
        parser.push(String(amount));
      },
      transformReply: (reply) => reply,
    }),
  };
  for (const RESP of [2, 3]) {
    const clients = await Promise.all(nodes.map((node) =>
      createClient({ url: `redis://${node}:${port}`, RESP, scripts }).connect()));
    const [one, other] = [clients[0], clients.at(-1)];
    await one.flushAll();
    await t.eq(`RESP${RESP} a script`, one.add('m', 3), 3);
    await t.eq(`RESP${RESP} at another node`, other.add('m', 3), 6);
    await t.eq(`RESP${RESP} eval`, one.eval('return ARGV[1]', { keys: ['k'], arguments: ['v'] }), 'v');
    const listener = await other.duplicate().connect();
    const heard = [];
    await listener.subscribe('c', (text) => heard.push(text));
    await listener.sSubscribe('s', (text) => heard.push(text));
    await t.eq(`RESP${RESP} published`, one.publish('c', 'x'), 1);
    await t.eq(`RESP${RESP} to a shard channel`, one.sPublish('s', 'y'), 1);
    await pause(100);
    await t.eq(`RESP${RESP} heard`, () => heard, ['x', 'y']);
    listener.destroy();
    for (const client of clients) client.destroy();
  }
}

async function limiter(t) {
  const clients = nodes.map((node) => new Redis(port, node));
  const limiters = clients.map((storeClient) => new RateLimiterRedis({ storeClient, points: 3, duration: 10, keyPrefix: 'limit' }));
  const taken = [];
  for (let nth = 0; nth < 5; nth += 1) {
    taken.push(await limiters[nth % limiters.length].consume('somebody').then((l) => l.remainingPoints, () => 'no'));
  }
  await t.eq('a limit holds through every node', () => taken, [2, 1, 0, 'no', 'no']);
  for (const client of clients) client.disconnect();
}

/** redlock counts servers that are independent of each other: here it is given one store, by one node after the other. */
async function locks(t) {
  const clients = nodes.map((node) => new Redis(port, node));
  await clients[0].flushall();
  const makers = clients.map((client) => new Redlock([client], { retryCount: 0 }));
  const [one, other] = [makers[0], makers.at(-1)];
  const held = await one.lock('lock', 5000);
  await t.fails('held', other.lock('lock', 5000), Redlock.LockError, 'Exceeded 0 attempts');
  await t.that('extended', held.extend(10_000), (lock) => lock.expiration > Date.now() + 8000);
  await t.that('its end', clients[0].pttl('lock'), (left) => left > 8000);
  await t.eq('let go', () => held.unlock().then(() => 'done'), 'done');
  const again = await other.lock('lock', 5000);
  await t.fails('not the holder', held.unlock(), Redlock.LockError, 'Unable to fully release');
  await t.eq('let go by its holder', () => again.unlock().then(() => 'done'), 'done');
  const several = await one.lock(['{l}a', '{l}b'], 5000);
  await t.fails('one of several', other.lock(['{l}b', '{l}c'], 5000), Redlock.LockError, 'Exceeded 0 attempts');
  await several.unlock();
  // Ten that want it at a time: one after the other has it.
  let inside = 0;
  let most = 0;
  const patient = clients.map((client) => new Redlock([client], { retryCount: -1, retryDelay: 5 }));
  await Promise.all(Array.from({ length: 10 }, async (_, nth) => {
    const lock = await patient[nth % patient.length].lock('turns', 5000);
    inside += 1;
    most = Math.max(most, inside);
    await pause(5);
    inside -= 1;
    await lock.unlock();
  }));
  await t.eq('one at a time', () => most, 1);
  for (const client of clients) client.disconnect();
}

const t = new Checks('scripts_js');
await t.group(ioredis);
await t.group(nodeRedis);
await t.group(limiter);
await t.group(locks);
t.finish();
