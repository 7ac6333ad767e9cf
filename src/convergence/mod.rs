//! Merkle anti-entropy (the paper's §4.7): two owners of a partition compare trees, walk down to what
//! differs, and join each other's objects there. The cost is proportional to what differs.
//!
//! Here is how one exchange goes, and what a node answers to another's. When exchanges happen is
//! `background`'s, who asks for one out of turn `command`'s. Everything that is moved is joined, so an
//! exchange that breaks off anywhere has done no harm, and the next one finds only the rest. What comes
//! to a new owner is copied first (`transfer`), and then compared like everything else.

mod answer;
mod compare;
mod exchange;
mod transfer;
mod transfers;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;

use crate::base::blocking::off_worker;
use crate::base::governor::Governor;
use crate::cluster::Cluster;
use crate::logic::placement::NodeId;
use crate::peer::CallError;
use crate::replica::{ENDING_MS, Replica, ReplicaError, Tombstones};

pub use compare::{Difference, Found, Held, Side};
pub use exchange::Exchanged;
pub use transfers::{Giving, Taking, Transfers};
pub use verify::{Differs, MOST_NAMED, Verified};

/// The deadline of one request of an exchange.
const WITHIN: Duration = Duration::from_secs(10);

/// Why an exchange broke off. What was moved until then stays.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// The other node did not answer.
    #[error("the other node: {0}")]
    Call(#[from] CallError),
    /// It did not want to.
    #[error("the other node: {0}")]
    Refused(String),
    /// It sent something else.
    #[error("the other node sent something that was not asked for")]
    Unexpected,
    /// It knows of changes in the membership that this node had not heard of.
    #[error("the membership has changed")]
    Outdated,
    /// This node's part failed.
    #[error(transparent)]
    Here(#[from] ReplicaError),
    /// This node's trees are being made again after an unclean stop.
    #[error("the trees are being made again after an unclean stop")]
    Counting,
    /// Something that was taken in was not stored.
    #[error("a write was not stored")]
    NotStored,
    /// The other node mends this one at the same time, and goes first.
    #[error("the other node exchanges with this one")]
    Yielded,
}

/// So often it is tried to learn what ends, beside writes.
const ATTEMPTS: usize = 3;

/// Counters for INFO.
#[derive(Debug, Default)]
pub struct Counters {
    /// Exchanges with another node that came to their end.
    pub completed: AtomicU64,
    /// Those that broke off.
    pub aborted: AtomicU64,
    /// Partitions that were compared.
    pub compared: AtomicU64,
    /// Those of them whose roots differed.
    pub differed: AtomicU64,
    /// Keys that differed at first and not a moment later.
    pub settled: AtomicU64,
    /// Objects taken in.
    pub received: AtomicU64,
    /// Objects sent.
    pub sent: AtomicU64,
    /// Bytes of objects in both directions.
    pub object_bytes: AtomicU64,
    /// Bytes of sums and lists of keys in both directions.
    pub tree_bytes: AtomicU64,
    /// Copies that belonged to others and for which hints were made again.
    pub strays: AtomicU64,
}

/// How anti-entropy stands, for INFO.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// With whom an exchange is under way.
    pub with: Option<NodeId>,
    /// When the last round ended in which all members took part, in milliseconds since the epoch.
    pub complete_ms: Option<u64>,
    /// What the last look at tombstones found.
    pub tombstones: Tombstones,
    /// Tombstones that were dropped since the start.
    pub dropped: u64,
}

/// One node's side of all exchanges.
pub struct Convergence {
    cluster: Arc<Cluster>,
    replica: Arc<Replica>,
    governor: Arc<Governor>,
    counters: Counters,
    standing: Mutex<Standing>,
    transfers: Transfers,
    /// With whom this node exchanges, and who of them has asked it to step back.
    under_way: Mutex<BTreeMap<NodeId, bool>>,
}

impl Convergence {
    /// A node's side.
    pub fn new(cluster: Arc<Cluster>, replica: Arc<Replica>, governor: Arc<Governor>) -> Self {
        Self {
            cluster,
            replica,
            governor,
            counters: Counters::default(),
            standing: Mutex::default(),
            transfers: Transfers::default(),
            under_way: Mutex::default(),
        }
    }

    /// Counters for INFO.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What this node takes over and gives up.
    pub fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// The view of the cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// This node's objects.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Who shares the machine between clients and background work.
    pub fn governor(&self) -> &Arc<Governor> {
        &self.governor
    }

    /// How anti-entropy stands.
    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// Changes what is shown of it.
    pub fn note(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing.lock());
    }

    /// The partitions whose keys this node holds, of keys with so many owners.
    pub fn held(&self, owners: u8) -> Vec<u16> {
        let me = self.cluster.me();
        self.partitions(|partition| self.cluster.holders((owners, partition)).has(me))
    }

    /// The partitions of whose keys this node and another have complete copies.
    pub fn shared_with(&self, owners: u8, other: NodeId) -> Vec<u16> {
        let me = self.cluster.me();
        self.partitions(|partition| {
            let part = (owners, partition);
            let holders = self.cluster.holders(part);
            let has_it = |id| holders.has(id) && self.cluster.has_part(id, part);
            has_it(me) && has_it(other)
        })
    }

    fn partitions(&self, wanted: impl Fn(u16) -> bool) -> Vec<u16> {
        let count = self.replica.partitions().count();
        (0..count).filter(|partition| wanted(*partition)).collect()
    }

    /// Has trees know what ends before an instant.
    async fn learn_ends(&self, as_of_ms: u64) -> Result<(), ExchangeError> {
        for _ in 0..ATTEMPTS {
            if self.replica.knows_ends(as_of_ms) {
                return Ok(());
            }
            self.replica.settled().await;
            let replica = Arc::clone(&self.replica);
            off_worker(move || replica.learn_ends(as_of_ms)).await?;
        }
        Err(ExchangeError::Counting)
    }

    /// This node's roots of some partitions as of an instant, all of them of whole trees.
    async fn own_roots(
        &self,
        owners: u8,
        partitions: &[u16],
        as_of_ms: u64,
    ) -> Result<Vec<u64>, ExchangeError> {
        self.learn_ends(as_of_ms).await?;
        let (replica, begun) = (&self.replica, self.replica.counts_begun());
        let roots = partitions.iter();
        let roots = roots.map(|partition| replica.root(owners, *partition, as_of_ms));
        let roots = roots.collect();
        // Trees that are made anew meanwhile say nothing.
        let are_whole = replica.is_counted() && replica.counts_begun() == begun;
        are_whole.then_some(roots).ok_or(ExchangeError::Counting)
    }

    /// What has ended before this instant may have been reclaimed here, or is about to be.
    fn as_of_ms(&self) -> u64 {
        let reclaimed_ms = self.replica.reclaims_before_ms().unwrap_or(0);
        (reclaimed_ms / ENDING_MS + 2) * ENDING_MS
    }
}
