//! redis-rs's cluster client against three nodes: `redis_rs_cluster HOST PORT`, any one of them.
//! Empties database 0.

use std::fmt::Debug;
use std::process::ExitCode;

use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use redis::{Client, RedisResult, TypedCommands, cmd};

const KEYS: usize = 300;
/// Of 600 commands.
const MAY_BE_HANDED_ON: u64 = 6;

#[derive(Default)]
struct Checks {
    passed: u32,
    failed: u32,
}

impl Checks {
    fn eq<T: PartialEq + Debug>(&mut self, what: &str, got: RedisResult<T>, want: T) {
        if got.as_ref().is_ok_and(|got| *got == want) {
            self.passed += 1;
        } else {
            self.failed += 1;
            eprintln!("FAILED {what}: want {want:?}, got {got:?}");
        }
    }
}

/// How many commands the nodes have handed on.
fn forwarded(nodes: &[Client]) -> RedisResult<u64> {
    let mut total = 0;
    for node in nodes {
        let info: String = cmd("INFO")
            .arg("ringwood")
            .query(&mut node.get_connection()?)?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("forwarded_commands:"));
        total += line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

fn all(t: &mut Checks, r: &mut ClusterConnection, nodes: &[Client]) {
    let before = forwarded(nodes).expect("INFO");
    for n in 0..KEYS {
        let key = format!("key:{n}");
        t.eq("SET", r.set(&key, n), ());
        t.eq("GET", r.get(&key), Some(n.to_string()));
    }
    // A node may suspect another for a moment.
    let more = forwarded(nodes).map(|now| now - before <= MAY_BE_HANDED_ON);
    t.eq("hardly a command is handed on", more, true);
    t.eq("INCR", r.incr("n", 5), 5);
    t.eq("APPEND", r.append("text", "abc"), 3);
    t.eq("MSET", r.mset(&[("{user}a", "1"), ("{user}b", "2")]), ());
    let got = r.mget(vec!["{user}a", "{user}b"]);
    t.eq(
        "MGET",
        got,
        vec![Some("1".to_owned()), Some("2".to_owned())],
    );
    t.eq(
        "MGET over all slots",
        r.mget(vec!["key:1", "key:2", "key:3"]).map(|v| v.len()),
        3,
    );
    t.eq("DEL", r.del(vec!["{user}a", "{user}b"]), 2);
    let mut pipe = cluster_pipe();
    for n in 0..50 {
        pipe.set(format!("pipe:{n}"), n)
            .ignore()
            .get(format!("pipe:{n}"));
    }
    t.eq("pipeline", pipe.query(r), (0..50).collect::<Vec<i64>>());
    let siblings: RedisResult<(String, Vec<String>)> = cmd("SIBLINGS").arg("{own}k").query(r);
    let (context, values) = siblings.expect("SIBLINGS");
    t.eq("SIBLINGS", Ok(values), Vec::new());
    let mut resolve = cmd("RESOLVE");
    let resolved: RedisResult<(String, i64)> =
        resolve.arg("{own}k").arg(context).arg("milk").query(r);
    t.eq("RESOLVE", resolved.map(|(_, count)| count), 1);
    t.eq("GET", r.get("{own}k"), Some("milk".to_owned()));
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, ..] = words.as_slice() else {
        eprintln!("usage: redis_rs_cluster HOST PORT");
        return ExitCode::FAILURE;
    };
    let mut t = Checks::default();
    for protocol in ["resp2", "resp3"] {
        let url = |host: &str| format!("redis://{host}:{port}/?protocol={protocol}");
        let one = Client::open(url(host)).expect("a URL");
        let flushed: RedisResult<()> =
            cmd("FLUSHDB").query(&mut one.get_connection().expect("a connection"));
        t.eq("FLUSHDB", flushed, ());
        let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
        let nodes: Vec<Client> = hosts
            .iter()
            .map(|h| Client::open(url(h)).expect("a URL"))
            .collect();
        let client = ClusterClient::new(vec![url(host)]).expect("a client");
        match client.get_connection() {
            Ok(mut connection) => all(&mut t, &mut connection, &nodes),
            Err(error) => t.eq("connect", Err(error), ()),
        }
    }
    println!("redis_rs_cluster: {} passed, {} failed", t.passed, t.failed);
    if t.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
