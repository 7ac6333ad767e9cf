//! Measuring durations: a histogram that many threads record into without a lock.
//!
//! Buckets are logarithmic with eight steps a power of two, so a percentile is at most an eighth
//! too high. The last bucket, about eighteen minutes, takes everything beyond.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counter::{self, PLACES};

/// Steps within a power of two, as a power of two.
const STEP_BITS: u32 = 3;
const POWERS: u32 = 40;
const BUCKETS: usize = ((POWERS - STEP_BITS + 1) << STEP_BITS) as usize;

/// How often which duration was seen. It takes memory from the first one on.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By the place of the thread that records.
    places: [OnceLock<Box<[AtomicU64]>>; PLACES],
}

impl Histogram {
    fn buckets(&self) -> &[AtomicU64] {
        let made = || (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        self.places[counter::place()].get_or_init(made)
    }

    /// Counts one duration.
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets()[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets everything.
    pub fn reset(&self) {
        for bucket in self.places.iter().filter_map(OnceLock::get).flatten() {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.counts().sum()
    }

    /// The duration that this share of all stay within (0.99: the 99th percentile), or zero when
    /// nothing was recorded.
    pub fn percentile(&self, share: f64) -> Duration {
        Self::percentile_of(std::slice::from_ref(self), share)
    }

    /// The same over several histograms together.
    pub fn percentile_of(parts: &[Histogram], share: f64) -> Duration {
        let mut counts = vec![0; BUCKETS];
        for part in parts {
            for (sum, count) in counts.iter_mut().zip(part.counts()) {
                *sum += count;
            }
        }
        let total: u64 = counts.iter().sum();
        let wanted = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (nth, count) in counts.into_iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper_bound(nth));
            }
        }
        Duration::ZERO
    }

    /// `(upper bound, how many stay within)` for each power of two of microseconds that adds any.
    pub fn cumulative_micros(&self) -> Vec<(u64, u64)> {
        let mut out: Vec<(u64, u64)> = Vec::new();
        let mut seen = 0;
        for (nth, count) in self.counts().enumerate().filter(|(_, count)| *count > 0) {
            seen += count;
            let micros = (upper_bound(nth) / 1_024).max(1).next_power_of_two();
            match out.last_mut() {
                Some(last) if last.0 == micros => last.1 = seen,
                _ => out.push((micros, seen)),
            }
        }
        out
    }

    fn counts(&self) -> impl Iterator<Item = u64> {
        let mut counts = [0; BUCKETS];
        for place in self.places.iter().filter_map(OnceLock::get) {
            for (sum, bucket) in counts.iter_mut().zip(place) {
                *sum += bucket.load(Ordering::Relaxed);
            }
        }
        counts.into_iter()
    }
}

fn bucket_of(nanos: u64) -> usize {
    if nanos < 1 << STEP_BITS {
        return nanos as usize;
    }
    let power = nanos.ilog2();
    let step = (nanos >> (power - STEP_BITS)) - (1 << STEP_BITS);
    let bucket = (u64::from(power - STEP_BITS + 1) << STEP_BITS) + step;
    (bucket as usize).min(BUCKETS - 1)
}

/// The largest number of nanoseconds in a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (row, step) = (bucket as u64 >> STEP_BITS, bucket as u64 % (1 << STEP_BITS));
    if row == 0 {
        return step;
    }
    (((1 << STEP_BITS) + step + 1) << (row - 1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_its_bounds_say() {
        for nanos in (0..100_000).chain([1 << 20, (1 << 30) + 7, (1 << 39) + 1]) {
            let bucket = bucket_of(nanos);
            assert!(nanos <= upper_bound(bucket), "{nanos}");
            assert!(bucket == 0 || nanos > upper_bound(bucket - 1), "{nanos}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_at_most_an_eighth_too_high() {
        let histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.99), Duration::ZERO);
        (1..=1_000).for_each(|n| histogram.record(Duration::from_micros(n)));
        for (share, micros) in [(0.5, 500), (0.99, 990), (0.999, 999)] {
            let found = histogram.percentile(share).as_nanos() as f64 / 1_000.0;
            let exact = f64::from(micros);
            assert!(found >= exact && found <= exact * 1.126, "{share}: {found}");
        }
    }

    #[test]
    fn cumulative_counts_ascend_to_the_total() {
        let histogram = Histogram::default();
        (1..=100).for_each(|n| histogram.record(Duration::from_micros(n)));
        let rows = histogram.cumulative_micros();
        assert!(rows.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
        assert_eq!(rows.last(), Some(&(128, 100)));
    }
}
