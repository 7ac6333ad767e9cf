//! Who waits for a key to get elements (BLPOP and its like), in the order in which they came.
//!
//! A write that leaves something tells the first of them, who looks. When it has taken something, or what there
//! was is nothing for it, the next one is told. Being told is a hint: whoever is told looks again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::key::Key;

/// A database as stored, and a key.
type Place = (u8, Vec<u8>);

/// All who wait.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// How many keys somebody waits for: writes look no further when there is none.
    count: AtomicUsize,
    by_key: Mutex<HashMap<Place, VecDeque<Arc<Notify>>>>,
}

/// Somebody who waits for some keys.
pub struct Awaited {
    arrivals: Arc<Arrivals>,
    places: Vec<Place>,
    told: Arc<Notify>,
    has_taken: AtomicBool,
}

impl Arrivals {
    /// A key has something.
    pub(super) fn tell(&self, key: Key<'_>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let by_key = self.by_key.lock();
        let first = by_key.get(&(key.db, key.name.to_vec()));
        if let Some(first) = first.and_then(VecDeque::front) {
            first.notify_one();
        }
    }

    fn enter(&self, places: &[Place], told: &Arc<Notify>) {
        let mut by_key = self.by_key.lock();
        for place in places {
            let waiting = by_key.entry(place.clone()).or_default();
            waiting.push_back(Arc::clone(told));
        }
        self.count.store(by_key.len(), Ordering::Release);
    }

    /// Tells who comes behind somebody, at each place.
    fn pass_on(&self, places: &[Place], told: &Arc<Notify>) {
        let by_key = self.by_key.lock();
        for waiting in places.iter().filter_map(|place| by_key.get(place)) {
            let mut behind = waiting.iter().skip_while(|other| !Arc::ptr_eq(other, told));
            if let Some(next) = behind.nth(1) {
                next.notify_one();
            }
        }
    }

    /// Somebody goes; whether the next one may look.
    fn leave(&self, places: &[Place], told: &Arc<Notify>, passes_on: bool) {
        let mut by_key = self.by_key.lock();
        for place in places {
            let Some(waiting) = by_key.get_mut(place) else {
                continue;
            };
            waiting.retain(|other| !Arc::ptr_eq(other, told));
            match waiting.front() {
                Some(first) if passes_on => first.notify_one(),
                Some(_) => {}
                None => {
                    by_key.remove(place);
                }
            }
        }
        self.count.store(by_key.len(), Ordering::Release);
    }
}

impl Awaited {
    /// Somebody who waits for some keys from now on.
    pub(super) fn new<'k>(
        arrivals: &Arc<Arrivals>,
        db: u8,
        names: impl Iterator<Item = &'k [u8]>,
    ) -> Self {
        let mut places: Vec<Place> = names.map(|name| (db, name.to_vec())).collect();
        places.sort_unstable();
        places.dedup();
        let told = Arc::new(Notify::new());
        arrivals.enter(&places, &told);
        Self {
            arrivals: Arc::clone(arrivals),
            places,
            told,
            has_taken: AtomicBool::new(false),
        }
    }

    /// Waits until one of the keys has got something.
    pub async fn told(&self) {
        self.told.notified().await;
    }

    /// It has found something, and there may be more.
    pub fn has_taken(&self) {
        self.has_taken.store(true, Ordering::Release);
    }

    /// What there was is nothing for this one: the next one may look.
    pub fn pass_on(&self) {
        self.arrivals.pass_on(&self.places, &self.told);
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let was_told = self.told.notified().now_or_never().is_some();
        let passes_on = was_told || self.has_taken.load(Ordering::Acquire);
        self.arrivals.leave(&self.places, &self.told, passes_on);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_told(told: &Arc<Notify>) -> bool {
        told.notified().now_or_never().is_some()
    }

    #[test]
    fn the_first_is_told_and_tells_the_next_one() {
        let arrivals = Arrivals::default();
        let places = [(0, b"k".to_vec())];
        let all: Vec<Arc<Notify>> = (0..3).map(|_| Arc::new(Notify::new())).collect();
        for told in &all {
            arrivals.enter(&places, told);
        }
        let key = |name| Key { db: 0, name };
        arrivals.tell(key(b"other"));
        assert!(!all.iter().any(is_told));
        arrivals.tell(key(b"k"));
        assert_eq!([0, 1, 2].map(|n| is_told(&all[n])), [true, false, false]);
        arrivals.pass_on(&places, &all[0]);
        assert_eq!([0, 1, 2].map(|n| is_told(&all[n])), [false, true, false]);
        arrivals.leave(&places, &all[0], true);
        assert_eq!([0, 1, 2].map(|n| is_told(&all[n])), [false, true, false]);
        arrivals.leave(&places, &all[1], false);
        assert!(!is_told(&all[2]));
        arrivals.leave(&places, &all[2], true);
        assert!(!is_told(&all[2]) && arrivals.by_key.lock().is_empty());
        assert_eq!(arrivals.count.load(Ordering::Acquire), 0);
    }
}
