//! How much of a key is read, and how its rows lie.

use crate::logic::causal::{Element, Kind};
use crate::logic::spread::{Bounds, Stretch};
use crate::storage::{Row, StoreError};

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
    /// Those of a kind between two places in its order, both included, negative from the end: exactly those, or all.
    Places(Kind, i64, i64),
    /// Some in an order.
    Stretch(&'a Stretch),
}

/// How a key's rows lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::replica) enum Lies {
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
pub(in crate::replica) type Scan<'s> =
    &'s dyn Fn(&[u8], &[u8], usize) -> Result<Vec<Row>, StoreError>;
