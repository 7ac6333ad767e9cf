#!/usr/bin/env python3
"""Ringwood beside redis-server on this machine, in turn, interleaved; a table of ratios, of the processor's time
that an operation costs the server, and of the longest that anybody waited.

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
    return tuple(float(row[at]) for at in (-7, -4, -2, -1))


def cpu_seconds(process):
    """Of all its threads, since it began."""
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    with tempfile.TemporaryDirectory() as root:
        servers = {}
        try:
            for name, argv in PEERS.items():
                port, folder = free_port(), os.path.join(root, name.replace(" ", "-"))
                os.mkdir(folder)
                servers[name] = (start(argv(port, folder), port), port)
            print(f"{'load':22}{'server':20}{'req/s':>10}{'cpu us':>8}{'p50 ms':>9}{'p99 ms':>9}"
                  f"{'max ms':>9}  ratio to redis")
            for test, pipeline, size in LOADS:
                runs = {name: [] for name in PEERS}
                for _ in range(ROUNDS):
                    for name, (process, port) in servers.items():
                        slow = "always" in name and pipeline == 1
                        count = REQUESTS // 10 if slow or test == "MSET" else REQUESTS
                        before = cpu_seconds(process)
                        measured = measure(port, test, pipeline, size, count)
                        took = (cpu_seconds(process) - before) / count * 1e6
                        runs[name].append((*measured, took))
                median = {n: [statistics.median(c) for c in zip(*r)] for n, r in runs.items()}
                for name, (rate, p50, p99, longest, took) in median.items():
                    peer = median[name.replace("ringwood", "redis")]
                    ratio = f"{rate / peer[0]:.2f}" if name.startswith("ringwood") else ""
                    print(f"{test + f' -P {pipeline} {size}B':22}{name:20}{rate:10.0f}{took:8.2f}"
                          f"{p50:9.3f}{p99:9.3f}{longest:9.1f}  {ratio}", flush=True)
        finally:
            for process, _ in servers.values():
                process.send_signal(signal.SIGTERM)
                process.wait()


if __name__ == "__main__":
    main()
