//! A replica that keeps every collection as a row an element, beside one that keeps each as one row: whatever happens to
//! both they hold the same, and count the same.

use std::sync::Arc;

use super::*;
use crate::logic::causal::{ActorId, Dot, Element, KINDS, Kind, Payload, Value};
use crate::logic::edit::{Edit, Put, Touch};
use crate::logic::placement::Partitions;
use crate::logic::spread::Stretch;
use crate::logic::types;
use crate::logic::types::stream::{self, Group, Id};
use crate::replica::{Delta, Join, Options};
use crate::storage::{MemoryStore, Store};

const PARTITIONS: u16 = 4;

pub(super) fn node(
    store: &Arc<MemoryStore>,
    actor: u64,
    most_in_one_row: usize,
    shared: bool,
) -> Replica {
    let partitions = Partitions::new(PARTITIONS).expect("a power of two");
    let options = Options {
        actor: ActorId(actor),
        shared,
        most_in_one_row,
        max_clock_drift_ms: 60_000,
        ..Options::alone(partitions)
    };
    let store = Arc::clone(store) as Arc<dyn Store>;
    Replica::start(store, options).expect("starts").0
}

/// Steps that follow from a seed.
pub(super) struct Steps(pub u64);

impl Steps {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

fn element(steps: &mut Steps, kind: Kind) -> Element {
    let number = steps.below(12);
    match kind {
        // Names of places in a list are such.
        Kind::List => types::element(kind, format!("@place-of-a-push-{number:03}-").as_bytes()),
        Kind::Stream => stream::entry_element(Id { ms: number, seq: 0 }, ActorId(9)),
        Kind::StreamState => stream::group_element(format!("group-{number}").as_bytes()),
        _ => types::element(kind, format!("element-{number}").as_bytes()),
    }
}

fn value(steps: &mut Steps, kind: Kind) -> Value {
    let bytes = match kind {
        Kind::Set => Vec::new(),
        Kind::Zset => (steps.below(5) as f64).to_bits().to_be_bytes().to_vec(),
        Kind::Stream => vec![2, 1, b'f', 1, steps.below(100) as u8],
        Kind::StreamState => {
            let group = Group::behind(Id::MIN, Some(steps.below(100)), 1);
            let touch = stream::put_group(b"", &group);
            return touch.value.expect("it is put");
        }
        _ => format!("value-{}", steps.below(100)).into_bytes(),
    };
    Value {
        payload: Payload::Bytes(bytes.into()),
        expires_at_ms: None,
    }
}

/// An edit, and the elements that have to be at hand for it.
fn edit(steps: &mut Steps, kind: Kind) -> (Edit, Vec<Element>) {
    match steps.below(16) {
        0 => (Edit::delete(), Vec::new()),
        1 => {
            let end_ms = crate::base::clock::now_ms() + 1_000_000;
            (Edit::Retime(Some(end_ms)), Vec::new())
        }
        2 => (Edit::Retime(None), Vec::new()),
        3 => (
            Edit::put(Element::STRING, value(steps, Kind::Hash)),
            Vec::new(),
        ),
        6 => {
            let put = |element: Element, steps: &mut Steps| Put {
                value: value(steps, kind),
                element,
            };
            let puts = (0..2).map(|_| element(steps, kind)).collect::<Vec<_>>();
            let puts = puts.into_iter().map(|element| put(element, steps));
            (Edit::Replace(puts.collect()), Vec::new())
        }
        4 | 5 if matches!(kind, Kind::Hash | Kind::Zset) => {
            let element = element(steps, kind);
            (Edit::Count(element.clone(), 3), vec![element])
        }
        _ => {
            let mut elements: Vec<Element> =
                (0..=steps.below(3)).map(|_| element(steps, kind)).collect();
            elements.sort_unstable();
            elements.dedup();
            let touch = |element: &Element| Touch {
                element: element.clone(),
                value: (steps.below(3) > 0).then(|| value(steps, kind)),
            };
            let touched = elements.iter().map(touch).collect();
            (Edit::Touch(touched), elements)
        }
    }
}

fn take(replica: &Replica, delta: &Delta) {
    let how = Join {
        touched: delta.touched.clone(),
        ..Join::default()
    };
    let key = Key {
        db: delta.db,
        name: &delta.name,
    };
    replica
        .join(key, delta.decode().expect("a delta"), &how)
        .expect("taken");
}

fn roots(replica: &Replica) -> Vec<u64> {
    replica.finish_counting();
    let roots = (0..PARTITIONS).map(|partition| replica.root(1, partition, 0));
    roots.chain([replica.live_keys(0)]).collect()
}

/// Whether some of an object tells what all of it does.
fn check(replica: &Replica, key: Key<'_>, whole: &Object, steps: &mut Steps) {
    let kind = KINDS[steps.below(KINDS.len() as u64) as usize];
    let named = [element(steps, kind), element(steps, kind)];
    let each = [Reach::Named(&named), Reach::Ends(kind, 1, 2)];
    let reaches = [
        Reach::Head,
        Reach::Named(&named),
        Reach::Ends(kind, steps.below(3) as usize, 0),
        Reach::Ends(kind, 0, steps.below(3) as usize),
        Reach::Each(&each),
    ];
    let now_ms = crate::base::clock::now_ms();
    for reach in reaches {
        let some = replica.read_some(key, reach).expect("read");
        assert_eq!(some.is_tombstone(), whole.is_tombstone());
        assert_eq!(some.ends_at_ms(), whole.ends_at_ms());
        assert_eq!(some.has_siblings(), whole.has_siblings());
        assert_eq!(types::kind(&some, now_ms), types::kind(whole, now_ms));
        assert_eq!(replica.digest(key, &some), replica.digest(key, whole));
        for kind in KINDS {
            assert_eq!(types::len(&some, kind), types::len(whole, kind));
        }
        for element in &named {
            if matches!(reach, Reach::Named(_)) {
                assert_eq!(some.versions(element), whole.versions(element));
            }
        }
        if let Reach::Ends(Kind::List, first, last) = reach {
            let all: Vec<_> = types::list::items(whole).collect();
            let here: Vec<_> = types::list::items(&some).collect();
            assert!(here.starts_with(&all[..first.min(all.len())]));
            assert!(here.ends_with(&all[all.len().saturating_sub(last)..]));
        }
        if let Reach::Ends(Kind::Stream, first, last) = reach {
            let all: Vec<_> = stream::entries(whole).collect();
            let here: Vec<_> = stream::entries(&some).collect();
            assert!(here.starts_with(&all[..first.min(all.len())]));
            assert!(here.ends_with(&all[all.len().saturating_sub(last)..]));
        }
        if let Reach::Ends(Kind::Zset, first, last) = reach {
            let all = types::zset::by_score(whole);
            let here = types::zset::by_score(&some);
            assert!(here.starts_with(&all[..first.min(all.len())]));
            assert!(here.ends_with(&all[all.len().saturating_sub(last)..]));
        }
    }
}

/// Rows of data that are there beside those that there should be.
fn superfluous(replica: &Replica, names: &[String]) -> i64 {
    while replica.reclaim_flushed().expect("reclaimed") {}
    while replica.reclaim_elements().expect("reclaimed") {}
    let shards = 0..replica.store.shards();
    let rows = shards.map(|shard| {
        let rows = replica
            .store
            .scan(shard, Table::Data, &[], &[0xff; 4], usize::MAX);
        rows.expect("read").len() as i64
    });
    let expected = names.iter().map(|name| {
        let key = Key {
            db: 0,
            name: name.as_bytes(),
        };
        let located = replica.locate(key, Position::of(key.name, replica.partitions));
        let object = replica.load(&located).expect("read");
        if replica.forgets(&object) {
            return 0;
        }
        if *located.lies.borrow() == Lies::InOne {
            return 1;
        }
        let cells = spread::cells(&object);
        let ordered = cells.iter().filter(|cell| cell.order(&object).is_some());
        1 + cells.len() as i64 + ordered.count() as i64
    });
    rows.sum::<i64>() - expected.sum::<i64>()
}

#[test]
fn a_row_an_element_tells_what_one_row_tells() {
    for seed in 1..=60 {
        let mut steps = Steps(seed);
        let stores = [Arc::new(MemoryStore::new(2)), Arc::new(MemoryStore::new(2))];
        let one = node(&stores[0], 1, usize::MAX, true);
        let many = node(&stores[1], 2, 1, true);
        let names: Vec<String> = (0..KINDS.len()).map(|n| format!("key-{n}")).collect();
        let mut late: Vec<Delta> = Vec::new();
        for _ in 0..220 {
            let nth = steps.below(KINDS.len() as u64) as usize;
            let key = Key {
                db: 0,
                name: names[nth].as_bytes(),
            };
            // Now and then another type.
            let kind = KINDS[if steps.below(12) == 0 {
                steps.below(KINDS.len() as u64) as usize
            } else {
                nth
            }];
            let (edit, named) = edit(&mut steps, kind);
            let (writer, other) = if steps.below(2) == 0 {
                (&one, &many)
            } else {
                (&many, &one)
            };
            let reach = if named.is_empty() {
                Reach::Head
            } else {
                Reach::Named(&named)
            };
            let written = writer
                .update_some(key, reach, |_, _| (edit, ()))
                .expect("written")
                .1;
            let delta = *written.expect("something").delta.expect("shared");
            if steps.below(5) == 0 {
                late.push(delta);
            } else {
                take(other, &delta);
            }
            if steps.below(8) == 0 {
                for delta in late.drain(..) {
                    for replica in [&one, &many] {
                        take(replica, &delta);
                    }
                }
            }
            if steps.below(30) == 0 {
                // A whole copy, as one that is repaired.
                let object = Object::clone(&one.read(key).expect("read"));
                many.join(key, object, &Join::default()).expect("taken");
            }
            if steps.below(60) == 0 && late.is_empty() {
                let floor = one.everything_written();
                for replica in [&one, &many] {
                    replica.raise_floor(Some(0), &floor).expect("raised");
                }
            }
            if late.is_empty() {
                let (a, b) = (one.read(key).expect("read"), many.read(key).expect("read"));
                assert_eq!(a, b, "seed {seed}");
            }
            let whole = many.read(key).expect("read");
            check(&many, key, &whole, &mut steps);
        }
        for delta in late.drain(..) {
            for replica in [&one, &many] {
                take(replica, &delta);
            }
        }
        assert_eq!(roots(&one), roots(&many), "seed {seed}");
        let again = node(&stores[1], 3, 1, true);
        assert_eq!(roots(&again), roots(&many), "seed {seed}: counted anew");
        assert_eq!(superfluous(&many, &names), 0, "seed {seed}");
    }
}

fn put(replica: &Replica, name: &str, elements: &[Element]) -> Delta {
    let touch = |element: &Element| Touch::put(element.clone(), "value".into());
    let edit = Edit::Touch(elements.iter().map(touch).collect());
    let key = key(name);
    let written = replica.update_some(key, Reach::Named(elements), |_, _| (edit, ()));
    let delta = written
        .expect("written")
        .1
        .and_then(|written| written.delta);
    *delta.expect("shared")
}

fn key(name: &str) -> Key<'_> {
    Key {
        db: 0,
        name: name.as_bytes(),
    }
}

fn field(name: &str) -> Element {
    types::element(Kind::Hash, name.as_bytes())
}

#[test]
fn a_name_that_is_longer_than_keys_of_rows_keeps_its_collection_in_one_row() {
    let many = node(&Arc::new(MemoryStore::new(1)), 1, 1, true);
    put(&many, "k", &[field("a"), field("b")]);
    let long = field(&"n".repeat(70_000));
    let some = many.read_some(key("k"), Reach::Named(std::slice::from_ref(&long)));
    assert!(some.expect("read").versions(&long).is_empty());
    put(&many, "k", std::slice::from_ref(&long));
    put(&many, "k", &[field("c")]);
    let whole = many.read(key("k")).expect("read");
    assert_eq!(types::len(&whole, Kind::Hash), 4);
    let located = many.locate(key("k"), Position::of(b"k", many.partitions));
    many.load(&located).expect("read");
    assert_eq!(*located.lies.borrow(), Lies::InOne);
    // When it goes the others have rows of their own again.
    let gone = Edit::Touch(vec![Touch::remove(long)]);
    many.update(key("k"), |_, _| (gone, ())).expect("removed");
    many.load(&located).expect("read");
    assert!(matches!(*located.lies.borrow(), Lies::InMany { .. }));
    assert_eq!(superfluous(&many, &["k".to_owned()]), 0);
}

#[test]
fn what_is_remembered_of_elements_is_no_element_of_a_stretch() {
    let stores = [Arc::new(MemoryStore::new(1)), Arc::new(MemoryStore::new(1))];
    let (here, there) = (node(&stores[0], 1, 1, true), node(&stores[1], 2, 1, true));
    for n in 0..60 {
        let counted = Edit::Count(field(&format!("counted-{n}")), 1);
        let written = there
            .update(key("k"), |_, _| (counted, ()))
            .expect("counted");
        take(&here, &written.1.and_then(|w| w.delta).expect("shared"));
    }
    put(
        &here,
        "k",
        &(0..60)
            .map(|n| field(&format!("plain-{n}")))
            .collect::<Vec<_>>(),
    );
    for n in 0..60 {
        let gone = Edit::Touch(vec![Touch::remove(field(&format!("counted-{n}")))]);
        here.update(key("k"), |_, _| (gone, ())).expect("removed");
    }
    let stretch = Stretch::of_hashes(Kind::Hash, [0; spread::HASH_LEN], 50, false);
    let some = here
        .read_some(key("k"), Reach::Stretch(&stretch))
        .expect("read");
    assert_eq!(types::there(&some, Kind::Hash).count(), 50);
    assert_eq!(types::len(&some, Kind::Hash), 60);
}

#[test]
fn a_change_of_the_end_of_a_large_key_names_all_that_its_writer_had_seen() {
    let stores = [Arc::new(MemoryStore::new(1)), Arc::new(MemoryStore::new(1))];
    let (here, there) = (node(&stores[0], 1, 1, true), node(&stores[1], 2, 1, true));
    let fields: Vec<Element> = (0..20).map(|n| field(&format!("field-{n}"))).collect();
    put(&here, "k", &fields);
    let edit = Edit::Retime(None);
    let written = here.update_some(key("k"), Reach::Head, |_, _| (edit, ()));
    written.expect("written");
    // The other has seen everything but that, and forgotten the key.
    let seen = Context::of_dots((1..=20).map(|seq| Dot {
        actor: ActorId(1),
        seq,
    }));
    let partition = Position::of(b"k", there.partitions).partition;
    there.saw(1, &[partition], &seen).expect("seen");
    let all = Object::clone(&here.read(key("k")).expect("read"));
    there.join(key("k"), all, &Join::default()).expect("taken");
    let there = there.read(key("k")).expect("read");
    assert_eq!(types::len(&there, Kind::Hash), 20);
}
