//! Publish and subscribe: beside Redis's own, and over three nodes.

use super::harness::{Clock, Cluster, Connection, Member, Server, eventually};

/// What a listener (0) and a speaker (1) send, and how many replies and messages they read then.
const CONVERSATION: &[(usize, &str, usize, usize)] = &[
    (0, "SUBSCRIBE x y x", 3, 0),
    (0, "PSUBSCRIBE n*", 1, 0),
    (0, "SSUBSCRIBE sh", 1, 0),
    (0, "GET k", 1, 0),
    (0, "PING", 1, 0),
    (0, "PING hi", 1, 0),
    (1, "PUBLISH x m", 1, 1),
    (1, "PUBLISH news m", 1, 1),
    (1, "PUBLISH nobody m", 1, 1),
    (1, "PUBLISH other m", 1, 0),
    (1, "SPUBLISH sh m", 1, 1),
    (1, "PUBLISH sh m", 1, 0),
    (1, "PUBSUB CHANNELS x*", 1, 0),
    (1, "PUBSUB CHANNELS a b", 1, 0),
    (1, "PUBSUB NUMSUB x q", 1, 0),
    (1, "PUBSUB NUMSUB", 1, 0),
    (1, "PUBSUB NUMPAT", 1, 0),
    (1, "PUBSUB SHARDCHANNELS", 1, 0),
    (1, "PUBSUB SHARDNUMSUB sh", 1, 0),
    (1, "PUBSUB", 1, 0),
    (1, "PUBSUB NOPE", 1, 0),
    (1, "SUBSCRIBE", 1, 0),
    (0, "UNSUBSCRIBE x zz", 2, 0),
    (0, "UNSUBSCRIBE", 1, 0),
    (0, "UNSUBSCRIBE", 1, 0),
    (0, "PUNSUBSCRIBE", 1, 0),
    (0, "PUNSUBSCRIBE", 1, 0),
    (0, "SUNSUBSCRIBE", 1, 0),
    (0, "SUNSUBSCRIBE", 1, 0),
    (0, "PING", 1, 0),
    (0, "GET k", 1, 0),
    (0, "MULTI", 1, 0),
    (0, "SUBSCRIBE m1", 1, 0),
    (0, "EXEC", 1, 0),
    (1, "PUBLISH m1 in", 1, 1),
    (1, "MULTI", 1, 0),
    (1, "PUBLISH m1 queued", 1, 0),
    (1, "EXEC", 1, 1),
    (0, "RESET", 1, 0),
    (0, "GET k", 1, 0),
    (1, "PUBLISH m1 gone", 1, 0),
    (0, "SUBSCRIBE x", 1, 0),
    (0, "QUIT", 1, 0),
];

#[test]
fn listeners_and_speakers_are_told_what_redis_tells_them() {
    let (here, there) = (tempfile::tempdir(), tempfile::tempdir());
    let (here, there) = (here.expect("a folder"), there.expect("a folder"));
    let ringwood = Server::ringwood(here.path(), &[]);
    let redis = Server::redis_under(&Clock::new(), there.path());
    for protocol in ["2", "3"] {
        let talk = |server: &Server| -> Vec<String> {
            let mut both = [server.connect(), server.connect()];
            for connection in &mut both {
                connection.call(&["HELLO", protocol]);
            }
            let mut said = Vec::new();
            for (who, line, replies, messages) in CONVERSATION {
                both[*who].say(line);
                let replies = (0..*replies).map(|_| both[*who].hear()).collect::<Vec<_>>();
                said.push(format!("{line}: {replies:?}"));
                let messages = (0..*messages).map(|_| both[0].hear()).collect::<Vec<_>>();
                said.push(format!("{line}, heard: {messages:?}"));
            }
            said
        };
        let (ours, theirs) = (talk(&ringwood), talk(&redis));
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!(a, b, "RESP{protocol}");
        }
    }
}

#[test]
fn a_message_comes_to_listeners_of_every_node_once_and_in_order() {
    let mut cluster = Cluster::start(3, &[]);
    let mut listeners: Vec<Connection> = cluster.members.iter().map(Member::connect).collect();
    for listener in &mut listeners {
        listener.say("SUBSCRIBE room");
        assert!(listener.hear().contains("subscribe"));
    }
    listeners[1].say("PSUBSCRIBE r*m");
    assert!(listeners[1].hear().contains("psubscribe"));
    for n in 0..30 {
        let said = cluster.call(n % 3, &["PUBLISH", "room", &format!("m{n:02}")]);
        assert_eq!(said, ":4\r\n");
    }
    for (nth, listener) in listeners.iter_mut().enumerate() {
        for n in 0..30 {
            let message = format!("*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$3\r\nm{n:02}\r\n");
            assert_eq!(listener.hear(), message);
            if nth == 1 {
                assert!(
                    listener
                        .hear()
                        .starts_with("*4\r\n$8\r\npmessage\r\n$3\r\nr*m\r\n")
                );
            }
        }
    }
    assert_eq!(
        cluster.call(2, &["PUBSUB", "CHANNELS"]),
        "*1\r\n$4\r\nroom\r\n"
    );
    assert_eq!(
        cluster.call(0, &["PUBSUB", "NUMSUB", "room"]),
        "*2\r\n$4\r\nroom\r\n:3\r\n"
    );
    assert_eq!(cluster.call(0, &["PUBSUB", "NUMPAT"]), ":1\r\n");
    // Who leaves is sent nothing; neither is a node where nobody listens.
    drop(listeners.remove(1));
    eventually("its node has noticed", || {
        cluster.call(0, &["PUBLISH", "room", "x"]) == ":2\r\n"
    });
    // A node that was away, and its new listeners, are found again.
    cluster.members[2].kill();
    cluster.members[2].start(None);
    cluster.wait_until_whole();
    let mut listener = cluster.members[2].connect();
    listener.say("SUBSCRIBE room");
    assert!(listener.hear().contains("subscribe"));
    assert_eq!(cluster.call(1, &["PUBLISH", "room", "y"]), ":2\r\n");
    assert!(listener.hear().contains("\r\ny\r\n"));
}

#[test]
fn a_listener_that_does_not_read_is_cut_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let limit = ["--client-output-buffer-limit", "pubsub 1048576 0 0"];
    let server = Server::ringwood(dir.path(), &limit);
    let (mut deaf, mut listener) = (server.connect(), server.connect());
    let mut speaker = server.connect();
    for connection in [&mut deaf, &mut listener] {
        connection.say("SUBSCRIBE room");
        assert!(connection.hear().contains("subscribe"));
    }
    let text = "x".repeat(100_000);
    let mut heard = 0;
    eventually("the deaf one is gone", || {
        let said = speaker.call(&["PUBLISH", "room", &text]);
        assert!(listener.hear().contains("message"));
        heard += 1;
        said == ":1\r\n"
    });
    assert!(heard > 10, "{heard} messages were kept for it");
    assert!(
        speaker
            .call(&["CLIENT", "LIST", "TYPE", "pubsub"])
            .contains("sub=1 psub=0")
    );
}
