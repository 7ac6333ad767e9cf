//! A key, and where it is.

use std::cell::RefCell;

use super::large::Lies;
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

impl Located<'_> {
    /// The key of a row of a generation.
    pub(super) fn row_of(&self, generation: u64, place: &[u8]) -> Vec<u8> {
        [&self.row_key[..], &spread::start_of(generation), place].concat()
    }
}
