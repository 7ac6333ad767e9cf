//! What this node owns and may not have: because its disk was lost, or because it owns it since a
//! moment ago. Until the other owners' copies were compared with it, what is not here says nothing, and
//! this node's copies do not count for reads.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

/// A partition's keys with so many owners.
pub type Part = (u8, u16);

#[derive(Debug, Default)]
pub(super) struct Lacking {
    parts: RwLock<BTreeSet<Part>>,
    some: AtomicBool,
}

impl Lacking {
    pub(super) fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        let parts: BTreeSet<Part> = parts.into_iter().collect();
        Self {
            some: AtomicBool::new(!parts.is_empty()),
            parts: RwLock::new(parts),
        }
    }

    pub(super) fn some(&self) -> bool {
        self.some.load(Ordering::Acquire)
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.some() && self.parts.read().contains(&part)
    }

    pub(super) fn all(&self) -> Vec<Part> {
        self.parts.read().iter().copied().collect()
    }

    /// Whether that changed anything.
    pub(super) fn change(&self, change: impl FnOnce(&mut BTreeSet<Part>)) -> bool {
        let mut parts = self.parts.write();
        let before = parts.len();
        change(&mut parts);
        self.some.store(!parts.is_empty(), Ordering::Release);
        parts.len() != before
    }
}
