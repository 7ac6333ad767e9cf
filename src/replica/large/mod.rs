//! Large collections: a head and a row an element (`logic::spread`), of which a command reads and writes those that it
//! names. How much of a key is read says a [`Reach`]; where that does not tell what is asked, all of it is read.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::rows::{gone_op, gone_range};
use super::{Key, Located, Replica, ReplicaError};
use crate::base::random::random_u64;
use crate::logic::causal::{Context, Element, Kind, Object, Rest};
use crate::logic::place::Position;
use crate::logic::record;
use crate::logic::spread::{self, Bounds, Cell, GENERATION_LEN, Gathered, Head, Stored, Stretch};
use crate::storage::{Op, Row, StoreError, Table, Write};

/// Rows read at a time.
const PAGE: usize = 1_024;
/// Rows dropped at a time.
const DROPPED: usize = 512;

/// How much of a key is read, of elements of collections: what is small is read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// Everything.
    Whole,
    /// None: how many there are is known all the same.
    Head,
    /// Some.
    Named(&'a [Element]),
    /// So many of a kind from each end, in their order.
    Ends(Kind, usize, usize),
    /// Some in an order.
    Stretch(&'a Stretch),
}

/// How a key's rows lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Lies {
    /// There is one, or none.
    #[default]
    InOne,
    /// A head and elements.
    InMany {
        /// Of this generation.
        generation: u64,
        bounds: Bounds,
        /// Of which ends all that was there is at hand.
        ends: (bool, bool),
    },
    /// Rows of a generation that say nothing any more, or not what they said.
    Stale(u64),
}

/// Reads rows of data in their order.
type Scan<'s> = &'s dyn Fn(&[u8], &[u8], usize) -> Result<Vec<Row>, StoreError>;

impl Replica {
    /// The object of a key with as much of it at hand as a reach says, or more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_some(&self, key: Key<'_>, reach: Reach<'_>) -> Result<Arc<Object>, ReplicaError> {
        let located = self.locate(key, Position::of(key.name, self.partitions));
        let Some(raw) = self.stored(&located)? else {
            return Ok(Arc::clone(&self.empty));
        };
        if reach == Reach::Head || !spread::is_head(&raw) {
            return self.load_from(&located, &raw, reach);
        }
        // Its rows are to be of one moment.
        let _order = self.lock(located.at);
        self.load_some(&located, reach)
    }

    /// The current object, or some of it. Who writes it holds the key's lock.
    pub(super) fn load_some(
        &self,
        located: &Located<'_>,
        reach: Reach<'_>,
    ) -> Result<Arc<Object>, ReplicaError> {
        match self.stored(located)? {
            Some(raw) => self.load_from(located, &raw, reach),
            None => {
                located.lies.take();
                Ok(Arc::clone(&self.empty))
            }
        }
    }

    fn stored(&self, located: &Located<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        self.store
            .load(located.shard, Table::Data, &located.row_key)
    }

    fn load_from(
        &self,
        located: &Located<'_>,
        raw: &[u8],
        reach: Reach<'_>,
    ) -> Result<Arc<Object>, ReplicaError> {
        let scan = |from: &[u8], to: &[u8], limit| {
            self.store.scan(located.shard, Table::Data, from, to, limit)
        };
        let (object, lies) = self
            .assemble(located, raw, reach, &scan)
            .inspect_err(|error| {
                if let ReplicaError::Row(_) = error {
                    self.note_damaged(located.key);
                    // What takes its place has rows of its own.
                    if let Ok(Stored::Head(head)) = spread::read(raw) {
                        *located.lies.borrow_mut() = Lies::Stale(head.generation);
                    }
                }
            })?;
        *located.lies.borrow_mut() = lies;
        if self.forgets(&object) {
            return Ok(Arc::clone(&self.empty));
        }
        Ok(Arc::new(object))
    }

    /// What a row of data shows of its key, without elements that are rows of their own: unless all of them
    /// are needed to tell what a flush has left.
    pub(super) fn decode(
        &self,
        located: &Located<'_>,
        raw: &[u8],
        scan: Scan<'_>,
    ) -> Result<Object, ReplicaError> {
        Ok(self.assemble(located, raw, Reach::Head, scan)?.0)
    }

    /// The object of which a row of data that was found is all, or the head.
    pub(super) fn whole_of(
        &self,
        (db, name): (u8, &[u8]),
        raw: &[u8],
    ) -> Result<Arc<Object>, ReplicaError> {
        let key = Key { db, name };
        if spread::is_head(raw) {
            return self.read(key);
        }
        let located = self.locate(key, Position::of(name, self.partitions));
        let read = self.assemble(&located, raw, Reach::Whole, &|_, _, _| Ok(Vec::new()));
        let (object, _) = read.inspect_err(|_| self.note_damaged(key))?;
        Ok(Arc::new(object))
    }

    fn assemble(
        &self,
        located: &Located<'_>,
        raw: &[u8],
        reach: Reach<'_>,
        scan: Scan<'_>,
    ) -> Result<(Object, Lies), ReplicaError> {
        let space = self.spaces.of(located.at.partition, located.key.db);
        let head = match spread::read(raw)? {
            Stored::Object(mut object) => {
                space.sink(&mut object);
                return Ok((object, Lies::InOne));
            }
            Stored::Head(head) => *head,
        };
        let generation = head.generation;
        let mut is_sunk = false;
        if let Some(floor) = space.floor() {
            if floor.covers(head.object.context()) {
                return Ok((Object::default(), Lies::Stale(generation)));
            }
            is_sunk = may_cover(&floor, &head.total);
        }
        if !is_sunk && reach != Reach::Whole {
            let ends = match reach {
                Reach::Ends(_, first, last) => (first > 0, last > 0),
                Reach::Stretch(stretch) if stretch.from.first() == head.bounds.lowest.first() => (
                    !stretch.is_back && stretch.from <= head.bounds.lowest,
                    stretch.is_back && stretch.to > head.bounds.highest,
                ),
                _ => (false, false),
            };
            let bounds = head.bounds.clone();
            let gathered = self.gather_some(located, &head, reach)?;
            let object = head.clone().with(gathered)?;
            if object.is_plain_about_its_rest() {
                let lies = Lies::InMany {
                    generation,
                    bounds,
                    ends,
                };
                return Ok((object, lies));
            }
        }
        let bounds = head.bounds.clone();
        let gathered = gather_all(located, generation, scan)?;
        let mut object = head.with_all(gathered)?;
        if is_sunk {
            space.sink(&mut object);
            return Ok((object, Lies::Stale(generation)));
        }
        let ends = (true, true);
        let lies = Lies::InMany {
            generation,
            bounds,
            ends,
        };
        Ok((object, lies))
    }

    fn gather_some(
        &self,
        located: &Located<'_>,
        head: &Head,
        reach: Reach<'_>,
    ) -> Result<Gathered, ReplicaError> {
        let mut gathered = Gathered::default();
        match reach {
            Reach::Whole | Reach::Head => {}
            Reach::Named(elements) => {
                let mut named: Vec<&Element> = elements.iter().collect();
                named.retain(|element| spread::has_row(element.kind));
                named.sort_unstable();
                named.dedup();
                for element in named {
                    self.gather_one(located, head.generation, element, &mut gathered)?;
                }
            }
            Reach::Ends(kind, first, last) => {
                let rows = self.ends_of(located, head, (kind, first, last))?;
                self.gather_rows(located, head.generation, rows, &mut gathered)?;
            }
            Reach::Stretch(stretch) => {
                let rows = self.stretch_of(located, head, stretch)?;
                self.gather_rows(located, head.generation, rows, &mut gathered)?;
            }
        }
        Ok(gathered)
    }

    /// The rows at the ends of a kind's order.
    fn ends_of(
        &self,
        located: &Located<'_>,
        head: &Head,
        (kind, first, last): (Kind, usize, usize),
    ) -> Result<Vec<Row>, ReplicaError> {
        let (start, end) = spread::ordered(kind);
        let (from, to) = between(located, head, (&[start], &[end]));
        let mut rows = if first > 0 {
            self.store
                .scan(located.shard, Table::Data, &from, &to, first)?
        } else {
            Vec::new()
        };
        if last > 0 {
            rows.extend(self.store.scan_back(located.shard, &from, &to, last)?);
        }
        // What is at both ends is there once.
        rows.sort_unstable();
        rows.dedup();
        Ok(rows)
    }

    fn stretch_of(
        &self,
        located: &Located<'_>,
        head: &Head,
        stretch: &Stretch,
    ) -> Result<Vec<Row>, ReplicaError> {
        let Stretch {
            from,
            to,
            most,
            is_back,
            wraps,
        } = stretch;
        let (start, end) = between(located, head, (from, to));
        if *is_back {
            return Ok(self.store.scan_back(located.shard, &start, &end, *most)?);
        }
        let scan = |from: &[u8], to: &[u8], limit| {
            self.store.scan(located.shard, Table::Data, from, to, limit)
        };
        let mut rows = scan(&start, &end, *most)?;
        if *wraps && rows.len() < *most {
            let first = row_key(located, head.generation, &from[..1]);
            rows.extend(scan(&first, &start, *most - rows.len())?);
        }
        Ok(rows)
    }

    /// Takes rows of elements, and the elements of rows of their order.
    fn gather_rows(
        &self,
        located: &Located<'_>,
        generation: u64,
        rows: Vec<Row>,
        gathered: &mut Gathered,
    ) -> Result<(), ReplicaError> {
        let skipped = located.row_key.len() + GENERATION_LEN;
        for (key, row) in rows {
            let place = &key[skipped..];
            match spread::element_at(place)? {
                Some(element) => gathered.take(element, &row)?,
                None => {
                    let member = spread::member_at(place)?;
                    self.gather_one(located, generation, &member, gathered)?;
                }
            }
        }
        Ok(())
    }

    fn gather_one(
        &self,
        located: &Located<'_>,
        generation: u64,
        element: &Element,
        gathered: &mut Gathered,
    ) -> Result<(), ReplicaError> {
        let key = row_key(located, generation, &spread::place_of(element));
        if let Some(row) = self.store.load(located.shard, Table::Data, &key)? {
            gathered.take(element.clone(), &row)?;
        }
        Ok(())
    }

    /// The rows of data that change when an object does. Where all that was not at hand is overwritten, what there is
    /// now has rows of another generation.
    pub(super) fn data_ops(
        &self,
        ops: &mut Vec<Op>,
        located: &Located<'_>,
        (old, new): (&Object, &Object),
        forgotten: bool,
    ) {
        let lies = located.lies.borrow();
        let has_elements =
            !new.is_whole() || new.cells().iter().any(|(e, _)| spread::has_row(e.kind));
        if let Lies::InMany {
            generation,
            bounds,
            ends,
        } = &*lies
            && has_elements
            && !forgotten
            && old.is_whole() == new.is_whole()
        {
            let rows = Rows {
                located,
                generation: *generation,
                bounds: bounds.clone(),
            };
            rows.change(ops, (old, new), *ends);
            return;
        }
        let stale = match *lies {
            Lies::InOne => None,
            Lies::InMany { generation, .. } | Lies::Stale(generation) => Some(generation),
        };
        ops.extend(stale.map(|generation| gone_op(&located.row_key, generation)));
        let row = (!forgotten).then(|| record::ROW.encode(new));
        let is_large = |row: &Vec<u8>| row.len() > self.most_in_one_row;
        if has_elements && row.as_ref().is_some_and(is_large) {
            let rows = Rows {
                located,
                generation: random_u64() >> 1,
                bounds: Bounds::default(),
            };
            rows.change(ops, (&Object::default(), new), (false, false));
            return;
        }
        ops.push(Op {
            table: Table::Data,
            key: located.row_key.to_vec(),
            value: row,
        });
    }

    /// Drops a slice of the rows of collections that were emptied; whether there may be more. Blocks.
    ///
    /// # Errors
    /// When the store fails.
    pub fn reclaim_elements(&self) -> Result<bool, ReplicaError> {
        let mut more = false;
        for shard in 0..self.store.shards() {
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
            self.store.submit(shard, Write::freeing(ops))?;
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
}

impl Rows<'_> {
    fn change(mut self, ops: &mut Vec<Op>, (old, new): (&Object, &Object), ends: (bool, bool)) {
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
        if before != now {
            ops.push(Op {
                table: Table::Data,
                key: row_key(self.located, self.generation, &spread::place_of(element)),
                value: now.map(Cell::encode),
            });
        }
        // A list's elements are in order themselves.
        if was != is && element.kind != Kind::List {
            let row = |place: &Vec<u8>| row_key(self.located, self.generation, place);
            ops.extend(was.map(|place| removal(Table::Data, row(place))));
            ops.extend(is.map(|place| Op {
                table: Table::Data,
                key: row(place),
                value: Some(Vec::new()),
            }));
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
            _ => {}
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
        Kind::List => Some(spread::place_of(cell.element)),
        _ => cell.order(object),
    }
}

fn gather_all(
    located: &Located<'_>,
    generation: u64,
    scan: Scan<'_>,
) -> Result<Gathered, ReplicaError> {
    let mut gathered = Gathered::default();
    let start = row_key(located, generation, &[]);
    let end = [&start[..], &[u8::MAX]].concat();
    let (skipped, mut from) = (start.len(), start);
    loop {
        let rows = scan(&from, &end, PAGE)?;
        let is_all = rows.len() < PAGE;
        if let Some((last, _)) = rows.last() {
            from = [last.as_slice(), &[0]].concat();
        }
        for (key, row) in rows {
            if let Some(element) = spread::element_at(&key[skipped..])? {
                gathered.take(element, &row)?;
            }
        }
        if is_all {
            return Ok(gathered);
        }
    }
}

/// The keys between two places, as far as there may be rows.
fn between(located: &Located<'_>, head: &Head, (from, to): (&[u8], &[u8])) -> (Vec<u8>, Vec<u8>) {
    let Bounds { lowest, highest } = &head.bounds;
    let key = |place: &[u8]| row_key(located, head.generation, place);
    let is_in_order = |bound: &[u8]| bound.first().is_some_and(|kind| Some(kind) == from.first());
    let from_key = if is_in_order(lowest) && from < &lowest[..] {
        key(lowest)
    } else {
        key(from)
    };
    let to_key = if is_in_order(highest) && &highest[..] < to {
        // The highest itself, too.
        [&key(highest)[..], &[0]].concat()
    } else {
        key(to)
    };
    (from_key, to_key)
}

/// The key of a row of a generation.
fn row_key(located: &Located<'_>, generation: u64, place: &[u8]) -> Vec<u8> {
    [&located.row_key[..], &spread::start_of(generation), place].concat()
}

fn removal(table: Table, key: Vec<u8>) -> Op {
    Op {
        table,
        key,
        value: None,
    }
}

/// Whether a floor may cover some of what was summed.
fn may_cover(floor: &Context, total: &Rest) -> bool {
    let wrote = total.actors().iter();
    wrote
        .clone()
        .any(|wrote| floor.last(wrote.actor) >= wrote.first)
}
