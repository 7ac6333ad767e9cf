//! What the databases of one writer may hold: a model of the commands that change keys, several of them
//! at once among them, and of what a crash may leave.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of a server are in real time"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::harness::{Connection, Random, Server, encode};

/// A deadline is looked at no nearer than so many milliseconds.
const MARGIN_MS: u64 = 150;
const KEYS: usize = 8;

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    value: String,
    /// It ends between these.
    ends_ms: Option<(u64, u64)>,
}

type Database = BTreeMap<String, Entry>;

/// A command, in one of the writer's two databases.
#[derive(Clone, Debug)]
pub enum Op {
    Set(usize, String),
    SetFor(usize, String, u64),
    Del(usize, String),
    Rename(usize, String, String),
    Copy(usize, String, String),
    Move(usize, String),
    MSet(usize, Vec<String>),
    MSetNx(usize, Vec<String>),
    Incr(usize, String),
    Append(usize, String),
    Exec(usize, Vec<Op>),
    Flush(usize),
    Swap,
    FlushAll,
}

impl Op {
    /// In which of the two it runs.
    pub fn database(&self) -> usize {
        match self {
            Op::Set(db, _)
            | Op::SetFor(db, ..)
            | Op::Del(db, _)
            | Op::Rename(db, ..)
            | Op::Copy(db, ..)
            | Op::Move(db, _)
            | Op::MSet(db, _)
            | Op::MSetNx(db, _)
            | Op::Incr(db, _)
            | Op::Append(db, _)
            | Op::Exec(db, _)
            | Op::Flush(db) => *db,
            Op::Swap | Op::FlushAll => 0,
        }
    }

    /// The commands that it is.
    fn commands(&self, writer: usize, value: &str) -> Vec<Vec<String>> {
        let words = |words: &[&str]| vec![words.iter().map(|w| (*w).to_owned()).collect()];
        let pairs = |name: &str, keys: &[String]| {
            let pairs = keys.iter().flat_map(|key| [key.clone(), value.to_owned()]);
            vec![std::iter::once(name.to_owned()).chain(pairs).collect()]
        };
        let number = |db: usize| (2 * writer + db).to_string();
        match self {
            Op::Set(_, key) => words(&["SET", key, value]),
            Op::SetFor(_, key, ms) => words(&["SET", key, value, "PX", &ms.to_string()]),
            Op::Del(_, key) => words(&["DEL", key]),
            Op::Rename(_, from, to) => words(&["RENAME", from, to]),
            Op::Copy(_, from, to) => words(&["COPY", from, to, "REPLACE"]),
            Op::Move(db, key) => words(&["MOVE", key, &number(1 - db)]),
            Op::MSet(_, keys) => pairs("MSET", keys),
            Op::MSetNx(_, keys) => pairs("MSETNX", keys),
            Op::Incr(_, key) => words(&["INCR", key]),
            Op::Append(_, key) => words(&["APPEND", key, value]),
            Op::Flush(_) => words(&["FLUSHDB"]),
            Op::Swap => words(&["SWAPDB", &number(0), &number(1)]),
            Op::FlushAll => words(&["FLUSHALL"]),
            Op::Exec(_, ops) => {
                let queued = ops.iter().flat_map(|op| op.commands(writer, value));
                let first = words(&["MULTI"]).into_iter();
                first.chain(queued).chain(words(&["EXEC"])).collect()
            }
        }
    }

    /// What it makes of the databases.
    fn apply(&self, state: &mut [Database; 2], value: &str, (sent_ms, done_ms): (u64, u64)) {
        let plain = || Entry {
            value: value.to_owned(),
            ends_ms: None,
        };
        match self {
            Op::Set(db, key) => drop(state[*db].insert(key.clone(), plain())),
            Op::SetFor(db, key, ms) => {
                let ends_ms = Some((sent_ms + ms, done_ms + ms));
                let entry = Entry { ends_ms, ..plain() };
                state[*db].insert(key.clone(), entry);
            }
            Op::Del(db, key) => drop(state[*db].remove(key)),
            Op::Rename(db, from, to) => {
                if let Some(entry) = state[*db].remove(from) {
                    state[*db].insert(to.clone(), entry);
                }
            }
            Op::Copy(db, from, to) => {
                if let Some(entry) = state[*db].get(from).cloned() {
                    state[*db].insert(to.clone(), entry);
                }
            }
            Op::Move(db, key) => {
                if !state[1 - db].contains_key(key)
                    && let Some(entry) = state[*db].remove(key)
                {
                    state[1 - db].insert(key.clone(), entry);
                }
            }
            Op::MSet(db, keys) => {
                state[*db].extend(keys.iter().map(|key| (key.clone(), plain())));
            }
            Op::MSetNx(db, keys) => {
                if !keys.iter().any(|key| state[*db].contains_key(key)) {
                    state[*db].extend(keys.iter().map(|key| (key.clone(), plain())));
                }
            }
            Op::Incr(db, key) => {
                let before = state[*db].get(key).map_or("0", |entry| &entry.value);
                let before: i64 = before.parse().expect("a number");
                let value = (before + 1).to_string();
                let entry = Entry { value, ..plain() };
                state[*db].insert(key.clone(), entry);
            }
            Op::Append(db, key) => {
                let before = state[*db].get(key).map_or("", |entry| &entry.value);
                let value = format!("{before}{value}");
                let entry = Entry { value, ..plain() };
                state[*db].insert(key.clone(), entry);
            }
            Op::Exec(_, ops) => {
                for op in ops {
                    op.apply(state, value, (sent_ms, done_ms));
                }
            }
            Op::Flush(db) => state[*db].clear(),
            Op::Swap => state.swap(0, 1),
            Op::FlushAll => state.iter_mut().for_each(Database::clear),
        }
    }
}

struct Done {
    op: Op,
    sent_ms: u64,
    acknowledged_ms: Option<u64>,
}

/// A writer with two databases of its own.
pub struct Writer {
    pub nth: usize,
    /// When the round began.
    state: [Database; 2],
    /// What it has sent since.
    log: Vec<Done>,
    /// The number of the first of these.
    first: usize,
    done: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
}

/// What a server has of it.
#[derive(Debug)]
pub struct Found {
    databases: [BTreeMap<String, String>; 2],
    from_ms: u64,
    to_ms: u64,
}

pub fn read_back(server: &Server, writer: usize) -> Found {
    let mut connection = server.connect();
    let from_ms = now_ms();
    let databases = [0, 1].map(|db| {
        let number = (2 * writer + db).to_string();
        assert_eq!(connection.call(&["SELECT", &number]), "+OK\r\n");
        let listed = connection.call(&["KEYS", "*"]);
        let keys: Vec<&str> = listed.split("\r\n").skip(2).step_by(2).collect();
        let shown = |key: &&str| {
            let reply = connection.call(&["GET", key]);
            let value = reply.split("\r\n").nth(1).filter(|_| reply != "$-1\r\n");
            value.map(|value| ((*key).to_owned(), value.to_owned()))
        };
        keys.iter().filter_map(shown).collect()
    });
    Found {
        databases,
        from_ms,
        to_ms: now_ms(),
    }
}

impl Writer {
    pub fn new(nth: usize) -> Self {
        Self {
            nth,
            state: Default::default(),
            log: Vec::new(),
            first: 1,
            done: Arc::default(),
            begun: Arc::default(),
        }
    }

    /// How many of a round's commands are acknowledged, and how many were sent.
    pub fn counters(&self) -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
        (Arc::clone(&self.done), Arc::clone(&self.begun))
    }

    pub fn any_plain_key(random: &mut Random) -> String {
        format!("k:{}", random.below(KEYS))
    }

    /// The number of the command that wrote a value.
    pub fn number_in(value: &str) -> Option<usize> {
        value.rsplit_once('#')?.1.parse().ok()
    }

    fn value(&self, nth: usize) -> String {
        format!("w{}#{}", self.nth, self.first + nth)
    }

    pub fn any_op(random: &mut Random, alone: bool) -> Op {
        let db = random.below(2);
        let several = |random: &mut Random| {
            let first = random.below(KEYS);
            (0..3)
                .map(|n| format!("k:{}", (first + n) % KEYS))
                .collect()
        };
        let (one, other) = (Self::any_plain_key(random), Self::any_plain_key(random));
        match random.below(40) {
            0..8 => Op::Set(db, one),
            8..11 => {
                let key = format!("x:{}", random.below(4));
                Op::SetFor(db, key, 20 + random.below(600) as u64)
            }
            11..13 => Op::Del(db, one),
            13..17 if one != other => Op::Rename(db, one, other),
            17..20 if one != other => Op::Copy(db, one, other),
            20..22 => Op::Move(db, one),
            22..25 => Op::MSet(db, several(random)),
            25..28 => Op::MSetNx(db, several(random)),
            28 if alone => Op::FlushAll,
            29 => Op::Flush(db),
            30 => Op::Swap,
            31..33 => Op::Append(db, format!("a:{}", random.below(3))),
            33..38 => {
                let mut ops = vec![Op::Set(db, one.clone()), Op::Incr(db, "n:0".to_owned())];
                if one != other {
                    ops.push(Op::Rename(db, one.clone(), other.clone()));
                    ops.push(Op::Copy(db, other, one));
                }
                ops.push(Op::Del(db, Self::any_plain_key(random)));
                Op::Exec(db, ops)
            }
            _ => Op::Incr(db, format!("n:{}", random.below(3))),
        }
    }

    pub fn begin_round(&mut self) {
        self.done.store(0, Ordering::SeqCst);
        self.begun.store(0, Ordering::SeqCst);
    }

    /// Sends a command; whether it was answered.
    pub fn send(&mut self, op: Op, connection: &mut Connection) -> bool {
        let value = self.value(self.log.len());
        let commands = op.commands(self.nth, &value);
        self.log.push(Done {
            op,
            sent_ms: now_ms(),
            acknowledged_ms: None,
        });
        self.begun.fetch_add(1, Ordering::SeqCst);
        let words = |command: &Vec<String>| -> Vec<u8> {
            let words: Vec<Vec<u8>> = command.iter().map(|w| w.clone().into_bytes()).collect();
            encode(&words)
        };
        let bytes: Vec<u8> = commands.iter().flat_map(words).collect();
        if connection.send(&bytes).is_err() {
            return false;
        }
        for _ in &commands {
            let Ok(reply) = connection.reply() else {
                return false;
            };
            let reply = String::from_utf8_lossy(&reply).into_owned();
            if reply.contains("shutting down") {
                return false;
            }
            let known = !reply.contains('-') || reply.contains("no such key") || reply == "$-1\r\n";
            assert!(known, "{commands:?}: {reply}");
        }
        let now = now_ms();
        self.log.last_mut().expect("it was sent").acknowledged_ms = Some(now);
        self.done.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// The databases after so many commands of the round.
    fn after(&self, count: usize) -> [Database; 2] {
        let mut state = self.state.clone();
        for (nth, done) in self.log.iter().take(count).enumerate() {
            let at = (done.sent_ms, done.acknowledged_ms.unwrap_or_else(now_ms));
            done.op.apply(&mut state, &self.value(nth), at);
        }
        state
    }

    /// After a crash: what is there is what was acknowledged, or that and what was under way, and nobody
    /// has seen more.
    pub fn settle(&mut self, found: &Found, seen: usize, round: usize) {
        let acknowledged = self.done.load(Ordering::SeqCst);
        let mut possible = (acknowledged..=self.log.len()).rev();
        let Some(count) = possible.find(|count| is_as(&self.after(*count), found)) else {
            let last: Vec<_> = self
                .log
                .iter()
                .skip(acknowledged.saturating_sub(3))
                .collect();
            let last: Vec<_> = last.iter().map(|done| &done.op).collect();
            panic!(
                "round {round}, writer {}: {found:?}\nis neither {:?}\nnor {:?}\nafter {last:?}",
                self.nth,
                self.after(acknowledged),
                self.after(self.log.len())
            );
        };
        assert!(
            seen < self.first + count,
            "round {round}, writer {}: a reader has seen {seen}, and it is gone",
            self.nth
        );
        self.state = self.after(count);
        self.first += self.log.len();
        self.log.clear();
    }

    /// A copy that was made between two of the round's commands.
    pub fn check_copy(&self, found: &Found, from: usize, upto: usize) {
        let mut possible = from..=upto;
        assert!(
            possible.any(|count| is_as(&self.after(count), found)),
            "writer {}: the copy is of no moment between {from} and {upto}: {found:?}",
            self.nth
        );
    }

    /// Begins anew, with nothing.
    pub fn forget(&mut self, server: &Server) {
        let mut connection = server.connect();
        for db in 0..2 {
            connection.call(&["SELECT", &(2 * self.nth + db).to_string()]);
            assert_eq!(connection.call(&["FLUSHDB"]), "+OK\r\n");
        }
        self.state = Default::default();
    }
}

fn is_as(state: &[Database; 2], found: &Found) -> bool {
    state.iter().zip(&found.databases).all(|(state, shown)| {
        let is_right = |(key, entry): (&String, &Entry)| match (shown.get(key), entry.ends_ms) {
            (Some(value), None) => *value == entry.value,
            (None, None) => false,
            (Some(value), Some((_, latest))) => {
                *value == entry.value && found.from_ms < latest + MARGIN_MS
            }
            (None, Some((earliest, _))) => found.to_ms + MARGIN_MS > earliest,
        };
        shown.keys().all(|key| state.contains_key(key)) && state.iter().all(is_right)
    })
}
