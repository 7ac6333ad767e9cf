//! The bytes of requests.

use bytes::Bytes;
use smallvec::SmallVec;

use super::fields::{
    finish, put_digest, put_dots, put_key, put_member, put_members, put_node, put_objects,
    put_wrote, read_bytes, read_digest, read_dots, read_key, read_members, read_node, read_objects,
    read_u16, read_u32, read_wrote,
};
use super::{Command, DOUBTS, NEWEST, Request, UNKNOWN_VIEW, VIEWS};
use crate::logic::causal::Timestamp;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::membership::decode_member;
use crate::logic::merkle::Node;
use crate::logic::row;

/// The kind of a forwarded command.
const FORWARD: u8 = 6;

impl Request {
    /// Whether the wire version before knew it.
    fn is_old(&self) -> bool {
        !matches!(
            self,
            Request::Chunk { .. } | Request::Sizes { .. } | Request::Describe | Request::Transfers
        )
    }

    /// Whether some bytes are those of a forwarded command.
    pub(in crate::peer) fn is_forward(raw: &[u8]) -> bool {
        raw.first() == Some(&FORWARD)
    }

    /// Whether it carries objects that older nodes cannot read.
    fn has_new_rows(&self) -> bool {
        match self {
            Request::Apply { object, .. } => row::is_new(object),
            Request::Merge(objects) => objects.iter().any(|(_, object)| row::is_new(object)),
            _ => false,
        }
    }

    /// The bytes of a request for a node that speaks an older version; `None` where it does not know it.
    pub(in crate::peer) fn translate(raw: &[u8], wire: u16) -> Option<Vec<u8>> {
        let request = Self::decode(raw, NEWEST).ok()?;
        // Nor may it run again what it would take for new.
        let is_repeated = matches!(&request, Request::Forward(command) if command.since.is_some());
        if wire < DOUBTS && (request.has_new_rows() || is_repeated) {
            return None;
        }
        let mut out = Vec::new();
        request.encode(wire, &mut out);
        (wire >= VIEWS || request.is_old()).then_some(out)
    }

    /// Appends the kind and the fields, as a wire version has them.
    pub fn encode(&self, wire: u16, out: &mut Vec<u8>) {
        let says_view = wire >= VIEWS;
        match self {
            Request::Gossip(digest) => {
                out.push(1);
                put_digest(out, digest, wire);
            }
            Request::Push(members) => {
                out.push(2);
                put_members(out, members, wire);
            }
            Request::Join(member) => {
                out.push(3);
                put_member(out, member, wire);
            }
            Request::Apply {
                key,
                object,
                hint_for,
                only_over_seen,
                view,
            } => {
                out.push(4);
                put_key(out, key);
                put_bytes(out, object);
                put_node(out, *hint_for);
                out.push(u8::from(*only_over_seen));
                if says_view {
                    out.extend_from_slice(&view.to_le_bytes());
                }
            }
            Request::Fetch {
                key,
                digest,
                dots,
                view,
            } => {
                out.push(5);
                put_key(out, key);
                out.extend_from_slice(&digest.to_le_bytes());
                put_dots(out, dots);
                if says_view {
                    out.extend_from_slice(&view.to_le_bytes());
                }
            }
            Request::Forward(command) => {
                out.push(FORWARD);
                put_varint(out, command.events);
                let Command {
                    hops,
                    db,
                    protocol,
                    r,
                    w,
                    ..
                } = *command;
                out.extend_from_slice(&[hops, db, protocol, r, w]);
                put_varint(out, command.patience_ms);
                put_varint(out, command.steps.len() as u64);
                for words in &command.steps {
                    put_bytes(out, words);
                }
                out.push(u8::from(command.transaction.is_some()));
                if let Some(watches) = &command.transaction {
                    put_varint(out, watches.len() as u64);
                    for (key, seen) in watches {
                        put_bytes(out, key);
                        put_bytes(out, seen);
                    }
                }
                put_wrote(out, &command.own);
                if wire >= DOUBTS {
                    let since = command.since.unwrap_or_default();
                    out.extend_from_slice(&since.0.to_le_bytes());
                }
            }
            Request::Everything => out.push(7),
            Request::Floor { db, context } => {
                out.push(8);
                out.push(db.map_or(u8::MAX, |db| db));
                put_bytes(out, context);
            }
            Request::Counts { db } => out.extend_from_slice(&[9, *db]),
            Request::Scan {
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
            Request::Written => out.push(13),
            Request::Roots {
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
                if says_view {
                    out.extend_from_slice(&view.to_le_bytes());
                }
            }
            Request::Sums { owners, nodes } => {
                out.extend_from_slice(&[15, *owners]);
                put_varint(out, nodes.len() as u64);
                for (partition, node) in nodes {
                    put_varint(out, u64::from(*partition));
                    put_varint(out, u64::from(node.depth));
                    put_varint(out, u64::from(node.index));
                }
            }
            Request::List {
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
                put_bytes(out, from);
                put_varint(out, *limit);
                put_varint(out, *as_of_ms);
            }
            Request::Objects(keys) => {
                out.push(17);
                put_varint(out, keys.len() as u64);
                for key in keys {
                    put_key(out, key);
                }
            }
            Request::Merge(objects) => {
                out.push(18);
                put_objects(out, objects);
            }
            Request::Repair { partition } => {
                out.push(19);
                put_varint(out, u64::from(*partition));
            }
            Request::Pace => out.push(20),
            Request::Chunk {
                owners,
                partition,
                from,
                bytes,
            } => {
                out.extend_from_slice(&[21, *owners]);
                put_varint(out, u64::from(*partition));
                put_bytes(out, from);
                put_varint(out, *bytes);
            }
            Request::Sizes { owners, partitions } => {
                out.extend_from_slice(&[22, *owners]);
                put_bytes(out, partitions);
            }
            Request::Describe => out.push(23),
            Request::Transfers => out.push(24),
            Request::Invite { address } => {
                out.push(12);
                put_bytes(out, address.as_bytes());
            }
            Request::Holds { writes, synced } => {
                out.push(11);
                put_wrote(out, writes);
                out.push(u8::from(*synced));
            }
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(raw: &[u8], wire: u16) -> Result<Self, DecodeError> {
        let mut r = Reader(raw);
        let request = match r.u8()? {
            1 => Request::Gossip(read_digest(&mut r, wire)?),
            2 => Request::Push(read_members(&mut r)?),
            3 => Request::Join(Box::new(decode_member(r.bytes()?)?)),
            4 => Request::Apply {
                key: read_key(&mut r)?,
                object: read_bytes(&mut r)?,
                hint_for: read_node(&mut r)?,
                only_over_seen: r.u8()? != 0,
                view: read_view(&mut r, wire)?,
            },
            5 => Request::Fetch {
                key: read_key(&mut r)?,
                digest: r.u64_le()?,
                dots: read_dots(&mut r)?,
                view: read_view(&mut r, wire)?,
            },
            FORWARD => Request::Forward(read_command(&mut r, wire)?),
            7 => Request::Everything,
            8 => Request::Floor {
                db: Some(r.u8()?).filter(|db| *db != u8::MAX),
                context: read_bytes(&mut r)?,
            },
            9 => Request::Counts { db: r.u8()? },
            10 => Request::Scan {
                db: r.u8()?,
                cursor: r.varint()?,
                count: r.varint()?,
                partitions: read_bytes(&mut r)?,
                conflicts: r.u8()? != 0,
            },
            11 => Request::Holds {
                writes: read_wrote(&mut r)?,
                synced: r.u8()? != 0,
            },
            12 => Request::Invite {
                address: String::from_utf8_lossy(r.bytes()?).into_owned(),
            },
            13 => Request::Written,
            14 => Request::Roots {
                owners: r.u8()?,
                rules: r.u64_le()?,
                as_of_ms: r.varint()?,
                partitions: read_bytes(&mut r)?,
                mends: r.u8()? != 0,
                view: read_view(&mut r, wire)?,
            },
            15 => {
                let (owners, count) = (r.u8()?, r.count(3)?);
                let node = |_| {
                    let partition = read_u16(&mut r)?;
                    let (depth, index) = (read_u32(&mut r)?, read_u32(&mut r)?);
                    Ok((partition, Node { depth, index }))
                };
                let nodes: Result<_, DecodeError> = (0..count).map(node).collect();
                Request::Sums {
                    owners,
                    nodes: nodes?,
                }
            }
            16 => Request::List {
                owners: r.u8()?,
                partition: read_u16(&mut r)?,
                leaves: read_u32(&mut r)?..read_u32(&mut r)?,
                from: read_bytes(&mut r)?,
                limit: r.varint()?,
                as_of_ms: r.varint()?,
            },
            17 => {
                let count = r.count(2)?;
                let keys: Result<_, _> = (0..count).map(|_| read_key(&mut r)).collect();
                Request::Objects(keys?)
            }
            18 => Request::Merge(read_objects(&mut r)?),
            20 => Request::Pace,
            21 => Request::Chunk {
                owners: r.u8()?,
                partition: read_u16(&mut r)?,
                from: read_bytes(&mut r)?,
                bytes: r.varint()?,
            },
            22 => Request::Sizes {
                owners: r.u8()?,
                partitions: read_bytes(&mut r)?,
            },
            23 => Request::Describe,
            24 => Request::Transfers,
            19 => Request::Repair {
                partition: read_u16(&mut r)?,
            },
            _ => return Err(DecodeError::Malformed),
        };
        finish(&r, request)
    }
}

fn read_command(r: &mut Reader<'_>, wire: u16) -> Result<Command, DecodeError> {
    let events = r.varint()?;
    let (hops, db, protocol) = (r.u8()?, r.u8()?, r.u8()?);
    let (read, write) = (r.u8()?, r.u8()?);
    Ok(Command {
        events,
        hops,
        db,
        protocol,
        r: read,
        w: write,
        patience_ms: r.varint()?,
        steps: read_steps(r)?,
        transaction: read_watches(r)?,
        own: read_wrote(r)?,
        since: if wire >= DOUBTS {
            Some(Timestamp(r.u64_le()?)).filter(|since| since.0 > 0)
        } else {
            None
        },
    })
}

fn read_steps(r: &mut Reader<'_>) -> Result<SmallVec<[Bytes; 1]>, DecodeError> {
    let count = r.count(1)?;
    (0..count).map(|_| read_bytes(r)).collect()
}

fn read_watches(r: &mut Reader<'_>) -> Result<Option<Vec<(Bytes, Bytes)>>, DecodeError> {
    if r.u8()? == 0 {
        return Ok(None);
    }
    let count = r.count(2)?;
    let watches: Result<_, _> = (0..count)
        .map(|_| Ok((read_bytes(r)?, read_bytes(r)?)))
        .collect();
    watches.map(Some)
}

fn read_view(r: &mut Reader<'_>, wire: u16) -> Result<u64, DecodeError> {
    if wire >= VIEWS {
        r.u64_le()
    } else {
        Ok(UNKNOWN_VIEW)
    }
}
