//! kill -9 at random points under load: every acknowledged write is there after the restart.
//! `RINGWOOD_CRASH_ROUNDS=100 cargo nextest run crash` runs more rounds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::harness::{Connection, Random, Server, encode};

const WRITERS: usize = 4;
const KEYS: usize = 200;

/// What a key may hold: the last acknowledged value, then those in doubt. "" is absence.
type Possible = HashMap<String, Vec<String>>;

/// Writes until the connection breaks. A key whose list starts with `None` was only in doubt.
fn write_until_cut(
    mut connection: Connection,
    writer: usize,
    round: usize,
    stop: &AtomicBool,
) -> HashMap<String, Vec<Option<String>>> {
    let mut possible: HashMap<String, Vec<Option<String>>> = HashMap::new();
    let mut random = Random::new((writer * 1_000 + round) as u64 + 1);
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("w{writer}:{}", random.below(KEYS));
        let value = format!("{round}:{n}");
        let set = ["SET", &key, &value].map(|w| w.as_bytes().to_vec());
        possible
            .entry(key.clone())
            .or_insert_with(|| vec![None])
            .push(Some(value.clone()));
        let acknowledged = connection.send(&encode(&set)).is_ok()
            && connection.reply().is_ok_and(|reply| reply == b"+OK\r\n");
        if !acknowledged {
            break;
        }
        possible.insert(key, vec![Some(value)]);
    }
    possible
}

fn rounds(appendfsync: &str, default: usize) {
    let asked = std::env::var("RINGWOOD_CRASH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok());
    let rounds = asked.unwrap_or(default);
    let dir = tempfile::tempdir().expect("a folder");
    let flags = ["--appendfsync", appendfsync, "--write-buffer-size", "1mb"];
    let mut known = Possible::new();
    let mut random = Random::new(rounds as u64);
    for round in 0..rounds {
        let server = Server::ringwood(dir.path(), &flags);
        check(&mut server.connect(), &known, round);
        let stop = AtomicBool::new(false);
        let pause = Duration::from_millis(20 + random.below(150) as u64);
        let written = std::thread::scope(|scope| {
            let stop = &stop;
            let writers: Vec<_> = (0..WRITERS)
                .map(|w| {
                    let connection = server.connect();
                    scope.spawn(move || write_until_cut(connection, w, round, stop))
                })
                .collect();
            std::thread::sleep(pause);
            server.kill();
            stop.store(true, Ordering::Relaxed);
            writers
                .into_iter()
                .map(|w| w.join().expect("a writer"))
                .collect::<Vec<_>>()
        });
        for (key, values) in written.into_iter().flatten() {
            let entry = known.entry(key).or_insert_with(|| vec![String::new()]);
            if values[0].is_some() {
                entry.clear();
            }
            entry.extend(values.into_iter().flatten());
        }
    }
    let server = Server::ringwood(dir.path(), &flags);
    check(&mut server.connect(), &known, rounds);
}

/// Every key holds a value that is possible; afterwards that value is the known one.
fn check(connection: &mut Connection, known: &Possible, round: usize) {
    for (key, possible) in known {
        let reply = connection.call(&["GET", key]);
        let value = reply.split("\r\n").nth(1).unwrap_or("").to_owned();
        assert!(
            possible.contains(&value),
            "round {round}: {key} is {value:?}, not {possible:?}"
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_with_everysec() {
    rounds("everysec", 10);
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_with_always() {
    rounds("always", 5);
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
