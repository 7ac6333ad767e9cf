// ioredis's Cluster against three nodes: ioredis_cluster.mjs HOST PORT, any one of them. Empties database 0.
import { Cluster, Redis, ReplyError } from 'ioredis';
import { Checks, lineField, numbers, serverArguments } from './check.mjs';

/** Of 600 commands. */
const MAY_BE_HANDED_ON = 6;
const keys = numbers(300).map((n) => `key:${n}`);

async function forwarded(r) {
  const infos = await Promise.all(r.nodes('all').map((node) => node.info('ringwood')));
  return infos.reduce((sum, info) => sum + Number(lineField(info, 'forwarded_commands', ':')), 0);
}

async function findsItsWay(t, r) {
  const before = await forwarded(r);
  for (const key of keys) await t.eq(`SET ${key}`, r.set(key, key), 'OK');
  for (const key of keys) await t.eq(`GET ${key}`, r.get(key), key);
  // A node may suspect another for a moment.
  await t.that('hardly a command is handed on', forwarded(r), (now) => now - before <= MAY_BE_HANDED_ON);
  await t.eq('all nodes are known', Promise.resolve(r.nodes('all').length), 3);
}

async function commands(t, r) {
  await t.eq('INCR', r.incr('n'), 1);
  await t.eq('APPEND', r.append('text', 'abc'), 3);
  await t.eq('MSET', r.mset({ '{user}a': '1', '{user}b': '2' }), 'OK');
  await t.eq('MGET', r.mget('{user}a', '{user}b', '{user}c'), ['1', '2', null]);
  await t.eq('DEL', r.del('{user}a', '{user}b'), 2);
  await t.fails('INCR text', r.incr('text'), ReplyError, 'ERR value is not an integer');
  await t.eq('MULTI', r.multi().set('{tx}a', 1).incr('{tx}a').exec(), [[null, 'OK'], [null, 2]]);
  const pipeline = r.pipeline();
  numbers(100).forEach((n) => pipeline.set(`{pipe}${n}`, n).get(`{pipe}${n}`));
  await t.eq('pipeline', pipeline.exec(), numbers(100).flatMap((n) => [[null, 'OK'], [null, String(n)]]));
  const [context, values] = await r.call('SIBLINGS', '{own}k');
  await t.eq('SIBLINGS', Promise.resolve(values), []);
  await t.that('RESOLVE', r.call('RESOLVE', '{own}k', context, 'milk'), (got) => got[1] === 1);
  await t.eq('GET', r.get('{own}k'), 'milk');
}

const { host, port } = serverArguments();
const t = new Checks('ioredis_cluster');
for (const scaleReads of ['master', 'slave']) {
  t.context = `${scaleReads}: `;
  const one = new Redis({ host, port });
  await one.flushdb();
  one.disconnect();
  const r = new Cluster([{ host, port }], { scaleReads });
  if (scaleReads === 'master') await t.group(findsItsWay, r);
  await t.group(commands, r);
  r.disconnect();
}
t.finish();
