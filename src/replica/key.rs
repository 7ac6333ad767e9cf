//! A key, and where it is.

use std::cell::RefCell;

use super::large::Lies;
use crate::logic::causal::{Element, Object};
use crate::logic::place::{Position, RowKey};
use crate::logic::spread;

/// One key of one database.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The database as stored (SWAPDB renames databases above this layer).
    pub db: u8,
    /// The key.
    pub name: &'a [u8],
}

pub(super) struct Located<'a> {
    pub(super) key: Key<'a>,
    /// The space's flushes before anything was read.
    pub(super) epoch: u64,
    /// The shard's failures then.
    pub(super) as_of: u64,
    pub(super) at: Position,
    pub(super) shard: usize,
    pub(super) row_key: RowKey,
    /// How its rows lie, as they were read last.
    pub(super) lies: RefCell<Lies>,
}

/// The journal keeps the lengths of keys of rows in 16 bits.
const MOST_ROW_KEY: usize = 65_000;

impl Located<'_> {
    /// Whether an element can have a row of its own: names can be longer than keys of rows.
    pub(super) fn has_room_for(&self, element: &Element) -> bool {
        let before = self.row_key.len() + spread::MOST_BEFORE_NAME;
        before + element.name.len() <= MOST_ROW_KEY
    }

    /// Whether all elements of collections that an object has at hand can.
    pub(super) fn has_room_for_all(&self, object: &Object) -> bool {
        let elements = object.cells().iter().map(|(element, _)| element);
        let mut elements = elements.chain(object.resets().iter().map(|reset| &reset.element));
        elements.all(|element| self.has_room_for(element))
    }

    /// The key of a row of a generation.
    pub(super) fn row_of(&self, generation: u64, place: &[u8]) -> Vec<u8> {
        [&self.row_key[..], &spread::start_of(generation), place].concat()
    }
}
