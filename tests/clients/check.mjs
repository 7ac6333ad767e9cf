// The little harness of the Node scripts: counted checks, one summary line.
import { isDeepStrictEqual, inspect } from 'node:util';

const show = (value) => inspect(value, { depth: 5, breakLength: Infinity, maxStringLength: 100, maxArrayLength: 10 });

export class Checks {
  context = '';
  passed = 0;
  failed = 0;

  constructor(name) {
    this.name = name;
  }

  /** The reply is `want`: the same type, the same value. Returns what came. */
  eq(what, reply, want) {
    return this.that(what, reply, (got) => isDeepStrictEqual(got, want), `want ${show(want)}`);
  }

  /** `holds` is true of the reply. Returns what came; a failing check stops nothing else. */
  async that(what, reply, holds, complaint = 'unexpected reply') {
    let got;
    try {
      got = await (typeof reply === 'function' ? reply() : reply);
      this.#count(await holds(got), `${what}: ${complaint}, got ${show(got)}`);
    } catch (error) {
      this.#count(false, `${what}: ${complaint}, raised ${error}`);
    }
    return got;
  }

  /** The reply is an error of class `kind` whose message starts with `text`. */
  async fails(what, reply, kind, text) {
    try {
      const got = await (typeof reply === 'function' ? reply() : reply);
      this.#count(false, `${what}: want error ${show(text)}, got ${show(got)}`);
    } catch (error) {
      const good = error instanceof kind && error.message.startsWith(text);
      this.#count(good, `${what}: want ${kind.name} ${show(text)}, got ${error?.constructor?.name} ${show(error.message)}`);
    }
  }

  /** Runs a group of checks; an exception between two checks ends only the group. */
  async group(run, ...args) {
    try {
      await run(this, ...args);
    } catch (error) {
      this.#count(false, `${run.name} ended early: ${error?.stack ?? error}`);
    }
  }

  finish() {
    console.log(`${this.name}: ${this.passed} passed, ${this.failed} failed`);
    process.exit(this.failed ? 1 : 0);
  }

  #count(good, complaint) {
    if (good) this.passed += 1;
    else {
      this.failed += 1;
      console.error(`FAILED ${this.context}${complaint}`);
    }
  }
}

export function serverArguments() {
  const words = process.argv.slice(2);
  const ringwood = words.includes('--ringwood');
  const [host, port] = words.filter((word) => !word.startsWith('--'));
  if (!host || !port) {
    console.error(`usage: ${process.argv[1]} HOST PORT [--ringwood]`);
    process.exit(2);
  }
  return { host, port: Number(port), ringwood };
}

export const within = (low, high) => (got) => typeof got === 'number' && low <= got && got <= high;

/** The reply, or the message of the error that came instead of one. */
export const orError = (reply) => reply.catch((error) => error.message);

export const okOr = (text) => (got) => got === 'OK' || (typeof got === 'string' && got.startsWith(text));

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Flat [key, value, ...] of RESP2 and what RESP3 makes a map, as one object. */
export function fields(reply) {
  if (reply instanceof Map) return Object.fromEntries(reply);
  if (!Array.isArray(reply)) return { ...reply };
  return Object.fromEntries(reply.flatMap((_, at) => (at % 2 ? [] : [[reply[at], reply[at + 1]]])));
}

/** The fields of the first line of CLIENT INFO or INFO text. */
export const lineField = (text, name, separator) =>
  text.split(separator === '=' ? /\s+/ : /\r?\n/).find((line) => line.startsWith(name + separator))?.slice(name.length + 1);

export const numbers = (count) => Array.from({ length: count }, (_, at) => at + 1);

export const mebibyte = Buffer.from(Array.from({ length: 2 ** 20 }, (_, at) => at % 256));
export const binaryKey = Buffer.from([0, 255, 13, 10, 107, 101, 121, 128]);

/** Words of commands and the error each of them has to make. */
export const badCommands = [
  [['GET'], "ERR wrong number of arguments for 'get' command"],
  [['MSET', 'a'], "ERR wrong number of arguments for 'mset' command"],
  [['NOPE', 'a', 'b'], "ERR unknown command 'NOPE', with args beginning with: 'a' 'b' "],
  [['CLIENT', 'NOPE'], "ERR unknown subcommand 'NOPE'. Try CLIENT HELP."],
  [['CLIENT', 'SETNAME'], "ERR wrong number of arguments for 'client|setname' command"],
  [['SET', 'k', 'v', 'NOPE'], 'ERR syntax error'],
  [['SET', 'k', 'v', 'NX', 'XX'], 'ERR syntax error'],
  [['SCAN', '0', 'NOPE', '1'], 'ERR syntax error'],
  [['INCR', 'text'], 'ERR value is not an integer or out of range'],
  [['INCRBY', 'n', '1.5'], 'ERR value is not an integer or out of range'],
  [['SET', 'k', 'v', 'EX', 'x'], 'ERR value is not an integer or out of range'],
  [['INCR', 'big'], 'ERR increment or decrement would overflow'],
  [['INCRBYFLOAT', 'text', '1'], 'ERR value is not a valid float'],
  [['SET', 'k', 'v', 'EX', '0'], "ERR invalid expire time in 'set' command"],
  [['SETEX', 'k', '-1', 'v'], "ERR invalid expire time in 'setex' command"],
  [['EXPIRE', 'k', '1', 'NX', 'GT'], 'ERR NX and XX, GT or LT options at the same time are not compatible'],
  [['SETRANGE', 'k', '-1', 'v'], 'ERR offset is out of range'],
  [['SCAN', 'nope'], 'ERR invalid cursor'],
  [['COPY', 'text', 'text'], 'ERR source and destination objects are the same'],
  [['RENAME', 'absent', 'k'], 'ERR no such key'],
  [['SELECT', '4096'], 'ERR DB index is out of range'],
  [['EXEC'], 'ERR EXEC without MULTI'],
  [['DISCARD'], 'ERR DISCARD without MULTI'],
  [['HELLO', '4'], 'NOPROTO unsupported protocol version'],
  [['AUTH', 'secret'], 'ERR AUTH <password> called without any password configured'],
];

/** The commands that only Ringwood has; `call` sends words and gives the raw reply. */
export async function ringwoodOnly(t, call) {
  const resolved = (count) => (got) => got.length === 2 && typeof got[0] === 'string' && got[1] === count;
  const fresh = async (key) => (await call('SIBLINGS', key))[0];
  const conflicts = async () => {
    const found = [];
    let cursor = '0';
    do {
      const [next, page] = await call('CONFLICTS', cursor);
      found.push(...page);
      cursor = next;
    } while (cursor !== '0');
    return found;
  };

  const [missing] = await t.that('SIBLINGS missing', call('SIBLINGS', 'k'), (got) => typeof got[0] === 'string' && got[1].length === 0);
  await t.that('SIBLINGS missing WITHMETA', call('SIBLINGS', 'k', 'WITHMETA'), (got) => got[1].length === 0);
  await t.fails('RESOLVE made-up context', call('RESOLVE', 'k', 'made-up', 'v'), Error, 'BADCONTEXT');
  await t.that('RESOLVE one', call('RESOLVE', 'k', missing, 'one'), resolved(1));
  await t.that('RESOLVE two', call('RESOLVE', 'k', missing, 'two'), resolved(2));
  await t.eq('GET has the newest', call('GET', 'k'), 'two');
  await t.that('SIBLINGS', call('SIBLINGS', 'k'), (got) => isDeepStrictEqual(got[1], ['two', 'one']));
  await t.that('SIBLINGS WITHMETA', call('SIBLINGS', 'k', 'WITHMETA'), ([, rows]) =>
    isDeepStrictEqual(rows.map(([value]) => value), ['two', 'one']) &&
    rows.every(([, at, node, ttl]) => Math.abs(at - Date.now()) < 60_000 && typeof node === 'string' && ttl === -1));
  await call('SET', 'peaceful', 'v');
  await t.eq('CONFLICTS', conflicts(), ['k']);
  await t.that('RESOLVE settles', async () => call('RESOLVE', 'k', await fresh('k'), 'both'), resolved(1));
  await t.eq('GET settled', call('GET', 'k'), 'both');
  await t.eq('CONFLICTS none', conflicts(), []);

  const now = Math.floor(Date.now() / 1000);
  for (const option of [['EX', 100], ['PX', 100_000], ['EXAT', now + 100], ['PXAT', now * 1000 + 100_000], ['KEEPTTL']]) {
    const words = option.map(String);
    await t.that(`RESOLVE ${words}`, async () => call('RESOLVE', 'k', await fresh('k'), 'v', ...words), resolved(1));
    await t.that(`PTTL after ${words}`, call('PTTL', 'k'), within(95_000, 100_000));
    await t.that(`SIBLINGS after ${words}`, call('SIBLINGS', 'k', 'WITHMETA'), ([, [[, , , ttl]]]) => within(95_000, 100_000)(ttl));
  }
  await t.that('RESOLVE persists', async () => call('RESOLVE', 'k', await fresh('k'), 'v'), resolved(1));
  await t.eq('PTTL persisted', call('PTTL', 'k'), -1);
  await t.that('RESOLVE deletes', async () => call('RESOLVE', 'k', await fresh('k')), resolved(0));
  await t.eq('GET deleted', call('GET', 'k'), null);
  await t.that('RINGWOOD STATUS', call('RINGWOOD', 'STATUS'), (got) => typeof got === 'string' && got.length > 0);
}
