// node-redis against a server: node_redis.mjs HOST PORT [--ringwood]. Empties all databases.
// Runs everything twice: with the protocol that node-redis chooses by itself, and with RESP2.
import { DEFAULT_RESP, ErrorReply, MultiErrorReply, RESP_TYPES, WatchError, createClient } from 'redis';
import {
  Checks, badCommands, binaryKey, fields, mebibyte, numbers, okOr, orError, ringwoodOnly, serverArguments, sleep, within,
} from './check.mjs';

const NO_CLUSTER = 'ERR This instance has cluster support disabled';
const seconds = () => Math.floor(Date.now() / 1000);
const buffers = (r) => r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });

async function strings(t, r) {
  const now = seconds();
  await t.eq('GET missing', r.get('k'), null);
  await t.eq('SET', r.set('k', 'v'), 'OK');
  await t.eq('GET', r.get('k'), 'v');
  await t.eq('SET EX', r.set('k', 'v', { expiration: { type: 'EX', value: 100 } }), 'OK');
  await t.that('TTL', r.ttl('k'), within(99, 100));
  await t.eq('SET KEEPTTL', r.set('k', 'w', { expiration: 'KEEPTTL' }), 'OK');
  await t.that('TTL kept', r.ttl('k'), within(99, 100));
  await t.eq('SET PX', r.set('k', 'v', { expiration: { type: 'PX', value: 50_000 } }), 'OK');
  await t.that('PTTL', r.pTTL('k'), within(49_000, 50_000));
  await t.eq('SET EXAT', r.set('k', 'v', { expiration: { type: 'EXAT', value: now + 200 } }), 'OK');
  await t.eq('EXPIRETIME', r.expireTime('k'), now + 200);
  await t.eq('SET PXAT', r.set('k', 'v', { expiration: { type: 'PXAT', value: now * 1000 + 200_500 } }), 'OK');
  await t.eq('PEXPIRETIME', r.pExpireTime('k'), now * 1000 + 200_500);
  await t.eq('SET NX existing', r.set('k', 'no', { condition: 'NX' }), null);
  await t.eq('SET XX', r.set('k', 'yes', { condition: 'XX' }), 'OK');
  await t.eq('SET clears TTL', r.ttl('k'), -1);
  await t.eq('SET XX missing', r.set('new', 'no', { condition: 'XX' }), null);
  await t.eq('SET EX NX', r.set('new', 'v', { EX: 10, NX: true }), 'OK');
  await t.eq('SET GET', r.set('new', 'w', { GET: true }), 'v');
  await t.eq('SET NX GET', r.set('new', 'no', { condition: 'NX', GET: true }), 'w');
  await t.eq('SETNX', r.setNX('other', '1'), 1);
  await t.eq('SETNX existing', r.setNX('other', '2'), 0);
  await t.eq('SETEX', r.setEx('k', 100, 'v'), 'OK');
  await t.eq('PSETEX', r.pSetEx('k', 90_000, 'v'), 'OK');
  await t.that('PTTL after PSETEX', r.pTTL('k'), within(89_000, 90_000));
  await t.eq('GETSET', r.getSet('k', 'w'), 'v');
  await t.eq('GETDEL', r.getDel('k'), 'w');
  await t.eq('GETDEL missing', r.getDel('k'), null);
  await r.set('k', 'v');
  await t.eq('GETEX EX', r.getEx('k', { type: 'EX', value: 100 }), 'v');
  await t.eq('GETEX PX', r.getEx('k', { type: 'PX', value: 90_000 }), 'v');
  await t.that('PTTL after GETEX', r.pTTL('k'), within(89_000, 90_000));
  await t.eq('GETEX EXAT', r.getEx('k', { type: 'EXAT', value: new Date((now + 300) * 1000) }), 'v');
  await t.eq('EXPIRETIME after GETEX', r.expireTime('k'), now + 300);
  await t.eq('GETEX PXAT', r.getEx('k', { type: 'PXAT', value: now * 1000 + 300_007 }), 'v');
  await t.eq('PEXPIRETIME after GETEX', r.pExpireTime('k'), now * 1000 + 300_007);
  await t.eq('GETEX PERSIST', r.getEx('k', { type: 'PERSIST' }), 'v');
  await t.eq('TTL after PERSIST', r.ttl('k'), -1);
  await t.eq('MSET object', r.mSet({ m1: 'a', m2: 'b' }), 'OK');
  await t.eq('MSET pairs', r.mSet([['m3', '']]), 'OK');
  await t.eq('MGET', r.mGet(['m1', 'm2', 'm3', 'm4']), ['a', 'b', '', null]);
  await t.eq('MSETNX refused', r.mSetNX({ m3: 'x', m4: 'y' }), 0);
  await t.eq('MSETNX', r.mSetNX({ m4: 'x', m5: 'y' }), 1);
  await t.eq('APPEND new', r.append('greeting', 'Hello'), 5);
  await t.eq('APPEND', r.append('greeting', ' World'), 11);
  await t.eq('STRLEN', r.strLen('greeting'), 11);
  await t.eq('GETRANGE', r.getRange('greeting', -5, -1), 'World');
  await t.eq('SUBSTR', r.sendCommand(['SUBSTR', 'greeting', '0', '4']), 'Hello');
  await t.eq('SETRANGE', r.setRange('greeting', 6, 'Redis'), 11);
  await t.eq('GET after SETRANGE', r.get('greeting'), 'Hello Redis');
  await t.eq('SETRANGE pads', r.setRange('padded', 2, 'ab'), 4);
  await t.eq('GET padded', buffers(r).get('padded'), Buffer.from('\0\0ab'));
  await t.eq('INCR', r.incr('n'), 1);
  await t.eq('INCRBY', r.incrBy('n', 10), 11);
  await t.eq('DECR', r.decr('n'), 10);
  await t.eq('DECRBY', r.decrBy('n', 20), -10);
  await t.eq('INCRBYFLOAT', r.incrByFloat('n', 0.25), '-9.75');
  await r.mSet({ lcs1: 'ohmytext', lcs2: 'mynewtext' });
  const ranges = [[[4, 7], [5, 8]], [[2, 3], [0, 1]]];
  await t.eq('LCS', r.lcs('lcs1', 'lcs2'), 'mytext');
  await t.eq('LCS LEN', r.lcsLen('lcs1', 'lcs2'), 6);
  await t.eq('LCS IDX', r.lcsIdx('lcs1', 'lcs2').then(fields), { matches: ranges, len: 6 });
  await t.eq('LCS WITHMATCHLEN', r.lcsIdxWithMatchLen('lcs1', 'lcs2', { MINMATCHLEN: 4 }).then(fields), {
    matches: [[...ranges[0], 4]], len: 6,
  });
}

async function binary(t, r) {
  const raw = buffers(r);
  await t.eq('SET 1 MiB', r.set('mebibyte', mebibyte), 'OK');
  await t.eq('GET 1 MiB', raw.get('mebibyte'), mebibyte);
  await t.eq('STRLEN 1 MiB', r.strLen('mebibyte'), mebibyte.length);
  await t.eq('GETRANGE 1 MiB', raw.getRange('mebibyte', 250, 259), mebibyte.subarray(250, 260));
  await t.eq('SET binary key', r.set(binaryKey, 'v'), 'OK');
  await t.eq('GET binary key', r.get(binaryKey), 'v');
  await t.eq('KEYS binary', raw.keys('\0*'), [binaryKey]);
  await t.eq('DEL binary key', r.del(binaryKey), 1);
}

async function pipelines(t, r) {
  for (const run of ['execAsPipeline', 'exec']) {
    await r.del('count');
    const batch = r.multi();
    for (let count = 0; count < 1000; count += 1) batch.incr('count');
    await t.eq(`${run} of 1,000`, batch[run](), numbers(1000));
  }
  await r.del('count');
  await t.eq('1,000 at once', Promise.all(numbers(1000).map(() => r.incr('count'))), numbers(1000));
  const mixed = [r.set('text', 't'), r.incr('text'), r.get('text')];
  await t.that('pipeline with an error', Promise.allSettled(mixed), ([set, incr, get]) =>
    set.value === 'OK' && incr.reason instanceof ErrorReply && get.value === 't');
}

async function keys(t, r) {
  await r.mSet({ a: '1', b: 'two', c: '3' });
  await t.eq('DBSIZE', r.dbSize(), 3);
  await t.eq('EXISTS', r.exists(['a', 'a', 'z']), 2);
  await t.eq('TYPE', r.type('a'), 'string');
  await t.eq('TYPE missing', r.type('z'), 'none');
  await t.eq('TOUCH', r.touch(['a', 'b', 'z']), 2);
  await t.eq('RENAME', r.rename('a', 'd'), 'OK');
  await t.eq('RENAMENX taken', r.renameNX('d', 'b'), 0);
  await t.eq('RENAMENX', r.renameNX('d', 'a'), 1);
  await t.eq('COPY', r.copy('a', 'copy'), 1);
  await t.eq('COPY taken', r.copy('a', 'b'), 0);
  await t.eq('COPY REPLACE', r.copy('a', 'b', { REPLACE: true }), 1);
  await t.eq('COPY DB', r.copy('a', 'there', { DB: 1 }), 1);
  await t.that('RANDOMKEY', r.randomKey(), (got) => ['a', 'b', 'c', 'copy'].includes(got));
  await t.eq('KEYS', r.keys('[a-c]').then((got) => got.sort()), ['a', 'b', 'c']);
  await t.eq('DEL', r.del(['a', 'b', 'z']), 2);
  await t.eq('UNLINK', r.unlink(['c', 'z']), 1);

  await r.flushDb();
  await t.eq('RANDOMKEY of none', r.randomKey(), null);
  const names = numbers(100).map((number) => `scan:${number}`).sort();
  await r.mSet(names.map((name) => [name, 'v']));
  await r.set('unlike', 'v');
  await t.that('SCAN', r.scan('0'), ({ cursor, keys: page }) => typeof cursor === 'string' && Array.isArray(page));
  await t.eq('SCAN TYPE', r.scan('0', { MATCH: 'scan:*', COUNT: 1000, TYPE: 'list' }), { cursor: '0', keys: [] });
  const collect = async (pages) => {
    const found = new Set();
    for await (const page of pages) page.forEach((key) => found.add(key));
    return [...found].sort();
  };
  await t.eq('scanIterator', collect(r.scanIterator()), [...names, 'unlike']);
  await t.eq('scanIterator MATCH COUNT TYPE', collect(r.scanIterator({ MATCH: 'scan:*', COUNT: 7, TYPE: 'string' })), names);
}

async function expiry(t, r) {
  const now = seconds();
  await r.set('k', 'v');
  await t.eq('TTL without', r.ttl('k'), -1);
  await t.eq('TTL missing', r.ttl('absent'), -2);
  await t.eq('EXPIRE missing', r.expire('absent', 10), 0);
  await t.eq('EXPIRE XX refused', r.expire('k', 100, 'XX'), 0);
  await t.eq('EXPIRE GT refused', r.expire('k', 100, 'GT'), 0);
  await t.eq('EXPIRE NX', r.expire('k', 100, 'NX'), 1);
  await t.eq('EXPIRE NX refused', r.expire('k', 200, 'NX'), 0);
  await t.eq('EXPIRE GT', r.expire('k', 200, 'GT'), 1);
  await t.eq('PEXPIRE LT refused', r.pExpire('k', 300_000, 'LT'), 0);
  await t.eq('PEXPIRE LT', r.pExpire('k', 150_000, 'LT'), 1);
  await t.that('PTTL', r.pTTL('k'), within(149_000, 150_000));
  await t.eq('EXPIREAT XX', r.expireAt('k', new Date((now + 500) * 1000), 'XX'), 1);
  await t.eq('EXPIRETIME', r.expireTime('k'), now + 500);
  await t.eq('PEXPIREAT', r.pExpireAt('k', now * 1000 + 600_001, 'GT'), 1);
  await t.eq('PEXPIRETIME', r.pExpireTime('k'), now * 1000 + 600_001);
  await t.eq('PERSIST', r.persist('k'), 1);
  await t.eq('PERSIST without', r.persist('k'), 0);
  await t.eq('EXPIRE in the past', r.expire('k', -1), 1);
  await t.eq('EXISTS expired', r.exists('k'), 0);
  await r.set('brief', 'v', { expiration: { type: 'PX', value: 20 } });
  await sleep(50);
  await t.eq('GET expired', r.get('brief'), null);
}

async function objects(t, r) {
  await r.mSet({ int: '12345', short: 'text', long: 'x'.repeat(100) });
  for (const [key, encoding] of [['int', 'int'], ['short', 'embstr'], ['long', 'raw'], ['absent', null]]) {
    await t.eq(`OBJECT ENCODING ${key}`, r.objectEncoding(key), encoding);
  }
  await t.that('OBJECT IDLETIME', r.objectIdleTime('short'), within(0, 10));
  await t.eq('OBJECT REFCOUNT', r.objectRefCount('short'), 1);
  await t.fails('OBJECT FREQ', r.objectFreq('short'), ErrorReply, 'ERR An LFU maxmemory policy is not selected');
  await t.that('MEMORY USAGE', r.memoryUsage('long', { SAMPLES: 0 }), within(100, 10_000));
  await t.eq('MEMORY USAGE missing', r.memoryUsage('absent'), null);
  const payload = await t.that('DUMP', buffers(r).dump('long'), (got) => Buffer.isBuffer(got) && got.length > 0);
  await t.eq('DUMP missing', r.dump('absent'), null);
  await t.eq('RESTORE', r.restore('copy', 0, payload), 'OK');
  await t.eq('GET restored', r.get('copy'), 'x'.repeat(100));
  await t.fails('RESTORE taken', r.restore('copy', 0, payload), ErrorReply, 'BUSYKEY Target key name already exists.');
  const until = Date.now() + 60_000;
  await t.eq('RESTORE REPLACE ABSTTL', r.restore('copy', until, payload, { REPLACE: true, ABSTTL: true }), 'OK');
  await t.eq('PEXPIRETIME restored', r.pExpireTime('copy'), until);
  await t.fails('RESTORE foreign', r.restore('foreign', 0, 'not a payload'), ErrorReply, 'ERR DUMP payload version or checksum are wrong');
}

async function databases(t, r) {
  await r.set('k', 'zero');
  await t.eq('MOVE', r.move('k', 1), 1);
  await t.eq('MOVE missing', r.move('k', 1), 0);
  await r.select(1);
  await t.eq('GET moved', r.get('k'), 'zero');
  await t.eq('SWAPDB', r.swapDb(0, 1), 'OK');
  await t.eq('GET swapped', r.get('k'), null);
  await r.select(0);
  await t.eq('GET back', r.get('k'), 'zero');
  await t.eq('FLUSHDB', r.flushDb(), 'OK');
  await t.eq('FLUSHDB ASYNC', r.flushDb('ASYNC'), 'OK');
  await t.eq('DBSIZE', r.dbSize(), 0);
  await t.eq('FLUSHALL SYNC', r.flushAll('SYNC'), 'OK');
}

async function transactions(t, r, other) {
  await t.eq('MULTI EXEC', r.multi().set('k', '1').incr('k').get('k').exec(), ['OK', 2, '2']);
  await t.eq('WATCH', r.watch('k'), 'OK');
  await other.set('k', 'changed');
  await t.fails('EXEC aborted by WATCH', r.multi().set('k', 'lost').exec(), WatchError, '');
  await t.eq('GET after abort', r.get('k'), 'changed');
  await t.eq('WATCH again', r.watch(['k', 'other']), 'OK');
  await other.set('k', 'again');
  await t.eq('UNWATCH', r.unwatch(), 'OK');
  await t.eq('EXEC after UNWATCH', r.multi().get('k').exec(), ['again']);
  await t.eq('MULTI', r.sendCommand(['MULTI']), 'OK');
  await t.eq('QUEUED to discard', r.sendCommand(['GETDEL', 'k']), 'QUEUED');
  await t.eq('DISCARD', r.sendCommand(['DISCARD']), 'OK');
  await t.eq('GET after DISCARD', r.get('k'), 'again');
  await t.eq('MULTI to abort', r.sendCommand(['MULTI']), 'OK');
  await t.fails('not queued', r.sendCommand(['GET']), ErrorReply, "ERR wrong number of arguments for 'get' command");
  await t.fails('EXECABORT', r.sendCommand(['EXEC']), ErrorReply, 'EXECABORT Transaction discarded because of previous errors.');
  await other.set('text', 't');
  await t.fails('EXEC with an error', r.multi().incr('text').set('after', '1').exec(), MultiErrorReply, '1 commands failed');
  await t.eq('GET after the error', r.get('after'), '1');
}

async function connection(t, r, other, { connect, protocol, ringwood }) {
  await t.eq('PING', r.ping(), 'PONG');
  await t.eq('PING message', r.ping('hello'), 'hello');
  await t.eq('ECHO', r.echo('hello'), 'hello');
  const hello = await t.that('HELLO', r.hello(), (got) => got.version.startsWith('7.') && Number.isInteger(got.id));
  await t.eq('HELLO fields', [hello.proto, hello.mode, hello.role, hello.modules], [protocol, 'standalone', 'master', []]);
  await t.eq('HELLO SETNAME', r.hello(protocol, { SETNAME: 'by-hello' }).then((got) => got.proto), protocol);
  await t.eq('CLIENT GETNAME', r.clientGetName(), 'by-hello');
  await t.eq('AUTH nopass user', r.auth({ username: 'default', password: 'secret' }), 'OK');
  await t.fails('AUTH unknown user', r.auth({ username: 'nobody', password: 'secret' }), ErrorReply, 'WRONGPASS ');

  const third = await connect();
  await third.clientSetName('third');
  await third.reset(); // RESET and the handshake again
  await t.that('CLIENT INFO after RESET', third.clientInfo(), (got) => got.name === '' && got.db === 0);
  await t.eq('QUIT', third.quit(), 'OK');
  await t.eq('after QUIT', third.isOpen, false);

  await t.eq('READONLY', orError(r.readonly()), ringwood ? 'OK' : NO_CLUSTER);
  await t.eq('READWRITE', orError(r.sendCommand(['READWRITE'])), ringwood ? 'OK' : NO_CLUSTER);
  await t.eq('ASKING', orError(r.asking()), ringwood ? 'OK' : NO_CLUSTER);
  await t.eq('WAIT', r.wait(0, 0), 0);
}

async function clients(t, r, other, { connect, protocol }) {
  const number = await t.that('CLIENT ID', r.clientId(), within(1, 2 ** 53));
  await t.eq('CLIENT SETNAME', r.clientSetName('checks'), 'OK');
  await t.eq('CLIENT GETNAME', r.clientGetName(), 'checks');
  await t.that('CLIENT SETINFO', orError(r.sendCommand(['CLIENT', 'SETINFO', 'LIB-NAME', 'checks'])), okOr('ERR unknown subcommand'));
  await t.that('CLIENT INFO', r.clientInfo(), (got) =>
    got.id === number && got.name === 'checks' && got.db === 0 && got.user === 'default' && [undefined, protocol].includes(got.resp));
  await t.that('CLIENT LIST ID', r.clientList({ ID: [String(number)] }), (got) => got.length === 1 && got[0].id === number);
  await t.that('CLIENT LIST TYPE', r.clientList({ TYPE: 'NORMAL' }), (got) => got.some(({ id }) => id === number));

  const victim = await connect({ reconnectStrategy: false });
  const { id, addr } = await victim.clientInfo();
  const gone = new Promise((resolve) => victim.once('error', resolve));
  await t.eq('CLIENT KILL ID', r.clientKill({ filter: 'ID', id }), 1);
  await t.that('after CLIENT KILL', gone, (error) => error instanceof Error && !victim.isReady);
  await t.fails('CLIENT KILL gone', r.sendCommand(['CLIENT', 'KILL', addr]), ErrorReply, 'ERR No such client');

  await t.eq('CLIENT PAUSE WRITE', r.clientPause(60, 'WRITE'), 'OK');
  const start = Date.now();
  await t.eq('GET while paused', other.get('absent'), null);
  await t.that('SET while paused', other.set('after', 'pause'), () => Date.now() - start > 30);
  await t.eq('CLIENT PAUSE long', r.clientPause(60_000, 'WRITE'), 'OK');
  await t.eq('CLIENT UNPAUSE', r.clientUnpause(), 'OK');
  await t.eq('SET after UNPAUSE', other.set('after', 'unpause'), 'OK');

  await t.eq('CLIENT REPLY ON', r.sendCommand(['CLIENT', 'REPLY', 'ON']), 'OK');
  await t.eq('CLIENT NO-EVICT', r.clientNoEvict(true), 'OK');
  await t.that('CLIENT NO-TOUCH', orError(r.clientNoTouch(false)), okOr('ERR unknown subcommand'));
  await t.that('CLIENT TRACKINGINFO', r.clientTrackingInfo(), (got) =>
    [...got.flags].includes('off') && got.redirect === -1 && got.prefixes.length === 0);
}

async function server(t, r, other, { connect }) {
  const threshold = 'slowlog-log-slower-than';
  const before = (await t.that('CONFIG GET', r.configGet(threshold), (got) => Object.keys(got).length === 1))[threshold];
  await t.eq('CONFIG GET unknown', r.configGet('no-such-directive').then(fields), {});
  await t.that('CONFIG GET two', r.configGet([threshold, 'slowlog-max-*']), (got) => 'slowlog-max-len' in got);
  await t.eq('CONFIG SET', r.configSet(threshold, '0'), 'OK');
  await t.fails('CONFIG SET unknown', r.configSet('nope', '1'), ErrorReply, "ERR Unknown option or number of arguments for CONFIG SET - 'nope'");
  await t.eq('SLOWLOG RESET', r.sendCommand(['SLOWLOG', 'RESET']), 'OK');
  await r.set('slow', 'log');
  await t.that('SLOWLOG LEN', r.sendCommand(['SLOWLOG', 'LEN']), within(1, 1000));
  await t.that('SLOWLOG GET', r.sendCommand(['SLOWLOG', 'GET', '10']), (got) =>
    got.some(([id, at, micros, words]) => [id, at, micros].every(Number.isInteger) && words.join(' ') === 'SET slow log'));
  await r.configSet({ [threshold]: before });
  await t.eq('CONFIG RESETSTAT', r.configResetStat(), 'OK');
  await t.that('CONFIG REWRITE', orError(r.configRewrite()), okOr('ERR '));

  await t.that('INFO', r.info(), (got) => /^redis_version:7\./m.test(got) && /^role:master\r?$/m.test(got));
  await t.that('INFO server', r.info('server'), (got) => got.startsWith('# Server\r\n') && !got.includes('# Clients'));
  await t.that('INFO keyspace', r.info('keyspace'), (got) => /^db0:keys=\d+,expires=\d+/m.test(got));

  const names = await t.that('COMMAND LIST', r.commandList(), (got) => got.includes('get'));
  await t.eq('COMMAND LIST PATTERN', r.commandList({ FILTERBY: { type: 'PATTERN', value: 'getse?' } }), ['getset']);
  await t.eq('COMMAND COUNT', r.commandCount(), names.filter((name) => !name.includes('|')).length);
  await t.that('COMMAND', r.command(), (got) => got.some(({ name, arity }) => name === 'get' && arity === 2));
  await t.that('COMMAND INFO', r.commandInfo(['get', 'nope']), ([get, nope]) =>
    get.name === 'get' && get.arity === 2 && get.flags.has('readonly') && get.firstKeyIndex === 1 && nope === null);
  await t.that('COMMAND DOCS', r.commandDocs(['get']), (got) => typeof fields(fields(got).get).summary === 'string');
  await t.eq('COMMAND GETKEYS', r.commandGetKeys(['MSET', 'a', '1', 'b', '2']), ['a', 'b']);

  await t.that('TIME', r.time(), ([at, micros]) => Math.abs(Number(at) - Date.now() / 1000) < 5 && Number(micros) < 1_000_000);
  while (/^rdb_bgsave_in_progress:1/m.test(await r.info('persistence'))) await sleep(10);
  await t.eq('SAVE', r.sendCommand(['SAVE']), 'OK');
  await t.that('LASTSAVE', r.lastSave(), (got) => Math.abs(got - Date.now() / 1000) < 60);
  await t.that('BGSAVE', r.bgSave({ SCHEDULE: true }), (got) => /^Background saving (started|scheduled)$/.test(got));
  await t.that('ROLE', r.role(), ({ role, replicationOffest, replicas }) =>
    role === 'master' && Number.isInteger(replicationOffest) && replicas.length === 0);
  await t.eq('LATENCY LATEST', r.latencyLatest(), []);
  await t.eq('LATENCY HISTORY', r.latencyHistory('command'), []);
  await t.eq('LATENCY RESET', r.latencyReset(), 0);
  await t.that('DEBUG SLEEP', orError(r.sendCommand(['DEBUG', 'SLEEP', '0'])), okOr('ERR DEBUG command not allowed'));

  const watcher = await connect();
  let heard;
  const seen = new Promise((resolve) => { heard = resolve; });
  await watcher.monitor((line) => line.includes('"seen"') && heard(line));
  await other.set('seen', 'by monitor');
  await t.that('MONITOR', Promise.race([seen, sleep(1000)]), (line) => /^\d+\.\d+ \[0 .+\] "SET" "seen" "by monitor"$/.test(line));
  watcher.destroy();
}

async function errors(t, r) {
  await r.mSet({ text: 't', big: '9223372036854775807' });
  for (const [words, text] of badCommands) await t.fails(words.join(' '), r.sendCommand(words), ErrorReply, text);
}

const { host, port, ringwood } = serverArguments();
const t = new Checks('node_redis');
for (const options of [{}, { RESP: 2 }]) {
  const connect = async (socket) => {
    const client = createClient({ socket: { host, port, ...socket }, ...options });
    client.on('error', () => {}); // every command that fails is checked by itself
    return client.connect();
  };
  const [r, other] = [await connect(), await connect()];
  const protocol = options.RESP ?? DEFAULT_RESP;
  t.context = `RESP${protocol} `;
  const groups = [strings, binary, pipelines, keys, expiry, objects, databases, transactions, connection, clients, server, errors];
  for (const group of groups) {
    await r.flushAll();
    await t.group(group, r, other, { connect, protocol, ringwood });
  }
  await r.flushAll();
  if (ringwood) await t.group(ringwoodOnly, (...words) => r.sendCommand(words));
  await r.flushAll();
  r.destroy();
  other.destroy();
}
t.finish();
