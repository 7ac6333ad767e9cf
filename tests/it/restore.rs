//! Copies of a node's data, put back.

use std::path::Path;
use std::process::{Command, Output};

use super::harness::{Server, encode, eventually};

/// As many bytes as two full batches of a copy, so that a value is no matter of a page.
const LARGE: usize = 9 << 20;

fn restore(copy: &Path, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringwood"))
        .arg("restore")
        .arg(copy)
        .arg("--dir")
        .arg(dir)
        .output()
        .expect("it runs")
}

#[test]
fn a_lone_node_starts_with_what_was_copied_and_a_restore_that_was_cut_is_refused() {
    let parent = tempfile::tempdir().expect("a folder");
    let [was, copy, dir] = ["was", "copy", "dir"].map(|name| parent.path().join(name));
    let server = Server::ringwood(&was, &[]);
    let mut client = server.connect();
    for n in 0..3_000 {
        let set = ["SET", &format!("key:{n}"), &format!("value {n}")];
        assert_eq!(client.call(&set), "+OK\r\n");
    }
    client.call(&["SET", "ends", "late", "EX", "10000"]);
    client.call(&["INCRBY", "count", "41"]);
    client.call(&["DEL", "key:7"]);
    client.call(&["SELECT", "5"]);
    client.call(&["SET", "elsewhere", "5"]);
    client.call(&["SELECT", "0"]);
    let large = vec![b'x'; LARGE];
    let set = encode(&[b"SET".to_vec(), b"large".to_vec(), large]);
    client.send(&set).expect("sent");
    assert_eq!(client.reply().expect("a reply"), b"+OK\r\n");
    let path = copy.display().to_string();
    let made = client.call(&["RINGWOOD", "SNAPSHOT", &path]);
    assert!(made.contains("rows in"), "{made}");
    client.call(&["SET", "key:1", "after the copy"]);
    assert!(server.terminate());

    let restored = restore(&copy, &dir);
    assert!(restored.status.success(), "{restored:?}");
    let again = restore(&copy, &dir);
    assert!(!again.status.success(), "{again:?}");
    // Twice: what the first start wrote must not make the second refuse.
    for _ in 0..2 {
        let server = Server::ringwood(&dir, &[]);
        let mut client = server.connect();
        for (key, value) in [("key:1", "value 1"), ("key:2999", "value 2999")] {
            let reply = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(client.call(&["GET", key]), reply);
        }
        eventually("all is counted", || client.call(&["DBSIZE"]) == ":3002\r\n");
        assert_eq!(client.call(&["GET", "key:7"]), "$-1\r\n");
        assert_eq!(client.call(&["GET", "count"]), "$2\r\n41\r\n");
        assert_eq!(client.call(&["STRLEN", "large"]), format!(":{LARGE}\r\n"));
        let left = client.call(&["TTL", "ends"]);
        assert!(left.starts_with(":99") || left == ":10000\r\n", "{left}");
        client.call(&["SELECT", "5"]);
        assert_eq!(client.call(&["GET", "elsewhere"]), "$1\r\n5\r\n");
        client.call(&["SELECT", "0"]);
        assert_eq!(client.call(&["INCR", "count"]), ":42\r\n");
        client.call(&["DECR", "count"]);
        assert!(server.terminate());
    }

    // What a restore leaves that is killed in the middle.
    std::fs::create_dir(dir.join("restoring")).expect("made");
    let refused = Command::new(env!("CARGO_BIN_EXE_ringwood"))
        .args(["server", "--port", "0", "--dir"])
        .arg(&dir)
        .output()
        .expect("it runs");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("has not come to its end"), "{said}");
    let again = restore(&copy, &dir);
    assert!(again.status.success(), "{again:?}");
    let server = Server::ringwood(&dir, &[]);
    let read = server.connect().call(&["GET", "key:1"]);
    assert_eq!(read, "$7\r\nvalue 1\r\n");
}

#[test]
fn a_copy_that_is_not_whole_leaves_nothing_that_a_node_starts_with() {
    let parent = tempfile::tempdir().expect("a folder");
    let [was, copy, dir] = ["was", "copy", "dir"].map(|name| parent.path().join(name));
    let server = Server::ringwood(&was, &[]);
    let mut client = server.connect();
    for n in 0..2_000 {
        client.call(&["SET", &format!("key:{n}"), "a value"]);
    }
    client.call(&["RINGWOOD", "SNAPSHOT", &copy.display().to_string()]);
    assert!(server.terminate());
    let file = copy.join("shard-0.rows");
    let whole = std::fs::read(&file).expect("read");
    std::fs::write(&file, &whole[..whole.len() - 50]).expect("cut");
    let failed = restore(&copy, &dir);
    assert!(!failed.status.success(), "{failed:?}");
    assert!(!dir.join("ringwood.store").exists());
    std::fs::write(&file, &whole).expect("mended");
    let restored = restore(&copy, &dir);
    assert!(restored.status.success(), "{restored:?}");
    let server = Server::ringwood(&dir, &[]);
    let mut client = server.connect();
    eventually("all is counted", || client.call(&["DBSIZE"]) == ":2000\r\n");
}
