//! Quorums as values: what happens next in one read or write, given what has been answered.
//!
//! Pure: the shell sends what an [`Effect`] says and reports what came of it. Sloppy quorums (the
//! paper's §4.6): where an owner does not answer, the next member of the preference list takes its
//! place, with a hint.

mod latency;
mod read;
mod rules;
mod write;

pub use latency::Slowest;
pub use read::Read;
pub use rules::{Rule, Rules};
pub use write::Write;

use super::placement::NodeId;

/// Who can be asked for one key, in rank order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The other owners.
    pub owners: Vec<NodeId>,
    /// Members after the owners, which answer now.
    pub fallbacks: Vec<NodeId>,
    /// Whether there are others, which do not.
    pub others: bool,
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask a node; a write carries the owner in whose place it stands.
    Ask {
        /// Whom.
        node: NodeId,
        /// For whom a fallback keeps it.
        hint_for: Option<NodeId>,
    },
    /// Nobody can take the owner's place: keep a hint here.
    KeepHint(NodeId),
    /// The client can be answered.
    Decide(Decision),
}

/// How a read or write ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Enough have answered.
    Met,
    /// Fewer than wanted answered, and nobody is left to ask.
    Short {
        /// How many.
        answered: usize,
    },
    /// Enough answered, but none had seen what the client himself has written.
    Behind,
}
