//! For whom a command runs, and what else its connection has under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::own::Own;
use crate::base::numbers::{NumberMap, NumberSet};
use crate::coordinator::Asked;
use crate::logic::causal::Timestamp;
use crate::logic::placement::NodeId;
use crate::resp::Protocol;

/// How often a command is handed on before somebody has to run it.
pub const MAX_HOPS: u8 = 3;

/// For whom a command runs.
#[derive(Clone, Debug)]
pub struct Who {
    /// The selected database.
    pub db: u8,
    /// In which protocol the reply is written.
    pub protocol: Protocol,
    /// What the client asked for with CLIENT QUORUM; else what holds for the key.
    pub quorum: Asked,
    /// How often the command may still be handed on.
    pub hops: u8,
    /// What its connection has written lately.
    pub own: Arc<Own>,
    /// When the node that sent the command gives up: then it must not run any more.
    pub until: Option<Instant>,
    /// Its place among its connection's commands.
    pub place: Place,
    /// When the command was sent first, where it may have run then.
    pub since: Option<Timestamp>,
}

impl Who {
    /// A client of this node.
    pub fn of(db: u8, protocol: Protocol, quorum: Asked, own: &Arc<Own>) -> Self {
        Self {
            db,
            protocol,
            quorum,
            hops: MAX_HOPS,
            own: Arc::clone(own),
            until: None,
            place: Place::default(),
            since: None,
        }
    }

    /// How long it still waits, at most so long.
    pub(super) fn patience(&self, most: Duration) -> Duration {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.until.map_or(most, |until| left(until).min(most))
    }
}

/// The keys of a connection's commands that have begun, as far as these do not take turns in the
/// lanes of this node.
#[derive(Debug, Default)]
pub struct UnderWay {
    /// Keys that this node reads by itself though another coordinates them.
    pub(super) read_here: NumberSet,
    /// Keys whose commands went to another node.
    pub(super) elsewhere: NumberMap<Elsewhere>,
    begun: u64,
}

#[derive(Debug)]
pub(super) struct Elsewhere {
    pub(super) node: NodeId,
    written: bool,
    /// The latest of these commands: an earlier one must not be repeated.
    latest: Arc<AtomicU64>,
}

/// A command's place among those of its connection on the same keys.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Whether a write of one of the keys is under way before it.
    pub(super) follows_a_write: bool,
    nth: u64,
    latest: SmallVec<[Arc<AtomicU64>; 1]>,
}

impl Place {
    /// Whether no later command on one of the keys has begun.
    pub(super) fn is_last(&self) -> bool {
        let latest = |of: &Arc<AtomicU64>| of.load(Ordering::Relaxed);
        self.latest.iter().all(|of| latest(of) == self.nth)
    }
}

impl UnderWay {
    /// All replies are there.
    pub fn clear(&mut self) {
        self.read_here.clear();
        self.elsewhere.clear();
    }

    /// Whether a write of a key is under way at another node.
    pub(super) fn is_written_elsewhere(&self, hash: u64) -> bool {
        let elsewhere = self.elsewhere.get(&hash);
        elsewhere.is_some_and(|elsewhere| elsewhere.written)
    }

    /// A command begins of which others than this node coordinate some keys.
    pub(super) fn begin(
        &mut self,
        keys: impl Iterator<Item = (u64, NodeId)>,
        written: bool,
    ) -> Place {
        self.begun += 1;
        let mut place = Place {
            follows_a_write: false,
            nth: self.begun,
            latest: SmallVec::new(),
        };
        for (hash, node) in keys {
            let elsewhere = self.elsewhere.entry(hash).or_insert_with(|| Elsewhere {
                node,
                written: false,
                latest: Arc::default(),
            });
            place.follows_a_write |= elsewhere.written;
            elsewhere.written |= written;
            elsewhere.latest.store(self.begun, Ordering::Relaxed);
            place.latest.push(Arc::clone(&elsewhere.latest));
        }
        place
    }
}
