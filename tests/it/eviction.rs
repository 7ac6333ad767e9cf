//! `maxmemory`: what is refused, what goes, and who hears of it.

use super::harness::{Cluster, Connection, Member, Server, eventually};

const MB: usize = 1 << 20;

fn number(connection: &mut Connection, field: &str) -> usize {
    let info = connection.call(&["INFO"]);
    let line = info
        .lines()
        .find(|line| line.starts_with(&format!("{field}:")));
    let value = line.and_then(|line| line.split(':').nth(1));
    value
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

#[test]
fn without_eviction_what_adds_is_refused_and_what_takes_away_is_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut client = server.connect();
    client.call(&["SET", "k", "v"]);
    client.call(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    assert_eq!(client.call(&["SET", "k", "w"]), full);
    assert_eq!(client.call(&["GET", "k"]), "$1\r\nv\r\n");
    assert_eq!(client.call(&["MULTI"]), "+OK\r\n");
    assert_eq!(client.call(&["LPUSH", "l", "x"]), full);
    assert!(client.call(&["EXEC"]).starts_with("-EXECABORT"));
    let script = ["EVAL", "return redis.call('set', KEYS[1], 'x')", "1", "k"];
    assert!(client.call(&script).starts_with("-OOM command not allowed"));
    assert_eq!(client.call(&["DEL", "k"]), ":1\r\n");
    client.call(&["CONFIG", "SET", "maxdisk", "0"]);
    assert_eq!(client.call(&["SET", "k", "w"]), "+OK\r\n");
}

#[test]
fn what_is_more_than_may_live_goes_and_is_told_of() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = ["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"];
    let flags = [&flags[..], &["--notify-keyspace-events", "Ee"]].concat();
    let server = Server::ringwood(dir.path(), &flags);
    let (mut client, mut listener) = (server.connect(), server.connect());
    listener.call(&["PSUBSCRIBE", "__key*"]);
    let value = "v".repeat(1_000);
    // Eight megabytes.
    for n in 0..8_000 {
        client.call(&["SET", &format!("k{n}"), &value]);
    }
    eventually("what lives is within its bound", || {
        number(&mut client, "maxmemory_used") <= 3 * MB
    });
    let (evicted, used) = (
        number(&mut client, "evicted_keys"),
        number(&mut client, "maxmemory_used"),
    );
    let left = client.call(&["DBSIZE"]);
    let left: usize = left[1..].trim().parse().expect("a number");
    assert_eq!(left + evicted, 8_000);
    assert!(
        left > 1_000 && used > 2 * MB,
        "{left} keys are left, {used} bytes"
    );
    assert!(listener.hear().contains("__keyevent@0__:evicted"));
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.connect();
    client.call(&["SET", "made", &"v".repeat(1_000)]);
    let script = "local made = redis.call('DUMP', 'made') for n = 1, 1500 do \
        redis.call('RESTORE', 'used' .. n, 0, made, 'IDLETIME', 1) \
        redis.call('RESTORE', 'idle' .. n, 0, made, 'IDLETIME', 1000) end";
    client.call(&["EVAL", script, "0"]);
    let idle = client.call(&["OBJECT", "IDLETIME", "idle7"]);
    let idle: u32 = idle[1..].trim().parse().expect("a number");
    assert!((1_000..1_100).contains(&idle), "{idle}");
    client.call(&["CONFIG", "SET", "maxmemory", "3mb"]);
    eventually("what lives is within its bound", || {
        number(&mut client, "evicted_keys") > 500 && number(&mut client, "maxmemory_used") <= 3 * MB
    });
    let mut count = |name: &str| {
        let there =
            (1..=1_500).filter(|n| client.call(&["EXISTS", &format!("{name}{n}")]) == ":1\r\n");
        there.count()
    };
    let (used, idle) = (count("used"), count("idle"));
    // Some go in a place that has no idle keys left; by chance alone as many of both would.
    assert!(
        used > 1_250 && idle < 1_000,
        "of the used {used} are left, of the idle {idle}"
    );
}

#[test]
fn only_what_ends_by_itself_goes_where_the_policy_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = ["--maxmemory", "2mb", "--maxmemory-policy", "volatile-ttl"];
    let server = Server::ringwood(dir.path(), &flags);
    let mut client = server.connect();
    let value = "v".repeat(1_000);
    for n in 0..400 {
        client.call(&["SET", &format!("stays{n}"), &value]);
        client.call(&["SET", &format!("ends{n}"), &value, "EX", "100000"]);
        client.call(&["SET", &format!("sooner{n}"), &value, "EX", "1000"]);
    }
    eventually("what lives is within its bound", || {
        number(&mut client, "maxmemory_used") <= 2 * MB
    });
    assert!(number(&mut client, "evicted_keys") > 100);
    for n in 0..400 {
        assert_eq!(client.call(&["EXISTS", &format!("stays{n}")]), ":1\r\n");
    }
    let mut count = |name: &str| {
        let there =
            (0..400).filter(|n| client.call(&["EXISTS", &format!("{name}{n}")]) == ":1\r\n");
        there.count()
    };
    let (later, sooner) = (count("ends"), count("sooner"));
    assert!(
        later > sooner,
        "of what ends later {later}, of the others {sooner}"
    );
    // Nothing that may go is left.
    for n in 0..1_200 {
        client.call(&["SET", &format!("more{n}"), &value]);
    }
    eventually("nothing may be added", || {
        client.call(&["SET", "k", "v"]).starts_with("-OOM")
    });
}

#[test]
fn in_a_cluster_every_copy_of_what_is_evicted_goes() {
    let flags = ["--maxmemory", "2mb", "--maxmemory-policy", "allkeys-random"];
    let cluster = Cluster::start(3, &flags);
    let value = "v".repeat(1_000);
    let mut clients: Vec<Connection> = cluster.members.iter().map(Member::connect).collect();
    for n in 0..3_000 {
        let said = clients[n % 3].call(&["SET", &format!("k{n}"), &value]);
        assert_eq!(said, "+OK\r\n", "{n}");
    }
    for client in &mut clients {
        eventually("what lives is within its bound", || {
            number(client, "maxmemory_used") <= 2 * MB
        });
        assert!(
            number(client, "evicted_keys") > 100,
            "each evicts of its own"
        );
    }
    eventually("all have as many keys", || {
        let sizes = clients.iter_mut().map(|client| client.call(&["DBSIZE"]));
        let sizes: Vec<String> = sizes.collect();
        let evicted: usize = clients.iter_mut().map(|c| number(c, "evicted_keys")).sum();
        sizes
            .iter()
            .all(|size| *size == format!(":{}\r\n", 3_000 - evicted))
    });
}
