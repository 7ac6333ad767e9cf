//! Reads that wait for other nodes: the slow ones ask one more.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::logic::quorum::Slowest;

/// What a read is expected to take before any was seen, in microseconds.
const FIRST_GUESS_US: u64 = 20_000;
/// Reads that are watched for slowness; more at a time go without.
const MAX_WATCHED: usize = 65_536;

/// A read that can ask one more node.
pub(super) trait Hedge: Send + Sync {
    /// Does so; whether there was one to ask.
    fn hedge(self: Arc<Self>) -> bool;
}

/// Reads that wait for other nodes, the oldest first.
pub(super) struct Watched<R: ?Sized = dyn Hedge> {
    reads: Mutex<VecDeque<(Instant, Weak<R>)>>,
    begun: Notify,
    slowest: Slowest,
}

impl<R: ?Sized> Default for Watched<R> {
    fn default() -> Self {
        Self {
            reads: Mutex::default(),
            begun: Notify::new(),
            slowest: Slowest::new(FIRST_GUESS_US),
        }
    }
}

impl<R: ?Sized> Watched<R> {
    /// Waits until there is one.
    pub(super) async fn some(&self) {
        if self.reads.lock().is_empty() {
            self.begun.notified().await;
        }
    }

    /// How long nearly all of them take.
    pub(super) fn slowest(&self) -> &Slowest {
        &self.slowest
    }

    /// One begins.
    pub(super) fn add(&self, begun: Instant, reading: &Arc<R>) {
        let mut reads = self.reads.lock();
        if reads.len() < MAX_WATCHED {
            reads.push_back((begun, Arc::downgrade(reading)));
            if reads.len() == 1 {
                self.begun.notify_one();
            }
        }
    }

    /// Those that have waited longer; each is told once.
    pub(super) fn slower_than(&self, patience: Duration) -> Vec<Arc<R>> {
        let mut reads = self.reads.lock();
        let mut slow = Vec::new();
        while let Some((begun, reading)) = reads.front() {
            let reading = reading.upgrade();
            if reading.is_some() && begun.elapsed() < patience {
                break;
            }
            slow.extend(reading);
            reads.pop_front();
        }
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_reads_are_watched_and_no_more_until_some_were_looked_at() {
        let watched = Watched::default();
        let reads: Vec<Arc<usize>> = (0..MAX_WATCHED + 10).map(Arc::new).collect();
        for read in &reads {
            watched.add(Instant::now(), read);
        }
        let patience = Duration::from_millis(5);
        assert!(watched.slower_than(patience).is_empty());
        tokio::time::advance(patience).await;
        assert_eq!(watched.slower_than(patience), reads[..MAX_WATCHED]);
        watched.add(Instant::now(), &reads[MAX_WATCHED]);
        tokio::time::advance(patience).await;
        assert_eq!(
            watched.slower_than(patience),
            reads[MAX_WATCHED..=MAX_WATCHED]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_is_done_makes_room_however_young() {
        let watched = Watched::default();
        for _ in 0..MAX_WATCHED {
            watched.add(Instant::now(), &Arc::new(()));
        }
        assert!(watched.slower_than(Duration::from_secs(1)).is_empty());
        assert!(watched.reads.lock().is_empty());
    }
}
