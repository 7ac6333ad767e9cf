//! When keys end, as far as that is known.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::tree::Ending;

/// Stretches of which ends are followed, in milliseconds: some four minutes.
pub(super) const STRETCH_MS: u64 = 1 << 18;

/// How far ends are followed.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Every change of what ends before this is followed. It changes while nothing else does.
    pub(super) followed_ms: AtomicU64,
    /// All that ends before this is in the trees.
    pub(super) known_ms: AtomicU64,
    pub(super) one_at_a_time: Mutex<()>,
}

/// What ends in one tree of a partition's database, by when.
pub(super) type Found = BTreeMap<(u16, u8, usize), BTreeMap<u64, Ending>>;

impl Ends {
    pub(super) fn followed_ms(&self) -> u64 {
        self.followed_ms.load(Ordering::Acquire)
    }

    pub(super) fn known_ms(&self) -> u64 {
        self.known_ms.load(Ordering::Acquire)
    }

    /// Trees are made anew, or were found: they have all that ends before.
    pub(super) fn begin(&self, upto_ms: u64) {
        self.followed_ms.store(upto_ms, Ordering::Release);
        self.known_ms.store(upto_ms, Ordering::Release);
    }

    /// As long as it is held nothing is learned.
    pub(super) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time.lock()
    }

    /// Up to when trees have what ends; `None` while they are learning more.
    pub(super) fn settled_ms(&self) -> Option<u64> {
        Some(self.known_ms()).filter(|known| *known == self.followed_ms())
    }
}

/// The end of the stretch after the one that an instant is in.
pub(super) fn next_stretch(ms: u64) -> u64 {
    (ms / STRETCH_MS)
        .saturating_add(2)
        .saturating_mul(STRETCH_MS)
}
