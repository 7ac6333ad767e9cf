//! One row: it is read, or looked at and changed where it lies, under the lock of its part; then nothing is
//! copied but into the batch and the row's own place.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use super::batch::{self, Row as BatchRow};
use super::{Engine, TouchedLoose, put_loose, row_of};
use crate::storage::{Changing, Need, Refused, StoreError, Table, Ticket};

/// Longer rows are not shown where they lie: that would hold up others for too long.
const MOST_SHOWN_BYTES: usize = 64 << 10;
/// Room for a changed row is kept for the next one, up to so many bytes.
const KEPT_BYTES: usize = 64 << 10;

thread_local! {
    static CHANGING: RefCell<Changing> = RefCell::default();
}

/// What was added to a batch.
struct Added<'a> {
    /// The batch.
    number: u64,
    is_long: bool,
    /// Other tables that change.
    loose: TouchedLoose<'a>,
}

impl Engine {
    /// One row.
    pub(in crate::storage) fn get(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if table != Table::Data {
            if let Some(held) = self.loose[table as usize - 1].lock().get(key) {
                return Ok(held.as_deref().map(<[u8]>::to_vec));
            }
            return self.tables.get(table, key);
        }
        let hash = self.keys.hash(key);
        let part = &self.parts[self.keys.part(key)];
        let evictions = {
            let mut part = part.lock();
            if let Some(held) = part.get(hash, key) {
                return Ok(held.value.map(<[u8]>::to_vec));
            }
            if !part.may_be_below(hash) {
                return Ok(None);
            }
            part.evictions()
        };
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        let found = self.tables.get(table, key)?;
        let mut part = part.lock();
        // What came meanwhile and went again may be newer than what was found.
        if part.evictions() == evictions {
            let grown = part.remember((hash, key), found.as_deref());
            let views = self.views();
            self.make_room_in(&mut part, grown.all as u64, &views);
            drop(part);
            self.note(grown);
        }
        Ok(found)
    }

    /// The batch of a row's last write, where it is not committed yet; else 0.
    pub(in crate::storage) fn pending(&self, table: Table, key: &[u8]) -> Ticket {
        let committed = self.progress.committed();
        if committed >= self.last.load(Ordering::Acquire) {
            return 0;
        }
        if table != Table::Data {
            return self.last.load(Ordering::Acquire);
        }
        let mut part = self.parts[self.keys.part(key)].lock();
        let held = part.get(self.keys.hash(key), key);
        let batch = held.map_or(0, |held| held.batch);
        if batch > committed { batch } else { 0 }
    }

    /// Shows a row, if it is at hand: then with the batch that it waits for, or 0.
    pub(in crate::storage) fn look(
        &self,
        key: &[u8],
        see: &mut dyn FnMut(Option<&[u8]>),
    ) -> Option<Ticket> {
        let hash = self.keys.hash(key);
        let mut part = self.parts[self.keys.part(key)].lock();
        if let Some(held) = part.get(hash, key) {
            if held.value.is_some_and(|row| row.len() > MOST_SHOWN_BYTES) {
                return None;
            }
            see(held.value);
            let is_committed = held.batch <= self.progress.committed();
            return Some(if is_committed { 0 } else { held.batch });
        }
        if part.may_be_below(hash) {
            return None;
        }
        see(None);
        Some(0)
    }

    /// Changes a row, if it is at hand and `change` makes another of it.
    pub(in crate::storage) fn change(
        &self,
        key: &[u8],
        change: &mut dyn FnMut(Option<&[u8]>, &mut Changing) -> bool,
    ) -> Result<Option<Ticket>, Refused> {
        CHANGING.with_borrow_mut(|changing| {
            changing.row.clear();
            changing.more.clear();
            let changed = self.change_in(key, changing, change);
            if changing.row.capacity() > KEPT_BYTES {
                changing.row = Vec::new();
            }
            changed
        })
    }

    fn change_in(
        &self,
        key: &[u8],
        changing: &mut Changing,
        change: &mut dyn FnMut(Option<&[u8]>, &mut Changing) -> bool,
    ) -> Result<Option<Ticket>, Refused> {
        let hash = self.keys.hash(key);
        let mut part = self.parts[self.keys.part(key)].lock();
        let (added, mut grown, views);
        if let Some(place) = part.find(hash, key) {
            if !change(place.held().value, changing) {
                return Ok(None);
            }
            added = self.add(key, changing)?;
            views = self.views();
            grown = place.put(&self.keys, Some(&changing.row), added.number, &views);
        } else {
            if part.may_be_below(hash) || !change(None, changing) {
                return Ok(None);
            }
            added = self.add(key, changing)?;
            views = self.views();
            let row = Some(&changing.row[..]);
            grown = part.put(&self.keys, (hash, key), row, added.number, &views);
        }
        let mut loose = added.loose;
        for op in &changing.more {
            grown.add(put_loose(&mut loose, &row_of(op)));
        }
        drop(loose);
        if grown.all > 0 {
            self.make_room_in(&mut part, grown.all as u64, &views);
        }
        drop(part);
        self.note(grown);
        if added.is_long {
            self.kick();
        }
        Ok(Some(added.number))
    }

    /// Adds a changed row to the batch that is being filled.
    fn add(&self, key: &[u8], changing: &Changing) -> Result<Added<'_>, Refused> {
        let row = BatchRow {
            table: Table::Data,
            key,
            value: Some(&changing.row),
        };
        let more = changing.more.iter().map(row_of);
        let loose = self.touch_loose(&changing.more);
        let mut filling = self.filling.lock();
        filling.check(Need::Grows)?;
        self.check_bounds(std::iter::once(row).chain(more.clone()), Need::Grows)?;
        batch::put(&mut filling.batch, &row);
        for row in more {
            batch::put(&mut filling.batch, &row);
        }
        self.last.store(filling.number, Ordering::Release);
        Ok(Added {
            number: filling.number,
            is_long: filling.is_long(),
            loose,
        })
    }
}
