//! Where a key's rows are.

use std::cell::RefCell;

use super::{Key, Located, Replica};
use crate::logic::place::{self, Position};

impl Replica {
    /// Shards hold contiguous ranges of partitions, so that a scan reads each shard in one go.
    pub(super) fn shard_of(&self, partition: u16) -> usize {
        usize::from(partition) * self.store.shards() / usize::from(self.partitions.count())
    }

    pub(super) fn partitions_of(&self, shard: usize) -> std::ops::Range<u16> {
        let (count, shards) = (usize::from(self.partitions.count()), self.store.shards());
        let first = |shard: usize| (shard * count).div_ceil(shards) as u16;
        first(shard)..first(shard + 1)
    }

    pub(super) fn locate<'a>(&self, key: Key<'a>, at: Position) -> Located<'a> {
        let shard = self.shard_of(at.partition);
        Located {
            key,
            epoch: self.spaces.of(at.partition, key.db).epoch(),
            as_of: self.store.progress(shard).failures(),
            at,
            shard,
            row_key: place::row_key(at, key.db, key.name),
            lies: RefCell::default(),
        }
    }

    /// The key of a row that was found.
    pub(super) fn found<'a>(
        &self,
        row_key: &[u8],
        (at, db, name): (Position, u8, &'a [u8]),
    ) -> Located<'a> {
        Located {
            key: Key { db, name },
            epoch: self.spaces.of(at.partition, db).epoch(),
            as_of: 0,
            at,
            shard: self.shard_of(at.partition),
            row_key: row_key.into(),
            lies: RefCell::default(),
        }
    }
}
