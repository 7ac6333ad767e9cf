//! The store in memory: for tests and simulation. Every write is committed as it is submitted.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::progress::{Progress, Ticket};
use super::{Op, Refused, Row, Store, StoreError, Table, Usage};

#[derive(Debug, Default)]
struct Shard {
    rows: Mutex<(Ticket, BTreeMap<(Table, Vec<u8>), Vec<u8>>)>,
    progress: Progress,
}

/// Rows in ordered maps.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Vec<Shard>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards.max(1)).map(|_| Shard::default()).collect(),
        }
    }
}

impl Store for MemoryStore {
    fn shards(&self) -> usize {
        self.shards.len()
    }

    fn enqueue(&self, shard: usize, ops: Vec<Op>) -> Result<Ticket, Refused> {
        let shard = &self.shards[shard];
        let mut rows = shard.rows.lock();
        rows.0 += 1;
        for Op { table, key, value } in ops {
            match value {
                Some(value) => rows.1.insert((table, key), value),
                None => rows.1.remove(&(table, key)),
            };
        }
        shard.progress.publish_committed(rows.0, true);
        Ok(rows.0)
    }

    fn kick(&self, _: usize) {}

    fn progress(&self, shard: usize) -> &Progress {
        &self.shards[shard].progress
    }

    fn load(&self, shard: usize, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.shards[shard]
            .rows
            .lock()
            .1
            .get(&(table, key.to_vec()))
            .cloned())
    }

    fn scan(
        &self,
        shard: usize,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.shards[shard].rows.lock();
        let range = rows.1.range((table, from.to_vec())..(table, to.to_vec()));
        Ok(range
            .take(limit)
            .map(|((_, k), v)| (k.clone(), v.clone()))
            .collect())
    }

    fn was_clean(&self) -> bool {
        true
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn close(&self) {}

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
