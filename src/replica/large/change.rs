//! Writing the rows of elements, and dropping those of collections that were emptied.

use std::sync::atomic::Ordering;

use super::reach::Lies;
use crate::base::random::random_u64;
use crate::logic::causal::{Kind, Object};
use crate::logic::record;
use crate::logic::spread::{self, Bounds, Cell, Head};
use crate::replica::ranked::Moved;
use crate::replica::rows::{gone_op, gone_range};
use crate::replica::{Located, Replica, ReplicaError};
use crate::storage::{Op, Table, Write};

/// Rows dropped at a time.
const DROPPED: usize = 512;

impl Replica {
    /// The rows of data that change when an object does. Where all that was not at hand is overwritten, what there is
    /// now has rows of another generation. What comes and goes in their order, if somebody follows it.
    pub(in crate::replica) fn data_ops(
        &self,
        ops: &mut Vec<Op>,
        located: &Located<'_>,
        (old, new): (&Object, &Object),
        forgotten: bool,
    ) -> Option<Moved> {
        let lies = located.lies.borrow();
        let has_elements =
            !new.is_whole() || new.cells().iter().any(|(e, _)| spread::has_row(e.kind));
        let has_room = located.has_room_for_all(new);
        if let Lies::InMany {
            generation,
            bounds,
            ends,
        } = &*lies
            && has_elements
            && !forgotten
            && old.is_whole() == new.is_whole()
            && has_room
        {
            let rows = Rows {
                located,
                generation: *generation,
                bounds: bounds.clone(),
                moved: self.ranks.has(located).then(Moved::default),
            };
            return rows.change(ops, (old, new), *ends);
        }
        let stale = match *lies {
            Lies::InOne => None,
            Lies::InMany { generation, .. } | Lies::Stale(generation) => Some(generation),
        };
        ops.extend(stale.map(|generation| gone_op(&located.row_key, generation)));
        let row = (!forgotten).then(|| record::ROW.encode(new));
        let is_large = |row: &Vec<u8>| row.len() > self.most_in_one_row;
        if has_elements && has_room && row.as_ref().is_some_and(is_large) {
            let rows = Rows {
                located,
                generation: random_u64() >> 1,
                bounds: Bounds::default(),
                moved: None,
            };
            return rows.change(ops, (&Object::default(), new), (false, false));
        }
        ops.push(Op {
            table: Table::Data,
            key: located.row_key.to_vec(),
            value: row,
        });
        None
    }

    /// Drops a slice of the rows of collections that were emptied; whether there may be more. Blocks.
    ///
    /// # Errors
    /// When the store fails.
    pub fn reclaim_elements(&self) -> Result<bool, ReplicaError> {
        let mut more = false;
        for shard in 0..self.store.shards() {
            let failures = self.store.progress(shard).failures();
            let (from, to) = gone_range();
            let first = self.store.scan(shard, Table::Meta, &from, &to, 1)?;
            let Some((note, _)) = first.into_iter().next() else {
                continue;
            };
            more = true;
            let start = &note[from.len()..];
            let mut end = start.to_vec();
            end.push(u8::MAX);
            let rows = self.store.scan(shard, Table::Data, start, &end, DROPPED)?;
            let is_all = rows.len() < DROPPED;
            let mut ops: Vec<Op> = rows
                .into_iter()
                .map(|(key, _)| removal(Table::Data, key))
                .collect();
            let dropped = ops.len() as u64;
            if is_all {
                ops.push(removal(Table::Meta, note));
            }
            let write = Write::freeing(ops).as_of(failures);
            self.store.submit(shard, write)?;
            let removed = &self.counters.removed_rows;
            removed.fetch_add(dropped, Ordering::Relaxed);
        }
        Ok(more)
    }
}

/// The rows of a generation.
struct Rows<'l> {
    located: &'l Located<'l>,
    generation: u64,
    bounds: Bounds,
    moved: Option<Moved>,
}

impl Rows<'_> {
    fn change(
        mut self,
        ops: &mut Vec<Op>,
        (old, new): (&Object, &Object),
        ends: (bool, bool),
    ) -> Option<Moved> {
        let (before, now) = (spread::cells(old), spread::cells(new));
        let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
        let mut total = new.rest().cloned().unwrap_or_default();
        let mut gone: Vec<Vec<u8>> = Vec::new();
        let mut left: Vec<Vec<u8>> = Vec::new();
        loop {
            let (a, b) = match (before.peek(), now.peek()) {
                (None, None) => break,
                (Some(a), Some(b)) if a.element == b.element => (before.next(), now.next()),
                (Some(a), Some(b)) if a.element < b.element => (before.next(), None),
                (Some(_), None) => (before.next(), None),
                (_, Some(_)) => (None, now.next()),
            };
            if let Some(cell) = b {
                total.add(&cell.sums(new));
            }
            let was = a.and_then(|cell| order(cell, old));
            let is = b.and_then(|cell| order(cell, new));
            if a != b || was != is {
                self.change_cell(ops, (a, b), (was.as_ref(), is.as_ref()));
            }
            if let Some(moved) = self.moved.as_mut().filter(|_| was != is) {
                moved.gone.extend(was.clone());
                moved.come.extend(is.clone());
            }
            gone.extend(was.filter(|_| is.is_none()));
            left.extend(is);
        }
        self.bound(&left, &gone, ends);
        let head = Head {
            object: spread::without_elements(new),
            generation: self.generation,
            total,
            bounds: self.bounds,
        };
        ops.push(Op {
            table: Table::Data,
            key: self.located.row_key.to_vec(),
            value: Some(head.encode()),
        });
        let generation = self.generation;
        self.moved.map(|moved| Moved {
            generation,
            ..moved
        })
    }

    fn change_cell(
        &self,
        ops: &mut Vec<Op>,
        (before, now): (Option<&Cell<'_>>, Option<&Cell<'_>>),
        (was, is): (Option<&Vec<u8>>, Option<&Vec<u8>>),
    ) {
        let Some(element) = before.or(now).map(|cell| cell.element) else {
            return;
        };
        let row = |place: &[u8]| self.located.row_of(self.generation, place);
        let value = now.map(Cell::encode);
        // Where names are in order there is no other; elsewhere the same row is there once more.
        if !element.kind.is_in_order() {
            let moved = was.filter(|was| Some(*was) != is);
            ops.extend(moved.map(|place| removal(Table::Data, row(place))));
            ops.extend(is.map(|place| Op {
                table: Table::Data,
                key: row(place),
                value: value.clone(),
            }));
        }
        if before != now {
            ops.push(Op {
                table: Table::Data,
                key: row(&spread::place_of(element)),
                value,
            });
        }
    }

    /// Has bounds hold again: of an end at which all is at hand they are what is left of it.
    fn bound(&mut self, left: &[Vec<u8>], gone: &[Vec<u8>], ends: (bool, bool)) {
        let (lowest, highest) = (left.iter().min(), left.iter().max());
        let Bounds {
            lowest: low,
            highest: high,
        } = &mut self.bounds;
        match ends {
            (true, false) => {
                if let Some(next) = gone.iter().max() {
                    low.clone_from(next);
                }
            }
            (false, true) => {
                if let Some(next) = gone.iter().min() {
                    high.clone_from(next);
                }
            }
            // Of what has gone is told by what is left at which end that was.
            (true, true) => {
                if let Some(next) = gone.iter().max()
                    && lowest.is_some_and(|lowest| next < lowest)
                {
                    low.clone_from(next);
                } else if let Some(next) = gone.iter().min()
                    && highest.is_some_and(|highest| next > highest)
                {
                    high.clone_from(next);
                }
            }
            (false, false) => {}
        }
        if let Some(lowest) = lowest
            && (low.is_empty() || lowest < low)
        {
            low.clone_from(lowest);
        }
        if let Some(highest) = highest
            && highest > high
        {
            high.clone_from(highest);
        }
    }
}

/// Where an element stands in the order of its kind, if that has one.
fn order(cell: &Cell<'_>, object: &Object) -> Option<Vec<u8>> {
    match cell.element.kind {
        Kind::List | Kind::Stream => Some(spread::place_of(cell.element)),
        _ => cell.order(object),
    }
}

fn removal(table: Table, key: Vec<u8>) -> Op {
    Op {
        table,
        key,
        value: None,
    }
}
