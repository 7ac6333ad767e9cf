//! Rows of the tables, and over them what is in memory.

use std::ops::ControlFlow;

use super::part::Copied;
use super::tables::Sorted;
use crate::storage::{Row, StoreError, Table};

/// Rows in memory from one key on.
pub(super) struct Overlay {
    /// With those that were removed.
    pub(super) rows: Vec<Copied>,
    /// The last key up to which they are complete, where that is not the end.
    pub(super) bound: Option<Vec<u8>>,
    /// Whether the tables have none.
    pub(super) is_all: bool,
}

impl From<(Vec<Copied>, Option<Vec<u8>>)> for Overlay {
    fn from((rows, bound): (Vec<Copied>, Option<Vec<u8>>)) -> Self {
        Self {
            rows,
            bound,
            is_all: false,
        }
    }
}

/// Up to `limit` rows with `from <= key < to`. What is in memory is asked for first, since it may reach the
/// tables meanwhile: `overlay` copies it, some at a time.
pub(super) fn scan(
    table: Table,
    (from, to): (&[u8], &[u8]),
    limit: usize,
    mut overlay: impl FnMut(&[u8], usize) -> Overlay,
    snapshot: impl Fn() -> Result<std::sync::Arc<dyn Sorted>, StoreError>,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let mut from = from.to_vec();
    while rows.len() < limit && from.as_slice() < to {
        let Overlay {
            rows: over,
            bound,
            is_all,
        } = overlay(&from, limit - rows.len());
        let after = bound.map(|mut bound| {
            bound.push(0);
            bound
        });
        let end = after.as_deref().unwrap_or(to).min(to);
        if is_all {
            let living = over
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)));
            rows.extend(living.take(limit - rows.len()));
        } else {
            merge(&*snapshot()?, table, (&from, end), over, limit, &mut rows)?;
        }
        match after {
            Some(after) => from = after,
            None => break,
        }
    }
    Ok(rows)
}

/// The same from the other end on, descending.
pub(super) fn scan_back(
    table: Table,
    (from, to): (&[u8], &[u8]),
    limit: usize,
    mut overlay: impl FnMut(&[u8], usize) -> Overlay,
    snapshot: impl Fn() -> Result<std::sync::Arc<dyn Sorted>, StoreError>,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let mut to = to.to_vec();
    while rows.len() < limit && from < to.as_slice() {
        let Overlay {
            rows: over,
            bound,
            is_all,
        } = overlay(&to, limit - rows.len());
        let start = bound.as_deref().unwrap_or(from).max(from);
        let mut over = over.into_iter().peekable();
        let add = |rows: &mut Vec<Row>, (key, value): Copied| {
            rows.extend(value.map(|value| (key, value)));
            rows.len() == limit
        };
        let below = if is_all { None } else { Some(snapshot()?) };
        let mut each = |key: &[u8], value: &[u8]| {
            while let Some(next) = over.next_if(|(over, _)| over.as_slice() > key) {
                if add(&mut rows, next) {
                    return ControlFlow::Break(());
                }
            }
            let row = match over.next_if(|(over, _)| over == key) {
                Some(newer) => newer,
                None => (key.to_vec(), Some(value.to_vec())),
            };
            if add(&mut rows, row) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        if let Some(below) = below {
            below.range_back(table, (start, &to), &mut each)?;
        }
        while rows.len() < limit {
            let Some(next) = over.next() else { break };
            add(&mut rows, next);
        }
        match bound {
            Some(bound) => to = bound,
            None => break,
        }
    }
    Ok(rows)
}

fn merge(
    below: &dyn Sorted,
    table: Table,
    range: (&[u8], &[u8]),
    over: Vec<Copied>,
    limit: usize,
    rows: &mut Vec<Row>,
) -> Result<(), StoreError> {
    let mut over = over.into_iter().peekable();
    let add = |rows: &mut Vec<Row>, (key, value): Copied| {
        rows.extend(value.map(|value| (key, value)));
        rows.len() == limit
    };
    if rows.len() == limit {
        return Ok(());
    }
    below.range(table, range, &mut |key, value| {
        while let Some(next) = over.next_if(|(over, _)| over.as_slice() < key) {
            if add(rows, next) {
                return ControlFlow::Break(());
            }
        }
        let row = match over.next_if(|(over, _)| over == key) {
            Some(newer) => newer,
            None => (key.to_vec(), Some(value.to_vec())),
        };
        if add(rows, row) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    while rows.len() < limit {
        let Some(next) = over.next() else { break };
        add(rows, next);
    }
    Ok(())
}
