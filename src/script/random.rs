//! The random numbers of scripts: those of the C library's `drand48`, so that a seed means what it does in Redis.

const FACTOR: u64 = 0x5_deec_e66d;
const ADDEND: u64 = 0xb;
const MASK: u64 = (1 << 48) - 1;
const LOW: u64 = 0x330e;
const MOST: u32 = i32::MAX as u32;

/// The generator.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn seeded(seed: i32) -> Self {
        Self((u64::from(seed as u32) << 16) | LOW)
    }

    /// The next number from 0 to below 1, as Redis's `math.random` has it.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = (self.0.wrapping_mul(FACTOR).wrapping_add(ADDEND)) & MASK;
        let number = (self.0 >> 17) as u32;
        f64::from(number % MOST) / f64::from(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_what_follows() {
        let (mut a, mut b) = (Random::seeded(0), Random::seeded(0));
        let first: Vec<f64> = (0..4).map(|_| a.unit()).collect();
        assert_eq!(first, (0..4).map(|_| b.unit()).collect::<Vec<_>>());
        assert!(first.iter().all(|n| (0.0..=1.0).contains(n)));
        // The C library's `srand48(0)` and `lrand48()` begin so.
        assert_eq!((first[0] * f64::from(MOST)).round() as u32, 366_850_414);
    }
}
