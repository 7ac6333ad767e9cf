//! The store in memory: for tests and simulation. Every write is committed as it is submitted, or, in
//! a lazy store, when its owner says so; what was not committed can be lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::progress::{Progress, Ticket};
use super::{Op, Refused, Row, Store, StoreError, Table, Usage};

#[derive(Debug, Default)]
struct Shard {
    state: Mutex<State>,
    progress: Progress,
}

#[derive(Debug, Default)]
struct State {
    last: Ticket,
    queued: Vec<Op>,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
}

impl State {
    fn commit(&mut self) {
        for Op { table, key, value } in self.queued.drain(..) {
            match value {
                Some(value) => self.rows.insert((table, key), value),
                None => self.rows.remove(&(table, key)),
            };
        }
    }
}

/// Rows in ordered maps.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Vec<Shard>,
    lazy: AtomicBool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards.max(1)).map(|_| Shard::default()).collect(),
            lazy: AtomicBool::new(false),
        }
    }

    /// From now on nothing is committed before [`Self::commit`], or everything is at once again.
    pub fn be_lazy(&self, lazy: bool) {
        self.lazy.store(lazy, Ordering::Relaxed);
    }

    /// Whether writes wait for [`Self::commit`].
    pub fn is_lazy(&self) -> bool {
        self.lazy.load(Ordering::Relaxed)
    }

    /// Commits what was taken.
    pub fn commit(&self) {
        for shard in &self.shards {
            let mut state = shard.state.lock();
            state.commit();
            shard.progress.publish_committed(state.last, true);
        }
    }

    /// Loses what was not committed, as the end of the process does.
    pub fn lose_uncommitted(&self) {
        for shard in &self.shards {
            let mut state = shard.state.lock();
            state.queued.clear();
            shard.progress.publish_failed(state.last);
        }
    }
}

impl Store for MemoryStore {
    fn shards(&self) -> usize {
        self.shards.len()
    }

    fn enqueue(&self, shard: usize, ops: Vec<Op>) -> Result<Ticket, Refused> {
        let shard = &self.shards[shard];
        let mut state = shard.state.lock();
        state.last += 1;
        state.queued.extend(ops);
        if !self.is_lazy() {
            state.commit();
            shard.progress.publish_committed(state.last, true);
        }
        Ok(state.last)
    }

    fn kick(&self, _: usize) {}

    fn progress(&self, shard: usize) -> &Progress {
        &self.shards[shard].progress
    }

    fn load(&self, shard: usize, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.shards[shard]
            .state
            .lock()
            .rows
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
        let state = self.shards[shard].state.lock();
        let range = state
            .rows
            .range((table, from.to_vec())..(table, to.to_vec()));
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
