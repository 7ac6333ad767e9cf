//! What the tables have is learnt after a start, and followed from then on, as long as it is little enough.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::Engine;
use super::known::ROW_BYTES;
use crate::storage::{StoreError, Table};

/// What is known takes at most this part of the cache.
const SHARE: u64 = 8;
/// Rows that are read between two rests.
const ROWS_A_REST: usize = 1_024;

impl Engine {
    /// Whether what the tables have is to be learnt: nothing is known, and it is little enough.
    pub(in crate::storage) fn is_to_learn(&self) -> bool {
        let knows = self.knows.load(Ordering::Acquire);
        !knows && self.tables.rows().saturating_mul(ROW_BYTES) < self.most_known() / 2
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
                let grown = part.lock().begin_to_know();
                self.note_known(grown.all);
            }
            self.tables.snapshot()?
        };
        let (mut hashes, mut read) = (Vec::new(), 0);
        for (nth, part) in self.parts.iter().enumerate() {
            let (mut from, end) = (self.keys.start_of(nth), self.keys.start_of(nth + 1));
            loop {
                hashes.clear();
                let mut rows = 0;
                let range = (from.clone(), &end);
                below.range(Table::Data, (&range.0, range.1), &mut |key, _| {
                    hashes.push(self.keys.hash(key));
                    if self.keys.is_element(key) {
                        hashes.push(self.keys.hash_of_elements(key));
                    }
                    rows += 1;
                    if rows < ROWS_A_REST {
                        return ControlFlow::Continue(());
                    }
                    from.clear();
                    from.extend_from_slice(key);
                    from.push(0);
                    ControlFlow::Break(())
                })?;
                let is_all = rows < ROWS_A_REST;
                let grown = part.lock().know(&hashes, is_all);
                self.note_known(grown.all);
                read += rows;
                if read >= ROWS_A_REST {
                    read = 0;
                    if rest() || self.knows_too_much() {
                        return Ok(false);
                    }
                }
                if is_all {
                    break;
                }
            }
        }
        Ok(true)
    }

    fn most_known(&self) -> u64 {
        self.options.cache_bytes / SHARE
    }

    fn knows_too_much(&self) -> bool {
        self.known_bytes.load(Ordering::Relaxed) > self.most_known() as i64
    }

    /// What is known of the tables has grown.
    pub(super) fn note_known(&self, grown: i64) {
        self.all_bytes.fetch_add(grown, Ordering::Relaxed);
        self.known_bytes.fetch_add(grown, Ordering::Relaxed);
    }

    /// Where it has grown too much it is given up.
    pub(super) fn know_no_more_than_may_be(&self) {
        if self.knows_too_much() {
            self.stop_knowing();
        }
    }

    /// From now on the tables are asked.
    fn stop_knowing(&self) {
        for part in &self.parts {
            let grown = part.lock().give_up_knowing();
            self.note_known(grown.all);
        }
        self.knows.store(false, Ordering::Release);
    }
}
