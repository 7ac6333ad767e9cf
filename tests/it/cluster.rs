//! Three and five real nodes: one store from every side, through kills, pauses and restarts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::{Cluster, Connection, Random, Server, encode, eventually, free_port};

fn call(cluster: &Cluster, member: usize, args: &[&str]) -> String {
    cluster.members[member].connect().call(args)
}

/// This node's own copy, byte for byte.
fn local(cluster: &Cluster, member: usize, key: &str) -> Vec<u8> {
    let mut connection = cluster.members[member].connect();
    let args = ["RINGWOOD", "LOCAL", key].map(|w| w.as_bytes().to_vec());
    connection.send(&encode(&args)).expect("send");
    connection.reply().expect("a reply")
}

fn copies_agree(cluster: &Cluster, key: &str) -> bool {
    let first = local(cluster, 0, key);
    (1..cluster.members.len()).all(|member| local(cluster, member, key) == first)
}

fn config(dir: &tempfile::TempDir, text: &str) -> String {
    let path = dir.path().join("ringwood.toml");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn no_hints(cluster: &Cluster) -> bool {
    let members = 0..cluster.members.len();
    members
        .into_iter()
        .all(|m| call(cluster, m, &["RINGWOOD", "HINTS"]) == ":0\r\n")
}

#[test]
fn what_one_node_takes_every_node_shows() {
    let cluster = Cluster::start(3, &[]);
    for n in 0..60 {
        let (key, value) = (format!("k{n}"), format!("v{n}"));
        assert_eq!(call(&cluster, n % 3, &["SET", &key, &value]), "+OK\r\n");
        let want = format!("${}\r\n{value}\r\n", value.len());
        assert_eq!(call(&cluster, (n + 1) % 3, &["GET", &key]), want);
        assert_eq!(call(&cluster, (n + 2) % 3, &["GET", &key]), want);
    }
    for (n, member) in (1..=30).zip([0, 1, 2].into_iter().cycle()) {
        assert_eq!(
            call(&cluster, member, &["INCR", "counter"]),
            format!(":{n}\r\n")
        );
    }
    assert_eq!(call(&cluster, 1, &["DBSIZE"]), ":61\r\n");
    let explained = call(&cluster, 2, &["RINGWOOD", "EXPLAIN", "k1"]);
    assert!(explained.contains("copies agree yes"), "{explained}");
    assert_eq!(call(&cluster, 0, &["FLUSHALL"]), "+OK\r\n");
    assert_eq!(call(&cluster, 2, &["GET", "k1"]), "$-1\r\n");
    assert_eq!(call(&cluster, 1, &["SET", "k1", "again"]), "+OK\r\n");
    assert_eq!(call(&cluster, 2, &["KEYS", "*"]), "*1\r\n$2\r\nk1\r\n");
}

#[test]
fn pipelined_commands_run_in_order_per_key() {
    let cluster = Cluster::start(3, &[]);
    let mut connection = cluster.members[0].connect();
    let mut bytes = Vec::new();
    for n in 1..=200_u32 {
        let key = format!("p{}", n % 7);
        bytes.extend(encode(&[
            b"SET".to_vec(),
            key.clone().into(),
            n.to_string().into(),
        ]));
        bytes.extend(encode(&[b"INCR".to_vec(), key.clone().into()]));
        bytes.extend(encode(&[b"GET".to_vec(), key.into()]));
    }
    connection.send(&bytes).expect("send");
    for n in 1..=200_u32 {
        let next = (n + 1).to_string();
        assert_eq!(connection.reply().expect("a reply"), b"+OK\r\n");
        let counted = String::from_utf8(connection.reply().expect("a reply")).expect("text");
        assert_eq!(counted, format!(":{next}\r\n"));
        let got = String::from_utf8(connection.reply().expect("a reply")).expect("text");
        assert_eq!(got, format!("${}\r\n{next}\r\n", next.len()));
    }
}

#[test]
fn transactions_run_over_keys_of_all_nodes_and_watch_sees_other_nodes_writes() {
    let cluster = Cluster::start(3, &[]);
    let mut connection = cluster.members[0].connect();
    for command in [
        &["MULTI"][..],
        &["SET", "a", "1"],
        &["SET", "b", "2"],
        &["INCR", "c"],
    ] {
        connection.call(command);
    }
    assert_eq!(connection.call(&["EXEC"]), "*3\r\n+OK\r\n+OK\r\n:1\r\n");
    for (other, outcome) in [(true, "*-1\r\n"), (false, "*1\r\n+OK\r\n")] {
        assert_eq!(connection.call(&["WATCH", "a", "absent"]), "+OK\r\n");
        if other {
            call(&cluster, 1, &["SET", "absent", "1"]);
            call(&cluster, 2, &["DEL", "absent"]);
        }
        connection.call(&["MULTI"]);
        connection.call(&["SET", "a", "2"]);
        assert_eq!(connection.call(&["EXEC"]), outcome);
    }
}

/// The last acknowledged value of each key and those in doubt since, by one writer.
fn write_on(
    mut connection: Connection,
    writer: usize,
    stop: &AtomicBool,
) -> (HashMap<String, Vec<String>>, usize) {
    let mut random = Random::new(writer as u64 + 1);
    let (mut known, mut failed): (HashMap<String, Vec<String>>, usize) = (HashMap::new(), 0);
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (format!("w{writer}:{}", random.below(100)), n.to_string());
        let reply = connection.call(&["SET", &key, &value]);
        if reply == "+OK\r\n" {
            known.insert(key, vec![value]);
        } else {
            eprintln!("SET {key}: {reply}");
            failed += 1;
            known.entry(key).or_default().push(value);
        }
    }
    (known, failed)
}

#[test]
fn a_killed_node_costs_no_write_and_gets_what_it_missed() {
    let mut cluster = Cluster::start(3, &[]);
    let stop = AtomicBool::new(false);
    let connections: Vec<_> = (0..4).map(|w| cluster.members[w % 2].connect()).collect();
    let written = std::thread::scope(|scope| {
        let stop = &stop;
        let writers = connections.into_iter().enumerate();
        let writers: Vec<_> = writers
            .map(|(w, c)| scope.spawn(move || write_on(c, w, stop)))
            .collect();
        for _ in 0..2 {
            std::thread::sleep(std::time::Duration::from_millis(400));
            cluster.members[2].kill();
            std::thread::sleep(std::time::Duration::from_millis(400));
            cluster.members[2].start(None);
        }
        stop.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .map(|w| w.join().expect("a writer"))
            .collect::<Vec<_>>()
    });
    cluster.wait_until_whole();
    eventually("no hint is left", || no_hints(&cluster));
    for (known, failed) in written {
        assert_eq!(failed, 0, "writes through the survivors fail");
        for (key, values) in known {
            let want = format!("${}\r\n{}\r\n", values[0].len(), values[0]);
            assert_eq!(call(&cluster, 2, &["GET", &key]), want, "{key}");
            // What the dead node had sent to nobody yet, a read brings to all, one in ten.
            eventually("copies agree", || {
                copies_agree(&cluster, &key) || {
                    call(&cluster, 0, &["GET", &key]);
                    false
                }
            });
        }
    }
}

#[test]
fn a_paused_node_is_skipped_and_taken_back() {
    let cluster = Cluster::start(3, &["--request-timeout-ms", "1000"]);
    let paused = cluster.members[2].server.as_ref().expect("it runs");
    let mut connection = cluster.members[0].connect();
    for n in 0..30 {
        let set = connection.call(&["SET", &format!("h{n}"), "1"]);
        assert_eq!(set, "+OK\r\n");
    }
    assert_eq!(connection.call(&["WAIT", "2", "10000"]), ":2\r\n");
    paused.signal("STOP");
    // Reads that ask the paused owner first ask another before they would time out.
    for n in 0..30 {
        assert_eq!(connection.call(&["GET", &format!("h{n}")]), "$1\r\n1\r\n");
    }
    let info = connection.call(&["INFO", "ringwood"]);
    assert!(!info.contains("hedged_reads:0\r\n"), "{info}");
    // Until it is noticed a command that the paused node coordinates may be answered with an error.
    eventually("the paused node is skipped", || {
        (0..30).all(|n| connection.call(&["SET", &format!("p{n}"), "1"]) == "+OK\r\n")
    });
    for n in 0..30 {
        assert_eq!(connection.call(&["GET", &format!("p{n}")]), "$1\r\n1\r\n");
    }
    paused.signal("CONT");
    cluster.wait_until_whole();
    eventually("no hint is left", || no_hints(&cluster));
    for n in 0..30 {
        eventually("copies agree", || copies_agree(&cluster, &format!("p{n}")));
    }
}

#[test]
fn with_two_of_three_dead_only_quorums_of_one_are_met() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = config(
        &dir,
        "[[prefix]]\nprefix = \"one:\"\nread-quorum = 1\nwrite-quorum = 1\n",
    );
    let mut cluster = Cluster::start(3, &["--config", &file]);
    assert_eq!(call(&cluster, 0, &["SET", "a", "1"]), "+OK\r\n");
    cluster.members[1].kill();
    cluster.members[2].kill();
    let mut connection = cluster.members[0].connect();
    eventually("writes are refused, and nothing is stored", || {
        connection
            .call(&["SET", "b", "2"])
            .starts_with("-NOREPLICAS")
    });
    assert!(connection.call(&["GET", "a"]).starts_with("-NO"));
    assert_eq!(connection.call(&["INCR", "one:a"]), ":1\r\n");
    assert_eq!(connection.call(&["GET", "one:a"]), "$1\r\n1\r\n");
    assert_eq!(
        connection.call(&["CLIENT", "QUORUM", "R", "1", "W", "1"]),
        "+OK\r\n"
    );
    assert_eq!(connection.call(&["GET", "a"]), "$1\r\n1\r\n");
    assert_eq!(connection.call(&["SET", "a", "3"]), "+OK\r\n");
    assert_eq!(connection.call(&["GET", "a"]), "$1\r\n3\r\n");
}

#[test]
fn a_prefix_has_its_own_number_of_owners_and_may_accept_nobody_in_their_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = config(
        &dir,
        "[[prefix]]\nprefix = \"two:\"\nreplicas-per-key = 2\n\
         [[prefix]]\nprefix = \"strict:\"\nquorum = \"strict\"\nwrite-quorum = 3\n",
    );
    let mut cluster = Cluster::start(4, &["--config", &file]);
    for n in 0..20 {
        let (two, strict) = (format!("two:{n}"), format!("strict:{n}"));
        assert_eq!(call(&cluster, n % 4, &["SET", &two, "1"]), "+OK\r\n");
        assert_eq!(call(&cluster, n % 4, &["SET", &strict, "1"]), "+OK\r\n");
        let owners = call(&cluster, 0, &["RINGWOOD", "OWNERS", &two]);
        assert!(owners.starts_with("*2\r\n"), "{owners}");
        for member in 0..4 {
            let is_owner = owners.contains(&cluster.members[member].name);
            let has = || local(&cluster, member, &two) != b"$-1\r\n";
            eventually("two owners hold it", || has() == is_owner);
        }
    }
    cluster.members[3].kill();
    let mut connection = cluster.members[0].connect();
    for n in 0..20 {
        let (two, strict) = (format!("two:{n}"), format!("strict:{n}"));
        let owned = |key: &str| {
            let owners = call(&cluster, 0, &["RINGWOOD", "OWNERS", key]);
            owners.contains(&cluster.members[3].name)
        };
        eventually("a fallback stands in, or must not", || {
            let sloppy = connection.call(&["SET", &two, "2"]) == "+OK\r\n";
            let reply = connection.call(&["SET", &strict, "2"]);
            sloppy && owned(&strict) == reply.starts_with("-NOREPLICAS")
        });
    }
}

#[test]
fn wait_counts_the_owners_that_have_this_connections_writes() {
    let mut cluster = Cluster::start(3, &[]);
    let mut connection = cluster.members[0].connect();
    assert_eq!(connection.call(&["WAIT", "2", "1000"]), ":2\r\n");
    for n in 0..20 {
        assert_eq!(connection.call(&["SET", &format!("w{n}"), "1"]), "+OK\r\n");
    }
    assert_eq!(connection.call(&["WAIT", "2", "5000"]), ":2\r\n");
    let on_disk = connection.call(&["WAITAOF", "1", "2", "10000"]);
    assert_eq!(on_disk, "*2\r\n:1\r\n:2\r\n");
    cluster.members[2].kill();
    eventually("the others take it", || {
        (0..20).all(|n| connection.call(&["SET", &format!("w{n}"), "2"]) == "+OK\r\n")
    });
    assert_eq!(connection.call(&["WAIT", "2", "200"]), ":1\r\n");
    cluster.members[2].start(None);
    assert_eq!(connection.call(&["WAIT", "2", "20000"]), ":2\r\n");
    assert!(connection.call(&["WAIT", "x", "1"]).starts_with("-ERR"));
    // Nothing blocks in a transaction.
    connection.call(&["MULTI"]);
    connection.call(&["WAIT", "9", "0"]);
    assert_eq!(connection.call(&["EXEC"]), "*1\r\n:2\r\n");
}

#[test]
fn a_cluster_that_was_stopped_as_a_whole_comes_back_with_everything() {
    let mut cluster = Cluster::start(3, &[]);
    for n in 0..50 {
        assert_eq!(
            call(&cluster, n % 3, &["SET", &format!("k{n}"), "v"]),
            "+OK\r\n"
        );
    }
    assert_eq!(call(&cluster, 0, &["DEL", "k7"]), ":1\r\n");
    cluster
        .members
        .iter_mut()
        .for_each(super::harness::Member::kill);
    cluster
        .members
        .iter_mut()
        .for_each(|member| member.start(None));
    cluster.wait_until_whole();
    let counts = |m| call(&cluster, m, &["INFO", "everything"]).contains("\r\nfilled:1\r\n");
    eventually("every copy counts", || (0..3).all(counts));
    for n in 0..50 {
        let want = if n == 7 { "$-1\r\n" } else { "$1\r\nv\r\n" };
        assert_eq!(call(&cluster, n % 3, &["GET", &format!("k{n}")]), want);
    }
}

#[test]
fn five_nodes_keep_three_copies_and_a_fallback_hands_over_what_it_kept() {
    let mut cluster = Cluster::start(5, &[]);
    cluster.members[4].kill();
    let mut connection = cluster.members[0].connect();
    for n in 0..100 {
        eventually("the write is taken", || {
            connection.call(&["SET", &format!("f{n}"), "1"]) == "+OK\r\n"
        });
    }
    cluster.members[4].start(None);
    cluster.wait_until_whole();
    eventually("no hint is left", || no_hints(&cluster));
    let mut held = 0;
    for n in 0..100 {
        let key = format!("f{n}");
        let owners = call(&cluster, 0, &["RINGWOOD", "OWNERS", &key]);
        for member in 0..5 {
            let is_owner = owners.contains(&cluster.members[member].name);
            let copy = || local(&cluster, member, &key) != b"$-1\r\n";
            let what = format!("owners alone hold {key}: {owners:?}, member {member}");
            eventually(&what, || copy() == is_owner);
            held += usize::from(is_owner);
        }
        assert_eq!(call(&cluster, 4, &["GET", &key]), "$1\r\n1\r\n");
    }
    assert_eq!(held, 300);
}

#[test]
fn a_transaction_over_one_slot_is_one_step_for_everybody() {
    const ROUNDS: usize = 300;
    let cluster = Cluster::start(3, &[]);
    let (done, torn, seen) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    std::thread::scope(|scope| {
        for member in 0..3 {
            let (cluster, done, torn, seen) = (&cluster, &done, &torn, &seen);
            scope.spawn(move || {
                let mut connection = cluster.members[member].connect();
                while !done.load(Ordering::Relaxed) {
                    connection.call(&["MULTI"]);
                    connection.call(&["GET", "{t}a"]);
                    connection.call(&["GET", "{t}b"]);
                    let reply = connection.call(&["EXEC"]);
                    let values: Vec<&str> = reply.split("\r\n").collect();
                    // Array, length, value, length, value.
                    if values.len() == 6 {
                        seen.store(true, Ordering::Relaxed);
                        torn.fetch_or(values[2] != values[4], Ordering::Relaxed);
                    }
                }
            });
        }
        let writers: Vec<_> = (0..3)
            .map(|member| {
                let cluster = &cluster;
                scope.spawn(move || {
                    let mut connection = cluster.members[member].connect();
                    for n in 0..ROUNDS {
                        let value = format!("{member}-{n}");
                        connection.call(&["MULTI"]);
                        connection.call(&["SET", "{t}a", &value]);
                        connection.call(&["INCR", "{t}count"]);
                        connection.call(&["SET", "{t}b", &value]);
                        let reply = connection.call(&["EXEC"]);
                        assert!(reply.starts_with("*3\r\n+OK\r\n:"), "{reply}");
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().expect("a writer");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(seen.load(Ordering::Relaxed), "the readers saw both keys");
    assert!(!torn.load(Ordering::Relaxed), "a reader saw half of it");
    let count = call(&cluster, 0, &["GET", "{t}count"]);
    assert_eq!(count, format!("$3\r\n{}\r\n", 3 * ROUNDS));
}

#[test]
fn watched_keys_of_one_slot_are_compared_in_the_transaction() {
    let cluster = Cluster::start(3, &[]);
    // Many clients count by reading, adding one and writing: no increment may be lost.
    std::thread::scope(|scope| {
        for member in 0..3 {
            let cluster = &cluster;
            scope.spawn(move || {
                let mut connection = cluster.members[member].connect();
                let mut added = 0;
                while added < 50 {
                    connection.call(&["WATCH", "{w}n"]);
                    let now = connection.call(&["GET", "{w}n"]);
                    let now: u64 = now
                        .split("\r\n")
                        .nth(1)
                        .map_or(0, |n| n.parse().unwrap_or(0));
                    connection.call(&["MULTI"]);
                    connection.call(&["SET", "{w}n", &(now + 1).to_string()]);
                    added += u64::from(connection.call(&["EXEC"]).starts_with("*1"));
                }
            });
        }
    });
    assert_eq!(call(&cluster, 0, &["GET", "{w}n"]), "$3\r\n150\r\n");
}

#[test]
fn nodes_meet_and_clusters_do_not_merge() {
    let dir = tempfile::tempdir().expect("a folder");
    let alone = |name: &str| {
        let peer_port = free_port().to_string();
        let flags = [
            "--cluster-enabled",
            "yes",
            "--cluster-secret",
            "a test",
            "--node-name",
            name,
            "--peer-port",
            &peer_port,
        ];
        let server = Server::ringwood(&dir.path().join(name), &flags);
        (server, peer_port)
    };
    let (a, a_peer) = alone("a");
    let (b, _) = alone("b");
    let (c, c_peer) = alone("c");
    let (d, d_peer) = alone("d");
    for server in [&a, &b, &c, &d] {
        eventually("each has a cluster of its own", || {
            let info = server.connect().call(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok\r\n")
        });
    }
    // Of a cluster with fewer members than W all are enough.
    assert_eq!(a.connect().call(&["SET", "k", "1"]), "+OK\r\n");
    // The empty one joins whichever is asked; a node that is only just starting refuses connections.
    let meet = |asked: &Server, other: &Server, peer_port: &str| {
        let port = other.address.port().to_string();
        eventually("they meet", || {
            let words = ["CLUSTER", "MEET", "127.0.0.1", &port, peer_port];
            asked.connect().call(&words) == "+OK\r\n"
        });
    };
    meet(&b, &a, &a_peer);
    meet(&a, &c, &c_peer);
    for server in [&a, &b, &c] {
        eventually("all three know each other", || {
            let info = server.connect().call(&["CLUSTER", "INFO"]);
            info.contains("cluster_known_nodes:3\r\ncluster_answering_nodes:3\r\n")
        });
    }
    assert_eq!(b.connect().call(&["SET", "k", "2"]), "+OK\r\n");
    assert_eq!(c.connect().call(&["GET", "k"]), "$1\r\n2\r\n");
    // A node that has keys of its own stays alone.
    let mut other = d.connect();
    other.call(&["CLIENT", "QUORUM", "R", "1", "W", "1"]);
    assert_eq!(other.call(&["SET", "mine", "1"]), "+OK\r\n");
    let joined = std::process::Command::new(env!("CARGO_BIN_EXE_ringwood"))
        .args([
            "cluster",
            "join",
            &format!("{}@{d_peer}", d.address),
            "--yes",
        ])
        .args(["--address", &b.address.to_string()])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&joined.stderr).into_owned();
    assert!(said.contains("holds keys of its own"), "{said}");
    let wrong = other.call(&["CLUSTER", "MEET", "127.0.0.1", "99999"]);
    assert_eq!(
        wrong,
        "-ERR Invalid node address specified: 127.0.0.1:99999\r\n"
    );
    assert_eq!(other.call(&["GET", "mine"]), "$1\r\n1\r\n");
}

#[test]
fn a_key_that_no_node_can_store_is_refused_by_name_wherever_it_is_asked_for() {
    let cluster = Cluster::start(3, &[]);
    for (nth, len) in [60_001, 65_521, 70_000, 200_000].into_iter().enumerate() {
        let long = char::from(b'a' + nth as u8).to_string().repeat(len);
        for member in 0..3 {
            let mut client = cluster.members[member].connect();
            let refusal = format!("-ERR key is too long: {len} bytes");
            for words in [
                &["GET", &long][..],
                &["SET", &long, "1"],
                &["MGET", "a", &long],
                &["MSET", &long, "1", "b", "2"],
                &["DEL", &long],
                &["RINGWOOD", "EXPLAIN", &long],
                &["RINGWOOD", "LOCAL", &long],
                &["SIBLINGS", &long],
                &["WATCH", "a", &long],
            ] {
                let reply = client.call(words);
                assert!(reply.starts_with(&refusal), "{} {len}: {reply}", words[0]);
            }
            for words in [&["MULTI"][..], &["SET", "a", "1"], &["GET", &long]] {
                assert!(client.call(words).starts_with('+'), "{}", words[0]);
            }
            let reply = client.call(&["EXEC"]);
            assert!(reply.contains("key is too long"), "{reply}");
            assert_eq!(client.call(&["PING"]), "+PONG\r\n");
        }
    }
    for member in 0..3 {
        eventually("clients that have gone count no more", || {
            let info = call(&cluster, member, &["INFO", "clients"]);
            info.contains("connected_clients:1\r\n")
        });
    }
}

#[test]
fn a_node_with_another_secret_is_refused_by_name() {
    let cluster = Cluster::start(3, &[]);
    let stranger = Cluster::stranger_to(&cluster);
    let reply = stranger.connect().call(&["SET", "a", "1"]);
    assert!(reply.starts_with("-CLUSTERDOWN"), "{reply}");
    assert!(call(&cluster, 0, &["CLUSTER", "INFO"]).contains("cluster_known_nodes:3\r\n"));
}

#[test]
fn the_command_line_explains_a_key_and_shows_the_members() {
    let cluster = Cluster::start(3, &[]);
    assert_eq!(call(&cluster, 0, &["SET", "a", "1"]), "+OK\r\n");
    let address = cluster.members[1].address.to_string();
    let run = |args: &[&str]| {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_ringwood"))
            .args(args)
            .args(["--address", &address])
            .output();
        String::from_utf8(program.expect("it runs").stdout).expect("text")
    };
    let explained = run(&["explain", "a"]);
    assert!(explained.contains("copies agree yes") && explained.contains("slot         15495"));
    let status = run(&["cluster", "status"]);
    assert_eq!(status.matches("answers").count(), 2, "{status}");
    assert_eq!(run(&["cluster", "ring"]).lines().count(), 256);
}

#[test]
fn cluster_aware_clients_learn_who_coordinates() {
    let cluster = Cluster::start(3, &[]);
    let slots = call(&cluster, 1, &["CLUSTER", "SLOTS"]);
    assert!(slots.contains("127.0.0.1") && slots.contains("127.0.0.3"));
    let nodes = call(&cluster, 2, &["CLUSTER", "NODES"]);
    assert_eq!(nodes.matches("master").count(), 3);
    assert_eq!(nodes.matches("myself").count(), 1);
    assert_eq!(
        call(&cluster, 0, &["CLUSTER", "KEYSLOT", "{user}x"]),
        ":5474\r\n"
    );
    assert_eq!(call(&cluster, 0, &["SET", "{user}x", "1"]), "+OK\r\n");
    eventually("the second owner counts it", || {
        call(&cluster, 1, &["CLUSTER", "COUNTKEYSINSLOT", "5474"]) == ":1\r\n"
    });
    eventually("the third owner has it too", || {
        call(&cluster, 2, &["CLUSTER", "GETKEYSINSLOT", "5474", "10"]) == "*1\r\n$7\r\n{user}x\r\n"
    });
}

#[test]
fn a_read_does_not_wait_for_a_coordinator_that_hangs() {
    let cluster = Cluster::start(4, &["--request-timeout-ms", "3000"]);
    let mut client = cluster.members[3].connect();
    let line = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name} in {text}"))
            .to_owned()
    };
    let mut keys = Vec::new();
    for n in 0..60 {
        let key = format!("key:{n}");
        assert_eq!(client.call(&["SET", &key, "v"]), "+OK\r\n");
        let explained = client.call(&["RINGWOOD", "EXPLAIN", &key]);
        let (owners, first) = (line(&explained, "owners"), line(&explained, "coordinator"));
        if first.contains("node-2") && !owners.contains("node-4") {
            keys.push(key);
        }
    }
    assert!(
        !keys.is_empty(),
        "node-2 coordinates keys that node-4 does not own"
    );
    let hung = cluster.members[1].server.as_ref().expect("it runs");
    hung.signal("STOP");
    for key in &keys {
        let said = client.call(&["GET", key]);
        assert_eq!(said, "$1\r\nv\r\n", "{key}");
        assert_eq!(
            client.call(&["MGET", key, key]),
            "*2\r\n$1\r\nv\r\n$1\r\nv\r\n"
        );
    }
    hung.signal("CONT");
}

/// Two that run the commands on a key without knowing of each other would both give its lock away.
#[test]
fn who_is_back_is_known_to_all_before_it_runs_anything() {
    let mut cluster = Cluster::start(3, &[]);
    for back in [0, 1, 2, 0] {
        cluster.members[back].kill();
        let others = [(back + 1) % 3, (back + 2) % 3];
        let knows = |member: usize, count: usize| {
            let info = call(&cluster, member, &["CLUSTER", "INFO"]);
            info.contains(&format!("cluster_answering_nodes:{count}\r\n"))
        };
        eventually("both know that it is gone", || {
            others.iter().all(|member| knows(*member, 2))
        });
        cluster.members[back].start(None);
        // Among so many keys are some that it coordinates.
        let mut client = cluster.members[back].connect();
        for n in 0..30 {
            assert_eq!(client.call(&["SET", &format!("k{n}"), "v"]), "+OK\r\n");
        }
        for member in others {
            let info = call(&cluster, member, &["CLUSTER", "INFO"]);
            assert!(info.contains("cluster_answering_nodes:3\r\n"), "{info}");
        }
    }
}

#[test]
fn a_node_behind_another_address_is_known_by_that() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = [
        "--cluster-enabled",
        "yes",
        "--cluster-secret",
        "s",
        "--peer-port",
        &free_port().to_string(),
        "--cluster-announce-ip",
        "192.0.2.7",
        "--cluster-announce-port",
        "6390",
        "--cluster-announce-bus-port",
        "16390",
    ];
    let server = Server::ringwood(dir.path(), &flags);
    let mut client = server.connect();
    eventually("it has a cluster", || {
        client
            .call(&["CLUSTER", "INFO"])
            .contains("cluster_state:ok")
    });
    let nodes = client.call(&["CLUSTER", "NODES"]);
    assert!(nodes.contains("192.0.2.7:6390@16390"), "{nodes}");
    let slots = client.call(&["CLUSTER", "SLOTS"]);
    assert!(slots.contains("$9\r\n192.0.2.7\r\n:6390\r\n"), "{slots}");
}
