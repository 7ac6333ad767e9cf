//! What is changed only where it is what somebody thinks: SET's IFEQ and its like, DELEX, DELIFEQ; MSETEX. Redis
//! 7.0 has none of it: the replies are those that Valkey 8.1, 9.0 and Redis 8.4 document.

use super::harness::{Cluster, Member, Server};

/// A command and its reply.
const CONVERSATION: &[(&str, &str)] = &[
    ("SET k v", "+OK"),
    ("SET k w IFEQ other", "$-1"),
    ("SET k w IFEQ v", "+OK"),
    ("SET k x IFEQ w GET", "$1\r\nw"),
    ("SET k y IFEQ w GET", "$1\r\nx"),
    ("GET k", "$1\r\nx"),
    ("SET absent v IFEQ v", "$-1"),
    ("SET absent v IFNE v", "+OK"),
    ("SET absent w IFNE v", "$-1"),
    ("DEL absent", ":1"),
    ("SET k v IFEQ", "-ERR syntax error"),
    ("SET k v NX IFEQ v", "-ERR syntax error"),
    ("SET k v IFEQ v XX", "-ERR syntax error"),
    ("SET k hello EX 100 IFNE hello", "+OK"),
    ("TTL k", ":100"),
    ("DIGEST k", "$16\r\n9555e8555c62dcfd"),
    ("DIGEST absent", "$-1"),
    (
        "SET k v IFDEQ nonsense",
        "-ERR digest must be exactly 16 hexadecimal characters",
    ),
    ("SET k a IFDEQ 0000000000000000", "$-1"),
    ("SET k a IFDEQ 9555E8555C62DCFD", "+OK"),
    ("TTL k", ":-1"),
    ("SET k b IFDNE 9555e8555c62dcfd", "+OK"),
    ("DELIFEQ k a", ":0"),
    ("DELIFEQ k b", ":1"),
    ("DELIFEQ k b", ":0"),
    ("SET k v", "+OK"),
    ("DELEX k IFNE v", ":0"),
    (
        "DELEX k IFEQ v more",
        "-ERR wrong number of arguments for 'delex' command",
    ),
    (
        "DELEX k IF v",
        "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE",
    ),
    ("DELEX k IFEQ v", ":1"),
    ("RPUSH l a", ":1"),
    (
        "SET l v IFEQ a",
        "-WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    (
        "DELIFEQ l a",
        "-WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    (
        "DELEX l IFEQ a",
        "-ERR Key should be of string type if conditions are specified",
    ),
    ("DELEX l", ":1"),
    ("DELEX l", ":0"),
    ("MSETEX 2 {t}a 1 {t}b 2", ":1"),
    ("MGET {t}a {t}b", "*2\r\n$1\r\n1\r\n$1\r\n2"),
    ("MSETEX 2 {t}a 3 {t}c 3 NX", ":0"),
    ("MSETEX 2 {t}a 3 {t}c 3 XX", ":0"),
    ("MSETEX 2 {t}a 3 {t}b 3 XX EX 100", ":1"),
    ("TTL {t}b", ":100"),
    ("MSETEX 1 {t}b 4 KEEPTTL", ":1"),
    ("TTL {t}b", ":100"),
    ("MSETEX 1 {t}c 5 NX PX 100000", ":1"),
    ("MSETEX 2 {t}a 1", "-ERR wrong number of key-value pairs"),
    ("MSETEX 0 {t}a 1", "-ERR invalid numkeys value"),
    (
        "MSETEX 1 {t}a 1 EX 0",
        "-ERR invalid expire time in 'msetex' command",
    ),
    ("MSETEX 1 {t}a 1 EX 10 KEEPTTL", "-ERR syntax error"),
    (
        "COMMAND GETKEYS MSETEX 2 a 1 b 2 NX",
        "*2\r\n$1\r\na\r\n$1\r\nb",
    ),
];

#[test]
fn what_is_as_somebody_thinks_is_changed_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut client = server.connect();
    for (line, expected) in CONVERSATION {
        client.say(line);
        assert_eq!(client.hear(), format!("{expected}\r\n"), "{line}");
    }
}

#[test]
fn the_same_through_every_node_of_a_cluster() {
    let cluster = Cluster::start(3, &[]);
    let mut clients: Vec<_> = cluster.members.iter().map(Member::connect).collect();
    for (nth, (line, expected)) in CONVERSATION.iter().enumerate() {
        let client = &mut clients[nth % 3];
        client.say(line);
        assert_eq!(client.hear(), format!("{expected}\r\n"), "{line}");
    }
}
