//! Counting from many threads: each counts in a place of its own, so that they do not take each other's
//! cache lines away.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Threads beyond share places.
pub const PLACES: usize = 4;

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The calling thread's place.
pub fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    PLACE.with(|place| {
        if place.get() == usize::MAX {
            place.set(NEXT.fetch_add(1, Ordering::Relaxed) % PLACES);
        }
        place.get()
    })
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Place(AtomicU64);

/// A sum.
#[derive(Debug, Default)]
pub struct Counter([Place; PLACES]);

impl Counter {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0[place()].0.fetch_add(more, Ordering::Relaxed);
    }

    /// What was added since the last reset.
    pub fn get(&self) -> u64 {
        let places = self.0.iter();
        places.fold(0, |sum, place| sum + place.0.load(Ordering::Relaxed))
    }

    /// Begins anew.
    pub fn reset(&self) {
        for place in &self.0 {
            place.0.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_add_is_all_there() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..PLACES + 2 {
                scope.spawn(|| (0..1_000).for_each(|_| counter.add(2)));
            }
        });
        assert_eq!(counter.get(), (PLACES as u64 + 2) * 2_000);
        counter.reset();
        assert_eq!(counter.get(), 0);
    }
}
