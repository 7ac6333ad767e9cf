//! How far a shard's writes have come, and who waits for them.
//!
//! Tickets count a shard's writes from 1. `committed` and `synced` only rise; a failed batch raises
//! `committed` past itself and is remembered as a failed range, so a waiter learns its own fate.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};
use thiserror::Error;

use super::error::Refused;

/// The number of a write within its shard, from 1. 0 stands for "nothing to wait for".
pub type Ticket = u64;

/// Why a write that was taken is not committed. Writes that were ordered after it before this was known
/// share its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteFailed {
    /// It is not there, and will not be.
    #[error("the write was not stored")]
    NotStored,
    /// It may be there.
    #[error("whether the write was stored is not known")]
    Unknown,
}

/// Failed ranges that are remembered; a connection looks at its writes' fate long before.
const MAX_FAILED_RANGES: usize = 1_024;

/// A shard's progress.
#[derive(Debug, Default)]
pub struct Progress {
    committed: AtomicU64,
    synced: AtomicU64,
    failures: AtomicU64,
    /// The last write of which nobody knows whether it will be committed.
    doubted: AtomicU64,
    waiting: Mutex<Waiting>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By level; each waiter has a number of its own.
    wakers: [BTreeMap<(Ticket, u64), Waker>; 2],
    waiters: u64,
    failed: Vec<Failed>,
}

/// The tickets `(after, upto]`, and what is known of them.
#[derive(Clone, Copy, Debug)]
struct Failed {
    after: Ticket,
    upto: Ticket,
    why: WriteFailed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Committed,
    Synced,
}

/// A waiter. One that gives up leaves nothing behind.
struct Wait<'a> {
    progress: &'a Progress,
    ticket: Ticket,
    level: Level,
    /// Its number, once it had to wait.
    nth: Option<u64>,
}

impl Future for Wait<'_> {
    type Output = Result<(), WriteFailed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Wait {
            progress,
            ticket,
            level,
            ..
        } = *self;
        if !progress.reached(ticket, level) {
            let mut waiting = progress.waiting.lock();
            if !progress.reached(ticket, level) {
                let nth = self.nth.unwrap_or_else(|| {
                    waiting.waiters += 1;
                    waiting.waiters
                });
                self.nth = Some(nth);
                let waker = cx.waker().clone();
                waiting.wakers[level as usize].insert((ticket, nth), waker);
                return Poll::Pending;
            }
        }
        Poll::Ready(progress.fate_at(ticket, level))
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(nth) = self.nth {
            let mut waiting = self.progress.waiting.lock();
            waiting.wakers[self.level as usize].remove(&(self.ticket, nth));
        }
    }
}

impl Progress {
    /// The last write that is committed.
    pub fn committed(&self) -> Ticket {
        self.committed.load(Ordering::Acquire)
    }

    /// The last write that is on the disk.
    pub fn synced(&self) -> Ticket {
        self.synced.load(Ordering::Acquire)
    }

    /// How many batches failed: what was read before the last failure may not be what is stored.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    /// Whether the write is committed, and so is everything before it.
    pub fn is_settled(&self, ticket: Ticket) -> bool {
        self.committed() >= ticket && self.failures() == 0
    }

    /// Waits until the write's fate is known.
    pub fn wait_committed(
        &self,
        ticket: Ticket,
    ) -> impl Future<Output = Result<(), WriteFailed>> + '_ {
        self.wait(ticket, Level::Committed)
    }

    /// Waits until the write is on the disk.
    pub fn wait_synced(
        &self,
        ticket: Ticket,
    ) -> impl Future<Output = Result<(), WriteFailed>> + '_ {
        self.wait(ticket, Level::Synced)
    }

    /// Blocks the thread until the write's fate is known. Not for async workers.
    pub fn block_until_committed(&self, ticket: Ticket) {
        let mut waiting = self.waiting.lock();
        while !self.reached(ticket, Level::Committed) {
            self.moved.wait(&mut waiting);
        }
    }

    /// What became of a write whose fate is known.
    pub fn fate(&self, ticket: Ticket) -> Result<(), WriteFailed> {
        self.fate_at(ticket, Level::Committed)
    }

    fn fate_at(&self, ticket: Ticket, level: Level) -> Result<(), WriteFailed> {
        let upto = match level {
            Level::Committed => self.committed(),
            Level::Synced => self.synced(),
        };
        if upto < ticket {
            return Err(WriteFailed::Unknown);
        }
        if self.failures() == 0 {
            return Ok(());
        }
        self.waiting.lock().fate(ticket)
    }

    /// Those who wait for writes up to one are told that nobody knows. They are committed later, if the
    /// process lives.
    pub(super) fn doubt(&self, upto: Ticket) {
        self.publish(|| {
            self.doubted.fetch_max(upto, Ordering::AcqRel);
        });
    }

    /// Whether nothing has failed since so many failures.
    pub(super) fn check(&self, as_of: Option<u64>) -> Result<(), Refused> {
        if as_of.is_none_or(|as_of| as_of == self.failures()) {
            Ok(())
        } else {
            Err(Refused::Changed)
        }
    }

    pub(super) fn publish_committed(&self, upto: Ticket, synced: bool) {
        self.publish(|| {
            self.committed.fetch_max(upto, Ordering::AcqRel);
            if synced {
                self.synced.fetch_max(upto, Ordering::AcqRel);
            }
        });
    }

    /// What was queued up to a ticket is not committed; whether it is known not to be there.
    pub(super) fn publish_failed(&self, upto: Ticket, is_known: bool) {
        {
            let mut waiting = self.waiting.lock();
            if waiting.failed.len() == MAX_FAILED_RANGES {
                waiting.failed.remove(0);
            }
            waiting.failed.push(Failed {
                after: self.committed(),
                upto,
                why: if is_known {
                    WriteFailed::NotStored
                } else {
                    WriteFailed::Unknown
                },
            });
            self.failures.fetch_add(1, Ordering::AcqRel);
        }
        // Nothing is to be synced of it; of what came before there may be.
        let synced = self.synced() == self.committed();
        self.publish_committed(upto, synced);
    }

    fn publish(&self, change: impl FnOnce()) {
        let mut ready = [BTreeMap::new(), BTreeMap::new()];
        {
            let mut waiting = self.waiting.lock();
            change();
            let doubted = self.doubted.load(Ordering::Acquire);
            for (level, upto) in [self.committed(), self.synced()].into_iter().enumerate() {
                let upto = upto.max(doubted);
                let rest = waiting.wakers[level].split_off(&(upto.saturating_add(1), 0));
                ready[level] = std::mem::replace(&mut waiting.wakers[level], rest);
            }
            self.moved.notify_all();
        }
        for level in ready {
            level.into_values().for_each(Waker::wake);
        }
    }

    /// Whether a write is there, or nobody knows.
    fn reached(&self, ticket: Ticket, level: Level) -> bool {
        let upto = match level {
            Level::Committed => self.committed(),
            Level::Synced => self.synced(),
        };
        upto >= ticket || self.doubted.load(Ordering::Acquire) >= ticket
    }

    fn wait(&self, ticket: Ticket, level: Level) -> Wait<'_> {
        Wait {
            progress: self,
            ticket,
            level,
            nth: None,
        }
    }
}

impl Waiting {
    fn fate(&self, ticket: Ticket) -> Result<(), WriteFailed> {
        let mut failed = self.failed.iter();
        let range = failed.find(|range| range.after < ticket && ticket <= range.upto);
        range.map_or(Ok(()), |range| Err(range.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_waiting_leaves_nothing_behind() {
        let progress = Progress::default();
        let mut context = Context::from_waker(Waker::noop());
        let waiters = || -> usize {
            let waiting = progress.waiting.lock();
            waiting.wakers.iter().map(BTreeMap::len).sum()
        };
        {
            let mut waits = [
                (3, Level::Committed),
                (3, Level::Synced),
                (9, Level::Synced),
            ]
            .map(|(ticket, level)| progress.wait(ticket, level));
            for _ in 0..3 {
                for wait in &mut waits {
                    assert_eq!(Pin::new(wait).poll(&mut context), Poll::Pending);
                }
            }
            assert_eq!(waiters(), 3);
            progress.publish_committed(5, false);
            assert_eq!(waiters(), 2);
            let [committed, synced, _] = &mut waits;
            assert_eq!(Pin::new(committed).poll(&mut context), Poll::Ready(Ok(())));
            progress.publish_committed(4, true);
            assert_eq!(Pin::new(synced).poll(&mut context), Poll::Ready(Ok(())));
            assert_eq!(waiters(), 1);
        }
        assert_eq!(waiters(), 0);
    }

    #[test]
    fn who_waits_for_what_is_in_doubt_is_told_so_until_it_is_there() {
        let progress = Progress::default();
        let mut context = Context::from_waker(Waker::noop());
        progress.publish_committed(2, false);
        let mut waits = [(3, Level::Committed), (2, Level::Synced)]
            .map(|(ticket, level)| progress.wait(ticket, level));
        for wait in &mut waits {
            assert_eq!(Pin::new(wait).poll(&mut context), Poll::Pending);
        }
        progress.doubt(3);
        let unknown = Poll::Ready(Err(WriteFailed::Unknown));
        for wait in &mut waits {
            assert_eq!(Pin::new(wait).poll(&mut context), unknown);
        }
        assert_eq!(progress.fate(3), Err(WriteFailed::Unknown));
        progress.publish_committed(3, false);
        assert_eq!(progress.fate(3), Ok(()));
        let [_, synced] = &mut waits;
        assert_eq!(Pin::new(&mut *synced).poll(&mut context), unknown);
        progress.publish_committed(3, true);
        assert_eq!(Pin::new(synced).poll(&mut context), Poll::Ready(Ok(())));
    }
}
