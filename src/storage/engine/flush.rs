//! Flushes: what the tables lack, up to a batch, is given to them in order, and the journal lets go what
//! they have.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::loose::{Layer, merged};
use super::part::Growth;
use super::{Engine, FLUSHED_ROW, GATHERERS_TAKE, LOOSE};
use crate::storage::{StoreError, Table};

/// A flush looks so often whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a flush gives to the tables.
struct Cut {
    /// The last batch of it.
    upto: u64,
    layers: Vec<Vec<Arc<Layer>>>,
}

impl Engine {
    /// Has a flush done soon.
    pub(in crate::storage) fn want_flush(&self) {
        self.flush_wanted.0.lock().is_wanted = true;
        self.flush_wanted.1.notify_one();
    }

    /// Waits until a flush is due and does it; `false` at the end.
    pub(in crate::storage) fn flush_next(&self) -> Option<Result<(), StoreError>> {
        {
            let mut wanted = self.flush_wanted.0.lock();
            loop {
                if wanted.is_closing {
                    return None;
                }
                if std::mem::take(&mut wanted.is_wanted) || self.is_due() {
                    break;
                }
                self.flush_wanted.1.wait_for(&mut wanted, LOOK_EVERY);
            }
        }
        let flushed = self.flush();
        if flushed.is_ok() {
            self.tables
                .settle(&|| self.flush_wanted.0.lock().is_closing);
        }
        Some(flushed)
    }

    fn is_due(&self) -> bool {
        let dirty = self.dirty_bytes.load(Ordering::Relaxed);
        dirty >= (self.options.write_buffer_bytes / 2) as i64
            || self.journal.bytes() > self.options.journal_bytes
                && self.last_written() > self.flushed.load(Ordering::Acquire)
            || self.is_distrusted.load(Ordering::Acquire)
    }

    /// Gives the tables everything that was put before. Blocks.
    pub(in crate::storage) fn flush(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.flushing.lock();
        let cut = self.cut();
        self.commit();
        if self.last_written() < cut.upto {
            return Err(StoreError::Engine("the journal cannot be written".into()));
        }
        if !self.is_distrusted.load(Ordering::Acquire) {
            // The tables must not have a part of a batch that a power cut takes from the journal.
            self.sync()?;
        }
        // Where what is below panics, the rows are still to be given.
        let give = std::panic::AssertUnwindSafe(|| self.give(&cut));
        let given = std::panic::catch_unwind(give)
            .unwrap_or_else(|_| Err(StoreError::Engine("adding rows has panicked".to_owned())));
        if let Err(error) = given {
            self.take_back();
            self.tables.mend()?;
            return Err(error);
        }
        self.flushed.store(cut.upto, Ordering::Release);
        self.flushing_bytes.store(0, Ordering::Relaxed);
        for (loose, layers) in self.loose.iter().zip(&cut.layers) {
            let bytes = loose.lock().forget(layers) as i64;
            self.dirty_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        for part in &self.parts {
            let left = part.lock().be_flushed();
            drop(left);
        }
        self.journal.release(cut.upto);
        if self.is_distrusted.load(Ordering::Acquire) {
            // What a sync had failed for is in the tables, and on the disk.
            self.trust_again()?;
        }
        Ok(())
    }

    /// Ends a batch, and the layers of what is not data with it.
    fn cut(&self) -> Cut {
        loop {
            let mut loose: Vec<_> = self.loose.iter().map(|loose| loose.lock()).collect();
            let mut filling = self.filling.lock();
            if filling.gathering == 0 {
                filling.seal();
                return Cut {
                    upto: filling.number - 1,
                    layers: loose.iter_mut().map(|loose| loose.freeze()).collect(),
                };
            }
            drop((filling, loose));
            std::thread::sleep(GATHERERS_TAKE);
        }
    }

    fn give(&self, cut: &Cut) -> Result<(), StoreError> {
        let is_clean = |part: &parking_lot::Mutex<super::Part>| part.lock().is_clean();
        if !self.parts.iter().all(is_clean) {
            self.tables.ingest(Table::Data, &mut |sink| {
                for part in &self.parts {
                    let (rows, grown) = part.lock().take_listed(&self.keys, cut.upto);
                    self.dirty_bytes.fetch_add(grown.dirty, Ordering::Relaxed);
                    self.note_known(grown.all);
                    self.flushing_bytes
                        .fetch_sub(grown.dirty, Ordering::Relaxed);
                    for row in rows {
                        sink.put(row.key(), row.value())?;
                    }
                }
                Ok(())
            })?;
        }
        self.know_no_more_than_may_be();
        debug_assert_eq!(cut.layers.len(), LOOSE);
        // The notes go last: with them the tables say up to where they have everything.
        let by_table = Table::ALL.into_iter().skip(1).zip(&cut.layers);
        let (notes, others): (Vec<_>, Vec<_>) =
            by_table.partition(|(table, _)| *table == Table::Meta);
        let upto = cut.upto.to_le_bytes();
        for (table, layers) in others.into_iter().chain(notes) {
            let mut rows = merged(layers);
            if table == Table::Meta {
                rows.insert(FLUSHED_ROW, Some(&upto));
            }
            if rows.is_empty() {
                continue;
            }
            self.tables.ingest(table, &mut |sink| {
                rows.iter()
                    .try_for_each(|(key, value)| sink.put(key, *value))
            })?;
        }
        Ok(())
    }

    /// The tables may have some of what they were given, and are to have all of it again.
    fn take_back(&self) {
        let flushed = self.flushed.load(Ordering::Acquire);
        self.flushing_bytes.store(0, Ordering::Relaxed);
        let mut grown = Growth::default();
        for part in &self.parts {
            let mut part = part.lock();
            grown.add(part.list_again(&self.keys, flushed));
            let left = part.be_flushed();
            drop(part);
            drop(left);
        }
        self.note(grown);
    }
}
