#!/usr/bin/env python3
"""Ten million SETs over ten million keys, on redis-server and on Ringwood: longer than several flushes and
compactions. What it cost, how long the slowest waited, what was written and what the disk holds a minute later.

Load is bounded, and every server started here is stopped. Usage: long_run.py [REQUESTS]
"""
import os, signal, subprocess, sys, tempfile, time

from side_by_side import PEERS, cpu_seconds, free_port, start

REQUESTS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
SIZE = 64
KEY = 16


def percentiles(out):
    """Of redis-benchmark: share in percent, milliseconds."""
    for line in out.splitlines():
        share, found, rest = line.strip().partition("% <= ")
        if found and "milliseconds" in rest:
            yield float(share), float(rest.split()[0])


def written_bytes(process):
    with open(f"/proc/{process.pid}/io") as io:
        fields = dict(line.split(": ") for line in io.read().splitlines())
    return int(fields["write_bytes"])


def run(name, root):
    port, folder = free_port(), os.path.join(root, name.replace(" ", "-"))
    os.mkdir(folder)
    process = start(PEERS[name](port, folder), port)
    try:
        began = time.time()
        out = subprocess.run(
            ["redis-benchmark", "-p", port, "-t", "set", "-c", "50", "-P", "16", "-d", str(SIZE),
             "-r", str(REQUESTS), "-n", str(REQUESTS)],
            capture_output=True, text=True, timeout=1_800).stdout
        rate = REQUESTS / (time.time() - began)
        took = cpu_seconds(process) / REQUESTS * 1e6
        shares = list(percentiles(out))
        p999 = min((ms for share, ms in shares if share >= 99.9), default=0)
        longest = max((ms for _, ms in shares), default=0)
        time.sleep(60)
        held = int(subprocess.run(["du", "-sb", folder], capture_output=True, text=True).stdout.split()[0])
        # Keys are drawn at random: so many of them are different.
        live = (1 - 0.36788) * REQUESTS * (KEY + SIZE)
        amplified = written_bytes(process) / (REQUESTS * (KEY + SIZE))
        print(f"{name:20}{rate:10.0f}{took:8.2f}{p999:10.2f}{longest:9.1f}"
              f"{held / live:16.2f}{amplified:15.2f}", flush=True)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def main():
    print(f"{'server':20}{'req/s':>10}{'cpu us':>8}{'p99.9 ms':>10}{'max ms':>9}"
          f"{'disk/live data':>16}{'written/taken':>15}")
    for name in ("redis everysec", "ringwood everysec"):
        with tempfile.TemporaryDirectory() as root:
            run(name, root)


if __name__ == "__main__":
    main()
