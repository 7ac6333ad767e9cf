//! What nodes say to each other, and its bytes.
//!
//! Requests and responses are types of the wire: domain types are turned into them and back by the
//! layers above. Numbers are varints, unknown kinds are an error, lengths are checked against what
//! has arrived. A new message gets a new kind; a kind's fields only ever grow at the end, under a
//! higher wire version. Two nodes speak the highest version that both know; this program writes and
//! reads the one before, too, so that a cluster can be upgraded one node after the other.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::logic::causal::{ActorId, Dot, Timestamp};
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::membership::{
    Digest, Member, Reply, decode_member, encode_member, encode_member_as_before,
};
use crate::logic::merkle::{FANOUT, Leaves, Node, Sums};
use crate::logic::placement::NodeId;

/// The oldest wire version that this program speaks.
pub const OLDEST: u16 = 2;
/// The newest one: views of the membership go along with requests, members say what they have, parts
/// are transferred.
pub const NEWEST: u16 = 3;
/// The view of who does not say what he knows.
pub const UNKNOWN_VIEW: u64 = u64::MAX;

/// Members or digests in one message.
const MAX_MEMBERS: usize = 16_384;

/// What one node asks another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A gossip round's first message.
    Gossip(Vec<Digest>),
    /// A gossip round's last message: what the other wanted.
    Push(Vec<Member>),
    /// A newcomer asks to be taken in.
    Join(Member),
    /// Joins an object (a state or a delta) into the receiver's copy of a key.
    Apply {
        /// Which key.
        key: WireKey,
        /// The object, as a row.
        object: Bytes,
        /// The owner for whom the receiver keeps it, when it is a fallback.
        hint_for: Option<NodeId>,
        /// Not where it would stand beside something that its writer has not seen.
        only_over_seen: bool,
        /// How the sender sees who holds the key: a fingerprint.
        view: u64,
    },
    /// Asks for the receiver's copy of a key.
    Fetch {
        /// Which key.
        key: WireKey,
        /// The digest of what the sender has: an equal copy need not be sent.
        digest: u64,
        /// What lives at the sender: it must hear what of that was overwritten.
        dots: Vec<Dot>,
        /// How the sender sees who holds the key: a fingerprint.
        view: u64,
    },
    /// A client's command, for its coordinator.
    Forward(Command),
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
    /// Asks a node that is alone to join the sender's cluster.
    Invite {
        /// The sender, as other nodes reach it.
        address: String,
    },
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
    /// The sender does background work: which share of the time does the receiver give it?
    Pace,
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
    /// Asks who the receiver is and whether it could join.
    Describe,
    /// Asks what the receiver transfers.
    Transfers,
    /// Asks an owner to mend a partition.
    Repair {
        /// Which.
        partition: u16,
    },
    /// Asks which writes the receiver holds.
    Holds {
        /// The writes, by database.
        writes: Vec<Wrote>,
        /// Whether only what is on the disk counts: the answer waits for that.
        synced: bool,
    },
}

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

/// A forwarded command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// How many joins and leaves the sender knows: who knows more decides where a key lives.
    pub events: u64,
    /// How often it may still be forwarded.
    pub hops: u8,
    /// The client's database.
    pub db: u8,
    /// The client's protocol, 2 or 3.
    pub protocol: u8,
    /// Replies that a read waits for; 0 for the receiver's default.
    pub r: u8,
    /// Acknowledgements that a write waits for; 0 for the receiver's default.
    pub w: u8,
    /// How long the sender waits, in milliseconds: a command that comes later must not run.
    pub patience_ms: u64,
    /// Its words, as [`put_words`] writes them; of a transaction, each command's.
    pub steps: SmallVec<[Bytes; 1]>,
    /// For a transaction: its watched keys, with what its client has seen of them.
    pub transaction: Option<Vec<(Bytes, Bytes)>>,
    /// What the client has written of its keys, by database: what the command must not miss.
    pub own: Vec<Wrote>,
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
}

impl Request {
    /// Whether the wire version before knew it.
    fn is_old(&self) -> bool {
        !matches!(
            self,
            Request::Chunk { .. } | Request::Sizes { .. } | Request::Describe | Request::Transfers
        )
    }

    /// The bytes of a request for a node that speaks an older version; `None` where it does not know it.
    pub(super) fn translate(raw: &[u8], wire: u16) -> Option<Vec<u8>> {
        let request = Self::decode(raw, NEWEST).ok()?;
        let mut out = Vec::new();
        request.encode(wire, &mut out);
        (wire >= NEWEST || request.is_old()).then_some(out)
    }

    /// Appends the kind and the fields, as a wire version has them.
    pub fn encode(&self, wire: u16, out: &mut Vec<u8>) {
        let says_view = wire >= NEWEST;
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
                out.push(6);
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
            3 => Request::Join(decode_member(r.bytes()?)?),
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
            6 => Request::Forward(read_command(&mut r)?),
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
            Response::Counts(counts) => {
                out.push(8);
                put_varint(out, counts.len() as u64);
                for count in counts {
                    put_varint(out, *count);
                }
            }
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
                put_bytes(out, next);
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
                put_bytes(out, next);
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
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(raw: &[u8], wire: u16) -> Result<Self, DecodeError> {
        let mut r = Reader(raw);
        let response = match r.u8()? {
            1 => Response::Done,
            2 => Response::Gossip(Reply {
                newer: read_members(&mut r)?,
                wanted: read_nodes(&mut r)?,
                digest: read_digest(&mut r, wire)?,
            }),
            3 => {
                let (cluster, members) = (r.u64_le()?, read_members(&mut r)?);
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
            8 => {
                let count = r.count(1)?;
                let counts: Result<_, _> = (0..count).map(|_| r.varint()).collect();
                Response::Counts(counts?)
            }
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
                    next: read_bytes(&mut r)?,
                    damaged: r.varint()?,
                }
            }
            16 => Response::Objects(read_objects(&mut r)?),
            18 => Response::Empty(read_bytes(&mut r)?),
            19 => Response::Outdated(read_members(&mut r)?),
            20 => Response::Chunk {
                objects: read_objects(&mut r)?,
                next: read_bytes(&mut r)?,
            },
            21 => {
                let count = r.count(2)?;
                let one = |_| Ok((r.varint()?, r.varint()?));
                let sizes: Result<_, DecodeError> = (0..count).map(one).collect();
                Response::Sizes(sizes?)
            }
            22 => Response::Described {
                member: Box::new(decode_member(r.bytes()?)?),
                reason: String::from_utf8_lossy(r.bytes()?).into_owned(),
            },
            23 => Response::Transfers(read_bytes(&mut r)?),
            17 => Response::Repaired {
                received: r.varint()?,
                sent: r.varint()?,
            },
            _ => return Err(DecodeError::Malformed),
        };
        finish(&r, response)
    }
}

/// A command's words: their number, then each with its length.
pub fn put_words<'a>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    put_varint(out, words.len() as u64);
    words.for_each(|word| put_bytes(out, word));
}

/// Where the words are in what [`put_words`] wrote.
pub fn find_words(raw: &[u8]) -> Result<impl Iterator<Item = Range<usize>>, DecodeError> {
    let mut r = Reader(raw);
    let count = r.count(1)?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let len = r.bytes()?.len();
        let end = raw.len() - r.0.len();
        ranges.push(end - len..end);
    }
    finish(&r, ranges.into_iter())
}

fn finish<T>(r: &Reader<'_>, message: T) -> Result<T, DecodeError> {
    if r.0.is_empty() {
        Ok(message)
    } else {
        Err(DecodeError::Malformed)
    }
}

fn put_key(out: &mut Vec<u8>, key: &WireKey) {
    out.push(key.db);
    put_bytes(out, &key.name);
}

fn read_key(r: &mut Reader<'_>) -> Result<WireKey, DecodeError> {
    Ok(WireKey {
        db: r.u8()?,
        name: read_bytes(r)?,
    })
}

fn put_dots(out: &mut Vec<u8>, dots: &[Dot]) {
    put_varint(out, dots.len() as u64);
    for dot in dots {
        out.extend_from_slice(&dot.actor.0.to_le_bytes());
        put_varint(out, dot.seq);
    }
}

fn read_dots(r: &mut Reader<'_>) -> Result<Vec<Dot>, DecodeError> {
    let count = r.count(9)?;
    let dot = |_| {
        Ok(Dot {
            actor: ActorId(r.u64_le()?),
            seq: r.varint()?,
        })
    };
    (0..count).map(dot).collect()
}

fn put_objects(out: &mut Vec<u8>, objects: &[(WireKey, Bytes)]) {
    put_varint(out, objects.len() as u64);
    for (key, object) in objects {
        put_key(out, key);
        put_bytes(out, object);
    }
}

fn read_objects(r: &mut Reader<'_>) -> Result<Vec<(WireKey, Bytes)>, DecodeError> {
    let count = r.count(3)?;
    (0..count)
        .map(|_| Ok((read_key(r)?, read_bytes(r)?)))
        .collect()
}

fn read_u16(r: &mut Reader<'_>) -> Result<u16, DecodeError> {
    u16::try_from(r.varint()?).map_err(|_| DecodeError::Malformed)
}

fn read_u32_le(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let raw = r.take(4)?.first_chunk().ok_or(DecodeError::Malformed)?;
    Ok(u32::from_le_bytes(*raw))
}

fn read_u32(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    u32::try_from(r.varint()?).map_err(|_| DecodeError::Malformed)
}

fn put_wrote(out: &mut Vec<u8>, dots: &[Wrote]) {
    put_varint(out, dots.len() as u64);
    for Wrote { db, name, dot, at } in dots {
        out.push(*db);
        put_bytes(out, name);
        out.extend_from_slice(&dot.actor.0.to_le_bytes());
        put_varint(out, dot.seq);
        out.extend_from_slice(&at.0.to_le_bytes());
    }
}

fn read_wrote(r: &mut Reader<'_>) -> Result<Vec<Wrote>, DecodeError> {
    let count = r.count(19)?;
    let one = |_| {
        let (db, name) = (r.u8()?, read_bytes(r)?);
        let (actor, seq) = (ActorId(r.u64_le()?), r.varint()?);
        Ok(Wrote {
            db,
            name,
            dot: Dot { actor, seq },
            at: Timestamp(r.u64_le()?),
        })
    };
    (0..count).map(one).collect()
}

/// Copied: a message's buffer must not be kept alive by one of its parts.
fn read_bytes(r: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    Ok(Bytes::copy_from_slice(r.bytes()?))
}

fn put_node(out: &mut Vec<u8>, node: Option<NodeId>) {
    out.push(u8::from(node.is_some()));
    if let Some(node) = node {
        out.extend_from_slice(&node.0.to_le_bytes());
    }
}

fn read_node(r: &mut Reader<'_>) -> Result<Option<NodeId>, DecodeError> {
    match r.u8()? {
        0 => Ok(None),
        1 => Ok(Some(NodeId(r.u64_le()?))),
        _ => Err(DecodeError::Malformed),
    }
}

fn read_nodes(r: &mut Reader<'_>) -> Result<Vec<NodeId>, DecodeError> {
    let count = r.count(8)?;
    (0..count).map(|_| Ok(NodeId(r.u64_le()?))).collect()
}

fn read_command(r: &mut Reader<'_>) -> Result<Command, DecodeError> {
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

fn put_digest(out: &mut Vec<u8>, digest: &[Digest], wire: u16) {
    put_varint(out, digest.len() as u64);
    for d in digest {
        out.extend_from_slice(&d.id.0.to_le_bytes());
        put_varint(out, d.incarnation);
        put_varint(out, d.version);
        put_varint(out, d.heartbeat);
        put_varint(out, d.joined);
        out.push(u8::from(d.left));
        if wire >= NEWEST {
            out.extend_from_slice(&d.facts.unwrap_or(0).to_le_bytes());
        }
    }
}

fn read_digest(r: &mut Reader<'_>, wire: u16) -> Result<Vec<Digest>, DecodeError> {
    let count = r.count(13)?;
    if count > MAX_MEMBERS {
        return Err(DecodeError::Malformed);
    }
    let one = |_| {
        Ok(Digest {
            id: NodeId(r.u64_le()?),
            incarnation: r.varint()?,
            version: r.varint()?,
            heartbeat: r.varint()?,
            joined: r.varint()?,
            left: r.u8()? != 0,
            facts: (wire >= NEWEST).then(|| read_u32_le(r)).transpose()?,
        })
    };
    (0..count).map(one).collect()
}

fn put_member(out: &mut Vec<u8>, member: &Member, wire: u16) {
    let raw = if wire >= NEWEST {
        encode_member(member)
    } else {
        encode_member_as_before(member)
    };
    put_bytes(out, &raw);
}

fn put_members(out: &mut Vec<u8>, members: &[Member], wire: u16) {
    put_varint(out, members.len() as u64);
    for member in members {
        put_member(out, member, wire);
    }
}

fn read_view(r: &mut Reader<'_>, wire: u16) -> Result<u64, DecodeError> {
    if wire >= NEWEST {
        r.u64_le()
    } else {
        Ok(UNKNOWN_VIEW)
    }
}

fn read_members(r: &mut Reader<'_>) -> Result<Vec<Member>, DecodeError> {
    let count = r.count(26)?;
    if count > MAX_MEMBERS {
        return Err(DecodeError::Malformed);
    }
    (0..count).map(|_| decode_member(r.bytes()?)).collect()
}
