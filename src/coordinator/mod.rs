//! Reads and writes across the cluster: quorums, hints, read repair, forwarding.
//!
//! A thin shell around `logic::quorum`: it sends what an effect says and reports what came of it.
//! A command runs in one place, its coordinator, against the coordinator's own copy: before it, a
//! read quorum is joined into that copy where the command looks at it; after it, the delta goes to
//! the other owners.

mod forward;
mod group;
mod grouped;
mod read;
mod sending;
mod take;
mod terms;
mod watched;
mod write;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::cluster::Cluster;
use crate::logic::placement::NodeId;
use crate::logic::quorum::Rule;
use crate::peer::CallError;
use crate::peer::message::Response;
use crate::replica::Replica;

pub use forward::{Forwarded, Repeats};
pub use sending::Here;
pub use terms::Wait;
pub use write::Replicating;

/// A read or write begins again so often when the membership has changed: several changes may come one
/// after the other.
const MOST_AGAIN: u8 = 16;

/// Why a quorum was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuorumError {
    /// Too few members answer. Nothing was stored.
    #[error("only {reachable} of {wanted} replicas are reachable, nothing was stored")]
    Unreachable {
        /// How many answer.
        reachable: usize,
        /// How many are wanted.
        wanted: usize,
    },
    /// This node could not store it, and nobody else has taken it. Nothing was stored.
    #[error("no replica could store it, nothing was stored")]
    NotStored,
    /// Too few acknowledged in time. The write is not rolled back and may still reach the others.
    #[error("stored={stored} of {wanted}: the write may still take effect")]
    WriteShort {
        /// How many have it.
        stored: usize,
        /// How many are wanted.
        wanted: usize,
    },
    /// Too few replied in time. Nothing was changed.
    #[error("{replied} of {wanted} replicas replied")]
    ReadShort {
        /// How many replied.
        replied: usize,
        /// How many are wanted.
        wanted: usize,
    },
    /// Enough replied, but nobody who answers has what this connection has written. Nothing was
    /// changed.
    #[error("no replica that answers has this connection's own last write")]
    Behind,
    /// Nobody has a complete copy of the key's partition any more. Nothing was changed.
    #[error(
        "every complete copy of the key's partition was lost, see 'ringwood cluster accept-loss'"
    )]
    Lost,
    /// A command over several coordinators was done by some of them.
    #[error("one part of the command failed, others have taken effect")]
    Partly,
    /// The command came to its coordinator when nobody waited for it any more. Nothing was done.
    #[error("the command took too long to come here, nothing was done")]
    TooLate,
    /// The command is too long for another node, or too much waits for it. Nothing was stored.
    #[error(
        "the command cannot be sent to its coordinator: too much is to be sent, nothing was stored"
    )]
    TooMuch,
    /// The coordinator went away, and a later command of the connection has begun. Nothing was done.
    #[error("the coordinator went away before it had the command, nothing was done")]
    NotSent,
    /// The coordinator did not answer a read. Nothing was changed.
    #[error("the coordinator did not answer, nothing was changed")]
    NoAnswer,
    /// The coordinator has too many commands of others to run. Nothing was done.
    #[error("the node that coordinates the key has too much to do, nothing was done")]
    Busy,
    /// The coordinator went away while it had the write.
    #[error("the coordinator did not answer: the write may have taken effect")]
    CoordinatorLost,
}

/// How many copies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Replies that a read waits for.
    pub r: u8,
    /// Acknowledgements that a write waits for.
    pub w: u8,
}

/// What a client asks for instead of what holds for the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Replies that a read waits for.
    pub r: Option<u8>,
    /// Acknowledgements that a write waits for.
    pub w: Option<u8>,
}

/// How a coordinator does its work, where nothing else is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The deadline of one request.
    pub within: Duration,
    /// Of a hundred reads so many compare the copies of all owners, not only those they wait for.
    pub read_repair_chance: u8,
}

/// What the coordinator is made of.
pub struct Coordinator {
    cluster: Arc<Cluster>,
    replica: Arc<Replica>,
    options: Options,
    watched: watched::Watched,
    turn: group::Turn,
    counters: Counters,
}

/// Counters for INFO.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commands that were sent to the node that coordinates them.
    pub forwarded: AtomicU64,
    /// Reads that looked at other nodes' copies, or might have.
    pub reads: AtomicU64,
    /// Reads that asked one more owner because the first were slow.
    pub hedged_reads: AtomicU64,
    /// Copies that a read found stale and sent the newer object to.
    pub read_repairs: AtomicU64,
    /// Blind writes that met what they had not seen, and were written again over it.
    pub rewrites: AtomicU64,
    /// Messages with the writes of a turn.
    pub groups: AtomicU64,
    /// Writes that went in these.
    pub writes_grouped: AtomicU64,
    /// Writes of these that went on by themselves: they wait for the disk here, or something was wrong.
    pub writes_out: AtomicU64,
    /// Writes that went by themselves from the start: a long one, one of a key that another node coordinates, or of
    /// which an owner does not answer, has no room, is older, knows less, or is about to change.
    pub writes_alone: AtomicU64,
    /// Writes for which another had looked at the other owners' copies.
    pub looks_shared: AtomicU64,
}

impl Coordinator {
    /// A coordinator of one node.
    pub fn new(cluster: Arc<Cluster>, replica: Arc<Replica>, options: Options) -> Self {
        Self {
            cluster,
            replica,
            options,
            watched: watched::Watched::default(),
            turn: group::Turn::default(),
            counters: Counters::default(),
        }
    }

    /// Counters for INFO.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The view of the cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// How many copies of a key count; a client cannot ask for more than there are.
    pub fn quorum_of(&self, name: &[u8], asked: Asked) -> Quorum {
        let Rule { n, r, w, .. } = self.cluster.options().rules.of(name);
        Quorum {
            r: asked.r.unwrap_or(r).min(n),
            w: asked.w.unwrap_or(w).min(n),
        }
    }

    /// The deadline of one request.
    pub fn within(&self) -> Duration {
        self.options.within
    }

    /// The node that runs requests on a key.
    pub fn coordinator_of(&self, name: &[u8]) -> NodeId {
        self.note_room();
        self.cluster.coordinator(self.cluster.route(name).partition)
    }

    /// Whether this node's own disk has no room counts when a coordinator is chosen.
    fn note_room(&self) {
        self.cluster
            .note_full_here(self.replica.store().refuses_growth());
    }

    /// Whether this node holds a key.
    pub fn holds(&self, name: &[u8]) -> bool {
        self.cluster.holds(self.cluster.route(name))
    }

    /// Whether this node runs requests on a key.
    pub fn coordinates(&self, name: &[u8]) -> bool {
        self.coordinator_of(name) == self.cluster.me()
    }

    /// How many of those that serve a key answer.
    pub fn answering_owners(&self, name: &[u8]) -> u8 {
        let holders = self.cluster.holders(self.cluster.route(name).part());
        let answering = holders.serving.iter();
        answering.filter(|id| self.cluster.answers(**id)).count() as u8
    }

    /// Whether any node that serves a key may read it though another coordinates it: any R of them
    /// include one that has acknowledged the last write.
    pub fn anybody_may_read(&self, name: &[u8], asked: Asked) -> bool {
        let rule = self.cluster.route(name).rule;
        let Quorum { r, w } = self.quorum_of(name, asked);
        r + w.min(rule.w) > rule.n
    }

    /// Another node than this one and the coordinator, in this node's zone, that may.
    pub fn near_reader(&self, name: &[u8], asked: Asked) -> Option<NodeId> {
        if !self.cluster.has_zones() || !self.anybody_may_read(name, asked) {
            return None;
        }
        let route = self.cluster.route(name);
        let near = self.cluster.nearest(route)?;
        let others = [self.cluster.me(), self.cluster.coordinator(route.partition)];
        (!others.contains(&near)).then_some(near)
    }

    /// Another node than this one and the one that was asked that serves a key, and answers.
    pub fn other_reader(&self, name: &[u8], asked: NodeId) -> Option<NodeId> {
        let holders = self.cluster.holders(self.cluster.route(name).part());
        let not = [self.cluster.me(), asked];
        let mut serving = holders.serving.iter().copied();
        serving.find(|id| {
            !not.contains(id) && self.cluster.answers(*id) && !self.cluster.seems_empty(*id)
        })
    }

    /// Whether this node may.
    pub fn may_read(&self, name: &[u8], asked: Asked) -> bool {
        // What a read finds has to be stored.
        self.note_room();
        self.could_read(name, asked) && self.cluster.takes_writes(self.cluster.me())
    }

    /// Whether this node may, whatever room it has: another one has sent the read here.
    pub fn could_read(&self, name: &[u8], asked: Asked) -> bool {
        self.anybody_may_read(name, asked) && self.cluster.serves(self.cluster.route(name))
    }

    /// Whether any two writes of a key have an owner in common: the later one meets the earlier.
    pub fn writes_meet(&self, name: &[u8], asked: Asked) -> bool {
        let Rule { n, w, .. } = self.cluster.options().rules.of(name);
        2 * self.quorum_of(name, asked).w.min(w) > n
    }

    /// Whether only owners count for a key.
    pub fn is_strict(&self, name: &[u8]) -> bool {
        self.cluster.options().rules.of(name).strict
    }

    /// Whether so many members that could hold a key answer, and have room for it if it `grows`.
    ///
    /// # Errors
    /// [`QuorumError::Unreachable`] when fewer answer, [`QuorumError::NotStored`] when all they lack is room.
    pub fn check_reachable(&self, name: &[u8], wanted: u8, grows: bool) -> Result<(), QuorumError> {
        // Of a cluster with fewer members all are enough.
        let wanted = usize::from(wanted).min(self.cluster.could_hold().max(1));
        let reachable = self.cluster.reachable(self.cluster.route(name), wanted);
        if reachable.answering < wanted {
            let reachable = reachable.answering;
            return Err(QuorumError::Unreachable { reachable, wanted });
        }
        // It is no fault of the network where all that is missing is room.
        if grows && reachable.with_room < wanted {
            return Err(QuorumError::NotStored);
        }
        Ok(())
    }

    /// Asks another node within the deadline.
    fn ask(
        &self,
        node: NodeId,
        body: Bytes,
        done: impl FnOnce(Result<Response, CallError>) + Send + 'static,
    ) {
        let peers = self.cluster.peers();
        peers.ask(node, body, self.options.within, Box::new(done));
    }
}
