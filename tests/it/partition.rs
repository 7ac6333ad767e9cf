//! The network is cut between real processes, and clients write on both sides.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::harness::{Connection, Server, encode, eventually};
use super::namespaces::Machines;

const NODES: usize = 3;
const KEYS: usize = 1_000;

struct Divided {
    servers: Vec<Mutex<Server>>,
    dir: tempfile::TempDir,
    machines: Machines,
}

impl Divided {
    fn start() -> Option<Self> {
        let machines = Machines::new(NODES)?;
        let dir = tempfile::tempdir().expect("a folder");
        let start = |nth| Mutex::new(start_one(&machines, dir.path(), nth));
        let divided = Self {
            servers: (0..NODES).map(start).collect(),
            dir,
            machines,
        };
        divided.wait_until_each_sees(NODES);
        // A node that is cut off while parts are still on their way to it refuses to read them.
        for nth in 0..NODES {
            let mut connection = divided.connect(nth);
            eventually("every part is where it belongs", || {
                let info = connection.call(&["INFO", "everything"]);
                info.contains("\r\ntransfers_unsettled:0\r\n")
            });
        }
        Some(divided)
    }

    /// To a node; while it starts again this waits.
    fn connect(&self, nth: usize) -> Connection {
        let server = self.servers[nth].lock().expect("no panic");
        self.machines.on(nth, || server.connect())
    }

    fn kill_and_start(&self, nth: usize) {
        let mut server = self.servers[nth].lock().expect("no panic");
        server.signal("KILL");
        server.await_end();
        *server = start_one(&self.machines, self.dir.path(), nth);
    }

    fn wait_until_each_sees(&self, count: usize) {
        let wanted = format!("cluster_answering_nodes:{count}\r\n");
        for nth in 0..NODES {
            let mut connection = self.connect(nth);
            eventually("all members answer each other", || {
                connection.call(&["CLUSTER", "INFO"]).contains(&wanted)
            });
        }
    }
}

fn start_one(machines: &Machines, dir: &Path, nth: usize) -> Server {
    let seed = format!("{}:7000", Machines::address(0));
    let (host, name) = (Machines::address(nth), format!("node-{nth}"));
    let flags = [
        ("--node-name", name.as_str()),
        ("--cluster-enabled", "yes"),
        ("--cluster-secret", "a test"),
        ("--peer-bind", &host),
        ("--peer-port", "7000"),
        ("--seeds", &seed),
        ("--request-timeout-ms", "200"),
    ];
    let flags: Vec<&str> = flags.iter().flat_map(|(f, v)| [*f, *v]).collect();
    machines.on(nth, || Server::ringwood(&dir.join(nth.to_string()), &flags))
}

/// Writes every key until it is acknowledged.
fn write_all(connection: &mut Connection, side: &str) {
    let quorum = connection.call(&["CLIENT", "QUORUM", "R", "1", "W", "1"]);
    assert_eq!(quorum, "+OK\r\n");
    for n in 0..KEYS {
        let (key, value) = (format!("cart:{n}"), format!("{side}-{n}"));
        eventually("the write is taken", || {
            connection.call(&["SET", &key, &value]) == "+OK\r\n"
        });
    }
}

/// The context, and the values in order of their text.
fn siblings(connection: &mut Connection, key: &str) -> Option<(String, Vec<String>)> {
    let reply = connection.call(&["SIBLINGS", key]);
    if reply.starts_with('-') {
        return None;
    }
    let mut bulks = reply
        .split("\r\n")
        .filter(|line| !line.starts_with(['*', '$']) && !line.is_empty())
        .map(str::to_owned);
    let context = bulks.next()?;
    let mut values: Vec<String> = bulks.collect();
    values.sort();
    Some((context, values))
}

#[test]
fn both_sides_of_a_cut_keep_their_writes_and_resolve_settles_them() {
    let Some(divided) = Divided::start() else {
        return;
    };
    divided.machines.unplug(2);
    let mut left = divided.connect(0);
    let mut right = divided.connect(2);
    std::thread::scope(|scope| {
        scope.spawn(|| write_all(&mut left, "left"));
        scope.spawn(|| write_all(&mut right, "right"));
    });
    divided.machines.plug_in(2);
    divided.wait_until_each_sees(NODES);
    let mut connections: Vec<Connection> = (0..NODES).map(|nth| divided.connect(nth)).collect();
    for connection in &mut connections {
        eventually("no hint is left", || {
            connection.call(&["RINGWOOD", "HINTS"]) == ":0\r\n"
        });
    }
    for n in 0..KEYS {
        let key = format!("cart:{n}");
        let both = vec![format!("left-{n}"), format!("right-{n}")];
        for connection in &mut connections {
            // A link may still be coming back.
            eventually("both writes are there", || {
                siblings(connection, &key).is_some_and(|(_, values)| values == both)
            });
        }
    }
    for n in 0..KEYS {
        let (key, asked) = (format!("cart:{n}"), n % NODES);
        let (context, values) = siblings(&mut connections[asked], &key).expect("an answer");
        let merged = values.join("+");
        let settled = connections[asked].call(&["RESOLVE", &key, &context, &merged]);
        assert!(settled.ends_with(":1\r\n"), "{settled}");
        for connection in &mut connections {
            let want = format!("${}\r\n{merged}\r\n", merged.len());
            assert_eq!(connection.call(&["GET", &key]), want);
        }
    }
    for connection in &mut connections {
        assert_eq!(
            connection.call(&["CONFLICTS", "0", "COUNT", "100000"]),
            "*2\r\n$1\r\n0\r\n*0\r\n"
        );
    }
}

/// Puts things into carts and takes others out, as a shop does with plain Redis commands.
fn shop(connection: &mut Connection, side: &str) {
    let quorum = connection.call(&["CLIENT", "QUORUM", "R", "1", "W", "1"]);
    assert_eq!(quorum, "+OK\r\n");
    let mine = format!("{side}-item");
    let commands: [&[&str]; 7] = [
        &["SADD", "cart:set", &mine],
        &["HSET", "cart:hash", &mine, "1"],
        &["HINCRBY", "cart:hash", "bread", "2"],
        &["ZADD", "cart:zset", "1", &mine],
        &["RPUSH", "orders", &mine, "and", "more"],
        if side == "left" {
            &["SREM", "cart:set", "milk", "tea"]
        } else {
            // It is there already: beside its removal it is added again.
            &["SADD", "cart:set", "milk"]
        },
        if side == "left" {
            &["HDEL", "cart:hash", "tea"]
        } else {
            &["HSET", "cart:hash", "milk", "3"]
        },
    ];
    for words in commands {
        eventually("the write is taken", || {
            !connection.call(words).starts_with('-')
        });
    }
}

#[test]
fn a_cart_keeps_what_either_side_of_a_cut_has_added_and_nothing_that_was_taken_out() {
    let Some(divided) = Divided::start() else {
        return;
    };
    let mut left = divided.connect(0);
    left.call(&["SADD", "cart:set", "milk", "tea", "bread"]);
    left.call(&["HSET", "cart:hash", "milk", "1", "tea", "1", "bread", "1"]);
    divided.machines.unplug(2);
    let mut right = divided.connect(2);
    std::thread::scope(|scope| {
        scope.spawn(|| shop(&mut left, "left"));
        scope.spawn(|| shop(&mut right, "right"));
    });
    divided.machines.plug_in(2);
    divided.wait_until_each_sees(NODES);
    let fields = |reply: String| -> Vec<String> {
        let lines = reply.split("\r\n");
        let words = lines.filter(|line| !line.starts_with(['*', '$']) && !line.is_empty());
        words.map(str::to_owned).collect()
    };
    for nth in 0..NODES {
        let mut c = divided.connect(nth);
        eventually("the set has both sides' items", || {
            fields(c.call(&["SMEMBERS", "cart:set"]))
                == ["bread", "left-item", "milk", "right-item"]
        });
        eventually("the hash has both sides' items and quantities", || {
            fields(c.call(&["HGETALL", "cart:hash"]))
                == [
                    "bread",
                    "5",
                    "left-item",
                    "1",
                    "milk",
                    "3",
                    "right-item",
                    "1",
                ]
        });
        eventually("the sorted set has both sides' items", || {
            fields(c.call(&["ZRANGE", "cart:zset", "0", "-1"])) == ["left-item", "right-item"]
        });
        let mut orders = Vec::new();
        eventually("the list has both sides' orders", || {
            orders = fields(c.call(&["LRANGE", "orders", "0", "-1"]));
            orders.len() == 6
        });
        // Neither stands in the other.
        for order in orders.chunks(3) {
            assert!(
                order[0].ends_with("-item") && order[1..] == ["and", "more"],
                "{orders:?}"
            );
        }
    }
}

/// Increments in all, of a key and of a field, by one client of each node; `RINGWOOD_INCREMENTS` says how many.
const INCREMENTS: u64 = 20_000;
/// So many at a time.
const TOGETHER: usize = 20;

/// How many increments of a key, and of a field, were acknowledged, and how many may have been made.
#[derive(Debug, Default)]
struct Counted {
    acknowledged: [u64; 2],
    begun: [u64; 2],
    refused: u64,
}

impl Counted {
    /// Counts through a node, and changes when that shall end, until so many are acknowledged.
    fn count(divided: &Divided, nth: usize) -> Self {
        let words: [&[&str]; 3] = [
            &["INCR", "hits"],
            &["HINCRBY", "stock", "tea", "1"],
            &["EXPIRE", "hits", "100000"],
        ];
        let encoded = words.map(|words| {
            let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            encode(&words)
        });
        let mut counted = Self::default();
        let mut connection = divided.connect(nth);
        let wanted = std::env::var("RINGWOOD_INCREMENTS").ok();
        let wanted = wanted.and_then(|n| n.parse().ok()).unwrap_or(INCREMENTS) / NODES as u64;
        let mut rounds = 0;
        while counted.acknowledged.iter().sum::<u64>() < wanted {
            rounds += 1;
            assert!(rounds < 100_000, "{counted:?}");
            let refused = counted.refused;
            let both = encoded[..2].concat().repeat(TOGETHER / 2);
            let sent = connection.send(&[both, encoded[2].clone()].concat());
            counted.begun = counted.begun.map(|begun| begun + TOGETHER as u64 / 2);
            let heard = sent.and_then(|()| counted.hear(&mut connection));
            if heard.is_err() {
                // It was killed: what was not answered may have been made or not.
                connection = divided.connect(nth);
            }
            if counted.refused > refused {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        counted
    }

    fn hear(&mut self, connection: &mut Connection) -> std::io::Result<()> {
        for nth in 0..TOGETHER {
            let reply = connection.reply()?;
            if reply.starts_with(b":") {
                self.acknowledged[nth % 2] += 1;
                continue;
            }
            self.refused += 1;
            let text = String::from_utf8_lossy(&reply);
            // What is said to be stored nowhere was not made.
            if text.contains("nothing was stored") {
                self.begun[nth % 2] -= 1;
            } else {
                assert!(text.starts_with("-NOQUORUM"), "{text}");
            }
        }
        connection.reply().map(|_| ())
    }
}

#[test]
fn increments_beside_expiries_are_counted_once_through_kills_and_cuts() {
    let Some(divided) = Divided::start() else {
        return;
    };
    let is_over = AtomicBool::new(false);
    let counted: Vec<Counted> = std::thread::scope(|scope| {
        let disturbs = scope.spawn(|| {
            let mut times = 0;
            while !is_over.load(Ordering::Relaxed) || times == 0 {
                divided.machines.unplug(2);
                std::thread::sleep(Duration::from_millis(700));
                divided.machines.plug_in(2);
                divided.kill_and_start(times % NODES);
                std::thread::sleep(Duration::from_millis(700));
                times += 1;
            }
            times
        });
        let divided = &divided;
        let clients: Vec<_> = (0..NODES)
            .map(|nth| scope.spawn(move || Counted::count(divided, nth)))
            .collect();
        let ended = clients.into_iter().map(std::thread::ScopedJoinHandle::join);
        let counted: Vec<_> = ended.collect();
        is_over.store(true, Ordering::Relaxed);
        println!("{} cuts and kills", disturbs.join().expect("no panic"));
        counted
            .into_iter()
            .map(|one| one.expect("no panic"))
            .collect()
    });
    divided.wait_until_each_sees(NODES);
    println!("{counted:?}");
    let sum = |of: fn(&Counted) -> [u64; 2], at: usize| -> u64 {
        counted.iter().map(|one| of(one)[at]).sum()
    };
    for nth in 0..NODES {
        let mut connection = divided.connect(nth);
        for (at, words) in [&["GET", "hits"][..], &["HGET", "stock", "tea"]]
            .iter()
            .enumerate()
        {
            let (least, most) = (sum(|one| one.acknowledged, at), sum(|one| one.begun, at));
            let mut shown = String::new();
            eventually("everything that was acknowledged is counted", || {
                shown = connection.call(words);
                let number = shown
                    .split("\r\n")
                    .nth(1)
                    .and_then(|text| text.parse().ok());
                number.is_some_and(|number: u64| (least..=most).contains(&number))
            });
            println!("{words:?}: {shown:?}, acknowledged {least}, begun {most}");
        }
    }
}
