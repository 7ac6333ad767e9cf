//! What is known of how far the counting has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::storage::Frozen;

/// What is still to be counted.
#[derive(Default)]
pub(super) struct Counting {
    /// Held while a change is queued and counted, and alone while counting begins.
    pub(super) steps: RwLock<()>,
    pub(super) rest: Mutex<Option<Rest>>,
    /// Failed batches when counting began.
    pub(super) failures: AtomicU64,
    pub(super) is_over: AtomicBool,
    /// How often counting has begun.
    pub(super) nth: AtomicU64,
    /// Partitions below are counted.
    pub(super) next: AtomicU64,
}

pub(super) struct Rest {
    pub(super) shards: Vec<Arc<dyn Frozen>>,
    pub(super) counted: u64,
}

impl Counting {
    /// What is counted is not what is there.
    pub(super) fn begin_anew(&self) {
        self.failures.store(u64::MAX, Ordering::Release);
    }

    /// How often counting has begun.
    pub(super) fn nth(&self) -> u64 {
        self.nth.load(Ordering::Acquire)
    }

    /// While it is held no change is queued or counted.
    pub(super) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.steps.write()
    }

    /// While it is held a change is queued and counted as one.
    pub(super) fn follow(&self) -> RwLockReadGuard<'_, ()> {
        self.steps.read()
    }
}
