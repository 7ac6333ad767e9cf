//! Large collections reply what small ones do: a server that keeps them as a row an element beside one that keeps
//! them as one row.

use std::collections::BTreeSet;

use super::harness::{Connection, Random, Server, bulks, encode};

const COUNT: usize = 1_600;
/// Of so many eighty are chosen one by one.
const MANY: usize = 4_000;

/// A server with collections of so many elements, as rows up to so many bytes.
fn filled(dir: &std::path::Path, most_in_one_row: &str, count: usize) -> Server {
    let flags = ["--collection-row-size", most_in_one_row];
    let server = Server::ringwood(&dir.join(most_in_one_row), &flags);
    let mut c = server.connect();
    for n in 0..count {
        let (name, score) = (format!("name-{n:05}"), (n * 7 % 500).to_string());
        for words in [
            &["HSET", "hash", &name, &score][..],
            &["SADD", "set", &name],
            &["ZADD", "scores", &score, &name],
            &["ZADD", "words", "0", &name],
            &["RPUSH", "list", &name],
        ] {
            let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
            c.send(&encode(&words)).expect("sent");
        }
        for _ in 0..5 {
            c.reply().expect("a reply");
        }
    }
    server
}

/// A command on a place, a rank or a stretch.
fn command(random: &mut Random) -> Vec<String> {
    let place = |random: &mut Random| {
        let place = random.below(COUNT + 200) as i64;
        (if random.below(3) == 0 { -place } else { place }).to_string()
    };
    let near = |random: &mut Random, at: &str| {
        let at: i64 = at.parse().expect("a place");
        (at + random.below(12) as i64 - 2).to_string()
    };
    let name = |random: &mut Random| format!("name-{:05}", random.below(COUNT + 50));
    let score = |random: &mut Random| {
        let score = random.below(520);
        match random.below(8) {
            0 => "-inf".to_owned(),
            1 => "+inf".to_owned(),
            2 => format!("({score}"),
            _ => score.to_string(),
        }
    };
    let bytes = |random: &mut Random| match random.below(8) {
        0 => "-".to_owned(),
        1 => "+".to_owned(),
        2..5 => format!("({}", name(random)),
        _ => format!("[{}", name(random)),
    };
    let (first, key) = (place(random), random.pick(&["scores", "words"]).to_owned());
    let last = near(random, &first);
    let limit = |random: &mut Random| {
        let offset = random.below(9).to_string();
        vec!["LIMIT".to_owned(), offset, "7".to_owned()]
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match random.below(15) {
        0 => words(&["LRANGE", "list", &first, &last]),
        1 => words(&["LINDEX", "list", &first]),
        2 => words(&["LSET", "list", &first, &name(random)]),
        3 => words(&["ZRANGE", &key, &first, &last, "WITHSCORES"]),
        4 => words(&["ZREVRANGE", &key, &first, &last]),
        5 => words(&["ZRANK", &key, &name(random)]),
        6 => words(&["ZREVRANK", &key, &name(random)]),
        7 => words(&["ZCOUNT", &key, &score(random), &score(random)]),
        8 => words(&["ZLEXCOUNT", "words", &bytes(random), &bytes(random)]),
        9 => {
            let range: Vec<String> =
                words(&["ZRANGEBYLEX", "words", &bytes(random), &bytes(random)]);
            [range, limit(random)].concat()
        }
        10 => {
            let (max, min) = (bytes(random), bytes(random));
            [
                words(&["ZREVRANGEBYLEX", "words", &max, &min]),
                limit(random),
            ]
            .concat()
        }
        11 => words(&["ZREMRANGEBYRANK", &key, &first, &first]),
        12 => words(&[
            "ZADD",
            &key,
            if key == "words" { "0" } else { "77" },
            &name(random),
        ]),
        13 => words(&["ZREM", &key, &name(random)]),
        _ => words(&[random.pick(&["RPUSH", "LPUSH"]), "list", &name(random)]),
    }
}

#[test]
fn a_row_an_element_replies_what_one_row_replies() {
    let dir = tempfile::tempdir().expect("a folder");
    let servers = ["100", "60000000"].map(|most| filled(dir.path(), most, COUNT));
    let [mut rows, mut one] = servers.each_ref().map(Server::connect);
    let mut random = Random::new(11);
    for _ in 0..3_000 {
        let words = command(&mut random);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(rows.call(&words), one.call(&words), "{words:?}");
    }
}

/// What a command replies with, which are elements of ours, each once.
fn distinct(c: &mut Connection, words: &[&str], step: usize) -> BTreeSet<String> {
    let found = bulks(&c.call(words));
    let names: Vec<String> = found.into_iter().step_by(step).collect();
    assert!(
        names.iter().all(|name| name.starts_with("name-")),
        "{names:?}"
    );
    let len = names.len();
    let names: BTreeSet<String> = names.into_iter().collect();
    assert_eq!(names.len(), len);
    names
}

#[test]
fn random_elements_of_a_large_collection_are_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = filled(dir.path(), "100", MANY);
    let mut c = server.connect();
    for count in ["0", "1", "10", "32", "80", "500", "5000"] {
        let wanted = count.parse::<usize>().expect("a count").min(MANY);
        for (words, step) in [
            (&["SRANDMEMBER", "set", count][..], 1),
            (&["HRANDFIELD", "hash", count], 1),
            (&["HRANDFIELD", "hash", count, "WITHVALUES"], 2),
            (&["ZRANDMEMBER", "scores", count, "WITHSCORES"], 2),
        ] {
            assert_eq!(distinct(&mut c, words, step).len(), wanted, "{words:?}");
        }
    }
    for count in ["-30", "-700"] {
        let again = bulks(&c.call(&["SRANDMEMBER", "set", count]));
        assert_eq!(again.len().to_string(), count[1..]);
    }
    for words in [
        ["SPOP", "hash", "0"],
        ["SPOP", "hash", "3"],
        ["SRANDMEMBER", "scores", "3"],
    ] {
        assert!(c.call(&words).starts_with("-WRONGTYPE"), "{words:?}");
    }
    let mut popped = BTreeSet::new();
    for count in ["30", "70", "1", "700", "9", "2000", "5000"] {
        let before = popped.len();
        popped.extend(distinct(&mut c, &["SPOP", "set", count], 1));
        let wanted = (before + count.parse::<usize>().expect("a count")).min(MANY);
        assert_eq!(popped.len(), wanted);
        assert_eq!(c.call(&["SCARD", "set"]), format!(":{}\r\n", MANY - wanted));
    }
    assert_eq!(c.call(&["EXISTS", "set"]), ":0\r\n");
}

#[test]
fn all_of_a_large_collection_is_replied_as_of_one_moment() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    let names: Vec<String> = (0..9_000).map(|n| format!("name-{n:05}")).collect();
    for some in names.chunks(500) {
        let pairs = some.iter().flat_map(|name| [&name[..], name]);
        c.call(&[&["HSET", "hash"][..], &pairs.collect::<Vec<_>>()].concat());
        let members: Vec<&str> = some.iter().map(String::as_str).collect();
        c.call(&[&["SADD", "set"][..], &members].concat());
    }
    let all: BTreeSet<String> = names.iter().cloned().collect();
    for words in [["HKEYS", "hash"], ["HVALS", "hash"], ["SMEMBERS", "set"]] {
        assert!(distinct(&mut c, &words, 1) == all, "{words:?}");
    }
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut c = server.connect();
            for _ in 0..300 {
                c.call(&["HSET", "hash", "a", "1", "z", "1"]);
                std::thread::sleep(std::time::Duration::from_millis(3));
                c.call(&["HDEL", "hash", "a", "z"]);
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        });
        while !writer.is_finished() {
            let found = bulks(&c.call(&["HGETALL", "hash"]));
            let fields: BTreeSet<&String> = found.iter().step_by(2).collect();
            let both = ["a", "z"].map(|field| fields.contains(&field.to_owned()));
            assert_eq!((found.len(), both[0]), (2 * fields.len(), both[1]));
            assert_eq!(fields.len(), 9_000 + 2 * usize::from(both[0]));
        }
    });
}

#[test]
fn a_read_of_a_large_collection_is_one_hit() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = filled(dir.path(), "100", MANY);
    let mut c = server.connect();
    let hits = |c: &mut Connection| -> u64 {
        let info = c.call(&["INFO", "stats"]);
        let line = info.lines().find_map(|l| l.strip_prefix("keyspace_hits:"));
        line.and_then(|n| n.parse().ok()).expect("a number")
    };
    for words in [
        &["HGETALL", "hash"][..],
        &["SMEMBERS", "set"],
        &["HSCAN", "hash", "0"],
        &["HRANDFIELD", "hash", "10"],
        &["SRANDMEMBER", "set", "10"],
        &["SPOP", "set", "0"],
        &["SPOP", "set", "10"],
        &["ZCOUNT", "scores", "10", "200"],
        &["ZLEXCOUNT", "words", "-", "+"],
        &["ZRANK", "scores", "name-00700"],
        &["ZRANGEBYLEX", "words", "-", "[name-00700"],
        &["LINDEX", "list", "900"],
    ] {
        let before = hits(&mut c);
        assert!(!c.call(words).starts_with('-'));
        assert_eq!(hits(&mut c), before + 1, "{words:?}");
    }
}
