"""redis-py's RedisCluster against three nodes: redis_py_cluster.py HOST PORT, any one of them.

Empties database 0.
"""

import redis
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.exceptions import ResponseError

from check import Checks, arguments

KEYS = [f"key:{n}" for n in range(300)]
# Of 600 commands.
MAY_BE_HANDED_ON = 6


def forwarded(cluster):
    """How many commands the nodes have handed on."""
    infos = cluster.info("ringwood", target_nodes=RedisCluster.ALL_NODES)
    return sum(info["forwarded_commands"] for info in infos.values())


def finds_its_way(t, r):
    before = forwarded(r)
    for n, key in enumerate(KEYS):
        t.eq(True, r.set, key, n)
    for n, key in enumerate(KEYS):
        t.eq(str(n), r.get, key)
    # A node may suspect another for a moment.
    t.that(lambda now: now - before <= MAY_BE_HANDED_ON, forwarded, r)
    asked = {r.get_node_from_key(key).name for key in KEYS}
    t.eq(3, len, asked)
    t.eq(set(KEYS), lambda: set(r.scan_iter(match="key:*", count=100)))


def commands(t, r):
    t.eq(1, r.incr, "n")
    t.eq(6, r.incrby, "n", 5)
    t.eq(3, r.append, "text", "abc")
    t.eq(True, r.expire, "text", 100)
    t.that(lambda ttl: 90 < ttl <= 100, r.ttl, "text")
    t.eq(True, r.mset, {"{user}a": 1, "{user}b": 2})
    t.eq(["1", "2", None], r.mget, "{user}a", "{user}b", "{user}c")
    t.eq([True, True, True], r.mset_nonatomic, {"x1": 1, "x2": 2, "x3": 3})
    t.eq(["1", "2", "3"], r.mget_nonatomic, "x1", "x2", "x3")
    t.eq(3, r.exists, "x1", "x2", "x3")
    t.eq(3, r.delete, "x1", "x2", "x3")
    t.eq(True, r.rename, "{user}a", "{user}z")
    t.eq("1", r.getdel, "{user}z")
    t.fails(ResponseError, "value is not an integer", r.incr, "text")
    t.eq(r.keyslot("{user}b"), r.cluster_keyslot, "{user}b")


def pipelines(t, r):
    pipe = r.pipeline()
    for n in range(100):
        pipe.set(f"pipe:{n}", n)
        pipe.get(f"pipe:{n}")
    want = [value for n in range(100) for value in (True, str(n))]
    t.eq(want, pipe.execute)
    with r.pipeline(transaction=True) as transaction:
        transaction.set("{tx}a", 1)
        transaction.incr("{tx}a")
        transaction.get("{tx}a")
        t.eq(["OK", 2, "2"], transaction.execute)


def ours(t, r):
    context, values = r.execute_command("SIBLINGS", "{own}k")
    t.eq([], lambda: values)
    t.that(lambda got: got[1] == 1, r.execute_command, "RESOLVE", "{own}k", context, "milk")
    t.eq("milk", r.get, "{own}k")


def main():
    args, t = arguments(), Checks("redis_py_cluster")
    replicas_too = {"load_balancing_strategy": LoadBalancingStrategy.ROUND_ROBIN}
    for options in ({}, {"protocol": 2}, replicas_too):
        t.context = f"{options}: "
        any_node = [ClusterNode(args.host, args.port)]
        with RedisCluster(startup_nodes=any_node, decode_responses=True, **options) as r:
            redis.Redis(args.host, args.port).flushdb()
            t.group(commands, r)
            t.group(ours, r)
            # Over several nodes a pipeline's read may come before its write.
            if options is not replicas_too:
                t.group(finds_its_way, r)
                t.group(pipelines, r)
    t.finish()


main()
