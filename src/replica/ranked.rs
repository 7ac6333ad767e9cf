//! The ranks of large collections that somebody has asked for, kept in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::key::Located;
use crate::logic::causal::Kind;
use crate::logic::spread::{self, Head, Ranks};

/// They are in so many places, by partition, each with a lock of its own.
const SHELVES: usize = 16;
/// Stretches in all: some 80 bytes each. Beyond it those that nobody has asked for longest are forgotten.
const MOST_STRETCHES: usize = 1 << 18;

/// The ranks of some collections.
#[derive(Default)]
pub(super) struct AllRanks {
    shelves: [Shelf; SHELVES],
    /// Raised with every question.
    asked: AtomicU64,
    /// How many stretches they have together.
    stretches: AtomicUsize,
}

#[derive(Default)]
struct Shelf {
    ranked: Mutex<ByKey>,
    /// How many there are, so that where there are none nobody locks.
    count: AtomicUsize,
}

/// By their heads' keys.
#[derive(Default)]
struct ByKey {
    of: BTreeMap<Vec<u8>, Ranked>,
    /// Who was asked for when, the first longest ago.
    by_age: BTreeMap<u64, Vec<u8>>,
}

pub(super) struct Ranked {
    pub(super) ranks: Ranks,
    kind: Kind,
    generation: u64,
    /// The shard's failures then: with one more the rows may be others.
    as_of: u64,
    /// When they were asked for, and how many stretches they had.
    asked: u64,
    stretches: usize,
}

/// Places of elements that came or went with a write.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) generation: u64,
    pub(super) gone: Vec<Vec<u8>>,
    pub(super) come: Vec<Vec<u8>>,
}

impl AllRanks {
    /// Whether somebody has asked for those of a key.
    pub(super) fn has(&self, located: &Located<'_>) -> bool {
        self.see(located, |_| ()).is_some()
    }

    /// Whether they tell at once, without reading many rows first.
    pub(super) fn tell_at_once(&self, located: &Located<'_>, most: usize) -> bool {
        let is_quick =
            |ranked: &Ranked| ranked.as_of == located.as_of && ranked.ranks.largest() <= most;
        self.see(located, is_quick).unwrap_or(false)
    }

    fn see<R>(&self, located: &Located<'_>, see: impl FnOnce(&Ranked) -> R) -> Option<R> {
        let shelf = self.shelf(located);
        if shelf.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        shelf.ranked.lock().of.get(&located.row_key[..]).map(see)
    }

    /// A key's rows have changed: nothing is known of how, if nothing is said.
    pub(super) fn follow(&self, located: &Located<'_>, moved: Option<Moved>) {
        let shelf = self.shelf(located);
        if shelf.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut all = shelf.ranked.lock();
        let Some(ranked) = all.of.get_mut(&located.row_key[..]) else {
            return;
        };
        let is_followed = moved.is_some_and(|moved| {
            ranked.generation == moved.generation
                && ranked.as_of == located.as_of
                && ranked.follow(&moved)
        });
        if !is_followed {
            self.remove(shelf, &mut all, &located.row_key);
        }
    }

    /// Whoever takes a key's puts them back: under the key's lock, as nobody may write its rows meanwhile.
    pub(super) fn take(
        &self,
        located: &Located<'_>,
        (head, kind): (&Head, Kind),
    ) -> Option<Ranked> {
        let shelf = self.shelf(located);
        let mut all = shelf.ranked.lock();
        let ranked = self.remove(shelf, &mut all, &located.row_key)?;
        let is_of_now = ranked.generation == head.generation
            && ranked.as_of == located.as_of
            && ranked.kind == kind;
        is_of_now.then_some(ranked)
    }

    pub(super) fn put(&self, located: &Located<'_>, mut ranked: Ranked) {
        ranked.asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        ranked.stretches = ranked.ranks.stretches();
        let (asked, stretches) = (ranked.asked, ranked.stretches);
        let shelf = self.shelf(located);
        let before = self.stretches.fetch_add(stretches, Ordering::Relaxed);
        {
            let mut all = shelf.ranked.lock();
            all.by_age.insert(asked, located.row_key.to_vec());
            all.of.insert(located.row_key.to_vec(), ranked);
            shelf.count.store(all.of.len(), Ordering::Release);
        }
        if before + stretches > MOST_STRETCHES {
            self.make_room(asked);
        }
    }

    /// Forgets those that nobody has asked for longest, but for these.
    fn make_room(&self, but: u64) {
        while self.stretches.load(Ordering::Relaxed) > MOST_STRETCHES {
            let oldest = |shelf: &Shelf| shelf.ranked.lock().by_age.keys().next().copied();
            let by_age = self.shelves.iter().filter_map(|s| Some((oldest(s)?, s)));
            let Some((age, shelf)) = by_age.min_by_key(|(age, _)| *age) else {
                return;
            };
            if age >= but {
                return;
            }
            let mut all = shelf.ranked.lock();
            if let Some(key) = all.by_age.get(&age).cloned() {
                self.remove(shelf, &mut all, &key);
            }
        }
    }

    fn remove(&self, shelf: &Shelf, all: &mut ByKey, key: &[u8]) -> Option<Ranked> {
        let ranked = all.of.remove(key)?;
        all.by_age.remove(&ranked.asked);
        self.stretches
            .fetch_sub(ranked.stretches, Ordering::Relaxed);
        shelf.count.store(all.of.len(), Ordering::Release);
        Some(ranked)
    }

    fn shelf(&self, located: &Located<'_>) -> &Shelf {
        &self.shelves[usize::from(located.at.partition) % SHELVES]
    }
}

impl Ranked {
    /// Of rows of which nothing is known but how many there are.
    pub(super) fn new((head, kind): (&Head, Kind), as_of: u64) -> Self {
        Self {
            ranks: Ranks::new(head.total.there(kind) as usize),
            kind,
            generation: head.generation,
            as_of,
            asked: 0,
            stretches: 0,
        }
    }

    fn follow(&mut self, moved: &Moved) -> bool {
        let (start, _) = spread::ordered(self.kind);
        let is_ours = |place: &&Vec<u8>| place.first() == Some(&start);
        let mut gone = moved.gone.iter().filter(is_ours);
        let is_right = gone.all(|place| self.ranks.remove(place).is_ok());
        for place in moved.come.iter().filter(is_ours) {
            self.ranks.add(place);
        }
        is_right
    }
}
