//! Hybrid logical time (Kulkarni et al., 2014): wall-clock milliseconds with a counter below them.
//!
//! Pure: the caller keeps the last timestamp and brings the wall clock. A timestamp only orders
//! siblings for display; it never decides what is kept.

/// 48 bits of milliseconds since the epoch, 16 bits of counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// What became of a peer's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Taken as it was.
    Accepted(Timestamp),
    /// The peer's clock is too far ahead; taken as `now + max drift`.
    Clamped(Timestamp),
}

impl Timestamp {
    /// The first timestamp of a millisecond.
    pub fn from_ms(ms: u64) -> Self {
        Self(ms << 16)
    }

    /// The millisecond since the epoch.
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The timestamp of the next local event: later than `self`, and not before the wall clock.
    pub fn tick(self, now_ms: u64) -> Self {
        Self::from_ms(now_ms).max(Self(self.0.saturating_add(1)))
    }

    /// Takes in a peer's timestamp, at most `max_drift_ms` ahead of the wall clock.
    pub fn observe(self, theirs: Timestamp, now_ms: u64, max_drift_ms: u64) -> Observed {
        let bound = Self::from_ms(now_ms.saturating_add(max_drift_ms));
        if theirs > bound {
            Observed::Clamped(self.max(bound))
        } else {
            Observed::Accepted(self.max(theirs))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_ascend_when_the_wall_clock_stands_still_or_goes_back() {
        let a = Timestamp::default().tick(1_000);
        let b = a.tick(1_000);
        let c = b.tick(10);
        assert!(a < b && b < c);
        assert_eq!(c.ms(), 1_000);
    }

    #[test]
    fn a_clock_far_ahead_is_clamped() {
        let ours = Timestamp::from_ms(1_000);
        let seen = ours.observe(Timestamp::from_ms(1_000_000), 1_000, 60_000);
        assert_eq!(seen, Observed::Clamped(Timestamp::from_ms(61_000)));
    }
}
