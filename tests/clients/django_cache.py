"""Django's cache and its sessions in the cache: django_cache.py HOST PORT [--ringwood].

Empties all databases. Runs everything twice: with the protocol that redis-py chooses by itself,
and with RESP2.
"""

import pickle
import time
from datetime import datetime, timedelta, timezone
from importlib import import_module

import django
import redis
from django.conf import settings

from check import Checks, arguments

BINARY = bytes(range(256)) * 4096


def configure(host, port):
    backend = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"redis://{host}:{port}",
        "TIMEOUT": 300,
    }
    settings.configure(
        SECRET_KEY="for tests",
        USE_TZ=True,
        CACHES={
            "default": backend,
            "resp2": {**backend, "OPTIONS": {"protocol": 2}},
            "prefixed": {**backend, "KEY_PREFIX": "site", "VERSION": 7, "TIMEOUT": None},
            "elsewhere": {**backend, "OPTIONS": {"db": 3}},
        },
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        SESSION_COOKIE_AGE=1000,
    )
    django.setup()


def values(t, cache, raw):
    t.eq(None, cache.get, "k")
    t.eq("other", cache.get, "k", "other")
    for value in ("text", "", "Zoë 🌲", 0, -5, 2**70, 1.5, True, None, b"\x00\xff", [1, {"a": (2, None)}], BINARY):
        cache.set("k", value)
        t.eq(value, cache.get, "k", "missing")
    t.eq(BINARY, lambda: pickle.loads(raw.get(":1:k")))
    cache.set("number", 42)
    t.eq(b"42", raw.get, ":1:number")
    t.eq(True, cache.add, "new", 1)
    t.eq(False, cache.add, "new", 2)
    t.eq(1, cache.get, "new")
    t.eq(True, cache.add, "no-time", 1, timeout=0)
    t.eq(None, cache.get, "no-time")
    t.eq("made", cache.get_or_set, "made", lambda: "made")
    t.eq("made", cache.get_or_set, "made", "again")
    t.eq(True, cache.has_key, "made")
    t.eq(True, lambda: "made" in cache)
    t.eq(False, cache.has_key, "absent")
    t.eq(True, cache.delete, "made")
    t.eq(False, cache.delete, "made")


def counters(t, cache, raw):
    cache.set("n", 5)
    t.eq(6, cache.incr, "n")
    t.eq(16, cache.incr, "n", 10)
    t.eq(15, cache.decr, "n")
    t.eq(-5, cache.decr, "n", 20)
    t.eq(-5, cache.get, "n")
    t.fails(ValueError, "Key ':1:absent' not found.", cache.incr, "absent")
    cache.set("text", "t")
    t.fails(redis.ResponseError, "value is not an integer or out of range", cache.incr, "text")


def several(t, cache, raw):
    many = {f"key{number}": number for number in range(100)}
    t.eq([], cache.set_many, many)
    t.eq(many, cache.get_many, many)
    t.that(lambda ttl: 299 <= ttl <= 300, raw.ttl, ":1:key99")
    t.eq({"key1": 1}, cache.get_many, ["key1", "absent"])
    t.eq([], cache.set_many, {"a": "x", "b": BINARY}, timeout=50)
    t.that(lambda ttl: 49 <= ttl <= 50, raw.ttl, ":1:b")
    t.eq({"a": "x", "b": BINARY}, cache.get_many, ["a", "b"])
    t.eq([], cache.set_many, {"c": 1}, timeout=None)
    t.eq(-1, raw.ttl, ":1:c")
    t.eq(None, cache.delete_many, ["a", "b", "absent"])
    t.eq({}, cache.get_many, ["a", "b"])
    t.eq(None, cache.delete_many, [])
    t.eq(True, cache.clear)
    t.eq(0, raw.dbsize)


def timeouts(t, cache, raw):
    cache.set("k", 1)
    t.that(lambda ttl: 299 <= ttl <= 300, raw.ttl, ":1:k")
    cache.set("k", 1, 20)
    t.that(lambda ttl: 19 <= ttl <= 20, raw.ttl, ":1:k")
    t.eq(True, cache.touch, "k")
    t.that(lambda ttl: 299 <= ttl <= 300, raw.ttl, ":1:k")
    t.eq(True, cache.touch, "k", 30)
    t.that(lambda ttl: 29 <= ttl <= 30, raw.ttl, ":1:k")
    t.eq(True, cache.touch, "k", None)
    t.eq(-1, raw.ttl, ":1:k")
    t.eq(False, cache.touch, "absent")
    cache.set("k", 1, None)
    t.eq(-1, raw.ttl, ":1:k")
    t.eq(True, cache.touch, "k", 0)
    t.eq(None, cache.get, "k")
    cache.set("k", 1)
    cache.set("k", 1, 0)
    t.eq(False, cache.has_key, "k")
    cache.set("k", 1)
    cache.set("k", 1, -1)
    t.eq(None, cache.get, "k")
    cache.set("brief", 1, 10)
    raw.pexpire(":1:brief", 20)
    time.sleep(0.05)
    t.eq(None, cache.get, "brief")
    t.eq(True, cache.add, "brief", 2)


def versions(t, cache, raw):
    from django.core.cache import caches

    cache.set("k", "one")
    cache.set("k", "two", version=2)
    t.eq("one", cache.get, "k")
    t.eq("two", cache.get, "k", version=2)
    t.eq({"k": "two"}, cache.get_many, ["k"], version=2)
    t.eq(3, cache.incr_version, "k", version=2)
    t.eq(None, cache.get, "k", version=2)
    t.eq("two", cache.get, "k", version=3)
    t.eq(2, cache.decr_version, "k", version=3)
    t.fails(ValueError, "Key 'absent' not found", cache.incr_version, "absent")
    t.eq(True, cache.delete, "k", version=2)
    t.eq("one", cache.get, "k")

    prefixed, elsewhere = caches["prefixed"], caches["elsewhere"]
    prefixed.set("k", 1)
    t.eq(b"1", raw.get, "site:7:k")
    t.eq(-1, raw.ttl, "site:7:k")
    elsewhere.set("k", "there")
    t.eq("one", cache.get, "k")
    t.eq("there", elsewhere.get, "k")
    t.eq(True, elsewhere.clear)
    t.eq(None, elsewhere.get, "k")
    t.eq("one", cache.get, "k")


def sessions(t, cache, raw):
    class Store(import_module(settings.SESSION_ENGINE).SessionStore):
        def __init__(self, session_key=None):
            super().__init__(session_key)
            self._cache = cache

    store = Store()
    t.eq(None, lambda: store.session_key)
    store["user"] = "Zoë 🌲"
    store.create()
    first = store.session_key
    t.eq(32, len, first)
    store["cart"] = [1, 2, {"deep": b"\x00\xff"}]
    store.save()
    t.that(lambda ttl: 999 <= ttl <= 1000, raw.ttl, f":1:{store.cache_key}")
    t.eq(True, store.exists, first)

    read = Store(first)
    t.eq("Zoë 🌲", lambda: read["user"])
    t.eq([1, 2, {"deep": b"\x00\xff"}], lambda: read["cart"])
    t.eq(None, read.get, "absent")
    t.fails(KeyError, "'absent'", lambda: read["absent"])
    t.eq("Zoë 🌲", read.pop, "user")
    read.save()
    t.eq(["cart"], lambda: list(Store(first).keys()))

    read.cycle_key()
    t.that(lambda key: key != first, lambda: read.session_key)
    t.eq(False, store.exists, first)
    t.eq(["cart"], lambda: list(Store(read.session_key).keys()))

    read.set_expiry(60)
    read.save()
    t.that(lambda ttl: 59 <= ttl <= 60, raw.ttl, f":1:{read.cache_key}")
    t.eq(60, Store(read.session_key).get_expiry_age)
    read.set_expiry(timedelta(seconds=90))
    read.save()
    t.that(lambda ttl: 88 <= ttl <= 90, raw.ttl, f":1:{read.cache_key}")
    read.set_expiry(datetime.now(timezone.utc) + timedelta(seconds=120))
    read.save()
    t.that(lambda ttl: 118 <= ttl <= 120, raw.ttl, f":1:{read.cache_key}")
    raw.pexpire(f":1:{read.cache_key}", 20)
    time.sleep(0.05)
    t.eq([], lambda: list(Store(read.session_key).keys()))

    other = Store()
    other["user"] = "other"
    other.save()
    key = other.session_key
    other.flush()
    t.eq(False, other.exists, key)
    t.eq(None, lambda: other.session_key)
    update_error = import_module("django.contrib.sessions.backends.base").UpdateError
    gone = Store(key)
    gone["user"] = "late"  # loads, finds nothing and forgets the key
    gone._session_key = key
    t.fails(update_error, "", gone.save)
    t.eq(False, gone.exists, key)


def siblings(t, cache, raw):
    """A cached value with siblings, made behind Django's back: Django reads the newest."""
    missing = raw.execute_command("SIBLINGS", ":1:k")[0]
    for value in ("one", "two"):
        raw.execute_command("RESOLVE", ":1:k", missing, pickle.dumps(value))
    t.that(lambda got: len(got[1]) == 2, raw.execute_command, "SIBLINGS", ":1:k")
    t.eq("two", cache.get, "k")
    cache.set("k", "three")
    t.eq("three", cache.get, "k")
    t.eq(True, cache.delete, "k")
    t.eq(None, cache.get, "k")


def main():
    args = arguments()
    configure(args.host, args.port)
    from django.core.cache import caches

    t = Checks("django_cache")
    raw = redis.Redis(args.host, args.port)
    groups = [values, counters, several, timeouts, versions, sessions] + [siblings] * args.ringwood
    for alias in ("default", "resp2"):
        t.context = f"{alias} "
        for group in groups:
            raw.flushall()
            t.group(group, caches[alias], raw)
    raw.flushall()
    t.finish()


if __name__ == "__main__":
    main()
