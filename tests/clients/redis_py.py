"""redis-py against a server: redis_py.py HOST PORT [--ringwood]. Empties all databases.

Runs everything twice: with the protocol that redis-py chooses by itself, and with RESP2.
"""

import time
from datetime import datetime, timedelta

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ExecAbortError, ResponseError, WatchError
from redis.retry import Retry

from check import Checks, arguments

BINARY_KEY = b"\x00\xff\r\n key \x80"
MEBIBYTE = bytes(range(256)) * 4096
NO_CLUSTER = "This instance has cluster support disabled"


def within(low, high):
    return lambda got: type(got) is int and low <= got <= high


def is_ok_or(code):
    """The reply is OK, or the server answered with an error that starts with `code`."""
    return lambda got: got in (True, b"OK") or isinstance(got, ResponseError) and str(got).startswith(code)


def or_error(call, *args, **kwargs):
    """The reply or, as a value, the error."""
    try:
        return call(*args, **kwargs)
    except ResponseError as error:
        return error


def text(value):
    """Some replies are str or bytes, depending on the protocol."""
    return value.decode() if isinstance(value, bytes) else value


def strings(t, r, _):
    now = int(time.time())
    t.eq(None, r.get, "k")
    t.eq(True, r.set, "k", "v")
    t.eq(b"v", r.get, "k")
    t.eq(True, r.set, "k", "v", ex=100)
    t.that(within(99, 100), r.ttl, "k")
    t.eq(True, r.set, "k", "w", keepttl=True)
    t.that(within(99, 100), r.ttl, "k")
    t.eq(True, r.set, "k", "v", px=50_000)
    t.that(within(49_000, 50_000), r.pttl, "k")
    t.eq(True, r.set, "k", "v", exat=now + 200)
    t.eq(now + 200, r.expiretime, "k")
    t.eq(True, r.set, "k", "v", pxat=now * 1000 + 200_500)
    t.eq(now * 1000 + 200_500, r.pexpiretime, "k")
    t.eq(None, r.set, "k", "no", nx=True)
    t.eq(True, r.set, "k", "yes", xx=True)
    t.eq(-1, r.ttl, "k")
    t.eq(None, r.set, "new", "no", xx=True)
    t.eq(None, r.set, "new", "v", get=True)
    t.eq(b"v", r.set, "new", "no", nx=True, get=True)
    t.eq(b"v", r.set, "new", "w", get=True)
    t.eq(True, r.setnx, "other", 1)
    t.eq(False, r.setnx, "other", 2)
    t.that(bool, r.setex, "k", 100, "v")
    t.that(bool, r.psetex, "k", 90_000, "v")
    t.that(within(89_000, 90_000), r.pttl, "k")
    t.eq(b"v", r.getset, "k", "w")
    t.eq(-1, r.ttl, "k")
    t.eq(b"w", r.getdel, "k")
    t.eq(None, r.getdel, "k")
    r.set("k", "v")
    t.eq(b"v", r.getex, "k", ex=100)
    t.eq(b"v", r.getex, "k", px=90_000)
    t.that(within(89_000, 90_000), r.pttl, "k")
    t.eq(b"v", r.getex, "k", exat=now + 300)
    t.eq(now + 300, r.expiretime, "k")
    t.eq(b"v", r.getex, "k", pxat=now * 1000 + 300_007)
    t.eq(now * 1000 + 300_007, r.pexpiretime, "k")
    t.eq(b"v", r.getex, "k", persist=True)
    t.eq(-1, r.ttl, "k")
    t.eq(b"v", r.getex, "k")
    t.eq(True, r.mset, {"m1": "a", "m2": "b", "m3": ""})
    t.eq([b"a", b"b", b"", None], r.mget, "m1", "m2", "m3", "m4")
    t.eq(False, r.msetnx, {"m3": "x", "m4": "y"})
    t.eq(True, r.msetnx, {"m4": "x", "m5": "y"})
    t.eq(5, r.append, "greeting", "Hello")
    t.eq(11, r.append, "greeting", " World")
    t.eq(11, r.strlen, "greeting")
    t.eq(0, r.strlen, "absent")
    t.eq(b"World", r.getrange, "greeting", -5, -1)
    t.eq(b"Hello", r.substr, "greeting", 0, 4)
    t.eq(b"", r.getrange, "greeting", 20, 30)
    t.eq(11, r.setrange, "greeting", 6, "Redis")
    t.eq(b"Hello Redis", r.get, "greeting")
    t.eq(4, r.setrange, "padded", 2, "ab")
    t.eq(b"\x00\x00ab", r.get, "padded")
    t.eq(1, r.incr, "n")
    t.eq(11, r.incrby, "n", 10)
    t.eq(10, r.decr, "n")
    t.eq(-10, r.decrby, "n", 20)
    t.eq(-9.75, r.incrbyfloat, "n", 0.25)
    t.eq(b"-9.75", r.get, "n")
    r.mset({"lcs1": "ohmytext", "lcs2": "mynewtext"})
    t.eq(b"mytext", r.lcs, "lcs1", "lcs2")
    t.eq(6, r.lcs, "lcs1", "lcs2", len=True)
    t.eq([b"matches", [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], b"len", 6], r.lcs, "lcs1", "lcs2", idx=True)
    t.eq(
        [b"matches", [[[4, 7], [5, 8], 4]], b"len", 6],
        r.lcs, "lcs1", "lcs2", idx=True, minmatchlen=4, withmatchlen=True,
    )  # fmt: skip


def binary(t, r, _):
    t.eq(True, r.set, "mebibyte", MEBIBYTE)
    t.eq(MEBIBYTE, r.get, "mebibyte")
    t.eq(len(MEBIBYTE), r.strlen, "mebibyte")
    t.eq(MEBIBYTE[250:260], r.getrange, "mebibyte", 250, 259)
    t.eq(True, r.set, BINARY_KEY, MEBIBYTE[:256])
    t.eq(MEBIBYTE[:256], r.get, BINARY_KEY)
    t.eq([BINARY_KEY], r.keys, b"\x00*")
    t.eq(1, r.delete, BINARY_KEY)
    t.eq(True, r.set, "", "empty key")
    t.eq(b"empty key", r.get, "")


def pipelines(t, r, _):
    for transaction in (False, True):
        r.delete("count")
        pipe = r.pipeline(transaction=transaction)
        for _number in range(1000):
            pipe.incr("count")
        t.eq(list(range(1, 1001)), pipe.execute)
    pipe = r.pipeline(transaction=False)
    pipe.set("text", "t").incr("text").get("text")
    t.that(
        lambda got: got[0] is True and type(got[1]) is ResponseError and got[2] == b"t",
        pipe.execute, raise_on_error=False,
    )  # fmt: skip


def keys(t, r, _):
    r.mset({"a": 1, "b": "two", "c": 3})
    t.eq(3, r.dbsize)
    t.eq(2, r.exists, "a", "a", "z")
    t.eq(b"string", r.type, "a")
    t.eq(b"none", r.type, "z")
    t.eq(2, r.touch, "a", "b", "z")
    t.eq(True, r.rename, "a", "d")
    t.eq(b"1", r.get, "d")
    t.fails(ResponseError, "no such key", r.rename, "z", "y")
    t.that(lambda got: not got, r.renamenx, "d", "b")
    t.that(lambda got: got in (True, 1), r.renamenx, "d", "a")
    t.eq(True, r.copy, "a", "copy")
    t.eq(False, r.copy, "a", "b")
    t.eq(True, r.copy, "a", "b", replace=True)
    t.eq(True, r.copy, "a", "there", destination_db=1)
    t.eq(b"1", r.get, "b")
    t.that(lambda got: got in (b"a", b"b", b"c", b"copy"), r.randomkey)
    t.eq([b"a", b"b", b"c"], lambda: sorted(r.keys("[a-c]")))
    t.eq([b"copy"], r.keys, "c?p*")
    t.eq([], r.keys, "nothing*")
    t.eq(2, r.delete, "a", "b", "z")
    t.eq(1, r.unlink, "c", "z")

    r.flushdb()
    t.eq(None, r.randomkey)
    r.mset({f"scan:{number}": number for number in range(100)} | {"unlike": 1})
    t.that(lambda got: len(got) == 2 and type(got[0]) is int and type(got[1]) is list, r.scan, 0)
    everything = {f"scan:{number}".encode() for number in range(100)}
    t.eq(everything | {b"unlike"}, lambda: set(r.scan_iter()))
    t.eq(everything, lambda: set(r.scan_iter(match="scan:*", count=7)))
    t.eq(everything, lambda: set(r.scan_iter(match="scan:*", count=1000, _type="string")))
    t.eq((0, []), r.scan, 0, match="scan:*", count=1000, _type="list")


def expiry(t, r, _):
    now = int(time.time())
    r.set("k", "v")
    t.eq(-1, r.ttl, "k")
    t.eq(-2, r.ttl, "absent")
    t.eq(-1, r.expiretime, "k")
    t.eq(-2, r.pexpiretime, "absent")
    t.eq(False, r.expire, "absent", 10)
    t.eq(False, r.expire, "k", 100, xx=True)
    t.eq(False, r.expire, "k", 100, gt=True)
    t.eq(True, r.expire, "k", 100, nx=True)
    t.eq(False, r.expire, "k", 200, nx=True)
    t.eq(True, r.expire, "k", timedelta(seconds=200), gt=True)
    t.eq(False, r.pexpire, "k", 300_000, lt=True)
    t.eq(True, r.pexpire, "k", 150_000, lt=True)
    t.that(within(149_000, 150_000), r.pttl, "k")
    t.eq(True, r.pexpire, "k", 160_000, xx=True)
    t.eq(True, r.expireat, "k", now + 500)
    t.eq(now + 500, r.expiretime, "k")
    t.eq(False, r.expireat, "k", now + 400, gt=True)
    t.eq(True, r.expireat, "k", datetime.fromtimestamp(now + 400), lt=True)
    t.eq(True, r.pexpireat, "k", now * 1000 + 600_001)
    t.eq(now * 1000 + 600_001, r.pexpiretime, "k")
    t.eq(False, r.pexpireat, "k", now * 1000 + 700_000, nx=True)
    t.eq(True, r.pexpireat, "k", now * 1000 + 700_000, xx=True, gt=True)
    t.eq(True, r.persist, "k")
    t.eq(False, r.persist, "k")
    t.eq(True, r.expire, "k", -1)
    t.eq(0, r.exists, "k")
    r.set("brief", "v", px=20)
    time.sleep(0.05)
    t.eq(None, r.get, "brief")
    t.eq(0, r.exists, "brief")


def objects(t, r, _):
    r.mset({"int": 12345, "short": "text", "long": "x" * 100})
    for key, encoding in (("int", b"int"), ("short", b"embstr"), ("long", b"raw")):
        t.eq(encoding, r.object, "ENCODING", key)
    t.eq(None, r.object, "ENCODING", "absent")
    t.that(within(0, 10), r.object, "IDLETIME", "short")
    t.eq(1, r.object, "REFCOUNT", "short")
    t.fails(ResponseError, "An LFU maxmemory policy is not selected", r.object, "FREQ", "short")
    t.that(within(1, 10_000), r.memory_usage, "short")
    t.that(within(100, 10_000), r.memory_usage, "long", samples=0)
    t.eq(None, r.memory_usage, "absent")

    payload = t.that(lambda got: type(got) is bytes and got, r.dump, "long")
    t.eq(None, r.dump, "absent")
    t.that(bool, r.restore, "copy", 0, payload)
    t.eq(b"x" * 100, r.get, "copy")
    t.fails(ResponseError, "BUSYKEY Target key name already exists.", r.restore, "copy", 0, payload)
    t.that(bool, r.restore, "copy", 50_000, payload, replace=True)
    t.that(within(49_000, 50_000), r.pttl, "copy")
    until = int(time.time() * 1000) + 60_000
    t.that(bool, r.restore, "copy", until, payload, replace=True, absttl=True)
    t.eq(until, r.pexpiretime, "copy")
    t.fails(
        ResponseError, "DUMP payload version or checksum are wrong", r.restore, "foreign", 0, b"\x00\x01v\x0a\x00" + b"x" * 8
    )


def databases(t, r, _):
    r.set("k", "zero")
    t.eq(True, r.move, "k", 1)
    t.eq(False, r.move, "k", 1)
    t.eq(True, r.select, 1)
    t.eq(b"zero", r.get, "k")
    t.eq(True, r.swapdb, 0, 1)
    t.eq(None, r.get, "k")
    t.eq(True, r.select, 0)
    t.eq(b"zero", r.get, "k")
    t.fails(ResponseError, "DB index is out of range", r.select, 4096)
    t.eq(True, r.flushdb)
    t.eq(True, r.flushdb, asynchronous=True)
    t.eq(0, r.dbsize)
    t.eq(True, r.flushall)
    t.eq(True, r.flushall, asynchronous=True)


def transactions(t, r, other):
    with r.pipeline() as pipe:
        pipe.watch("k")
        t.eq(None, pipe.get, "k")
        pipe.multi()
        pipe.set("k", 1).incr("k").get("k")
        t.eq([True, 2, b"2"], pipe.execute)
        pipe.watch("k")
        other.set("k", "changed")
        pipe.multi()
        pipe.set("k", "lost")
        t.fails(WatchError, "Watched variable changed", pipe.execute)
    t.eq(b"changed", r.get, "k")

    command = r.execute_command
    t.eq(True, command, "WATCH", "k")
    other.set("k", "again")
    t.eq(True, command, "UNWATCH")
    t.eq(b"OK", command, "MULTI")
    t.eq(b"QUEUED", r.get, "k")
    t.fails(ResponseError, "MULTI calls can not be nested", command, "MULTI")
    t.eq([b"again"], command, "EXEC")
    t.eq(b"OK", command, "MULTI")
    t.eq(b"QUEUED", r.getdel, "k")
    t.eq(b"OK", command, "DISCARD")
    t.eq(b"again", r.get, "k")
    t.eq(b"OK", command, "MULTI")
    t.fails(ResponseError, "wrong number of arguments for 'get' command", command, "GET")
    t.fails(ExecAbortError, "Transaction discarded because of previous errors.", command, "EXEC")
    t.fails(ResponseError, "EXEC without MULTI", command, "EXEC")
    t.fails(ResponseError, "DISCARD without MULTI", command, "DISCARD")
    t.eq(True, command, "WATCH", "k")
    other.set("k", "once more")
    t.eq(b"OK", command, "MULTI")
    t.eq(b"QUEUED", r.get, "k")
    t.eq(None, command, "EXEC")
    # An error of a command that runs is its reply; the others are done.
    other.set("text", "t")
    with r.pipeline() as pipe:
        pipe.incr("text").set("after", 1)
        t.that(lambda got: type(got[0]) is ResponseError and got[1] is True, pipe.execute, raise_on_error=False)


def connection(t, r, other, protocol, ringwood):
    t.eq(True, r.ping)
    t.eq(b"hello", r.echo, "hello")
    t.eq(b"hello", r.execute_command, "ECHO", "hello")
    hello = t.that(lambda got: type(got) is (dict if protocol == 3 else list), r.execute_command, "HELLO")
    fields = hello if protocol == 3 else dict(zip(hello[::2], hello[1::2]))
    t.eq(protocol, fields.get, b"proto")
    t.eq(b"standalone", fields.get, b"mode")
    t.eq(b"master", fields.get, b"role")
    t.eq([], fields.get, b"modules")
    t.fails(ResponseError, "NOPROTO unsupported protocol version", r.execute_command, "HELLO", 4)
    t.fails(AuthenticationError, "AUTH <password> called without any password", r.auth, "secret")
    t.that(bool, r.execute_command, "HELLO", protocol, "SETNAME", "by-hello")
    t.eq("by-hello", lambda: text(r.client_getname()))

    t.eq("RESET", lambda: text(other.reset()))
    t.eq(True, other.ping)
    t.that(bool, other.quit)
    other.connection.disconnect()
    t.eq(True, other.ping)

    for name in ("READONLY", "READWRITE", "ASKING"):
        t.that(lambda got: got is True if ringwood else NO_CLUSTER in str(got), or_error, r.execute_command, name)
    t.eq(0, r.wait, 0, 0)


def clients(t, r, other, protocol):
    number = t.that(within(1, 2**62), r.client_id)
    t.eq(True, r.client_setname, "checks")
    t.eq("checks", lambda: text(r.client_getname()))
    t.that(is_ok_or("unknown subcommand"), or_error, r.client_setinfo, "LIB-NAME", "checks")
    info = t.that(lambda got: type(got) is dict, r.client_info)
    t.that(lambda got: int(got) == number, info.get, "id")
    t.eq("checks", info.get, "name")
    t.that(lambda got: got in (None, str(protocol), protocol), info.get, "resp")
    t.that(lambda got: [int(row["id"]) for row in got] == [number], r.client_list, client_id=[number])
    t.that(lambda got: str(number) in [row["id"] for row in got], r.client_list, _type="normal")

    victim = other.client_id()
    address = other.client_info()["addr"]
    t.eq(1, r.client_kill_filter, _id=str(victim))
    other.connection.disconnect()
    t.that(lambda got: got != victim, other.client_id)
    t.eq(0, r.client_kill_filter, addr=address)
    t.fails(ResponseError, "No such client", r.client_kill, address)
    t.that(bool, r.client_kill, other.client_info()["addr"])
    other.connection.disconnect()

    t.eq(True, r.client_pause, 60, all=False)
    start = time.monotonic()
    t.eq(None, other.get, "absent")
    t.that(lambda _: 0.03 < time.monotonic() - start < 1, other.set, "after", "pause")
    t.eq(True, r.client_pause, 60_000, all=False)
    t.eq(b"OK", r.client_unpause)
    start = time.monotonic()
    t.that(lambda _: time.monotonic() - start < 1, other.set, "after", "unpause")

    t.eq(b"OK", r.client_reply, "ON")
    wire = other.connection
    for words in (("CLIENT", "REPLY", "SKIP"), ("PING", "skipped"), ("ECHO", "first")):
        wire.send_command(*words)
    t.eq(b"first", wire.read_response)
    for words in (("CLIENT", "REPLY", "OFF"), ("PING", "dropped"), ("CLIENT", "REPLY", "ON"), ("ECHO", "second")):
        wire.send_command(*words)
    t.eq(b"OK", wire.read_response)
    t.eq(b"second", wire.read_response)

    t.eq(b"OK", r.client_no_evict, "ON")
    t.eq(b"OK", r.client_no_evict, "OFF")
    t.that(is_ok_or("unknown subcommand"), or_error, r.client_no_touch, "OFF")
    t.that(lambda got: got and text(got[1] if type(got) is list else list(got[b"flags"])[0]), r.client_trackinginfo)


def server(t, r, other):
    threshold = "slowlog-log-slower-than"
    before = t.that(lambda got: list(got) == [threshold], r.config_get, threshold)[threshold]
    t.eq({}, r.config_get, "no-such-directive")
    t.that(lambda got: {threshold, "slowlog-max-len"} <= set(got), r.config_get, "slowlog-*")
    t.eq(True, r.config_set, threshold, 0)
    t.eq({threshold: "0"}, r.config_get, threshold)
    t.fails(ResponseError, "Unknown option or number of arguments for CONFIG SET - 'nope'", r.config_set, "nope", 1)
    t.eq(True, r.slowlog_reset)
    r.set("slow", "log")
    t.that(within(1, 1000), r.slowlog_len)
    t.that(
        lambda got: any(row["command"] == b"SET slow log" and row["duration"] >= 0 for row in got), r.slowlog_get, 10
    )
    r.config_set(threshold, before)
    t.eq(True, r.config_resetstat)
    t.that(is_ok_or(""), or_error, r.config_rewrite)

    t.that(lambda got: got["redis_version"].split(".")[0] == "7" and got["role"] == "master", r.info)
    t.that(lambda got: got["tcp_port"] > 0 and "role" not in got, r.info, "server")
    t.that(lambda got: got["db0"]["keys"] == r.dbsize(), r.info, "keyspace")

    names = t.that(lambda got: b"get" in got and b"set" in got, r.command_list)
    t.eq(sum(b"|" not in name for name in names), r.command_count)
    t.eq([b"getset"], r.command_list, pattern="getse?")
    t.that(lambda got: got["get"]["arity"] == 2 and got["get"]["first_key_pos"] == 1, r.command)
    t.that(lambda got: got[0][:2] == [b"get", 2] and got[1] is None, r.execute_command, "COMMAND INFO", "get", "nope")
    t.that(lambda got: b"get" in got, r.execute_command, "COMMAND DOCS", "get")
    t.that(lambda got: [text(key) for key in got] == ["a", "b"], r.command_getkeys, "MSET", "a", 1, "b", 2)

    t.that(lambda got: abs(got[0] - time.time()) < 5 and 0 <= got[1] < 1_000_000, r.time)
    while r.info("persistence").get("rdb_bgsave_in_progress"):
        time.sleep(0.01)
    t.eq(True, r.save)
    t.that(lambda got: abs(got.timestamp() - time.time()) < 60, r.lastsave)
    t.that(bool, r.bgsave)
    t.that(lambda got: got[0] == b"master" and type(got[1]) is int and got[2] == [], r.role)
    t.eq([], r.latency_latest)
    t.eq([], r.latency_history, "command")
    t.eq(0, r.latency_reset)
    t.that(is_ok_or("DEBUG command not allowed"), or_error, r.execute_command, "DEBUG", "SLEEP", 0)

    with r.monitor() as monitor:
        other.set("seen", "by monitor")
        seen = (monitor.next_command() for _ in range(20))
        t.that(lambda got: got["db"] == 0, lambda: next(row for row in seen if row["command"] == "SET seen by monitor"))


def errors(t, r, _):
    command = r.execute_command
    r.mset({"text": "t", "big": 2**63 - 1})
    for message, *words in (
        ("wrong number of arguments for 'get' command", "GET"),
        ("wrong number of arguments for 'mset' command", "MSET", "a"),
        ("unknown command 'NOPE', with args beginning with: 'a' 'b' ", "NOPE", "a", "b"),
        ("unknown subcommand 'NOPE'. Try CLIENT HELP.", "CLIENT", "NOPE"),
        ("wrong number of arguments for 'client|setname' command", "CLIENT", "SETNAME"),
        ("syntax error", "SET", "k", "v", "NOPE"),
        ("syntax error", "SET", "k", "v", "NX", "XX"),
        ("syntax error", "SCAN", "0", "NOPE", "1"),
        ("value is not an integer or out of range", "INCR", "text"),
        ("value is not an integer or out of range", "INCRBY", "n", "1.5"),
        ("value is not an integer or out of range", "SET", "k", "v", "EX", "x"),
        ("increment or decrement would overflow", "INCR", "big"),
        ("value is not a valid float", "INCRBYFLOAT", "text", "1"),
        ("invalid expire time in 'set' command", "SET", "k", "v", "EX", "0"),
        ("invalid expire time in 'setex' command", "SETEX", "k", "-1", "v"),
        ("NX and XX, GT or LT options at the same time are not compatible", "EXPIRE", "k", "1", "NX", "GT"),
        ("offset is out of range", "SETRANGE", "k", "-1", "v"),
        ("invalid cursor", "SCAN", "nope"),
        ("source and destination objects are the same", "COPY", "text", "text"),
    ):
        t.fails(ResponseError, message, command, *words)


def ringwood_only(t, r, _):
    command = r.execute_command
    fresh = lambda key="k": command("SIBLINGS", key)[0]  # noqa: E731
    is_context = lambda got: type(got) is bytes  # noqa: E731
    resolved = lambda count: lambda got: len(got) == 2 and is_context(got[0]) and got[1] == count  # noqa: E731

    missing = t.that(lambda got: is_context(got[0]) and got[1] == [], command, "SIBLINGS", "k")[0]
    t.that(lambda got: got[1] == [], command, "SIBLINGS", "k", "WITHMETA")
    t.fails(ResponseError, "BADCONTEXT", command, "RESOLVE", "k", "made-up", "v")
    t.that(resolved(1), command, "RESOLVE", "k", missing, "one")
    t.that(resolved(2), command, "RESOLVE", "k", missing, "two")
    t.eq(b"two", r.get, "k")
    t.that(lambda got: got[1] == [b"two", b"one"], command, "SIBLINGS", "k")
    t.that(
        lambda got: [row[0] for row in got[1]] == [b"two", b"one"]
        and all(abs(at - time.time() * 1000) < 60_000 and type(node) is bytes and ttl == -1 for _, at, node, ttl in got[1]),
        command, "SIBLINGS", "k", "WITHMETA",
    )  # fmt: skip

    def conflicts():
        found, cursor = [], b"0"
        while True:
            cursor, page = command("CONFLICTS", cursor)
            found += page
            if cursor == b"0":
                return found

    r.set("peaceful", "v")
    t.eq([b"k"], conflicts)
    t.that(resolved(1), lambda: command("RESOLVE", "k", fresh(), "both"))
    t.eq(b"both", r.get, "k")
    t.eq([], conflicts)

    now = int(time.time())
    for option in (("EX", 100), ("PX", 100_000), ("EXAT", now + 100), ("PXAT", now * 1000 + 100_000), ("KEEPTTL",)):
        t.that(resolved(1), lambda: command("RESOLVE", "k", fresh(), "v", *option))
        t.that(within(95_000, 100_000), r.pttl, "k")
        t.that(lambda got: 95_000 <= got[1][0][3] <= 100_000, command, "SIBLINGS", "k", "WITHMETA")
    t.that(resolved(1), lambda: command("RESOLVE", "k", fresh(), "v"))
    t.eq(-1, r.ttl, "k")
    t.that(resolved(0), lambda: command("RESOLVE", "k", fresh()))
    t.eq(None, r.get, "k")
    t.that(lambda got: got[1] == [], command, "SIBLINGS", "k")
    t.that(lambda got: type(got) is bytes and got, command, "RINGWOOD STATUS")


def main():
    args = arguments()
    t = Checks("redis_py")
    for options in ({}, {"protocol": 2}):
        # No retries: they would hide lost connections (and take seconds over a refused AUTH).
        options |= {"single_connection_client": True, "retry": Retry(NoBackoff(), 0)}
        r, other = (redis.Redis(args.host, args.port, **options) for _ in range(2))
        protocol = r.connection.protocol
        t.context = f"RESP{protocol} "
        groups = [(group, r, other) for group in (strings, binary, pipelines, keys, expiry, objects, databases)]
        groups += [(transactions, r, other), (errors, r, other)]
        groups += [(connection, r, other, protocol, args.ringwood), (clients, r, other, protocol), (server, r, other)]
        groups += [(ringwood_only, r, other)] if args.ringwood else []
        for group in groups:
            r.flushall()
            t.group(*group)
        r.flushall()
    t.finish()


if __name__ == "__main__":
    main()
