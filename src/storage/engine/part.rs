//! A part of the rows in memory: rows that the tables lack, and rows of theirs that are asked for often,
//! in one hash table. A row is one allocation, its key and then its value.
//!
//! A slot says which batch has last changed it: greater than what is flushed, and the tables lack it;
//! greater than what is committed, and the journal does. Rows of elements have an order beside the table
//! while the tables lack them; of others there are few enough in a part to be sorted when they are wanted.
//! Not here: who writes when, and the tables.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::keys::{Keys, spread};
use super::known::Known;
use super::slot::{Slot, Taken};

/// How many slots a search for one to be dropped looks at.
const STEPS: usize = 32;

/// What is in memory of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held<'a> {
    /// `None`: there is none.
    pub(super) value: Option<&'a [u8]>,
    /// The batch that has it.
    pub(super) batch: u64,
}

/// A row as it was copied; `None` for one that was removed.
pub(super) type Copied = (Vec<u8>, Option<Vec<u8>>);

/// By how much memory has grown, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Growth {
    /// All rows.
    pub(super) all: i64,
    /// Rows to be flushed.
    pub(super) dirty: i64,
}

impl Growth {
    pub(super) fn add(&mut self, other: Self) {
        self.all += other.all;
        self.dirty += other.dirty;
    }
}

/// Rows that a view of an earlier time needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needed {
    /// What the tables had then.
    pub(super) flushed: u64,
    /// The last batch of that time.
    pub(super) upto: u64,
}

impl Needed {
    fn has(self, batch: u64) -> bool {
        self.flushed < batch && batch <= self.upto
    }
}

/// Some of the rows. What most commands touch is together.
#[derive(Default)]
pub(super) struct Part {
    slots: HashTable<Slot>,
    evictions: u64,
    hits: u64,
    rest: Box<Rest>,
}

/// What is touched now and then.
#[derive(Default)]
struct Rest {
    /// Hashes of rows to be flushed.
    listed: Vec<u32>,
    /// Keys of elements among them.
    elements: BTreeSet<Box<[u8]>>,
    /// Keys of elements that are being flushed.
    leaving: BTreeSet<Box<[u8]>>,
    /// What views of earlier times still need, of rows that were written since: with their batches.
    saved: Vec<(u64, Box<[u8]>, Option<Box<[u8]>>)>,
    hand: usize,
    /// What the tables may have; nothing where that would take too much memory.
    known: Option<Known>,
}

impl Part {
    /// How many rows were dropped.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// How many rows were asked for and found.
    pub(super) fn hits(&self) -> u64 {
        self.hits
    }

    /// Whether the tables may have a row.
    pub(super) fn may_be_below(&self, hash: u64) -> bool {
        self.rest
            .known
            .as_ref()
            .is_none_or(|known| known.may_have(hash))
    }

    /// Whether the tables may have elements of the key of which one is an element.
    pub(super) fn may_have_elements_below(&self, keys: &Keys, key: &[u8]) -> bool {
        self.may_be_below(keys.hash_of_elements(key))
    }

    /// From now on what the tables get is known.
    pub(super) fn begin_to_know(&mut self) -> Growth {
        let grown = self.give_up_knowing();
        self.rest.known = Some(Known::default());
        grown
    }

    /// Hashes of rows that the tables had when that began, and whether that is all of them.
    pub(super) fn know(&mut self, hashes: &[u64], is_all: bool) -> Growth {
        let Some(known) = &mut self.rest.known else {
            return Growth::default();
        };
        let all = hashes.iter().map(|hash| known.add(*hash)).sum();
        if is_all {
            known.be_complete();
        }
        Growth { all, dirty: 0 }
    }

    /// It is not worth the memory.
    pub(super) fn give_up_knowing(&mut self) -> Growth {
        let known = self.rest.known.take();
        Growth {
            all: -known.map_or(0, |mut known| known.give_up()),
            dirty: 0,
        }
    }

    /// Whether it has no rows at all.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is in memory of a row.
    pub(super) fn get(&mut self, hash: u64, key: &[u8]) -> Option<Held<'_>> {
        let slot = self.slots.find_mut(hash, |slot| slot.is(hash, key))?;
        self.hits += 1;
        if !slot.is_hot {
            slot.is_hot = true;
        }
        Some(Held {
            value: slot.value(),
            batch: slot.batch,
        })
    }

    /// Puts a row, or removes it, as a batch does.
    pub(super) fn put(
        &mut self,
        keys: &Keys,
        (hash, key): (u64, &[u8]),
        value: Option<&[u8]>,
        batch: u64,
        views: &[Needed],
    ) -> Growth {
        let may_be_below = self.may_be_below(hash);
        match self
            .slots
            .entry(hash, |slot| slot.is(hash, key), Slot::hash)
        {
            Entry::Occupied(mut entry) => {
                let slot = entry.get_mut();
                let rest = &mut *self.rest;
                // The tables need not hear of an element that they never had; who reads on, neither.
                let is_needed = !views.is_empty() || !rest.saved.is_empty();
                let goes = value.is_none() && keys.is_element(key) && !may_be_below && !is_needed;
                let mut growth = Place { slot, rest }.put(keys, value, batch, views);
                if goes {
                    let bytes = slot.bytes() as i64;
                    growth.all -= bytes;
                    growth.dirty -= bytes;
                    self.rest.elements.remove(key);
                    entry.remove();
                }
                growth
            }
            Entry::Vacant(_) if value.is_none() && keys.is_element(key) && !may_be_below => {
                Growth::default()
            }
            Entry::Vacant(entry) => {
                let entry = entry.insert(Slot::new((hash, key), value, batch));
                let slot = entry.into_mut();
                self.rest.list(keys, slot);
                Growth {
                    all: slot.bytes() as i64,
                    dirty: slot.bytes() as i64,
                }
            }
        }
    }

    /// Where a row is in memory.
    pub(super) fn find(&mut self, hash: u64, key: &[u8]) -> Option<Place<'_>> {
        let slot = self.slots.find_mut(hash, |slot| slot.is(hash, key))?;
        self.hits += 1;
        let rest = &mut self.rest;
        Some(Place { slot, rest })
    }

    /// Remembers what the tables have of a row, unless something else is known by now.
    pub(super) fn remember(&mut self, (hash, key): (u64, &[u8]), value: Option<&[u8]>) -> Growth {
        let mut growth = Growth::default();
        if let Entry::Vacant(entry) = self
            .slots
            .entry(hash, |slot| slot.is(hash, key), Slot::hash)
        {
            let slot = Slot::new((hash, key), value, 0);
            growth.all = slot.bytes() as i64;
            entry.insert(slot);
        }
        growth
    }

    /// Drops rows that the tables have, until so many bytes are free or some were looked at; how many.
    pub(super) fn evict(&mut self, wanted: u64, flushed: u64, views: &[Needed]) -> u64 {
        let buckets = self.slots.num_buckets();
        let mut freed = 0;
        for _ in 0..STEPS.min(buckets) {
            if freed >= wanted {
                break;
            }
            self.rest.hand = (self.rest.hand + 1) % buckets;
            let Some(slot) = self.slots.get_bucket_mut(self.rest.hand) else {
                continue;
            };
            let is_needed = views.iter().any(|view| view.has(slot.batch));
            if slot.is_listed || slot.batch > flushed || is_needed {
                continue;
            }
            if std::mem::take(&mut slot.is_hot) {
                continue;
            }
            freed += slot.bytes() as u64;
            if let Ok(entry) = self.slots.get_bucket_entry(self.rest.hand) {
                entry.remove();
                self.evictions += 1;
            }
        }
        freed
    }

    /// Rows that the tables lack up to a batch, sorted: they are not listed any more.
    pub(super) fn take_listed(&mut self, keys: &Keys, upto: u64) -> (Vec<Taken>, Growth) {
        let rest = &mut *self.rest;
        let mut taken = Vec::with_capacity(rest.listed.len());
        let mut growth = Growth::default();
        for hash in std::mem::take(&mut rest.listed) {
            let mut is_left = false;
            // Rows of one hash are met once for each, and taken once.
            for slot in self.slots.iter_hash_mut(spread(hash)) {
                if !slot.is_listed || slot.bits != hash {
                    continue;
                }
                if slot.batch > upto {
                    is_left = true;
                    continue;
                }
                slot.is_listed = false;
                growth.dirty -= slot.bytes() as i64;
                if !slot.is_dead
                    && let Some(known) = &mut rest.known
                {
                    growth.all += known.add(slot.hash());
                    if keys.is_element(slot.key()) {
                        growth.all += known.add(keys.hash_of_elements(slot.key()));
                    }
                }
                taken.push(slot.taken());
            }
            if is_left {
                rest.listed.push(hash);
            }
        }
        rest.leaving = std::mem::take(&mut rest.elements);
        if !rest.leaving.is_empty() {
            for &hash in &rest.listed {
                let slots = self.slots.iter_hash(spread(hash));
                for slot in slots.filter(|slot| slot.is_listed && slot.bits == hash) {
                    if keys.is_element(slot.key()) {
                        rest.elements.insert(slot.key().into());
                    }
                }
            }
        }
        taken.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        (taken, growth)
    }

    /// The tables have what was taken: what it was is to be dropped outside of any lock.
    pub(super) fn be_flushed(&mut self) -> impl Sized + use<> {
        std::mem::take(&mut self.rest.leaving)
    }

    /// Lists again what the tables did not get.
    pub(super) fn list_again(&mut self, keys: &Keys, flushed: u64) -> Growth {
        let mut growth = Growth::default();
        for slot in &mut self.slots {
            if slot.batch > flushed && !slot.is_listed {
                slot.is_listed = true;
                growth.dirty += slot.bytes() as i64;
                self.rest.list(keys, slot);
            }
        }
        growth
    }

    /// Whether there is nothing that the tables may lack.
    pub(super) fn is_clean(&self) -> bool {
        self.rest.listed.is_empty()
    }

    /// Rows that the tables may lack with `from <= key < to`: all but elements, and of those at least so
    /// many that are there. Sorted; with the last key up to which they are complete, where that is not
    /// `to`.
    pub(super) fn range(
        &self,
        keys: &Keys,
        (from, to): (&[u8], &[u8]),
        flushed: u64,
        limit: usize,
    ) -> (Vec<Copied>, Option<Vec<u8>>) {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let elements = self.rest.elements.range::<[u8], _>(range);
        let leaving = self.rest.leaving.range::<[u8], _>(range);
        let (mut found, bound) = self.copy(keys, merged(elements, leaving, Ordering::Less), limit);
        if keys.are_of_one(from, to) {
            return (found, bound);
        }
        let is_in = |key: &[u8]| from <= key && key < to;
        // What is being flushed is not listed, and the tables may not have it yet.
        let copy = |slot: &Slot| {
            let row = || (slot.key().to_vec(), slot.value().map(<[u8]>::to_vec));
            (slot.batch > flushed && is_in(slot.key()) && !keys.is_element(slot.key())).then(row)
        };
        found.extend(self.slots.iter().filter_map(copy));
        found.sort_unstable();
        if let Some(bound) = &bound {
            found.retain(|(key, _)| key <= bound);
        }
        (found, bound)
    }

    /// The same from the other end on, descending, of places between elements of one key.
    pub(super) fn range_back(
        &self,
        keys: &Keys,
        (from, to): (&[u8], &[u8]),
        limit: usize,
    ) -> (Vec<Copied>, Option<Vec<u8>>) {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let elements = self.rest.elements.range::<[u8], _>(range).rev();
        let leaving = self.rest.leaving.range::<[u8], _>(range).rev();
        self.copy(keys, merged(elements, leaving, Ordering::Greater), limit)
    }

    /// Copies rows of elements until so many that are there were met; with the last one's key then.
    fn copy<'k>(
        &self,
        keys: &Keys,
        elements: impl Iterator<Item = &'k [u8]>,
        limit: usize,
    ) -> (Vec<Copied>, Option<Vec<u8>>) {
        let (mut found, mut living) = (Vec::new(), 0);
        for key in elements {
            let hash = keys.hash(key);
            let slot = self.slots.find(hash, |slot| slot.is(hash, key));
            let Some(slot) = slot else { continue };
            living += usize::from(!slot.is_dead);
            found.push((key.to_vec(), slot.value().map(<[u8]>::to_vec)));
            if living >= limit {
                return (found, Some(key.to_vec()));
            }
        }
        (found, None)
    }

    /// All rows that a view needs, sorted.
    pub(super) fn of_view(&self, view: Needed) -> Vec<Copied> {
        let slots = self.slots.iter().filter(|slot| view.has(slot.batch));
        let slots = slots.map(|slot| (slot.key(), slot.batch, slot.value()));
        let saved = self
            .rest
            .saved
            .iter()
            .filter(|(batch, ..)| view.has(*batch));
        let saved = saved.map(|(batch, key, value)| (&**key, *batch, value.as_deref()));
        let mut found: Vec<(&[u8], u64, Option<&[u8]>)> = slots.chain(saved).collect();
        found.sort_unstable_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
        // What another view had kept is older than what this one saw.
        found.dedup_by(|later, kept| later.0 == kept.0);
        let copy = |(key, _, value): (&[u8], u64, Option<&[u8]>)| {
            (key.to_vec(), value.map(<[u8]>::to_vec))
        };
        found.into_iter().map(copy).collect()
    }

    /// A view is gone: what no other needs is forgotten.
    pub(super) fn forget_saved(&mut self, views: &[Needed]) {
        self.rest
            .saved
            .retain(|(batch, ..)| views.iter().any(|view| view.has(*batch)));
        self.rest.saved.shrink_to_fit();
    }
}

/// The keys of two sets in one order, each once: the lesser first, or the greater.
fn merged<'k>(
    a: impl Iterator<Item = &'k Box<[u8]>>,
    b: impl Iterator<Item = &'k Box<[u8]>>,
    first: Ordering,
) -> impl Iterator<Item = &'k [u8]> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x == y => {
                b.next();
                a.next()
            }
            (Some(x), Some(y)) if x.cmp(y) != first => b.next(),
            (None, _) => b.next(),
            (Some(_), _) => a.next(),
        };
        next.map(|key| &**key)
    })
}

/// Where a row is.
pub(super) struct Place<'a> {
    slot: &'a mut Slot,
    rest: &'a mut Rest,
}

impl Place<'_> {
    /// What is there.
    pub(super) fn held(&self) -> Held<'_> {
        Held {
            value: self.slot.value(),
            batch: self.slot.batch,
        }
    }

    /// Puts another row there, as a batch does.
    pub(super) fn put(
        self,
        keys: &Keys,
        value: Option<&[u8]>,
        batch: u64,
        views: &[Needed],
    ) -> Growth {
        let Self { slot, rest } = self;
        let before = slot.bytes() as i64;
        if views.iter().any(|view| view.has(slot.batch)) {
            let old = slot.value().map(Into::into);
            rest.saved.push((slot.batch, slot.key().into(), old));
        }
        slot.set(value);
        slot.batch = batch;
        slot.is_hot = true;
        let after = slot.bytes() as i64;
        let dirty = if slot.is_listed {
            after - before
        } else {
            rest.list(keys, slot);
            after
        };
        Growth {
            all: after - before,
            dirty,
        }
    }
}

impl Rest {
    /// A row is to be flushed.
    fn list(&mut self, keys: &Keys, slot: &mut Slot) {
        slot.is_listed = true;
        self.listed.push(slot.bits);
        if keys.is_element(slot.key()) {
            self.elements.insert(slot.key().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Needed = Needed {
        flushed: 0,
        upto: u64::MAX,
    };

    struct Sample {
        keys: Keys,
        part: Part,
        grown: Growth,
    }

    impl Sample {
        fn new() -> Self {
            Self {
                keys: Keys::of(1),
                part: Part::default(),
                grown: Growth::default(),
            }
        }

        fn put(&mut self, key: &[u8], value: Option<&[u8]>, batch: u64, views: &[Needed]) {
            let hashed = (self.keys.hash(key), key);
            let grown = self.part.put(&self.keys, hashed, value, batch, views);
            self.grown.add(grown);
        }

        fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
            let held = self.part.get(self.keys.hash(key), key)?;
            Some(held.value.map_or_else(|| b"gone".to_vec(), <[u8]>::to_vec))
        }

        fn take(&mut self, upto: u64) -> Vec<Vec<u8>> {
            let (rows, grown) = self.part.take_listed(&self.keys, upto);
            self.grown.add(grown);
            rows.iter().map(|row| row.key().to_vec()).collect()
        }

        fn range(&self, limit: usize, flushed: u64) -> (usize, Option<Vec<u8>>) {
            let all = (&[][..], &[0xff][..]);
            let (rows, bound) = self.part.range(&self.keys, all, flushed, limit);
            assert!(rows.is_sorted());
            (rows.len(), bound)
        }
    }

    /// The key of an element of the key `k`.
    fn element(n: u16) -> Vec<u8> {
        let mut key = vec![0; 13];
        key.extend_from_slice(&[0, 1, b'k']);
        key.extend_from_slice(&n.to_be_bytes());
        key
    }

    #[test]
    fn rows_are_put_overwritten_and_removed() {
        let mut sample = Sample::new();
        assert_eq!(sample.get(b"a"), None);
        sample.put(b"a", Some(b"1"), 1, &[]);
        assert_eq!(sample.get(b"a"), Some(b"1".to_vec()));
        sample.put(b"a", Some(b"longer"), 2, &[]);
        assert_eq!(sample.get(b"a"), Some(b"longer".to_vec()));
        sample.put(b"a", None, 3, &[]);
        assert_eq!(sample.get(b"a"), Some(b"gone".to_vec()));
        assert_eq!(sample.grown.all, sample.grown.dirty);
        assert_eq!(sample.take(3), [b"a".to_vec()]);
        assert_eq!(sample.grown.dirty, 0);
        let freed: u64 = (0..4).map(|_| sample.part.evict(u64::MAX, 3, &[])).sum();
        assert_eq!((freed as i64, sample.get(b"a")), (sample.grown.all, None));
    }

    #[test]
    fn what_the_tables_lack_is_not_dropped_and_taken_once() {
        let mut sample = Sample::new();
        for n in 0..100u8 {
            sample.put(&[n], Some(&[n]), u64::from(n), &[]);
        }
        sample.put(&[3], Some(b"new"), 200, &[]);
        assert_eq!(sample.take(49).len(), 49, "all but the one that is newer");
        assert_eq!(
            sample.range(usize::MAX, 0).0,
            100 - 1,
            "batch 0 is in the tables"
        );
        for _ in 0..100 {
            sample.part.evict(u64::MAX, 0, &[]);
        }
        assert_eq!(sample.get(&[20]), Some(vec![20]));
        for _ in 0..100 {
            sample.part.evict(u64::MAX, 49, &[]);
        }
        assert_eq!(sample.get(&[20]), None);
        assert_eq!(sample.get(&[3]), Some(b"new".to_vec()));
        assert_eq!(sample.take(u64::MAX).len(), 51);
        assert!(sample.part.is_clean());
        // As if the tables had not taken them.
        let grown = sample.part.list_again(&sample.keys, 49);
        sample.grown.add(grown);
        assert_eq!(sample.take(u64::MAX).len(), 51);
    }

    #[test]
    fn elements_are_found_in_order_some_at_a_time_also_while_they_are_flushed() {
        let mut sample = Sample::new();
        for n in (0..1_000).rev() {
            sample.put(&element(n), Some(b"v"), 1, &[]);
        }
        sample.put(&element(2), None, 1, &[]);
        let (found, bound) = sample.range(10, 0);
        assert_eq!((found, bound), (11, Some(element(10))), "one is gone");
        sample.put(&element(7), Some(b"w"), 2, &[]);
        assert_eq!(sample.take(1).len(), 999);
        let (found, bound) = sample.range(10, 0);
        assert_eq!((found, bound), (11, Some(element(10))));
        drop(sample.part.be_flushed());
        assert_eq!(sample.range(10, 1), (1, None));
    }

    #[test]
    fn a_view_keeps_what_it_saw() {
        let mut sample = Sample::new();
        let first = Needed {
            flushed: 0,
            upto: 1,
        };
        let second = Needed {
            flushed: 0,
            upto: 2,
        };
        sample.put(b"a", Some(b"1"), 1, &[]);
        sample.put(b"b", Some(b"1"), 1, &[]);
        sample.put(b"a", Some(b"2"), 2, &[first]);
        sample.put(b"a", None, 3, &[first, second]);
        sample.put(b"c", Some(b"3"), 3, &[first, second]);
        let seen = |view| -> Vec<(Vec<u8>, Option<Vec<u8>>)> { sample.part.of_view(view) };
        let row = |key: &[u8], value: &[u8]| (key.to_vec(), Some(value.to_vec()));
        assert_eq!(seen(first), [row(b"a", b"1"), row(b"b", b"1")]);
        assert_eq!(seen(second), [row(b"a", b"2"), row(b"b", b"1")]);
        assert_eq!(seen(ALL).len(), 3);
        let (_, grown) = sample.part.take_listed(&sample.keys, 3);
        assert_eq!(grown.dirty, -sample.grown.dirty);
        for _ in 0..9 {
            sample.part.evict(u64::MAX, 3, &[first]);
        }
        assert_eq!(sample.part.of_view(first).len(), 2, "kept for the view");
        sample.part.forget_saved(&[]);
        for _ in 0..9 {
            sample.part.evict(u64::MAX, 3, &[]);
        }
        assert_eq!(sample.part.of_view(first).len(), 0);
    }
}
