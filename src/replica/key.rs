//! A key, and where it is.

use std::cell::RefCell;

use super::large::Lies;
use crate::logic::place::{Position, RowKey};

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
