//! What a node answers.

use bytes::Bytes;

use super::fields::{
    finish, put_digest, put_dots, put_key, put_member, put_members, put_objects, put_place,
    put_wrote, read_bytes, read_digest, read_dots, read_key, read_member, read_members, read_nodes,
    read_objects, read_place, read_wrote,
};
use super::version::DOUBTS;
use super::wire::{WireKey, WireListed, Wrote};
use crate::logic::causal::ActorId;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::membership::{Member, Reply};
use crate::logic::merkle::{FANOUT, Sums};

/// The kind of an answer with exceptions.
const EACH: u8 = 26;

/// Why a request was not followed. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The asker is not known, or the node is not ready.
    NotHere,
    /// The disk is full.
    Full,
    /// Too many requests are being answered.
    Busy,
    /// It came when nobody waited for it any more.
    TooLate,
}

impl WhyNot {
    /// In words, for nodes that know nothing else.
    pub fn words(self) -> &'static str {
        match self {
            WhyNot::NotHere => "the node does not take this request",
            WhyNot::Full => "the disk is full",
            WhyNot::Busy => "the node has too much to do",
            WhyNot::TooLate => "the request came too late",
        }
    }
}

/// What the other node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Done, and stored where something was to be stored.
    Done,
    /// A gossip round's second message.
    Gossip(Reply),
    /// The cluster's members and its id, for a newcomer.
    Welcome {
        /// The cluster.
        cluster: u64,
        /// Everybody.
        members: Vec<Member>,
    },
    /// A forwarded command was not run, or a write not taken.
    NotRun(WhyNot),
    /// Whether a write was stored is not known.
    InDoubt,
    /// The copy is equal to the sender's.
    Same,
    /// The copy, as a row.
    Object(Bytes),
    /// A forwarded command has run.
    Reply {
        /// The reply, in the client's protocol.
        reply: Bytes,
        /// What it has written, by database.
        wrote: Vec<Wrote>,
    },
    /// A context.
    Context(Bytes),
    /// Numbers by partition.
    Counts(Vec<u64>),
    /// A page of keys.
    Keys {
        /// Where to go on; 0 when everything was seen.
        next: u64,
        /// Keys with their place in the order of cursors.
        keys: Vec<(u64, Bytes)>,
    },
    /// What a run has written.
    Written {
        /// The run.
        actor: ActorId,
        /// Its last write.
        seq: u64,
        /// The time there, in milliseconds since the epoch.
        now_ms: u64,
        /// A fingerprint of who owns what and who runs, as it sees them.
        view: u64,
        /// By the number of owners of keys: the partitions of which it may hold something that an owner
        /// lacks, as in `Roots`.
        partitions: Vec<(u8, Bytes)>,
    },
    /// The sums of trees.
    Roots {
        /// What has ended before does not count; not earlier than what was asked for.
        as_of_ms: u64,
        /// In the order of partitions.
        roots: Vec<u64>,
    },
    /// The sums of nodes' children.
    Sums(Vec<Sums>),
    /// A page of keys, in the order of rows.
    Listing {
        /// The keys.
        keys: Vec<WireListed>,
        /// The row to go on at; empty when that was all.
        next: Bytes,
        /// Rows that could not be read.
        damaged: u64,
    },
    /// Keys with their objects, as far as they fit; what was not there is left out.
    Objects(Vec<(WireKey, Bytes)>),
    /// How many objects were mended.
    Repaired {
        /// Received by the owner that was asked.
        received: u64,
        /// Sent by it.
        sent: u64,
    },
    /// What is left of the copy (nothing, where it is not there): the receiver came to own it a moment ago, or
    /// has lost its disk; it does not count as a reply.
    Empty(Bytes),
    /// A piece of a part.
    Chunk {
        /// Keys with their objects, as rows.
        objects: Vec<(WireKey, Bytes)>,
        /// The row to go on at; empty when that was all.
        next: Bytes,
    },
    /// For each partition its rows, and about how many bytes they have.
    Sizes(Vec<(u64, u64)>),
    /// Who a node is.
    Described {
        /// It.
        member: Box<Member>,
        /// Why it cannot join another cluster; empty when it can.
        reason: String,
    },
    /// What a node transfers, as JSON.
    Transfers(Bytes),
    /// Not done: the sender does not know what has changed in the membership.
    Outdated(Vec<Member>),
    /// Not done, and nothing was stored.
    Refused(String),
    /// Not stored: this copy, as a row, holds what the writer has not seen.
    Unseen(Bytes),
    /// Of what was asked for together all was done but these, by number.
    Each(Vec<(u64, Response)>),
}

impl Response {
    /// Appends the kind and the fields, as a wire version has them.
    pub fn encode(&self, wire: u16, out: &mut Vec<u8>) {
        match self {
            Response::Done => out.push(1),
            Response::Gossip(reply) => {
                out.push(2);
                put_members(out, &reply.newer, wire);
                put_varint(out, reply.wanted.len() as u64);
                for id in &reply.wanted {
                    out.extend_from_slice(&id.0.to_le_bytes());
                }
                put_digest(out, &reply.digest, wire);
            }
            Response::Welcome { cluster, members } => {
                out.push(3);
                out.extend_from_slice(&cluster.to_le_bytes());
                put_members(out, members, wire);
                // To an older node: the cluster holds something, compare before you count.
                out.push(1);
            }
            Response::NotRun(why) if wire >= DOUBTS => out.extend_from_slice(&[24, *why as u8]),
            Response::InDoubt if wire >= DOUBTS => out.push(25),
            Response::NotRun(why) => Response::Refused(why.words().into()).encode(wire, out),
            Response::InDoubt => {
                Response::Refused("whether it was stored is not known".into()).encode(wire, out);
            }
            Response::Same => out.push(4),
            Response::Object(object) => {
                out.push(5);
                put_bytes(out, object);
            }
            Response::Reply { reply, wrote } => {
                out.push(6);
                put_bytes(out, reply);
                put_wrote(out, wrote);
            }
            Response::Context(context) => {
                out.push(7);
                put_bytes(out, context);
            }
            Response::Counts(counts) => put_counts(out, counts),
            Response::Keys { next, keys } => {
                out.push(9);
                put_varint(out, *next);
                put_varint(out, keys.len() as u64);
                for (place, key) in keys {
                    put_varint(out, *place);
                    put_bytes(out, key);
                }
            }
            Response::Refused(reason) => {
                out.push(10);
                put_bytes(out, reason.as_bytes());
            }
            Response::Unseen(object) => {
                out.push(11);
                put_bytes(out, object);
            }
            Response::Written {
                actor,
                seq,
                now_ms,
                view,
                partitions,
            } => {
                out.push(12);
                out.extend_from_slice(&actor.0.to_le_bytes());
                put_varint(out, *seq);
                put_varint(out, *now_ms);
                out.extend_from_slice(&view.to_le_bytes());
                put_varint(out, partitions.len() as u64);
                for (owners, partitions) in partitions {
                    out.push(*owners);
                    put_bytes(out, partitions);
                }
            }
            Response::Roots { as_of_ms, roots } => {
                out.push(13);
                put_varint(out, *as_of_ms);
                put_varint(out, roots.len() as u64);
                for root in roots {
                    out.extend_from_slice(&root.to_le_bytes());
                }
            }
            Response::Sums(nodes) => {
                out.push(14);
                put_varint(out, nodes.len() as u64);
                for sum in nodes.iter().flatten() {
                    out.extend_from_slice(&sum.to_le_bytes());
                }
            }
            Response::Listing {
                keys,
                next,
                damaged,
            } => {
                out.push(15);
                put_varint(out, keys.len() as u64);
                for WireListed { key, digest, dots } in keys {
                    put_key(out, key);
                    out.extend_from_slice(&digest.to_le_bytes());
                    put_dots(out, dots);
                }
                put_place(out, next, wire);
                put_varint(out, *damaged);
            }
            Response::Objects(objects) => {
                out.push(16);
                put_objects(out, objects);
            }
            Response::Outdated(members) => {
                out.push(19);
                put_members(out, members, wire);
            }
            Response::Chunk { objects, next } => {
                out.push(20);
                put_objects(out, objects);
                put_place(out, next, wire);
            }
            Response::Sizes(sizes) => {
                out.push(21);
                put_varint(out, sizes.len() as u64);
                for (rows, bytes) in sizes {
                    put_varint(out, *rows);
                    put_varint(out, *bytes);
                }
            }
            Response::Described { member, reason } => {
                out.push(22);
                put_member(out, member, wire);
                put_bytes(out, reason.as_bytes());
            }
            Response::Transfers(lines) => {
                out.push(23);
                put_bytes(out, lines);
            }
            Response::Empty(object) => {
                out.push(18);
                put_bytes(out, object);
            }
            Response::Repaired { received, sent } => {
                out.push(17);
                put_varint(out, *received);
                put_varint(out, *sent);
            }
            Response::Each(exceptions) => put_each(out, exceptions, wire),
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(raw: &[u8], wire: u16) -> Result<Self, DecodeError> {
        let mut r = Reader(raw);
        let response = match r.u8()? {
            1 => Response::Done,
            2 => Response::Gossip(Reply {
                newer: read_members(&mut r, wire)?,
                wanted: read_nodes(&mut r)?,
                digest: read_digest(&mut r, wire)?,
            }),
            3 => {
                let (cluster, members) = (r.u64_le()?, read_members(&mut r, wire)?);
                // Whether the cluster holds something, as an older node sees it.
                r.u8()?;
                Response::Welcome { cluster, members }
            }
            4 => Response::Same,
            5 => Response::Object(read_bytes(&mut r)?),
            6 => Response::Reply {
                reply: read_bytes(&mut r)?,
                wrote: read_wrote(&mut r)?,
            },
            7 => Response::Context(read_bytes(&mut r)?),
            8 => Response::Counts(read_counts(&mut r)?),
            9 => {
                let next = r.varint()?;
                let count = r.count(2)?;
                let key = |_| Ok((r.varint()?, read_bytes(&mut r)?));
                let keys: Result<_, DecodeError> = (0..count).map(key).collect();
                Response::Keys { next, keys: keys? }
            }
            10 => Response::Refused(String::from_utf8_lossy(r.bytes()?).into_owned()),
            11 => Response::Unseen(read_bytes(&mut r)?),
            12 => Response::Written {
                actor: ActorId(r.u64_le()?),
                seq: r.varint()?,
                now_ms: r.varint()?,
                view: r.u64_le()?,
                partitions: {
                    let count = r.count(2)?;
                    let one = |_| Ok((r.u8()?, read_bytes(&mut r)?));
                    let all: Result<_, DecodeError> = (0..count).map(one).collect();
                    all?
                },
            },
            13 => {
                let (as_of_ms, count) = (r.varint()?, r.count(8)?);
                let roots: Result<_, _> = (0..count).map(|_| r.u64_le()).collect();
                Response::Roots {
                    as_of_ms,
                    roots: roots?,
                }
            }
            14 => {
                let count = r.count(8 * FANOUT)?;
                let mut nodes = Vec::with_capacity(count);
                for _ in 0..count {
                    let mut sums = Sums::default();
                    for sum in &mut sums {
                        *sum = r.u64_le()?;
                    }
                    nodes.push(sums);
                }
                Response::Sums(nodes)
            }
            15 => {
                let count = r.count(11)?;
                let listed = |_| {
                    Ok(WireListed {
                        key: read_key(&mut r)?,
                        digest: r.u64_le()?,
                        dots: read_dots(&mut r)?,
                    })
                };
                let keys: Result<_, DecodeError> = (0..count).map(listed).collect();
                Response::Listing {
                    keys: keys?,
                    next: read_place(&mut r, wire)?,
                    damaged: r.varint()?,
                }
            }
            16 => Response::Objects(read_objects(&mut r)?),
            18 => Response::Empty(read_bytes(&mut r)?),
            19 => Response::Outdated(read_members(&mut r, wire)?),
            20 => Response::Chunk {
                objects: read_objects(&mut r)?,
                next: read_place(&mut r, wire)?,
            },
            21 => {
                let count = r.count(2)?;
                let one = |_| Ok((r.varint()?, r.varint()?));
                let sizes: Result<_, DecodeError> = (0..count).map(one).collect();
                Response::Sizes(sizes?)
            }
            22 => Response::Described {
                member: Box::new(read_member(&mut r, wire)?),
                reason: String::from_utf8_lossy(r.bytes()?).into_owned(),
            },
            23 => Response::Transfers(read_bytes(&mut r)?),
            24 => Response::NotRun(match r.u8()? {
                0 => WhyNot::NotHere,
                1 => WhyNot::Full,
                2 => WhyNot::Busy,
                3 => WhyNot::TooLate,
                _ => return Err(DecodeError::Malformed),
            }),
            25 => Response::InDoubt,
            EACH => Response::Each(read_each(&mut r, wire)?),
            17 => Response::Repaired {
                received: r.varint()?,
                sent: r.varint()?,
            },
            _ => return Err(DecodeError::Malformed),
        };
        finish(&r, response)
    }
}

fn put_counts(out: &mut Vec<u8>, counts: &[u64]) {
    out.push(8);
    put_varint(out, counts.len() as u64);
    for count in counts {
        put_varint(out, *count);
    }
}

fn read_counts(r: &mut Reader<'_>) -> Result<Vec<u64>, DecodeError> {
    let count = r.count(1)?;
    (0..count).map(|_| r.varint()).collect()
}

fn put_each(out: &mut Vec<u8>, exceptions: &[(u64, Response)], wire: u16) {
    out.push(EACH);
    put_varint(out, exceptions.len() as u64);
    for (nth, response) in exceptions {
        put_varint(out, *nth);
        let mut one = Vec::new();
        response.encode(wire, &mut one);
        put_bytes(out, &one);
    }
}

/// One answer has none with exceptions in it.
fn read_each(r: &mut Reader<'_>, wire: u16) -> Result<Vec<(u64, Response)>, DecodeError> {
    let count = r.count(3)?;
    let one = |_| {
        let (nth, raw) = (r.varint()?, r.bytes()?);
        if raw.first() == Some(&EACH) {
            return Err(DecodeError::Malformed);
        }
        Ok((nth, Response::decode(raw, wire)?))
    };
    (0..count).map(one).collect()
}
