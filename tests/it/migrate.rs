//! `ringwood import` and `ringwood check`, beside a Redis that has keys of every type.

use std::path::Path;
use std::process::{Command, Stdio};

use super::harness::{Cluster, Connection, Random, Server, eventually};

/// Small keys of the source.
const KEYS: usize = 2_000;
/// Elements of its large ones.
const ELEMENTS: usize = 60_000;
/// Elements that are added at a time.
const AT_ONCE: usize = 1_000;

fn ringwood(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwood"));
    command.args(words).current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs it; whether it ended well, and what it said.
fn said(dir: &Path, words: &[&str]) -> (bool, String) {
    let output = ringwood(dir, words).output().expect("run");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn url(server: &Server) -> String {
    format!("redis://{}", server.address)
}

/// Sends a command in words; it has to succeed.
fn done(client: &mut Connection, line: &str) -> String {
    client.say(line);
    let reply = client.hear();
    assert!(!reply.starts_with('-'), "{line}: {reply}");
    reply
}

/// Small keys of every type; every third ends, later than any test does.
fn fill(client: &mut Connection) {
    let mut random = Random::new(7);
    for n in 0..KEYS {
        let mut elements = |with: &str| {
            let each = |of: usize| with.replace('#', &of.to_string());
            let all: Vec<String> = (0..=random.below(20)).map(each).collect();
            all.join(" ")
        };
        match n % 8 {
            0 => done(client, &format!("SET k{n} {}", "v".repeat(n))),
            1 => done(client, &format!("SET k{n} {n}")),
            2 => done(client, &format!("HSET k{n} {}", elements("f# v#"))),
            3 => done(client, &format!("SADD k{n} {}", elements("m#"))),
            4 => done(client, &format!("ZADD k{n} {}", elements("0.#1 m#"))),
            5 => done(client, &format!("RPUSH k{n} {}", elements("e#"))),
            6 => done(client, &format!("PFADD k{n} {}", elements("m#"))),
            _ => done(client, &format!("XADD k{n} {n}-1 f v")),
        };
        if n % 3 == 0 {
            done(client, &format!("PEXPIRE k{n} {}", 90_000_000 + n));
        }
    }
}

/// What is less usual: large ones, streams with groups, bytes, a second database, a library.
fn fill_with_rarities(client: &mut Connection) {
    for from in (0..ELEMENTS).step_by(AT_ONCE) {
        let all = |with: &str| {
            let each = |of: usize| with.replace('#', &of.to_string());
            let all: Vec<String> = (from..from + AT_ONCE).map(each).collect();
            all.join(" ")
        };
        done(client, &format!("HSET hash {}", all("f# value-of-#")));
        done(client, &format!("RPUSH list {}", all("element-number-#")));
        done(client, &format!("ZADD zset {}", all("#.5 member-#")));
        done(client, &format!("SADD set {}", all("member-number-#")));
    }
    done(client, "PEXPIRE hash 90000000");
    done(client, &format!("SET text {}", "t".repeat(3 << 20)));
    for n in 1..=2_500 {
        done(client, &format!("XADD stream {n}-0 n {n}"));
    }
    for line in [
        "XGROUP CREATE stream g 0",
        "XGROUP CREATE stream late $",
        "XGROUP CREATECONSUMER stream late lonely",
        "XREADGROUP GROUP g one COUNT 1200 STREAMS stream >",
        "XREADGROUP GROUP g two COUNT 3 STREAMS stream >",
        "XACK stream g 1-0 2-0 3-0",
        "XDEL stream 5-0 2400-0 2500-0",
        "XADD emptied 9-9 f v",
        "XTRIM emptied MAXLEN 0",
        "XGROUP CREATE emptied g $",
        "XGROUP CREATE created g $ MKSTREAM",
        "ZADD endless inf a -inf b 1e300 c 0.1 d 3 e",
        "SETBIT bits 70000 1",
        "GEOADD places 13.361389 38.115556 Palermo",
        "SELECT 3",
        "SET other database",
        "SELECT 0",
    ] {
        done(client, line);
    }
    let library = "#!lua name=lib\nredis.register_function('greet', function() return 'hello' end)";
    assert!(client.call(&["FUNCTION", "LOAD", library]).contains("lib"));
    assert_eq!(client.call(&["SET", "a b\r\n\u{1}", ""]), "+OK\r\n");
    assert_eq!(client.call(&["SET", "", "of no name"]), "+OK\r\n");
}

#[test]
fn every_key_of_a_redis_comes_over_with_its_end_and_is_the_same_here() {
    let dir = tempfile::tempdir().expect("a folder");
    let redis = Server::redis(dir.path());
    let mut there = redis.connect();
    fill(&mut there);
    fill_with_rarities(&mut there);
    let cluster = Cluster::start(3, &[]);
    let from = url(&redis);
    let nodes =
        cluster.members[1].address.to_string() + "," + &cluster.members[2].address.to_string();
    let (is_whole, text) = said(
        dir.path(),
        &["import", "--from", &from, "--address", &nodes],
    );
    assert!(is_whole, "{text}");
    let checked = said(dir.path(), &["check", "--from", &from, "--address", &nodes]);
    assert!(checked.0 && checked.1.starts_with("equal: "), "{checked:?}");
    assert!(!dir.path().join("ringwood-import.json").exists());

    let mut here = cluster.members[0].connect();
    assert_eq!(here.call(&["FCALL", "greet", "0"]), "$5\r\nhello\r\n");
    assert_eq!(here.call(&["DBSIZE"]), there.call(&["DBSIZE"]));
    for line in [
        "PEXPIRETIME k3",
        "XRANGE stream 1000-0 1003-0",
        "XREADGROUP GROUP g two STREAMS stream 0",
        "ZRANGE endless 0 -1 WITHSCORES",
        "PFCOUNT k6 k14",
        "LRANGE list 59990 -1",
        "HGET hash f59999",
    ] {
        assert_eq!(done(&mut here, line), done(&mut there, line), "{line}");
    }
}

#[test]
fn an_import_that_was_killed_goes_on_and_misses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let redis = Server::redis(dir.path());
    let mut there = redis.connect();
    fill(&mut there);
    fill_with_rarities(&mut there);
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(data.path(), &[]);
    let mut here = server.connect();
    let (from, to) = (url(&redis), server.address.to_string());
    let words = ["import", "--from", &from, "--address", &to];
    // Each is killed while it writes a large key, or a page of small ones.
    for at_least in [1, 900, 1_500, 1_900] {
        let mut import = ringwood(dir.path(), &words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run");
        eventually("some are here", || {
            let count = here.call(&["DBSIZE"]);
            let count = count.trim_start_matches(':').trim_end().parse::<usize>();
            count.expect("a number") >= at_least || import.try_wait().expect("a child").is_some()
        });
        let _ = import.kill();
        import.wait().expect("ended");
    }
    if dir.path().join("ringwood-import.json").exists() {
        let otherwise = [&words[..], &["--replace"]].concat();
        let (is_whole, text) = said(dir.path(), &otherwise);
        assert!(!is_whole && text.contains("is of another import"), "{text}");
    }
    let (is_whole, text) = said(dir.path(), &words);
    assert!(is_whole, "{text}");
    let checked = said(dir.path(), &["check", "--from", &from, "--address", &to]);
    assert!(checked.0, "{checked:?}");
}

#[test]
fn a_source_that_was_started_again_is_not_walked_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let redis = Server::redis(dir.path());
    fill(&mut redis.connect());
    let relay = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let from = format!("redis://{}", relay.local_addr().expect("an address"));
    let first = redis.address;
    let other_dir = tempfile::tempdir().expect("a folder");
    let other = Server::redis(other_dir.path());
    fill(&mut other.connect());
    let second = other.address;
    std::thread::spawn(move || {
        for (nth, client) in relay.incoming().enumerate() {
            let client = client.expect("a client");
            // The walk has the fourth connection; each is broken in its middle, and the sixth is to another process.
            let to = if nth < 5 { first } else { second };
            let server = std::net::TcpStream::connect(to).expect("connected");
            let (mut one, mut back) = (
                client.try_clone().expect("one"),
                server.try_clone().expect("one"),
            );
            std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                let (mut buffer, mut seen) = ([0; 4096], 0);
                while let Ok(count @ 1..) = one.read(&mut buffer) {
                    seen += count;
                    if seen > 60_000 || back.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = one.shutdown(std::net::Shutdown::Both);
                let _ = back.shutdown(std::net::Shutdown::Both);
            });
            let (mut server, mut client) = (server, client);
            std::thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    });
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(data.path(), &[]);
    let to = server.address.to_string();
    let mut told = String::new();
    for _ in 0..20 {
        let (is_whole, text) = said(dir.path(), &["import", "--from", &from, "--address", &to]);
        told += &text;
        if is_whole {
            break;
        }
    }
    assert!(told.contains("was started again meanwhile"), "{told}");
}

#[test]
fn a_check_tells_each_way_to_differ_and_what_is_here_stays_unless_it_is_to_give_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let redis = Server::redis(dir.path());
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(data.path(), &[]);
    let (mut there, mut here) = (redis.connect(), server.connect());
    for line in [
        "SET same 1",
        "SET value 1",
        "RPUSH type 1",
        "SET end 1",
        "SET missing 1",
    ] {
        done(&mut there, line);
    }
    for line in [
        "SET same 1",
        "SET value 2",
        "SADD type 1",
        "SET end 1 EX 9000",
        "SET extra 1",
    ] {
        done(&mut here, line);
    }
    let (from, to) = (url(&redis), server.address.to_string());
    let check = ["check", "--from", &from, "--address", &to];
    let (is_equal, text) = said(dir.path(), &check);
    assert!(!is_equal, "{text}");
    for line in [
        "key value: has another value here",
        "key type: has another type here",
        "key end: ends at another time here",
        "key missing: is not here",
        "key extra: only here",
        "NOT equal: 5 keys compared, 5 differ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let import = ["import", "--from", &from, "--address", &to];
    let (is_whole, text) = said(dir.path(), &import);
    assert!(
        is_whole && text.contains("copied 1 ") && text.contains("kept 4"),
        "{text}"
    );
    assert_eq!(here.call(&["GET", "value"]), "$1\r\n2\r\n");
    let (_, text) = said(dir.path(), &[&import[..], &["--replace"]].concat());
    assert!(text.contains("copied 5 "), "{text}");
    here.call(&["DEL", "extra"]);
    let (is_equal, text) = said(dir.path(), &check);
    assert!(is_equal, "{text}");
    let only = [&check[..], &["--match", "e*"]].concat();
    assert_eq!(said(dir.path(), &only).1, "equal: 1 keys are the same\n");
}

#[test]
fn what_cannot_be_imported_is_said_in_a_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let redis = Server::redis(dir.path());
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(data.path(), &["--requirepass", "secret"]);
    let (from, to) = (url(&redis), server.address.to_string());
    let refused = |words: &[&str], why: &str| {
        let (is_fine, text) = said(dir.path(), words);
        let is_a_line = text.starts_with("ringwood: ") && text.lines().count() == 1;
        assert!(
            !is_fine && is_a_line && text.contains(why),
            "{words:?}: {text}"
        );
    };
    refused(
        &["import", "--from", "nonsense", "--address", &to],
        "not a URL",
    );
    refused(
        &["import", "--from", "rediss://127.0.0.1", "--address", &to],
        "TLS",
    );
    let nobody = "redis://user:pass@127.0.0.1:1/0";
    refused(
        &["import", "--from", nobody, "--address", &to],
        "127.0.0.1:1",
    );
    refused(
        &["check", "--from", &from, "--address", "here"],
        "not HOST:PORT",
    );

    redis.connect().call(&["SET", "k", "v"]);
    refused(&["import", "--from", &from, "--address", &to], "NOAUTH");
    std::fs::write(dir.path().join("other.json"), "{}").expect("written");
    let with_password = [
        "import",
        "--from",
        &from,
        "--address",
        &to,
        "--password",
        "secret",
    ];
    let other = [&with_password[..], &["--progress", "other.json"]].concat();
    refused(&other, "other.json");
    let (is_whole, text) = said(dir.path(), &with_password);
    assert!(is_whole, "{text}");

    // A key that nobody can keep here is said, and nothing else is held up by it.
    let long = "k".repeat(60_001);
    redis.connect().call(&["SET", &long, "v"]);
    redis.connect().call(&["SET", "another", "v"]);
    let (is_whole, text) = said(dir.path(), &with_password);
    assert!(
        !is_whole && text.contains("longer key than can be kept"),
        "{text}"
    );
    assert!(
        text.contains("copied 1 ") && text.contains("NOT copied 1"),
        "{text}"
    );
    let check = [&["check"], &with_password[1..]].concat();
    let (is_equal, text) = said(dir.path(), &check);
    assert!(
        !is_equal && text.contains("1 differ (1 is too long for a key here)"),
        "{text}"
    );

    redis.connect().call(&["REPLICAOF", "127.0.0.1", "1"]);
    refused(&with_password, "a replica");
    let without_scheme = [
        "import",
        "--from",
        "user:secret@127.0.0.1:6379",
        "--address",
        &to,
    ];
    let (_, text) = said(dir.path(), &without_scheme);
    assert!(
        text.contains("not a URL") && !text.contains("secret"),
        "{text}"
    );
}
