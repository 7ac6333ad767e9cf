//! redis-rs against a server: `redis_rs HOST PORT [--ringwood]`. Empties all databases.
//!
//! Runs everything twice: with RESP3 and with RESP2, which is what redis-rs chooses by itself.

mod types;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::{
    Client, Connection, CopyOptions, ExistenceCheck, Expiry, FromRedisValue, RedisError,
    RedisResult, Role, ScanOptions, SetExpiry, SetOptions, TypedCommands, Value, ValueType, cmd,
    pipe,
};

const NO_CLUSTER: &str = "ERR This instance has cluster support disabled";

/// Counts checks: one that fails stops nothing else.
#[derive(Default)]
struct Checks {
    context: &'static str,
    passed: u32,
    failed: u32,
}

impl Checks {
    fn eq<T: PartialEq + Debug>(&mut self, what: &str, got: RedisResult<T>, want: T) {
        let good = got.as_ref().is_ok_and(|got| *got == want);
        self.count(good, || format!("{what}: want {want:?}, got {got:?}"));
    }

    fn that<T: Debug>(
        &mut self,
        what: &str,
        got: RedisResult<T>,
        holds: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        let good = got.as_ref().is_ok_and(holds);
        self.count(good, || format!("{what}: unexpected {got:?}"));
        got.ok()
    }

    /// The reply is an error whose code and text start with `text`.
    fn fails<T: Debug>(&mut self, what: &str, got: RedisResult<T>, text: &str) {
        let good = got
            .as_ref()
            .err()
            .is_some_and(|error| full_text(error).starts_with(text));
        self.count(good, || format!("{what}: want error {text:?}, got {got:?}"));
    }

    fn count(&mut self, good: bool, complaint: impl FnOnce() -> String) {
        if good {
            self.passed += 1;
        } else {
            self.failed += 1;
            eprintln!("FAILED {} {}", self.context, complaint());
        }
    }
}

/// What one run of all groups needs besides its two connections.
struct Run {
    client: Client,
    protocol: i64,
    ringwood: bool,
}

type Group = fn(&mut Checks, &mut Connection, &mut Connection, &Run);

fn full_text(error: &RedisError) -> String {
    format!(
        "{} {}",
        error.code().unwrap_or_default(),
        error.detail().unwrap_or_default()
    )
}

/// Sends words as they are, for commands that redis-rs has no method for.
fn send<T: FromRedisValue>(r: &mut Connection, words: &[&str]) -> RedisResult<T> {
    let mut command = cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query(r)
}

/// The reply or, as a value, the text of the error.
fn or_error(reply: RedisResult<String>) -> RedisResult<String> {
    reply.or_else(|error| Ok(full_text(&error)))
}

fn ok_or(text: &'static str) -> impl Fn(&String) -> bool {
    move |got| got == "OK" || got.starts_with(text)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn within(low: isize, high: isize) -> impl Fn(&isize) -> bool {
    move |got| (low..=high).contains(got)
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a clock before the year 584556019")
}

/// A time to live or an expiry as redis-rs's typed methods give it.
fn raw(reply: RedisResult<redis::IntegerReplyOrNoOp>) -> RedisResult<isize> {
    reply.map(|number| number.raw())
}

fn ints(numbers: &[i64]) -> Value {
    Value::Array(numbers.iter().copied().map(Value::Int).collect())
}

fn line_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split([' ', '\r', '\n'])
        .find_map(|word| word.strip_prefix(name)?.strip_prefix(['=', ':']))
}

fn strings(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    let now = now_ms() / 1000;
    let with = |expiry| SetOptions::default().with_expiration(expiry);
    let only = |check| SetOptions::default().conditional_set(check);
    t.eq("GET missing", r.get("k"), None);
    t.eq("SET", r.set("k", "v"), ());
    t.eq("GET", r.get("k"), some("v"));
    t.eq(
        "SET EX",
        r.set_options("k", "v", with(SetExpiry::EX(100))),
        some("OK"),
    );
    t.that("TTL", raw(r.ttl("k")), within(99, 100));
    t.eq(
        "SET KEEPTTL",
        r.set_options("k", "w", with(SetExpiry::KEEPTTL)),
        some("OK"),
    );
    t.that("TTL kept", raw(r.ttl("k")), within(99, 100));
    t.eq(
        "SET PX",
        r.set_options("k", "v", with(SetExpiry::PX(50_000))),
        some("OK"),
    );
    t.that("PTTL", raw(r.pttl("k")), within(49_000, 50_000));
    t.eq(
        "SET EXAT",
        r.set_options("k", "v", with(SetExpiry::EXAT(now + 200))),
        some("OK"),
    );
    t.eq("EXPIRETIME", raw(r.expire_time("k")), (now + 200) as isize);
    let at = now * 1000 + 200_500;
    t.eq(
        "SET PXAT",
        r.set_options("k", "v", with(SetExpiry::PXAT(at))),
        some("OK"),
    );
    t.eq("PEXPIRETIME", raw(r.pexpire_time("k")), at as isize);
    t.eq(
        "SET NX existing",
        r.set_options("k", "no", only(ExistenceCheck::NX)),
        None,
    );
    t.eq(
        "SET XX",
        r.set_options("k", "yes", only(ExistenceCheck::XX)),
        some("OK"),
    );
    t.eq("SET clears TTL", raw(r.ttl("k")), -1);
    t.eq(
        "SET XX missing",
        r.set_options("new", "no", only(ExistenceCheck::XX)),
        None,
    );
    t.eq(
        "SET GET missing",
        r.set_options("new", "v", SetOptions::default().get(true)),
        None,
    );
    t.eq(
        "SET NX GET",
        r.set_options("new", "no", only(ExistenceCheck::NX).get(true)),
        some("v"),
    );
    t.eq(
        "SET GET",
        r.set_options("new", "w", SetOptions::default().get(true)),
        some("v"),
    );
    t.eq("SETNX", r.set_nx("other", 1), true);
    t.eq("SETNX existing", r.set_nx("other", 2), false);
    t.eq("SETEX", r.set_ex("k", "v", 100), ());
    t.eq("PSETEX", r.pset_ex("k", "v", 90_000), ());
    t.that(
        "PTTL after PSETEX",
        raw(r.pttl("k")),
        within(89_000, 90_000),
    );
    t.eq("GETSET", r.getset("k", "w"), some("v"));
    t.eq("GETDEL", r.get_del("k"), some("w"));
    t.eq("GETDEL missing", r.get_del("k"), None);
    t.eq("SET again", r.set("k", "v"), ());
    t.eq("GETEX EX", r.get_ex("k", Expiry::EX(100)), some("v"));
    t.eq("GETEX PX", r.get_ex("k", Expiry::PX(90_000)), some("v"));
    t.that("PTTL after GETEX", raw(r.pttl("k")), within(89_000, 90_000));
    t.eq(
        "GETEX EXAT",
        r.get_ex("k", Expiry::EXAT(now + 300)),
        some("v"),
    );
    t.eq(
        "EXPIRETIME after GETEX",
        raw(r.expire_time("k")),
        (now + 300) as isize,
    );
    t.eq("GETEX PXAT", r.get_ex("k", Expiry::PXAT(at)), some("v"));
    t.eq(
        "PEXPIRETIME after GETEX",
        raw(r.pexpire_time("k")),
        at as isize,
    );
    t.eq("GETEX PERSIST", r.get_ex("k", Expiry::PERSIST), some("v"));
    t.eq("TTL after PERSIST", raw(r.ttl("k")), -1);
    t.eq("MSET", r.mset(&[("m1", "a"), ("m2", "b"), ("m3", "")]), ());
    t.eq(
        "MGET",
        r.mget(&["m1", "m2", "m3", "m4"]),
        vec![some("a"), some("b"), some(""), None],
    );
    t.eq(
        "MSETNX refused",
        r.mset_nx(&[("m3", "x"), ("m4", "y")]),
        false,
    );
    t.eq("MSETNX", r.mset_nx(&[("m4", "x"), ("m5", "y")]), true);
    t.eq("APPEND new", r.append("greeting", "Hello"), 5);
    t.eq("APPEND", r.append("greeting", " World"), 11);
    t.eq("STRLEN", r.strlen("greeting"), 11);
    t.eq(
        "GETRANGE",
        r.getrange("greeting", -5, -1),
        "World".to_owned(),
    );
    t.eq(
        "SUBSTR",
        send(r, &["SUBSTR", "greeting", "0", "4"]),
        "Hello".to_owned(),
    );
    t.eq("SETRANGE", r.setrange("greeting", 6, "Redis"), 11);
    t.eq("GET after SETRANGE", r.get("greeting"), some("Hello Redis"));
    t.eq("SETRANGE pads", r.setrange("padded", 2, "ab"), 4);
    t.eq("GET padded", r.get("padded"), some("\0\0ab"));
    t.eq("INCR", send(r, &["INCR", "n"]), 1_i64);
    t.eq("INCRBY", r.incr("n", 10), 11);
    t.eq("DECR", send(r, &["DECR", "n"]), 10_i64);
    t.eq("DECRBY", r.decr("n", 20), -10);
    t.eq(
        "INCRBYFLOAT",
        send(r, &["INCRBYFLOAT", "n", "0.25"]),
        "-9.75".to_owned(),
    );
    t.eq(
        "MSET of LCS",
        r.mset(&[("lcs1", "ohmytext"), ("lcs2", "mynewtext")]),
        (),
    );
    t.eq(
        "LCS",
        send(r, &["LCS", "lcs1", "lcs2"]),
        "mytext".to_owned(),
    );
    t.eq("LCS LEN", send(r, &["LCS", "lcs1", "lcs2", "LEN"]), 6_i64);
    let (text, my) = (
        [ints(&[4, 7]), ints(&[5, 8])],
        [ints(&[2, 3]), ints(&[0, 1])],
    );
    t.that(
        "LCS IDX",
        send::<HashMap<String, Value>>(r, &["LCS", "lcs1", "lcs2", "IDX"]),
        |got| {
            let ranges = [Value::Array(text.to_vec()), Value::Array(my.to_vec())];
            got.get("matches") == Some(&Value::Array(ranges.to_vec()))
                && got.get("len") == Some(&Value::Int(6))
        },
    );
    let words = [
        "LCS",
        "lcs1",
        "lcs2",
        "IDX",
        "MINMATCHLEN",
        "4",
        "WITHMATCHLEN",
    ];
    t.that(
        "LCS WITHMATCHLEN",
        send::<HashMap<String, Value>>(r, &words),
        |got| {
            let range = Value::Array([&text[..], &[Value::Int(4)]].concat());
            got.get("matches") == Some(&Value::Array(vec![range]))
                && got.get("len") == Some(&Value::Int(6))
        },
    );
}

fn binary(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    let mebibyte: Vec<u8> = (0..=255_u8).cycle().take(1 << 20).collect();
    let key: &[u8] = b"\x00\xff\r\n key \x80";
    t.eq("SET 1 MiB", r.set("mebibyte", mebibyte.as_slice()), ());
    let got = cmd("GET").arg("mebibyte").query::<Vec<u8>>(r);
    t.that("GET 1 MiB", got.map(|got| got == mebibyte), |same| *same);
    t.eq("STRLEN 1 MiB", r.strlen("mebibyte"), mebibyte.len());
    t.eq("SET binary key", r.set(key, "v"), ());
    t.eq("GET binary key", r.get(key), some("v"));
    t.eq(
        "KEYS binary",
        cmd("KEYS").arg(&b"\x00*"[..]).query::<Vec<Vec<u8>>>(r),
        vec![key.to_vec()],
    );
    t.eq("DEL binary key", r.del(key), 1);
}

fn pipelines(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    for atomic in [false, true] {
        t.eq("SET to zero", r.set("count", 0), ());
        let mut batch = pipe();
        if atomic {
            batch.atomic();
        }
        for _ in 0..1000 {
            batch.cmd("INCR").arg("count");
        }
        t.eq(
            "pipeline of 1,000",
            batch.query::<Vec<i64>>(r),
            (1..=1000).collect(),
        );
    }
    let mut batch = pipe();
    batch
        .cmd("SET")
        .arg("text")
        .arg("t")
        .cmd("INCR")
        .arg("text")
        .cmd("GET")
        .arg("text");
    let replies = batch.ignore_errors().query::<Vec<RedisResult<String>>>(r);
    t.that("pipeline with an error", replies, |got| {
        got.len() == 3 && got[0].is_ok() && got[1].is_err() && got[2] == Ok("t".to_owned())
    });
}

fn keys(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    t.eq("MSET", r.mset(&[("a", "1"), ("b", "two"), ("c", "3")]), ());
    t.eq("DBSIZE", send(r, &["DBSIZE"]), 3_i64);
    t.eq("EXISTS", send(r, &["EXISTS", "a", "a", "z"]), 2_i64);
    t.eq("TYPE", r.key_type("a"), ValueType::String);
    t.eq("TYPE missing", r.key_type("z"), ValueType::None);
    t.eq("TOUCH", send(r, &["TOUCH", "a", "b", "z"]), 2_i64);
    t.eq("RENAME", r.rename("a", "d"), ());
    t.eq("RENAMENX taken", r.rename_nx("d", "b"), false);
    t.eq("RENAMENX", r.rename_nx("d", "a"), true);
    t.eq("COPY", r.copy("a", "copy", CopyOptions::default()), true);
    t.eq(
        "COPY taken",
        r.copy("a", "b", CopyOptions::default()),
        false,
    );
    t.eq(
        "COPY REPLACE",
        r.copy("a", "b", CopyOptions::default().replace(true)),
        true,
    );
    t.eq(
        "COPY DB",
        r.copy("a", "there", CopyOptions::default().db(1)),
        true,
    );
    t.that("RANDOMKEY", send::<String>(r, &["RANDOMKEY"]), |got| {
        ["a", "b", "c", "copy"].contains(&got.as_str())
    });
    t.that("KEYS", r.keys("[a-c]"), |got| {
        got.len() == 3 && got.iter().all(|key| key.len() == 1)
    });
    t.eq("DEL", r.del(&["a", "b", "z"]), 2);
    t.eq("UNLINK", r.unlink(&["c", "z"]), 1);

    t.eq("FLUSHDB", r.flushdb(), ());
    t.eq(
        "RANDOMKEY of none",
        send::<Option<String>>(r, &["RANDOMKEY"]),
        None,
    );
    let names: BTreeSet<String> = (0..100).map(|number| format!("scan:{number}")).collect();
    for name in &names {
        t.eq("SET", r.set(name.as_str(), "v"), ());
    }
    t.eq("SET unlike", r.set("unlike", "v"), ());
    let mut scan = |options: ScanOptions| -> RedisResult<BTreeSet<String>> {
        r.scan_options::<String>(options)?.collect()
    };
    t.that("SCAN", scan(ScanOptions::default()), |got| got.len() == 101);
    let few = ScanOptions::default()
        .with_pattern("scan:*")
        .with_count(7)
        .with_type("string");
    t.eq("SCAN MATCH COUNT TYPE", scan(few), names);
    t.eq(
        "SCAN of lists",
        scan(ScanOptions::default().with_type("list")),
        BTreeSet::new(),
    );
}

fn expiry(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    let now = i64::try_from(now_ms() / 1000).expect("seconds are few");
    t.eq("SET", r.set("k", "v"), ());
    t.eq("TTL without", raw(r.ttl("k")), -1);
    t.eq("TTL missing", raw(r.ttl("absent")), -2);
    t.eq("EXPIRE missing", r.expire("absent", 10), false);
    t.eq("EXPIRE", r.expire("k", 100), true);
    t.eq(
        "EXPIRE NX refused",
        send(r, &["EXPIRE", "k", "200", "NX"]),
        0_i64,
    );
    t.eq("EXPIRE GT", send(r, &["EXPIRE", "k", "200", "GT"]), 1_i64);
    t.eq(
        "PEXPIRE LT refused",
        send(r, &["PEXPIRE", "k", "300000", "LT"]),
        0_i64,
    );
    t.eq(
        "PEXPIRE XX",
        send(r, &["PEXPIRE", "k", "150000", "XX"]),
        1_i64,
    );
    t.that("PTTL", raw(r.pttl("k")), within(149_000, 150_000));
    t.eq("PEXPIRE", r.pexpire("k", 100_000), true);
    t.eq("EXPIREAT", r.expire_at("k", now + 500), true);
    t.eq("EXPIRETIME", raw(r.expire_time("k")), (now + 500) as isize);
    t.eq("PEXPIREAT", r.pexpire_at("k", now * 1000 + 600_001), true);
    t.eq(
        "PEXPIRETIME",
        raw(r.pexpire_time("k")),
        (now * 1000 + 600_001) as isize,
    );
    t.eq("PERSIST", r.persist("k"), true);
    t.eq("PERSIST without", r.persist("k"), false);
    t.eq("EXPIRE in the past", r.expire("k", -1), true);
    t.eq("EXISTS expired", r.exists("k"), false);
    t.eq("PSETEX", r.pset_ex("brief", "v", 20), ());
    std::thread::sleep(Duration::from_millis(50));
    t.eq("GET expired", r.get("brief"), None);
}

fn objects(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    let long = "x".repeat(100);
    t.eq(
        "MSET",
        r.mset(&[("int", "12345"), ("short", "text"), ("long", long.as_str())]),
        (),
    );
    t.eq("OBJECT ENCODING int", r.object_encoding("int"), some("int"));
    t.eq(
        "OBJECT ENCODING short",
        r.object_encoding("short"),
        some("embstr"),
    );
    t.eq(
        "OBJECT ENCODING long",
        r.object_encoding("long"),
        some("raw"),
    );
    t.eq("OBJECT ENCODING missing", r.object_encoding("absent"), None);
    t.that("OBJECT IDLETIME", r.object_idletime("short"), |got| {
        got.is_some_and(|age| age < 10)
    });
    t.eq("OBJECT REFCOUNT", r.object_refcount("short"), Some(1));
    t.fails(
        "OBJECT FREQ",
        r.object_freq("short"),
        "ERR An LFU maxmemory policy is not selected",
    );
    let usage = send::<isize>(r, &["MEMORY", "USAGE", "long", "SAMPLES", "0"]);
    t.that("MEMORY USAGE", usage, within(100, 10_000));
    t.eq(
        "MEMORY USAGE missing",
        send::<Option<i64>>(r, &["MEMORY", "USAGE", "absent"]),
        None,
    );

    let dump = cmd("DUMP").arg("long").query::<Vec<u8>>(r);
    let Some(payload) = t.that("DUMP", dump, |got| !got.is_empty()) else {
        return;
    };
    t.eq(
        "DUMP missing",
        send::<Option<String>>(r, &["DUMP", "absent"]),
        None,
    );
    let mut restore = cmd("RESTORE");
    restore.arg("copy").arg(0).arg(payload.as_slice());
    t.eq("RESTORE", restore.query(r), "OK".to_owned());
    t.eq("GET restored", r.get("copy"), Some(long));
    t.fails(
        "RESTORE taken",
        restore.query::<Value>(r),
        "BUSYKEY Target key name already exists.",
    );
    let until = now_ms() + 60_000;
    let mut restore = cmd("RESTORE");
    restore
        .arg("copy")
        .arg(until)
        .arg(payload.as_slice())
        .arg("REPLACE")
        .arg("ABSTTL");
    t.eq("RESTORE REPLACE ABSTTL", restore.query(r), "OK".to_owned());
    t.eq(
        "PEXPIRETIME restored",
        raw(r.pexpire_time("copy")),
        until as isize,
    );
    let foreign = send::<Value>(r, &["RESTORE", "foreign", "0", "not a payload"]);
    t.fails(
        "RESTORE foreign",
        foreign,
        "ERR DUMP payload version or checksum are wrong",
    );
}

fn databases(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    let ok = || "OK".to_owned();
    t.eq("SET", r.set("k", "zero"), ());
    t.eq("MOVE", send(r, &["MOVE", "k", "1"]), 1_i64);
    t.eq("MOVE missing", send(r, &["MOVE", "k", "1"]), 0_i64);
    t.eq("SELECT", send(r, &["SELECT", "1"]), ok());
    t.eq("GET moved", r.get("k"), some("zero"));
    t.eq("SWAPDB", send(r, &["SWAPDB", "0", "1"]), ok());
    t.eq("GET swapped", r.get("k"), None);
    t.eq("SELECT back", send(r, &["SELECT", "0"]), ok());
    t.eq("GET back", r.get("k"), some("zero"));
    t.eq("FLUSHDB ASYNC", send(r, &["FLUSHDB", "ASYNC"]), ok());
    t.eq("DBSIZE", send(r, &["DBSIZE"]), 0_i64);
    t.eq("FLUSHALL SYNC", send(r, &["FLUSHALL", "SYNC"]), ok());
}

fn transactions(t: &mut Checks, r: &mut Connection, other: &mut Connection, _: &Run) {
    let ok = || "OK".to_owned();
    let queued = || "QUEUED".to_owned();
    let mut batch = pipe();
    batch
        .atomic()
        .cmd("SET")
        .arg("k")
        .arg(1)
        .cmd("INCR")
        .arg("k")
        .cmd("GET")
        .arg("k");
    t.eq("MULTI EXEC", batch.query(r), (ok(), 2_i64, "2".to_owned()));

    t.eq("WATCH", send(r, &["WATCH", "k"]), ok());
    t.eq("SET of the other", other.set("k", "changed"), ());
    let mut lost = pipe();
    lost.atomic().cmd("SET").arg("k").arg("lost");
    t.eq(
        "EXEC aborted by WATCH",
        lost.query::<Option<Vec<String>>>(r),
        None,
    );
    t.eq("GET after abort", r.get("k"), some("changed"));
    t.eq("WATCH again", send(r, &["WATCH", "k"]), ok());
    t.eq("SET of the other again", other.set("k", "again"), ());
    t.eq("UNWATCH", send(r, &["UNWATCH"]), ok());
    t.eq("MULTI", send(r, &["MULTI"]), ok());
    t.eq("QUEUED", send(r, &["GET", "k"]), queued());
    t.eq("EXEC", send(r, &["EXEC"]), vec!["again".to_owned()]);
    t.eq("MULTI to discard", send(r, &["MULTI"]), ok());
    t.eq("QUEUED to discard", send(r, &["GETDEL", "k"]), queued());
    t.eq("DISCARD", send(r, &["DISCARD"]), ok());
    t.eq("GET after DISCARD", r.get("k"), some("again"));
    t.eq("MULTI to abort", send(r, &["MULTI"]), ok());
    let short = send::<Value>(r, &["GET"]);
    t.fails(
        "not queued",
        short,
        "ERR wrong number of arguments for 'get' command",
    );
    let aborted = send::<Value>(r, &["EXEC"]);
    t.fails(
        "EXECABORT",
        aborted,
        "EXECABORT Transaction discarded because of previous errors.",
    );
    t.eq("SET of a text", other.set("text", "t"), ());
    let mut mixed = pipe();
    mixed
        .atomic()
        .cmd("INCR")
        .arg("text")
        .cmd("SET")
        .arg("after")
        .arg(1);
    let replies = mixed.ignore_errors().query::<Vec<RedisResult<String>>>(r);
    t.that("EXEC with an error", replies, |got| {
        matches!(got.as_slice(), [Err(_), Ok(_)])
    });
}

fn connection(t: &mut Checks, r: &mut Connection, _: &mut Connection, run: &Run) {
    t.eq("PING", r.ping(), "PONG".to_owned());
    t.eq("PING message", r.ping_message("hello"), "hello".to_owned());
    t.eq("ECHO", send(r, &["ECHO", "hello"]), "hello".to_owned());
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    t.that(
        "HELLO",
        send::<HashMap<String, Value>>(r, &["HELLO"]),
        |got| {
            got.get("proto") == Some(&Value::Int(run.protocol))
                && got.get("mode") == Some(&text("standalone"))
                && got.get("role") == Some(&text("master"))
                && got.get("modules") == Some(&Value::Array(vec![]))
        },
    );
    let protocol = run.protocol.to_string();
    let hello = send::<HashMap<String, Value>>(r, &["HELLO", &protocol, "SETNAME", "by-hello"]);
    t.that("HELLO SETNAME", hello, |got| {
        got.get("proto") == Some(&Value::Int(run.protocol))
    });
    t.eq("CLIENT GETNAME", r.client_getname(), some("by-hello"));

    if let Some(mut third) = t.that("connect", run.client.get_connection().map(Quiet), |_| true) {
        let third = &mut third.0;
        t.eq("SELECT 2", send(third, &["SELECT", "2"]), "OK".to_owned());
        t.eq("RESET", send(third, &["RESET"]), "RESET".to_owned());
        let info = send::<String>(third, &["CLIENT", "INFO"]);
        t.that("CLIENT INFO after RESET", info, |got| {
            line_field(got, "db") == Some("0")
        });
        t.eq("QUIT", send(third, &["QUIT"]), "OK".to_owned());
        t.count(third.ping().is_err(), || {
            "PING after QUIT: a reply".to_owned()
        });
    }
    for name in ["READONLY", "READWRITE", "ASKING"] {
        let want = if run.ringwood { "OK" } else { NO_CLUSTER };
        t.eq(name, or_error(send(r, &[name])), want.to_owned());
    }
    t.eq("WAIT", send(r, &["WAIT", "0", "0"]), 0_i64);
}

/// A connection whose Debug text says nothing.
struct Quiet(Connection);

impl Debug for Quiet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a connection")
    }
}

fn clients(t: &mut Checks, r: &mut Connection, other: &mut Connection, run: &Run) {
    let ok = || "OK".to_owned();
    let unknown = "ERR unknown subcommand";
    let Some(id) = t.that("CLIENT ID", r.client_id(), |got| *got > 0) else {
        return;
    };
    let id = id.to_string();
    t.eq("CLIENT SETNAME", r.client_setname("checks"), ());
    t.eq("CLIENT GETNAME", r.client_getname(), some("checks"));
    let set_info = or_error(send(r, &["CLIENT", "SETINFO", "LIB-NAME", "checks"]));
    t.that("CLIENT SETINFO", set_info, ok_or(unknown));
    t.that(
        "CLIENT INFO",
        send::<String>(r, &["CLIENT", "INFO"]),
        |got| {
            line_field(got, "id") == Some(id.as_str()) && line_field(got, "name") == Some("checks")
        },
    );
    let list = send::<String>(r, &["CLIENT", "LIST", "ID", &id]);
    t.that("CLIENT LIST ID", list, |got| {
        got.trim().lines().count() == 1
    });
    let list = send::<String>(r, &["CLIENT", "LIST", "TYPE", "normal"]);
    t.that("CLIENT LIST TYPE", list, |got| {
        got.contains(&format!("id={id} "))
    });

    if let Some(mut victim) = t.that("connect", run.client.get_connection().map(Quiet), |_| true) {
        let victim = &mut victim.0;
        let number = victim.client_id().unwrap_or_default().to_string();
        t.eq(
            "CLIENT KILL ID",
            send(r, &["CLIENT", "KILL", "ID", &number]),
            1_i64,
        );
        t.count(victim.ping().is_err(), || {
            "PING after CLIENT KILL: a reply".to_owned()
        });
        t.eq(
            "CLIENT KILL gone",
            send(r, &["CLIENT", "KILL", "ID", &number]),
            0_i64,
        );
    }

    t.eq(
        "CLIENT PAUSE WRITE",
        send(r, &["CLIENT", "PAUSE", "60", "WRITE"]),
        ok(),
    );
    let start = Instant::now();
    t.eq("GET while paused", other.get("absent"), None);
    t.eq("SET while paused", other.set("after", "pause"), ());
    let waited = start.elapsed();
    t.count(waited > Duration::from_millis(30), || {
        format!("SET waited only {waited:?}")
    });
    t.eq(
        "CLIENT PAUSE long",
        send(r, &["CLIENT", "PAUSE", "60000", "WRITE"]),
        ok(),
    );
    t.eq("CLIENT UNPAUSE", send(r, &["CLIENT", "UNPAUSE"]), ok());
    t.eq("SET after UNPAUSE", other.set("after", "unpause"), ());

    t.eq("CLIENT REPLY ON", send(r, &["CLIENT", "REPLY", "ON"]), ok());
    let mut packed = Vec::new();
    let skipping: [&[&str]; 3] = [
        &["CLIENT", "REPLY", "SKIP"],
        &["PING", "no"],
        &["ECHO", "first"],
    ];
    for words in skipping {
        packed.extend(cmd(words[0]).arg(&words[1..]).get_packed_command());
    }
    let sent = other.send_packed_command(&packed);
    let first = sent.and_then(|()| other.recv_response());
    t.eq(
        "CLIENT REPLY SKIP",
        first,
        Value::BulkString(b"first".to_vec()),
    );

    t.eq(
        "CLIENT NO-EVICT",
        send(r, &["CLIENT", "NO-EVICT", "ON"]),
        ok(),
    );
    t.that(
        "CLIENT NO-TOUCH",
        or_error(send(r, &["CLIENT", "NO-TOUCH", "OFF"])),
        ok_or(unknown),
    );
    let tracking = send::<HashMap<String, Value>>(r, &["CLIENT", "TRACKINGINFO"]);
    t.that("CLIENT TRACKINGINFO", tracking, |got| {
        got.get("redirect") == Some(&Value::Int(-1))
    });
}

fn server(t: &mut Checks, r: &mut Connection, other: &mut Connection, run: &Run) {
    let ok = || "OK".to_owned();
    let threshold = "slowlog-log-slower-than";
    let config = send::<HashMap<String, String>>(r, &["CONFIG", "GET", threshold]);
    let Some(config) = t.that("CONFIG GET", config, |got| got.len() == 1) else {
        return;
    };
    let unknown = send::<HashMap<String, String>>(r, &["CONFIG", "GET", "no-such-directive"]);
    t.eq("CONFIG GET unknown", unknown, HashMap::new());
    t.eq(
        "CONFIG SET",
        send(r, &["CONFIG", "SET", threshold, "0"]),
        ok(),
    );
    let text = "ERR Unknown option or number of arguments for CONFIG SET - 'nope'";
    t.fails(
        "CONFIG SET unknown",
        send::<Value>(r, &["CONFIG", "SET", "nope", "1"]),
        text,
    );
    t.eq("SLOWLOG RESET", send(r, &["SLOWLOG", "RESET"]), ok());
    t.eq("SET of a slow log", r.set("slow", "log"), ());
    t.that(
        "SLOWLOG LEN",
        send::<isize>(r, &["SLOWLOG", "LEN"]),
        within(1, 1000),
    );
    type Entry = (i64, i64, i64, Vec<String>, String, String);
    t.that(
        "SLOWLOG GET",
        send::<Vec<Entry>>(r, &["SLOWLOG", "GET", "10"]),
        |got| got.iter().any(|entry| entry.3 == ["SET", "slow", "log"]),
    );
    if let Some(before) = config.get(threshold) {
        t.eq(
            "CONFIG SET back",
            send(r, &["CONFIG", "SET", threshold, before]),
            ok(),
        );
    }
    t.eq("CONFIG RESETSTAT", send(r, &["CONFIG", "RESETSTAT"]), ok());
    t.that(
        "CONFIG REWRITE",
        or_error(send(r, &["CONFIG", "REWRITE"])),
        ok_or("ERR "),
    );

    t.that("INFO", send::<String>(r, &["INFO"]), |got| {
        line_field(got, "redis_version").is_some_and(|version| version.starts_with("7."))
            && line_field(got, "role") == Some("master")
    });
    t.that(
        "INFO server",
        send::<String>(r, &["INFO", "server"]),
        |got| got.starts_with("# Server\r\n") && !got.contains("# Clients"),
    );

    let names = send::<Vec<String>>(r, &["COMMAND", "LIST"]);
    let names = t.that("COMMAND LIST", names, |got| {
        got.iter().any(|name| name == "get")
    });
    let count = names
        .unwrap_or_default()
        .iter()
        .filter(|name| !name.contains('|'))
        .count();
    t.eq("COMMAND COUNT", send(r, &["COMMAND", "COUNT"]), count);
    t.that("COMMAND INFO", send::<Vec<Value>>(r, &["COMMAND", "INFO", "get", "nope"]), |got| {
        matches!(got.as_slice(), [Value::Array(row), Value::Nil] if row.get(1) == Some(&Value::Int(2)))
    });
    let docs = send::<HashMap<String, HashMap<String, Value>>>(r, &["COMMAND", "DOCS", "get"]);
    t.that("COMMAND DOCS", docs, |got| {
        got.get("get")
            .is_some_and(|get| get.contains_key("summary"))
    });
    let keys = send::<Vec<String>>(r, &["COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"]);
    t.eq(
        "COMMAND GETKEYS",
        keys,
        vec!["a".to_owned(), "b".to_owned()],
    );

    let seconds = now_ms() / 1000;
    t.that("TIME", send::<(u64, u64)>(r, &["TIME"]), |(at, micros)| {
        at.abs_diff(seconds) < 5 && *micros < 1_000_000
    });
    let saving = "rdb_bgsave_in_progress:1";
    while send::<String>(r, &["INFO", "persistence"]).is_ok_and(|info| info.contains(saving)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    t.eq("SAVE", send(r, &["SAVE"]), ok());
    t.that("LASTSAVE", send::<u64>(r, &["LASTSAVE"]), |got| {
        got.abs_diff(seconds) < 60
    });
    let background = send::<String>(r, &["BGSAVE", "SCHEDULE"]);
    t.that("BGSAVE", background, |got| {
        got.starts_with("Background saving ")
    });
    t.that(
        "ROLE",
        send::<Role>(r, &["ROLE"]),
        |got| matches!(got, Role::Primary { replicas, .. } if replicas.is_empty()),
    );
    t.eq("LATENCY LATEST", send(r, &["LATENCY", "LATEST"]), ints(&[]));
    t.eq(
        "LATENCY HISTORY",
        send(r, &["LATENCY", "HISTORY", "command"]),
        ints(&[]),
    );
    t.eq("LATENCY RESET", send(r, &["LATENCY", "RESET"]), 0_i64);
    let slept = or_error(send(r, &["DEBUG", "SLEEP", "0"]));
    t.that("DEBUG SLEEP", slept, ok_or("ERR DEBUG command not allowed"));

    if let Some(mut watcher) = t.that("connect", run.client.get_connection().map(Quiet), |_| true) {
        let watcher = &mut watcher.0;
        t.eq(
            "read timeout",
            watcher.set_read_timeout(Some(Duration::from_secs(1))),
            (),
        );
        t.eq("MONITOR", send(watcher, &["MONITOR"]), ok());
        t.eq("SET of the other", other.set("seen", "by monitor"), ());
        let line = watcher.recv_response();
        t.that("MONITOR line", line, |got| {
            matches!(got, Value::SimpleString(line) if line.ends_with(r#""SET" "seen" "by monitor""#))
        });
    }
}

fn errors(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    t.eq(
        "MSET",
        r.mset(&[("text", "t"), ("big", "9223372036854775807")]),
        (),
    );
    let not_integer = "ERR value is not an integer or out of range";
    let cases: [(&[&str], &str); 18] = [
        (&["GET"], "ERR wrong number of arguments for 'get' command"),
        (
            &["MSET", "a"],
            "ERR wrong number of arguments for 'mset' command",
        ),
        (
            &["NOPE", "a"],
            "ERR unknown command 'NOPE', with args beginning with: 'a'",
        ),
        (
            &["CLIENT", "NOPE"],
            "ERR unknown subcommand 'NOPE'. Try CLIENT HELP.",
        ),
        (&["SET", "k", "v", "NOPE"], "ERR syntax error"),
        (&["SET", "k", "v", "NX", "XX"], "ERR syntax error"),
        (&["INCR", "text"], not_integer),
        (&["INCRBY", "n", "1.5"], not_integer),
        (&["SET", "k", "v", "EX", "x"], not_integer),
        (
            &["INCR", "big"],
            "ERR increment or decrement would overflow",
        ),
        (
            &["INCRBYFLOAT", "text", "1"],
            "ERR value is not a valid float",
        ),
        (
            &["SET", "k", "v", "EX", "0"],
            "ERR invalid expire time in 'set' command",
        ),
        (&["SETRANGE", "k", "-1", "v"], "ERR offset is out of range"),
        (&["RENAME", "absent", "k"], "ERR no such key"),
        (&["SELECT", "4096"], "ERR DB index is out of range"),
        (&["EXEC"], "ERR EXEC without MULTI"),
        (&["HELLO", "4"], "NOPROTO unsupported protocol version"),
        (
            &["AUTH", "secret"],
            "ERR AUTH <password> called without any password configured",
        ),
    ];
    for (words, text) in cases {
        t.fails(&words.join(" "), send::<Value>(r, words), text);
    }
}

fn ringwood_only(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    type Siblings = (String, Vec<String>);
    type WithMeta = (String, Vec<(String, u64, String, isize)>);
    fn siblings(r: &mut Connection) -> RedisResult<Siblings> {
        send(r, &["SIBLINGS", "k"])
    }
    fn with_meta(r: &mut Connection) -> RedisResult<WithMeta> {
        send(r, &["SIBLINGS", "k", "WITHMETA"])
    }
    /// RESOLVE with the context as it is now; gives how many siblings there are then.
    fn settle(r: &mut Connection, rest: &[&str]) -> RedisResult<i64> {
        let (context, _) = siblings(r)?;
        let words = [&["RESOLVE", "k", context.as_str()][..], rest].concat();
        send::<(String, i64)>(r, &words).map(|(_, count)| count)
    }
    fn conflicts(r: &mut Connection) -> RedisResult<Vec<String>> {
        let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let page: Vec<String>;
            (cursor, page) = send(r, &["CONFLICTS", &cursor])?;
            found.extend(page);
            if cursor == "0" {
                return Ok(found);
            }
        }
    }

    let none = t.that("SIBLINGS missing", siblings(r), |(_, values)| {
        values.is_empty()
    });
    let Some((missing, _)) = none else { return };
    t.that("SIBLINGS missing WITHMETA", with_meta(r), |(_, rows)| {
        rows.is_empty()
    });
    let made_up = send::<Value>(r, &["RESOLVE", "k", "made-up", "v"]);
    t.fails("RESOLVE made-up context", made_up, "BADCONTEXT");
    for (value, count) in [("one", 1), ("two", 2)] {
        let resolved = send::<(String, i64)>(r, &["RESOLVE", "k", &missing, value]);
        t.eq(value, resolved.map(|(_, count)| count), count);
    }
    t.eq("GET has the newest", r.get("k"), some("two"));
    t.that("SIBLINGS", siblings(r), |(_, values)| {
        *values == ["two", "one"]
    });
    let now = now_ms();
    t.that("SIBLINGS WITHMETA", with_meta(r), |(_, rows)| {
        rows.len() == 2
            && rows
                .iter()
                .all(|row| row.1.abs_diff(now) < 60_000 && row.3 == -1)
    });
    t.eq("SET peaceful", r.set("peaceful", "v"), ());
    t.eq("CONFLICTS", conflicts(r), vec!["k".to_owned()]);
    t.eq("RESOLVE settles", settle(r, &["both"]), 1);
    t.eq("GET settled", r.get("k"), some("both"));
    t.eq("CONFLICTS none", conflicts(r), vec![]);

    let (exat, pxat) = ((now / 1000 + 100).to_string(), (now + 100_000).to_string());
    let options: [&[&str]; 5] = [
        &["v", "EX", "100"],
        &["v", "PX", "100000"],
        &["v", "EXAT", &exat],
        &["v", "PXAT", &pxat],
        &["v", "KEEPTTL"],
    ];
    for rest in options {
        t.eq(rest[1], settle(r, rest), 1);
        t.that(rest[1], raw(r.pttl("k")), within(95_000, 100_000));
        t.that(rest[1], with_meta(r), |(_, rows)| {
            rows.len() == 1 && rows[0].3 > 95_000
        });
    }
    t.eq("RESOLVE persists", settle(r, &["v"]), 1);
    t.eq("PTTL persisted", raw(r.pttl("k")), -1);
    t.eq("RESOLVE deletes", settle(r, &[]), 0);
    t.eq("GET deleted", r.get("k"), None);
    let status = send::<String>(r, &["RINGWOOD", "STATUS"]);
    t.that("RINGWOOD STATUS", status, |got| !got.is_empty());
}

fn run_all(t: &mut Checks, run: &Run) -> RedisResult<()> {
    let (mut r, mut other) = (run.client.get_connection()?, run.client.get_connection()?);
    let groups: [Group; 17] = [
        strings,
        binary,
        pipelines,
        keys,
        expiry,
        objects,
        databases,
        transactions,
        connection,
        clients,
        server,
        errors,
        types::hashes,
        types::sets,
        types::sorted_sets,
        types::lists,
        types::others,
    ];
    for group in groups {
        r.flushall()?;
        group(t, &mut r, &mut other, run);
    }
    r.flushall()?;
    if run.ringwood {
        ringwood_only(t, &mut r, &mut other, run);
        r.flushall()?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|word| word.starts_with("--"));
    let [host, port] = words.as_slice() else {
        eprintln!("usage: redis_rs HOST PORT [--ringwood]");
        return ExitCode::from(2);
    };
    let ringwood = flags.iter().any(|flag| flag == "--ringwood");
    let mut t = Checks::default();
    for (context, protocol) in [("RESP3", 3), ("RESP2", 2)] {
        t.context = context;
        let client = Client::open(format!("redis://{host}:{port}/?protocol={protocol}"));
        let ran = client.and_then(|client| {
            run_all(
                &mut t,
                &Run {
                    client,
                    protocol,
                    ringwood,
                },
            )
        });
        t.eq("the run", ran, ());
    }
    println!("redis_rs: {} passed, {} failed", t.passed, t.failed);
    ExitCode::from(u8::from(t.failed > 0))
}
