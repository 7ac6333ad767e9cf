#!/usr/bin/env python3
"""Commands on one element of collections of ten, a thousand and a million, of Ringwood and of redis-server beside it:
the processor's time that an operation costs the server, and how long ninety-nine of a hundred take at most.

Load is bounded: every run has a fixed number of requests, and every server started here is stopped.
Usage: elements.py [REQUESTS] [LARGEST]
"""
import os, signal, socket, subprocess, sys, tempfile
from side_by_side import PEERS, cpu_seconds, free_port, start

REQUESTS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
LARGEST = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
SIZES = [size for size in (10, 1_000, 1_000_000) if size < LARGEST] + [LARGEST]
NAMES = ("redis everysec", "ringwood everysec")
R = "__rand_int__"
COMMANDS = [
    ("SET", "SET string:{r} xxxxxxxxxxxxxxxx"), ("GET", "GET string:{r}"),
    ("HSET", "HSET hash {r} xxxxxxxxxxxxxxxx"), ("HGET", "HGET hash {r}"), ("HLEN", "HLEN hash"),
    ("HINCRBY", "HINCRBY counts {r} 1"), ("SADD", "SADD set {r}"), ("SISMEMBER", "SISMEMBER set {r}"),
    ("ZADD", "ZADD zset {r} {r}"), ("ZSCORE", "ZSCORE zset {r}"), ("ZRANGE 0 9", "ZRANGE zset 0 9"),
    ("ZRANGEBYSCORE 10", "ZRANGEBYSCORE zset {r} +inf LIMIT 0 10"), ("ZRANK", "ZRANK zset {r}"),
    ("LPUSH", "LPUSH list xxxxxxxxxxxxxxxx"), ("RPOP", "RPOP list"), ("LRANGE 0 9", "LRANGE list 0 9"),
    ("LINDEX -5", "LINDEX list -5"), ("HSCAN", "HSCAN hash 0"), ("EXPIRE", "EXPIRE hash 100000"),
]


def words(*args):
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in map(str.encode, args))


def fill(port, size):
    """Collections of so many elements, whose names are numbers as redis-benchmark writes them."""
    with socket.create_connection(("127.0.0.1", int(port)), 120) as s:
        reader = s.makefile("rb")

        def all_of(commands):
            for at in range(0, len(commands), 1_000):
                some = commands[at:at + 1_000]
                s.sendall(b"".join(some))
                for _ in some:
                    line = reader.readline()
                    assert line[:1] in b":+", line

        all_of([words("DEL", key) for key in ("hash", "counts", "set", "zset", "list")])
        of_each = {
            "hash": lambda n: words("HSET", "hash", n, "x" * 16), "counts": lambda n: words("HSET", "counts", n, "1"),
            "set": lambda n: words("SADD", "set", n), "zset": lambda n: words("ZADD", "zset", str(int(n)), n),
            "list": lambda n: words("RPUSH", "list", "x" * 16),
        }
        for command in of_each.values():
            all_of([command(f"{n:012}") for n in range(size)])


def measure(port, command, pipeline, size, requests):
    argv = ["redis-benchmark", "-p", port, "-c", "50", "-P", str(pipeline), "-r", str(size), "-n", str(requests),
            "--csv", *command.format(r=R).split()]
    out = subprocess.run(argv, capture_output=True, text=True, timeout=900)
    row = out.stdout.strip().splitlines()[-1].replace('"', "").split(",")
    return float(row[-7]), float(row[-2])


def main():
    with tempfile.TemporaryDirectory() as root:
        servers = {}
        try:
            for name in NAMES:
                port, folder = free_port(), os.path.join(root, name.replace(" ", "-"))
                os.mkdir(folder)
                servers[name] = (start(PEERS[name](port, folder), port), port)
            print(f"{'command':18}{'elements':>9}  {'redis us':>9}{'us':>8}{'p99 ms':>8}{'P16 us':>8}"
                  f"{'of redis':>9}{'of redis, P16':>14}")
            for size in SIZES:
                for _, port in servers.values():
                    fill(port, size)
                for title, command in COMMANDS:
                    found = {}
                    for name, (process, port) in servers.items():
                        for pipeline in (1, 16):
                            before = cpu_seconds(process)
                            rate, p99 = measure(port, command, pipeline, size, REQUESTS)
                            took = (cpu_seconds(process) - before) / REQUESTS * 1e6
                            found[name, pipeline] = (rate, p99, took)
                    ours = [found[NAMES[1], p] for p in (1, 16)]
                    peer = [found[NAMES[0], p] for p in (1, 16)]
                    print(f"{title:18}{size:9}  {peer[0][2]:9.2f}{ours[0][2]:8.2f}{ours[0][1]:8.3f}{ours[1][2]:8.2f}"
                          f"{ours[0][0] / peer[0][0]:9.2f}{ours[1][0] / peer[1][0]:14.2f}", flush=True)
        finally:
            for process, _ in servers.values():
                process.send_signal(signal.SIGTERM)
                process.wait()


if __name__ == "__main__":
    main()
