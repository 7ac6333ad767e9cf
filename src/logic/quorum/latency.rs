//! The time within which nearly all requests are answered, kept up to date by every answer.

use std::sync::atomic::{AtomicU64, Ordering};

/// Of a hundred answers so many come within the estimate.
const WITHIN_PERCENT: u64 = 99;
/// A surprise moves the estimate by this fraction of itself, the opposite by that much less that
/// both balance at the percentile.
const STEP: f64 = 0.05;

/// An estimate of the 99th percentile that needs no history: it rises by a step when an answer is
/// later, and falls by a 99th of a step when it is not.
#[derive(Debug)]
pub struct Slowest(AtomicU64);

impl Slowest {
    /// Starts from a guess, in microseconds.
    pub fn new(guess_us: u64) -> Self {
        Self(AtomicU64::new((guess_us as f64).to_bits()))
    }

    /// An answer came after so many microseconds.
    pub fn note(&self, took_us: u64) {
        let now = f64::from_bits(self.0.load(Ordering::Relaxed));
        let rise = STEP / (100 - WITHIN_PERCENT) as f64 * WITHIN_PERCENT as f64 / 100.0;
        let fall = STEP / 100.0;
        let next = if took_us as f64 > now {
            now * (1.0 + rise)
        } else {
            (now * (1.0 - fall)).max(1.0)
        };
        // Two answers at a time lose one of two steps, which the next ones make up for.
        self.0.store(next.to_bits(), Ordering::Relaxed);
    }

    /// The estimate, in microseconds.
    pub fn us(&self) -> u64 {
        f64::from_bits(self.0.load(Ordering::Relaxed)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_finds_the_percentile_from_both_sides() {
        for guess in [10, 1_000_000] {
            let slowest = Slowest::new(guess);
            let mut random = 1u64;
            for _ in 0..200_000 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                slowest.note((random >> 33) % 10_000);
            }
            let found = slowest.us();
            assert!((9_000..=10_600).contains(&found), "{found}");
        }
    }
}
