//! Streams as their users meet them: who waits is told, groups share what comes, and what two sides of a cut have
//! added is there, and delivered, when they hear each other again.

use std::collections::BTreeSet;

use super::harness::{Cluster, Connection, Server, bulks, wait_for_blocked};

fn call(connection: &mut Connection, line: &str) -> String {
    connection.say(line);
    connection.hear()
}

#[test]
fn all_who_wait_behind_the_end_get_what_comes_and_a_group_gets_it_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    call(&mut c, "XADD s 1-1 f old");
    call(&mut c, "XGROUP CREATE s g $");
    let mut readers: Vec<Connection> = (0..3).map(|_| server.connect()).collect();
    for reader in &mut readers {
        reader.say("XREAD BLOCK 0 STREAMS other s $ $");
    }
    let mut consumers: Vec<Connection> = (0..2).map(|_| server.connect()).collect();
    for (nth, consumer) in consumers.iter_mut().enumerate() {
        let line = format!("XREADGROUP GROUP g c{nth} BLOCK 0 COUNT 1 STREAMS s >");
        consumer.say(&line);
        wait_for_blocked(&mut c, 4 + nth);
    }
    // Somebody waits for what does not come.
    let mut late = server.connect();
    late.say("XREAD BLOCK 0 STREAMS s 9-9");
    wait_for_blocked(&mut c, 6);
    call(&mut c, "XADD s 2-1 f new");
    for reader in &mut readers {
        assert_eq!(bulks(&reader.hear()), ["s", "2-1", "f", "new"]);
    }
    assert_eq!(bulks(&consumers[0].hear()), ["s", "2-1", "f", "new"]);
    wait_for_blocked(&mut c, 2);
    call(&mut c, "XADD s 3-1 f more");
    assert_eq!(bulks(&consumers[1].hear()), ["s", "3-1", "f", "more"]);
    call(&mut c, "XADD s 10-1 f last");
    assert_eq!(bulks(&late.hear()), ["s", "10-1", "f", "last"]);
    let pending = call(&mut c, "XPENDING s g");
    assert_eq!(bulks(&pending), ["2-1", "3-1", "c0", "1", "c1", "1"]);
    // Time goes by; the reply is a map in RESP3.
    assert_eq!(call(&mut c, "XREAD BLOCK 10 STREAMS s $"), "*-1\r\n");
    call(&mut c, "HELLO 3");
    assert_eq!(call(&mut c, "XREAD BLOCK 10 STREAMS s $"), "_\r\n");
    assert!(call(&mut c, "XREAD STREAMS s 9-9").starts_with("%1\r\n$1\r\ns\r\n*1\r\n"));
}

#[test]
fn a_large_stream_is_trimmed_read_and_acknowledged_by_element_and_is_there_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    call(&mut c, "XGROUP CREATE s g 0 MKSTREAM");
    let value = "x".repeat(100);
    for nth in 1..=400 {
        call(&mut c, &format!("XADD s MAXLEN 300 {nth}-0 f {value}"));
    }
    assert_eq!(call(&mut c, "XLEN s"), ":300\r\n");
    let first = call(&mut c, "XREADGROUP GROUP g c COUNT 100 STREAMS s >");
    assert_eq!(bulks(&first).len(), 1 + 3 * 100);
    assert_eq!(call(&mut c, "XACK s g 101 102 103 999"), ":3\r\n");
    assert_eq!(call(&mut c, "XDEL s 104-0 105-0 105-1"), ":2\r\n");
    // Set back, the group gets what is pending, too.
    call(&mut c, "XGROUP SETID s g 110");
    let again = call(&mut c, "XREADGROUP GROUP g d COUNT 2 STREAMS s >");
    assert_eq!(bulks(&again)[1], "111-0");
    let before: Vec<String> = ["XINFO STREAM s FULL COUNT 3", "XPENDING s g"]
        .iter()
        .map(|line| call(&mut c, line))
        .collect();
    assert_eq!(bulks(&before[1])[..2], ["104-0", "200-0"]);
    server.kill();
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    assert_eq!(call(&mut c, "XINFO STREAM s FULL COUNT 3"), before[0]);
    assert_eq!(call(&mut c, "XPENDING s g"), before[1]);
    let taken = call(&mut c, "XAUTOCLAIM s g e 0 - COUNT 3 JUSTID");
    assert_eq!(bulks(&taken), ["107-0", "106-0", "104-0", "105-0"]);
    assert_eq!(call(&mut c, "DEL s"), ":1\r\n");
    assert_eq!(call(&mut c, "XLEN s"), ":0\r\n");
}

#[test]
fn what_two_sides_have_added_is_there_and_a_group_gets_all_of_it() {
    let mut cluster = Cluster::start(3, &[]);
    let mut c = cluster.members[0].connect();
    call(&mut c, "XGROUP CREATE log g 0 MKSTREAM");
    let mut added = BTreeSet::new();
    for nth in 0..30 {
        let mut c = cluster.members[nth % 3].connect();
        let id = call(&mut c, &format!("XADD log * nth {nth}"));
        assert!(id.starts_with('$'), "{id}");
        added.insert(nth.to_string());
    }
    // Whoever waits at any node hears of what is added at another.
    let mut waiting = cluster.members[1].connect();
    waiting.say("XREAD BLOCK 20000 STREAMS log $");
    wait_for_blocked(&mut cluster.members[1].connect(), 1);
    call(&mut cluster.members[2].connect(), "XADD log * nth 30");
    assert_eq!(bulks(&waiting.hear())[2..], ["nth", "30"]);
    added.insert("30".to_owned());
    cluster.members[2].kill();
    for nth in 31..40 {
        let said = call(
            &mut cluster.members[nth % 2].connect(),
            &format!("XADD log * nth {nth}"),
        );
        assert!(said.starts_with('$'), "{said}");
        added.insert(nth.to_string());
    }
    cluster.members[2].start(None);
    cluster.wait_until_whole();
    let mut got = BTreeSet::new();
    for nth in 0..3 {
        let mut c = cluster.members[nth].connect();
        let line = format!("XREADGROUP GROUP g c{nth} COUNT 15 STREAMS log >");
        let said = bulks(&call(&mut c, &line));
        got.extend(said[1..].chunks(3).map(|entry| entry[2].clone()));
    }
    assert_eq!(got, added);
    let ids = bulks(&call(&mut c, "XRANGE log - +"));
    let ids: Vec<&String> = ids.chunks(3).map(|entry| &entry[0]).collect();
    assert_eq!(ids.len(), 40);
    let pending = bulks(&call(&mut c, "XPENDING log g"));
    assert_eq!(&pending[..2], [ids[0].as_str(), ids[39].as_str()]);
}

#[test]
fn many_who_add_and_trim_at_the_same_time_are_not_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let adders: Vec<_> = (0..4)
        .map(|nth| {
            let mut c = server.connect();
            std::thread::spawn(move || {
                for n in 0..600 {
                    let about = if nth % 2 == 0 { "~" } else { "=" };
                    let id = call(&mut c, &format!("XADD s MAXLEN {about} 100 * n {n}"));
                    assert!(id.starts_with('$'), "{id}");
                }
            })
        })
        .collect();
    for adder in adders {
        adder.join().expect("it has added");
    }
    let mut c = server.connect();
    call(&mut c, "XTRIM s MAXLEN 100");
    let ids = bulks(&call(&mut c, "XRANGE s - +"));
    assert_eq!(ids.len(), 100 * 3);
    assert!(call(&mut c, "XINFO STREAM s").contains("entries-added\r\n:2400\r\n"));
    let token = &bulks(&call(&mut c, "SIBLINGS s"))[0];
    let refused = call(&mut c, &format!("RESOLVE s {token} v FIELD x"));
    assert!(refused.starts_with("-WRONGTYPE"), "{refused}");
}

#[test]
fn who_waits_for_a_group_is_told_when_its_stream_goes() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let (mut waiting, mut other) = (server.connect(), server.connect());
    for (gone, expected) in [
        (
            "DEL s",
            "-NOGROUP the consumer group this client was blocked on no longer exists\r\n",
        ),
        ("SET s v", "-UNBLOCKED the stream key no longer exists\r\n"),
        (
            "XGROUP DESTROY s g",
            "-NOGROUP the consumer group this client was blocked on no longer exists\r\n",
        ),
    ] {
        other.say("DEL s");
        other.hear();
        other.say("XGROUP CREATE s g $ MKSTREAM");
        assert_eq!(other.hear(), "+OK\r\n");
        waiting.say("XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        wait_for_blocked(&mut other, 1);
        other.say(gone);
        other.hear();
        assert_eq!(waiting.hear(), expected, "{gone}");
    }
}
