//! One governor for all background work (the paper's §6.5): hints, anti-entropy, sweeps and transfers
//! take slices of time and rest after each, for as long as it says. It watches the 99th percentiles of
//! foreground reads and writes and shrinks or grows the share of the time that background work may take.
//!
//! How fast reads are without it is measured where there is none. Long work pauses for that now and then,
//! on all nodes in the same seconds by the clock: what is slower because the cluster has grown is not the
//! work's fault.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::clock;
use crate::base::histogram::Histogram;

/// Thousandths of the time: background work never stands still, and never takes everything.
const LEAST: u64 = 20;
const MOST: u64 = 900;
/// While some keys have fewer copies than they should, losing one more is worse than slower reads.
const LEAST_WHILE_SHORT: u64 = 250;
/// Where background work begins beside reads.
const FIRST: u64 = 100;
/// Items of the smallest slice.
const FEWEST: usize = 16;
/// No rest is longer.
const LONGEST_REST: Duration = Duration::from_millis(500);
/// The last minute, in parts.
const PARTS: usize = 60;
const PART: Duration = Duration::from_secs(1);
/// A percentile of fewer reads says nothing.
const ENOUGH: u64 = 20;
/// Every so many seconds by the clock background work pauses for so many.
const PAUSE_EVERY_SECS: u64 = 30;
const PAUSE_SECS: u64 = 3;
/// By how much the quiet percentile follows a higher one, in a hundred.
const FOLLOWS: u64 = 5;

/// Why the share is what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// There are too few reads to tell.
    #[default]
    Quiet,
    /// Reads are fast enough.
    Room,
    /// Reads are slower than they may be.
    Slow,
}

/// The governor's state, for INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// Thousandths of the time that background work may take.
    pub share: u64,
    /// The 99th percentile of the last minute's reads.
    pub p99: Duration,
    /// What it may be.
    pub threshold: Duration,
    /// Why the share is what it is.
    pub reason: Reason,
}

/// The governor.
pub struct Governor {
    share: AtomicU64,
    /// What the other nodes give.
    others: AtomicU64,
    others_work: AtomicBool,
    has_worked: AtomicBool,
    /// Whether some keys have fewer copies than they should.
    is_short: AtomicBool,
    /// Whether there are so many reads or writes that they can be slowed down.
    has_reads: AtomicBool,
    /// Of reads and of writes, the parts of the last minute; the first is being recorded.
    reads: [Histogram; PARTS],
    writes: [Histogram; PARTS],
    nth: AtomicU64,
    /// Nanoseconds that background work has taken in this part.
    worked: AtomicU64,
    watched: Mutex<Watched>,
    limits: Limits,
}

/// What reads may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A fixed threshold; zero for one that follows what reads take in quiet times.
    pub fixed: Duration,
    /// Otherwise so many hundredths of the percentile of quiet times.
    pub percent: u64,
}

#[derive(Debug, Default)]
struct Watched {
    /// The percentiles of times without background work, of reads and of writes.
    quiet: [Duration; 2],
    state: State,
}

impl Governor {
    /// A governor that keeps the 99th percentile of reads within limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            share: AtomicU64::new(FIRST),
            others: AtomicU64::new(MOST),
            others_work: AtomicBool::new(false),
            has_worked: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            has_reads: AtomicBool::new(false),
            reads: std::array::from_fn(|_| Histogram::default()),
            writes: std::array::from_fn(|_| Histogram::default()),
            nth: AtomicU64::new(0),
            worked: AtomicU64::new(0),
            watched: Mutex::default(),
            limits,
        }
    }

    /// A foreground read, one of several, took so long.
    pub fn read(&self, took: Duration) {
        self.reads[self.part()].record(took);
    }

    /// A foreground write, one of several, took so long.
    pub fn wrote(&self, took: Duration) {
        self.writes[self.part()].record(took);
    }

    /// How long to rest after a slice of background work.
    pub fn rest_after(&self, slice: Duration) -> Duration {
        let rest = self.rest_of_share(slice);
        if self.has_reads() && !self.is_short() {
            rest.max(left_of_pause(clock::now_ms()))
        } else {
            rest
        }
    }

    fn rest_of_share(&self, slice: Duration) -> Duration {
        let nanos = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
        self.worked.fetch_add(nanos, Ordering::Relaxed);
        let share = self.share();
        let rest = nanos.saturating_mul(1_000 - share) / share;
        Duration::from_nanos(rest).min(LONGEST_REST)
    }

    /// How many of at most so many items the next slice has: the smaller its share, the sooner must
    /// background work let others go first.
    pub fn items(&self, most: usize) -> usize {
        let share = self.share() as usize;
        let items = if self.is_short() {
            most * share / 1_000
        } else {
            most * share * share / 1_000_000
        };
        items.clamp(FEWEST.min(most), most)
    }

    /// Whether some keys have fewer copies than they should, somewhere: background work is in a hurry.
    pub fn hurry(&self, is_short: bool) {
        self.is_short.store(is_short, Ordering::Relaxed);
    }

    /// Whether it is in a hurry.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    fn least(&self) -> u64 {
        if self.is_short() {
            LEAST_WHILE_SHORT
        } else {
            LEAST
        }
    }

    /// Whether there are so many reads or writes that they can be slowed down.
    pub fn has_reads(&self) -> bool {
        self.has_reads.load(Ordering::Relaxed)
    }

    /// Rests after a slice of background work.
    pub async fn rest(&self, slice: Duration) {
        tokio::time::sleep(self.rest_after(slice)).await;
    }

    /// Thousandths of the time that background work may take, as far as this node's reads go.
    pub fn own_share(&self) -> u64 {
        self.share.load(Ordering::Relaxed)
    }

    /// Another node does background work that this one may feel.
    pub fn others_work(&self) {
        self.others_work.store(true, Ordering::Relaxed);
    }

    /// The other nodes give so large a share: what is done here loads them too.
    pub fn limit(&self, others: u64) {
        self.others
            .store(others.clamp(LEAST, MOST), Ordering::Relaxed);
    }

    /// Whether background work was done since the last second began.
    pub fn works(&self) -> bool {
        self.worked.load(Ordering::Relaxed) > 0 || self.has_worked.load(Ordering::Relaxed)
    }

    fn share(&self) -> u64 {
        let others = self.others.load(Ordering::Relaxed);
        self.own_share().min(others).max(self.least())
    }

    /// What it does and why.
    pub fn state(&self) -> State {
        State {
            share: self.share(),
            ..self.watched.lock().state
        }
    }

    /// Looks and decides, until it is dropped.
    pub async fn govern(&self) {
        loop {
            tokio::time::sleep(PART).await;
            self.decide(clock::now_ms());
        }
    }

    fn part(&self) -> usize {
        self.nth.load(Ordering::Relaxed) as usize % PARTS
    }

    fn decide(&self, now_ms: u64) {
        let worked = Duration::from_nanos(self.worked.swap(0, Ordering::Relaxed));
        let works = worked >= PART / 100;
        self.has_worked.store(!worked.is_zero(), Ordering::Relaxed);
        let others_work = self.others_work.swap(false, Ordering::Relaxed);
        let is_quiet = !works && !others_work;
        let mut watched = self.watched.lock();
        let (mut has_enough, mut is_slow, mut is_known) = (false, false, false);
        let mut shown = Duration::ZERO;
        for (nth, all) in [&self.reads, &self.writes].into_iter().enumerate() {
            let part = &all[self.part()];
            let (recent, is_enough) = (part.percentile(0.99), part.count() >= ENOUGH);
            let quiet = &mut watched.quiet[nth];
            if is_enough && was_in_pause(now_ms) {
                *quiet = if quiet.is_zero() {
                    recent
                } else {
                    (*quiet + recent) / 2
                };
            } else if is_enough && is_quiet {
                let followed = *quiet + (recent.saturating_sub(*quiet)) * FOLLOWS as u32 / 100;
                *quiet = if quiet.is_zero() {
                    recent
                } else {
                    recent.min(followed)
                };
            }
            let is_fixed = nth == 0 && !self.limits.fixed.is_zero();
            let threshold = if is_fixed {
                self.limits.fixed
            } else {
                *quiet * self.limits.percent as u32 / 100
            };
            has_enough |= is_enough;
            is_known |= is_enough && !threshold.is_zero();
            is_slow |= is_enough && !threshold.is_zero() && recent > threshold;
            if nth == 0 {
                shown = threshold;
            }
        }
        self.has_reads.store(has_enough, Ordering::Relaxed);
        let share = self.share.load(Ordering::Relaxed);
        let (share, reason) = match () {
            () if !has_enough && self.is_short() => (MOST, Reason::Quiet),
            () if !has_enough => (share + share / 2, Reason::Quiet),
            () if !left_of_pause(now_ms).is_zero() => (share, Reason::Room),
            // Nothing is known of how much there is room for.
            () if is_quiet || !is_known => (FIRST, Reason::Room),
            () if is_slow => (share / 2, Reason::Slow),
            () => (share + share / 8 + 1, Reason::Room),
        };
        let share = share.clamp(self.least(), MOST);
        self.share.store(share, Ordering::Relaxed);
        watched.state = State {
            share,
            p99: Histogram::percentile_of(&self.reads, 0.99),
            threshold: shown,
            reason,
        };
        let next = self.nth.load(Ordering::Relaxed) + 1;
        self.reads[next as usize % PARTS].reset();
        self.writes[next as usize % PARTS].reset();
        self.nth.store(next, Ordering::Relaxed);
    }
}

/// How much is left of a pause.
fn left_of_pause(now_ms: u64) -> Duration {
    let since_ms = now_ms % (PAUSE_EVERY_SECS * 1_000);
    Duration::from_millis((PAUSE_SECS * 1_000).saturating_sub(since_ms))
}

/// Whether all of the last part lay in a pause, but for its first second: what had begun has ended.
fn was_in_pause(now_ms: u64) -> bool {
    let since_ms = now_ms % (PAUSE_EVERY_SECS * 1_000);
    (2_000..PAUSE_SECS * 1_000).contains(&since_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(governor: &Governor, reads: u32, took: Duration, worked: Duration) -> State {
        (0..reads).for_each(|_| governor.read(took));
        governor
            .worked
            .store(worked.as_nanos() as u64, Ordering::Relaxed);
        governor.decide(NO_PAUSE_MS);
        governor.state()
    }

    const NO_PAUSE_MS: u64 = (PAUSE_EVERY_SECS - 10) * 1_000;

    #[test]
    fn while_copies_are_missing_it_keeps_a_quarter_and_does_not_pause() {
        let governor = Governor::new(Limits {
            fixed: Duration::from_micros(1),
            percent: 0,
        });
        let slow = Duration::from_millis(5);
        let mut state = State::default();
        for _ in 0..20 {
            state = after(&governor, 100, slow, PART / 2);
        }
        assert_eq!(state.share, LEAST);
        governor.limit(LEAST);
        governor.hurry(true);
        assert_eq!(
            after(&governor, 100, slow, PART / 2).share,
            LEAST_WHILE_SHORT
        );
        let slice = Duration::from_millis(1);
        assert_eq!(governor.rest_after(slice), 3 * slice);
        assert_eq!(governor.items(1_000), 250);
        governor.hurry(false);
        assert_eq!(governor.state().share, LEAST);
    }

    #[test]
    fn long_work_pauses_and_what_reads_take_then_is_what_they_may_take() {
        let governor = Governor::new(Limits {
            fixed: Duration::ZERO,
            percent: 200,
        });
        let (fast, slow) = (Duration::from_micros(100), Duration::from_micros(900));
        after(&governor, 100, fast, Duration::ZERO);
        assert_eq!(after(&governor, 100, slow, PART / 4).reason, Reason::Slow);
        assert_eq!(left_of_pause(30_000), Duration::from_secs(3));
        assert_eq!(left_of_pause(NO_PAUSE_MS), Duration::ZERO);
        // They are as slow without the work.
        for nth in 0..8 {
            (0..100).for_each(|_| governor.read(slow));
            governor.decide(nth * 30_000 + 2_500);
        }
        assert_eq!(after(&governor, 100, slow, PART / 4).reason, Reason::Room);
    }

    #[test]
    fn the_share_shrinks_while_reads_are_slower_than_in_quiet_times_and_grows_again() {
        let governor = Governor::new(Limits {
            fixed: Duration::ZERO,
            percent: 150,
        });
        let (fast, slow) = (Duration::from_micros(500), Duration::from_micros(900));
        let quiet = after(&governor, 100, fast, Duration::ZERO);
        let mut last = quiet;
        for _ in 0..4 {
            let state = after(&governor, 100, slow, PART / 4);
            assert_eq!(state.reason, Reason::Slow);
            assert!(state.share < last.share || state.share == LEAST);
            last = state;
        }
        let state = after(&governor, 100, fast, PART / 4);
        assert_eq!(state.reason, Reason::Room);
        assert!(state.share > last.share);
        let alone = after(&governor, 0, fast, PART / 4);
        assert!(alone.share > state.share && alone.reason == Reason::Quiet);
    }

    #[test]
    fn a_rest_is_in_proportion_to_the_slice_and_bounded() {
        let governor = Governor::new(Limits {
            fixed: Duration::from_millis(1),
            percent: 0,
        });
        let slice = Duration::from_millis(10);
        assert_eq!(governor.rest_after(slice), slice * 9);
        assert_eq!(governor.items(1_000), FEWEST);
        assert_eq!(governor.items(10), 10);
        assert_eq!(governor.items(100), FEWEST);
        assert_eq!(governor.rest_after(slice * 1_000), LONGEST_REST);
    }
}
