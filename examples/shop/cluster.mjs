// Three nodes of Ringwood, with a network between them that can be cut: the nodes reach each other through
// relays of this program, which know from which process a connection comes. (Linux: they look into /proc.)
import { spawn } from 'node:child_process';
import { mkdtempSync, mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const HOSTS = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];

/** A port that is free on all hosts. */
async function freePort() {
  for (;;) {
    const servers = [];
    try {
      let port = 0;
      for (const host of HOSTS) {
        const server = net.createServer();
        servers.push(server);
        await new Promise((done, failed) => server.once('error', failed).listen(port, host, done));
        port = server.address().port;
      }
      return port;
    } catch {
      // Taken on one of them.
    } finally {
      for (const server of servers) server.close();
    }
  }
}

/** Which of these processes has a socket of this local port open. */
function whoHas(port, pids) {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n').map((line) => line.trim().split(/\s+/));
  const sockets = lines.filter((words) => words[1]?.endsWith(`:${hex}`)).map((words) => `socket:[${words[9]}]`);
  const has = (pid) => (file) => {
    try {
      return sockets.includes(readlinkSync(`/proc/${pid}/fd/${file}`));
    } catch {
      return false; // Closed in between.
    }
  };
  return pids.findIndex((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some(has(pid));
    } catch {
      return false; // The process has ended.
    }
  });
}

export class Cluster {
  isCut = false;
  #nodes = [];
  #relays = [];
  #links = new Set();

  /** Starts it; `program` is the binary. Whatever comes of it, `stop` ends it. */
  async start(program) {
    const [port, peerPort, relayPort] = [await freePort(), await freePort(), await freePort()];
    this.dir = mkdtempSync(join(tmpdir(), 'ringwood-shop-'));
    this.urls = HOSTS.map((host) => `redis://${host}:${port}`);
    for (const [nth, host] of HOSTS.entries()) {
      const relay = net.createServer((from) => this.#relay(from, nth, peerPort));
      await new Promise((done) => relay.listen(relayPort, host, done));
      this.#relays.push(relay);
    }
    for (const [nth, host] of HOSTS.entries()) {
      const dir = join(this.dir, String(nth));
      mkdirSync(dir);
      // One node is enough for a read or a write: both sides of a cut go on.
      const rules = ['cart:', 'note:', 'stock:', 'sess:'].map((prefix) =>
        `[[prefix]]\nprefix = "${prefix}"\nreplicas-per-key = 3\nread-quorum = 1\nwrite-quorum = 1\n`);
      writeFileSync(join(dir, 'ringwood.toml'), [
        `bind = "${host}"`, `port = ${port}`, `dir = "${join(dir, 'data')}"`, 'loglevel = "warning"',
        'cluster-enabled = true', 'cluster-secret = "shop"', `node-name = "node-${nth + 1}"`,
        `peer-bind = "${host}"`, `peer-port = ${peerPort}`, `cluster-announce-bus-port = ${relayPort}`,
        `seeds = ["${HOSTS[0]}:${relayPort}"]`, ...rules,
      ].join('\n'));
      this.#nodes.push(spawn(program, ['server', '--config', join(dir, 'ringwood.toml')], { stdio: 'inherit' }));
      await this.#until(nth, 'PING', '+PONG');
    }
    for (const nth of HOSTS.keys()) await this.#until(nth, 'CLUSTER INFO', 'cluster_answering_nodes:3');
  }

  /** Cuts the first node off from the others, or lets them hear each other again. */
  cut(isCut) {
    this.isCut = isCut;
    if (isCut) for (const link of this.#links) if (link.crosses) link.from.destroy();
  }

  async stop() {
    for (const relay of this.#relays) relay.close();
    for (const link of this.#links) link.from.destroy();
    const ended = this.#nodes.map((node) => node.exitCode ?? new Promise((done) => node.once('exit', done)));
    for (const node of this.#nodes) node.kill('SIGKILL');
    await Promise.all(ended);
    if (this.dir) rmSync(this.dir, { recursive: true, force: true });
  }

  #relay(from, to, peerPort) {
    from.on('error', () => {});
    const by = whoHas(from.remotePort ?? 0, this.#nodes.map((node) => node.pid));
    // Nobody's any more; a node that is there connects again.
    if (by < 0) return from.destroy();
    const link = { from, crosses: (by === 0) !== (to === 0) };
    if (this.isCut && link.crosses) return from.destroy();
    const node = net.connect(peerPort, HOSTS[to]);
    this.#links.add(link);
    for (const [one, other] of [[from, node], [node, from]]) {
      one.setNoDelay(true);
      one.on('error', () => {});
      one.on('close', () => {
        this.#links.delete(link);
        other.destroy();
      });
      one.pipe(other);
    }
    return undefined;
  }

  /** Waits until a node answers a command with something. */
  async #until(nth, command, wanted) {
    for (let attempt = 0; attempt < 300; attempt += 1) {
      const answer = await new Promise((done) => {
        const { hostname, port } = new URL(this.urls[nth]);
        let text = '';
        const client = net.connect(Number(port), hostname, () => client.write(`${command}\r\n`));
        client.on('data', (data) => {
          text += data;
          if (text.includes(wanted)) client.destroy();
        });
        client.on('error', () => {});
        client.on('close', () => done(text));
        setTimeout(() => client.destroy(), 100);
      });
      if (answer.includes(wanted)) return;
      await new Promise((done) => setTimeout(done, 100));
    }
    throw new Error(`node ${nth + 1} does not answer ${command} with ${wanted}`);
  }
}
