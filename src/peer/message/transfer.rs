//! Requests about parts that move.

use bytes::Bytes;

use super::fields::{put_place, read_bytes, read_place, read_u16};
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};

/// About parts that move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferRequest {
    /// Asks for the next piece of a part, rows in their order, tombstones among them.
    Chunk {
        /// Of keys with so many owners.
        owners: u8,
        /// The partition.
        partition: u16,
        /// The first row.
        from: Bytes,
        /// About how many bytes.
        bytes: u64,
    },
    /// Asks about how large some partitions are, of keys with so many owners.
    Sizes {
        /// Of keys with so many owners.
        owners: u8,
        /// As in `Roots`.
        partitions: Bytes,
    },
}

impl TransferRequest {
    pub(super) fn encode(&self, wire: u16, out: &mut Vec<u8>) {
        match self {
            TransferRequest::Chunk {
                owners,
                partition,
                from,
                bytes,
            } => {
                out.extend_from_slice(&[21, *owners]);
                put_varint(out, u64::from(*partition));
                put_place(out, from, wire);
                put_varint(out, *bytes);
            }
            TransferRequest::Sizes { owners, partitions } => {
                out.extend_from_slice(&[22, *owners]);
                put_bytes(out, partitions);
            }
        }
    }

    /// `None` where the kind is no one's of these.
    pub(super) fn decode(
        kind: u8,
        r: &mut Reader<'_>,
        wire: u16,
    ) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            21 => TransferRequest::Chunk {
                owners: r.u8()?,
                partition: read_u16(r)?,
                from: read_place(r, wire)?,
                bytes: r.varint()?,
            },
            22 => TransferRequest::Sizes {
                owners: r.u8()?,
                partitions: read_bytes(r)?,
            },
            _ => return Ok(None),
        }))
    }
}
