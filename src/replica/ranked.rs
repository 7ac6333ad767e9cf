//! The ranks of large collections that somebody has asked for, kept in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::key::Located;
use crate::logic::causal::Kind;
use crate::logic::spread::{self, Head, Ranks};

/// Stretches in all: some 80 bytes each. Beyond it those that nobody has asked for longest are forgotten.
const MOST_STRETCHES: usize = 1 << 18;
/// The ranks of some collections, by their heads' keys.
#[derive(Default)]
pub(super) struct AllRanks {
    of: Mutex<BTreeMap<Vec<u8>, Ranked>>,
    /// How many there are, so that where there are none nobody locks.
    count: AtomicUsize,
}

pub(super) struct Ranked {
    pub(super) ranks: Ranks,
    kind: Kind,
    generation: u64,
    /// The shard's failures then: with one more the rows may be others.
    as_of: u64,
    /// Raised with every question.
    asked: u64,
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
        self.count.load(Ordering::Acquire) > 0 && self.of.lock().contains_key(&located.row_key[..])
    }

    /// A key's rows have changed: nothing is known of how, if nothing is said.
    pub(super) fn follow(&self, located: &Located<'_>, moved: Option<Moved>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut of = self.of.lock();
        let Some(ranked) = of.get_mut(&located.row_key[..]) else {
            return;
        };
        let is_followed = moved.is_some_and(|moved| {
            ranked.generation == moved.generation
                && ranked.as_of == located.as_of
                && ranked.follow(&moved)
        });
        if !is_followed {
            of.remove(&located.row_key[..]);
            self.count.store(of.len(), Ordering::Release);
        }
    }

    /// Whoever takes a key's puts them back; the key's lock is held.
    pub(super) fn take(
        &self,
        located: &Located<'_>,
        (head, kind): (&Head, Kind),
    ) -> Option<Ranked> {
        let mut of = self.of.lock();
        let ranked = of.remove(&located.row_key[..])?;
        self.count.store(of.len(), Ordering::Release);
        let is_of_now = ranked.generation == head.generation
            && ranked.as_of == located.as_of
            && ranked.kind == kind;
        is_of_now.then_some(ranked)
    }

    pub(super) fn put(&self, located: &Located<'_>, mut ranked: Ranked) {
        let mut of = self.of.lock();
        let last = of.values().map(|other| other.asked).max();
        ranked.asked = last.unwrap_or(0) + 1;
        of.insert(located.row_key.to_vec(), ranked);
        let all = |of: &BTreeMap<Vec<u8>, Ranked>| {
            of.values().map(|r| r.ranks.stretches()).sum::<usize>()
        };
        while of.len() > 1 && all(&of) > MOST_STRETCHES {
            let oldest = of.iter().min_by_key(|(_, ranked)| ranked.asked);
            let oldest = oldest.map(|(key, _)| key.clone()).unwrap_or_default();
            of.remove(&oldest);
        }
        self.count.store(of.len(), Ordering::Release);
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
