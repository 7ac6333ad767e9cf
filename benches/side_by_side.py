#!/usr/bin/env python3
"""Ringwood beside redis-server on this machine, in turn, interleaved; a table of ratios.

Load is bounded: every run has a fixed number of requests, and every server started here is stopped.
Usage: side_by_side.py [ROUNDS] [REQUESTS]
"""
import os, signal, socket, statistics, subprocess, sys, tempfile, time

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
REQUESTS = int(sys.argv[2]) if len(sys.argv) > 2 else 300_000
RINGWOOD = os.path.join(os.path.dirname(__file__), "..", "target", "release", "ringwood")
PEERS = {
    "redis none": lambda p, d: ["redis-server", "--port", p, "--dir", d, "--save", ""],
    "redis everysec": lambda p, d: ["redis-server", "--port", p, "--dir", d, "--save", "",
                                    "--appendonly", "yes", "--appendfsync", "everysec"],
    "redis always": lambda p, d: ["redis-server", "--port", p, "--dir", d, "--save", "",
                                  "--appendonly", "yes", "--appendfsync", "always"],
    "ringwood everysec": lambda p, d: [RINGWOOD, "server", "--port", p, "--dir", d],
    "ringwood always": lambda p, d: [RINGWOOD, "server", "--port", p, "--dir", d,
                                     "--appendfsync", "always"],
}
LOADS = [(test, p, size) for p in (1, 16) for size in (64, 1024)
         for test in ("SET", "GET", "INCR", "MSET") if size == 64 or test in ("SET", "GET")]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def start(argv, port, host="127.0.0.1"):
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection((host, int(port)), 1).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{argv[0]} does not answer")


def measure(port, test, pipeline, size, requests, host="127.0.0.1", more=()):
    out = subprocess.run(
        ["redis-benchmark", "-h", host, "-p", port, *more, "-t", test, "-c", "50", "-P", str(pipeline), "-d", str(size),
         "-r", "1000000", "-n", str(requests), "--csv"], capture_output=True, text=True, timeout=600)
    row = out.stdout.strip().splitlines()[-1].replace('"', "").split(",")
    # test, rps, avg, min, p50, p95, p99, max; MSET's name holds a comma-free blank
    return float(row[-7]), float(row[-4]), float(row[-2])


def main():
    with tempfile.TemporaryDirectory() as root:
        servers = {}
        try:
            for name, argv in PEERS.items():
                port, folder = free_port(), os.path.join(root, name.replace(" ", "-"))
                os.mkdir(folder)
                servers[name] = (start(argv(port, folder), port), port)
            print(f"{'load':22}{'server':20}{'req/s':>10}{'p50 ms':>9}{'p99 ms':>9}  ratio to redis")
            for test, pipeline, size in LOADS:
                runs = {name: [] for name in PEERS}
                for _ in range(ROUNDS):
                    for name, (_, port) in servers.items():
                        slow = "always" in name and pipeline == 1
                        count = REQUESTS // 10 if slow or test == "MSET" else REQUESTS
                        runs[name].append(measure(port, test, pipeline, size, count))
                median = {n: [statistics.median(c) for c in zip(*r)] for n, r in runs.items()}
                for name, (rate, p50, p99) in median.items():
                    peer = median[name.replace("ringwood", "redis")]
                    ratio = f"{rate / peer[0]:.2f}" if name.startswith("ringwood") else ""
                    print(f"{test + f' -P {pipeline} {size}B':22}{name:20}{rate:10.0f}{p50:9.3f}"
                          f"{p99:9.3f}  {ratio}", flush=True)
        finally:
            for process, _ in servers.values():
                process.send_signal(signal.SIGTERM)
                process.wait()


if __name__ == "__main__":
    main()
