//! Quorums as values: what happens next in one read or write, given what has been answered.
//!
//! Pure: the shell sends what an [`Effect`] says and reports what came of it. Sloppy quorums (the
//! paper's §4.6): where an owner does not answer, the next member of the preference list takes its
//! place, with a hint.

mod group;
mod latency;
mod read;
mod rules;
mod write;

pub use group::Group;
pub use latency::Slowest;
pub use read::Read;
pub use rules::{OWN_KEYS, Rule, Rules};
pub use write::{Wanted, Write};

use super::placement::NodeId;

/// A node that holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub node: NodeId,
    /// Whether its copy counts for reads.
    pub serves: bool,
    /// Whether it counts for those who know more of a move, or less.
    pub elsewhere: bool,
    /// Whether it is to have every write: an old owner that does not count any more is not.
    pub stays: bool,
}

/// Who can be asked for one key, in rank order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The other nodes that hold it.
    pub holders: Vec<Holder>,
    /// What this node is to it; `None` for one that does not hold it: it stands in for somebody.
    pub here: Option<Holder>,
    /// How many copies count for reads; more than N when it cannot be told which N do.
    pub serving: usize,
    /// How many count for those who know more of a move, or less.
    pub elsewhere: usize,
    /// How many members could hold it.
    pub members: usize,
    /// Members after the holders, which answer now.
    pub fallbacks: Vec<NodeId>,
    /// Whether there are others, which do not.
    pub others: bool,
}

impl Targets {
    /// The other nodes whose copies count for reads.
    pub fn readable(&self) -> impl Iterator<Item = NodeId> {
        let serving = self.holders.iter().filter(|holder| holder.serves);
        serving.map(|holder| holder.node)
    }
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
    /// A read: enough have replied, and nobody knows any more what is looked for: it was flushed, has ended,
    /// or was handed on while they were asked one after the other.
    Gone,
    /// Fewer than wanted answered, and nobody is left to ask.
    Short {
        /// How many.
        answered: usize,
    },
    /// Enough answered, but none had seen what the client itself has written.
    Behind,
}

#[cfg(test)]
impl Targets {
    /// Of an owner whose copy counts, with others like it: nothing moves.
    fn of_owners(others: &[u64], fallbacks: &[u64]) -> Self {
        let holder = |id: u64| Holder {
            node: NodeId(id),
            serves: true,
            elsewhere: true,
            stays: true,
        };
        Self {
            holders: others.iter().map(|id| holder(*id)).collect(),
            here: Some(holder(1)),
            serving: others.len() + 1,
            elsewhere: others.len() + 1,
            members: 1 + others.len() + fallbacks.len(),
            fallbacks: fallbacks.iter().map(|id| NodeId(*id)).collect(),
            others: false,
        }
    }
}
