//! What partitions have seen, as far as that is known.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::base::clock;
use crate::logic::causal::Context;

/// The contexts of all partitions, for each number of owners that keys have.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) by_tree: Vec<Vec<RwLock<Raised>>>,
}

/// What a partition has seen now, and what it had seen one and two rounds ago.
#[derive(Clone, Debug, Default)]
pub(super) struct Raised {
    pub(super) now: Arc<Context>,
    pub(super) earlier: [Arc<Context>; 2],
    /// When it was raised last, and before that, in milliseconds since the epoch.
    pub(super) at_ms: [u64; 2],
}

/// Why tombstones stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// How many were dropped.
    pub dropped: u64,
    /// How many are younger than tombstone-grace or, of what has ended, than two rounds with everybody.
    pub young: u64,
    /// How many not every owner has been shown to have.
    pub unproven: u64,
    /// How many are still to be handed to a node that was away.
    pub hinted: u64,
    /// Since when the oldest of those that stay is deleted, in milliseconds since the epoch.
    pub oldest_ms: Option<u64>,
}

impl Seen {
    pub(super) fn new(trees: usize, partitions: u16) -> Self {
        let nothing = Arc::new(Context::new());
        let nothing = Raised {
            now: Arc::clone(&nothing),
            earlier: [Arc::clone(&nothing), nothing],
            at_ms: [0; 2],
        };
        let of_partition = |_| RwLock::new(nothing.clone());
        let of_tree = |_| (0..partitions).map(of_partition).collect();
        Self {
            by_tree: (0..trees).map(of_tree).collect(),
        }
    }

    pub(super) fn of(&self, tree: usize, partition: u16) -> Arc<Context> {
        Arc::clone(&self.by_tree[tree][usize::from(partition)].read().now)
    }

    /// What had been seen two rounds ago. All owners had taken it in before the sample that the last
    /// round rests on: since then nobody has added to a contribution that it says was overwritten, and
    /// what was added before is here.
    pub(super) fn settled(&self, tree: usize, partition: u16) -> Arc<Context> {
        let raised = self.by_tree[tree][usize::from(partition)].read();
        Arc::clone(&raised.earlier[1])
    }

    pub(super) fn clear(&self) {
        for seen in self.by_tree.iter().flatten() {
            *seen.write() = Raised::default();
        }
    }

    pub(super) fn set(&self, tree: usize, partition: u16, seen: Arc<Context>) {
        *self.by_tree[tree][usize::from(partition)].write() = Raised {
            now: seen,
            ..Raised::default()
        };
    }

    pub(super) fn raise(&self, tree: usize, partition: u16, seen: Arc<Context>) {
        let mut raised = self.by_tree[tree][usize::from(partition)].write();
        let [last, _] = std::mem::take(&mut raised.earlier);
        let before = std::mem::replace(&mut raised.now, seen);
        raised.earlier = [before, last];
        let now_ms = clock::now_ms();
        let [last_ms, _] = raised.at_ms;
        // By a clock that was set back nobody can tell.
        raised.at_ms = [now_ms, if last_ms <= now_ms { last_ms } else { 0 }];
    }

    /// Whether everything that anybody had written at an instant is here: a round began after it that
    /// everybody took part in, and has come to its end.
    pub(super) fn has_all_since(&self, tree: usize, partition: u16, at_ms: u64) -> bool {
        let [last_ms, before_ms] = self.by_tree[tree][usize::from(partition)].read().at_ms;
        at_ms < before_ms && last_ms <= clock::now_ms()
    }
}

impl Tombstones {
    pub(super) fn stays(&mut self, since_ms: u64) {
        let oldest = self.oldest_ms.unwrap_or(u64::MAX);
        self.oldest_ms = Some(oldest.min(since_ms));
    }

    /// Adds what another pass has found.
    pub fn add(&mut self, other: Tombstones) {
        self.dropped += other.dropped;
        self.young += other.young;
        self.unproven += other.unproven;
        self.hinted += other.hinted;
        if let Some(oldest_ms) = other.oldest_ms {
            self.stays(oldest_ms);
        }
    }
}
