//! Reads and writes across the cluster: quorums, hints, read repair, forwarding.
//!
//! A thin shell around `logic::quorum`: it sends what an effect says and reports what came of it.
//! A command runs in one place, its coordinator, against the coordinator's own copy: before it, a
//! read quorum is joined into that copy where the command looks at it; after it, the delta goes to
//! the other owners.

mod forward;
mod read;
mod write;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::logic::placement::{NodeId, Partitions, slot_of};
use crate::replica::Replica;

pub use forward::Forwarded;

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
    /// A command over several coordinators was done by some of them.
    #[error("one part of the command failed, others have taken effect")]
    Partly,
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

/// What the coordinator is made of.
pub struct Coordinator {
    cluster: Arc<Cluster>,
    replica: Arc<Replica>,
    quorum: Quorum,
    within: Duration,
    /// Reads and writes that go on after their client was answered.
    tasks: Mutex<JoinSet<()>>,
}

impl Coordinator {
    /// A coordinator with this node's default quorum; `within` is the deadline of one request.
    pub fn new(
        cluster: Arc<Cluster>,
        replica: Arc<Replica>,
        quorum: Quorum,
        within: Duration,
    ) -> Self {
        Self {
            cluster,
            replica,
            quorum,
            within,
            tasks: Mutex::default(),
        }
    }

    /// The view of the cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The default quorum.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// The deadline of one request.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// The node that runs requests on a key.
    pub fn coordinator_of(&self, name: &[u8]) -> NodeId {
        self.cluster.coordinator(self.partition(name))
    }

    /// Whether so many members that could hold a key answer.
    ///
    /// # Errors
    /// [`QuorumError::Unreachable`] when not.
    pub fn check_reachable(&self, name: &[u8], wanted: u8) -> Result<(), QuorumError> {
        let (reachable, wanted) = (self.cluster.reachable(self.partition(name)), wanted.into());
        if reachable < wanted {
            Err(QuorumError::Unreachable { reachable, wanted })
        } else {
            Ok(())
        }
    }

    /// Ends what still goes on.
    pub fn close(&self) {
        self.tasks.lock().abort_all();
    }

    fn partitions(&self) -> Partitions {
        self.cluster.options().partitions
    }

    fn partition(&self, name: &[u8]) -> u16 {
        self.partitions().of(slot_of(name))
    }

    /// Lets something go on by itself.
    fn detach(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
