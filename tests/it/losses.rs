//! Partitions of which every complete copy was lost.

use std::process::Command;

use super::harness::{Cluster, eventually};

const FEW: &[&str] = &[
    "--partitions",
    "16",
    "--anti-entropy-interval",
    "1",
    "--hint-limit",
    "0",
];

fn wipe(cluster: &mut Cluster, member: usize) {
    let member = &mut cluster.members[member];
    member.kill();
    std::fs::remove_dir_all(&member.dir).expect("removed");
}

/// All three lose their disks, one after the other; none is filled before the last complete copy goes.
fn lose_all_copies(flags: &[&str]) -> Cluster {
    let flags = [FEW, flags].concat();
    let mut cluster = Cluster::start(3, &flags);
    for n in 0..300 {
        let set = ["SET", &format!("k{n}"), "a value"];
        assert_eq!(cluster.call(n % 3, &set), "+OK\r\n");
    }
    wipe(&mut cluster, 1);
    // Without this one's consent nobody is filled.
    cluster.members[2].kill();
    cluster.members[1].start(None);
    eventually("it is a member again", || {
        cluster
            .call(1, &["CLUSTER", "INFO"])
            .contains("cluster_known_nodes:3")
    });
    assert_eq!(cluster.info(1, "partitions_lost"), "0");
    wipe(&mut cluster, 0);
    cluster.members[0].start(None);
    eventually("it is a member again", || {
        cluster
            .call(0, &["CLUSTER", "INFO"])
            .contains("cluster_known_nodes:3")
    });
    // One may be there still.
    assert_eq!(cluster.info(0, "partitions_lost"), "0");
    wipe(&mut cluster, 2);
    cluster.members[2].start(None);
    cluster.wait_until_whole();
    for member in 0..3 {
        eventually("everybody knows of the loss", || {
            cluster.info(member, "partitions_lost") == "16"
        });
    }
    cluster
}

#[test]
fn what_everybody_has_lost_is_said_until_somebody_accepts_it() {
    let mut cluster = lose_all_copies(&[]);
    for member in 0..3 {
        for read in [
            &["GET", "k7"][..],
            &["INCR", "n"],
            &["DBSIZE"],
            &["SCAN", "0"],
            &["EXISTS", "k1", "k2"],
        ] {
            let reply = cluster.call(member, read);
            assert!(reply.starts_with("-LOST every complete copy"), "{reply}");
        }
        assert_eq!(
            cluster.call(member, &["SET", "new", "stored"]),
            "+OK\r\n",
            "what is written meanwhile is not refused"
        );
        assert_eq!(cluster.info(member, "filled"), "0");
    }
    let verified = cluster.call(1, &["RINGWOOD", "VERIFY"]);
    assert_eq!(verified.matches("\nlost ").count(), 16, "{verified}");
    let status = cluster.call(1, &["RINGWOOD", "STATUS"]);
    assert!(status.contains("LOST"), "{status}");
    // It is not forgotten by those who have seen it.
    for member in 0..3 {
        cluster.members[member].kill();
    }
    for member in 0..3 {
        cluster.members[member].start(None);
    }
    cluster.wait_until_whole();
    assert_eq!(cluster.info(0, "partitions_lost"), "16");

    let accepted = cluster.call(1, &["RINGWOOD", "ACCEPT-LOSS", "3"]);
    assert!(accepted.contains("accepted 1\n"), "{accepted}");
    let address = cluster.members[2].address.to_string();
    let accepted = Command::new(env!("CARGO_BIN_EXE_ringwood"))
        .args(["cluster", "accept-loss", "all", "--address", &address])
        .output()
        .expect("it runs");
    assert!(accepted.status.success(), "{accepted:?}");
    for member in 0..3 {
        eventually("what is left is all there is", || {
            cluster.info(member, "partitions_lost") == "0" && cluster.info(member, "filled") == "1"
        });
        let read = cluster.call(member, &["GET", "new"]);
        assert_eq!(read, "$6\r\nstored\r\n");
    }
    eventually("all copies are equal", || {
        cluster
            .call(0, &["RINGWOOD", "VERIFY"])
            .ends_with("compared 16\n\r\n")
    });
}

#[test]
fn what_is_left_is_shown_where_that_is_asked_for() {
    let cluster = lose_all_copies(&["--lost-partitions", "empty"]);
    for member in 0..3 {
        assert_eq!(cluster.call(member, &["SET", "new", "stored"]), "+OK\r\n");
        for (read, reply) in [
            (&["GET", "new"][..], "$6\r\nstored\r\n"),
            (&["EXISTS", "never"], ":0\r\n"),
        ] {
            assert_eq!(cluster.call(member, read), reply);
        }
        for read in [&["DBSIZE"][..], &["KEYS", "*"]] {
            let reply = cluster.call(member, read);
            assert!(!reply.starts_with('-'), "{reply}");
        }
        assert_eq!(cluster.info(member, "partitions_lost"), "16");
    }
}
