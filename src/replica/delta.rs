//! What other nodes must hear of a write.

use bytes::Bytes;

use crate::logic::causal::{Element, Object};

/// What one write changed of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The database as stored.
    pub db: u8,
    /// The key.
    pub name: Bytes,
    /// The delta.
    pub object: Object,
    /// The elements of collections that it changes or removes, where it is about no others.
    pub touched: Option<Vec<Element>>,
}

impl Delta {
    /// All that is known of a key.
    pub fn whole(db: u8, name: Bytes, object: Object) -> Self {
        Self {
            db,
            name,
            object,
            touched: None,
        }
    }
}
