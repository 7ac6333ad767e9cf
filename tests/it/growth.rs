//! A cluster grows, shrinks and has members replaced while clients write; transfers are killed; copies
//! are made and put back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::harness::{Cluster, eventually};

const FEW: &[&str] = &["--partitions", "16"];

fn call(cluster: &Cluster, member: usize, args: &[&str]) -> String {
    cluster.members[member].connect().call(args)
}

/// What every member takes over and gives up.
fn transfers(cluster: &Cluster, member: usize) -> Vec<Value> {
    all_transfers(cluster, member)["nodes"]
        .as_array()
        .expect("nodes")
        .clone()
}

fn all_transfers(cluster: &Cluster, member: usize) -> Value {
    let reply = call(cluster, member, &["RINGWOOD", "TRANSFERS", "JSON"]);
    let json = reply.split_once("\r\n").map_or("", |(_, json)| json);
    serde_json::from_str(json.trim()).expect("JSON")
}

fn is_still(cluster: &Cluster, member: usize) -> bool {
    let moves = |node: &Value| {
        ["taking", "waiting_for_others", "giving_up", "dropping"]
            .iter()
            .any(|field| node[*field].as_u64() != Some(0))
            || node["leaving"] == Value::Bool(true)
    };
    let all = all_transfers(cluster, member);
    let mut nodes = all["nodes"].as_array().expect("nodes").iter();
    all["unsettled"].as_u64() == Some(0)
        && nodes.all(|node| node["answers"] == Value::Bool(true) && !moves(node))
}

/// Does a change, and waits until nothing moves any more.
fn change(cluster: &Cluster, member: usize, words: &[&str]) {
    let plan = [&["RINGWOOD", "PLAN"], words].concat();
    let shown = call(cluster, member, &plan);
    assert!(shown.contains("Nothing has happened yet"), "{shown}");
    let done = call(cluster, member, &["RINGWOOD", "PLAN", "COMMIT"]);
    assert!(done.contains("committed"), "{done}");
    eventually("nothing moves any more", || is_still(cluster, member));
}

fn loads(cluster: &Cluster, member: usize) -> BTreeMap<String, u64> {
    let ring = call(cluster, member, &["RINGWOOD", "RING"]);
    let mut loads = BTreeMap::new();
    for line in ring.lines().filter(|line| line.starts_with("partition")) {
        for name in line.split_whitespace().skip(2) {
            *loads.entry(name.to_owned()).or_default() += 1;
        }
    }
    loads
}

fn is_fair(cluster: &Cluster, member: usize, count: usize) {
    let loads = loads(cluster, member);
    assert_eq!(loads.len(), count, "{loads:?}");
    let (least, most) = (loads.values().min(), loads.values().max());
    assert!(most.unwrap_or(&0) - least.unwrap_or(&0) <= 1, "{loads:?}");
}

fn is_equal(cluster: &Cluster, member: usize) {
    eventually("all copies are equal", || {
        let verified = call(cluster, member, &["RINGWOOD", "VERIFY"]);
        verified.trim().ends_with("compared 16")
    });
}

/// Writes and reads back, until told to stop, through nodes that stay; what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<std::thread::JoinHandle<BTreeMap<String, String>>>,
}

impl Load {
    fn on(cluster: &Cluster, members: &[usize]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = |(nth, member): (usize, &usize)| {
            let (stop, mut connection) = (Arc::clone(&stop), cluster.members[*member].connect());
            std::thread::spawn(move || {
                let mut acknowledged = BTreeMap::new();
                for n in 0u64.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let (key, value) = (format!("load:{nth}:{}", n % 500), n.to_string());
                    let reply = connection.call(&["SET", &key, &value]);
                    assert_eq!(reply, "+OK\r\n", "{key}");
                    let shown = connection.call(&["GET", &key]);
                    assert_eq!(shown, format!("${}\r\n{value}\r\n", value.len()), "{key}");
                    acknowledged.insert(key, value);
                }
                acknowledged
            })
        };
        let writers = members.iter().enumerate().map(writer).collect();
        Self { stop, writers }
    }

    fn end(self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::Release);
        let ended = self
            .writers
            .into_iter()
            .map(|w| w.join().expect("no error reply"));
        ended.flatten().collect()
    }
}

#[test]
fn a_cluster_grows_and_shrinks_under_load_and_nothing_is_refused_or_lost() {
    let mut cluster = Cluster::start(1, FEW);
    let load = Load::on(&cluster, &[0, 0]);
    cluster.add_alone(FEW);
    cluster.add_alone(FEW);
    let [two, three] = [1, 2].map(|nth| cluster.members[nth].plan_address());
    change(&cluster, 0, &["JOIN", &two, &three]);
    is_fair(&cluster, 0, 3);
    cluster.add_alone(FEW);
    let four = cluster.members[3].plan_address();
    change(&cluster, 1, &["JOIN", &four]);
    is_fair(&cluster, 0, 4);
    change(&cluster, 3, &["LEAVE", "node-2"]);
    is_fair(&cluster, 0, 3);
    // It may stop now; its clients would not have noticed anything.
    assert!(
        cluster.members[1]
            .server
            .take()
            .expect("it runs")
            .terminate()
    );
    eventually("who has left and stopped is gone", || {
        call(&cluster, 0, &["CLUSTER", "INFO"]).contains("cluster_known_nodes:3\r\n")
    });
    cluster.add_alone(FEW);
    let five = cluster.members[4].plan_address();
    change(&cluster, 0, &["REPLACE", "node-3", &five]);
    let owners = loads(&cluster, 0);
    assert!(
        owners.contains_key("node-5") && !owners.contains_key("node-3"),
        "{owners:?}"
    );
    let acknowledged = load.end();
    assert!(acknowledged.len() > 100);
    is_equal(&cluster, 0);
    for member in [0, 3, 4] {
        let mut connection = cluster.members[member].connect();
        for (key, value) in &acknowledged {
            let shown = connection.call(&["GET", key]);
            assert_eq!(shown, format!("${}\r\n{value}\r\n", value.len()), "{key}");
        }
    }
}

#[test]
fn a_transfer_whose_sides_are_killed_goes_on_where_it_had_stopped() {
    let mut cluster = Cluster::start(1, &["--partitions", "1"]);
    let mut connection = cluster.members[0].connect();
    let value = "x".repeat(1_000);
    for n in 0..2_000 {
        let reply = connection.call(&["SET", &format!("key:{n}"), &value]);
        assert_eq!(reply, "+OK\r\n");
    }
    // About two seconds for the whole, in pieces of a quarter.
    cluster.add_alone(&["--partitions", "1", "--transfer-rate", "600kb"]);
    let two = cluster.members[1].plan_address();
    assert!(call(&cluster, 0, &["RINGWOOD", "PLAN", "JOIN", &two]).contains("1 copies"));
    assert!(call(&cluster, 0, &["RINGWOOD", "PLAN", "COMMIT"]).contains("committed"));
    let part = |cluster: &Cluster| -> Option<Value> {
        let all = transfers(cluster, 1);
        let node = all.iter().find(|node| node["node"] == "node-2")?;
        node["parts"].as_array()?.first().cloned()
    };
    let rows = |cluster: &Cluster| part(cluster).and_then(|p| p["rows"].as_u64()).unwrap_or(0);
    eventually("the transfer is under way", || rows(&cluster) > 0);
    let before = rows(&cluster);
    cluster.members[1].kill();
    cluster.members[1].start(None);
    eventually("it goes on", || {
        let part = part(&cluster);
        part.is_some_and(|p| {
            p["resumed"] == Value::Bool(true) && p["rows"].as_u64() >= Some(before)
        })
    });
    let before = rows(&cluster);
    cluster.members[0].kill();
    cluster.members[0].start(None);
    eventually("nothing moves any more", || {
        let part = part(&cluster);
        assert!(part.is_none_or(|p| p["rows"].as_u64() >= Some(before)));
        is_still(&cluster, 1)
    });
    for n in (0..2_000).step_by(97) {
        let shown = call(&cluster, 1, &["GET", &format!("key:{n}")]);
        assert_eq!(shown.len(), value.len() + 9, "key:{n}");
    }
}

#[test]
fn a_plan_is_shown_and_withdrawn_and_good_for_one_membership_only() {
    let mut cluster = Cluster::start(3, FEW);
    cluster.add_alone(FEW);
    let four = cluster.members[3].plan_address();
    let shown = call(&cluster, 0, &["RINGWOOD", "PLAN", "JOIN", &four]);
    for wanted in [
        "plan         join node-4",
        "moves        12 copies",
        "violations   none",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
    assert_eq!(loads(&cluster, 0).len(), 3);
    let withdrawn = call(&cluster, 0, &["RINGWOOD", "PLAN", "CANCEL"]);
    assert!(withdrawn.contains("withdrawn"), "{withdrawn}");
    let nothing = call(&cluster, 0, &["RINGWOOD", "PLAN", "COMMIT"]);
    assert_eq!(nothing, "-ERR nothing is planned\r\n");
    // Two nodes plan, one commits.
    call(&cluster, 0, &["RINGWOOD", "PLAN", "JOIN", &four]);
    let epoch = || {
        let info = call(&cluster, 0, &["CLUSTER", "INFO"]);
        info.lines()
            .find(|line| line.starts_with("cluster_current_epoch"))
            .map(str::to_owned)
    };
    let before = epoch();
    change(&cluster, 1, &["WEIGHT", "node-1", "2"]);
    eventually("the other hears of it", || epoch() != before);
    let late = call(&cluster, 0, &["RINGWOOD", "PLAN", "COMMIT"]);
    assert!(late.contains("plan again"), "{late}");
    let leaves = call(&cluster, 0, &["RINGWOOD", "PLAN", "LEAVE", "node-2"]);
    assert!(
        leaves.contains("2 members cannot hold 3 copies"),
        "{leaves}"
    );
    for (words, error) in [
        (&["LEAVE", "nobody"][..], "-ERR Unknown node nobody\r\n"),
        (
            &["REMOVE", "node-2"],
            "-ERR node-2 answers: only a member that is gone",
        ),
        (
            &["WEIGHT", "node-2", "0"],
            "-ERR weight must be between 1 and 1000\r\n",
        ),
        (&["JOIN"], "-ERR syntax error\r\n"),
        (
            &["JOIN", "nowhere"],
            "-ERR Invalid node address specified: nowhere\r\n",
        ),
    ] {
        let reply = call(&cluster, 0, &[&["RINGWOOD", "PLAN"], words].concat());
        assert!(reply.starts_with(error), "{words:?}: {reply}");
    }
    // Who is to leave hands over by itself.
    cluster.members[2].kill();
    eventually("a silent member cannot leave", || {
        call(&cluster, 0, &["RINGWOOD", "PLAN", "LEAVE", "node-3"]).contains("does not answer")
    });
    let removed = call(&cluster, 0, &["RINGWOOD", "PLAN", "REMOVE", "node-3"]);
    assert!(removed.starts_with('$'), "{removed}");
}

#[test]
fn a_node_that_is_asked_to_stop_hands_over_first_and_nobody_notices() {
    let mut cluster = Cluster::start(3, FEW);
    let load = Load::on(&cluster, &[0, 1]);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(300));
        assert!(
            cluster.members[2]
                .server
                .take()
                .expect("it runs")
                .terminate()
        );
        cluster.members[2].start(None);
        cluster.wait_until_whole();
    }
    let acknowledged = load.end();
    assert!(!acknowledged.is_empty());
    is_equal(&cluster, 0);
}

#[test]
fn nodes_of_two_wire_versions_are_one_cluster() {
    let mut cluster = Cluster::start(2, FEW);
    let older = [FEW, &["--peer-wire-version", "2"]].concat();
    cluster.add(&older);
    cluster.wait_until_whole();
    for member in 0..3 {
        let key = format!("key:{member}");
        assert_eq!(call(&cluster, member, &["SET", &key, "v"]), "+OK\r\n");
        for other in 0..3 {
            assert_eq!(call(&cluster, other, &["GET", &key]), "$1\r\nv\r\n");
        }
    }
    // A counter's second increment is a row that older nodes cannot read: it is not sent to them, and
    // nobody is told that it counts where too few others have it.
    let replies: Vec<String> = (0..9)
        .map(|n| call(&cluster, n % 3, &["INCR", "counter"]))
        .collect();
    let counted = replies
        .iter()
        .filter(|reply| reply.starts_with(':'))
        .count();
    assert!(
        replies.iter().all(|r| r.starts_with([':', '-'])),
        "{replies:?}"
    );
    // One after the other is upgraded.
    cluster.members[2].kill();
    assert_eq!(call(&cluster, 0, &["SET", "key:0", "w"]), "+OK\r\n");
    let upgraded = &mut cluster.members[2];
    upgraded.flags.truncate(upgraded.flags.len() - 2);
    upgraded.start(None);
    cluster.wait_until_whole();
    assert_eq!(call(&cluster, 2, &["GET", "key:0"]), "$1\r\nw\r\n");
    is_equal(&cluster, 2);
    let counter = call(&cluster, 2, &["GET", "counter"]);
    let counter: usize = counter
        .split("\r\n")
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(
        (counted..=replies.len()).contains(&counter),
        "{counter}: {replies:?}"
    );
}

#[test]
fn a_copy_made_while_clients_write_is_put_back_as_a_new_actor() {
    let mut cluster = Cluster::start(3, FEW);
    let mut connection = cluster.members[0].connect();
    for n in 0..300 {
        assert_eq!(
            connection.call(&["SET", &format!("key:{n}"), "before"]),
            "+OK\r\n"
        );
    }
    let load = Load::on(&cluster, &[1]);
    let copies: Vec<_> = (0..3)
        .map(|nth| cluster.members[nth].dir.with_extension("copy"))
        .collect();
    for (nth, copy) in copies.iter().enumerate() {
        let copy = copy.display().to_string();
        let made = call(&cluster, nth, &["RINGWOOD", "SNAPSHOT", &copy]);
        assert!(made.contains("rows in"), "{made}");
        let again = call(&cluster, nth, &["RINGWOOD", "SNAPSHOT", &copy]);
        assert!(again.contains("is there already"), "{again}");
    }
    load.end();
    let actor = |cluster: &Cluster| {
        let status = call(cluster, 0, &["RINGWOOD", "STATUS"]);
        status
            .lines()
            .find(|line| line.starts_with("actor"))
            .map(str::to_owned)
    };
    let before = actor(&cluster);
    // The whole cluster is lost, and put back.
    for (member, copy) in cluster.members.iter_mut().zip(&copies) {
        member.kill();
        std::fs::remove_dir_all(&member.dir).expect("it was there");
        let restored = std::process::Command::new(env!("CARGO_BIN_EXE_ringwood"))
            .arg("restore")
            .arg(copy)
            .arg("--dir")
            .arg(&member.dir)
            .output()
            .expect("it runs");
        assert!(restored.status.success(), "{restored:?}");
    }
    for member in &mut cluster.members {
        member.start(None);
    }
    cluster.wait_until_whole();
    eventually("all copies are proven", || is_still(&cluster, 0));
    assert_ne!(actor(&cluster), before);
    let mut connection = cluster.members[2].connect();
    for n in 0..300 {
        let shown = connection.call(&["GET", &format!("key:{n}")]);
        assert_eq!(shown, "$6\r\nbefore\r\n", "key:{n}");
    }
    is_equal(&cluster, 0);
}

/// The calls of a command that a member has run.
/// How many reads each of six members has coordinated.
fn reads_by_member(cluster: &Cluster) -> Vec<u64> {
    let reads = |nth| cluster.info(nth, "quorum_reads").parse().expect("a number");
    (0..6).map(reads).collect()
}

#[test]
fn with_three_zones_every_key_has_a_copy_in_each_and_reads_stay_in_the_clients_zone() {
    let mut cluster = Cluster::start(1, &[FEW, &["--zone", "a"]].concat());
    for zone in ["a", "b", "b", "c", "c"] {
        cluster.add(&[FEW, &["--zone", zone]].concat());
    }
    cluster.wait_until_whole();
    eventually("nothing moves any more", || is_still(&cluster, 0));
    let zones: BTreeMap<&str, &str> = [
        ("node-1", "a"),
        ("node-2", "a"),
        ("node-3", "b"),
        ("node-4", "b"),
        ("node-5", "c"),
        ("node-6", "c"),
    ]
    .into();
    let ring = call(&cluster, 0, &["RINGWOOD", "RING"]);
    let lines = || ring.lines().filter(|line| line.starts_with("partition"));
    assert_eq!(lines().count(), 16);
    for line in lines() {
        let owners = line.split_whitespace().skip(2);
        let mut owners: Vec<&str> = owners.filter_map(|name| zones.get(name).copied()).collect();
        owners.sort_unstable();
        assert_eq!(owners, ["a", "b", "c"], "{line}");
    }
    let mut client = cluster.members[0].connect();
    for nth in 0..200 {
        let reply = client.call(&["SET", &format!("key-{nth}"), "v"]);
        assert_eq!(reply, "+OK\r\n");
    }
    let before = reads_by_member(&cluster);
    for nth in 0..200 {
        let reply = client.call(&["GET", &format!("key-{nth}")]);
        assert_eq!(reply, "$1\r\nv\r\n");
    }
    let after = reads_by_member(&cluster);
    let calls: Vec<u64> = after
        .iter()
        .zip(before)
        .map(|(now, then)| now - then)
        .collect();
    assert!(calls[0] > 0 && calls[1] > 0, "{calls:?}");
    assert_eq!(calls[2..], [0, 0, 0, 0], "reads left the zone: {calls:?}");
}

#[test]
fn a_dead_member_is_replaced_and_those_who_keep_its_hints_are_rid_of_them() {
    let mut cluster = Cluster::start(5, FEW);
    cluster.members[2].kill();
    eventually("everybody knows that it is dead", || {
        call(&cluster, 0, &["CLUSTER", "INFO"]).contains("cluster_answering_nodes:4\r\n")
    });
    let mut client = cluster.members[0].connect();
    let keys: Vec<String> = (0..400).map(|n| format!("key:{n}")).collect();
    for key in &keys {
        assert_eq!(client.call(&["SET", key, "v"]), "+OK\r\n");
    }
    let hints = |cluster: &Cluster| -> u64 {
        let kept = |member| {
            cluster
                .info(member, "hints")
                .parse::<u64>()
                .expect("a number")
        };
        [0, 1, 3, 4].into_iter().map(kept).sum()
    };
    assert!(hints(&cluster) > 50);
    cluster.add_alone(FEW);
    let six = cluster.members[5].plan_address();
    call(
        &cluster,
        0,
        &["RINGWOOD", "PLAN", "REPLACE", "node-3", &six],
    );
    let done = call(&cluster, 0, &["RINGWOOD", "PLAN", "COMMIT"]);
    assert!(done.contains("committed"), "{done}");
    let settled = |node: &Value| {
        node["answers"] == Value::Bool(false)
            || ["taking", "waiting_for_others", "giving_up", "dropping"]
                .iter()
                .all(|field| node[*field].as_u64() == Some(0))
    };
    eventually("everything has settled, the dead one aside", || {
        let all = all_transfers(&cluster, 0);
        let nodes = all["nodes"].as_array().expect("nodes");
        all["unsettled"].as_u64() == Some(0) && nodes.iter().all(settled)
    });
    eventually("nobody keeps hints", || hints(&cluster) == 0);
    for key in &keys {
        assert_eq!(call(&cluster, 5, &["GET", key]), "$1\r\nv\r\n", "{key}");
    }
}
