//! Copies converge without being asked: lost disks, lost hints, old disks, deletes and expiry.

use std::path::Path;

use super::harness::{Cluster, Connection, encode, eventually};

/// Rounds of anti-entropy quickly after each other, and hints that are not kept.
const QUICK: &[&str] = &[
    "--anti-entropy-interval",
    "1",
    "--hint-limit",
    "0",
    "--partitions",
    "16",
    "--tombstone-grace",
    "1",
    "--expired-grace",
    "9",
];

fn call(cluster: &Cluster, member: usize, args: &[&str]) -> String {
    cluster.call(member, args)
}

/// A number that INFO shows.
fn info(cluster: &Cluster, member: usize, field: &str) -> u64 {
    cluster.info(member, field).parse().expect("a number")
}

fn everywhere(cluster: &Cluster, field: &str) -> u64 {
    (0..cluster.members.len())
        .map(|member| info(cluster, member, field))
        .sum()
}

fn keys_of(cluster: &Cluster, member: usize) -> u64 {
    let text = call(cluster, member, &["INFO", "keyspace"]);
    let keys = text
        .split("keys=")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    keys.and_then(|keys| keys.parse().ok()).unwrap_or(0)
}

fn is_equal(cluster: &Cluster, member: usize) -> bool {
    let verified = call(cluster, member, &["RINGWOOD", "VERIFY"]);
    let lines: Vec<&str> = verified.lines().filter(|line| !line.is_empty()).collect();
    lines.len() == 2 && lines[1] == "compared 16"
}

fn write(connection: &mut Connection, prefix: &str, count: usize, more: &[&str]) {
    let mut bytes = Vec::new();
    for n in 0..count {
        let words =
            ["SET", &format!("{prefix}{n}"), "a value"].map(|word| word.as_bytes().to_vec());
        let more = more.iter().map(|word| word.as_bytes().to_vec());
        bytes.extend(encode(&words.into_iter().chain(more).collect::<Vec<_>>()));
    }
    connection.send(&bytes).expect("sent");
    for _ in 0..count {
        assert_eq!(connection.reply().expect("a reply"), b"+OK\r\n");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn a_member_that_has_lost_its_disk_is_filled_again_without_reads() {
    for lost in [2, 0] {
        let mut cluster = Cluster::start(3, QUICK);
        write(&mut cluster.members[1].connect(), "k", 2_000, &[]);
        eventually("all copies are equal", || is_equal(&cluster, 1));
        cluster.members[lost].kill();
        std::fs::remove_dir_all(&cluster.members[lost].dir).expect("removed");
        cluster.members[lost].start(None);
        eventually("it is filled again", || {
            keys_of(&cluster, lost) == 2_000 && info(&cluster, lost, "filled") == 1
        });
        cluster.wait_until_whole();
        eventually("all copies are equal", || is_equal(&cluster, lost));
        assert_eq!(everywhere(&cluster, "read_repairs"), 0);
        assert_eq!(call(&cluster, lost, &["GET", "k7"]), "$7\r\na value\r\n");
    }
}

#[test]
fn an_exchange_moves_what_differs_and_little_else() {
    let mut cluster = Cluster::start(3, QUICK);
    write(&mut cluster.members[0].connect(), "k", 5_000, &[]);
    eventually("all copies are equal", || is_equal(&cluster, 0));
    cluster.members[2].kill();
    write(&mut cluster.members[0].connect(), "new", 60, &[]);
    write(&mut cluster.members[0].connect(), "k", 40, &[]);
    let before = [0, 1].map(|m| info(&cluster, m, "repair_bytes"));
    cluster.members[2].start(None);
    eventually("all copies are equal", || is_equal(&cluster, 0));
    // Two owners may have the same news for the third, and each sends it once.
    let moved = everywhere(&cluster, "repaired_here") + everywhere(&cluster, "repaired_elsewhere");
    assert!((100..=200).contains(&moved), "{moved} objects were moved");
    let bytes = everywhere(&cluster, "repair_bytes") - before.iter().sum::<u64>();
    assert!(bytes < 200 * 100, "{bytes} bytes of objects were moved");
}

#[test]
fn deleted_keys_stay_deleted_and_leave_nothing_behind() {
    let mut cluster = Cluster::start(3, QUICK);
    write(&mut cluster.members[0].connect(), "k", 300, &[]);
    eventually("all copies are equal", || is_equal(&cluster, 0));
    cluster.members[2].kill();
    let old = tempfile::tempdir().expect("a folder");
    copy_folder(&cluster.members[2].dir, old.path());
    for n in 0..150 {
        assert_eq!(call(&cluster, n % 2, &["DEL", &format!("k{n}")]), ":1\r\n");
    }
    assert_eq!(
        info(&cluster, 0, "tombstones_dropped"),
        0,
        "one owner is away"
    );
    cluster.members[2].start(None);
    let nothing_left = |cluster: &Cluster| {
        everywhere(cluster, "tombstones") == 0 && (0..3).all(|m| keys_of(cluster, m) == 150)
    };
    eventually("the deleted keys are gone for good", || {
        nothing_left(&cluster)
    });
    assert!(is_equal(&cluster, 0));

    // A disk from before the deletes, when nobody remembers them one by one any more.
    cluster.members[2].kill();
    std::fs::remove_dir_all(&cluster.members[2].dir).expect("removed");
    copy_folder(old.path(), &cluster.members[2].dir);
    cluster.members[2].start(None);
    cluster.wait_until_whole();
    eventually("the deleted keys are gone again", || nothing_left(&cluster));
    for n in 0..150 {
        assert_eq!(call(&cluster, n % 3, &["GET", &format!("k{n}")]), "$-1\r\n");
    }
    assert_eq!(call(&cluster, 2, &["GET", "k200"]), "$7\r\na value\r\n");
}

#[test]
fn sessions_that_end_leave_nothing_and_cause_no_exchange() {
    let cluster = Cluster::start(3, QUICK);
    write(
        &mut cluster.members[0].connect(),
        "s",
        2_000,
        &["PX", "1500"],
    );
    eventually("all have ended", || {
        (0..3).all(|m| keys_of(&cluster, m) == 0) && everywhere(&cluster, "tombstones") == 0
    });
    assert_eq!(everywhere(&cluster, "repaired_here"), 0);
    assert_eq!(everywhere(&cluster, "repaired_elsewhere"), 0);
    assert!(is_equal(&cluster, 0));
}

/// A member of which the journal was spoilt while it was down gets what it lacks.
fn is_filled_after(spoil: impl Fn(&mut Vec<u8>)) {
    let mut cluster = Cluster::start(3, QUICK);
    write(&mut cluster.members[0].connect(), "k", 1_000, &[]);
    eventually("all copies are equal", || is_equal(&cluster, 0));
    cluster.members[1].kill();
    let path = cluster.members[1].dir.join("journal/00000001.log");
    let mut journal = std::fs::read(&path).expect("read");
    spoil(&mut journal);
    std::fs::write(&path, journal).expect("written");
    cluster.members[1].start(None);
    eventually("it is filled again", || {
        keys_of(&cluster, 1) == 1_000 && info(&cluster, 1, "filled") == 1
    });
    eventually("all copies are equal", || is_equal(&cluster, 1));
}

#[test]
fn a_member_with_a_damaged_store_keeps_what_is_readable_and_gets_the_rest() {
    is_filled_after(|journal| {
        // A page of the journal reads as zeros, and with it everything behind it.
        let filled = journal.iter().rposition(|byte| *byte != 0).expect("filled");
        journal[filled / 2..filled / 2 + 4_096].fill(0);
    });
}

#[test]
fn a_member_whose_journal_cannot_be_read_at_all_starts_and_is_filled() {
    is_filled_after(|journal| journal.fill(0xff));
}

#[test]
fn a_member_that_is_killed_while_copies_are_mended_goes_on_where_it_was() {
    let mut cluster = Cluster::start(3, QUICK);
    write(&mut cluster.members[1].connect(), "k", 20_000, &[]);
    eventually("all copies are equal", || is_equal(&cluster, 1));
    cluster.members[2].kill();
    std::fs::remove_dir_all(&cluster.members[2].dir).expect("removed");
    for killed in [2, 2, 0, 1, 2] {
        cluster.members[2].kill();
        cluster.members[2].start(None);
        let before = keys_of(&cluster, 2);
        eventually("something is mended", || {
            let now = keys_of(&cluster, 2);
            now > before || now == 20_000
        });
        cluster.members[killed].kill();
        cluster.members[killed].start(None);
    }
    eventually("it is filled again", || {
        keys_of(&cluster, 2) == 20_000 && info(&cluster, 2, "filled") == 1
    });
    cluster.wait_until_whole();
    eventually("all copies are equal", || is_equal(&cluster, 0));
}

#[test]
fn a_member_that_joins_a_filled_cluster_counts_when_it_has_what_it_owns() {
    // With hints, which must go with the member they are for.
    let flags = [&QUICK[..2], &QUICK[4..]].concat();
    let mut cluster = Cluster::start(3, &flags);
    write(&mut cluster.members[0].connect(), "k", 3_000, &[]);
    cluster.add(&flags);
    cluster.wait_until_whole();
    // While it is filled nothing that was acknowledged is missing, whoever is asked.
    let mut asked = 0;
    while info(&cluster, 3, "filled") == 0 || asked < 3_000 {
        let member = asked % 4;
        let key = format!("k{}", asked * 7 % 3_000);
        let reply = call(&cluster, member, &["GET", &key]);
        assert_eq!(reply, "$7\r\na value\r\n", "{key} at {member}");
        if asked % 50 == 0 {
            assert_eq!(call(&cluster, member, &["DBSIZE"]), ":3000\r\n");
            let found = call(&cluster, member, &["KEYS", "k*"]);
            assert!(found.starts_with("*3000\r\n"), "{}", &found[..20]);
        }
        asked += 1;
    }
    assert!(keys_of(&cluster, 3) > 1_500, "{}", keys_of(&cluster, 3));
    let copies = |cluster: &Cluster| (0..4).map(|m| keys_of(cluster, m)).sum::<u64>();
    eventually("no member keeps what it does not own", || {
        copies(&cluster) == 9_000
    });
    eventually("all copies are equal", || is_equal(&cluster, 3));

    // One is gone for good: the others make its copies again.
    let name = cluster.members[1].name.clone();
    let refused = call(&cluster, 0, &["CLUSTER", "FORGET", &name]);
    assert!(refused.starts_with("-ERR node-2 answers"), "{refused}");
    cluster.members[1].kill();
    cluster.members.remove(1);
    eventually("its links are known to be down", || {
        write(&mut cluster.members[0].connect(), "k", 50, &[]);
        everywhere(&cluster, "hints") > 0
    });
    eventually("it is removed", || {
        call(&cluster, 0, &["CLUSTER", "FORGET", &name]) == "+OK\r\n"
    });
    cluster.wait_until_whole();
    eventually("every key has three copies again", || {
        (0..3).all(|m| keys_of(&cluster, m) == 3_000 && info(&cluster, m, "filled") == 1)
    });
    eventually("all copies are equal", || is_equal(&cluster, 0));
    eventually("nothing is kept for it", || {
        everywhere(&cluster, "hints") == 0
    });
    for n in 0..3_000 {
        let reply = call(&cluster, n % 3, &["GET", &format!("k{n}")]);
        assert_eq!(reply, "$7\r\na value\r\n");
    }
}

#[test]
fn a_member_on_an_older_copy_of_its_disk_is_never_believed() {
    // Nothing but the reads themselves could mend the copy.
    let flags = [
        "--hint-limit",
        "0",
        "--read-repair-chance",
        "0",
        "--anti-entropy-interval",
        "86400",
    ];
    let mut cluster = Cluster::start(3, &flags);
    let all = |cluster: &Cluster, value: &str| {
        let mut c = cluster.members[0].connect();
        for n in 0..200 {
            assert_eq!(c.call(&["SET", &format!("k{n}"), value]), "+OK\r\n");
        }
    };
    all(&cluster, "old");
    cluster.members[2].kill();
    let old = tempfile::tempdir().expect("a folder");
    copy_folder(&cluster.members[2].dir, old.path());
    cluster.members[2].start(None);
    cluster.wait_until_whole();
    cluster.members[1].kill();
    all(&cluster, "new");
    cluster.members[2].kill();
    std::fs::remove_dir_all(&cluster.members[2].dir).expect("removed");
    copy_folder(old.path(), &cluster.members[2].dir);
    cluster.members[1].start(None);
    cluster.members[2].start(None);
    // Two of three hold the old values now.
    let mut read = 0;
    for round in 0..20 {
        for member in [1, 2] {
            let mut c = cluster.members[member].connect();
            for n in (round % 7..200).step_by(7) {
                let reply = c.call(&["GET", &format!("k{n}")]);
                let is_new = reply == "$3\r\nnew\r\n";
                assert!(is_new || reply.starts_with("-NO"), "{reply}");
                read += usize::from(is_new);
            }
        }
    }
    assert!(read > 0, "somebody answers");
    eventually("it is filled again", || info(&cluster, 2, "filled") == 1);
}
