//! What nodes say to each other, and its bytes.
//!
//! Requests and responses are types of the wire: domain types are turned into them and back by the
//! layers above. Numbers are varints, unknown kinds are an error, lengths are checked against what
//! has arrived. A new message gets a new kind; a kind's fields only ever grow at the end, under a
//! higher wire version. Two nodes speak the highest version that both know; this program writes and
//! reads the one before, too, so that a cluster can be upgraded one node after the other.

mod fields;
mod request;
mod response;

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use self::fields::finish;
use crate::logic::causal::{ActorId, Dot, Timestamp};
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::membership::{Digest, Member, Reply};
use crate::logic::merkle::{Leaves, Node, Sums};
use crate::logic::placement::NodeId;

/// The oldest wire version that this program speaks.
pub const OLDEST: u16 = 2;
/// Since this one views of the membership go along with requests, members say what they have, parts are
/// transferred.
const VIEWS: u16 = 3;
/// Since this one who does not run a command, or does not know whether a write is stored, says so, and
/// rows have contributions and expiries of their own.
const DOUBTS: u16 = 4;
/// The newest one: members say which parts were lost, requests what their sender has heard.
pub const NEWEST: u16 = 5;
/// Since when requests say what their sender has heard.
pub(super) const HEARD: u16 = 5;
/// Since when members say which parts were lost.
const LOSSES: u16 = 5;
/// The view of who does not say what he knows.
pub const UNKNOWN_VIEW: u64 = u64::MAX;

/// Members or digests in one message.
const MAX_MEMBERS: usize = 16_384;

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

/// What one node asks another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A gossip round's first message.
    Gossip(Vec<Digest>),
    /// A gossip round's last message: what the other wanted.
    Push(Vec<Member>),
    /// A newcomer asks to be taken in.
    Join(Box<Member>),
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
    /// When the command was sent first, where it may have run then: it must not overwrite what came
    /// later.
    pub since: Option<Timestamp>,
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
