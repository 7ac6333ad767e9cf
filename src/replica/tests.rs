//! The replica over a memory store: order, floors, scans, reclaiming.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Join, Key, Options, Recovery, Replica, ReplicaError, Tombstones};
use crate::base::clock;
use crate::logic::causal::{ActorId, Element, Object, Payload, Value};
use crate::logic::edit::Edit;
use crate::logic::placement::{Partitions, slot_of};
use crate::logic::quorum::{Rule, Rules};
use crate::logic::types::string;
use crate::storage::{
    AppendFsync, DEFAULT_CACHED_FILES, DiskOptions, DiskStore, MemoryStore, Store,
};

fn start(store: &Arc<MemoryStore>) -> Replica {
    let partitions = Partitions::new(64).expect("a power of two");
    let store = Arc::clone(store) as Arc<dyn Store>;
    Replica::start(store, Options::alone(partitions))
        .expect("starts")
        .0
}

/// A lone node's, on a disk.
fn on_disk(dir: &std::path::Path, accept_damage: bool) -> (Replica, Recovery) {
    let store = DiskStore::open(DiskOptions {
        dir: dir.into(),
        partitions: 64,
        cache_bytes: 1 << 20,
        appendfsync: AppendFsync::No,
        write_buffer_bytes: 1 << 20,
        block_cache_bytes: 1 << 20,
        min_free_bytes: 0,
        accept_damage,
        cached_files: DEFAULT_CACHED_FILES,
    });
    let partitions = Partitions::new(64).expect("a power of two");
    let store = Arc::new(store.expect("opens")) as Arc<dyn Store>;
    Replica::start(store, Options::alone(partitions)).expect("starts")
}

fn replica() -> Replica {
    start(&Arc::new(MemoryStore::new(3)))
}

fn key(name: &str) -> Key<'_> {
    Key {
        db: 0,
        name: name.as_bytes(),
    }
}

fn set(replica: &Replica, at: Key<'_>, text: &str, expires_at_ms: Option<u64>) {
    let payload = Payload::Bytes(text.as_bytes().to_vec().into());
    let value = Value {
        payload,
        expires_at_ms,
    };
    replica
        .update(at, |_, _| (Edit::put(Element::STRING, value), ()))
        .expect("written");
}

fn get(replica: &Replica, at: Key<'_>) -> Option<String> {
    let object = replica.read(at).expect("read");
    let shown = string::shown(&object, clock::now_ms())?;
    Some(String::from_utf8(shown.bytes.to_vec()).expect("text"))
}

fn scan_all(replica: &Replica, db: u8, count: usize) -> Result<BTreeSet<String>, ReplicaError> {
    let (mut keys, mut cursor) = (BTreeSet::new(), 0);
    loop {
        let found = replica.scan(db, cursor, count)?;
        keys.extend(
            found
                .keys
                .into_iter()
                .map(|k| String::from_utf8(k).expect("text")),
        );
        cursor = found.cursor;
        assert!(cursor < 1 << 53, "clients read cursors as doubles");
        if cursor == 0 {
            return Ok(keys);
        }
    }
}

#[test]
fn a_scan_with_any_count_sees_every_key_of_its_database() {
    let replica = replica();
    let mut names = BTreeSet::new();
    for n in 0..500 {
        let name = format!("key:{n}");
        set(&replica, key(&name), "x", None);
        set(
            &replica,
            Key {
                db: 1,
                name: b"other",
            },
            "x",
            None,
        );
        names.insert(name);
    }
    for count in [1, 7, 100, 10_000] {
        assert_eq!(scan_all(&replica, 0, count).expect("scan"), names);
    }
    assert_eq!(scan_all(&replica, 1, 10).expect("scan").len(), 1);
    assert_eq!((replica.live_keys(0), replica.live_keys(1)), (500, 1));
    assert!(replica.random_key(0).expect("read").is_some());
    assert_eq!(replica.random_key(2).expect("read"), None);
}

#[test]
fn a_floor_that_comes_late_or_twice_leaves_what_was_written_above_it() {
    let partitions = Partitions::new(64).expect("a power of two");
    let options = Options {
        shared: true,
        ..Options::alone(partitions)
    };
    let store = Arc::new(MemoryStore::new(3)) as Arc<dyn Store>;
    let (replica, _) = Replica::start(store, options).expect("starts");
    set(&replica, key("before"), "1", None);
    let floor = replica.everything_written();
    set(&replica, key("after"), "2", None);
    for _ in 0..2 {
        replica.raise_floor(Some(0), &floor).expect("raised");
        assert_eq!(replica.live_keys(0), 1);
        assert_eq!(
            scan_all(&replica, 0, 10).expect("scan"),
            BTreeSet::from(["after".to_owned()])
        );
    }
}

#[test]
fn what_a_blind_write_has_not_seen_is_not_stored_beside_it_increments_neither() {
    let partitions = Partitions::new(64).expect("a power of two");
    let node = |actor| {
        let options = Options {
            actor: ActorId(actor),
            shared: true,
            ..Options::alone(partitions)
        };
        let store = Arc::new(MemoryStore::new(1)) as Arc<dyn Store>;
        Replica::start(store, options).expect("starts").0
    };
    let (writer, other) = (node(1), node(2));
    let counted = other.update(key("n"), |_, _| (string::count(5), ()));
    counted.expect("counted");
    set(&writer, key("n"), "0", None);
    let blind = writer.read(key("n")).expect("read");
    let how = Join {
        only_over_seen: true,
        ..Join::default()
    };
    let refused = other.join(key("n"), (*blind).clone(), &how);
    assert!(matches!(refused, Err(ReplicaError::Unseen(_))));
    assert_eq!(get(&other, key("n")).as_deref(), Some("5"));
    // Where there is nothing that it has not seen, it is stored, and again, too.
    let third = node(3);
    for _ in 0..2 {
        let stored = third.join(key("n"), (*blind).clone(), &how);
        stored.expect("stored");
    }
    // What the same writer has written later has seen it, though it came first.
    let fourth = node(4);
    let counted = writer.update(key("n"), |_, _| (string::count(5), ()));
    let counted = counted
        .expect("counted")
        .1
        .and_then(|written| written.delta);
    let counted = counted.expect("shared").decode().expect("a delta");
    let first = fourth.join(key("n"), counted, &Join::default());
    first.expect("stored");
    let stored = fourth.join(key("n"), (*blind).clone(), &how);
    stored.expect("stored");
    assert_eq!(get(&fourth, key("n")).as_deref(), Some("5"));
}

#[test]
fn a_flush_hides_everything_at_once_and_later_writes_live() {
    let store = Arc::new(MemoryStore::new(3));
    let replica = start(&store);
    for n in 0..100 {
        set(&replica, key(&format!("key:{n}")), "old", None);
    }
    replica.flush(Some(0)).expect("flush");
    assert_eq!(
        (replica.live_keys(0), get(&replica, key("key:1"))),
        (0, None)
    );
    set(&replica, key("key:1"), "new", None);
    assert_eq!(scan_all(&replica, 0, 10).expect("scan").len(), 1);
    drop(replica);
    let replica = start(&store);
    assert_eq!(get(&replica, key("key:1")).as_deref(), Some("new"));
    assert_eq!(get(&replica, key("key:2")), None);
    while replica.reclaim_flushed().expect("reclaim") {}
    assert_eq!(get(&replica, key("key:1")).as_deref(), Some("new"));
    let rows = |shard| {
        let rows = store.scan(shard, crate::storage::Table::Data, &[], &[0xff], usize::MAX);
        rows.expect("scan").len()
    };
    assert_eq!((0..3).map(rows).sum::<usize>(), 1);
}

#[test]
fn expired_keys_read_as_absent_and_are_reclaimed_with_their_index() {
    let store = Arc::new(MemoryStore::new(1));
    let replica = start(&store);
    let past = clock::now_ms() - 1;
    for n in 0..600 {
        set(&replica, key(&format!("key:{n}")), "x", Some(past));
    }
    set(&replica, key("stays"), "x", Some(past + 1_000_000));
    set(&replica, key("moved"), "x", Some(past));
    set(&replica, key("moved"), "x", None);
    assert_eq!(get(&replica, key("key:1")), None);
    while replica.reclaim_expired(u64::MAX).expect("reclaim") {}
    assert_eq!(replica.live_keys(0), 2);
    for (table, rows) in [
        (crate::storage::Table::Data, 2),
        (crate::storage::Table::Expiry, 1),
    ] {
        assert_eq!(
            store
                .scan(0, table, &[], &[0xff], usize::MAX)
                .expect("scan")
                .len(),
            rows
        );
    }
    set(&replica, key("key:1"), "again", None);
    assert_eq!(replica.live_keys(0), 3);
}

#[test]
fn a_deleted_key_is_counted_once_and_its_coming_ends_its_absence() {
    let replica = replica();
    let (_, absence) = replica.watch(key("a"), |_| false).expect("watched");
    let absence = absence.expect("not there");
    assert!(!absence.is_over());
    set(&replica, key("a"), "1", None);
    let delete = || replica.update(key("a"), |_, _| (Edit::delete(), ()));
    delete().expect("delete");
    delete().expect("delete");
    assert_eq!((replica.live_keys(0), get(&replica, key("a"))), (0, None));
    assert!(absence.is_over());
}

#[test]
fn counts_are_found_again_after_a_stop() {
    let store = Arc::new(MemoryStore::new(2));
    let replica = start(&store);
    for n in 0..50 {
        set(&replica, key(&format!("key:{n}")), "x", None);
    }
    replica.stop();
    assert_eq!(start(&store).live_keys(0), 50);
}

#[test]
fn counts_that_are_not_those_of_the_rows_are_not_believed() {
    let store = Arc::new(MemoryStore::new(2));
    let replica = start(&store);
    for n in 0..1_000 {
        set(&replica, key(&format!("key:{n}")), "x", None);
    }
    replica.stop();
    store.lose(crate::storage::Table::Data, |_| true);
    let replica = start(&store);
    assert_eq!(replica.live_keys(0), 0);
    // What counts say is no matter to anybody but DBSIZE.
    set(&replica, key("a"), "x", None);
    replica.stop();
    store.lose(crate::storage::Table::Meta, |name| {
        name.starts_with(b"counts/")
    });
    assert_eq!(start(&store).live_keys(0), 1);
}

#[test]
fn a_stop_counts_what_others_write_meanwhile_or_they_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut begun = 0;
    for round in 0..5 {
        let (replica, recovery) = on_disk(dir.path(), false);
        assert!(recovery.clean == (round > 0) && recovery.keys.is_some() == (round > 0));
        assert_eq!(
            replica.live_keys(0) as usize,
            scan_all(&replica, 0, 1_000).expect("scanned").len()
        );
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let replica = &replica;
                scope.spawn(move || {
                    for n in begun.. {
                        let name = format!("{writer}:{n}");
                        let count = |_: &Object, _| (string::count(1), ());
                        if replica.update(key(&name), count).is_err() {
                            break;
                        }
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(30));
            replica.stop();
        });
        begun += 1_000_000;
    }
}

#[test]
fn where_the_journal_is_lost_a_flush_covers_what_is_left_and_databases_keep_their_names() {
    let dir = tempfile::tempdir().expect("a folder");
    let (replica, _) = on_disk(dir.path(), false);
    let name = |n| format!("key:{n}");
    (0..100).for_each(|n| set(&replica, key(&name(n)), "old", None));
    replica.flush(None).expect("flushed");
    (0..60).for_each(|n| set(&replica, key(&name(n)), "new", None));
    replica.swap_databases(0, 3).expect("swapped");
    replica.store().compact().expect("brought into the tables");
    (60..100).for_each(|n| set(&replica, key(&name(n)), "lost", None));
    replica.stop();
    drop(replica);
    std::fs::remove_dir_all(dir.path().join("journal")).expect("lost");
    let (replica, _) = on_disk(dir.path(), true);
    assert_eq!((replica.database(0), replica.database(3)), (3, 0));
    assert_eq!(scan_all(&replica, 0, 10).expect("scanned").len(), 60);
    replica.flush(None).expect("flushed");
    let seen = |replica: &Replica| {
        let there = (0..100).filter(|n| get(replica, key(&name(*n))).is_some());
        (there.count(), replica.live_keys(0))
    };
    assert_eq!(seen(&replica), (0, 0));
    replica.stop();
    drop(replica);
    assert_eq!(seen(&on_disk(dir.path(), false).0), (0, 0));
}

#[test]
fn a_store_with_other_partitions_is_refused() {
    let store = Arc::new(MemoryStore::new(2));
    start(&store);
    let partitions = Partitions::new(32).expect("a power of two");
    assert!(Replica::start(store, Options::alone(partitions)).is_err());
}

/// A replica whose keys others hold too, with three owners each.
fn shared(store: &Arc<MemoryStore>, actor: u64) -> Replica {
    let partitions = Partitions::new(64).expect("a power of two");
    let rule = Rule {
        n: 3,
        r: 2,
        w: 2,
        strict: false,
    };
    let options = Options {
        actor: ActorId(actor),
        shared: true,
        rules: Arc::new(Rules::new(rule, Vec::new())),
        ..Options::alone(partitions)
    };
    let store = Arc::clone(store) as Arc<dyn Store>;
    Replica::start(store, options).expect("starts").0
}

fn roots(replica: &Replica) -> Vec<u64> {
    (0..64)
        .map(|partition| replica.root(3, partition, 0))
        .collect()
}

#[test]
fn writes_that_were_not_stored_are_not_counted_for_long() {
    let store = Arc::new(MemoryStore::new(3));
    let replica = shared(&store, 1);
    set(&replica, key("stored"), "v", None);
    let before = roots(&replica);
    store.be_lazy(true);
    for n in 0..100 {
        set(&replica, key(&format!("lost-{n}")), "v", None);
    }
    assert_eq!(replica.live_keys(0), 101);
    store.lose_uncommitted();
    store.be_lazy(false);
    replica.recover_from_failures().expect("counting");
    set(&replica, key("while it counts"), "v", None);
    assert_eq!(replica.live_keys(0), 2);
    let at = key("while it counts");
    let delete = |_: &Object, _| (Edit::delete(), ());
    replica.update(at, delete).expect("deleted");
    assert_eq!(roots(&replica), before);
}

#[test]
fn trees_and_counts_are_the_same_after_any_start() {
    let store = Arc::new(MemoryStore::new(3));
    let replica = shared(&store, 1);
    for n in 0..500 {
        let ends = (n % 3 == 0).then(|| clock::now_ms() + 100_000 + n);
        set(&replica, key(&format!("k{n}")), "v", ends);
    }
    for n in 0..100 {
        let name = format!("k{n}");
        let delete = |_: &Object, _| (Edit::delete(), ());
        replica.update(key(&name), delete).expect("deleted");
    }
    let (roots_before, tombstones) = (roots(&replica), replica.tombstones());
    assert_eq!((replica.live_keys(0), tombstones), (400, 100));
    let crashed = shared(&store, 2);
    crashed.finish_counting();
    assert_eq!(roots(&crashed), roots_before);
    assert_eq!((crashed.live_keys(0), crashed.tombstones()), (400, 100));
    crashed.stop();
    let stopped = shared(&store, 3);
    assert!(stopped.is_counted());
    assert_eq!(roots(&stopped), roots_before);
    assert_eq!((stopped.live_keys(0), stopped.tombstones()), (400, 100));
}

#[test]
fn what_a_partition_has_seen_cannot_come_back() {
    let (ours, theirs) = (Arc::new(MemoryStore::new(3)), Arc::new(MemoryStore::new(3)));
    let (ours, theirs) = (shared(&ours, 1), shared(&theirs, 2));
    set(&ours, key("k"), "old", None);
    let old = ours.read(key("k")).expect("read");
    theirs
        .join(key("k"), (*old).clone(), &Join::default())
        .expect("joined");
    let delete = |_: &Object, _| (Edit::delete(), ());
    ours.update(key("k"), delete).expect("deleted");
    let all: Vec<u16> = (0..64).collect();
    let mut dropped = Tombstones::default();
    let partition = ours.partitions().of(slot_of(b"k"));
    ours.drop_tombstones(partition, &[], 9, &mut dropped)
        .expect("looked");
    assert_eq!((dropped.dropped, dropped.unproven), (0, 1));
    ours.saw(3, &all, &ours.everything_written())
        .expect("noted");
    ours.drop_tombstones(partition, &[], 9, &mut dropped)
        .expect("looked");
    assert_eq!(
        (dropped.dropped, ours.tombstones(), ours.rows(3, partition)),
        (1, 0, 0)
    );

    ours.join(key("k"), (*old).clone(), &Join::default())
        .expect("joined");
    assert_eq!(get(&ours, key("k")), None);
    let dots: Vec<_> = old.all_versions().map(|version| version.dot).collect();
    assert_eq!(ours.dead_of(key("k"), &dots).expect("read"), dots);
    set(&theirs, key("k"), "new", None);
    let new = theirs.read(key("k")).expect("read");
    ours.join(key("k"), (*new).clone(), &Join::default())
        .expect("joined");
    assert_eq!(get(&ours, key("k")).as_deref(), Some("new"));
}

/// Two replicas that hold a key which has ended already, as far as they know.
fn both_hold_what_has_ended() -> [Replica; 2] {
    let replicas = [1, 2].map(|actor| {
        let replica = shared(&Arc::new(MemoryStore::new(3)), actor);
        replica.agree_on_time(0);
        replica
    });
    let past_ms = clock::now_ms() - 1_000_000;
    set(&replicas[0], key("k"), "v", Some(past_ms));
    hand_over(&replicas[0], &replicas[1]);
    replicas
}

fn hand_over(from: &Replica, to: &Replica) {
    let object = from.read(key("k")).expect("read");
    to.join(key("k"), (*object).clone(), &Join::default())
        .expect("joined");
}

fn retime(replica: &Replica, at_ms: Option<u64>) {
    replica
        .update(key("k"), |_, _| (Edit::Retime(at_ms), ()))
        .expect("retimed");
}

#[test]
fn a_longer_life_that_somebody_has_missed_is_not_undone_by_what_he_has_reclaimed() {
    for seen_by_all in [false, true] {
        let [ours, theirs] = both_hold_what_has_ended();
        if seen_by_all {
            let all: Vec<u16> = (0..64).collect();
            for replica in [&ours, &theirs] {
                replica
                    .saw(3, &all, &ours.everything_written())
                    .expect("noted");
            }
        }
        retime(&ours, None);
        while theirs.reclaim_expired(u64::MAX).expect("reclaimed") {}
        assert_eq!(get(&theirs, key("k")), None);
        hand_over(&theirs, &ours);
        assert_eq!(get(&ours, key("k")).as_deref(), Some("v"), "{seen_by_all}");
        hand_over(&ours, &theirs);
        assert_eq!(
            get(&theirs, key("k")).as_deref(),
            Some("v"),
            "{seen_by_all}"
        );
        assert_eq!(roots(&ours), roots(&theirs));
    }
}

#[test]
fn what_was_given_an_end_and_reclaimed_does_not_come_back_from_who_missed_it() {
    let [ours, theirs] = both_hold_what_has_ended();
    for replica in [&ours, &theirs] {
        retime(replica, None);
    }
    hand_over(&ours, &theirs);
    hand_over(&theirs, &ours);
    assert_eq!(get(&theirs, key("k")).as_deref(), Some("v"));
    retime(&ours, Some(clock::now_ms() - 900_000));
    while ours.reclaim_expired(u64::MAX).expect("reclaimed") {}
    hand_over(&theirs, &ours);
    assert_eq!(get(&ours, key("k")), None);
    hand_over(&ours, &theirs);
    assert_eq!(get(&theirs, key("k")), None);
    // Whether it has been reclaimed yet makes no difference.
    let roots = |replica: &Replica| {
        let as_of_ms = ours.reclaims_before_ms().expect("agreed");
        let root = |partition| replica.root(3, partition, as_of_ms);
        (0..64).map(root).collect::<Vec<u64>>()
    };
    assert_eq!(roots(&ours), roots(&theirs));
    // What is written over the remains is all there is.
    set(&ours, key("k"), "new", None);
    hand_over(&ours, &theirs);
    assert_eq!(get(&theirs, key("k")).as_deref(), Some("new"));
    assert_eq!(theirs.read(key("k")).expect("read").values().count(), 1);
}

#[test]
fn what_is_counted_over_the_remains_of_a_key_begins_at_nothing() {
    let [ours, theirs] = both_hold_what_has_ended();
    while ours.reclaim_expired(u64::MAX).expect("reclaimed") {}
    let count = |_: &Object, _| (string::count(2), ());
    ours.update(key("k"), count).expect("counted");
    hand_over(&ours, &theirs);
    hand_over(&theirs, &ours);
    for replica in [&ours, &theirs] {
        assert_eq!(get(replica, key("k")).as_deref(), Some("2"));
        assert_eq!(replica.read(key("k")).expect("read").values().count(), 1);
    }
}

#[test]
fn what_is_counted_after_a_copy_was_dropped_counts_once() {
    let (store, replica) = lazily(1);
    store.be_lazy(false);
    let add = |n| {
        let count = move |_: &Object, _| (string::count(n), ());
        replica.update(key("k"), count).expect("counted");
        (*replica.read(key("k")).expect("read")).clone()
    };
    add(1);
    let kept = add(2);
    assert!(replica.drop_copy(key("k"), &kept).expect("dropped"));
    let after = add(4);
    let total = |object: &Object| {
        let shown = string::shown(object, clock::now_ms()).expect("shown");
        String::from_utf8(shown.bytes.to_vec()).expect("text")
    };
    let both = after.joined(kept.clone());
    assert_eq!(total(&both), "7");
    replica
        .join(key("k"), kept, &Join::default())
        .expect("joined");
    assert_eq!(total(&add(8)), "15");
}

/// A replica that shares its keys with others, over a store that commits when it is told to.
fn lazily(actor: u64) -> (Arc<MemoryStore>, Replica) {
    let store = Arc::new(MemoryStore::new(2));
    store.be_lazy(true);
    let replica = shared_on(&store, actor);
    store.be_lazy(true);
    (store, replica)
}

fn shared_on(store: &Arc<MemoryStore>, actor: u64) -> Replica {
    store.be_lazy(false);
    let partitions = Partitions::new(64).expect("a power of two");
    let options = Options {
        actor: ActorId(actor),
        shared: true,
        ..Options::alone(partitions)
    };
    let store = Arc::clone(store) as Arc<dyn Store>;
    let replica = Replica::start(store, options).expect("starts").0;
    replica.finish_counting();
    replica
}

/// What is read, listed, counted and summed is what is stored.
fn is_one_thing(store: &Arc<MemoryStore>, replica: &Replica, names: &[&str]) {
    let copy = Arc::new(MemoryStore::new(2));
    copy.replace(Some(store.copy()));
    let fresh = shared_on(&copy, 99);
    for name in names {
        assert_eq!(get(replica, key(name)), get(&fresh, key(name)), "{name}");
    }
    assert_eq!(replica.live_keys(0), fresh.live_keys(0));
    let listed = |replica: &Replica| scan_all(replica, 0, 10).expect("scanned");
    assert_eq!(listed(replica), listed(&fresh));
    for partition in 0..64 {
        let (ours, theirs) = (replica.root(1, partition, 0), fresh.root(1, partition, 0));
        assert_eq!(ours, theirs, "partition {partition}");
    }
}

fn in_doubt() -> (Arc<MemoryStore>, Replica) {
    let (store, replica) = lazily(1);
    set(&replica, key("a"), "old", None);
    set(&replica, key("b"), "old", None);
    store.commit();
    set(&replica, key("a"), "new", None);
    replica
        .update(key("b"), |_, _| (Edit::delete(), ()))
        .expect("queued");
    set(&replica, key("c"), "new", None);
    store.fail();
    (store, replica)
}

#[test]
fn what_was_there_after_all_is_read_counted_and_listed() {
    let (store, replica) = in_doubt();
    assert_eq!(get(&replica, key("a")).as_deref(), Some("new"));
    let refused = replica.update(key("a"), |_, _| (Edit::delete(), ()));
    assert!(matches!(refused, Err(ReplicaError::Refused(_))));
    store.settle(true);
    assert_eq!(get(&replica, key("a")).as_deref(), Some("new"));
    is_one_thing(&store, &replica, &["a", "b", "c"]);
}

#[test]
fn what_was_not_stored_is_not_read_counted_or_listed() {
    let (store, replica) = in_doubt();
    store.settle(false);
    assert_eq!(get(&replica, key("a")).as_deref(), Some("old"));
    assert!(!replica.is_counted());
    replica.recover_from_failures().expect("recovered");
    replica.finish_counting();
    is_one_thing(&store, &replica, &["a", "b", "c"]);
}

#[test]
fn what_nobody_knew_for_a_while_is_what_is_stored_in_the_end() {
    for landed in [true, false] {
        let (store, replica) = in_doubt();
        store.tell();
        // Read from what was there before.
        let _ = get(&replica, key("a"));
        store.settle(landed);
        replica.recover_from_failures().expect("recovered");
        replica.finish_counting();
        is_one_thing(&store, &replica, &["a", "b", "c"]);
        let wanted = if landed { "new" } else { "old" };
        assert_eq!(get(&replica, key("a")).as_deref(), Some(wanted));
    }
}

#[test]
fn a_write_that_rests_on_a_failed_one_is_refused() {
    let (store, replica) = lazily(1);
    set(&replica, key("a"), "1", None);
    let refused = replica.update(key("a"), |object, now_ms| {
        assert!(string::shown(object, now_ms).is_some());
        store.fail();
        store.settle(false);
        (string::count(1), ())
    });
    let changed = ReplicaError::Refused(crate::storage::Refused::Changed);
    assert_eq!(
        refused.expect_err("refused").to_string(),
        changed.to_string()
    );
    assert_eq!(get(&replica, key("a")), None);
}

#[test]
fn a_flush_that_was_not_stored_hides_nothing() {
    let (store, replica) = lazily(1);
    set(&replica, key("a"), "1", None);
    store.commit();
    replica.flush(Some(0)).expect("queued");
    assert_eq!(get(&replica, key("a")), None);
    store.fail();
    store.settle(false);
    assert!(!replica.reclaim_flushed().expect("nothing to reclaim"));
    replica.recover_from_failures().expect("recovered");
    replica.finish_counting();
    assert_eq!(get(&replica, key("a")).as_deref(), Some("1"));
    is_one_thing(&store, &replica, &["a"]);
}

#[test]
fn what_a_partition_has_seen_is_forgotten_on_disk_too_though_that_failed_at_first() {
    let (store, replica) = lazily(1);
    set(&replica, key("a"), "1", None);
    store.commit();
    let all: Vec<u16> = (0..64).collect();
    let written = replica.everything_written();
    replica.saw(1, &all, &written).expect("noted");
    store.commit();
    let partition = crate::logic::place::Position::of(b"a", replica.partitions()).partition;
    replica.forget_seen(1, partition).expect("queued");
    store.fail();
    store.settle(false);
    store.be_lazy(false);
    replica.recover_from_failures().expect("recovered");
    assert!(replica.seen(1, partition).is_empty());
    assert!(shared_on(&store, 2).seen(1, partition).is_empty());
}

#[test]
fn a_hint_whose_removal_was_not_stored_is_handed_over_again() {
    let node = crate::logic::placement::NodeId(7);
    let store = Arc::new(MemoryStore::new(2));
    let options = Options {
        actor: ActorId(1),
        shared: true,
        hints: super::HintLimits {
            bytes: 1 << 20,
            age_ms: u64::MAX,
        },
        ..Options::alone(Partitions::new(64).expect("a power of two"))
    };
    let dyn_store = Arc::clone(&store) as Arc<dyn Store>;
    let replica = Replica::start(dyn_store, options).expect("starts").0;
    store.be_lazy(true);
    set(&replica, key("a"), "1", None);
    replica.keep_hint(key("a"), node).expect("kept");
    store.commit();
    let mut pass = replica.begin_hints(node);
    let hints = replica.next_hints(node, &mut pass, 9).expect("read");
    let object = replica.read(key("a")).expect("read");
    replica
        .delivered(node, &hints[0], &object, true)
        .expect("queued");
    store.fail();
    store.settle(false);
    store.be_lazy(false);
    replica.recover_from_failures().expect("recovered");
    // The pass that began before must not end in a clean slate.
    assert!(
        replica
            .next_hints(node, &mut pass, 9)
            .expect("read")
            .is_empty()
    );
    assert_eq!(replica.hint_counts(), [(node, 1)]);
    let mut pass = replica.begin_hints(node);
    assert_eq!(
        replica.next_hints(node, &mut pass, 9).expect("read").len(),
        1
    );
}

#[test]
fn a_write_covers_no_dot_of_this_run_that_a_dropped_copy_had() {
    let (store, replica) = lazily(1);
    store.be_lazy(false);
    set(&replica, key("a"), "first", None);
    let first = (*replica.read(key("a")).expect("read")).clone();
    set(&replica, key("a"), "second", None);
    let second = (*replica.read(key("a")).expect("read")).clone();
    // The copy goes, as one does that was kept for somebody else, and an old one comes back.
    assert!(replica.drop_copy(key("a"), &second).expect("dropped"));
    assert!(replica.read(key("a")).expect("read").is_unknown());
    replica
        .join(key("a"), first, &Join::default())
        .expect("joined");
    set(&replica, key("a"), "third", None);
    let third = replica.read(key("a")).expect("read");
    let both = third.joined(second);
    let values: BTreeSet<String> = string::siblings(&both, clock::now_ms())
        .into_iter()
        .map(|s| String::from_utf8(s.bytes.to_vec()).expect("text"))
        .collect();
    assert_eq!(
        values,
        BTreeSet::from(["second".to_owned(), "third".to_owned()])
    );
}

#[test]
fn a_damaged_row_gives_way_to_a_quorum_and_to_nothing_else() {
    let (store, replica) = lazily(1);
    let (_, other) = lazily(2);
    store.be_lazy(false);
    set(&replica, key("a"), "ours", None);
    set(&other, key("a"), "theirs", None);
    let theirs = (*other.read(key("a")).expect("read")).clone();
    store.spoil(crate::storage::Table::Data, |_| true);
    let replica = shared_on(&store, 3);
    assert!(matches!(replica.read(key("a")), Err(ReplicaError::Row(_))));
    let one = replica.join(key("a"), theirs.clone(), &Join::default());
    assert!(matches!(one, Err(ReplicaError::Row(_))));
    assert_eq!(
        replica.next_damaged(&(0, Vec::new())),
        Some((0, b"a".to_vec()))
    );
    let how = Join {
        mends: true,
        ..Join::default()
    };
    replica.join(key("a"), theirs, &how).expect("mended");
    assert_eq!(get(&replica, key("a")).as_deref(), Some("theirs"));
    assert_eq!(replica.next_damaged(&(0, Vec::new())), None);
}

#[test]
fn every_damaged_row_is_counted_and_so_many_are_known_by_name() {
    const MORE: usize = 10;
    let (store, replica) = lazily(1);
    store.be_lazy(false);
    let names: Vec<String> = (0..super::MAX_DAMAGED + MORE)
        .map(|nth| format!("{nth:05}"))
        .collect();
    for name in &names {
        set(&replica, key(name), "v", None);
    }
    store.spoil(crate::storage::Table::Data, |_| true);
    let replica = shared_on(&store, 3);
    let counted = || replica.counters.damaged_rows.load(Ordering::Relaxed);
    // The start has met them, too.
    let before = counted();
    for name in &names {
        assert!(matches!(replica.read(key(name)), Err(ReplicaError::Row(_))));
    }
    assert_eq!(counted() - before, names.len() as u64);
    let mut from = (0, Vec::new());
    let mut known = 0;
    while let Some(mut next) = replica.next_damaged(&from) {
        known += 1;
        next.1.push(0);
        from = next;
    }
    assert_eq!(known, super::MAX_DAMAGED);
}

#[test]
fn what_is_listed_or_copied_in_pieces_is_not_read_many_times_over() {
    const MIB: usize = 1 << 20;
    let store = Arc::new(MemoryStore::new(1));
    let replica = shared(&store, 1);
    let large = "x".repeat(MIB);
    for n in 0..64 {
        set(&replica, key(&format!("{{a}}{n}")), &large, None);
    }
    let partition = crate::logic::place::Position::of(b"a", replica.partitions()).partition;
    let before = store.scanned_bytes();
    let piece = replica.piece((3, partition), &[], MIB / 4).expect("read");
    assert!(piece.next.is_some());
    assert!(store.scanned_bytes() - before < 10 * MIB as u64);
    let before = store.scanned_bytes();
    let found = replica.scan(0, 0, 10_000).expect("scanned");
    assert!(found.cursor > 0 && found.keys.len() < 20);
    assert!(store.scanned_bytes() - before < 20 * MIB as u64);
    assert_eq!(scan_all(&replica, 0, 10_000).expect("scanned").len(), 64);
}

#[test]
fn a_clock_that_was_set_back_does_not_stop_the_sweep() {
    let real = clock::simulate(Some(std::time::Duration::from_secs(2_000_000)));
    let replica = replica();
    let now_ms = clock::now_ms();
    let at = |name: &'static str, end_ms| set(&replica, key(name), "x", Some(end_ms));
    at("first", now_ms - 1);
    while replica.reclaim_expired(u64::MAX).expect("reclaimed") {}
    assert_eq!(replica.live_keys(0), 0);
    // An hour back: what ends now lies before the place that the sweep has come to.
    clock::simulate(Some(std::time::Duration::from_secs(2_000_000 - 3_600)));
    at("second", clock::now_ms() - 1);
    for _ in 0..3 {
        replica.reclaim_expired(u64::MAX).expect("reclaimed");
    }
    clock::simulate(real);
    assert_eq!(replica.live_keys(0), 0);
}

#[test]
fn the_end_of_a_reclaim_undoes_no_flush_that_came_meanwhile() {
    let store = Arc::new(MemoryStore::new(1));
    let replica = start(&store);
    let stops = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stops.load(std::sync::atomic::Ordering::Acquire) {
                replica.reclaim_flushed().expect("reclaimed");
            }
        });
        for n in 0..3_000 {
            set(&replica, key("k"), &n.to_string(), None);
            replica.flush(Some(0)).expect("flushed");
            // As it would be found after a crash.
            let again = MemoryStore::new(1);
            again.replace(Some(store.copy()));
            let again = start(&Arc::new(again));
            if get(&again, key("k")).is_some() {
                stops.store(true, std::sync::atomic::Ordering::Release);
                panic!("the {n}th flush is undone");
            }
        }
        stops.store(true, std::sync::atomic::Ordering::Release);
    });
}

/// An exchange: each side hears what of its versions is dead at the other, then takes its object in.
fn exchange(a: &Replica, b: &Replica) {
    for (from, to) in [(a, b), (b, a)] {
        let mut object = (*from.read(key("k")).expect("read")).clone();
        let theirs = to.read(key("k")).expect("read");
        let dots: Vec<_> = theirs.all_versions().map(|version| version.dot).collect();
        object.observe(from.dead_of(key("k"), &dots).expect("read"));
        to.join(key("k"), object, &Join::default()).expect("joined");
    }
}

#[test]
fn who_has_reclaimed_a_key_that_goes_on_elsewhere_learns_of_it_from_any_piece_of_news() {
    let [ours, theirs] = both_hold_what_has_ended();
    let all: Vec<u16> = (0..64).collect();
    for replica in [&ours, &theirs] {
        for _ in 0..3 {
            let written = ours.everything_written();
            replica.saw(3, &all, &written).expect("noted");
        }
    }
    // One is cut off while the other hears that the key goes on, twice.
    retime(&ours, None);
    while theirs.reclaim_expired(u64::MAX).expect("reclaimed") {}
    let later = Some(clock::now_ms() + 1_000_000);
    let last = ours.update(key("k"), |_, _| (Edit::Retime(later), ()));
    let ((), written) = last.expect("retimed");
    let last = written.and_then(|written| written.delta).expect("a delta");
    let partition = ours.partitions().of(slot_of(b"k"));
    let mut found = Tombstones::default();
    theirs
        .drop_tombstones(partition, &[], 9, &mut found)
        .expect("looked");
    assert_eq!(found.dropped, 0, "nobody knows what was said meanwhile");
    // The last change alone comes first.
    let joined = theirs.join(key("k"), last.decode().expect("a delta"), &Join::default());
    joined.expect("joined");
    exchange(&theirs, &ours);
    exchange(&ours, &theirs);
    for replica in [&ours, &theirs] {
        assert_eq!(get(replica, key("k")).as_deref(), Some("v"));
    }
}

#[test]
fn what_is_left_of_an_ended_key_goes_after_two_rounds() {
    let [ours, _] = both_hold_what_has_ended();
    let all: Vec<u16> = (0..64).collect();
    while ours.reclaim_expired(u64::MAX).expect("reclaimed") {}
    let partition = ours.partitions().of(slot_of(b"k"));
    let mut dropped = Vec::new();
    for _ in 0..4 {
        let mut found = Tombstones::default();
        ours.drop_tombstones(partition, &[], 9, &mut found)
            .expect("looked");
        dropped.push(found.dropped);
        // A round takes longer than a tick of the clock.
        std::thread::sleep(std::time::Duration::from_millis(2));
        let written = ours.everything_written();
        ours.saw(3, &all, &written).expect("noted");
    }
    assert_eq!(dropped, [0, 0, 0, 1]);
    assert_eq!(ours.rows(3, partition), 0);
}
