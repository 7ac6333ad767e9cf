//! The replica over a memory store: order, floors, scans, reclaiming.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Join, Key, Options, Replica, ReplicaError};
use crate::clock;
use crate::logic::causal::{ActorId, Payload, Value};
use crate::logic::placement::Partitions;
use crate::logic::types::string::{self, Change};
use crate::storage::{MemoryStore, Store};

fn start(store: &Arc<MemoryStore>) -> Replica {
    let partitions = Partitions::new(64).expect("a power of two");
    let store = Arc::clone(store) as Arc<dyn Store>;
    Replica::start(store, Options::alone(partitions, 4 << 20))
        .expect("starts")
        .0
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
        .update(at, |_, _| (Change::Put(value), ()))
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
        ..Options::alone(partitions, 4 << 20)
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
            ..Options::alone(partitions, 4 << 20)
        };
        let store = Arc::new(MemoryStore::new(1)) as Arc<dyn Store>;
        Replica::start(store, options).expect("starts").0
    };
    let (writer, other) = (node(1), node(2));
    let count = Change::Count {
        amount: 5,
        expires_at_ms: None,
    };
    let counted = other.update(key("n"), |_, _| (count, ()));
    counted.expect("counted");
    set(&writer, key("n"), "0", None);
    let blind = writer.read(key("n")).expect("read");
    let how = Join {
        only_over_seen: true,
        ..Join::default()
    };
    let refused = other.join(key("n"), (*blind).clone(), how);
    assert!(matches!(refused, Err(ReplicaError::Unseen(_))));
    assert_eq!(get(&other, key("n")).as_deref(), Some("5"));
    // Where there is nothing that it has not seen, it is stored, and again, too.
    let third = node(3);
    for _ in 0..2 {
        let stored = third.join(key("n"), (*blind).clone(), how);
        stored.expect("stored");
    }
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
    while replica.reclaim_expired().expect("reclaim") {}
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
    let delete = || replica.update(key("a"), |_, _| (Change::Delete, ()));
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
fn a_store_with_other_partitions_is_refused() {
    let store = Arc::new(MemoryStore::new(2));
    start(&store);
    let partitions = Partitions::new(32).expect("a power of two");
    assert!(Replica::start(store, Options::alone(partitions, 4 << 20)).is_err());
}
