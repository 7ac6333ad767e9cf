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
fn ten_thousand_half_open_and_slow_connections_leave_the_others_served() {
    let dir = tempfile::tempdir().expect("a folder");
    let wanted = 10_000.min(open_files().saturating_sub(200));
    if wanted < 10_000 {
        println!("only {wanted} connections: the limit of open files allows no more");
    }
    let server = Server::ringwood(
        dir.path(),
        &["--appendfsync", "no", "--maxclients", "20000"],
    );
    let before = server.resident_bytes();
    let mut slow: Vec<_> = (0..wanted).map(|_| server.connect()).collect();
    for (nth, connection) in slow.iter_mut().enumerate() {
        let piece: &[u8] = match nth % 3 {
            0 => b"",
            1 => b"*3\r\n$3\r\nSET\r\n$1",
            _ => b"GET",
        };
        connection.send(piece).expect("send");
    }
    let mut other = server.connect();
    for n in 0..100 {
        assert_eq!(other.call(&["SET", "a", &n.to_string()]), "+OK\r\n");
    }
    let each = server.resident_bytes().saturating_sub(before) / wanted as u64;
    assert!(each < 64 << 10, "{each} bytes a connection");
    for connection in slow.iter_mut().skip(2).step_by(3) {
        connection.send(b" a\r\n").expect("send");
        assert_eq!(connection.reply().expect("a reply"), b"$2\r\n99\r\n");
    }
}

/// How many files this process may open: it is raised as far as it goes.
fn open_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) as usize
}

#[test]
fn replies_beyond_the_output_limit_end_the_connection() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = ["--client-output-buffer-limit", "normal 2mb 0 0"];
    let server = Server::ringwood(dir.path(), &flags);
    let mut connection = server.connect();
    let big = "x".repeat(1 << 20);
    assert_eq!(connection.call(&["SET", "big", &big]), "+OK\r\n");
    assert_eq!(connection.call(&["GET", "big"]).len(), big.len() + 12);
    connection.send(b"MGET big big big\r\n").expect("send");
    assert!(connection.rest().is_empty());
}

#[test]
fn a_transaction_queue_is_bounded() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--client-query-buffer-limit", "1mb"]);
    let mut connection = server.connect();
    assert_eq!(connection.call(&["MULTI"]), "+OK\r\n");
    let value = "x".repeat(100_000);
    let queued = (0..20)
        .take_while(|_| {
            let set = ["SET", "a", &value].map(|w| w.as_bytes().to_vec());
            let sent = connection.send(&super::harness::encode(&set)).is_ok();
            sent && connection.reply().is_ok()
        })
        .count();
    assert!((10..12).contains(&queued), "{queued}");
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

#[test]
fn a_payload_of_a_million_empty_siblings_is_taken_in_at_once() {
    with_server(|server| {
        let mut raw = b"ringwood1".to_vec();
        // A million, as a varint.
        raw.extend([0xc0, 0x84, 0x3d]);
        raw.resize(raw.len() + 1_000_000, 0);
        raw.extend(crc32fast::hash(&raw).to_le_bytes());
        let words = [b"RESTORE".to_vec(), b"k".to_vec(), b"0".to_vec(), raw];
        let mut connection = server.connect();
        connection
            .send(&super::harness::encode(&words))
            .expect("send");
        assert_eq!(connection.reply().expect("in time"), b"+OK\r\n");
        assert!(connection.call(&["SIBLINGS", "k"]).contains("*1\r\n$0\r\n"));
    });
}

#[test]
fn what_a_browser_can_be_made_to_send_runs_nothing() {
    with_server(|server| {
        let stolen = "SET stolen 1\r\n";
        for request in [
            "POST /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /x HTTP/1.1\r\nhOsT: localhost\r\n\r\n",
            "*1\r\n$4\r\nPOST\r\n",
        ] {
            let mut browser = server.connect();
            browser
                .send(format!("{request}{stolen}").as_bytes())
                .expect("send");
            browser.rest();
            assert_eq!(
                server.connect().call(&["EXISTS", "stolen"]),
                ":0\r\n",
                "{request}"
            );
        }
    });
}
