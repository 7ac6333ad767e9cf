#!/usr/bin/env python3
"""Three Ringwood nodes beside one of them and redis-server, interleaved; then one node is killed.

Load is bounded: every run has a fixed number of requests or seconds, and every server started here is
stopped. Usage: cluster.py [ROUNDS] [REQUESTS]
"""
import os, signal, socket, statistics, subprocess, sys, tempfile, time

from side_by_side import PEERS, RINGWOOD, cpu_seconds, free_port, measure, start

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
REQUESTS = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
LOADS = [((test, p), ()) for p in (1, 16) for test in ("SET", "GET")] + [(("INCR", 1), ("incr", "hot"))]
GROUPS = ("write_groups", "grouped_writes", "writes_fallen_out", "writes_alone", "shared_looks")
HOSTS = [f"127.0.0.{n}" for n in (1, 2, 3)]


def start_cluster(root, port):
    seed = f"{HOSTS[0]}:{int(port) + 1}"
    nodes = []
    for host in HOSTS:
        argv = [RINGWOOD, "server", "--bind", host, "--port", port, "--dir", os.path.join(root, host),
                "--cluster-enabled", "yes", "--cluster-secret", "bench", "--peer-bind", host,
                "--peer-port", str(int(port) + 1), "--io-threads", "1", "--seeds", seed, "--node-name", host]
        nodes.append(start(argv, port, host))
    for host in HOSTS:
        while b"cluster_answering_nodes:3" not in ask(host, port, b"CLUSTER INFO"):
            time.sleep(0.1)
    return nodes


def ask(host, port, line):
    with socket.create_connection((host, int(port)), 5) as s:
        s.sendall(line + b"\r\n")
        s.settimeout(1)
        said = b""
        try:
            while not said.endswith(b"\r\n") or b"INFO" in line and len(said) < int(said[1:].split(b"\r\n")[0]):
                said += s.recv(65536)
        except TimeoutError:
            pass
        return said


def one_key(name, servers, port, words):
    """Fifty clients at one key."""
    port = servers[name][1] if name in servers else port
    out = subprocess.run(["redis-benchmark", "-h", "127.0.0.1", "-p", port, "-c", "50", "-n", str(REQUESTS), "--csv", *words],
                         capture_output=True, text=True, timeout=600)
    row = out.stdout.strip().splitlines()[-1].replace('"', "").split(",")
    return tuple(float(row[at]) for at in (-7, -4, -2))


def after_a_kill(port, nodes):
    """Requests through the first node, one at a time, while the third is killed."""
    seconds, latencies, errors, began, killed_at = {}, [], 0, time.time(), None
    with socket.create_connection((HOSTS[0], int(port)), 5) as s:
        replies, n = s.makefile("rb"), 0
        while time.time() - began < 6:
            if killed_at is None and time.time() - began > 2:
                nodes[2].kill()
                killed_at = time.time()
            sent = time.time()
            s.sendall(b"SET kill:%d 1\r\n" % (n % 1000))
            ok = replies.readline() == b"+OK\r\n"
            latencies.append((sent, time.time() - sent))
            errors += not ok
            second = int(sent - began)
            seconds[second] = seconds.get(second, 0) + ok
            n += 1
    p99 = lambda of: 1000 * sorted(took for _, took in of)[len(of) * 99 // 100]
    before = p99([l for l in latencies if l[0] < killed_at])
    after = p99([l for l in latencies if l[0] > killed_at + 1])
    print(f"SET one at a time, a node killed after two seconds: by second {list(seconds.values())}, {errors} errors, "
          f"longest {1000 * max(took for _, took in latencies):.0f} ms, p99 {before:.2f} ms before and {after:.2f} ms from one second after")


def main():
    with tempfile.TemporaryDirectory() as root:
        servers = {}
        nodes = []
        try:
            for name in ("redis everysec", "ringwood everysec"):
                port, folder = free_port(), os.path.join(root, name.replace(" ", "-"))
                os.mkdir(folder)
                servers[name] = (start(PEERS[name](port, folder), port), port)
            port = free_port()
            nodes = start_cluster(root, port)
            processes = {name: [process] for name, (process, _) in servers.items()}
            processes |= dict.fromkeys(("three nodes, one asked", "three nodes, smart"), nodes)
            runs = {name: (lambda p: lambda *load: measure(p, *load))(p) for name, (_, p) in servers.items()}
            runs["three nodes, one asked"] = lambda *load: measure(port, *load)
            runs["three nodes, smart"] = lambda *load: measure(port, *load, more=("--cluster",))
            print(f"{'load':14}{'server':26}{'req/s':>10}{'cpu us':>8}{'p50 ms':>9}{'p99 ms':>9}  ratio to redis")
            for load, more in LOADS:
                found = {name: [] for name in runs}
                for _ in range(ROUNDS):
                    for name, run in runs.items():
                        used = lambda: sum(cpu_seconds(process) for process in processes[name])
                        before = used()
                        row = run(*load, 64, REQUESTS) if not more else one_key(name, servers, port, more)
                        found[name].append((*row[:3], (used() - before) / REQUESTS * 1e6))
                median = {n: [statistics.median(c) for c in zip(*r)] for n, r in found.items()}
                for name, (rate, p50, p99, cpu) in median.items():
                    ratio = rate / median["redis everysec"][0]
                    label = f"{load[0]} -P {load[1]}" if not more else "INCR one key"
                    print(f"{label:14}{name:26}{rate:10.0f}{cpu:8.1f}{p50:9.3f}{p99:9.3f}  {ratio:.2f}", flush=True)
            facts = ask(HOSTS[0], port, b"INFO everything").decode().splitlines()
            print(", ".join(fact for fact in facts if fact.split(":")[0] in GROUPS))
            after_a_kill(port, nodes)
        finally:
            for process in [p for p, _ in servers.values()] + nodes:
                process.send_signal(signal.SIGTERM)
                process.wait()


if __name__ == "__main__":
    main()
