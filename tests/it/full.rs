//! A disk that is full for a while, under one member of three, while clients write through all of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::harness::{Cluster, Connection, Server, eventually};

const KEYS: usize = 100;
/// Bytes of the small disk, and of a value.
const DISK: &str = "64m";
const VALUE: usize = 1_000;

/// A small disk of its own. Gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nothing can be mounted; the reason is printed.
    fn at(path: &Path) -> Option<Self> {
        std::fs::create_dir_all(path).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs"]);
        match mount.arg(path).output() {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            failed => {
                println!("skipped: nothing can be mounted here: {failed:?}");
                None
            }
        }
    }

    /// Somebody else takes all that is left.
    fn fill(&self) {
        let mut file = File::create(self.0.join("somebody else's")).expect("a file");
        let mut piece = vec![7; 1 << 20];
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("somebody else's")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What one client has done.
#[derive(Default)]
struct Done {
    /// Of each key what was acknowledged last, and what may have been stored since.
    values: BTreeMap<String, Vec<String>>,
    /// Increments that were acknowledged, and that were tried.
    counted: (i64, i64),
    /// Commands while the disk was full, and those of them that failed.
    while_full: (u64, u64),
    wrong: Vec<String>,
}

fn write_on(mut c: Connection, who: usize, stop: &AtomicBool, full: &AtomicBool) -> Done {
    let mut done = Done::default();
    let mut nth = 0u64;
    while !stop.load(Ordering::Relaxed) {
        nth += 1;
        let key = format!("k{who}-{}", nth as usize % KEYS);
        let value = format!("{nth}-{}", "x".repeat(VALUE));
        let is_full = full.load(Ordering::Relaxed);
        let replies = [
            c.call(&["SET", &key, &value]),
            c.call(&["INCR", &format!("n{who}")]),
            c.call(&["GET", &key]),
        ];
        let values = done.values.entry(key.clone()).or_default();
        if replies[0] == "+OK\r\n" {
            *values = vec![value];
        } else if !replies[0].contains("was not stored") {
            values.push(value);
        }
        done.counted.1 += 1;
        done.counted.0 += i64::from(replies[1].starts_with(':'));
        let is_error = |reply: &&String| reply.starts_with('-');
        if !is_error(&&replies[2]) {
            let read = replies[2].split("\r\n").nth(1).unwrap_or_default();
            if !values.iter().any(|value| value == read) {
                done.wrong.push(format!("{key}: read {:.20}", replies[2]));
            }
        }
        if is_full && full.load(Ordering::Relaxed) {
            done.while_full.0 += 3;
            let failed = replies.iter().filter(is_error);
            done.while_full.1 += failed.inspect(|reply| println!("{reply:.120}")).count() as u64;
        }
    }
    done
}

fn rounds() -> usize {
    let rounds = std::env::var("RINGWOOD_FULL_ROUNDS").ok();
    rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

#[test]
fn a_full_disk_under_one_member_loses_nothing_and_costs_next_to_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::at(&dir.path().join("2")) else {
        return;
    };
    let cluster = Cluster::start_in(dir, None, 3, &[]);
    let (stop, full) = (AtomicBool::new(false), AtomicBool::new(false));
    let connections: Vec<_> = (0..3).map(|n| cluster.members[n].connect()).collect();
    let done = std::thread::scope(|scope| {
        let (stop, full) = (&stop, &full);
        let writers = connections.into_iter().enumerate();
        let writers: Vec<_> = writers
            .map(|(who, c)| scope.spawn(move || write_on(c, who, stop, full)))
            .collect();
        for _ in 0..rounds() {
            std::thread::sleep(Duration::from_millis(500));
            disk.fill();
            full.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(3));
            full.store(false, Ordering::Relaxed);
            disk.free();
            std::thread::sleep(Duration::from_secs(1));
        }
        stop.store(true, Ordering::Relaxed);
        let done = writers.into_iter().map(|w| w.join().expect("a writer"));
        done.collect::<Vec<Done>>()
    });
    let mut readers: Vec<_> = (0..3).map(|n| cluster.members[n].connect()).collect();
    let (mut tried, mut failed) = (0, 0);
    for (who, done) in done.iter().enumerate() {
        assert_eq!(done.wrong, [""; 0], "through member {who}");
        tried += done.while_full.0;
        failed += done.while_full.1;
        for (key, values) in &done.values {
            for reader in &mut readers {
                let reply = reader.call(&["GET", key]);
                let read = reply.split("\r\n").nth(1).unwrap_or_default();
                assert!(values.iter().any(|v| v == read), "{key}: {reply:.40}");
            }
        }
        let counter = format!("n{who}");
        for reader in &mut readers {
            let reply = reader.call(&["GET", &counter]);
            let sum: i64 = reply
                .split("\r\n")
                .nth(1)
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            let (least, most) = done.counted;
            assert!((least..=most).contains(&sum), "{counter}: {reply:?}");
        }
        for key in done.values.keys().chain([&counter]) {
            eventually("copies agree", || {
                readers.iter_mut().all(|reader| {
                    let explained = reader.call(&["RINGWOOD", "EXPLAIN", key]);
                    explained.contains("copies agree yes")
                })
            });
        }
    }
    println!("{failed} of {tried} commands failed while the disk was full");
    assert!(tried > 100 && failed * 200 <= tried, "{failed} of {tried}");
    let verified = readers[0].call(&["RINGWOOD", "VERIFY", "ALL"]);
    assert!(!verified.contains("differ"), "{verified}");
}

#[test]
fn a_full_disk_is_freed_by_deleting_and_by_expiry() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::at(&dir.path().join("data")) else {
        return;
    };
    let server = Server::ringwood(&dir.path().join("data"), &[]);
    let mut c = server.connect();
    let value = "x".repeat(10_000);
    for n in 0..200 {
        assert_eq!(c.call(&["SET", &format!("k{n}"), &value]), "+OK\r\n");
    }
    assert_eq!(c.call(&["SET", "ends", "soon", "PX", "1500"]), "+OK\r\n");
    disk.fill();
    let full = AtomicU64::new(0);
    eventually("writes are refused", || {
        full.fetch_add(1, Ordering::Relaxed);
        let set = c.call(&["SET", "new", &value]);
        set.starts_with("-MISCONF")
    });
    assert_eq!(c.call(&["GET", "k7"]), format!("$10000\r\n{value}\r\n"));
    assert_eq!(c.call(&["DEL", "k0", "k1"]), ":2\r\n");
    assert_eq!(c.call(&["UNLINK", "k2"]), ":1\r\n");
    assert_eq!(c.call(&["EXISTS", "k0", "k1", "k2", "k3"]), ":1\r\n");
    eventually("what has ended is reclaimed", || {
        c.call(&["EXISTS", "ends"]) == ":0\r\n"
    });
    assert_eq!(c.call(&["FLUSHDB"]), "+OK\r\n");
    assert_eq!(c.call(&["DBSIZE"]), ":0\r\n");
    disk.free();
    eventually("writes are accepted again", || {
        c.call(&["SET", "new", "1"]) == "+OK\r\n"
    });
    assert!(server.terminate());
    let server = Server::ringwood(&dir.path().join("data"), &[]);
    let mut c = server.connect();
    assert_eq!(c.call(&["DBSIZE"]), ":1\r\n");
    assert_eq!(c.call(&["GET", "new"]), "$1\r\n1\r\n");
}

#[test]
fn what_a_lone_node_says_of_a_write_that_failed_is_true_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::at(&dir.path().join("data")) else {
        return;
    };
    // No space is kept free: the disk fails in the middle of a batch.
    let flags = ["--min-free-disk", "0"];
    for _ in 0..3 {
        let server = Server::ringwood(&dir.path().join("data"), &flags);
        let mut c = server.connect();
        let value = |n: usize| format!("{n}-{}", "x".repeat(700));
        for n in 0..50 {
            assert_eq!(c.call(&["SET", &format!("k{n}"), &value(0)]), "+OK\r\n");
        }
        disk.fill();
        let (mut said, mut n) = (BTreeMap::new(), 0);
        // What fits into what the file system has set aside for the journal goes on.
        while n < 20_000 && said.len() < 20 {
            n += 1;
            let key = format!("k{}", n % 50);
            let reply = c.call(&["SET", &key, &value(n)]);
            if reply.starts_with('-') {
                said.insert(key, (n, reply));
            } else {
                said.remove(&key);
            }
        }
        let read_before: Vec<String> = (0..50)
            .map(|n| c.call(&["GET", &format!("k{n}")]))
            .collect();
        drop(c);
        server.kill();
        disk.free();
        let server = Server::ringwood(&dir.path().join("data"), &flags);
        let mut c = server.connect();
        for (key, (n, reply)) in &said {
            if reply.contains("was not stored") {
                let now = c.call(&["GET", key]);
                assert!(!now.contains(&value(*n)), "{key}: {reply}");
            }
        }
        for (n, before) in read_before.iter().enumerate() {
            let now = c.call(&["GET", &format!("k{n}")]);
            assert!(before.starts_with('-') || *before == now, "k{n}");
        }
    }
}
