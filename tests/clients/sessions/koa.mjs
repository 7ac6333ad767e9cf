// koa-session with koa-redis on ioredis: koa.mjs PORT HOST:PORT
import Koa from 'koa';
import session from 'koa-session';
import redisStore from 'koa-redis';

const [port, node] = process.argv.slice(2);
const [host, redisPort] = node.split(':');
const store = redisStore({ host, port: Number(redisPort), enableOfflineQueue: false, retryStrategy: () => 200 });
store.on('error', () => {});
const app = new Koa();
app.silent = true;
app.keys = ['for tests'];
app.use(session({ store }, app));
app.use((ctx) => {
  ctx.session.visits = (ctx.session.visits ?? 0) + 1;
  ctx.body = { visits: ctx.session.visits };
});
app.listen(Number(port), '127.0.0.1');
