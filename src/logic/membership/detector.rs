//! Whether another node answers: phi accrual (Hayashibara et al., 2004) over the arrivals of its
//! heartbeats, and at once when it refuses a connection or lets a request time out.
//!
//! Each node has its own opinion and acts on it alone: who is suspected is skipped, and taken back
//! at the first sign of life. Pure: the caller brings the time, in milliseconds of any clock that
//! does not go back.

/// Arrivals that are remembered.
const WINDOW: usize = 32;
/// Regular arrivals are taken for at least this irregular.
const MIN_DEVIATION_MS: f64 = 500.0;
/// What an interval is taken for before any was seen.
const FIRST_INTERVAL_MS: f64 = 1_000.0;

/// One node's opinion of another.
#[derive(Clone, Debug)]
pub struct Detector {
    intervals_ms: [f64; WINDOW],
    seen: usize,
    last_ms: u64,
    failed: bool,
}

impl Detector {
    /// A node that is taken for alive from now on.
    pub fn new(now_ms: u64) -> Self {
        Self {
            intervals_ms: [0.0; WINDOW],
            seen: 0,
            last_ms: now_ms,
            failed: false,
        }
    }

    /// A heartbeat arrived, or an answer: the node is there.
    pub fn heard(&mut self, now_ms: u64) {
        let interval_ms = now_ms.saturating_sub(self.last_ms);
        // A pause that ended is no measure of what is usual.
        if interval_ms > 0 && !self.is_suspected(now_ms, f64::MAX) && self.phi(now_ms) < 16.0 {
            self.intervals_ms[self.seen % WINDOW] = interval_ms as f64;
            self.seen += 1;
        }
        self.last_ms = now_ms;
        self.failed = false;
    }

    /// It refused a connection or did not answer a request in time.
    pub fn failed(&mut self) {
        self.failed = true;
    }

    /// Whether it is to be skipped: it failed since it was last heard, or `phi` is beyond the
    /// threshold.
    pub fn is_suspected(&self, now_ms: u64, threshold: f64) -> bool {
        self.failed || self.phi(now_ms) > threshold
    }

    /// The time from which it is to be skipped, if nothing is heard until then: [`Self::is_suspected`]
    /// for those who ask often.
    pub fn suspected_from_ms(&self, threshold: f64) -> u64 {
        if self.failed {
            return 0;
        }
        // Phi only grows, and does not grow beyond this time's.
        let (mean, deviation) = self.usual();
        let (mut trusted, mut suspected) = (0, (mean + 100.0 * deviation) as u64);
        while suspected - trusted > 1 {
            let between = u64::midpoint(trusted, suspected);
            if self.is_suspected(self.last_ms + between, threshold) {
                suspected = between;
            } else {
                trusted = between;
            }
        }
        self.last_ms + suspected
    }

    /// How unlikely the present silence is: 3 stands for one in a thousand.
    pub fn phi(&self, now_ms: u64) -> f64 {
        let silent_ms = now_ms.saturating_sub(self.last_ms) as f64;
        let (mean, deviation) = self.usual();
        let y = (silent_ms - mean) / deviation;
        // The logistic approximation of the normal distribution's tail.
        let e = (-y * (1.5976 + 0.070_566 * y * y)).exp();
        if y > 0.0 {
            -(e / (1.0 + e)).max(f64::MIN_POSITIVE).log10()
        } else {
            -(1.0 - 1.0 / (1.0 + e)).log10()
        }
    }

    /// Milliseconds since the node was last heard.
    pub fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.last_ms)
    }

    fn usual(&self) -> (f64, f64) {
        let known = &self.intervals_ms[..self.seen.min(WINDOW)];
        if known.is_empty() {
            return (FIRST_INTERVAL_MS, FIRST_INTERVAL_MS);
        }
        let count = known.len() as f64;
        let mean = known.iter().sum::<f64>() / count;
        let variance = known.iter().map(|i| (i - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt().max(MIN_DEVIATION_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regular() -> Detector {
        let mut detector = Detector::new(0);
        (1..=20).for_each(|n| detector.heard(n * 1_000));
        detector
    }

    #[test]
    fn the_time_of_suspicion_is_when_phi_crosses_the_threshold() {
        let mut detector = Detector::new(0);
        for now_ms in [1_000, 2_100, 2_900, 4_000, 5_050] {
            detector.heard(now_ms);
            for threshold in [1.0, 8.0, 100.0] {
                let from_ms = detector.suspected_from_ms(threshold);
                assert!(!detector.is_suspected(from_ms - 1, threshold));
                assert!(detector.is_suspected(from_ms, threshold));
            }
        }
        detector.failed();
        assert_eq!(detector.suspected_from_ms(8.0), 0);
    }

    #[test]
    fn phi_is_the_tail_of_a_normal_distribution() {
        // Mean and deviation of one second: standard deviations, and -log10 of what is beyond them.
        let detector = Detector::new(10_000);
        for (now_ms, expected) in [
            (10_000, 0.075),
            (11_000, 0.301),
            (12_000, 0.800),
            (13_000, 1.643),
            (14_000, 2.870),
        ] {
            let phi = detector.phi(now_ms);
            assert!(
                (phi - expected).abs() < 0.01 + expected * 0.05,
                "{now_ms}: {phi}"
            );
        }
        assert!(detector.phi(1_000_000).is_finite());
        let phi = detector.phi(13_000);
        assert!(!detector.is_suspected(13_000, phi));
        assert!(detector.is_suspected(13_001, phi));
        assert_eq!(detector.silent_ms(13_000), 3_000);
        assert_eq!(detector.silent_ms(9_000), 0);
    }

    #[test]
    fn suspicion_grows_with_silence_and_ends_with_a_heartbeat() {
        let mut detector = regular();
        assert!(detector.phi(20_500) < 0.5);
        assert!(!detector.is_suspected(21_500, 8.0));
        assert!(detector.is_suspected(25_000, 8.0));
        detector.heard(30_000);
        assert!(!detector.is_suspected(31_000, 8.0));
        assert!(
            detector.is_suspected(35_000, 8.0),
            "the pause taught nothing"
        );
    }

    #[test]
    fn a_refused_connection_counts_at_once() {
        let mut detector = regular();
        detector.failed();
        assert!(detector.is_suspected(20_001, 8.0));
        detector.heard(20_002);
        assert!(!detector.is_suspected(20_003, 8.0));
    }

    #[test]
    fn irregular_heartbeats_are_given_more_time() {
        let mut irregular = Detector::new(0);
        let mut now_ms = 0;
        for n in 0..30 {
            now_ms += if n % 3 == 0 { 4_000 } else { 500 };
            irregular.heard(now_ms);
        }
        assert!(!irregular.is_suspected(now_ms + 5_000, 8.0));
        assert!(regular().is_suspected(25_000, 8.0));
    }
}
