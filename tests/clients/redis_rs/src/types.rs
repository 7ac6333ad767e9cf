//! Hashes, sets, sorted sets, lists, bitmaps, HyperLogLog and GEO through redis-rs's own methods.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use redis::geo::{Coord, RadiusOptions, RadiusSearchResult, Unit};
use redis::{Commands, Connection, Direction, RedisResult};

use crate::{Checks, Run, some};

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn scored(members: &[(&str, f64)]) -> Vec<(String, f64)> {
    let members = members
        .iter()
        .map(|(name, score)| ((*name).to_owned(), *score));
    members.collect()
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

pub(crate) fn hashes(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    t.eq("HSET", r.hset("h", "a", "1"), 1_i64);
    t.eq("HSET again", r.hset("h", "a", "2"), 0_i64);
    t.eq("HSETNX", r.hset_nx("h", "a", "3"), false);
    t.eq(
        "HMSET",
        r.hset_multiple("h", &[("b", "x"), ("c", "y")]),
        "OK".to_owned(),
    );
    t.eq("HGET", r.hget("h", "a"), some("2"));
    t.eq("HGET none", r.hget("h", "z"), None::<String>);
    let all = [("a", "2"), ("b", "x"), ("c", "y")].map(|(f, v)| (f.to_owned(), v.to_owned()));
    t.eq("HGETALL", r.hgetall("h"), BTreeMap::from(all));
    t.eq("HMGET", r.hmget("h", &["a", "z"]), vec![some("2"), None]);
    t.eq("HKEYS", r.hkeys("h"), set(&["a", "b", "c"]));
    t.eq("HVALS", r.hvals("h"), set(&["2", "x", "y"]));
    t.eq("HLEN", r.hlen("h"), 3_i64);
    t.eq("HEXISTS", r.hexists("h", "b"), true);
    t.eq("HINCRBY", r.hincr("h", "a", 5), 7_i64);
    t.eq("HINCRBYFLOAT", r.hincr("h", "a", 0.5), 7.5_f64);
    t.eq("HDEL", r.hdel("h", &["b", "z"]), 1_i64);
    let scanned: RedisResult<BTreeMap<String, String>> =
        r.hscan("h").and_then(|items| items.collect());
    t.that("HSCAN", scanned, |got| got.len() == 2 && got["c"] == "y");
    t.fails(
        "HGET of a string",
        set_then(r, |r| r.hget::<_, _, String>("s", "f")),
        WRONG_TYPE,
    );
}

/// Has `s` be a string, for commands of other types.
fn set_then<T>(
    r: &mut Connection,
    then: impl FnOnce(&mut Connection) -> RedisResult<T>,
) -> RedisResult<T> {
    r.set::<_, _, ()>("s", "v")?;
    then(r)
}

pub(crate) fn sets(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    t.eq("SADD", r.sadd("s1", &["a", "b", "c"]), 3_i64);
    t.eq("SADD again", r.sadd("s1", "a"), 0_i64);
    t.eq("SADD s2", r.sadd("s2", &["b", "d"]), 2_i64);
    t.eq("SMEMBERS", r.smembers("s1"), set(&["a", "b", "c"]));
    t.eq("SISMEMBER", r.sismember("s1", "b"), true);
    t.eq(
        "SMISMEMBER",
        r.smismember("s1", &["b", "z"]),
        vec![true, false],
    );
    t.eq("SCARD", r.scard("s1"), 3_i64);
    t.eq("SINTER", r.sinter(&["s1", "s2"]), set(&["b"]));
    t.eq(
        "SUNION",
        r.sunion(&["s1", "s2"]),
        set(&["a", "b", "c", "d"]),
    );
    t.eq("SDIFF", r.sdiff(&["s1", "s2"]), set(&["a", "c"]));
    t.eq("SMOVE", r.smove("s1", "s2", "a"), true);
    t.that("SRANDMEMBER", r.srandmember("s1"), |got: &String| {
        got == "b" || got == "c"
    });
    t.eq(
        "SRANDMEMBER 9",
        r.srandmember_multiple("s1", 9),
        set(&["b", "c"]),
    );
    t.eq("SREM", r.srem("s1", "b"), 1_i64);
    t.eq("SPOP", r.spop("s1"), some("c"));
    t.eq("EXISTS", r.exists("s1"), false);
    t.eq("SUNIONSTORE", r.sunionstore("s3", &["s2"]), 3_i64);
    let scanned: RedisResult<BTreeSet<String>> = r.sscan("s3").and_then(|items| items.collect());
    t.eq("SSCAN", scanned, set(&["a", "b", "d"]));
}

pub(crate) fn sorted_sets(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    let members = [(1.0, "a"), (2.0, "b"), (3.5, "c")];
    t.eq("ZADD", r.zadd_multiple("z", &members), 3_i64);
    t.eq("ZADD again", r.zadd("z", "a", 1.5), 0_i64);
    t.eq("ZSCORE", r.zscore("z", "c"), Some(3.5_f64));
    t.eq("ZSCORE none", r.zscore("z", "q"), None::<f64>);
    t.eq(
        "ZMSCORE",
        r.zscore_multiple("z", &["a", "q"]),
        vec![Some(1.5), None],
    );
    t.eq("ZCARD", r.zcard("z"), 3_i64);
    t.eq("ZCOUNT", r.zcount("z", 1, "(3.5"), 2_i64);
    t.eq("ZRANK", r.zrank("z", "b"), Some(1_i64));
    t.eq("ZREVRANK", r.zrevrank("z", "b"), Some(1_i64));
    t.eq("ZRANGE", r.zrange("z", 0, -1), texts(&["a", "b", "c"]));
    let with_scores = scored(&[("a", 1.5), ("b", 2.0), ("c", 3.5)]);
    t.eq(
        "ZRANGE WITHSCORES",
        r.zrange_withscores("z", 0, -1),
        with_scores,
    );
    t.eq("ZREVRANGE", r.zrevrange("z", 0, 0), texts(&["c"]));
    t.eq(
        "ZRANGEBYSCORE",
        r.zrangebyscore("z", "-inf", 2),
        texts(&["a", "b"]),
    );
    let limited = r.zrangebyscore_limit("z", "-inf", "+inf", 1, 1);
    t.eq("ZRANGEBYSCORE LIMIT", limited, texts(&["b"]));
    t.eq("ZINCRBY", r.zincr("z", "a", 10), 11.5_f64);
    t.eq("ZPOPMIN", r.zpopmin("z", 1), scored(&[("b", 2.0)]));
    t.eq("ZPOPMAX", r.zpopmax("z", 1), scored(&[("a", 11.5)]));
    t.eq("ZREM", r.zrem("z", "c"), 1_i64);
    t.eq(
        "ZADD words",
        r.zadd_multiple("w", &[(0, "a"), (0, "b"), (0, "c")]),
        3_i64,
    );
    t.eq(
        "ZRANGEBYLEX",
        r.zrangebylex("w", "[a", "(c"),
        texts(&["a", "b"]),
    );
    t.eq("ZLEXCOUNT", r.zlexcount("w", "-", "+"), 3_i64);
    t.eq("ZADD v", r.zadd("v", "b", 5), 1_i64);
    t.eq("ZUNIONSTORE", r.zunionstore("u", &["w", "v"]), 3_i64);
    t.eq("ZSCORE of it", r.zscore("u", "b"), Some(5.0_f64));
    t.eq("ZINTERSTORE", r.zinterstore_max("i", &["w", "v"]), 1_i64);
    t.eq("ZREMRANGEBYRANK", r.zremrangebyrank("u", 0, 0), 1_i64);
    t.eq("ZREMRANGEBYSCORE", r.zrembyscore("u", 5, 5), 1_i64);
    t.eq("ZREMRANGEBYLEX", r.zrembylex("w", "[a", "[b"), 2_i64);
    t.that(
        "ZSCAN",
        r.zscan("w").and_then(|items| items.collect()),
        |got: &Vec<(String, f64)>| *got == scored(&[("c", 0.0)]),
    );
}

pub(crate) fn lists(t: &mut Checks, r: &mut Connection, other: &mut Connection, _: &Run) {
    t.eq("RPUSH", r.rpush("l", &["b", "c"]), 2_i64);
    t.eq("LPUSH", r.lpush("l", "a"), 3_i64);
    t.eq("RPUSHX none", r.rpush_exists("none", "a"), 0_i64);
    t.eq("LRANGE", r.lrange("l", 0, -1), texts(&["a", "b", "c"]));
    t.eq("LINDEX", r.lindex("l", -1), some("c"));
    t.eq("LLEN", r.llen("l"), 3_i64);
    t.eq("LSET", r.lset("l", 1, "B"), "OK".to_owned());
    t.fails(
        "LSET beyond",
        r.lset::<_, _, ()>("l", 9, "x"),
        "ERR index out of range",
    );
    t.eq("LINSERT", r.linsert_before("l", "B", "ab"), 4_i64);
    t.eq(
        "LPOS",
        r.lpos("l", "B", redis::LposOptions::default()),
        Some(2_i64),
    );
    t.eq("LREM", r.lrem("l", 0, "ab"), 1_i64);
    t.eq("LTRIM", r.ltrim("l", 0, 1), "OK".to_owned());
    t.eq(
        "LMOVE",
        r.lmove("l", "m", Direction::Right, Direction::Left),
        some("B"),
    );
    t.eq("RPOPLPUSH", r.rpoplpush("m", "l"), some("B"));
    t.eq(
        "LPOP 2",
        r.lpop("l", NonZeroUsize::new(2)),
        texts(&["B", "a"]),
    );
    t.eq("LPOP none", r.lpop("l", None), None::<String>);
    t.eq("LPUSH by another", other.lpush("q", "job"), 1_i64);
    t.eq(
        "BLPOP",
        r.blpop(&["p", "q"], 1.0),
        Some(("q".to_owned(), "job".to_owned())),
    );
    t.eq(
        "BRPOP times out",
        r.brpop("q", 0.01),
        None::<(String, String)>,
    );
}

pub(crate) fn others(t: &mut Checks, r: &mut Connection, _: &mut Connection, _: &Run) {
    t.eq("SETBIT", r.setbit("bits", 7, true), false);
    t.eq("GETBIT", r.getbit("bits", 7), true);
    t.eq("BITCOUNT", r.bitcount("bits"), 1_i64);
    t.eq("BITOP", r.bit_or("both", &["bits", "none"]), 1_i64);
    t.eq("PFADD", r.pfadd("seen", &["a", "b"]), true);
    t.eq("PFCOUNT", r.pfcount("seen"), 2_i64);
    t.eq("PFMERGE", r.pfmerge("all", &["seen"]), "OK".to_owned());
    let places = [
        (Coord::lon_lat("13.361389", "38.115556"), "Palermo"),
        (Coord::lon_lat("15.087269", "37.502669"), "Catania"),
    ];
    t.eq("GEOADD", r.geo_add("sicily", &places), 2_i64);
    let distance: RedisResult<f64> = r.geo_dist("sicily", "Palermo", "Catania", Unit::Kilometers);
    t.that("GEODIST", distance, |km| (*km - 166.2742).abs() < 0.001);
    let options = RadiusOptions::default().with_dist();
    let near: RedisResult<Vec<RadiusSearchResult>> =
        r.geo_radius("sicily", 15.0, 37.0, 100.0, Unit::Kilometers, options);
    t.that("GEORADIUS", near, |got| {
        got.len() == 1 && got[0].name == "Catania"
    });
}
