//! Rows of the tables, and over them what is in memory.

use std::ops::ControlFlow;
use std::sync::Arc;

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

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

/// Up to `limit` rows with `from <= key < to`. What is in memory is asked for first, since it may reach the
/// tables meanwhile: `overlay` copies it, some at a time.
pub(super) fn scan(
    (table, order): (Table, Order),
    (from, to): (&[u8], &[u8]),
    limit: usize,
    mut overlay: impl FnMut((&[u8], &[u8]), usize) -> Overlay,
    snapshot: impl Fn() -> Result<Arc<dyn Sorted>, StoreError>,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let (mut from, mut to) = (from.to_vec(), to.to_vec());
    while rows.len() < limit && from < to {
        let Overlay {
            rows: over,
            bound,
            is_all,
        } = overlay((&from, &to), limit - rows.len());
        let below = if is_all { None } else { Some(snapshot()?) };
        // As far as that is complete, and the rest.
        let (complete, rest) = match (bound, order) {
            (None, _) => ((from, to), None),
            (Some(mut bound), Order::Ascending) => {
                bound.push(0);
                let end = bound.clone().min(to.clone());
                ((from, end), Some((bound, to)))
            }
            (Some(bound), Order::Descending) => {
                let start = bound.clone().max(from.clone());
                ((start, to), Some((from, bound)))
            }
        };
        let range = (&complete.0[..], &complete.1[..]);
        merge(
            below.as_deref(),
            (table, order),
            range,
            over,
            (limit, &mut rows),
        )?;
        match rest {
            Some(rest) => (from, to) = rest,
            None => break,
        }
    }
    Ok(rows)
}

fn merge(
    below: Option<&dyn Sorted>,
    (table, order): (Table, Order),
    range: (&[u8], &[u8]),
    over: Vec<Copied>,
    (limit, rows): (usize, &mut Vec<Row>),
) -> Result<(), StoreError> {
    let mut over = over.into_iter().peekable();
    let is_before = |over: &[u8], key: &[u8]| match order {
        Order::Ascending => over < key,
        Order::Descending => over > key,
    };
    let add = |rows: &mut Vec<Row>, (key, value): Copied| {
        rows.extend(value.map(|value| (key, value)));
        rows.len() == limit
    };
    let mut each = |key: &[u8], value: &[u8]| {
        while let Some(next) = over.next_if(|(over, _)| is_before(over, key)) {
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
    };
    match (below, order) {
        (None, _) => {}
        (Some(below), Order::Ascending) => below.range(table, range, &mut each)?,
        (Some(below), Order::Descending) => below.range_back(table, range, &mut each)?,
    }
    while rows.len() < limit {
        let Some(next) = over.next() else { break };
        add(rows, next);
    }
    Ok(())
}
