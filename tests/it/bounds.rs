//! Memory that a client can make a node use, against ARCHITECTURE's table of bounds.

use super::harness::{Connection, Server, encode};

/// What a bound may cost beside what is named: buffers, the allocator's own.
const SLACK: u64 = 48 << 20;

fn command(words: &[&str]) -> Vec<u8> {
    let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
    encode(&words)
}

/// Sends a command over and over, and reads every reply.
fn repeat(connection: &mut Connection, words: &[&str], times: usize, expected: &[u8]) {
    const AT_A_TIME: usize = 1_000;
    let batch = command(words).repeat(AT_A_TIME);
    for _ in 0..times / AT_A_TIME {
        connection.send(&batch).expect("sent");
        for _ in 0..AT_A_TIME {
            assert_eq!(connection.reply().expect("a reply"), expected);
        }
    }
}

#[test]
fn the_same_key_watched_over_and_over_is_watched_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut client = server.connect();
    repeat(&mut client, &["WATCH", "k"], 1_000, b"+OK\r\n");
    let before = server.resident_bytes();
    repeat(&mut client, &["WATCH", "k"], 300_000, b"+OK\r\n");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < SLACK / 2, "{grown} bytes for one watched key");
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_costs_one_batch_of_replies() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let value = "x".repeat(100_000);
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "k", &value]), "+OK\r\n");
    let before = server.resident_bytes();
    // Some ten gigabytes of replies, if anybody were to make them.
    let asks = command(&["GET", "k"]).repeat(100);
    let mut sent = 0;
    client.do_not_wait();
    while sent < 1_000 && client.send(&asks).is_ok() {
        sent += 1;
    }
    let mut other = server.connect();
    assert_eq!(other.call(&["PING"]), "+PONG\r\n");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(
        grown < SLACK,
        "{grown} bytes for one client that does not read"
    );
}

#[test]
fn the_slow_log_keeps_its_latest_entries() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = ["--slowlog-log-slower-than", "0", "--slowlog-max-len", "10"];
    let server = Server::ringwood(dir.path(), &flags);
    let mut client = server.connect();
    repeat(&mut client, &["PING"], 2_000, b"+PONG\r\n");
    assert_eq!(client.call(&["SLOWLOG", "LEN"]), ":10\r\n");
    assert_eq!(
        client.call(&["CONFIG", "SET", "slowlog-max-len", "3"]),
        "+OK\r\n"
    );
    assert_eq!(client.call(&["SLOWLOG", "LEN"]), ":3\r\n");
}
