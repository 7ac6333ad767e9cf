//! What a node says and does when the disk does not sync what was written.

use std::fs::File;

use super::harness::{Server, Syncs, eventually};

fn info(server: &Server, field: &str) -> String {
    let text = server.connect().call(&["INFO", "persistence"]);
    let line = text.lines().find(|line| line.starts_with(field));
    line.map_or_else(String::new, |line| line.trim().to_owned())
}

/// A disk that fails for a while under `appendfsync`: writes are refused meanwhile, and nothing that was
/// acknowledged is missing.
fn a_sync_fails(mode: &str) {
    let (disk, dir) = (Syncs::new(), tempfile::tempdir().expect("a folder"));
    let log = dir.path().join("log");
    let data = dir.path().join("data");
    let file = File::create(&log).expect("a log");
    let server = disk.ringwood(&data, file, &["--appendfsync", mode]);
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "before", "1"]), "+OK\r\n");
    assert_eq!(
        client.call(&["WAITAOF", "1", "0", "5000"]),
        "*2\r\n:1\r\n:0\r\n"
    );
    assert_eq!(
        info(&server, "aof_last_write_status"),
        "aof_last_write_status:ok"
    );
    disk.fail(true);
    let mut acknowledged = Vec::new();
    let mut n = 0;
    eventually("writes are refused", || {
        n += 1;
        let said = client.call(&["SET", &format!("key:{n}"), "v"]);
        if said == "+OK\r\n" {
            acknowledged.push(n);
        }
        said.starts_with("-MISCONF Errors writing")
    });
    assert_eq!(
        info(&server, "aof_last_write_status"),
        "aof_last_write_status:err"
    );
    assert_eq!(client.call(&["GET", "before"]), "$1\r\n1\r\n");
    if mode == "everysec" {
        // The last acknowledged write is not on the disk, and nobody says that it is.
        assert_eq!(
            client.call(&["WAITAOF", "1", "0", "1500"]),
            "*2\r\n:0\r\n:0\r\n"
        );
        assert!(client.call(&["DEL", "before"]).starts_with("-MISCONF"));
    }
    disk.fail(false);
    eventually("writes are taken again", || {
        client.call(&["SET", "after", "1"]) == "+OK\r\n"
    });
    assert_eq!(
        client.call(&["WAITAOF", "1", "0", "5000"]),
        "*2\r\n:1\r\n:0\r\n"
    );
    eventually("every shard takes writes again", || {
        info(&server, "aof_last_write_status") == "aof_last_write_status:ok"
    });
    server.kill();
    let said = std::fs::read_to_string(&log).expect("a log");
    assert!(
        said.contains("ERROR") && said.contains("Input/output error"),
        "{said}"
    );
    let server = Server::ringwood(&data, &[]);
    let mut client = server.connect();
    for n in acknowledged {
        assert_eq!(client.call(&["GET", &format!("key:{n}")]), "$1\r\nv\r\n");
    }
    assert_eq!(client.call(&["GET", "after"]), "$1\r\n1\r\n");
}

#[test]
fn writes_are_refused_while_they_cannot_be_synced_every_second() {
    a_sync_fails("everysec");
}

#[test]
fn writes_are_refused_while_they_cannot_be_synced_at_once() {
    a_sync_fails("always");
}
