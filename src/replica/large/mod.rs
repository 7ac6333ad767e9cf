//! Large collections: a head and a row an element (`logic::spread`), of which a command reads and writes those that it
//! names. How much of a key is read says a [`Reach`]; where that does not tell what is asked, all of it is read.

mod change;
mod gather;
mod ranks;
mod reach;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{Key, Located, Replica, ReplicaError};
use crate::logic::causal::{Context, Object, Rest};
use crate::logic::place::Position;
use crate::logic::spread::{self, Stored};
use crate::storage::{StoreError, Table};

pub(super) use reach::Lies;
pub use reach::Reach;

use gather::gather_all;
use reach::Scan;

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
        if !spread::is_head(&raw) {
            return self.load_from(&located, &raw, reach);
        }
        if let Some(object) = self.read_aside(&located, &raw, reach)? {
            return Ok(object);
        }
        let _order = self.lock(located.at);
        self.load_some(&located, reach)
    }

    /// Reads rows without holding up who writes them. A write of an element is one with that of the head, which is
    /// never again what it was: rows are of one moment where the head is the same behind them. `None` where it is
    /// not, or more is to be read.
    fn read_aside(
        &self,
        located: &Located<'_>,
        raw: &[u8],
        reach: Reach<'_>,
    ) -> Result<Option<Arc<Object>>, ReplicaError> {
        if !reach.is_quick() {
            return Ok(None);
        }
        let busy: Scan<'_> = &|_, _, _| Err(StoreError::Busy);
        let Ok((object, _)) = self.assemble(located, raw, reach, busy) else {
            return Ok(None);
        };
        let is_same = reach == Reach::Head
            || self.stored(located)?.is_some_and(|now| now == raw)
                && self.store.progress(located.shard).failures() == located.as_of;
        Ok(is_same.then(|| self.shown(object)))
    }

    /// The current object, or some of it. Who writes it holds the key's lock.
    pub(super) fn load_some(
        &self,
        located: &Located<'_>,
        reach: Reach<'_>,
    ) -> Result<Arc<Object>, ReplicaError> {
        if let Some(raw) = self.stored(located)? {
            return self.load_from(located, &raw, reach);
        }
        located.lies.take();
        Ok(Arc::clone(&self.empty))
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
        // Of what is forgotten the rows say nothing any more.
        *located.lies.borrow_mut() = match lies {
            Lies::InMany { generation, .. } if self.forgets(&object) => Lies::Stale(generation),
            lies => lies,
        };
        Ok(self.shown(object))
    }

    /// An object as whoever reads it is to see it.
    fn shown(&self, object: Object) -> Arc<Object> {
        if self.forgets(&object) {
            return Arc::clone(&self.empty);
        }
        Arc::new(object)
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
        // Rows of elements that are gone stand in the order, and are no places.
        let tells = !reach.is_ordered() || head.total.all_there() == head.total.elements();
        if tells && !is_sunk && !reach.is_whole() {
            let ends = reach.ends(&head);
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
}

/// Whether a floor may cover some of what was summed.
fn may_cover(floor: &Context, total: &Rest) -> bool {
    let wrote = total.actors().iter();
    wrote
        .clone()
        .any(|wrote| floor.last(wrote.actor) >= wrote.first)
}
