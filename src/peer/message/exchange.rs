//! Requests about comparing and mending copies.

use bytes::Bytes;

use super::fields::{
    put_key, put_objects, put_place, put_view, read_bytes, read_key, read_objects, read_place,
    read_u16, read_u32, read_view,
};
use super::wire::WireKey;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::merkle::{Leaves, Node};

/// About comparing and mending copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeRequest {
    /// Asks what the receiver's run has written, and what it still has to hand on.
    Written,
    /// Asks for the sums of partitions' trees: the first step of an exchange.
    Roots {
        /// What has ended before does not count, in milliseconds since the epoch.
        as_of_ms: u64,
        /// The tree of keys with so many owners.
        owners: u8,
        /// A fingerprint of which keys those are.
        rules: u64,
        /// Bit `p` of byte `p / 8`: whether partition `p` is asked for.
        partitions: Bytes,
        /// Whether the sender means to mend what differs: two nodes do not mend each other at once.
        mends: bool,
        /// What the sender knows of the membership: two nodes compare what they hold as of one.
        view: u64,
    },
    /// Asks for the sums of the children of nodes of trees.
    Sums {
        /// The tree of keys with so many owners.
        owners: u8,
        /// Partitions with nodes.
        nodes: Vec<(u16, Node)>,
    },
    /// Asks for a page of keys below some leaves.
    List {
        /// Of keys with so many owners.
        owners: u8,
        /// The partition.
        partition: u16,
        /// The leaves.
        leaves: Leaves,
        /// The first row.
        from: Bytes,
        /// How many keys.
        limit: u64,
        /// What has ended before does not count.
        as_of_ms: u64,
    },
    /// Asks for several keys' objects.
    Objects(Vec<WireKey>),
    /// Joins several objects into the receiver's copies.
    Merge(Vec<(WireKey, Bytes)>),
    /// Asks an owner to mend a partition.
    Repair {
        /// Which.
        partition: u16,
    },
}

impl ExchangeRequest {
    pub(super) fn encode(&self, wire: u16, out: &mut Vec<u8>) {
        match self {
            ExchangeRequest::Written => out.push(13),
            ExchangeRequest::Roots {
                as_of_ms,
                owners,
                rules,
                partitions,
                mends,
                view,
            } => {
                out.extend_from_slice(&[14, *owners]);
                out.extend_from_slice(&rules.to_le_bytes());
                put_varint(out, *as_of_ms);
                put_bytes(out, partitions);
                out.push(u8::from(*mends));
                put_view(out, *view, wire);
            }
            ExchangeRequest::Sums { owners, nodes } => {
                out.extend_from_slice(&[15, *owners]);
                put_varint(out, nodes.len() as u64);
                for (partition, node) in nodes {
                    put_varint(out, u64::from(*partition));
                    put_varint(out, u64::from(node.depth));
                    put_varint(out, u64::from(node.index));
                }
            }
            ExchangeRequest::List {
                owners,
                partition,
                leaves,
                from,
                limit,
                as_of_ms,
            } => {
                out.extend_from_slice(&[16, *owners]);
                put_varint(out, u64::from(*partition));
                put_varint(out, u64::from(leaves.start));
                put_varint(out, u64::from(leaves.end));
                put_place(out, from, wire);
                put_varint(out, *limit);
                put_varint(out, *as_of_ms);
            }
            ExchangeRequest::Objects(keys) => {
                out.push(17);
                put_varint(out, keys.len() as u64);
                for key in keys {
                    put_key(out, key);
                }
            }
            ExchangeRequest::Merge(objects) => {
                out.push(18);
                put_objects(out, objects);
            }
            ExchangeRequest::Repair { partition } => {
                out.push(19);
                put_varint(out, u64::from(*partition));
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
            13 => ExchangeRequest::Written,
            14 => ExchangeRequest::Roots {
                owners: r.u8()?,
                rules: r.u64_le()?,
                as_of_ms: r.varint()?,
                partitions: read_bytes(r)?,
                mends: r.u8()? != 0,
                view: read_view(r, wire)?,
            },
            15 => {
                let (owners, count) = (r.u8()?, r.count(3)?);
                let node = |_| {
                    let partition = read_u16(r)?;
                    let (depth, index) = (read_u32(r)?, read_u32(r)?);
                    Ok((partition, Node { depth, index }))
                };
                let nodes: Result<_, DecodeError> = (0..count).map(node).collect();
                ExchangeRequest::Sums {
                    owners,
                    nodes: nodes?,
                }
            }
            16 => ExchangeRequest::List {
                owners: r.u8()?,
                partition: read_u16(r)?,
                leaves: read_u32(r)?..read_u32(r)?,
                from: read_place(r, wire)?,
                limit: r.varint()?,
                as_of_ms: r.varint()?,
            },
            17 => {
                let count = r.count(2)?;
                let keys: Result<_, _> = (0..count).map(|_| read_key(r)).collect();
                ExchangeRequest::Objects(keys?)
            }
            18 => ExchangeRequest::Merge(read_objects(r)?),
            19 => ExchangeRequest::Repair {
                partition: read_u16(r)?,
            },

            _ => return Ok(None),
        }))
    }
}
