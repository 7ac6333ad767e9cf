//! Which keys have ended since somebody looked last, whether or not they are reclaimed.

use super::{Key, Replica, ReplicaError};
use crate::base::clock;
use crate::logic::place;
use crate::storage::Table;

/// Rows of the index looked at at a time.
const PAGE: usize = 256;

/// Up to where somebody has looked.
#[derive(Debug)]
pub struct Ended {
    /// The next row of the index, in each shard.
    next: Vec<Vec<u8>>,
    /// Up to when everything was looked at, in milliseconds since the epoch.
    from_ms: u64,
}

impl Ended {
    /// What ends from now on.
    pub fn now() -> Self {
        Self {
            next: Vec::new(),
            from_ms: clock::now_ms(),
        }
    }

    /// What ended before, in milliseconds since the epoch, has been looked at.
    pub fn until_ms(&self) -> u64 {
        self.from_ms
    }
}

impl Replica {
    /// The keys, with their databases as stored, that have ended since the last time.
    pub fn ended(&self, since: &mut Ended) -> Result<Vec<(u8, Vec<u8>)>, ReplicaError> {
        let now_ms = clock::now_ms();
        if now_ms < since.from_ms {
            // The clock was set back.
            *since = Ended::now();
        }
        let to = now_ms.to_be_bytes();
        let begin = since.from_ms.to_be_bytes().to_vec();
        since.next.resize(self.store.shards(), begin);
        let mut found = Vec::new();
        for shard in 0..self.store.shards() {
            loop {
                let next = &mut since.next[shard];
                let due = self.store.scan(shard, Table::Expiry, next, &to, PAGE)?;
                if let Some((last, _)) = due.last() {
                    *next = [last.as_slice(), &[0]].concat();
                }
                for (index_key, _) in &due {
                    found.extend(self.has_ended(index_key)?);
                }
                if due.len() < PAGE {
                    break;
                }
            }
        }
        since.from_ms = now_ms;
        Ok(found)
    }

    /// The key of a row of the index, if it is what the key's end is now.
    fn has_ended(&self, index_key: &[u8]) -> Result<Option<(u8, Vec<u8>)>, ReplicaError> {
        let row_key = index_key.get(8..).unwrap_or_default();
        let Some((at, db, name)) = place::parse(row_key) else {
            return Ok(None);
        };
        let located = self.locate(Key { db, name }, at);
        let object = match self.load(&located) {
            Err(ReplicaError::Row(_)) => return Ok(None),
            loaded => loaded?,
        };
        let ends = object.ends_at_ms().map(u64::to_be_bytes);
        let is_current = ends.is_some_and(|end| end == index_key[..8]);
        Ok(is_current.then(|| (db, name.to_vec())))
    }
}
