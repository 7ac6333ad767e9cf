//! WATCH of keys that are not there: a key that came and went again leaves no trace in the store of
//! its only owner, so the watcher is told at the moment of its coming.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::key::Key;

/// Entries from which those without a watcher are looked for.
const MIN_PRUNE: usize = 64;

/// The absence of one key, as long as it lasts.
#[derive(Debug, Default)]
pub struct Absence {
    over: AtomicBool,
}

impl Absence {
    /// Whether the key has been there since.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// All absences that somebody watches.
#[derive(Debug, Default)]
pub(super) struct Absences {
    /// How many entries there are: creations look no further when there is none.
    count: AtomicUsize,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    by_key: HashMap<(u8, Vec<u8>), Weak<Absence>>,
    prune_at: usize,
}

impl Absences {
    /// Watches a key that is not there; the caller holds its lock.
    pub(super) fn watch(&self, key: Key<'_>) -> Arc<Absence> {
        let mut watched = self.watched.lock();
        if watched.by_key.len() >= watched.prune_at {
            watched
                .by_key
                .retain(|_, absence| absence.strong_count() > 0);
            watched.prune_at = (watched.by_key.len() * 2).max(MIN_PRUNE);
        }
        let entry = watched.by_key.entry((key.db, key.name.to_vec()));
        let entry = entry.or_default();
        let absence = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&absence);
        self.count.store(watched.by_key.len(), Ordering::Release);
        absence
    }

    /// The key has come; the caller holds its lock.
    pub(super) fn end(&self, key: Key<'_>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut watched = self.watched.lock();
        let absence = watched.by_key.remove(&(key.db, key.name.to_vec()));
        self.count.store(watched.by_key.len(), Ordering::Release);
        if let Some(absence) = absence.and_then(|weak| weak.upgrade()) {
            absence.over.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(db: u8, name: &[u8]) -> Key<'_> {
        Key { db, name }
    }

    #[test]
    fn watchers_learn_of_their_key_alone_and_leave_nothing_behind() {
        let absences = Absences::default();
        let (a, b) = (absences.watch(key(0, b"a")), absences.watch(key(0, b"a")));
        let other = absences.watch(key(1, b"a"));
        absences.end(key(0, b"a"));
        assert!(a.is_over() && b.is_over() && !other.is_over());
        assert!(!absences.watch(key(0, b"a")).is_over());
        for n in 0..1_000_u32 {
            absences.watch(key(0, &n.to_le_bytes()));
        }
        assert!(absences.watched.lock().by_key.len() <= MIN_PRUNE);
    }
}
