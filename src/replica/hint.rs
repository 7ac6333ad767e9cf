//! What is kept for others, as far as it is known.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::logic::placement::NodeId;
use crate::storage::Op;

/// What may be kept for other nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct HintLimits {
    /// Bytes of keys and objects, all nodes together.
    pub bytes: u64,
    /// How long a hint is kept, in milliseconds.
    pub age_ms: u64,
}

/// A note that a key belongs to another node, which was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The key's row.
    pub row_key: Vec<u8>,
    /// The database.
    pub db: u8,
    /// The key.
    pub name: Vec<u8>,
    pub(super) shard: usize,
    pub(super) bytes: u64,
    /// How many hints for anybody had ever been added before the store was read.
    pub(super) added: u64,
}

/// How many hints there are for whom.
#[derive(Debug)]
pub(super) struct Hints {
    pub(super) limits: HintLimits,
    pub(super) bytes: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) added: AtomicU64,
    pub(super) by_node: DashMap<NodeId, Kept>,
}

/// What is kept for one node.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) count: AtomicU64,
    /// How many were ever added: tells whether one came while all were handed over.
    pub(super) added: AtomicU64,
}

/// A hint that is about to be written.
pub(super) struct HintRow {
    pub(super) op: Op,
    pub(super) bytes: u64,
    /// Whether none stood there.
    pub(super) is_new: bool,
}

/// How far a pass over the hints for a node has come. Before that lie the remains of what was handed
/// over, which the engine steps over slowly.
#[derive(Clone, Debug, Default)]
pub struct HintPass {
    pub(super) shard: usize,
    pub(super) next: Vec<u8>,
    /// What had been added when the pass began.
    pub(super) added: u64,
    /// What had been added for anybody when the store was settled last.
    pub(super) in_all: u64,
}

impl Hints {
    pub(super) fn new(limits: HintLimits) -> Self {
        Self {
            limits,
            bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            added: AtomicU64::new(0),
            by_node: DashMap::new(),
        }
    }

    pub(super) fn added_in_all(&self) -> u64 {
        self.added.load(Ordering::Acquire)
    }

    /// Bytes that may be kept.
    pub(super) fn limit(&self) -> u64 {
        self.limits.bytes
    }

    pub(super) fn add(&self, node: NodeId, row: &HintRow) {
        self.added.fetch_add(1, Ordering::AcqRel);
        let kept = self.by_node.entry(node).or_default();
        kept.added.fetch_add(1, Ordering::AcqRel);
        if row.is_new || kept.count.load(Ordering::Relaxed) == 0 {
            self.bytes.fetch_add(row.bytes, Ordering::Relaxed);
            kept.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts anew what is kept for a node. Passes under way may not have met all of it.
    pub(super) fn recount(&self, node: NodeId, count: u64) {
        self.added.fetch_add(1, Ordering::AcqRel);
        let kept = self.by_node.entry(node).or_default();
        kept.added.fetch_add(1, Ordering::AcqRel);
        kept.count.store(count, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, node: NodeId, bytes: u64) {
        let less = |by: u64| move |now: u64| Some(now.saturating_sub(by));
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less(bytes));
        if let Some(kept) = self.by_node.get(&node) {
            let _ = kept
                .count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less(1));
        }
    }

    /// A hint stays: the pass that met it must not end in a clean slate.
    pub(super) fn keep(&self, node: NodeId) {
        if let Some(kept) = self.by_node.get(&node) {
            kept.added.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(super) fn added(&self, node: NodeId) -> u64 {
        let kept = self.by_node.get(&node);
        kept.map_or(0, |kept| kept.added.load(Ordering::Acquire))
    }

    /// A whole pass found no more, and none has come since: a key that was written twice before its
    /// first hint was stored had been counted twice.
    pub(super) fn clear(&self, node: NodeId, added: u64) {
        let unchanged = |_: &NodeId, kept: &Kept| kept.added.load(Ordering::Acquire) == added;
        if self.by_node.remove_if(&node, unchanged).is_some() && self.by_node.is_empty() {
            self.bytes.store(0, Ordering::Relaxed);
        }
    }
}
