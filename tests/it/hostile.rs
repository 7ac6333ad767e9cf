//! Hostile input: an error or a close, bounded memory, and the others are served.

use std::time::Duration;

use super::harness::Server;

const MIB: u64 = 1 << 20;

fn with_server(check: impl Fn(&Server)) {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--appendfsync", "no"]);
    check(&server);
    assert_eq!(server.connect().call(&["PING"]), "+PONG\r\n");
}

#[test]
fn absurd_lengths_get_redis_errors_and_a_close() {
    with_server(|server| {
        for (input, error) in [
            (
                "*1000000000\r\n",
                "-ERR Protocol error: invalid multibulk length\r\n",
            ),
            (
                "*-99999999999999999999\r\n",
                "-ERR Protocol error: invalid multibulk length\r\n",
            ),
            (
                "*1\r\n$536870913\r\n",
                "-ERR Protocol error: invalid bulk length\r\n",
            ),
            (
                "*1\r\n$-5\r\n",
                "-ERR Protocol error: invalid bulk length\r\n",
            ),
            (
                "*1\r\nGET\r\n",
                "-ERR Protocol error: expected '$', got 'G'\r\n",
            ),
            (
                "GET \"a\r\n",
                "-ERR Protocol error: unbalanced quotes in request\r\n",
            ),
        ] {
            let mut connection = server.connect();
            connection.send(input.as_bytes()).expect("send");
            assert_eq!(
                String::from_utf8_lossy(&connection.rest()),
                error,
                "{input:?}"
            );
        }
    });
}

#[test]
fn declared_lengths_reserve_no_memory() {
    with_server(|server| {
        let before = server.resident_bytes();
        let half_open: Vec<_> = (0..500)
            .map(|_| {
                let mut connection = server.connect();
                connection
                    .send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\nabc")
                    .expect("send");
                connection
            })
            .collect();
        assert_eq!(server.connect().call(&["PING"]), "+PONG\r\n");
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 64 * MIB, "grew by {grown} bytes");
        drop(half_open);
    });
}

#[test]
fn a_reader_that_never_reads_is_not_buffered_for() {
    with_server(|server| {
        let big = "x".repeat(1 << 20);
        assert_eq!(server.connect().call(&["SET", "big", &big]), "+OK\r\n");
        let before = server.resident_bytes();
        let mut connection = server.connect();
        let request = b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(2_000);
        connection.send(&request).expect("send");
        for _ in 0..100 {
            assert_eq!(server.connect().call(&["PING"]), "+PONG\r\n");
        }
        std::thread::sleep(Duration::from_millis(200));
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 64 * MIB, "grew by {grown} bytes");
    });
}

#[test]
fn a_key_beyond_the_limit_is_refused_by_name() {
    with_server(|server| {
        let mut connection = server.connect();
        let longest = "k".repeat(60_000);
        assert_eq!(connection.call(&["SET", &longest, "1"]), "+OK\r\n");
        assert_eq!(connection.call(&["GET", &longest]), "$1\r\n1\r\n");
        let error = connection.call(&["SET", &(longest + "k"), "1"]);
        assert!(
            error.starts_with("-ERR key is too long: 60001 bytes"),
            "{error}"
        );
    });
}
