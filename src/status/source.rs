//! What facts are read from: the parts of a node, borrowed for as long as one question takes.

use std::cell::OnceCell;

use super::stats::Stats;
use crate::base::config::Config;
use crate::base::governor::Governor;
use crate::base::resident_bytes;
use crate::convergence::{Convergence, Standing};
use crate::coordinator::Coordinator;
use crate::replica::Replica;
use crate::storage::Usage;

/// The parts of a node that facts are about.
pub struct Source<'a> {
    /// Its name for people.
    pub name: &'a str,
    /// A random name of this run.
    pub run_id: &'a str,
    /// The port that was bound for clients.
    pub port: u16,
    /// When the node started, in milliseconds since the epoch.
    pub started_ms: u64,
    /// Seconds since the epoch of the last SAVE.
    pub last_save: u64,
    /// Connections of clients.
    pub clients: usize,
    /// Those of them that wait for a key to get something.
    pub blocked_clients: usize,
    /// Channels, patterns and shard channels that clients of this node listen to.
    pub listened: [usize; 3],
    /// Clients of this node that are told of changes, keys that are remembered for them, for how many in all, and
    /// prefixes.
    pub tracked: [usize; 4],
    /// Bytes that live on this node, about.
    pub lives_bytes: u64,
    /// Keys that it evicted.
    pub evicted: u64,
    /// Scripts at hand, scripts that have run, and those of them that asked for keys elsewhere.
    pub scripts: [u64; 3],
    /// The directives.
    pub config: &'a Config,
    /// The data.
    pub replica: &'a Replica,
    /// What makes it a member of a cluster.
    pub coordinator: Option<&'a Coordinator>,
    /// How its copies converge with the other owners'.
    pub convergence: Option<&'a Convergence>,
    /// Who shares the machine between clients and background work.
    pub governor: &'a Governor,
    /// What is counted where commands run.
    pub stats: &'a Stats,
    /// What costs something to find is found once a question.
    pub found: Found,
}

/// What was found for one question.
#[derive(Default)]
pub struct Found {
    usage: OnceCell<Usage>,
    resident: OnceCell<u64>,
    standing: OnceCell<Option<Standing>>,
}

impl Source<'_> {
    /// What the store takes.
    pub fn usage(&self) -> &Usage {
        let usage = || self.replica.store().usage();
        self.found.usage.get_or_init(usage)
    }

    /// The process's memory, in bytes.
    pub fn resident(&self) -> u64 {
        *self.found.resident.get_or_init(resident_bytes)
    }

    /// Where the exchanges with other owners stand; `None` of a lone node.
    pub fn standing(&self) -> Option<&Standing> {
        let standing = || self.convergence.map(Convergence::standing);
        self.found.standing.get_or_init(standing).as_ref()
    }
}
