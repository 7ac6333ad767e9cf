//! Events of keys: beside Redis's own, and over three nodes.

use super::harness::{Clock, Cluster, Connection, Server};

/// One command a line.
const COMMANDS: &str = include_str!("fixtures/events.txt");
/// What is published behind each command, so that it is known when all of its events have come.
const END: &str = "__keyend";

fn listener(mut connection: Connection) -> Connection {
    connection.say("PSUBSCRIBE __key*");
    assert!(connection.hear().contains("psubscribe"));
    connection
}

/// Each message as its channel and its text.
fn message(connection: &mut Connection) -> (String, String) {
    let said = connection.hear();
    let words = super::harness::bulks(&said);
    (words[2].clone(), words[3].clone())
}

/// What is heard of each command.
fn heard(server: &Server) -> Vec<(String, Vec<(String, String)>)> {
    let (mut client, mut speaker) = (server.connect(), server.connect());
    client.call(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
    let mut listener = listener(server.connect());
    let mut all = Vec::new();
    for line in COMMANDS.lines() {
        client.say(line);
        client.hear();
        speaker.call(&["PUBLISH", END, "x"]);
        let mut events = Vec::new();
        loop {
            let event = message(&mut listener);
            if event.0 == END {
                break;
            }
            events.push(event);
        }
        all.push((line.to_owned(), events));
    }
    all
}

#[test]
fn what_changes_a_key_says_what_it_says_in_redis() {
    let (here, there) = (tempfile::tempdir(), tempfile::tempdir());
    let (here, there) = (here.expect("a folder"), there.expect("a folder"));
    let ringwood = Server::ringwood(here.path(), &[]);
    let redis = Server::redis_under(&Clock::new(), there.path());
    for (ours, theirs) in heard(&ringwood).into_iter().zip(heard(&redis)) {
        assert_eq!(ours, theirs);
    }
}

#[test]
fn which_events_are_published_is_said_in_redis_letters() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--notify-keyspace-events", "Elg"]);
    let mut client = server.connect();
    let said = client.call(&["CONFIG", "GET", "notify-keyspace-events"]);
    assert!(said.contains("\r\nglE\r\n"), "{said}");
    let wrong = client.call(&["CONFIG", "SET", "notify-keyspace-events", "KEQ"]);
    assert!(wrong.contains("Invalid event class character"), "{wrong}");
    let mut listener = listener(server.connect());
    for line in ["SET k v", "LPUSH l a", "DEL k"] {
        client.say(line);
        client.hear();
    }
    assert_eq!(
        message(&mut listener),
        ("__keyevent@0__:lpush".into(), "l".into())
    );
    assert_eq!(
        message(&mut listener),
        ("__keyevent@0__:del".into(), "k".into())
    );
}

#[test]
fn every_event_is_heard_once_at_every_node_wherever_it_happens() {
    let cluster = Cluster::start(3, &["--notify-keyspace-events", "Egx$"]);
    let mut listeners: Vec<Connection> = cluster
        .members
        .iter()
        .map(|member| listener(member.connect()))
        .collect();
    for n in 0..30 {
        let key = format!("k{n:02}");
        assert_eq!(
            cluster.call(n % 3, &["SET", &key, "v", "PX", "50"]),
            "+OK\r\n"
        );
    }
    // For each key: it was set, it is to end, it has ended.
    for listener in &mut listeners {
        let mut heard: Vec<(String, String)> = (0..90).map(|_| message(listener)).collect();
        heard.sort();
        for (nth, event) in ["expire", "expired", "set"].into_iter().enumerate() {
            for n in 0..30 {
                let expected = (format!("__keyevent@0__:{event}"), format!("k{n:02}"));
                assert_eq!(heard[30 * nth + n], expected);
            }
        }
    }
    cluster.call(0, &["PUBLISH", END, "x"]);
    for listener in &mut listeners {
        assert_eq!(message(listener).0, END, "nothing comes twice");
    }
}
