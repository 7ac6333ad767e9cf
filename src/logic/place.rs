//! Places: the order in which keys stand in a store, and the key of a row.
//!
//! `partition u16 | slot u16 | murmur3(key) u64 | db u8 | length of the key u16 | key`, big endian. So
//! that a partition, a Merkle leaf and the rest of a SCAN are each one contiguous range; and, with the
//! length before it, what follows a key can be told from the key: rows of its elements.
//!
//! Rows of the format before had no length. A row tells by its hash which it is of.

use smallvec::SmallVec;

use super::placement::{Partitions, Slot, key_hash, slot_of};

/// The length of everything before the key.
pub const PREFIX_LEN: usize = POSITION_LEN + 1 + LENGTH_LEN;
/// The length of a position.
pub const POSITION_LEN: usize = 12;
const LENGTH_LEN: usize = 2;
/// Above what follows a key in the rows of its elements.
pub const BEHIND: u8 = 0x80;
/// Where the key's length stands.
const LENGTH_AT: usize = POSITION_LEN + 1;

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

/// The key of a row: those of usual keys are not allocated.
pub type RowKey = SmallVec<[u8; 64]>;

/// The row key of an object.
pub fn row_key(position: Position, db: u8, key: &[u8]) -> RowKey {
    let mut out = RowKey::with_capacity(PREFIX_LEN + key.len());
    out.extend_from_slice(&range_start(
        position.partition,
        position.slot,
        position.hash,
    ));
    out.push(db);
    let len = u16::try_from(key.len()).expect("a key is at most MAX_KEY_LEN long");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// The first row key at or after a place.
pub fn range_start(partition: u16, slot: Slot, hash: u64) -> [u8; POSITION_LEN] {
    let mut out = [0; POSITION_LEN];
    out[..2].copy_from_slice(&partition.to_be_bytes());
    out[2..4].copy_from_slice(&slot.0.to_be_bytes());
    out[4..].copy_from_slice(&hash.to_be_bytes());
    out
}

/// The first key beyond a partition.
pub fn partition_end(partition: u16) -> [u8; 4] {
    ((u32::from(partition) + 1) << 16).to_be_bytes()
}

/// Splits a row key into position, database and key; `None` when it is none.
pub fn parse(row_key: &[u8]) -> Option<(Position, u8, &[u8])> {
    let (prefix, key) = row_key.split_at_checked(PREFIX_LEN)?;
    let len = u16::from_be_bytes([prefix[LENGTH_AT], prefix[LENGTH_AT + 1]]);
    (key.len() == usize::from(len)).then(|| (position(prefix), prefix[POSITION_LEN], key))
}

/// Behind a key of a row, and of all rows of its elements; of what is no such key, what follows it.
pub fn behind(row_key: &[u8]) -> Vec<u8> {
    let len = row_key.split_at_checked(PREFIX_LEN).map(|(prefix, _)| {
        let len = u16::from_be_bytes([prefix[LENGTH_AT], prefix[LENGTH_AT + 1]]);
        PREFIX_LEN + usize::from(len)
    });
    match len.and_then(|len| row_key.get(..len)) {
        Some(of_key) => [of_key, &[BEHIND]].concat(),
        None => [row_key, &[0]].concat(),
    }
}

/// Whether something follows the key.
pub fn is_element(row_key: &[u8]) -> bool {
    row_key
        .split_at_checked(PREFIX_LEN)
        .is_some_and(|(prefix, rest)| {
            let len = u16::from_be_bytes([prefix[LENGTH_AT], prefix[LENGTH_AT + 1]]);
            rest.len() > usize::from(len)
        })
}

fn position(prefix: &[u8]) -> Position {
    let mut hash = [0; 8];
    hash.copy_from_slice(&prefix[4..POSITION_LEN]);
    Position {
        partition: u16::from_be_bytes([prefix[0], prefix[1]]),
        slot: Slot(u16::from_be_bytes([prefix[2], prefix[3]])),
        hash: u64::from_be_bytes(hash),
    }
}

/// A row key of the format before, as it is now; `None` for one that is of no format or of this one.
pub fn from_old(row_key: &[u8]) -> Option<Vec<u8>> {
    let (prefix, key) = row_key.split_at_checked(LENGTH_AT)?;
    let is_old = key.len() <= MAX_KEY_LEN && key_hash(key) == position(prefix).hash;
    is_old.then(|| put_length(prefix, key, key))
}

/// A place as builds before write it, with the key's length; what ends before the key stays. A zero at
/// the end is no part of the key: places are what follows a key.
pub fn with_length(old: &[u8]) -> Vec<u8> {
    match old.split_at_checked(LENGTH_AT) {
        None => old.to_vec(),
        Some((prefix, rest)) => put_length(prefix, rest.strip_suffix(&[0]).unwrap_or(rest), rest),
    }
}

fn put_length(prefix: &[u8], key: &[u8], rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(key.len()).unwrap_or(u16::MAX);
    [prefix, &len.to_be_bytes(), rest].concat()
}

/// A place as builds before understand it.
pub fn without_length(place: &[u8]) -> Vec<u8> {
    match place.split_at_checked(PREFIX_LEN) {
        None => place.to_vec(),
        Some((prefix, key)) => [&prefix[..LENGTH_AT], key].concat(),
    }
}

/// What stands before a row key in the time-ordered index of expiries, and in a hint's row.
pub const TIME_LEN: usize = 8;
/// The same in the row of a hint.
pub const NODE_LEN: usize = 8;

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
                let key = if n == 0 {
                    String::new()
                } else {
                    format!("key:{n}")
                };
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
            assert_eq!(from_old(&row), None, "it is of this format");
            let old = without_length(&row);
            assert_eq!(from_old(&old).as_ref(), Some(&row.to_vec()));
            assert_eq!(with_length(&old), row.to_vec());
            assert!(behind(&row) > [&row[..], &[0x7f, 0xff]].concat());
            assert_eq!(behind(&[&row[..], b"element"].concat()), behind(&row));
            let next = [&row[..], &[0]].concat();
            assert_eq!(with_length(&without_length(&next)), next);
            assert_eq!(parse(&old), None);
            assert_eq!(parse(&[&row[..], b"element"].concat()), None);
        }
    }

    #[test]
    fn rows_of_indexes_begin_with_a_time_or_a_node() {
        let row = expiry_key(0x0102_0304, b"row");
        assert_eq!(
            (expiry_time_ms(&row), &row[TIME_LEN..]),
            (0x0102_0304, &b"row"[..])
        );
        assert_eq!(expiry_time_ms(&row[..7]), 0);
        assert!(expiry_key(255, b"z") < expiry_key(256, b"a"));
        let row = hint_key(7, b"row");
        assert_eq!(row, [&7u64.to_be_bytes()[..], b"row"].concat());
        assert_eq!(&row[NODE_LEN..], b"row");
    }

    #[test]
    fn places_before_any_key_are_the_same_in_both_formats() {
        for len in 0..LENGTH_AT {
            let place = vec![7; len];
            assert_eq!(with_length(&place), place);
            assert_eq!(without_length(&place), place);
        }
    }
}
