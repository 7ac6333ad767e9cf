//! Data directories that earlier builds have written.
//!
//! `fixtures/format-1.tar.gz` was written by the build b98018a, of a node that was killed: 300 strings
//! (`key:0` to `key:299`, every tenth of them deleted), 50 that end in the year 2100, a counter with an
//! expiry of its own, two siblings, a key of no bytes, one that looks like a length and a key, and one
//! in database 3. `fixtures/format-3.tar.gz` holds the same, written by d52fd1a.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::harness::{Connection, Server};

const FLAGS: &[&str] = &["--partitions", "64", "--storage-shards", "2"];

fn unpack(name: &str, dir: &Path) {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/fixtures")
        .join(name);
    let done = Command::new("tar")
        .arg("-xzf")
        .arg(archive)
        .arg("-C")
        .arg(dir)
        .status()
        .expect("tar runs");
    assert!(done.success());
}

fn check(client: &mut Connection) {
    assert_eq!(client.call(&["DBSIZE"]), ":324\r\n");
    for n in 0..300 {
        let (key, value) = (format!("key:{n}"), format!("value {n}"));
        let expected = if n % 10 == 0 {
            "$-1\r\n".to_owned()
        } else {
            format!("${}\r\n{value}\r\n", value.len())
        };
        assert_eq!(client.call(&["GET", &key]), expected, "{key}");
    }
    for n in 0..50 {
        let time = client.call(&["PEXPIRETIME", &format!("ends:{n}")]);
        assert_eq!(time, ":4102444800000\r\n");
    }
    assert_eq!(client.call(&["GET", "count"]), "$2\r\n42\r\n");
    assert_eq!(client.call(&["EXPIRETIME", "count"]), ":4102444800\r\n");
    assert_eq!(client.call(&["GET", ""]), "$13\r\nan empty name\r\n");
    assert!(client.call(&["GET", "\0\u{3}abc"]).contains("a length"));
    let siblings = client.call(&["SIBLINGS", "cart"]);
    assert!(
        siblings.contains("milk") && siblings.contains("bread"),
        "{siblings}"
    );
    assert!(client.call(&["CONFLICTS", "0"]).contains("cart"));
    client.call(&["SELECT", "3"]);
    assert_eq!(client.call(&["GET", "third"]), "$4\r\ndb 3\r\n");
    client.call(&["SELECT", "0"]);
}

#[test]
fn what_the_first_format_holds_is_read_and_written_again() {
    is_read_and_written_again("format-1.tar.gz");
}

#[test]
fn what_the_last_layout_of_shards_holds_is_read_and_written_again() {
    is_read_and_written_again("format-3.tar.gz");
}

#[test]
fn shards_that_are_damaged_are_not_taken_over() {
    for (file, at) in [
        // In the middle of batches: that the last ones are missing is known until the machine starts again.
        ("shard-0/0.jnl", 4_100),
        ("shard-1/0.jnl", 4_100),
        ("shard-1.mark", 3),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        unpack("format-3.tar.gz", dir.path());
        let data = dir.path().join("data");
        let path = data.join(file);
        let mut raw = std::fs::read(&path).expect("read");
        raw[at] ^= 4;
        std::fs::write(&path, raw).expect("spoilt");
        assert!(!starts(&data), "{file}");
        assert!(path.exists() && !data.join("journal").exists(), "{file}");
    }
}

/// Whether a node starts with a data directory.
fn starts(data: &Path) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwood"));
    command.args(["server", "--port", "0", "--dir"]).arg(data);
    command.args(FLAGS).stderr(Stdio::piped());
    let mut node = command.spawn().expect("it runs");
    let log = BufReader::new(node.stderr.take().expect("a pipe"));
    let mut says = log.lines().map_while(Result::ok);
    let decided = says.find(|line| line.contains("damaged") || line.contains("ready address"));
    node.kill().expect("it is ours");
    node.wait().expect("it ends");
    decided.expect("one of both").contains("ready address")
}

fn is_read_and_written_again(fixture: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    unpack(fixture, dir.path());
    let data = dir.path().join("data");
    let server = Server::ringwood(&data, FLAGS);
    check(&mut server.connect());
    drop(server);
    let store = std::fs::read_to_string(data.join("ringwood.store")).expect("read");
    assert!(store.starts_with("ringwood store, format 4\n"), "{store}");
    assert!(!data.join("shard-0").exists() && !data.join("shard-1.mark").exists());
    // As it was written again, and with what is written now.
    let server = Server::ringwood(&data, FLAGS);
    let mut client = server.connect();
    check(&mut client);
    assert_eq!(client.call(&["INCR", "count"]), ":43\r\n");
    assert_eq!(client.call(&["SET", "key:0", "again"]), "+OK\r\n");
    assert_eq!(client.call(&["DBSIZE"]), ":325\r\n");
}
