// Streams of ioredis and node-redis, and BullMQ, which is made of streams, scripts and keys that it names in
// them: streams.mjs HOST PORT [--cluster]
import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq';
import Redis from 'ioredis';
import { createClient } from 'redis';
import { Checks } from './check.mjs';

const [host, port] = [process.argv[2], Number(process.argv[3])];
const nodes = process.argv.includes('--cluster') ? ['127.0.0.1', '127.0.0.2', '127.0.0.3'] : [host];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function ioredis(t) {
  const clients = nodes.map((node) => new Redis(port, node));
  const [one, other] = [clients[0], clients.at(-1)];
  await one.flushall();
  await t.eq('xadd', one.xadd('s', '1-1', 'f', 'v', 'g', 'w'), '1-1');
  await t.eq('xrange at another node', other.xrange('s', '-', '+'), [['1-1', ['f', 'v', 'g', 'w']]]);
  const waiter = new Redis(port, nodes.at(-1));
  const waiting = waiter.xread('BLOCK', 5000, 'STREAMS', 's', '$');
  await pause(200);
  await t.eq('xadd again', one.xadd('s', '2-1', 'f', 'x'), '2-1');
  await t.eq('who waits gets it', waiting, [['s', [['2-1', ['f', 'x']]]]]);
  await t.eq('a group', one.xgroup('CREATE', 's', 'g', '0'), 'OK');
  await t.eq('reads', other.xreadgroup('GROUP', 'g', 'c', 'COUNT', 1, 'STREAMS', 's', '>'),
    [['s', [['1-1', ['f', 'v', 'g', 'w']]]]]);
  await t.eq('pending', one.xpending('s', 'g'), [1, '1-1', '1-1', [['c', '1']]]);
  await t.eq('acknowledged', one.xack('s', 'g', '1-1'), 1);
  for (const client of [...clients, waiter]) client.disconnect();
}

async function nodeRedis(t) {
  for (const RESP of [2, 3]) {
    const client = await createClient({ url: `redis://${nodes.at(-1)}:${port}`, RESP }).connect();
    await client.flushAll();
    await t.eq(`RESP${RESP} xadd`, client.xAdd('s', '1-1', { f: 'v' }), '1-1');
    await t.eq(`RESP${RESP} xlen`, client.xLen('s'), 1);
    await t.eq(`RESP${RESP} group`, client.xGroupCreate('s', 'g', '0'), 'OK');
    const read = await client.xReadGroup('g', 'c', { key: 's', id: '>' });
    await t.eq(`RESP${RESP} read`, () => JSON.parse(JSON.stringify(Array.isArray(read) ? read[0].messages[0] : read.s[0])),
      { id: '1-1', message: { f: 'v' } });
    const pending = await client.xPending('s', 'g');
    await t.eq(`RESP${RESP} pending`, () => [pending.pending, pending.firstId], [1, '1-1']);
    const info = await client.xInfoStream('s');
    await t.eq(`RESP${RESP} info`, () => [info.length, info['last-generated-id']], [1, '1-1']);
    const claimed = await client.xAutoClaim('s', 'g', 'd', 0, '0');
    await t.eq(`RESP${RESP} claimed`, () => claimed.messages.map((m) => m.id), ['1-1']);
    await client.close();
  }
}

async function bullmq(t) {
  const at = (nth) => ({ host: nodes[nth % nodes.length], port, maxRetriesPerRequest: null });
  const flush = new Redis(port, nodes[0]);
  await flush.flushall();
  const [producer, consumer] = [at(0), at(1)];
  const queue = new Queue('mail', { connection: producer });
  const done = [];
  let attempts = 0;
  const worker = new Worker('mail', async (job) => {
    if (job.name === 'shaky' && ++attempts < 3) throw new Error('not yet');
    if (job.name === 'parent') return Object.values(await job.getChildrenValues()).sort((a, b) => a - b);
    done.push(job.data.n);
    return job.data.n * 2;
  }, { connection: consumer, concurrency: 3 });
  const events = new QueueEvents('mail', { connection: at(2) });
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady(), events.waitUntilReady()]);
  await pause(300);
  const job = await queue.add('one', { n: 21 });
  await t.eq('a job is worked off', job.waitUntilFinished(events, 10000), 42);
  const many = await queue.addBulk(Array.from({ length: 50 }, (_, n) => ({ name: 'bulk', data: { n } })));
  await Promise.all(many.map((one) => one.waitUntilFinished(events, 20000)));
  await t.eq('so are fifty, each once', () => [...done].sort((a, b) => a - b),
    [...Array(50).keys(), 21].sort((a, b) => a - b));
  const begun = Date.now();
  const late = await queue.add('late', { n: 1 }, { delay: 500 });
  await late.waitUntilFinished(events, 10000);
  await t.eq('a delayed one comes late', () => Date.now() - begun >= 500, true);
  const shaky = await queue.add('shaky', { n: 3 }, { attempts: 5, backoff: { type: 'fixed', delay: 50 } });
  await t.eq('one that fails is tried again', shaky.waitUntilFinished(events, 10000), 6);
  await t.eq('three times', () => attempts, 3);
  const unique = await Promise.all([1, 2].map(() => queue.add('same', { n: 9 }, { jobId: 'same' })));
  await t.eq('one name, one job', () => new Set(unique.map((one) => one.id)).size, 1);
  const flow = new FlowProducer({ connection: at(1) });
  const tree = await flow.add({
    name: 'parent', queueName: 'mail', data: {},
    children: [4, 5].map((n) => ({ name: 'child', queueName: 'mail', data: { n } })),
  });
  await t.eq('a parent waits for its children', tree.job.waitUntilFinished(events, 10000), [8, 10]);
  const high = await queue.add('high', { n: 7 }, { priority: 1 });
  await t.eq('with a priority', high.waitUntilFinished(events, 10000), 14);
  const ended = await queue.getJobCounts('completed', 'failed', 'waiting', 'active', 'delayed');
  await t.eq('all are counted', () => [ended.failed, ended.waiting, ended.active, ended.delayed], [0, 0, 0, 0]);
  await t.eq('the log is trimmed', () => flush.xlen('bull:mail:events').then((len) => len > 0), true);
  await queue.obliterate({ force: true });
  await t.eq('nothing is left', flush.keys('bull:mail:*').then((keys) => keys.filter((key) => !/:(meta|events|stalled-check|marker)$/.test(key))), []);
  await Promise.all([worker.close(), queue.close(), events.close(), flow.close()]);
  flush.disconnect();
}

const t = new Checks('streams_js');
await t.group(ioredis);
await t.group(nodeRedis);
await t.group(bullmq);
t.finish();
