//! What the tables have is learnt after a start, and followed from then on, as long as it is little enough.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::Engine;
use super::known::ROW_BYTES;
use crate::storage::{StoreError, Table};

/// What is known takes at most this part of the cache.
const SHARE: u64 = 8;
/// Rows that are read between two rests.
const ROWS_A_REST: usize = 256;

impl Engine {
    /// Whether what the tables have is to be learnt: nothing is known, and it is little enough.
    pub(in crate::storage) fn is_to_learn(&self) -> bool {
        let knows = self.knows.load(Ordering::Acquire);
        !knows && self.tables.rows() * ROW_BYTES < self.most_known() / 2
    }

    /// Learns what of data the tables have, so that what they do not have is not looked for there. Reads
    /// all of it; `rest` is called now and then, and says whether that is to stop.
    pub(in crate::storage) fn learn(&self, rest: impl Fn() -> bool) -> Result<(), StoreError> {
        let learnt = self.learn_all(&rest);
        if !matches!(learnt, Ok(true)) {
            self.stop_knowing();
        }
        learnt.map(|_| ())
    }

    /// Whether it was all of it.
    fn learn_all(&self, rest: &impl Fn() -> bool) -> Result<bool, StoreError> {
        self.knows.store(true, Ordering::Release);
        let below = {
            // What a flush has taken already is in the tables before this begins.
            let _no_flush = self.flushing.lock();
            for part in &self.parts {
                part.lock().begin_to_know();
            }
            self.tables.snapshot()?
        };
        let (mut hashes, mut from) = (Vec::new(), Vec::new());
        for (nth, part) in self.parts.iter().enumerate() {
            hashes.clear();
            let end = self.keys.start_of(nth + 1);
            let mut is_over = false;
            below.range(Table::Data, (&from, &end), &mut |key, _| {
                hashes.push(self.keys.hash(key));
                is_over = hashes.len().is_multiple_of(ROWS_A_REST) && rest();
                if is_over {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            from = end;
            if is_over || self.knows_too_much() {
                return Ok(false);
            }
            let grown = part.lock().know(&hashes);
            self.known_bytes.fetch_add(grown.all, Ordering::Relaxed);
            self.note(grown);
        }
        Ok(true)
    }

    fn most_known(&self) -> u64 {
        self.options.cache_bytes / SHARE
    }

    fn knows_too_much(&self) -> bool {
        self.known_bytes.load(Ordering::Relaxed) > self.most_known() as i64
    }

    /// The tables got some rows: what is known of them has grown.
    pub(super) fn note_known(&self, grown: i64) {
        self.all_bytes.fetch_add(grown, Ordering::Relaxed);
        self.known_bytes.fetch_add(grown, Ordering::Relaxed);
        if self.knows_too_much() {
            self.stop_knowing();
        }
    }

    /// From now on the tables are asked.
    fn stop_knowing(&self) {
        for part in &self.parts {
            let grown = part.lock().give_up_knowing();
            self.known_bytes.fetch_add(grown.all, Ordering::Relaxed);
            self.note(grown);
        }
        self.knows.store(false, Ordering::Release);
    }
}
