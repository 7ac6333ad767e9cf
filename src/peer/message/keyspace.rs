//! Requests about the whole key space.

use bytes::Bytes;

use super::fields::{put_wrote, read_bytes, read_wrote};
use super::wire::Wrote;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};

/// About the whole key space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySpaceRequest {
    /// Asks for everything that was ever written, as a context: the first half of a flush.
    Everything,
    /// Raises the floor of a database or of all: the second half of a flush.
    Floor {
        /// One database.
        db: Option<u8>,
        /// What is dead.
        context: Bytes,
    },
    /// Asks how many live keys of a database each partition has.
    Counts {
        /// Which database.
        db: u8,
    },
    /// Asks for a page of keys.
    Scan {
        /// Which database.
        db: u8,
        /// Where to go on.
        cursor: u64,
        /// About how many keys.
        count: u64,
        /// Bit `p` of byte `p / 8`: whether partition `p` is asked for.
        partitions: Bytes,
        /// Only keys with siblings.
        conflicts: bool,
    },
    /// Asks which writes the receiver holds.
    Holds {
        /// The writes, by database.
        writes: Vec<Wrote>,
        /// Whether only what is on the disk counts: the answer waits for that.
        synced: bool,
    },
}

impl KeySpaceRequest {
    pub(super) fn encode(&self, _: u16, out: &mut Vec<u8>) {
        match self {
            KeySpaceRequest::Everything => out.push(7),
            KeySpaceRequest::Floor { db, context } => {
                out.push(8);
                out.push(db.map_or(u8::MAX, |db| db));
                put_bytes(out, context);
            }
            KeySpaceRequest::Counts { db } => out.extend_from_slice(&[9, *db]),
            KeySpaceRequest::Scan {
                db,
                cursor,
                count,
                partitions,
                conflicts,
            } => {
                out.extend_from_slice(&[10, *db]);
                put_varint(out, *cursor);
                put_varint(out, *count);
                put_bytes(out, partitions);
                out.push(u8::from(*conflicts));
            }
            KeySpaceRequest::Holds { writes, synced } => {
                out.push(11);
                put_wrote(out, writes);
                out.push(u8::from(*synced));
            }
        }
    }

    /// `None` where the kind is no one's of these.
    pub(super) fn decode(
        kind: u8,
        r: &mut Reader<'_>,
        _: u16,
    ) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            7 => KeySpaceRequest::Everything,
            8 => KeySpaceRequest::Floor {
                db: Some(r.u8()?).filter(|db| *db != u8::MAX),
                context: read_bytes(r)?,
            },
            9 => KeySpaceRequest::Counts { db: r.u8()? },
            10 => KeySpaceRequest::Scan {
                db: r.u8()?,
                cursor: r.varint()?,
                count: r.varint()?,
                partitions: read_bytes(r)?,
                conflicts: r.u8()? != 0,
            },
            11 => KeySpaceRequest::Holds {
                writes: read_wrote(r)?,
                synced: r.u8()? != 0,
            },
            _ => return Ok(None),
        }))
    }
}
