//! Rows of the format before, whose keys were without the key's length: they are written again when the
//! store is opened, table by table, each page in one batch that also removes the old ones.
//!
//! A row tells by itself which format it is of, so a start that is interrupted is simply repeated.

use std::sync::atomic::Ordering;

use super::{Replica, ReplicaError};
use crate::logic::place;
use crate::storage::pages::Pages;
use crate::storage::{FORMAT_ROW, Op, Refused, Table, Write};

/// What [`FORMAT_ROW`] says of them.
const FORMAT: u8 = 2;
/// Rows and about how many bytes are written in one batch.
const PAGE: usize = 128;
const PAGE_BYTES: usize = 4 << 20;

/// The tables whose rows have the key of an object in theirs, and what stands before it there.
const TABLES: [(Table, usize); 5] = [
    (Table::Data, 0),
    (Table::Conflict, 0),
    (Table::Tombstone, 0),
    (Table::Expiry, place::TIME_LEN),
    (Table::Hint, place::NODE_LEN),
];

impl Replica {
    /// Writes rows of the format before again. Blocks until all are stored.
    ///
    /// # Errors
    /// When the store cannot be read or written. It can be opened again.
    pub(super) fn rewrite_rows(&self) -> Result<(), ReplicaError> {
        let mut due = Vec::new();
        for shard in 0..self.store.shards() {
            let format = self.store.load(shard, Table::Meta, FORMAT_ROW)?;
            // What was lost may be what had been written again, and the rows before it are there once more.
            if format.as_deref() != Some(&[FORMAT]) || self.store.is_damaged() {
                due.push(shard);
            }
        }
        let mut begun = false;
        for &shard in &due {
            let mut rewritten = 0;
            for (table, before) in TABLES {
                rewritten += self.rewrite_table((shard, table), before, &mut begun)?;
            }
            if rewritten > 0 {
                tracing::info!(shard, rows = rewritten, "all rows were written again");
                // The old ones take space until the store is compacted.
                let removed = &self.counters.removed_rows;
                removed.fetch_add(rewritten, Ordering::Relaxed);
            }
        }
        for shard in due {
            let done = Op {
                table: Table::Meta,
                key: FORMAT_ROW.to_vec(),
                value: Some(vec![FORMAT]),
            };
            match self.store_now(shard, vec![done]) {
                // The disk is full: it is looked at again at the next start.
                Err(ReplicaError::Refused(_) | ReplicaError::Failed(_)) => {}
                stored => stored?,
            }
        }
        Ok(())
    }

    fn rewrite_table(
        &self,
        (shard, table): (usize, Table),
        before: usize,
        begun: &mut bool,
    ) -> Result<u64, ReplicaError> {
        let (mut from, mut rewritten) = (Vec::new(), 0);
        let mut pages = Pages::of(PAGE_BYTES, PAGE);
        loop {
            let page = self
                .store
                .scan(shard, table, &from, &[0xff; 32], pages.rows())?;
            let Some((last, _)) = page.last() else {
                return Ok(rewritten);
            };
            pages.read(&page);
            from = [last.as_slice(), &[0]].concat();
            let mut ops = Vec::new();
            for (key, value) in page {
                let Some((head, row_key)) = key.split_at_checked(before) else {
                    continue;
                };
                let Some(row_key) = place::from_old(row_key) else {
                    continue;
                };
                rewritten += 1;
                ops.push(Op {
                    table,
                    key: [head, &row_key].concat(),
                    value: Some(value),
                });
                ops.push(Op {
                    table,
                    key,
                    value: None,
                });
            }
            if !ops.is_empty() {
                self.begin_rewriting(begun)?;
                self.store_now(shard, ops)?;
            }
        }
    }

    /// Before the first row.
    fn begin_rewriting(&self, begun: &mut bool) -> Result<(), ReplicaError> {
        if std::mem::replace(begun, true) {
            return Ok(());
        }
        if self.store.refuses_growth() {
            tracing::error!(
                "rows of an earlier format have to be written again, and the disk has no room for that"
            );
            return Err(Refused::DiskFull.into());
        }
        tracing::info!("rows of an earlier format are written again");
        Ok(())
    }

    fn store_now(&self, shard: usize, ops: Vec<Op>) -> Result<(), ReplicaError> {
        let ticket = self.store.submit(shard, Write::freeing(ops))?;
        self.store.progress(shard).block_until_committed(ticket);
        Ok(self.store.progress(shard).fate(ticket)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::clock;
    use crate::logic::placement::{NodeId, Partitions};
    use crate::logic::types::string;
    use crate::replica::{HintLimits, Key, Options};
    use crate::storage::{MemoryStore, Store};

    const SHARDS: usize = 2;

    fn start(store: &Arc<dyn Store>) -> Replica {
        let partitions = Partitions::new(64).expect("a power of two");
        let options = Options {
            shared: true,
            hints: HintLimits {
                bytes: 1 << 20,
                ..HintLimits::default()
            },
            ..Options::alone(partitions)
        };
        Replica::start(Arc::clone(store), options)
            .expect("started")
            .0
    }

    fn all(store: &dyn Store, shard: usize, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = store.scan(shard, table, b"", &[0xff; 40], usize::MAX);
        rows.expect("read")
    }

    /// Puts some rows back into the format before; how many.
    fn age(store: &dyn Store, is_aged: impl Fn(usize) -> bool) -> usize {
        let mut aged = 0;
        for shard in 0..SHARDS {
            let mut ops = vec![Op {
                table: Table::Meta,
                key: FORMAT_ROW.to_vec(),
                value: None,
            }];
            for (table, before) in TABLES {
                for (nth, (key, value)) in all(store, shard, table).into_iter().enumerate() {
                    if is_aged(nth) {
                        let old = [&key[..before], &place::without_length(&key[before..])].concat();
                        ops.extend([(key, None), (old, Some(value))].map(|(key, value)| Op {
                            table,
                            key,
                            value,
                        }));
                        aged += 1;
                    }
                }
            }
            let ticket = store.submit(shard, Write::freeing(ops)).expect("taken");
            store.progress(shard).block_until_committed(ticket);
        }
        aged
    }

    #[test]
    fn a_store_of_the_format_before_is_written_again_also_from_the_middle() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(SHARDS));
        let replica = start(&store);
        let name = |n: u32| match n {
            0 => Vec::new(),
            // A key that looks like a length and a key.
            1 => [&[0, 3][..], b"abc"].concat(),
            n => format!("key:{n}").into_bytes(),
        };
        for n in 0..500 {
            let (name, end) = (name(n), (n % 3 == 0).then(|| clock::now_ms() + 1_000_000));
            let key = Key { db: 0, name: &name };
            let put = |_: &_, _| (string::put(format!("{n}").into(), end), ());
            replica.update(key, put).expect("written");
            if n % 7 == 6 {
                let delete = |_: &_, _| (crate::logic::edit::Edit::delete(), ());
                replica.update(key, delete).expect("deleted");
            }
            if n % 11 == 5 {
                replica.keep_hint(key, NodeId(9)).expect("kept");
            }
        }
        replica.stop();
        drop(replica);
        let tables = TABLES.map(|(table, _)| table);
        let rows = |store: &dyn Store| {
            let shards = (0..SHARDS).flat_map(|shard| tables.map(|table| (shard, table)));
            let all = shards.map(|(shard, table)| all(store, shard, table));
            all.collect::<Vec<_>>()
        };
        let before = rows(&*store);
        // All of them; and as a start leaves them that ended on the way.
        for every in [1, 2, 3] {
            let aged = age(&*store, |nth| nth % every == 0);
            assert!(aged > 700 / every, "{aged}");
            assert_ne!(rows(&*store), before);
            let replica = start(&store);
            assert_eq!(rows(&*store), before);
            for n in (0..500).filter(|n| n % 7 != 6) {
                let name = name(n);
                let object = replica.read(Key { db: 0, name: &name }).expect("read");
                let shown = string::shown(&object, clock::now_ms()).expect("there");
                assert_eq!(shown.bytes, n.to_string());
            }
            replica.stop();
        }
    }
}
