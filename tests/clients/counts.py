"""How many checks of which client library pass: counts.py COUNTS

COUNTS has a line for each script that was run: `one|three|killed NAME PASSED`. The table goes to counts.md, which
docs/compat.md shows; with RINGWOOD_WRITE_DOCS set it is written, else it has to be the same already.
"""

import json
import os
import re
import sys
from collections import defaultdict

HERE = os.path.dirname(os.path.abspath(__file__))
PLACES = ("one", "three", "killed")
# What each script runs; a name in braces is a pinned package, with its version.
SCRIPTS = {
    "redis_py": "{redis-py}",
    "redis_py_types": "{redis-py}: hashes, lists, sets, sorted sets, bitmaps, HyperLogLog, GEO",
    "redis_py_cluster": "{redis-py}: RedisCluster",
    "django_cache": "{Django}: its cache and its sessions",
    "ioredis": "{ioredis}",
    "ioredis_types": "{ioredis}: the other types",
    "ioredis_cluster": "{ioredis}: Cluster",
    "node_redis": "{node-redis}",
    "node_redis_types": "{node-redis}: the other types",
    "scripts_py": "{redis-py}: Lock, scripts, messages; {limits}; {django-redis}",
    "scripts_js": "{ioredis}, {node-redis}: scripts, messages; {rate-limiter-flexible}; {redlock}",
    "streams_py": "{redis-py}: streams; {celery} with {kombu}; {rq}",
    "streams_js": "{ioredis}, {node-redis}: streams; {bullmq}",
    "connect_redis": "{connect-redis} with {express-session}",
    "phpredis": "phpredis (Debian's)",
    "redis_rb": "redis-rb (Debian's)",
    "redis_rs": "{redis-rs}",
    "redis_rs_cluster": "{redis-rs}: ClusterClient",
    "cart_example": "{redis-py}: examples/cart.py",
    "sessions": "sessions while each node is killed in turn: {connect-redis}, {koa-redis}, {Django}, {Flask-Session}, "
    "PHP's handler with locking (phpredis), redis-rack",
}


def versions():
    found = {}
    with open(f"{HERE}/requirements.txt") as pins:
        found.update(line.strip().split("==") for line in pins)
    with open(f"{HERE}/package.json") as pins:
        node = json.load(pins)["dependencies"]
    with open(f"{HERE}/redis_rs/Cargo.toml") as pins:
        rust = re.search(r'^redis = .*version = "=([^"]*)"', pins.read(), re.MULTILINE).group(1)
    # Three packages are named redis.
    renamed = {"redis-py": found.pop("redis"), "node-redis": node.pop("redis"), "redis-rs": rust}
    return {**found, **node, **renamed}


def main():
    passed = defaultdict(dict)
    with open(sys.argv[1]) as counts:
        for line in counts:
            place, name, count = line.split()
            passed[name][place] = int(count)
    pinned = versions()
    named = {name: f"{name} {version}" for name, version in pinned.items()}
    rows = ["| library | one node | three nodes | one of three is killed |", "| --- | --- | --- | --- |"]
    for name, text in SCRIPTS.items():
        text = re.sub(r"\{([^}]*)\}", lambda of: named[of.group(1)], text)
        cells = [str(passed[name].get(place, "")) for place in PLACES]
        rows.append(f"| {text} | {' | '.join(cells)} |")
    sums = [sum(counts.get(place, 0) for counts in passed.values()) for place in PLACES]
    rows.append(f"| all | {' | '.join(map(str, sums))} |")
    table = re.sub(r" +", " ", "\n".join(rows)) + "\n"
    unknown = set(passed) - set(SCRIPTS)
    path = f"{HERE}/counts.md"
    if os.environ.get("RINGWOOD_WRITE_DOCS"):
        with open(path, "w") as page:
            page.write(table)
    elif unknown or open(path).read() != table:
        sys.exit(f"counts: {path} is out of date (RINGWOOD_WRITE_DOCS=1 make clients docs); it would be\n{table}")


main()
