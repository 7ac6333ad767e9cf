"""Scripts and messages of redis-py and of libraries that run scripts: scripts.py HOST PORT [--cluster]

With --cluster the same port of 127.0.0.1 to 127.0.0.3 is a node each, and every other call goes through another.
"""

import sys
import threading
import time

import django
import redis
from django.conf import settings
from limits import RateLimitItemPerMinute, storage, strategies
from redis.exceptions import LockError, NoScriptError, ResponseError

from check import Checks


def locks(t, clients):
    one, other = clients[0], clients[-1]
    lock = one.lock("{lock}a", timeout=10)
    t.eq(True, lock.acquire, blocking=False)
    t.eq(False, other.lock("{lock}a").acquire, blocking=False)
    t.eq(True, lock.extend, 10)
    t.eq(True, lock.reacquire)
    t.eq(True, lock.owned)
    t.eq(None, lock.release)
    t.fails(LockError, "Cannot release", lock.release)
    t.eq(True, other.lock("{lock}a", timeout=1).acquire, blocking=False)
    # Only one of many has it at a time.
    held, most = [0], [0]

    def work(client):
        for _ in range(5):
            with client.lock("{lock}b", timeout=10, sleep=0.005):
                held[0] += 1
                most[0] = max(most[0], held[0])
                held[0] -= 1

    threads = [threading.Thread(target=work, args=(client,)) for client in clients * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    t.eq(1, lambda: most[0])


def scripts(t, clients):
    one, other = clients[0], clients[-1]
    add = one.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    t.eq(5, add, keys=["n"], args=[5])
    t.eq(10, add, keys=["n"], args=[5], client=other)
    sha = one.script_load("return {KEYS[1], ARGV[1], redis.call('GET', 'n')}")
    for client in clients:
        t.eq([b"k", b"a", b"10"], client.evalsha, sha, 1, "k", "a")
        t.eq([True, False], client.script_exists, sha, "0" * 40)
    t.fails(NoScriptError, "No matching script", other.evalsha, "f" * 40, 0)
    t.fails(ResponseError, "user_script:1: no", one.eval, "error('no')", 0)
    with one.pipeline() as pipe:
        add(keys=["{p}n"], args=[1], client=pipe)
        pipe.get("{p}n")
        t.eq([1, b"1"], pipe.execute)


def messages(t, clients):
    one, other = clients[0], clients[-1]
    with one.pubsub() as listener:
        listener.subscribe("news")
        listener.psubscribe("n*")
        for _ in range(2):
            t.that(lambda got: got["type"].endswith("subscribe"), listener.get_message, timeout=5)
        t.eq(2, other.publish, "news", "x")
        heard = [listener.get_message(timeout=5) for _ in range(2)]
        t.eq([b"x", b"x"], lambda: [message["data"] for message in heard])
        t.eq([b"news"], other.pubsub_channels)
        t.eq([(b"news", 1)], other.pubsub_numsub, "news")
        listener.unsubscribe()
        listener.punsubscribe()
        time.sleep(0.2)
        t.eq(0, other.publish, "news", "y")
    one.config_set("notify-keyspace-events", "KEA")
    for client in clients:
        client.config_set("notify-keyspace-events", "KEA")
    with other.pubsub() as listener:
        listener.psubscribe("__keyevent@0__:*")
        listener.get_message(timeout=5)
        one.set("gone", "v", px=100)
        heard = [listener.get_message(timeout=5) for _ in range(3)]
        events = [message and message["channel"].split(b":")[1] for message in heard]
        t.eq([b"set", b"expire", b"expired"], lambda: events)
    for client in clients:
        client.config_set("notify-keyspace-events", "")


def limiters(t, host, ports):
    for window in (strategies.FixedWindowRateLimiter, strategies.MovingWindowRateLimiter,
                   strategies.SlidingWindowCounterRateLimiter):
        stores = [storage.storage_from_string(f"redis://{node}:{ports}") for node in host]
        limit = RateLimitItemPerMinute(5)
        limiters = [window(store) for store in stores]
        for store in stores:
            store.reset()
        name = window.__name__
        hits = [limiters[nth % len(limiters)].hit(limit, name) for nth in range(7)]
        t.eq([True] * 5 + [False] * 2, lambda: hits)
        t.eq(0, lambda: limiters[0].get_window_stats(limit, name).remaining)


def cache(t, host, port):
    if not settings.configured:
        servers = [f"redis://{node}:{port}/1" for node in host]
        backend = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": servers[0]}
        settings.configure(CACHES={"default": backend})
        django.setup()
    from django.core.cache import cache as store

    store.clear()
    t.eq(True, store.set, "k", {"a": [1, 2]}, 100)
    t.eq({"a": [1, 2]}, store.get, "k")
    t.eq(True, store.add, "n", 1)
    t.eq(False, store.add, "n", 2)
    # A script does this.
    t.eq(3, store.incr, "n", 2)
    t.eq(2, store.decr, "n")
    t.eq(["k"], store.keys, "k*")
    with store.lock("l", timeout=5):
        t.eq(False, store.lock("l", timeout=5).acquire, blocking=False)
    t.eq(2, store.delete_many, ["k", "n"])


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    nodes = ["127.0.0.1", "127.0.0.2", "127.0.0.3"] if "--cluster" in sys.argv else [host]
    t = Checks("scripts_py")
    for protocol in (3, 2):
        t.context = f"RESP{protocol}: "
        clients = [redis.Redis(node, port, protocol=protocol) for node in nodes]
        clients[0].flushall()
        t.group(locks, clients)
        t.group(scripts, clients)
        t.group(messages, clients)
    t.context = ""
    t.group(limiters, nodes, port)
    t.group(cache, nodes, port)
    t.finish()


main()
