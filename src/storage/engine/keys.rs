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

    /// The least key of a part; of the one behind the last, what is greater than any key of data.
    pub(super) fn start_of(&self, part: usize) -> Vec<u8> {
        if part >= PARTS {
            return vec![0xff; 8];
        }
        let slot = (part * usize::from(SLOTS) / PARTS) as u32;
        let partition = slot / self.slots_per_partition;
        [partition as u16, slot as u16]
            .map(u16::to_be_bytes)
            .concat()
    }

    /// A key's hash: 32 bits, spread.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        spread(xxh3_64_with_seed(key, self.seed) as u32)
    }

    /// The hash of what stands for all elements of the key of which one is an element.
    pub(super) fn hash_of_elements(&self, key: &[u8]) -> u64 {
        self.hash(&place::behind(key))
    }

    /// Whether all that is between two keys are elements of one.
    #[expect(clippy::unused_self, reason = "one way to ask what a key is")]
    pub(super) fn are_of_one(&self, from: &[u8], to: &[u8]) -> bool {
        place::is_element(from) && place::is_element(to) && place::behind(from) == place::behind(to)
    }

    /// Whether it is the key of an element: then order matters within what has one hash.
    #[expect(clippy::unused_self, reason = "one way to ask what a key is")]
    pub(super) fn is_element(&self, key: &[u8]) -> bool {
        place::is_element(key)
    }
}

/// All that a hash has, to be kept.
pub(super) fn bits(hash: u64) -> u32 {
    hash as u32
}

/// The hash of which that is all: a table of rows looks at both ends of it.
pub(super) fn spread(bits: u32) -> u64 {
    u64::from(bits.wrapping_mul(0x9e37_79b9)) << 32 | u64::from(bits)
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
                    row_key(Position::of(&name, partitions), 0, &name).into_vec()
                })
                .collect();
            rows.extend([vec![], vec![0xff], vec![0, 1], b"any".to_vec()]);
            rows.sort_unstable();
            let parts: Vec<usize> = rows.iter().map(|row| keys.part(row)).collect();
            assert!(parts.is_sorted());
            for (row, part) in rows.iter().zip(&parts).filter(|(row, _)| row.len() > 12) {
                assert!(keys.start_of(*part) <= *row && *row < keys.start_of(part + 1));
            }
            let mut used = parts;
            used.dedup();
            assert!(used.len() > PARTS * 9 / 10, "{count}: {}", used.len());
        }
    }
}
