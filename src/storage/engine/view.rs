//! Everything as it was at one time, for as long as somebody wants to read it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::keys::PARTS;
use super::loose::{Layer, range_of};
use super::part::{Copied, Needed};
use super::tables::Sorted;
use super::{Engine, GATHERERS_TAKE, merge};
use crate::base::clock;
use crate::storage::{Frozen, Row, StoreError, Table};

/// After so long they are not waited for.
const BUSY_FOR: Duration = Duration::from_millis(200);

/// A view of an engine.
pub(in crate::storage) struct View {
    engine: Arc<Engine>,
    needed: Needed,
    below: Arc<dyn Sorted>,
    layers: Vec<Vec<Arc<Layer>>>,
    /// A part of what was in memory, as it was: a scan asks for one part many times.
    last: Mutex<Option<(usize, Vec<Copied>)>>,
}

impl Engine {
    /// Everything as it is now.
    pub(in crate::storage) fn view(self: &Arc<Self>) -> Result<View, StoreError> {
        let begun = clock::monotonic();
        loop {
            let parts: Vec<_> = self.parts.iter().map(|part| part.lock()).collect();
            let mut loose: Vec<_> = self.loose.iter().map(|loose| loose.lock()).collect();
            let mut filling = self.filling.lock();
            if filling.gathering > 0 {
                drop((filling, loose, parts));
                if clock::monotonic().duration_since(begun) > BUSY_FOR {
                    // They may wait for the caller.
                    return Err(StoreError::Busy);
                }
                std::thread::sleep(GATHERERS_TAKE);
                continue;
            }
            filling.seal();
            let needed = Needed {
                flushed: self.flushed.load(Ordering::Acquire),
                upto: filling.number - 1,
            };
            // What is flushed from now on the tables have as it was, or newer than that, in memory.
            let below = self.tables.snapshot()?;
            self.views.write().push(needed);
            self.open_views.fetch_add(1, Ordering::AcqRel);
            return Ok(View {
                engine: Arc::clone(self),
                needed,
                below,
                layers: loose.iter_mut().map(|loose| loose.freeze()).collect(),
                last: Mutex::default(),
            });
        }
    }
}

impl View {
    /// Rows until so many that were there were met.
    fn of_part(&self, nth: usize, (from, to): (&[u8], &[u8]), limit: usize) -> Vec<Copied> {
        let mut last = self.last.lock();
        if last.as_ref().is_none_or(|(part, _)| *part != nth) {
            let rows = self.engine.parts[nth].lock().of_view(self.needed);
            *last = Some((nth, rows));
        }
        let rows = last.as_ref().map_or(&[][..], |(_, rows)| rows);
        let first = rows.partition_point(|(key, _)| key.as_slice() < from);
        let end = rows.partition_point(|(key, _)| key.as_slice() < to);
        let (mut found, mut living) = (Vec::new(), 0);
        for row in &rows[first..end.max(first)] {
            found.push(row.clone());
            living += usize::from(row.1.is_some());
            if living > limit {
                break;
            }
        }
        found
    }

    /// What was in memory from one key on: of one part at a time.
    fn overlay(&self, from: &[u8], to: &[u8], limit: usize) -> merge::Overlay {
        let keys = &self.engine.keys;
        for nth in keys.part(from)..=keys.part(to).min(PARTS - 1) {
            let rows = self.of_part(nth, (from, to), limit);
            if let Some((key, _)) = rows.last() {
                let bound = key.clone();
                return (rows, Some(bound)).into();
            }
        }
        (Vec::new(), None).into()
    }
}

impl Frozen for View {
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let overlay = |(from, to): (&[u8], &[u8]), limit: usize| {
            if table == Table::Data {
                return self.overlay(from, to, limit);
            }
            let layers = self.layers[table as usize - 1].iter();
            let layers = layers.map(|layer| &**layer);
            range_of(layers, (from, to), limit.saturating_add(1)).into()
        };
        let order = (table, merge::Order::Ascending);
        merge::scan(order, (from, to), limit, overlay, || {
            Ok(Arc::clone(&self.below))
        })
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let engine = &self.engine;
        let mut views = engine.views.write();
        if let Some(nth) = views.iter().position(|view| *view == self.needed) {
            views.swap_remove(nth);
        }
        drop(views);
        engine.open_views.fetch_sub(1, Ordering::AcqRel);
        for part in &engine.parts {
            // Another may have come since.
            let mut part = part.lock();
            part.forget_saved(&engine.views());
        }
    }
}
