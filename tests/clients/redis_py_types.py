"""redis-py's collections against a server: redis_py_types.py HOST PORT [--ringwood]. Empties all databases.

Runs everything twice: with the protocol that redis-py chooses by itself, and with RESP2.
"""

import threading

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from check import Checks, arguments

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


def as_pairs(got):
    """Pairs of a member and a score, whatever they are held in."""
    return [(pair[0], float(pair[1])) for pair in got]


def hashes(t, r, _):
    t.eq(2, r.hset, "h", mapping={"a": "1", "b": "two"})
    t.eq(0, r.hset, "h", "a", "3")
    t.eq(b"3", r.hget, "h", "a")
    t.eq(None, r.hget, "h", "none")
    t.eq({b"a": b"3", b"b": b"two"}, r.hgetall, "h")
    t.eq({}, r.hgetall, "none")
    t.eq([b"3", None], r.hmget, "h", ["a", "none"])
    t.eq(1, r.hsetnx, "h", "c", "new")
    t.eq(0, r.hsetnx, "h", "c", "newer")
    t.eq(True, r.hexists, "h", "c")
    t.eq(3, r.hlen, "h")
    t.eq(3, r.hstrlen, "h", "b")
    t.eq([b"a", b"b", b"c"], lambda: sorted(r.hkeys("h")))
    t.eq([b"3", b"new", b"two"], lambda: sorted(r.hvals("h")))
    t.eq(8, r.hincrby, "h", "a", 5)
    t.eq(8.5, r.hincrbyfloat, "h", "a", 0.5)
    t.fails(ResponseError, "hash value is not an integer", r.hincrby, "h", "b")
    t.eq({b"a": b"8.5", b"b": b"two", b"c": b"new"}, lambda: dict(r.hscan_iter("h")))
    t.that(lambda got: got in (b"a", b"b", b"c"), r.hrandfield, "h")
    t.that(lambda got: sorted(got) == [b"a", b"b", b"c"], r.hrandfield, "h", 9)
    t.that(lambda got: len(got) == 4, r.hrandfield, "h", -4)
    t.that(lambda got: len(got) in (3, 6), r.hrandfield, "h", 9, withvalues=True)
    t.eq(2, r.hdel, "h", "a", "b", "none")
    t.eq(1, r.hdel, "h", "c")
    t.eq(0, r.exists, "h")
    r.hset("many", mapping={f"field-{n}": n for n in range(500)})
    t.eq(500, lambda: len(dict(r.hscan_iter("many", count=37))))
    t.eq(b"hash", r.type, "many")


def sets(t, r, _):
    t.eq(3, r.sadd, "s", "a", "b", "c")
    t.eq(0, r.sadd, "s", "a")
    t.eq({b"a", b"b", b"c"}, lambda: set(r.smembers("s")))
    t.eq(3, r.scard, "s")
    t.eq(1, r.sismember, "s", "a")
    t.eq([1, 0], r.smismember, "s", ["a", "z"])
    r.sadd("t", "b", "c", "d")
    t.eq({b"b", b"c"}, lambda: set(r.sinter("s", "t")))
    t.eq({b"a", b"b", b"c", b"d"}, lambda: set(r.sunion("s", "t")))
    t.eq({b"a"}, lambda: set(r.sdiff("s", "t")))
    t.eq(2, r.sintercard, 2, ["s", "t"])
    t.eq(1, r.sintercard, 2, ["s", "t"], limit=1)
    t.eq(2, r.sinterstore, "to", "s", "t")
    t.eq(4, r.sunionstore, "to", "s", "t")
    t.eq(1, r.sdiffstore, "to", "s", "t")
    t.eq(True, r.smove, "s", "t", "a")
    t.eq(False, r.smove, "s", "t", "a")
    t.eq({b"a", b"b", b"c", b"d"}, lambda: set(r.sscan_iter("t")))
    t.that(lambda got: got in (b"b", b"c"), r.srandmember, "s")
    t.that(lambda got: len(got) == 3, r.srandmember, "s", -3)
    t.that(lambda got: got in (b"b", b"c"), r.spop, "s")
    t.that(lambda got: len(got) == 1, r.spop, "s", 5)
    t.eq(0, r.exists, "s")
    t.eq(2, r.srem, "t", "a", "b", "z")
    t.eq(b"set", r.type, "t")


def sorted_sets(t, r, _):
    t.eq(3, r.zadd, "z", {"a": 1, "b": 2.5, "c": 3})
    t.eq(0, r.zadd, "z", {"a": 1.5})
    t.eq(1, r.zadd, "z", {"a": 2, "b": 2.5}, ch=True)
    t.eq(0, r.zadd, "z", {"a": 9}, nx=True)
    t.eq(0, r.zadd, "z", {"new": 9}, xx=True)
    t.eq(0, r.zadd, "z", {"a": 1}, gt=True)
    t.eq(3.0, r.zadd, "z", {"a": 1}, incr=True)
    t.eq(3.0, r.zscore, "z", "a")
    t.eq([3.0, None], r.zmscore, "z", ["a", "none"])
    t.eq(5.5, r.zincrby, "z", 3, "b")
    t.eq(3, r.zcard, "z")
    t.eq(2, r.zcount, "z", 3, 3)
    t.eq(0, r.zrank, "z", "a")
    t.eq(2, r.zrevrank, "z", "a")
    t.eq([b"a", b"c", b"b"], r.zrange, "z", 0, -1)
    t.eq([(b"a", 3.0), (b"c", 3.0), (b"b", 5.5)], lambda: as_pairs(r.zrange("z", 0, -1, withscores=True)))
    t.eq([b"b", b"c"], r.zrange, "z", 0, 1, desc=True)
    t.eq([b"a", b"c"], r.zrangebyscore, "z", "-inf", "(5")
    t.eq([b"c"], r.zrangebyscore, "z", 3, 9, start=1, num=1)
    t.eq([b"b"], r.zrevrangebyscore, "z", "+inf", 4)
    t.eq([b"b", b"c", b"a"], r.zrevrange, "z", 0, -1)
    t.eq([b"a"], r.zrange, "z", 0, 4, byscore=True, offset=0, num=1)
    r.zadd("lex", {"a": 0, "b": 0, "c": 0})
    t.eq([b"a", b"b"], r.zrangebylex, "lex", "-", "[b")
    t.eq([b"c", b"b"], r.zrevrangebylex, "lex", "+", "(a")
    t.eq(2, r.zlexcount, "lex", "(a", "+")
    t.eq(1, r.zremrangebylex, "lex", "-", "[a")
    r.zadd("y", {"b": 1, "d": 4})
    t.eq([b"d", b"b"], lambda: r.zrange("y", 0, -1, desc=True))
    t.eq([(b"b", 6.5)], lambda: as_pairs(r.zinter(["z", "y"], withscores=True)))
    t.eq(4, lambda: len(r.zunion(["z", "y"])))
    t.eq([b"a", b"c"], r.zdiff, ["z", "y"])
    t.eq(1, r.zintercard, 2, ["z", "y"])
    t.eq(4, r.zunionstore, "to", {"z": 2, "y": 1}, aggregate="MAX")
    t.eq(11.0, r.zscore, "to", "b")
    t.eq(1, r.zinterstore, "to", ["z", "y"])
    t.eq(2, r.zdiffstore, "to", ["z", "y"])
    t.eq(2, r.zrangestore, "to", "z", 0, 1)
    t.eq({b"a": 3.0, b"b": 5.5, b"c": 3.0}, lambda: dict(r.zscan_iter("z")))
    t.that(lambda got: got in (b"a", b"b", b"c"), r.zrandmember, "z")
    t.eq([b"z", [[b"a", 3.0]]], lambda: [g := r.zmpop(2, ["none", "z"], min=True), [g[0], [[g[1][0][0], float(g[1][0][1])]]]][1])
    t.eq([(b"b", 5.5)], lambda: as_pairs(r.zpopmax("z")))
    t.eq([(b"c", 3.0)], lambda: as_pairs(r.zpopmin("z", 5)))
    t.eq([], r.zpopmin, "z")
    r.zadd("z", {str(n): n for n in range(10)})
    t.eq(2, r.zremrangebyrank, "z", 0, 1)
    t.eq(3, r.zremrangebyscore, "z", 2, "(5")
    t.eq(1, r.zrem, "z", "9", "none")
    t.eq(b"zset", r.type, "z")


def lists(t, r, _):
    t.eq(3, r.rpush, "l", "b", "c", "d")
    t.eq(4, r.lpush, "l", "a")
    t.eq(0, r.lpushx, "none", "a")
    t.eq(5, r.rpushx, "l", "e")
    t.eq([b"a", b"b", b"c", b"d", b"e"], r.lrange, "l", 0, -1)
    t.eq(5, r.llen, "l")
    t.eq(b"c", r.lindex, "l", 2)
    t.eq(None, r.lindex, "l", 9)
    t.eq(True, r.lset, "l", 2, "C")
    t.eq(6, r.linsert, "l", "before", "C", "x")
    t.eq(7, r.linsert, "l", "after", "C", "x")
    t.eq(-1, r.linsert, "l", "after", "none", "x")
    t.eq([2, 4], r.lpos, "l", "x", count=0)
    t.eq(4, r.lpos, "l", "x", rank=-1)
    t.eq(2, r.lrem, "l", 0, "x")
    t.eq(b"a", r.lpop, "l")
    t.eq([b"e", b"d"], r.rpop, "l", 2)
    t.eq(b"C", r.lmove, "l", "to", "RIGHT", "LEFT")
    t.eq(b"C", r.rpoplpush, "to", "l")
    t.eq([b"l", [b"C", b"b"]], r.lmpop, 2, "none", "l", direction="LEFT", count=2)
    r.rpush("l", *range(10))
    t.eq(True, r.ltrim, "l", 2, 4)
    t.eq([b"2", b"3", b"4"], r.lrange, "l", 0, -1)
    t.eq(None, r.lpop, "none")
    t.eq(b"list", r.type, "l")
    t.fails(ResponseError, WRONG_TYPE, r.hget, "l", "f")


def waiting(t, r, other):
    t.eq(None, r.blpop, ["none"], timeout=0.05)
    t.eq(None, r.bzpopmin, ["none"], timeout=0.05)
    for call, push, want in (
        (lambda: r.blpop(["q", "p"], timeout=5), lambda: other.rpush("q", "v"), (b"q", b"v")),
        (lambda: r.brpop(["q"], timeout=5), lambda: other.rpush("q", "v"), (b"q", b"v")),
        (lambda: r.blmove("q", "to", 5), lambda: other.rpush("q", "v"), b"v"),
        (lambda: r.brpoplpush("q", "to", timeout=5), lambda: other.rpush("q", "v"), b"v"),
        (lambda: r.blmpop(5, 1, "q", direction="LEFT"), lambda: other.rpush("q", "v"), [b"q", [b"v"]]),
        (lambda: r.bzpopmin(["z"], timeout=5), lambda: other.zadd("z", {"m": 1}), (b"z", b"m", 1.0)),
        (lambda: r.bzpopmax(["z"], timeout=5), lambda: other.zadd("z", {"m": 1}), (b"z", b"m", 1.0)),
    ):
        timer = threading.Timer(0.1, push)
        timer.start()
        t.that(lambda got, want=want: got == want or list(got) == list(want), call)
        timer.join()


def bits_and_more(t, r, _):
    t.eq(0, r.setbit, "b", 7, 1)
    t.eq(1, r.getbit, "b", 7)
    t.eq(1, r.bitcount, "b")
    t.eq(7, r.bitpos, "b", 1)
    r.set("c", b"\x0f")
    t.eq(1, r.bitop, "OR", "to", "b", "c")
    t.eq(b"\x0f", r.get, "to")
    t.eq([0, 200], lambda: r.bitfield("f").set("u8", 0, 200).get("u8", 0).execute())
    t.eq([255], lambda: r.bitfield("f", default_overflow="SAT").incrby("u8", 0, 100).execute())
    t.eq(1, r.pfadd, "p", "a", "b", "c")
    t.eq(0, r.pfadd, "p", "a")
    t.eq(3, r.pfcount, "p")
    r.pfadd("o", "c", "d")
    t.eq(4, r.pfcount, "p", "o")
    t.eq(True, r.pfmerge, "m", "p", "o")
    t.eq(4, r.pfcount, "m")
    r.rpush("n", 3, 1, 2)
    t.eq([b"1", b"2", b"3"], r.sort, "n")
    t.eq([b"3", b"2"], r.sort, "n", start=0, num=2, desc=True)
    t.eq(3, r.sort, "n", store="sorted")
    t.eq([b"1", b"2", b"3"], r.lrange, "sorted", 0, -1)


def any_type(t, r, _):
    r.hset("h", mapping={"a": 1})
    r.expire("h", 100)
    t.eq(True, r.rename, "h", "g")
    t.that(lambda got: 99 <= got <= 100, r.ttl, "g")
    t.eq(True, r.copy, "g", "copy")
    dumped = r.dump("copy")
    r.delete("copy")
    t.that(lambda got: got in (True, b"OK"), r.restore, "copy", 0, dumped)
    t.eq({b"a": b"1"}, r.hgetall, "copy")
    r.sadd("s", "m")
    t.eq([b"s"], lambda: list(r.scan_iter(_type="set")))
    pipe = r.pipeline()
    pipe.hset("h", "x", 1).lpush("list", "a").zadd("z", {"m": 1}).hgetall("h")
    t.eq([1, 1, 1, {b"x": b"1"}], pipe.execute)
    for call in (lambda: r.get("h"), lambda: r.lpush("h", "a"), lambda: r.incr("s")):
        t.fails(ResponseError, WRONG_TYPE, call)


def main():
    args = arguments()
    t = Checks("redis_py_types")
    for options in ({}, {"protocol": 2}):
        options |= {"single_connection_client": True, "retry": Retry(NoBackoff(), 0)}
        r, other = (redis.Redis(args.host, args.port, **options) for _ in range(2))
        t.context = f"RESP{r.connection.protocol} "
        for group in (hashes, sets, sorted_sets, lists, waiting, bits_and_more, any_type):
            r.flushall()
            t.group(group, r, other)
        r.flushall()
    t.finish()


if __name__ == "__main__":
    main()
