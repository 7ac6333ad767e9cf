// ioredis against a server: ioredis.mjs HOST PORT [--ringwood]. Empties all databases.
// Runs everything twice: with the protocol that ioredis chooses by itself, and with RESP2.
import { Redis, ReplyError } from 'ioredis';
import {
  Checks, badCommands, binaryKey, fields, lineField, mebibyte, numbers, okOr, orError, ringwoodOnly, serverArguments, sleep, within,
} from './check.mjs';

const NO_CLUSTER = 'ERR This instance has cluster support disabled';
const seconds = () => Math.floor(Date.now() / 1000);

async function strings(t, r) {
  const now = seconds();
  await t.eq('GET missing', r.get('k'), null);
  await t.eq('SET', r.set('k', 'v'), 'OK');
  await t.eq('GET', r.get('k'), 'v');
  await t.eq('SET EX', r.set('k', 'v', 'EX', 100), 'OK');
  await t.that('TTL', r.ttl('k'), within(99, 100));
  await t.eq('SET KEEPTTL', r.set('k', 'w', 'KEEPTTL'), 'OK');
  await t.that('TTL kept', r.ttl('k'), within(99, 100));
  await t.eq('SET PX', r.set('k', 'v', 'PX', 50_000), 'OK');
  await t.that('PTTL', r.pttl('k'), within(49_000, 50_000));
  await t.eq('SET EXAT', r.set('k', 'v', 'EXAT', now + 200), 'OK');
  await t.eq('EXPIRETIME', r.expiretime('k'), now + 200);
  await t.eq('SET PXAT', r.set('k', 'v', 'PXAT', now * 1000 + 200_500), 'OK');
  await t.eq('PEXPIRETIME', r.pexpiretime('k'), now * 1000 + 200_500);
  await t.eq('SET NX existing', r.set('k', 'no', 'NX'), null);
  await t.eq('SET XX', r.set('k', 'yes', 'XX'), 'OK');
  await t.eq('SET clears TTL', r.ttl('k'), -1);
  await t.eq('SET XX missing', r.set('new', 'no', 'XX'), null);
  await t.eq('SET EX NX', r.set('new', 'v', 'EX', 10, 'NX'), 'OK');
  await t.eq('SET GET', r.set('new', 'w', 'GET'), 'v');
  await t.eq('SET NX GET', r.set('new', 'no', 'NX', 'GET'), 'w');
  await t.eq('SETNX', r.setnx('other', 1), 1);
  await t.eq('SETNX existing', r.setnx('other', 2), 0);
  await t.eq('SETEX', r.setex('k', 100, 'v'), 'OK');
  await t.eq('PSETEX', r.psetex('k', 90_000, 'v'), 'OK');
  await t.that('PTTL after PSETEX', r.pttl('k'), within(89_000, 90_000));
  await t.eq('GETSET', r.getset('k', 'w'), 'v');
  await t.eq('GETDEL', r.getdel('k'), 'w');
  await t.eq('GETDEL missing', r.getdel('k'), null);
  await r.set('k', 'v');
  await t.eq('GETEX EX', r.getex('k', 'EX', 100), 'v');
  await t.eq('GETEX PX', r.getex('k', 'PX', 90_000), 'v');
  await t.that('PTTL after GETEX', r.pttl('k'), within(89_000, 90_000));
  await t.eq('GETEX EXAT', r.getex('k', 'EXAT', now + 300), 'v');
  await t.eq('EXPIRETIME after GETEX', r.expiretime('k'), now + 300);
  await t.eq('GETEX PXAT', r.getex('k', 'PXAT', now * 1000 + 300_007), 'v');
  await t.eq('PEXPIRETIME after GETEX', r.pexpiretime('k'), now * 1000 + 300_007);
  await t.eq('GETEX PERSIST', r.getex('k', 'PERSIST'), 'v');
  await t.eq('GETEX', r.getex('k'), 'v');
  await t.eq('TTL after PERSIST', r.ttl('k'), -1);
  await t.eq('MSET object', r.mset({ m1: 'a', m2: 'b' }), 'OK');
  await t.eq('MSET words', r.mset('m3', ''), 'OK');
  await t.eq('MGET', r.mget('m1', 'm2', 'm3', 'm4'), ['a', 'b', '', null]);
  await t.eq('MSETNX refused', r.msetnx({ m3: 'x', m4: 'y' }), 0);
  await t.eq('MSETNX', r.msetnx(new Map([['m4', 'x'], ['m5', 'y']])), 1);
  await t.eq('APPEND new', r.append('greeting', 'Hello'), 5);
  await t.eq('APPEND', r.append('greeting', ' World'), 11);
  await t.eq('STRLEN', r.strlen('greeting'), 11);
  await t.eq('GETRANGE', r.getrange('greeting', -5, -1), 'World');
  await t.eq('SUBSTR', r.substr('greeting', 0, 4), 'Hello');
  await t.eq('SETRANGE', r.setrange('greeting', 6, 'Redis'), 11);
  await t.eq('GET after SETRANGE', r.get('greeting'), 'Hello Redis');
  await t.eq('SETRANGE pads', r.setrange('padded', 2, 'ab'), 4);
  await t.eq('GET padded', r.getBuffer('padded'), Buffer.from('\0\0ab'));
  await t.eq('INCR', r.incr('n'), 1);
  await t.eq('INCRBY', r.incrby('n', 10), 11);
  await t.eq('DECR', r.decr('n'), 10);
  await t.eq('DECRBY', r.decrby('n', 20), -10);
  await t.eq('INCRBYFLOAT', r.incrbyfloat('n', 0.25), '-9.75');
  await r.mset({ lcs1: 'ohmytext', lcs2: 'mynewtext' });
  const ranges = [[[4, 7], [5, 8]], [[2, 3], [0, 1]]];
  await t.eq('LCS', r.lcs('lcs1', 'lcs2'), 'mytext');
  await t.eq('LCS LEN', r.lcs('lcs1', 'lcs2', 'LEN'), 6);
  await t.eq('LCS IDX', r.lcs('lcs1', 'lcs2', 'IDX').then(fields), { matches: ranges, len: 6 });
  await t.eq('LCS WITHMATCHLEN', r.lcs('lcs1', 'lcs2', 'IDX', 'MINMATCHLEN', 4, 'WITHMATCHLEN').then(fields), {
    matches: [[...ranges[0], 4]], len: 6,
  });
}

async function binary(t, r) {
  await t.eq('SET 1 MiB', r.set('mebibyte', mebibyte), 'OK');
  await t.eq('GET 1 MiB', r.getBuffer('mebibyte'), mebibyte);
  await t.eq('STRLEN 1 MiB', r.strlen('mebibyte'), mebibyte.length);
  await t.eq('GETRANGE 1 MiB', r.getrangeBuffer('mebibyte', 250, 259), mebibyte.subarray(250, 260));
  await t.eq('SET binary key', r.set(binaryKey, 'v'), 'OK');
  await t.eq('GET binary key', r.get(binaryKey), 'v');
  await t.eq('KEYS binary', r.keysBuffer('\0*'), [binaryKey]);
  await t.eq('DEL binary key', r.del(binaryKey), 1);
}

async function pipelines(t, r) {
  for (const kind of ['pipeline', 'multi']) {
    await r.del('count');
    const batch = r[kind]();
    for (let count = 0; count < 1000; count += 1) batch.incr('count');
    await t.eq(`${kind} of 1,000`, batch.exec(), numbers(1000).map((number) => [null, number]));
  }
  await r.del('count');
  await t.eq('1,000 at once', Promise.all(numbers(1000).map(() => r.incr('count'))), numbers(1000));
  await t.that('pipeline with an error', r.pipeline().set('text', 't').incr('text').get('text').exec(), ([[, set], [error], [, get]]) =>
    set === 'OK' && error instanceof ReplyError && get === 't');
}

async function keys(t, r) {
  await r.mset({ a: 1, b: 'two', c: 3 });
  await t.eq('DBSIZE', r.dbsize(), 3);
  await t.eq('EXISTS', r.exists('a', 'a', 'z'), 2);
  await t.eq('TYPE', r.type('a'), 'string');
  await t.eq('TYPE missing', r.type('z'), 'none');
  await t.eq('TOUCH', r.touch('a', 'b', 'z'), 2);
  await t.eq('RENAME', r.rename('a', 'd'), 'OK');
  await t.eq('RENAMENX taken', r.renamenx('d', 'b'), 0);
  await t.eq('RENAMENX', r.renamenx('d', 'a'), 1);
  await t.eq('COPY', r.copy('a', 'copy'), 1);
  await t.eq('COPY taken', r.copy('a', 'b'), 0);
  await t.eq('COPY REPLACE', r.copy('a', 'b', 'REPLACE'), 1);
  await t.eq('COPY DB', r.copy('a', 'there', 'DB', 1), 1);
  await t.that('RANDOMKEY', r.randomkey(), (got) => ['a', 'b', 'c', 'copy'].includes(got));
  await t.eq('KEYS', r.keys('[a-c]').then((got) => got.sort()), ['a', 'b', 'c']);
  await t.eq('DEL', r.del('a', 'b', 'z'), 2);
  await t.eq('UNLINK', r.unlink('c', 'z'), 1);

  await r.flushdb();
  await t.eq('RANDOMKEY of none', r.randomkey(), null);
  const names = numbers(100).map((number) => `scan:${number}`).sort();
  await r.mset(names.flatMap((name) => [name, 'v']));
  await r.set('unlike', 'v');
  await t.that('SCAN', r.scan(0), ([cursor, page]) => typeof cursor === 'string' && Array.isArray(page));
  await t.eq('SCAN TYPE', r.scan(0, 'MATCH', 'scan:*', 'COUNT', 1000, 'TYPE', 'list'), ['0', []]);
  const collect = async (stream) => [...new Set((await stream.toArray()).flat())].sort();
  await t.eq('scanStream', collect(r.scanStream()), [...names, 'unlike']);
  await t.eq('scanStream MATCH COUNT TYPE', collect(r.scanStream({ match: 'scan:*', count: 7, type: 'string' })), names);
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
  await t.eq('PEXPIRE LT refused', r.pexpire('k', 300_000, 'LT'), 0);
  await t.eq('PEXPIRE LT', r.pexpire('k', 150_000, 'LT'), 1);
  await t.that('PTTL', r.pttl('k'), within(149_000, 150_000));
  await t.eq('EXPIREAT XX', r.expireat('k', now + 500, 'XX'), 1);
  await t.eq('EXPIRETIME', r.expiretime('k'), now + 500);
  await t.eq('PEXPIREAT', r.pexpireat('k', now * 1000 + 600_001, 'GT'), 1);
  await t.eq('PEXPIRETIME', r.pexpiretime('k'), now * 1000 + 600_001);
  await t.eq('PERSIST', r.persist('k'), 1);
  await t.eq('PERSIST without', r.persist('k'), 0);
  await t.eq('EXPIRE in the past', r.expire('k', -1), 1);
  await t.eq('EXISTS expired', r.exists('k'), 0);
  await r.set('brief', 'v', 'PX', 20);
  await sleep(50);
  await t.eq('GET expired', r.get('brief'), null);
}

async function objects(t, r) {
  await r.mset({ int: 12345, short: 'text', long: 'x'.repeat(100) });
  for (const [key, encoding] of [['int', 'int'], ['short', 'embstr'], ['long', 'raw'], ['absent', null]]) {
    await t.eq(`OBJECT ENCODING ${key}`, r.object('ENCODING', key), encoding);
  }
  await t.that('OBJECT IDLETIME', r.object('IDLETIME', 'short'), within(0, 10));
  await t.eq('OBJECT REFCOUNT', r.object('REFCOUNT', 'short'), 1);
  await t.fails('OBJECT FREQ', r.object('FREQ', 'short'), ReplyError, 'ERR An LFU maxmemory policy is not selected');
  await t.that('MEMORY USAGE', r.memory('USAGE', 'long', 'SAMPLES', 0), within(100, 10_000));
  await t.eq('MEMORY USAGE missing', r.memory('USAGE', 'absent'), null);
  const payload = await t.that('DUMP', r.dumpBuffer('long'), (got) => Buffer.isBuffer(got) && got.length > 0);
  await t.eq('DUMP missing', r.dump('absent'), null);
  await t.eq('RESTORE', r.restore('copy', 0, payload), 'OK');
  await t.eq('GET restored', r.get('copy'), 'x'.repeat(100));
  await t.fails('RESTORE taken', r.restore('copy', 0, payload), ReplyError, 'BUSYKEY Target key name already exists.');
  const until = Date.now() + 60_000;
  await t.eq('RESTORE REPLACE ABSTTL', r.restore('copy', until, payload, 'REPLACE', 'ABSTTL'), 'OK');
  await t.eq('PEXPIRETIME restored', r.pexpiretime('copy'), until);
  await t.fails('RESTORE foreign', r.restore('foreign', 0, 'not a payload'), ReplyError, 'ERR DUMP payload version or checksum are wrong');
}

async function databases(t, r) {
  await r.set('k', 'zero');
  await t.eq('MOVE', r.move('k', 1), 1);
  await t.eq('MOVE missing', r.move('k', 1), 0);
  await t.eq('SELECT', r.select(1), 'OK');
  await t.eq('GET moved', r.get('k'), 'zero');
  await t.eq('SWAPDB', r.swapdb(0, 1), 'OK');
  await t.eq('GET swapped', r.get('k'), null);
  await t.eq('SELECT back', r.select(0), 'OK');
  await t.eq('GET back', r.get('k'), 'zero');
  await t.eq('FLUSHDB', r.flushdb(), 'OK');
  await t.eq('FLUSHDB ASYNC', r.flushdb('ASYNC'), 'OK');
  await t.eq('DBSIZE', r.dbsize(), 0);
  await t.eq('FLUSHALL SYNC', r.flushall('SYNC'), 'OK');
}

async function transactions(t, r, other) {
  await t.eq('MULTI EXEC', r.multi().set('k', 1).incr('k').get('k').exec(), [[null, 'OK'], [null, 2], [null, '2']]);
  await t.eq('WATCH', r.watch('k'), 'OK');
  await other.set('k', 'changed');
  await t.eq('EXEC aborted by WATCH', r.multi().set('k', 'lost').exec(), null);
  await t.eq('GET after abort', r.get('k'), 'changed');
  await t.eq('WATCH again', r.watch('k'), 'OK');
  await other.set('k', 'again');
  await t.eq('UNWATCH', r.unwatch(), 'OK');
  await t.eq('MULTI', r.multi({ pipeline: false }), 'OK');
  await t.eq('QUEUED', r.get('k'), 'QUEUED');
  await t.eq('EXEC', r.exec(), [[null, 'again']]);
  await t.eq('MULTI to discard', r.multi({ pipeline: false }), 'OK');
  await t.eq('QUEUED to discard', r.getdel('k'), 'QUEUED');
  await t.eq('DISCARD', r.discard(), 'OK');
  await t.eq('GET after DISCARD', r.get('k'), 'again');
  await t.fails('EXECABORT', r.multi().set('k').get('k').exec(), ReplyError, 'EXECABORT Transaction discarded because of previous errors.');
  await other.set('text', 't');
  await t.that('EXEC with an error', r.multi().incr('text').set('after', 1).exec(), ([[error], after]) =>
    error instanceof ReplyError && after[0] === null && after[1] === 'OK');
}

async function connection(t, r, other, { connect, protocol, ringwood }) {
  await t.eq('PING', r.ping(), 'PONG');
  await t.eq('PING message', r.ping('hello'), 'hello');
  await t.eq('ECHO', r.echo('hello'), 'hello');
  const hello = await t.that('HELLO', r.hello().then(fields), (got) => got.version.startsWith('7.'));
  await t.eq('HELLO proto', hello.proto, protocol);
  await t.eq('HELLO mode role', [hello.mode, hello.role], ['standalone', 'master']);
  await t.eq('HELLO SETNAME', r.hello(protocol, 'SETNAME', 'by-hello').then((got) => fields(got).proto), protocol);
  await t.eq('CLIENT GETNAME', r.client('GETNAME'), 'by-hello');

  const third = connect();
  await third.select(2);
  await t.eq('RESET', third.reset(), 'RESET');
  await t.that('CLIENT INFO after RESET', third.client('INFO'), (got) => lineField(got, 'db', '=') === '0');
  await t.eq('QUIT', third.quit(), 'OK');
  await t.fails('after QUIT', third.ping(), Error, 'Connection is closed.');

  for (const name of ['readonly', 'readwrite', 'asking']) {
    await t.eq(name, orError(r[name]()), ringwood ? 'OK' : NO_CLUSTER);
  }
  await t.eq('WAIT', r.wait(0, 0), 0);
}

async function clients(t, r, other, { connect }) {
  const number = await t.that('CLIENT ID', r.client('ID'), within(1, 2 ** 53));
  await t.eq('CLIENT SETNAME', r.client('SETNAME', 'checks'), 'OK');
  await t.eq('CLIENT GETNAME', r.client('GETNAME'), 'checks');
  await t.that('CLIENT SETINFO', orError(r.client('SETINFO', 'LIB-NAME', 'checks')), okOr('ERR unknown subcommand'));
  const info = await t.that('CLIENT INFO', r.client('INFO'), (got) => lineField(got, 'id', '=') === String(number));
  await t.eq('CLIENT INFO name', lineField(info, 'name', '='), 'checks');
  await t.that('CLIENT LIST ID', r.client('LIST', 'ID', number), (got) => got.trim().split('\n').length === 1);
  await t.that('CLIENT LIST TYPE', r.client('LIST', 'TYPE', 'normal'), (got) => got.includes(`id=${number} `));

  const victim = connect({ retryStrategy: () => null });
  const address = lineField(await victim.client('INFO'), 'addr', '=');
  await t.eq('CLIENT KILL ID', r.client('KILL', 'ID', await victim.client('ID')), 1);
  await t.fails('after CLIENT KILL', victim.ping(), Error, 'Connection is closed.');
  await t.fails('CLIENT KILL gone', r.client('KILL', address), ReplyError, 'ERR No such client');

  await t.eq('CLIENT PAUSE WRITE', r.client('PAUSE', 60, 'WRITE'), 'OK');
  const start = Date.now();
  await t.eq('GET while paused', other.get('absent'), null);
  await t.that('SET while paused', other.set('after', 'pause'), () => Date.now() - start > 30);
  await t.eq('CLIENT PAUSE long', r.client('PAUSE', 60_000, 'WRITE'), 'OK');
  await t.eq('CLIENT UNPAUSE', r.client('UNPAUSE'), 'OK');
  await t.eq('SET after UNPAUSE', other.set('after', 'unpause'), 'OK');

  await t.eq('CLIENT REPLY ON', r.client('REPLY', 'ON'), 'OK');
  await t.eq('CLIENT NO-EVICT', r.client('NO-EVICT', 'ON'), 'OK');
  await t.that('CLIENT NO-TOUCH', orError(r.client('NO-TOUCH', 'OFF')), okOr('ERR unknown subcommand'));
  await t.that('CLIENT TRACKINGINFO', r.client('TRACKINGINFO').then(fields), (got) =>
    [...got.flags].includes('off') && got.redirect === -1 && got.prefixes.length === 0);
}

async function server(t, r, other) {
  const threshold = 'slowlog-log-slower-than';
  const before = (await t.that('CONFIG GET', r.config('GET', threshold).then(fields), (got) => Object.keys(got).length === 1))[threshold];
  await t.eq('CONFIG GET unknown', r.config('GET', 'no-such-directive').then(fields), {});
  await t.that('CONFIG GET two', r.config('GET', threshold, 'slowlog-max-*').then(fields), (got) => 'slowlog-max-len' in got);
  await t.eq('CONFIG SET', r.config('SET', threshold, 0), 'OK');
  await t.fails('CONFIG SET unknown', r.config('SET', 'nope', 1), ReplyError, "ERR Unknown option or number of arguments for CONFIG SET - 'nope'");
  await t.eq('SLOWLOG RESET', r.slowlog('RESET'), 'OK');
  await r.set('slow', 'log');
  await t.that('SLOWLOG LEN', r.slowlog('LEN'), within(1, 1000));
  await t.that('SLOWLOG GET', r.slowlog('GET', 10), (got) =>
    got.some(([id, at, micros, words]) => [id, at, micros].every(Number.isInteger) && words.join(' ').toLowerCase() === 'set slow log'));
  await r.config('SET', threshold, before);
  await t.eq('CONFIG RESETSTAT', r.config('RESETSTAT'), 'OK');
  await t.that('CONFIG REWRITE', orError(r.config('REWRITE')), okOr('ERR '));

  await t.that('INFO', r.info(), (got) => lineField(got, 'redis_version', ':').startsWith('7.') && lineField(got, 'role', ':') === 'master');
  await t.that('INFO server', r.info('server'), (got) => got.startsWith('# Server\r\n') && !got.includes('# Clients'));
  await t.that('INFO keyspace', r.info('keyspace'), (got) => lineField(got, 'db0', ':').startsWith('keys='));

  const names = await t.that('COMMAND LIST', r.command('LIST'), (got) => got.includes('get'));
  await t.eq('COMMAND COUNT', r.command('COUNT'), names.filter((name) => !name.includes('|')).length);
  await t.that('COMMAND INFO', r.command('INFO', 'get', 'nope'), ([get, nope]) => get[0] === 'get' && get[1] === 2 && nope === null);
  await t.that('COMMAND DOCS', r.command('DOCS', 'get').then(fields), (got) => typeof fields(got.get).summary === 'string');
  await t.eq('COMMAND GETKEYS', r.command('GETKEYS', 'MSET', 'a', 1, 'b', 2), ['a', 'b']);

  await t.that('TIME', r.time(), ([at, micros]) => Math.abs(Number(at) - Date.now() / 1000) < 5 && Number(micros) < 1_000_000);
  while (lineField(await r.info('persistence'), 'rdb_bgsave_in_progress', ':') === '1') await sleep(10);
  await t.eq('SAVE', r.save(), 'OK');
  await t.that('LASTSAVE', r.lastsave(), (got) => Math.abs(got - Date.now() / 1000) < 60);
  await t.that('BGSAVE', r.bgsave('SCHEDULE'), (got) => /^Background saving (started|scheduled)$/.test(got));
  await t.that('ROLE', r.role(), ([role, offset, replicas]) => role === 'master' && Number.isInteger(offset) && replicas.length === 0);
  await t.eq('LATENCY LATEST', r.latency('LATEST'), []);
  await t.eq('LATENCY HISTORY', r.latency('HISTORY', 'command'), []);
  await t.eq('LATENCY RESET', r.latency('RESET'), 0);
  await t.that('DEBUG SLEEP', orError(r.debug('SLEEP', 0)), okOr('ERR DEBUG command not allowed'));

  const monitor = await r.monitor();
  const seen = new Promise((resolve) => monitor.on('monitor', (_time, words) => words[1] === 'seen' && resolve(words)));
  await other.set('seen', 'by monitor');
  await t.eq('MONITOR', Promise.race([seen, sleep(1000)]).then((words) => words?.slice(1)), ['seen', 'by monitor']);
  monitor.disconnect();
}

async function errors(t, r) {
  await r.mset({ text: 't', big: '9223372036854775807' });
  for (const [words, text] of badCommands) await t.fails(words.join(' '), r.call(...words), ReplyError, text);
}

const { host, port, ringwood } = serverArguments();
const t = new Checks('ioredis');
for (const options of [{}, { protocol: 2 }]) {
  const connect = (more) => {
    const client = new Redis({ host, port, ...options, ...more });
    client.on('error', () => {}); // every command that fails is checked by itself
    return client;
  };
  const [r, other] = [connect(), connect()];
  const protocol = r.options.protocol;
  t.context = `RESP${protocol} `;
  for (const group of [strings, binary, pipelines, keys, expiry, objects, databases, transactions, connection, clients, server, errors]) {
    await r.flushall();
    await t.group(group, r, other, { connect, protocol, ringwood });
  }
  await r.flushall();
  if (ringwood) await t.group(ringwoodOnly, (...words) => r.call(...words));
  await r.flushall();
  r.disconnect();
  other.disconnect();
}
t.finish();
