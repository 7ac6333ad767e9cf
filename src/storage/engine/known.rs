//! What of data the tables may have, by a few bits of each row's hash: so that a key that was never there
//! is not looked for in files. A row that is said not to be there is not; one that may be, may not.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::keys::{bits, spread};

/// What a row takes, with its share of empty places.
pub(super) const ROW_BYTES: u64 = 8;

/// Of one part.
#[derive(Debug, Default)]
pub(super) struct Known {
    rows: HashTable<u32>,
    /// Whether all of what the tables have is in it.
    is_complete: bool,
}

impl Known {
    /// Whether the tables may have a row.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        let bits = bits(hash);
        !self.is_complete || self.rows.find(hash, |found| *found == bits).is_some()
    }

    /// The tables have a row, or are about to; by how many bytes this has grown.
    pub(super) fn add(&mut self, hash: u64) -> i64 {
        let bits = bits(hash);
        match self
            .rows
            .entry(hash, |found| *found == bits, |found| spread(*found))
        {
            Entry::Occupied(_) => 0,
            Entry::Vacant(entry) => {
                entry.insert(bits);
                ROW_BYTES as i64
            }
        }
    }

    /// All that the tables had was added.
    pub(super) fn be_complete(&mut self) {
        self.is_complete = true;
    }

    /// It would take too much memory; how many bytes it had.
    pub(super) fn give_up(&mut self) -> i64 {
        let bytes = self.rows.len() as u64 * ROW_BYTES;
        *self = Self::default();
        bytes as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::engine::keys::Keys;

    #[test]
    fn what_was_added_may_be_there_and_next_to_nothing_else() {
        let keys = Keys::of(1);
        let hash = |n: u32| keys.hash(&n.to_le_bytes());
        let mut known = Known::default();
        assert!(known.may_have(hash(0)), "nobody knows");
        let grown: i64 = (0..5_000).map(|n| known.add(hash(n))).sum();
        assert_eq!(known.add(hash(7)), 0);
        known.be_complete();
        assert!((0..5_000).all(|n| known.may_have(hash(n))));
        let wrong = (5_000..1_000_000)
            .filter(|n| known.may_have(hash(*n)))
            .count();
        assert!(wrong < 50, "{wrong}");
        assert_eq!(known.give_up(), grown);
        assert!(known.may_have(hash(900_000)));
    }
}
