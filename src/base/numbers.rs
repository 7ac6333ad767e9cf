//! Maps by numbers that nobody from outside chooses, or that are hashes already.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by such numbers.
pub type NumberMap<V> = HashMap<u64, V, BuildHasherDefault<Numbers>>;
/// A set of such numbers.
pub type NumberSet = HashSet<u64, BuildHasherDefault<Numbers>>;

/// Spreads numbers that follow each other.
#[derive(Debug, Default)]
pub struct Numbers(u64);

/// Odd, and without a pattern: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Numbers {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
