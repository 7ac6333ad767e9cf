//! Rows in order: of memory over those of the tables, as they are now. (As they were: [`super::view`].)

use std::sync::atomic::Ordering;

use super::Engine;
use super::merge::{self, Order};
use crate::storage::{Row, StoreError, Table};

impl Engine {
    /// Up to `limit` rows with `from <= key < to`, ascending.
    pub(in crate::storage) fn scan(
        &self,
        table: Table,
        range: (&[u8], &[u8]),
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let overlay = |range: (&[u8], &[u8]), limit: usize| {
            if table == Table::Data {
                return self.dirty_range(range, limit);
            }
            let loose = self.loose[table as usize - 1].lock();
            loose.range(range, limit.saturating_add(1)).into()
        };
        merge::scan((table, Order::Ascending), range, limit, overlay, || {
            self.tables.snapshot()
        })
    }

    /// Up to `limit` rows of elements of one key with `from <= key < to`, descending.
    pub(in crate::storage) fn scan_back(
        &self,
        range: (&[u8], &[u8]),
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let from = range.0;
        debug_assert!(self.keys.are_of_one(from, range.1), "elements of one key");
        let part = &self.parts[self.keys.part(from)];
        let overlay = |range: (&[u8], &[u8]), limit: usize| {
            let part = part.lock();
            let (rows, bound) = part.range_back(&self.keys, range, limit);
            merge::Overlay {
                rows,
                bound,
                is_all: !part.may_have_elements_below(&self.keys, from),
            }
        };
        let order = (Table::Data, Order::Descending);
        merge::scan(order, range, limit, overlay, || self.tables.snapshot())
    }

    fn dirty_range(&self, (from, to): (&[u8], &[u8]), limit: usize) -> merge::Overlay {
        let flushed = self.flushed.load(Ordering::Acquire);
        let mut found = Vec::new();
        let mut living = 0;
        let is_of_one = self.keys.are_of_one(from, to);
        let overlay = |rows, bound, is_all| merge::Overlay {
            rows,
            bound,
            is_all,
        };
        for nth in self.keys.part(from)..=self.keys.part(to) {
            let part = self.parts[nth].lock();
            let is_all = is_of_one && !part.may_have_elements_below(&self.keys, from);
            if part.is_empty() && !is_all {
                continue;
            }
            let (rows, bound) = part.range(&self.keys, (from, to), flushed, limit - living);
            drop(part);
            living += rows.iter().filter(|(_, value)| value.is_some()).count();
            found.extend(rows);
            if bound.is_some() || is_all {
                return overlay(found, bound, is_all);
            }
            if living >= limit {
                let bound = found.last().map(|(key, _)| key.clone());
                return overlay(found, bound, false);
            }
        }
        overlay(found, None, false)
    }
}
