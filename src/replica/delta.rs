//! What other nodes must hear of a write.

use bytes::Bytes;

use crate::logic::causal::{ActorId, Dot, Element, Object};
use crate::logic::codec::DecodeError;
use crate::logic::record;

/// What one write changed of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The database as stored.
    pub db: u8,
    /// The key.
    pub name: Bytes,
    /// The delta, as it is sent.
    pub object: Bytes,
    /// The dot of its first value, if it has one.
    pub dot: Option<Dot>,
    /// The last dot of its writer, of which it says something.
    pub last: Dot,
    /// Whether it leaves something that takes space.
    pub grows: bool,
    /// The elements of collections that it changes or removes, where it is about no others.
    pub touched: Option<Vec<Element>>,
}

impl Delta {
    /// What an actor has changed.
    pub fn of((db, name): (u8, Bytes), object: &Object, actor: ActorId) -> Self {
        Self {
            db,
            name,
            dot: object.all_versions().next().map(|version| version.dot),
            last: Dot {
                actor,
                seq: object.context().last(actor),
            },
            object: record::WIRE.encode(object).into(),
            grows: !object.is_tombstone(),
            touched: None,
        }
    }

    /// The delta.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(&self) -> Result<Object, DecodeError> {
        record::WIRE.decode(&self.object)
    }
}
