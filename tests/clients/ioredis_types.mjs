// ioredis's collections against a server: ioredis_types.mjs HOST PORT [--ringwood]. Empties all databases.
// Runs everything twice: with the protocol that ioredis chooses by itself, and with RESP2.
import { Redis, ReplyError } from 'ioredis';
import { Checks, serverArguments, sleep } from './check.mjs';

const WRONG_TYPE = 'WRONGTYPE Operation against a key holding the wrong kind of value';
const sorted = (reply) => reply.then((got) => [...got].sort());
// Scores are texts with RESP2 and numbers with RESP3, in pairs or one after the other.
const flat = (reply) => reply.then((got) => got.flat(Infinity).map(String));

async function hashes(t, r) {
  await t.eq('HSET object', r.hset('h', { a: '1', b: 'two' }), 2);
  await t.eq('HSET words', r.hset('h', 'a', '3', 'c', '4'), 1);
  await t.eq('HMSET', r.hmset('h', new Map([['d', '5']])), 'OK');
  await t.eq('HGET', r.hget('h', 'a'), '3');
  await t.eq('HGET missing', r.hget('h', 'z'), null);
  await t.eq('HGETALL', r.hgetall('h').then((all) => ({ ...all })), { a: '3', b: 'two', c: '4', d: '5' });
  await t.eq('HGETALL missing', r.hgetall('none').then((all) => ({ ...all })), {});
  await t.eq('HMGET', r.hmget('h', 'a', 'z'), ['3', null]);
  await t.eq('HINCRBY', r.hincrby('h', 'a', 5), 8);
  await t.eq('HINCRBYFLOAT', r.hincrbyfloat('h', 'a', 0.5), '8.5');
  await t.eq('HEXISTS', r.hexists('h', 'b'), 1);
  await t.eq('HSETNX', r.hsetnx('h', 'b', 'x'), 0);
  await t.eq('HSTRLEN', r.hstrlen('h', 'b'), 3);
  await t.eq('HKEYS', sorted(r.hkeys('h')), ['a', 'b', 'c', 'd']);
  await t.eq('HVALS', sorted(r.hvals('h')), ['4', '5', '8.5', 'two']);
  await t.eq('HLEN', r.hlen('h'), 4);
  await t.eq('HSCAN', r.hscan('h', 0).then(([cursor, found]) => [cursor, found.length]), ['0', 8]);
  await t.eq('HDEL', r.hdel('h', 'a', 'b', 'z'), 2);
}

async function sets(t, r) {
  await t.eq('SADD', r.sadd('s', 'a', 'b', 'c'), 3);
  await t.eq('SADD again', r.sadd('s', 'a'), 0);
  await t.eq('SMEMBERS', sorted(r.smembers('s')), ['a', 'b', 'c']);
  await t.eq('SISMEMBER', r.sismember('s', 'a'), 1);
  await t.eq('SMISMEMBER', r.smismember('s', 'a', 'z'), [1, 0]);
  await r.sadd('t', 'b', 'c', 'd');
  await t.eq('SINTER', sorted(r.sinter('s', 't')), ['b', 'c']);
  await t.eq('SUNION', sorted(r.sunion('s', 't')), ['a', 'b', 'c', 'd']);
  await t.eq('SDIFF', sorted(r.sdiff('s', 't')), ['a']);
  await t.eq('SINTERSTORE', r.sinterstore('to', 's', 't'), 2);
  await t.eq('SINTERCARD', r.sintercard(2, 's', 't'), 2);
  await t.eq('SMOVE', r.smove('s', 't', 'a'), 1);
  await t.eq('SREM', r.srem('t', 'a', 'z'), 1);
  await t.eq('SPOP', r.spop('s', 5).then((got) => [...got].length), 2);
  await t.eq('SCARD', r.scard('t'), 3);
  await t.eq('SSCAN', r.sscan('t', 0).then(([cursor, found]) => [cursor, found.length]), ['0', 3]);
}

async function sortedSets(t, r) {
  await t.eq('ZADD', r.zadd('z', 1, 'a', 2.5, 'b', 3, 'c'), 3);
  await t.eq('ZADD GT CH', r.zadd('z', 'GT', 'CH', 4, 'a', 1, 'b'), 1);
  await t.eq('ZSCORE', r.zscore('z', 'b').then(String), '2.5');
  await t.eq('ZINCRBY', r.zincrby('z', 2, 'b').then(String), '4.5');
  await t.eq('ZRANGE', r.zrange('z', 0, -1), ['c', 'a', 'b']);
  await t.eq('ZRANGE WITHSCORES', flat(r.zrange('z', 0, 1, 'WITHSCORES')), ['c', '3', 'a', '4']);
  await t.eq('ZRANGE REV', r.zrange('z', 0, 0, 'REV'), ['b']);
  await t.eq('ZRANGEBYSCORE', r.zrangebyscore('z', '(3', '+inf', 'LIMIT', 0, 1), ['a']);
  await t.eq('ZRANK', r.zrank('z', 'b'), 2);
  await t.eq('ZCOUNT', r.zcount('z', 3, 4), 2);
  await r.zadd('y', 1, 'b', 7, 'd');
  await t.eq('ZUNIONSTORE', r.zunionstore('to', 2, 'z', 'y', 'WEIGHTS', 1, 2), 4);
  await t.eq('ZSCORE of a union', r.zscore('to', 'b').then(String), '6.5');
  await t.eq('ZINTER', flat(r.zinter(2, 'z', 'y', 'WITHSCORES')), ['b', '5.5']);
  await t.eq('ZPOPMIN', flat(r.zpopmin('z')), ['c', '3']);
  await t.eq('ZREMRANGEBYSCORE', r.zremrangebyscore('z', 4, 4), 1);
  await t.eq('ZREM', r.zrem('z', 'b', 'z'), 1);
  await t.eq('ZCARD', r.zcard('z'), 0);
  await t.eq('GEOADD', r.geoadd('g', 13.361389, 38.115556, 'Palermo', 15.087269, 37.502669, 'Catania'), 2);
  await t.eq('GEODIST', r.geodist('g', 'Palermo', 'Catania', 'km'), '166.2742');
  await t.eq('GEOHASH', r.geohash('g', 'Palermo'), ['sqc8b49rny0']);
  await t.eq('GEOSEARCH', r.geosearch('g', 'FROMLONLAT', 15, 37, 'BYRADIUS', 200, 'km', 'ASC'), ['Catania', 'Palermo']);
}

async function lists(t, r, other) {
  await t.eq('RPUSH', r.rpush('l', 'a', 'b', 'c'), 3);
  await t.eq('LPUSH', r.lpush('l', 'z'), 4);
  await t.eq('LRANGE', r.lrange('l', 0, -1), ['z', 'a', 'b', 'c']);
  await t.eq('LINSERT', r.linsert('l', 'AFTER', 'a', 'x'), 5);
  await t.eq('LSET', r.lset('l', 0, 'y'), 'OK');
  await t.eq('LPOS', r.lpos('l', 'x'), 2);
  await t.eq('LREM', r.lrem('l', 1, 'x'), 1);
  await t.eq('LPOP count', r.lpop('l', 2), ['y', 'a']);
  await t.eq('LMOVE', r.lmove('l', 'to', 'LEFT', 'RIGHT'), 'b');
  await t.eq('LLEN', r.llen('l'), 1);
  await t.eq('LTRIM', r.ltrim('l', 1, -1), 'OK');
  await t.eq('BLPOP in vain', r.blpop('l', 0.05), null);
  const waiting = r.blpop('l', 'm', 5);
  await sleep(100);
  await t.eq('RPUSH for one who waits', other.rpush('m', 'v'), 1);
  await t.eq('BLPOP', waiting, ['m', 'v']);
  const moving = r.blmove('l', 'to', 'RIGHT', 'LEFT', 5);
  await sleep(100);
  await other.rpush('l', 'w');
  await t.eq('BLMOVE', moving, 'w');
  await t.fails('HGET of a list', r.hget('to', 'f'), ReplyError, WRONG_TYPE);
}

async function bits(t, r) {
  await t.eq('SETBIT', r.setbit('b', 7, 1), 0);
  await t.eq('BITCOUNT', r.bitcount('b'), 1);
  await t.eq('BITFIELD', r.bitfield('b', 'INCRBY', 'u8', 0, 4, 'GET', 'u4', '#1'), [5, 5]);
  await t.eq('PFADD', r.pfadd('p', 'a', 'b'), 1);
  await t.eq('PFCOUNT', r.pfcount('p'), 2);
  await r.rpush('n', 3, 1, 2);
  await t.eq('SORT', r.sort('n', 'DESC'), ['3', '2', '1']);
  const all = await r.pipeline().hset('h', 'f', 'v').sadd('s', 'm').lpush('l', 'e').exec();
  await t.eq('pipeline', Promise.resolve(all), [[null, 1], [null, 1], [null, 1]]);
}

const { host, port } = serverArguments();
const t = new Checks('ioredis_types');
for (const options of [{}, { protocol: 2 }]) {
  const connect = () => {
    const client = new Redis({ host, port, ...options });
    client.on('error', () => {}); // every command that fails is checked by itself
    return client;
  };
  const [r, other] = [connect(), connect()];
  t.context = `RESP${r.options.protocol} `;
  for (const group of [hashes, sets, sortedSets, lists, bits]) {
    await r.flushall();
    await t.group(group, r, other);
  }
  await r.flushall();
  r.disconnect();
  other.disconnect();
}
t.finish();
