//! What messages have in common, as types of the wire.

use bytes::Bytes;

use crate::logic::causal::{Dot, Timestamp};

/// A key of a database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WireKey {
    /// The database.
    pub db: u8,
    /// The key.
    pub name: Bytes,
}

/// A key with what lives there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireListed {
    /// The key.
    pub key: WireKey,
    /// The digest of its object.
    pub digest: u64,
    /// The dots of its versions.
    pub dots: Vec<Dot>,
}

/// One write of one key, for those who must not miss it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrote {
    /// The database.
    pub db: u8,
    /// The key.
    pub name: Bytes,
    /// The event.
    pub dot: Dot,
    /// When: what the same client writes next is later.
    pub at: Timestamp,
}
