//! The store in memory: for tests and simulation. Every write is committed as it is submitted, or, in
//! a lazy store, when its owner says so; what was not committed can be lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::progress::{Progress, Ticket};
use super::{Frozen, Op, Refused, Row, Store, StoreError, Table, Usage};

#[derive(Debug, Default)]
struct Shard {
    state: Mutex<State>,
    progress: Progress,
}

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// A copy of a store's rows.
#[derive(Clone, Debug, Default)]
pub struct Copied(Vec<Rows>);

#[derive(Debug, Default)]
struct State {
    last: Ticket,
    queued: Vec<Op>,
    rows: Rows,
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

    /// Everything that is committed: a copy of the disk.
    pub fn copy(&self) -> Copied {
        let rows = self.shards.iter();
        let rows = rows.map(|shard| shard.state.lock().rows.clone());
        Copied(rows.collect())
    }

    /// Has an earlier copy in the place of everything, or nothing: the disk was restored, or replaced.
    pub fn replace(&self, with: Option<Copied>) {
        let rows = with.map_or_else(Vec::new, |copied| copied.0);
        let rows = rows.into_iter().chain(std::iter::repeat(Rows::new()));
        for (shard, rows) in self.shards.iter().zip(rows) {
            shard.state.lock().rows = rows;
        }
    }

    /// Loses some rows of a table.
    pub fn lose(&self, table: Table, is_lost: impl Fn(&[u8]) -> bool) {
        for shard in &self.shards {
            let lost = |at: &(Table, Vec<u8>), row: &Vec<u8>| at.0 == table && is_lost(row);
            shard.state.lock().rows.retain(|at, row| !lost(at, row));
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

struct FrozenRows(Rows);

impl Frozen for FrozenRows {
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(scan_rows(&self.0, table, (from, to), limit))
    }
}

fn scan_rows(rows: &Rows, table: Table, (from, to): (&[u8], &[u8]), limit: usize) -> Vec<Row> {
    if from >= to {
        return Vec::new();
    }
    let range = rows.range((table, from.to_vec())..(table, to.to_vec()));
    range
        .take(limit)
        .map(|((_, k), v)| (k.clone(), v.clone()))
        .collect()
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
        let state = self.shards[shard].state.lock();
        Ok(scan_rows(&state.rows, table, (from, to), limit))
    }

    fn freeze(&self, shard: usize) -> Result<Arc<dyn Frozen>, StoreError> {
        Ok(Arc::new(FrozenRows(
            self.shards[shard].state.lock().rows.clone(),
        )))
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
