//! What the engine must know of the keys of data: where a key stands among all, and whether it is an
//! element's. They begin with two numbers that order them, a partition and a slot within all slots.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::logic::place;
use crate::logic::placement::SLOTS;

/// Parts of the rows in memory: contiguous ranges of the order of keys.
pub(super) const PARTS: usize = 4_096;

/// How keys are spread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    slots_per_partition: u32,
    partitions: u32,
    /// Nobody can choose keys that meet in one place.
    seed: u64,
}

impl Keys {
    /// Of so many partitions.
    pub(super) fn of(partitions: u16) -> Self {
        let partitions = u32::from(partitions.clamp(1, SLOTS));
        Self {
            slots_per_partition: u32::from(SLOTS) / partitions,
            partitions,
            seed: crate::base::random::random_u64(),
        }
    }

    /// Which part has a key; greater keys are in the same or in a later one.
    pub(super) fn part(&self, key: &[u8]) -> usize {
        let two = |at: usize| {
            let byte = |at: usize| key.get(at).copied().unwrap_or_default();
            u32::from(u16::from_be_bytes([byte(at), byte(at + 1)]))
        };
        let (partition, slot) = (two(0), two(2));
        if partition >= self.partitions {
            return PARTS - 1;
        }
        let first = partition * self.slots_per_partition;
        let within = slot.saturating_sub(first).min(self.slots_per_partition - 1);
        (first + within) as usize * PARTS / usize::from(SLOTS)
    }

    /// A key's hash.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    /// Whether it is the key of an element: then order matters within what has one hash.
    #[expect(clippy::unused_self, reason = "one way to ask what a key is")]
    pub(super) fn is_element(&self, key: &[u8]) -> bool {
        place::is_element(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::place::{Position, row_key};
    use crate::logic::placement::Partitions;

    #[test]
    fn parts_follow_the_order_of_keys_and_share_them_evenly() {
        for count in [1, 2, 256, 4_096, 16_384] {
            let keys = Keys::of(count);
            let partitions = Partitions::new(count).expect("a power of two");
            let mut rows: Vec<Vec<u8>> = (0..20_000)
                .map(|n: u32| {
                    let name = n.to_le_bytes();
                    row_key(Position::of(&name, partitions), 0, &name)
                })
                .collect();
            rows.extend([vec![], vec![0xff], vec![0, 1], b"any".to_vec()]);
            rows.sort_unstable();
            let parts: Vec<usize> = rows.iter().map(|row| keys.part(row)).collect();
            assert!(parts.is_sorted());
            let mut used = parts;
            used.dedup();
            assert!(used.len() > PARTS * 9 / 10, "{count}: {}", used.len());
        }
    }
}
