// node-redis's collections against a server: node_redis_types.mjs HOST PORT [--ringwood]. Empties all databases.
// Runs everything twice: with the protocol that node-redis chooses by itself, and with RESP2.
import { DEFAULT_RESP, ErrorReply, createClient } from 'redis';
import { Checks, serverArguments, sleep } from './check.mjs';

const WRONG_TYPE = 'WRONGTYPE Operation against a key holding the wrong kind of value';
const sorted = (reply) => reply.then((got) => [...got].sort());
const plain = (reply) => reply.then((got) => ({ ...got }));
const members = (reply) => reply.then((got) => got.map(({ value, score }) => [value, score]));

async function hashes(t, r) {
  await t.eq('HSET object', r.hSet('h', { a: '1', b: 'two' }), 2);
  await t.eq('HSET field', r.hSet('h', 'a', '3'), 0);
  await t.eq('HSET map', r.hSet('h', new Map([['c', '4'], ['d', '5']])), 2);
  await t.eq('HGET', r.hGet('h', 'a'), '3');
  await t.eq('HGET missing', r.hGet('h', 'z'), null);
  await t.eq('HGETALL', plain(r.hGetAll('h')), { a: '3', b: 'two', c: '4', d: '5' });
  await t.eq('HGETALL missing', plain(r.hGetAll('none')), {});
  await t.eq('HMGET', r.hmGet('h', ['a', 'z']), ['3', null]);
  await t.eq('HINCRBY', r.hIncrBy('h', 'a', 5), 8);
  await t.eq('HINCRBYFLOAT', r.hIncrByFloat('h', 'a', 0.5), '8.5');
  await t.eq('HEXISTS', r.hExists('h', 'b'), 1);
  await t.eq('HSETNX', r.hSetNX('h', 'b', 'x'), 0);
  await t.eq('HSTRLEN', r.hStrLen('h', 'b'), 3);
  await t.eq('HKEYS', sorted(r.hKeys('h')), ['a', 'b', 'c', 'd']);
  await t.eq('HVALS', sorted(r.hVals('h')), ['4', '5', '8.5', 'two']);
  await t.eq('HLEN', r.hLen('h'), 4);
  await t.eq('HRANDFIELD count', r.hRandFieldCount('h', 9).then((got) => got.length), 4);
  await t.eq('HSCAN', r.hScan('h', '0').then(({ cursor, entries }) => [cursor, entries.length]), ['0', 4]);
  await t.eq('HDEL', r.hDel('h', ['a', 'b', 'z']), 2);
}

async function sets(t, r) {
  await t.eq('SADD', r.sAdd('s', ['a', 'b', 'c']), 3);
  await t.eq('SADD again', r.sAdd('s', 'a'), 0);
  await t.eq('SMEMBERS', sorted(r.sMembers('s')), ['a', 'b', 'c']);
  await t.eq('SISMEMBER', r.sIsMember('s', 'a'), 1);
  await t.eq('SMISMEMBER', r.smIsMember('s', ['a', 'z']), [1, 0]);
  await r.sAdd('t', ['b', 'c', 'd']);
  await t.eq('SINTER', sorted(r.sInter(['s', 't'])), ['b', 'c']);
  await t.eq('SUNION', sorted(r.sUnion(['s', 't'])), ['a', 'b', 'c', 'd']);
  await t.eq('SDIFF', sorted(r.sDiff(['s', 't'])), ['a']);
  await t.eq('SINTERSTORE', r.sInterStore('to', ['s', 't']), 2);
  await t.eq('SINTERCARD', r.sInterCard(['s', 't']), 2);
  await t.eq('SMOVE', r.sMove('s', 't', 'a'), 1);
  await t.eq('SREM', r.sRem('t', ['a', 'z']), 1);
  await t.eq('SPOP', r.sPopCount('s', 5).then((got) => got.length), 2);
  await t.eq('SCARD', r.sCard('t'), 3);
  await t.eq('SSCAN', r.sScan('t', '0').then(({ cursor, members }) => [cursor, members.length]), ['0', 3]);
}

async function sortedSets(t, r) {
  const three = [{ score: 1, value: 'a' }, { score: 2.5, value: 'b' }, { score: 3, value: 'c' }];
  await t.eq('ZADD', r.zAdd('z', three), 3);
  const later = [{ score: 4, value: 'a' }, { score: 1, value: 'b' }];
  await t.eq('ZADD GT CH', r.zAdd('z', later, { comparison: 'GT', CH: true }), 1);
  await t.eq('ZSCORE', r.zScore('z', 'b'), 2.5);
  await t.eq('ZMSCORE', r.zmScore('z', ['a', 'none']), [4, null]);
  await t.eq('ZINCRBY', r.zIncrBy('z', 2, 'b'), 4.5);
  await t.eq('ZRANGE', r.zRange('z', 0, -1), ['c', 'a', 'b']);
  await t.eq('ZRANGE WITHSCORES', members(r.zRangeWithScores('z', 0, 1)), [['c', 3], ['a', 4]]);
  await t.eq('ZRANGE REV', r.zRange('z', 0, 0, { REV: true }), ['b']);
  const limited = { LIMIT: { offset: 0, count: 1 } };
  await t.eq('ZRANGEBYSCORE', r.zRangeByScore('z', '(3', '+inf', limited), ['a']);
  await t.eq('ZRANK', r.zRank('z', 'b'), 2);
  await t.eq('ZCOUNT', r.zCount('z', 3, 4), 2);
  await r.zAdd('y', [{ score: 1, value: 'b' }, { score: 7, value: 'd' }]);
  await t.eq('ZUNIONSTORE', r.zUnionStore('to', ['z', 'y']), 4);
  await t.eq('ZINTER', members(r.zInterWithScores(['z', 'y'])), [['b', 5.5]]);
  await t.eq('ZPOPMIN', r.zPopMin('z').then(({ value, score }) => [value, score]), ['c', 3]);
  await t.eq('ZPOPMAX count', members(r.zPopMaxCount('to', 2)), [['d', 7], ['b', 5.5]]);
  await t.eq('ZREMRANGEBYSCORE', r.zRemRangeByScore('z', 4, 4), 1);
  await t.eq('ZREM', r.zRem('z', ['b', 'z']), 1);
  await t.eq('ZCARD', r.zCard('z'), 0);
  const cities = [
    { longitude: 13.361389, latitude: 38.115556, member: 'Palermo' },
    { longitude: 15.087269, latitude: 37.502669, member: 'Catania' },
  ];
  await t.eq('GEOADD', r.geoAdd('g', cities), 2);
  await t.eq('GEODIST', r.geoDist('g', 'Palermo', 'Catania', 'km'), 166.2742);
  await t.eq('GEOHASH', r.geoHash('g', 'Palermo'), ['sqc8b49rny0']);
  const near = r.geoSearch('g', { longitude: 15, latitude: 37 }, { radius: 200, unit: 'km' }, { SORT: 'ASC' });
  await t.eq('GEOSEARCH', near, ['Catania', 'Palermo']);
}

async function lists(t, r, other) {
  await t.eq('RPUSH', r.rPush('l', ['a', 'b', 'c']), 3);
  await t.eq('LPUSH', r.lPush('l', 'z'), 4);
  await t.eq('LRANGE', r.lRange('l', 0, -1), ['z', 'a', 'b', 'c']);
  await t.eq('LINSERT', r.lInsert('l', 'AFTER', 'a', 'x'), 5);
  await t.eq('LSET', r.lSet('l', 0, 'y'), 'OK');
  await t.eq('LPOS', r.lPos('l', 'x'), 2);
  await t.eq('LREM', r.lRem('l', 1, 'x'), 1);
  await t.eq('LPOP count', r.lPopCount('l', 2), ['y', 'a']);
  await t.eq('LMOVE', r.lMove('l', 'to', 'LEFT', 'RIGHT'), 'b');
  await t.eq('LLEN', r.lLen('l'), 1);
  await t.eq('LTRIM', r.lTrim('l', 1, -1), 'OK');
  await t.eq('BLPOP in vain', r.blPop('l', 0.05), null);
  const waiting = r.blPop(['l', 'm'], 5).then((got) => ({ ...got }));
  await sleep(100);
  await t.eq('RPUSH for one who waits', other.rPush('m', 'v'), 1);
  await t.eq('BLPOP', waiting, { key: 'm', element: 'v' });
  const moving = r.blMove('l', 'to', 'RIGHT', 'LEFT', 5);
  await sleep(100);
  await other.rPush('l', 'w');
  await t.eq('BLMOVE', moving, 'w');
  await t.fails('HGET of a list', r.hGet('to', 'f'), ErrorReply, WRONG_TYPE);
}

async function bits(t, r) {
  await t.eq('SETBIT', r.setBit('b', 7, 1), 0);
  await t.eq('BITCOUNT', r.bitCount('b'), 1);
  const operations = [
    { operation: 'INCRBY', encoding: 'u8', offset: 0, increment: 4 }, { operation: 'GET', encoding: 'u4', offset: '#1' },
  ];
  await t.eq('BITFIELD', r.bitField('b', operations), [5, 5]);
  await t.eq('PFADD', r.pfAdd('p', ['a', 'b']), 1);
  await t.eq('PFCOUNT', r.pfCount('p'), 2);
  await r.rPush('n', ['3', '1', '2']);
  await t.eq('SORT', r.sort('n', { DIRECTION: 'DESC' }), ['3', '2', '1']);
  await t.eq('MULTI', r.multi().hSet('h', 'f', 'v').sAdd('s', 'm').lPush('l', 'e').exec(), [1, 1, 1]);
}

const { host, port } = serverArguments();
const t = new Checks('node_redis_types');
for (const options of [{}, { RESP: 2 }]) {
  const connect = async () => {
    const client = createClient({ socket: { host, port }, ...options });
    client.on('error', () => {}); // every command that fails is checked by itself
    return client.connect();
  };
  const [r, other] = [await connect(), await connect()];
  t.context = `RESP${options.RESP ?? DEFAULT_RESP} `;
  for (const group of [hashes, sets, sortedSets, lists, bits]) {
    await r.flushAll();
    await t.group(group, r, other);
  }
  await r.flushAll();
  r.destroy();
  other.destroy();
}
t.finish();
