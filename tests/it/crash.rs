//! kill -9 (and now and then SIGTERM) at random points under load. A model says what each writer's
//! databases may hold after the restart: what was acknowledged, perhaps the command that was under way,
//! all of it or nothing; and nothing older than what a reader has seen.
//! `RINGWOOD_CRASH_ROUNDS=200 cargo nextest run crash` runs more rounds.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::harness::{Connection, Random, Server, Syncs, encode};
use super::model::{Writer, read_back};

const WRITERS: usize = 3;
/// Of so many rounds one ends with SIGTERM.
const CLEAN_ENDS: usize = 4;

fn rounds(default: usize) -> usize {
    let asked = std::env::var("RINGWOOD_CRASH_ROUNDS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// What one round shares.
struct Round {
    stop: AtomicBool,
    /// By writer, the number of its latest write that a reader has seen.
    seen: Vec<AtomicUsize>,
}

/// Writes until the connection breaks.
fn write(server: &Server, writer: &mut Writer, round: &Round, random: &mut Random, alone: bool) {
    let connections: Option<Vec<Connection>> = (0..2).map(|_| server.try_connect()).collect();
    let Some(mut connections) = connections else {
        return;
    };
    for (nth, connection) in connections.iter_mut().enumerate() {
        let select = ["SELECT".to_owned(), (2 * writer.nth + nth).to_string()];
        let select = select.map(String::into_bytes);
        if connection.send(&encode(&select)).is_err() || connection.reply().is_err() {
            return;
        }
    }
    while !round.stop.load(Ordering::Relaxed) {
        let op = Writer::any_op(random, alone);
        let database = op.database();
        if !writer.send(op, &mut connections[database]) {
            return;
        }
    }
}

/// Reads what writers write, and notes how far they are seen to have come.
fn read(server: &Server, round: &Round, random: &mut Random) {
    let Some(mut connection) = server.try_connect() else {
        return;
    };
    while !round.stop.load(Ordering::Relaxed) {
        let writer = random.below(round.seen.len());
        let number = (2 * writer + random.below(2)).to_string();
        let key = Writer::any_plain_key(random);
        let mut call = |words: &[&str]| -> Option<Vec<u8>> {
            let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
            connection.send(&encode(&words)).ok()?;
            connection.reply().ok()
        };
        let (Some(_), Some(reply)) = (call(&["SELECT", &number]), call(&["GET", &key])) else {
            return;
        };
        let reply = String::from_utf8_lossy(&reply).into_owned();
        if let Some(nth) = Writer::number_in(reply.split("\r\n").nth(1).unwrap_or("")) {
            round.seen[writer].fetch_max(nth, Ordering::Relaxed);
        }
    }
}

/// Changes the configuration and has it written down.
fn configure(server: &Server, round: &Round, random: &mut Random) {
    let Some(mut connection) = server.try_connect() else {
        return;
    };
    while !round.stop.load(Ordering::Relaxed) {
        let number = (1_000 + random.below(1_000)).to_string();
        for words in [
            &["CONFIG", "SET", "slowlog-max-len", &number][..],
            &["CONFIG", "REWRITE"],
        ] {
            let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
            if connection.send(&encode(&words)).is_err() || connection.reply().is_err() {
                return;
            }
        }
    }
}

/// Makes a copy; by writer, from which to which of its commands it may stand, when there is one.
fn copy(
    server: &Server,
    to: &Path,
    counts: &[(&AtomicUsize, &AtomicUsize)],
) -> Option<Vec<(usize, usize)>> {
    let from: Vec<usize> = counts
        .iter()
        .map(|(done, _)| done.load(Ordering::SeqCst))
        .collect();
    let mut connection = server.try_connect()?;
    let words = ["RINGWOOD", "SNAPSHOT", &to.display().to_string()];
    let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
    connection.send(&encode(&words)).ok()?;
    let reply = connection.reply().ok()?;
    if reply.first() == Some(&b'-') {
        return None;
    }
    let upto = counts.iter().map(|(_, begun)| begun.load(Ordering::SeqCst));
    Some(from.into_iter().zip(upto).collect())
}

/// Crashes, restarts and checks, so many times.
fn crash(rounds: usize, flags: &[&str], disk: Option<&Syncs>) {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let config = dir.path().join("ringwood.toml");
    std::fs::write(&config, "# a comment\nslowlog-max-len = 128 # entries\n").expect("written");
    let config = config.display().to_string();
    let flags = [
        flags,
        &[
            "--config",
            &config,
            "--write-buffer-size",
            "1mb",
            "--partitions",
            "16",
        ],
    ]
    .concat();
    let start = |data: &Path| match disk {
        Some(disk) => disk.ringwood(
            data,
            std::fs::OpenOptions::new()
                .append(true)
                .open("/dev/stderr")
                .expect("the standard error"),
            &flags,
        ),
        None => Server::ringwood(data, &flags),
    };
    let mut random = Random::new(rounds as u64 + flags.len() as u64);
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    let mut server = start(&data);
    for nth in 0..rounds {
        // FLUSHALL is everybody's: then there is one writer.
        let alone = nth % 3 == 2;
        let active = if alone { 1 } else { WRITERS };
        let round = Round {
            stop: AtomicBool::new(false),
            seen: (0..active).map(|_| AtomicUsize::new(0)).collect(),
        };
        let pause = Duration::from_millis(30 + random.below(200) as u64);
        let snapshot = dir.path().join(format!("copy-{nth}"));
        let is_clean = random.below(CLEAN_ENDS) == 0;
        let seeds: Vec<u64> = (0..8).map(|_| random.below(1 << 30) as u64 + 1).collect();
        writers.iter_mut().for_each(Writer::begin_round);
        let counters: Vec<_> = writers[..active].iter().map(Writer::counters).collect();
        let mut copied = None;
        std::thread::scope(|scope| {
            let (server, round) = (&server, &round);
            let counts: Vec<_> = counters.iter().map(|c| (&*c.0, &*c.1)).collect();
            for (writer, seed) in writers[..active].iter_mut().zip(&seeds) {
                let mut random = Random::new(*seed);
                scope.spawn(move || write(server, writer, round, &mut random, alone));
            }
            let mut random = Random::new(seeds[6]);
            scope.spawn(move || read(server, round, &mut random));
            let mut random = Random::new(seeds[7]);
            scope.spawn(move || configure(server, round, &mut random));
            let snapshot = &snapshot;
            let copying =
                (nth % 2 == 0).then(|| scope.spawn(move || copy(server, snapshot, &counts)));
            std::thread::sleep(pause);
            server.signal(if is_clean { "TERM" } else { "KILL" });
            copied = copying.and_then(|copying| copying.join().expect("it ends"));
            server.await_end();
            round.stop.store(true, Ordering::Relaxed);
        });
        if let Some(between) = copied {
            check_copy(dir.path(), &snapshot, &writers, &between);
        }
        server = start(&data);
        for writer in &mut writers[..active] {
            let seen = round
                .seen
                .get(writer.nth)
                .map_or(0, |n| n.load(Ordering::Relaxed));
            let found = read_back(&server, writer.nth);
            writer.settle(&found, seen, nth);
        }
        if alone {
            // A client that did not write may have lost what it had to another's FLUSHALL.
            let others = writers[1..].iter_mut();
            others.for_each(|writer| writer.forget(&server));
        }
    }
}

fn check_copy(dir: &Path, copy: &Path, writers: &[Writer], between: &[(usize, usize)]) {
    let put_back = dir.join("put-back");
    let _ = std::fs::remove_dir_all(&put_back);
    let restored = Command::new(env!("CARGO_BIN_EXE_ringwood"))
        .args([
            "restore",
            &copy.display().to_string(),
            "--dir",
            &put_back.display().to_string(),
        ])
        .output()
        .expect("it runs");
    assert!(restored.status.success(), "{restored:?}");
    let server = Server::ringwood(&put_back, &["--partitions", "16"]);
    for (writer, &(from, upto)) in writers.iter().zip(between) {
        let found = read_back(&server, writer.nth);
        writer.check_copy(&found, from, upto);
    }
    let _ = std::fs::remove_dir_all(copy);
}

#[test]
fn what_may_be_is_after_kill_9_with_everysec() {
    crash(rounds(12), &[], None);
}

#[test]
fn what_may_be_is_after_kill_9_with_always_and_a_slow_disk() {
    let disk = Syncs::slow(Duration::from_millis(15));
    crash(rounds(8), &["--appendfsync", "always"], Some(&disk));
}

#[test]
fn a_clean_stop_is_found_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    assert_eq!(server.connect().call(&["SET", "a", "1"]), "+OK\r\n");
    assert!(server.terminate());
    let server = Server::ringwood(dir.path(), &[]);
    assert_eq!(server.connect().call(&["GET", "a"]), "$1\r\n1\r\n");
    assert_eq!(server.connect().call(&["DBSIZE"]), ":1\r\n");
}

/// A transaction of many commands, and a kill in the middle of it.
#[test]
fn a_long_transaction_is_there_as_a_whole_or_not_at_all() {
    const COMMANDS: usize = 6_000;
    let dir = tempfile::tempdir().expect("a folder");
    for nth in 0..6_u64 {
        let server = Server::ringwood(dir.path(), &[]);
        let mut connection = server.connect();
        assert_eq!(connection.call(&["FLUSHALL"]), "+OK\r\n");
        let mut words = b"*1\r\n$5\r\nMULTI\r\n".to_vec();
        for n in 0..COMMANDS {
            let set = ["SET", &format!("key:{n}"), "v"].map(|w| w.as_bytes().to_vec());
            words.extend(encode(&set));
        }
        connection.send(&words).expect("sent");
        for _ in 0..=COMMANDS {
            connection.reply().expect("queued");
        }
        connection.send(b"*1\r\n$4\r\nEXEC\r\n").expect("sent");
        std::thread::sleep(Duration::from_millis(2 + 3 * nth));
        server.kill();
        let server = Server::ringwood(dir.path(), &[]);
        let mut connection = server.connect();
        let count = connection.call(&["DBSIZE"]);
        let whole = format!(":{COMMANDS}\r\n");
        assert!([":0\r\n", &whole].contains(&count.as_str()), "{count}");
    }
}
