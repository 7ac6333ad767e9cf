//! What this node takes over and gives up, as far as it is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::logic::handoff::{Progress, Stage};
use crate::logic::membership::Part;
use crate::logic::placement::NodeId;

/// A node that did not give a piece is asked last for so long.
const FAILED_FOR: Duration = Duration::from_secs(2);

/// The time of which the rate is told, and pieces that are remembered for it.
const LATELY: Duration = Duration::from_secs(5);
const MOST_LATELY: usize = 65_536;

/// What this node takes over.
#[derive(Clone, Debug)]
pub struct Taking {
    /// Where it stands.
    pub stage: Stage,
    /// How far the copying has come.
    pub progress: Progress,
    /// Rows and about how many bytes there are, as far as is known.
    pub size: Option<(u64, u64)>,
    /// Whether it goes on where an earlier run, or an attempt that broke off, had stopped.
    pub is_resumed: bool,
    /// How often somebody has refused a piece, or the proof was not met.
    pub failures: u64,
}

/// What this node gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Giving {
    /// Partitions that it holds and owns no more, whose new owners have not all got theirs.
    pub waiting: u64,
    /// Partitions of which it has copies that it drops when they are compared.
    pub dropping: u64,
}

/// What this node takes over and gives up.
#[derive(Debug, Default)]
pub struct Transfers {
    pub(super) taking: Mutex<BTreeMap<Part, Taking>>,
    pub(super) giving: Mutex<Giving>,
    pub(super) failed: Mutex<BTreeMap<NodeId, Instant>>,
    /// What was taken in lately, and when.
    lately: Mutex<VecDeque<(Instant, u64)>>,
    /// Parts taken over since the start.
    pub completed: AtomicU64,
    /// Copies that went on where they had stopped.
    pub resumed: AtomicU64,
    /// Bytes taken in by copying since the start.
    pub bytes: AtomicU64,
    /// Rows taken in by copying since the start.
    pub rows: AtomicU64,
    /// Rows that were given up since the start.
    pub dropped: AtomicU64,
}

impl Transfers {
    /// What is taken over.
    pub fn taking(&self) -> BTreeMap<Part, Taking> {
        self.taking.lock().clone()
    }

    /// What is given up.
    pub fn giving(&self) -> Giving {
        *self.giving.lock()
    }

    /// Says what is given up.
    pub fn note_giving(&self, giving: Giving) {
        *self.giving.lock() = giving;
    }

    /// Bytes a second that were taken in lately.
    pub fn rate(&self) -> u64 {
        let mut lately = self.lately.lock();
        while lately.front().is_some_and(|(at, _)| at.elapsed() > LATELY) {
            lately.pop_front();
        }
        let bytes: u64 = lately.iter().map(|(_, bytes)| bytes).sum();
        bytes / LATELY.as_secs()
    }

    pub(super) fn took(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut lately = self.lately.lock();
        lately.push_back((Instant::now(), bytes));
        if lately.len() > MOST_LATELY {
            lately.pop_front();
        }
    }

    /// Parts that were taken over since the start.
    pub fn taken(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    pub(super) fn change(&self, part: Part, change: impl FnOnce(&mut Taking)) {
        if let Some(taking) = self.taking.lock().get_mut(&part) {
            change(taking);
        }
    }

    pub(super) fn failed(&self) -> BTreeSet<NodeId> {
        let mut failed = self.failed.lock();
        failed.retain(|_, since| since.elapsed() < FAILED_FOR);
        failed.keys().copied().collect()
    }
}
