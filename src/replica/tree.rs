//! The sums of one space's Merkle tree, kept up by every write.
//!
//! Objects that end soon are summed once more by when they end. Sums *as of* an instant leave out what has
//! ended before it, so that replicas agree though they reclaim at different moments: no replica has
//! reclaimed yet what ends after the instant. How soon says [`super::ends`].

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::logic::causal::Object;
use crate::logic::codec::{DecodeError, Reader, put_varint, put_zigzag};
use crate::logic::digest;
use crate::logic::merkle::{Leaves, Shape};

/// Ends within this many milliseconds are summed together, and an instant is a multiple of it.
pub const ENDING_MS: u64 = 1 << 12;

/// Where an object's digest counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a> {
    /// Which of the space's trees.
    pub(super) tree: usize,
    pub(super) leaf: usize,
    pub(super) row_key: &'a [u8],
    /// What ends later is not followed yet.
    pub(super) ends_before_ms: u64,
}

/// What counts of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// Whether there is a row, be it a tombstone's.
    pub(super) is_row: bool,
    /// The digest of what lives; 0 where nothing does.
    pub(super) digest: u64,
    pub(super) ends_at_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Tree {
    leaves: OnceLock<Box<[AtomicU64]>>,
    /// The sum of all leaves.
    total: AtomicU64,
    ending: Mutex<BTreeMap<u64, Ending>>,
    /// Rows, tombstones among them.
    rows: AtomicI64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    sum: u64,
    count: i64,
}

impl Ending {
    /// Adds objects, or takes them away, that end at an instant.
    pub(super) fn add(all: &mut BTreeMap<u64, Ending>, end_ms: u64, sum: u64, count: i64) {
        let at = end_ms / ENDING_MS;
        let entry = all.entry(at).or_default();
        entry.sum = entry.sum.wrapping_add(sum);
        entry.count += count;
        if *entry == Ending::default() {
            all.remove(&at);
        }
    }
}

impl Tree {
    /// Follows an object from one state to the next.
    pub(super) fn change(&self, shape: Shape, at: Spot<'_>, old: &Object, new: &Object) {
        let state = |object: &Object| State {
            is_row: !object.is_unknown(),
            digest: digest::of_living(at.row_key, object),
            ends_at_ms: object.ends_at_ms(),
        };
        self.step(shape, at, [state(old), state(new)]);
    }

    /// Follows a key from one state to the next.
    pub(super) fn step(&self, shape: Shape, at: Spot<'_>, [old, new]: [State; 2]) {
        let rows = i64::from(new.is_row) - i64::from(old.is_row);
        if rows != 0 {
            self.rows.fetch_add(rows, Ordering::Relaxed);
        }
        if old.digest == new.digest {
            return;
        }
        let leaves = self.leaves.get_or_init(|| {
            let empty = (0..shape.leaves()).map(|_| AtomicU64::new(0));
            empty.collect()
        });
        let change = new.digest.wrapping_sub(old.digest);
        leaves[at.leaf].fetch_add(change, Ordering::Relaxed);
        self.total.fetch_add(change, Ordering::Relaxed);
        let ends = [(old, old.digest.wrapping_neg(), -1), (new, new.digest, 1)];
        for (state, sum, count) in ends {
            let end = state.ends_at_ms.filter(|end| *end < at.ends_before_ms);
            // Nothing lives in an object without a digest.
            if let (Some(end), true) = (end, sum != 0) {
                Ending::add(&mut self.ending.lock(), end, sum, count);
            }
        }
    }

    /// Learns of what ends later than was followed before.
    pub(super) fn learn(&self, endings: BTreeMap<u64, Ending>) {
        let mut all = self.ending.lock();
        for (at, Ending { sum, count }) in endings {
            Ending::add(&mut all, at * ENDING_MS, sum, count);
        }
    }

    /// How many stretches of time have something that ends.
    #[cfg(test)]
    pub(super) fn endings(&self) -> usize {
        self.ending.lock().len()
    }

    pub(super) fn clear(&self) {
        for leaf in self.leaves.get().into_iter().flatten() {
            leaf.store(0, Ordering::Relaxed);
        }
        self.total.store(0, Ordering::Relaxed);
        self.ending.lock().clear();
        self.rows.store(0, Ordering::Relaxed);
    }

    pub(super) fn rows(&self) -> i64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// The sum of all leaves, without what has ended before an instant.
    pub(super) fn root(&self, as_of_ms: u64) -> u64 {
        let ending = self.ending.lock();
        let ended = ending.range(..as_of_ms / ENDING_MS);
        let ended = ended.fold(0u64, |sum, (_, entry)| sum.wrapping_add(entry.sum));
        self.total.load(Ordering::Relaxed).wrapping_sub(ended)
    }

    /// The sum of some leaves, whatever has ended.
    pub(super) fn sum(&self, leaves: Leaves) -> u64 {
        let all = self.leaves.get();
        all.map_or(0, |all| {
            total(&all[leaves.start as usize..leaves.end as usize])
        })
    }

    /// Appends rows, ends and leaves.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_zigzag(out, self.rows());
        let ending = self.ending.lock();
        put_varint(out, ending.len() as u64);
        for (at, entry) in &*ending {
            put_varint(out, *at);
            out.extend_from_slice(&entry.sum.to_le_bytes());
            put_zigzag(out, entry.count);
        }
        let leaves = self.leaves.get().map_or(&[][..], |leaves| leaves);
        put_varint(out, leaves.len() as u64);
        for leaf in leaves {
            out.extend_from_slice(&leaf.load(Ordering::Relaxed).to_le_bytes());
        }
    }

    /// Takes what [`Self::encode`] wrote.
    pub(super) fn take(&self, r: &mut Reader<'_>, shape: Shape) -> Result<(), DecodeError> {
        self.rows.store(r.zigzag()?, Ordering::Relaxed);
        let mut ending = BTreeMap::new();
        for _ in 0..r.count(10)? {
            let (at, sum) = (r.varint()?, r.u64_le()?);
            let count = r.zigzag()?;
            ending.insert(at, Ending { sum, count });
        }
        *self.ending.lock() = ending;
        let count = r.count(8)?;
        if count == 0 {
            return Ok(());
        }
        let leaves: Result<Box<[AtomicU64]>, DecodeError> =
            (0..count).map(|_| r.u64_le().map(AtomicU64::new)).collect();
        let leaves = leaves?;
        self.total.store(total(&leaves), Ordering::Relaxed);
        if leaves.len() != shape.leaves() || self.leaves.set(leaves).is_err() {
            return Err(DecodeError::Malformed);
        }
        Ok(())
    }
}

fn total(leaves: &[AtomicU64]) -> u64 {
    leaves.iter().fold(0, |sum, leaf| {
        sum.wrapping_add(leaf.load(Ordering::Relaxed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::{ActorId, Element, Payload, Timestamp, Value};
    use crate::logic::placement::Partitions;

    fn written(seq: u64, ends: Option<u64>) -> Object {
        let mut delta = Object::delta(ActorId(1), 0);
        let value = Value {
            payload: Payload::Bytes("v".into()),
            expires_at_ms: ends,
        };
        delta.put(seq, Timestamp(seq), &Element::STRING, value);
        delta.finish()
    }

    #[test]
    fn what_has_ended_counts_no_more_before_and_after_it_is_reclaimed() {
        let shape = Shape::of(Partitions::new(256).expect("a power of two"));
        let empty = Object::default();
        let spot = |row_key: &'static [u8]| Spot {
            tree: 0,
            leaf: 3,
            row_key,
            ends_before_ms: u64::MAX,
        };
        let (slow, quick) = (Tree::default(), Tree::default());
        for tree in [&slow, &quick] {
            tree.change(shape, spot(b"a"), &empty, &written(1, None));
            tree.change(shape, spot(b"b"), &empty, &written(2, Some(ENDING_MS + 5)));
            tree.change(shape, spot(b"c"), &empty, &written(3, Some(ENDING_MS * 9)));
        }
        assert_eq!(slow.root(0), quick.root(0));
        quick.change(shape, spot(b"b"), &written(2, Some(ENDING_MS + 5)), &empty);
        assert_ne!(slow.root(ENDING_MS), quick.root(ENDING_MS));
        assert_eq!(slow.root(2 * ENDING_MS), quick.root(2 * ENDING_MS));
        assert_eq!((slow.rows(), quick.rows()), (3, 2));

        let mut raw = Vec::new();
        quick.encode(&mut raw);
        let again = Tree::default();
        let mut r = Reader(&raw);
        again.take(&mut r, shape).expect("what was written");
        assert!(r.0.is_empty());
        assert_eq!(again.root(0), quick.root(0));
        quick.clear();
        assert_eq!((quick.root(0), quick.rows()), (0, 0));
    }
}
