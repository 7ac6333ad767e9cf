//! Row keys: `partition u16 | slot u16 | murmur3(key) u64 | db u8 | key`, big endian.
//!
//! So that a partition, a Merkle leaf and the rest of a SCAN are each one contiguous range.

use crate::logic::placement::{Partitions, Slot, key_hash, slot_of};

/// The length of everything before the key.
pub const PREFIX_LEN: usize = 13;

/// The longest key. fjall's journal keeps lengths in 16 bits; ours leaves room for the prefix.
pub const MAX_KEY_LEN: usize = 60_000;

/// Where a key's row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The partition of the slot.
    pub partition: u16,
    /// The key's slot.
    pub slot: Slot,
    /// The key's hash.
    pub hash: u64,
}

impl Position {
    /// Of a key.
    pub fn of(key: &[u8], partitions: Partitions) -> Self {
        let slot = slot_of(key);
        Self {
            partition: partitions.of(slot),
            slot,
            hash: key_hash(key),
        }
    }
}

/// The row key of an object.
pub fn row_key(position: Position, db: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_LEN + key.len());
    out.extend_from_slice(&range_start(
        position.partition,
        position.slot,
        position.hash,
    ));
    out.push(db);
    out.extend_from_slice(key);
    out
}

/// The first row key at or after a place.
pub fn range_start(partition: u16, slot: Slot, hash: u64) -> [u8; PREFIX_LEN - 1] {
    let mut out = [0; PREFIX_LEN - 1];
    out[..2].copy_from_slice(&partition.to_be_bytes());
    out[2..4].copy_from_slice(&slot.0.to_be_bytes());
    out[4..].copy_from_slice(&hash.to_be_bytes());
    out
}

/// The first key beyond a partition.
pub fn partition_end(partition: u16) -> [u8; 4] {
    ((u32::from(partition) + 1) << 16).to_be_bytes()
}

/// Splits a row key into position, database and key; `None` when it is too short.
pub fn parse(row_key: &[u8]) -> Option<(Position, u8, &[u8])> {
    let (prefix, key) = row_key.split_at_checked(PREFIX_LEN)?;
    let partition = u16::from_be_bytes([prefix[0], prefix[1]]);
    let slot = Slot(u16::from_be_bytes([prefix[2], prefix[3]]));
    let mut hash = [0; 8];
    hash.copy_from_slice(&prefix[4..12]);
    Some((
        Position {
            partition,
            slot,
            hash: u64::from_be_bytes(hash),
        },
        prefix[12],
        key,
    ))
}

/// The key of an entry in the time-ordered expiry index.
pub fn expiry_key(at_ms: u64, row_key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + row_key.len());
    out.extend_from_slice(&at_ms.to_be_bytes());
    out.extend_from_slice(row_key);
    out
}

/// The time of an entry in the expiry index; 0 when the key is too short.
pub fn expiry_time_ms(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |raw| u64::from_be_bytes(*raw))
}

/// The key of a hint for a node.
pub fn hint_key(node: u64, row_key: &[u8]) -> Vec<u8> {
    [&node.to_be_bytes(), row_key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_keys_round_trip_and_sort_by_partition_slot_and_hash() {
        let q = Partitions::new(256).expect("power of two");
        let mut rows: Vec<_> = (0..500)
            .map(|n| {
                let key = format!("key:{n}");
                let at = Position::of(key.as_bytes(), q);
                (row_key(at, 3, key.as_bytes()), at)
            })
            .collect();
        rows.sort();
        for pair in rows.windows(2) {
            let place = |p: &Position| (p.partition, p.slot, p.hash);
            assert!(place(&pair[0].1) <= place(&pair[1].1));
        }
        for (row, at) in rows {
            let (parsed, db, key) = parse(&row).expect("a row key");
            assert_eq!((parsed, db), (at, 3));
            assert_eq!(Position::of(key, q), at);
            assert!(row.as_slice() < &partition_end(at.partition)[..]);
        }
    }
}
