//! Collections as their users meet them: who waits for an element gets one, conflicts of fields are shown and
//! settled, a cart that both sides of a cut have changed loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::{Cluster, Connection, Server, bulks, encode, eventually, wait_for_blocked};

fn send(connection: &mut Connection, words: &[&str]) {
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    connection.send(&encode(&words)).expect("sent");
}

fn reply(connection: &mut Connection) -> String {
    String::from_utf8(connection.reply().expect("a reply")).expect("text")
}

#[test]
fn who_waits_is_served_in_the_order_of_coming() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    let mut waiting: Vec<Connection> = (0..3).map(|_| server.connect()).collect();
    for (nth, one) in waiting.iter_mut().enumerate() {
        send(one, &["BLPOP", "other", "queue", "0"]);
        wait_for_blocked(&mut c, nth + 1);
    }
    // It waits for another type.
    let mut of_other_type = server.connect();
    send(&mut of_other_type, &["BZPOPMIN", "queue", "0"]);
    wait_for_blocked(&mut c, 4);
    assert!(
        c.call(&["INFO", "clients"])
            .contains("\r\nblocked_clients:4\r\n")
    );
    assert_eq!(c.call(&["RPUSH", "queue", "a", "b"]), ":2\r\n");
    assert_eq!(bulks(&reply(&mut waiting[0])), ["queue", "a"]);
    assert_eq!(bulks(&reply(&mut waiting[1])), ["queue", "b"]);
    assert_eq!(c.call(&["EXISTS", "queue"]), ":0\r\n");
    // Inside of a transaction: what is left of it.
    for words in [
        &["MULTI"][..],
        &["RPUSH", "queue", "gone"],
        &["DEL", "queue"],
        &["RPUSH", "queue", "c"],
    ] {
        c.call(words);
    }
    c.call(&["EXEC"]);
    assert_eq!(bulks(&reply(&mut waiting[2])), ["queue", "c"]);
    c.call(&["ZADD", "queue", "2", "m", "1", "n"]);
    assert_eq!(bulks(&reply(&mut of_other_type)), ["queue", "n", "1"]);
    // Whatever comes behind it on the same connection waits, too.
    let pipelined = &mut waiting[0];
    send(pipelined, &["BLMOVE", "from", "to", "RIGHT", "LEFT", "0"]);
    send(pipelined, &["LLEN", "to"]);
    c.call(&["RPUSH", "from", "x"]);
    assert_eq!(reply(pipelined), "$1\r\nx\r\n");
    assert_eq!(reply(pipelined), ":1\r\n");
}

#[test]
fn who_waits_goes_on_when_its_time_is_over_or_somebody_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let (mut c, mut one) = (server.connect(), server.connect());
    assert_eq!(one.call(&["BLPOP", "queue", "0.01"]), "*-1\r\n");
    one.call(&["HELLO", "3"]);
    assert_eq!(one.call(&["BRPOPLPUSH", "queue", "to", "0.01"]), "_\r\n");
    for (words, error) in [
        (
            &["BLPOP", "queue", "x"][..],
            "timeout is not a float or out of range",
        ),
        (&["BLPOP", "queue", "-1"], "timeout is negative"),
        (&["BLMPOP", "0", "1", "queue", "UP"], "syntax error"),
    ] {
        assert_eq!(one.call(words), format!("-ERR {error}\r\n"));
    }
    let id = one.call(&["CLIENT", "ID"]);
    let id = id.trim_start_matches(':').trim_end();
    assert_eq!(c.call(&["CLIENT", "UNBLOCK", id]), ":0\r\n");
    for (how, says) in [
        ("TIMEOUT", "_\r\n"),
        (
            "ERROR",
            "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n",
        ),
    ] {
        send(&mut one, &["BZMPOP", "0", "1", "zset", "MIN"]);
        wait_for_blocked(&mut c, 1);
        assert_eq!(c.call(&["CLIENT", "UNBLOCK", id, how]), ":1\r\n");
        assert_eq!(reply(&mut one), says);
    }
    // One that is gone takes nothing along.
    send(&mut one, &["BLPOP", "queue", "0"]);
    wait_for_blocked(&mut c, 1);
    drop(one);
    wait_for_blocked(&mut c, 0);
    c.call(&["RPUSH", "queue", "left"]);
    assert_eq!(c.call(&["LLEN", "queue"]), ":1\r\n");
    for words in [&["MULTI"][..], &["BLPOP", "nothing", "0"]] {
        c.call(words);
    }
    assert_eq!(c.call(&["EXEC"]), "*1\r\n*-1\r\n");
}

#[test]
fn who_waits_at_one_node_gets_what_comes_through_another() {
    let cluster = Cluster::start(3, &[]);
    for n in 0..12 {
        let key = format!("queue-{n}");
        let mut one = cluster.members[n % 3].connect();
        send(&mut one, &["BRPOP", &key, "0"]);
        wait_for_blocked(&mut cluster.members[n % 3].connect(), 1);
        let pushed = cluster.call((n + 1) % 3, &["LPUSH", &key, "value"]);
        assert_eq!(pushed, ":1\r\n");
        assert_eq!(bulks(&reply(&mut one)), [key.as_str(), "value"]);
    }
}

#[test]
fn a_field_has_siblings_of_its_own_and_resolve_settles_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    c.call(&["HSET", "cart", "milk", "1", "tea", "1"]);
    let context = bulks(&c.call(&["SIBLINGS", "cart", "FIELD", "milk"])).remove(0);
    for (value, count) in [("2", 1), ("3", 2)] {
        let settled = c.call(&["RESOLVE", "cart", &context, value, "FIELD", "milk"]);
        assert!(settled.ends_with(&format!(":{count}\r\n")), "{settled}");
    }
    let of_field = bulks(&c.call(&["SIBLINGS", "cart", "FIELD", "milk"]));
    assert_eq!(of_field[1..], ["3", "2"]);
    assert_eq!(c.call(&["HGET", "cart", "milk"]), "$1\r\n3\r\n");
    assert_eq!(bulks(&c.call(&["CONFLICTS", "0"])), ["0", "cart"]);
    for (key, field) in [("cart", "tea"), ("other", "milk")] {
        let refused = c.call(&["RESOLVE", key, &of_field[0], "9", "FIELD", field]);
        assert!(refused.starts_with("-BADCONTEXT"), "{refused}");
    }
    assert!(
        c.call(&["RESOLVE", "cart", &of_field[0], "9"])
            .starts_with("-BADCONTEXT")
    );
    let settled = c.call(&["RESOLVE", "cart", &of_field[0], "5", "FIELD", "milk"]);
    assert!(settled.ends_with(":1\r\n"), "{settled}");
    let context = bulks(&settled).remove(0);
    let gone = c.call(&["RESOLVE", "cart", &context, "FIELD", "milk"]);
    assert!(gone.ends_with(":0\r\n"), "{gone}");
    assert_eq!(bulks(&c.call(&["HGETALL", "cart"])), ["tea", "1"]);
    assert_eq!(bulks(&c.call(&["SIBLINGS", "cart"]))[1..], ["hash"]);
    let refused = c.call(&["SIBLINGS", "text", "FIELD", "a"]);
    assert_eq!(
        bulks(&refused).len(),
        1,
        "a key that is not there: {refused}"
    );
    c.call(&["SET", "text", "1"]);
    assert!(
        c.call(&["SIBLINGS", "text", "FIELD", "a"])
            .starts_with("-WRONGTYPE")
    );
}

#[test]
fn collections_outlive_a_kill_and_end_when_they_shall() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    c.call(&["HSET", "hash", "a", "1", "b", "2"]);
    c.call(&["HINCRBY", "hash", "a", "5"]);
    c.call(&["SADD", "set", "x", "y"]);
    c.call(&["ZADD", "zset", "1.5", "m", "-inf", "n"]);
    c.call(&["RPUSH", "list", "1", "2", "3"]);
    c.call(&["EXPIRE", "set", "1000"]);
    let dump = |c: &mut Connection| {
        [
            bulks(&c.call(&["HGETALL", "hash"])),
            bulks(&c.call(&["SMEMBERS", "set"])),
            bulks(&c.call(&["ZRANGE", "zset", "0", "-1", "WITHSCORES"])),
            bulks(&c.call(&["LRANGE", "list", "0", "-1"])),
        ]
    };
    let before = dump(&mut c);
    assert_eq!(before[0], ["a", "6", "b", "2"]);
    assert_eq!(before[2], ["n", "-inf", "m", "1.5"]);
    server.kill();
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    assert_eq!(dump(&mut c), before);
    assert_eq!(c.call(&["TTL", "set"]).trim_end().len(), ":1000".len());
    c.call(&["PEXPIRE", "list", "1"]);
    eventually("it ends", || c.call(&["LLEN", "list"]) == ":0\r\n");
    c.call(&["RPUSH", "list", "new"]);
    assert_eq!(c.call(&["TTL", "list"]), ":-1\r\n");
    assert_eq!(bulks(&c.call(&["LRANGE", "list", "0", "-1"])), ["new"]);
    // The last element takes the expiry along.
    c.call(&["EXPIRE", "hash", "1000"]);
    c.call(&["HDEL", "hash", "a", "b"]);
    assert_eq!(c.call(&["EXISTS", "hash"]), ":0\r\n");
    c.call(&["HSET", "hash", "again", "1"]);
    assert_eq!(c.call(&["TTL", "hash"]), ":-1\r\n");
}

/// What was acknowledged of fields: whether each is there; nothing of those of which nobody knows.
type Fields = BTreeMap<String, Option<bool>>;

/// Sets fields and removes some, through every member that answers.
fn change_fields(cluster: &Cluster, members: &[usize], steps: std::ops::Range<usize>) -> Fields {
    let mut fields = Fields::new();
    for n in steps {
        let member = members[n % members.len()];
        let field = format!("field-{n}");
        let mut is_there = Some(true);
        let set = cluster.call(member, &["HSET", "large", &field, "some value"]);
        if set.starts_with('-') {
            is_there = None;
        }
        if n % 3 == 0 {
            let gone = cluster.call(members[(n + 1) % members.len()], &["HDEL", "large", &field]);
            is_there = if gone.starts_with('-') {
                None
            } else {
                Some(false)
            };
        }
        fields.insert(field, is_there);
    }
    fields
}

#[test]
fn a_large_hash_loses_no_field_to_kills_and_every_node_counts_the_same() {
    let mut cluster = Cluster::start(3, &["--anti-entropy-interval", "1"]);
    let mut fields = change_fields(&cluster, &[0, 1, 2], 0..600);
    cluster.members[2].kill();
    fields.extend(change_fields(&cluster, &[0, 1], 600..900));
    let deleted = cluster.call(0, &["HDEL", "large", "field-1", "field-2"]);
    assert_eq!(deleted, ":2\r\n");
    fields.extend(["field-1", "field-2"].map(|field| (field.to_owned(), Some(false))));
    cluster.members[2].start(None);
    fields.extend(change_fields(&cluster, &[2, 0, 1], 900..1_200));
    cluster.members[0].kill();
    cluster.members[0].start(None);
    cluster.wait_until_whole();
    let known: Vec<(&String, bool)> = fields
        .iter()
        .filter_map(|(f, is)| Some((f, (*is)?)))
        .collect();
    assert!(known.len() > 1_100, "{}", known.len());
    for member in 0..3 {
        let mut last = String::new();
        eventually("every field is what it was acknowledged to be", || {
            let all = bulks(&cluster.call(member, &["HGETALL", "large"]));
            let there: BTreeSet<&str> = all.iter().step_by(2).map(String::as_str).collect();
            let wrong = known
                .iter()
                .filter(|(f, is)| there.contains(f.as_str()) != *is);
            let len = cluster.call(member, &["HLEN", "large"]);
            last = format!("{len} {} {:?}", there.len(), wrong.collect::<Vec<_>>());
            last.ends_with("[]") && len == format!(":{}\r\n", there.len())
        });
        println!("{last}");
    }
    // Copies agree, element by element.
    eventually("the copies agree", || {
        cluster
            .call(1, &["RINGWOOD", "EXPLAIN", "large"])
            .contains("copies agree yes")
    });
    for member in 0..3 {
        assert_eq!(cluster.call(member, &["EXPIRE", "large", "1000"]), ":1\r\n");
    }
    assert_eq!(cluster.call(2, &["DEL", "large"]), ":1\r\n");
    for member in 0..3 {
        assert_eq!(cluster.call(member, &["EXISTS", "large"]), ":0\r\n");
    }
}

/// Says that a writer has ended, whatever ended it.
struct Over<'f>(&'f AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a list shows in a piece is what it shows in whole.
fn is_of_one_order(c: &mut Connection) {
    let all = bulks(&c.call(&["LRANGE", "list", "0", "-1"]));
    for first in (0..all.len()).step_by(173) {
        let last = (first + 9).min(all.len() - 1);
        let piece = c.call(&["LRANGE", "list", &first.to_string(), &last.to_string()]);
        assert_eq!(bulks(&piece), all[first..=last], "{first}");
    }
    let members = bulks(&c.call(&["ZRANGE", "zset", "0", "-1"]));
    for nth in (0..members.len()).step_by(97) {
        let rank = c.call(&["ZRANK", "zset", &members[nth]]);
        assert_eq!(rank, format!(":{nth}\r\n"), "{}", members[nth]);
    }
}

#[test]
fn places_are_right_beside_who_writes() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--collection-row-size", "100"]);
    let mut c = server.connect();
    for n in 0..1_500 {
        c.call(&["RPUSH", "list", &n.to_string()]);
        c.call(&["ZADD", "zset", &(n * 7 % 300).to_string(), &n.to_string()]);
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _over = Over(&is_over);
            let mut c = server.connect();
            for n in 0..3_000 {
                c.call(&["LPUSH", "list", &n.to_string()]);
                c.call(&[
                    "ZADD",
                    "zset",
                    &(n % 300).to_string(),
                    &(n % 2_000).to_string(),
                ]);
                if n % 2 == 0 {
                    c.call(&["RPOP", "list"]);
                    c.call(&["ZREM", "zset", &(n % 1_999).to_string()]);
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut c = server.connect();
                while !is_over.load(Ordering::Relaxed) {
                    for at in ["-257", "-256", "-258", "256", "257", "700"] {
                        c.call(&["LINDEX", "list", at]);
                        c.call(&["ZREVRANGE", "zset", at, at]);
                    }
                    c.call(&["ZRANK", "zset", "999"]);
                    c.call(&["ZCOUNT", "zset", "100", "200"]);
                }
            });
        }
    });
    is_of_one_order(&mut c);
}

#[test]
fn what_is_written_together_is_read_together() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--collection-row-size", "100"]);
    let names: Vec<String> = (0..200).map(|n| format!("name-{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let values: Vec<&str> = names.iter().flat_map(|name| [*name, "v"]).collect();
    let scores: Vec<&str> = names.iter().flat_map(|name| ["1", *name]).collect();
    let mut c = server.connect();
    for n in 0..50 {
        c.call(&["HSET", "hash", &format!("stays-{n}"), "v"]);
        c.call(&["ZADD", "zset", "2", &format!("stays-{n}")]);
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _over = Over(&is_over);
            for _ in 0..200 {
                c.call(&[&["HSET", "hash"][..], &values].concat());
                c.call(&[&["ZADD", "zset"][..], &scores].concat());
                c.call(&[&["HDEL", "hash"][..], &names].concat());
                c.call(&[&["ZREM", "zset"][..], &names].concat());
            }
        });
        scope.spawn(|| {
            let mut c = server.connect();
            let of_hash = [&["HMGET", "hash"][..], &names].concat();
            while !is_over.load(Ordering::Relaxed) {
                let found = bulks(&c.call(&of_hash)).len();
                assert!([0, 200].contains(&found), "{found} of 200 fields");
                let lowest = bulks(&c.call(&["ZRANGE", "zset", "0", "249"]));
                assert!([50, 250].contains(&lowest.len()), "{lowest:?}");
            }
        });
    });
}
