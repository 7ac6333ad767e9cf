//! The store in memory: for tests and simulation. Every write is committed as it is submitted, or, in
//! a lazy store, when its owner says so; what was not committed is read, and can be lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::progress::{Progress, Ticket};
use super::{Changing, Frozen, Need, Op, Refused, Row, Store, StoreError, Table, Usage, Write};

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
    /// What rows were before what is not committed.
    undo: Vec<((Table, Vec<u8>), Option<Vec<u8>>)>,
    /// Whether nothing that grows is taken.
    is_full: bool,
    /// A batch that failed, and up to which ticket: whether it is there is not known yet.
    in_doubt: Option<(Vec<Op>, Ticket)>,
    /// Whether those who wait for it were told so.
    is_told: bool,
}

impl State {
    fn commit(&mut self) {
        self.queued.clear();
        self.undo.clear();
    }

    fn apply(&mut self, ops: &[Op]) {
        for Op { table, key, value } in ops {
            let at = (*table, key.clone());
            let before = match value {
                Some(value) => self.rows.insert(at.clone(), value.clone()),
                None => self.rows.remove(&at),
            };
            self.undo.push((at, before));
        }
    }

    /// What was not committed is not there any more.
    fn undo(&mut self) {
        self.queued.clear();
        for (at, before) in self.undo.drain(..).rev() {
            match before {
                Some(before) => self.rows.insert(at, before),
                None => self.rows.remove(&at),
            };
        }
    }

    /// The last write, where one of a row is not committed.
    fn pending(&self, table: Table, key: &[u8]) -> Ticket {
        let mut uncommitted = self.undo.iter();
        let is_pending = uncommitted.any(|((of, at), _)| (*of, at.as_slice()) == (table, key));
        if is_pending { self.last } else { 0 }
    }

    fn committed(&self) -> Rows {
        let mut rows = self.rows.clone();
        for (at, before) in self.undo.iter().rev() {
            match before {
                Some(before) => rows.insert(at.clone(), before.clone()),
                None => rows.remove(at),
            };
        }
        rows
    }
}

/// Rows in ordered maps.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Vec<Shard>,
    lazy: AtomicBool,
    /// Bytes that scans have read.
    scanned: AtomicU64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards.max(1)).map(|_| Shard::default()).collect(),
            lazy: AtomicBool::new(false),
            scanned: AtomicU64::new(0),
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
            if state.in_doubt.is_some() {
                continue;
            }
            state.commit();
            shard.progress.publish_committed(state.last, true);
        }
    }

    /// Bytes of all rows that scans have read.
    pub fn scanned_bytes(&self) -> u64 {
        self.scanned.load(Ordering::Relaxed)
    }

    /// From now on nothing that grows is taken, or everything is again.
    pub fn be_full(&self, full: bool) {
        for shard in &self.shards {
            shard.state.lock().is_full = full;
        }
    }

    /// What was taken and is not committed fails, as a batch does in the middle of which the disk is
    /// full: nobody knows what became of it before [`Self::settle`].
    pub fn fail(&self) {
        for shard in &self.shards {
            let mut state = shard.state.lock();
            if state.in_doubt.is_none() {
                let queued = std::mem::take(&mut state.queued);
                state.in_doubt = Some((queued, state.last));
                state.is_told = false;
            }
        }
    }

    /// Those who wait for what failed are told that nobody knows.
    pub fn tell(&self) {
        for shard in &self.shards {
            let mut state = shard.state.lock();
            if state.in_doubt.is_some() && !state.is_told {
                state.is_told = true;
                state.undo();
                shard.progress.publish_failed(state.last, false);
            }
        }
    }

    /// What failed is there after all, or not.
    pub fn settle(&self, landed: bool) {
        for shard in &self.shards {
            let mut state = shard.state.lock();
            let Some((ops, upto)) = state.in_doubt.take() else {
                continue;
            };
            if landed && !state.is_told {
                state.commit();
                shard.progress.publish_committed(upto, false);
                continue;
            }
            state.undo();
            if landed {
                state.apply(&ops);
                state.commit();
            }
            shard.progress.publish_failed(state.last, !state.is_told);
        }
    }

    /// Says of what failed that it is not stored.
    pub fn deny(&self) {
        for shard in &self.shards {
            let mut state = shard.state.lock();
            if state.in_doubt.is_some() {
                state.is_told = true;
                state.undo();
                shard.progress.publish_failed(state.last, true);
            }
        }
    }

    /// For simulations, which must notice it: what failed is said not to be stored, and is stored.
    pub fn settle_silently(&self) {
        for shard in &self.shards {
            let mut state = shard.state.lock();
            if let Some((ops, _)) = state.in_doubt.take() {
                state.apply(&ops);
                state.commit();
            }
        }
    }

    /// Spoils a row, as a page of the disk does that went bad.
    pub fn spoil(&self, table: Table, is_spoilt: impl Fn(&[u8]) -> bool) {
        for shard in &self.shards {
            let mut state = shard.state.lock();
            let rows = state.rows.iter_mut();
            for (_, row) in rows.filter(|((of, key), _)| *of == table && is_spoilt(key)) {
                if let Some(last) = row.last_mut() {
                    *last ^= 1;
                }
            }
        }
    }

    fn take(&self, shard: usize, state: &mut State, write: Write) -> Result<Ticket, Refused> {
        let progress = &self.shards[shard].progress;
        if state.in_doubt.is_some() || state.is_full && write.need == Need::Grows {
            return Err(Refused::DiskFull);
        }
        progress.check(write.as_of)?;
        state.last += 1;
        state.apply(&write.ops);
        state.queued.extend(write.ops);
        if !self.is_lazy() {
            state.commit();
            progress.publish_committed(state.last, true);
        }
        Ok(state.last)
    }

    /// Everything that is committed: a copy of the disk.
    pub fn copy(&self) -> Copied {
        let rows = self.shards.iter();
        let rows = rows.map(|shard| shard.state.lock().committed());
        Copied(rows.collect())
    }

    /// Has an earlier copy in the place of everything, or nothing: the disk was restored, or replaced.
    pub fn replace(&self, with: Option<Copied>) {
        let rows = with.map_or_else(Vec::new, |copied| copied.0);
        let rows = rows.into_iter().chain(std::iter::repeat(Rows::new()));
        for (shard, rows) in self.shards.iter().zip(rows) {
            let mut state = shard.state.lock();
            state.commit();
            state.rows = rows;
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
            state.undo();
            state.in_doubt = None;
            shard.progress.publish_failed(state.last, true);
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

    fn enqueue(&self, shard: usize, write: Write) -> Result<Ticket, Refused> {
        let mut state = self.shards[shard].state.lock();
        self.take(shard, &mut state, write)
    }

    fn look(&self, shard: usize, key: &[u8], see: &mut dyn FnMut(Option<&[u8]>)) -> Option<Ticket> {
        let state = self.shards[shard].state.lock();
        see(state
            .rows
            .get(&(Table::Data, key.to_vec()))
            .map(Vec::as_slice));
        Some(state.pending(Table::Data, key))
    }

    fn change(
        &self,
        shard: usize,
        key: &[u8],
        change: &mut dyn FnMut(Option<&[u8]>, &mut Changing) -> bool,
    ) -> Result<Option<Ticket>, Refused> {
        let mut state = self.shards[shard].state.lock();
        let row = state.rows.get(&(Table::Data, key.to_vec()));
        let mut changing = Changing::default();
        if !change(row.map(Vec::as_slice), &mut changing) {
            return Ok(None);
        }
        let row = Op {
            table: Table::Data,
            key: key.to_vec(),
            value: Some(changing.row),
        };
        let ops = std::iter::once(row).chain(changing.more).collect();
        self.take(shard, &mut state, Write::of(ops)).map(Some)
    }

    fn kick(&self, _: usize) {}

    fn progress(&self, shard: usize) -> &Progress {
        &self.shards[shard].progress
    }

    fn last(&self, shard: usize) -> Ticket {
        self.shards[shard].state.lock().last
    }

    fn pending(&self, shard: usize, table: Table, key: &[u8]) -> Ticket {
        self.shards[shard].state.lock().pending(table, key)
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
        let rows = scan_rows(&state.rows, table, (from, to), limit);
        let bytes: usize = rows.iter().map(|(key, row)| key.len() + row.len()).sum();
        self.scanned.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(rows)
    }

    fn scan_back(
        &self,
        shard: usize,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let state = self.shards[shard].state.lock();
        let range = (Table::Data, from.to_vec())..(Table::Data, to.to_vec());
        let rows = state.rows.range(range).rev().take(limit);
        Ok(rows.map(|((_, k), v)| (k.clone(), v.clone())).collect())
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
        let is_full = |shard: &Shard| {
            let state = shard.state.lock();
            state.is_full || state.in_doubt.is_some()
        };
        Usage {
            disk_full: self.shards.iter().any(is_full),
            ..Usage::default()
        }
    }

    fn close(&self) {}

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
