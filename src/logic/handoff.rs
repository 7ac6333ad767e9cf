//! One part on its way to a new owner: copied piece by piece from one that serves it, then proven equal
//! with those that serve it, then served.
//!
//! Pure: the shell asks for pieces and compares trees. A transfer is never lost and never has to begin
//! again: how far it has come is written down behind the rows of every piece.

use std::collections::BTreeSet;

use super::membership::Part;
use super::placement::{Holders, NodeId};

/// How far the copying of a part has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The row to go on at.
    pub next: Vec<u8>,
    /// Whether there was nothing more.
    pub is_whole: bool,
    /// Rows taken in.
    pub rows: u64,
    /// Bytes taken in.
    pub bytes: u64,
    /// Pieces taken in.
    pub pieces: u64,
}

/// What a transfer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Others come first.
    Queued,
    /// It is being copied from a node.
    Copying(NodeId),
    /// It is being compared.
    Proving,
    /// It cannot go on.
    Waits(Why),
}

/// Why a transfer cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody who has it answers.
    NoSource,
    /// Too few answer of those whose copies count.
    Unproven {
        /// How many were compared.
        compared: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The other side said no, or broke off.
    Refused(String),
}

/// What it takes to prove a copy equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// With whom it is compared: those that answer.
    pub with: Vec<NodeId>,
    /// How many of them at least.
    pub needed: usize,
}

impl Proof {
    /// The proof of a part for node `me`: all that serve it and answer, and as many that every
    /// acknowledged write is among them. `w` is the least number of acknowledgements that its keys ask
    /// for.
    pub fn of(
        (part, w): (Part, u8),
        holders: &Holders,
        me: NodeId,
        answers: impl Fn(NodeId) -> bool,
    ) -> Self {
        let others: Vec<NodeId> = holders
            .serving
            .iter()
            .copied()
            .filter(|id| *id != me)
            .collect();
        let n = usize::from(part.0);
        let needed = if others.len() < holders.serving.len() {
            // This node is among them because nobody has the part: then everybody is needed.
            others.len()
        } else {
            let vacant = n.saturating_sub(others.len());
            let acknowledged = usize::from(w).saturating_sub(vacant).max(1);
            (others.len() + 1).saturating_sub(acknowledged)
        };
        Self {
            with: others.into_iter().filter(|id| answers(*id)).collect(),
            needed,
        }
    }

    /// Whether these comparisons are enough.
    pub fn is_met(&self, compared: &BTreeSet<NodeId>) -> bool {
        let with = self.with.iter();
        self.with.len() >= self.needed && with.clone().all(|id| compared.contains(id))
    }
}

/// From whom a part is copied: who gives it up first, so that the others' clients are spared; then by
/// partition, so that not all is asked of one node. `failed` says who did not do it lately.
pub fn source(
    partition: u16,
    holders: &Holders,
    me: NodeId,
    answers: impl Fn(NodeId) -> bool,
    failed: &BTreeSet<NodeId>,
) -> Option<NodeId> {
    let able = |id: &NodeId| *id != me && !holders.filling.contains(id) && answers(*id);
    let mut able: Vec<NodeId> = holders.all().filter(able).collect();
    if !able.is_empty() {
        let turn = usize::from(partition) % able.len();
        able.rotate_left(turn);
    }
    able.sort_by_key(|id| (failed.contains(id), holders.owners.contains(id)));
    able.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(raw: &[u64]) -> Vec<NodeId> {
        raw.iter().map(|id| NodeId(*id)).collect()
    }

    fn set(raw: &[u64]) -> BTreeSet<NodeId> {
        ids(raw).into_iter().collect()
    }

    /// 4 takes the place of 3.
    fn moving() -> Holders {
        Holders {
            serving: ids(&[1, 2, 3]),
            filling: ids(&[4]),
            owners: ids(&[1, 2, 4]),
            ..Holders::default()
        }
    }

    #[test]
    fn a_part_comes_from_who_gives_it_up_or_else_from_anybody_who_has_it() {
        let (me, nobody) = (NodeId(4), BTreeSet::new());
        let from = |partition, silent: u64, failed: &BTreeSet<NodeId>| {
            source(partition, &moving(), me, |id| id.0 != silent, failed)
        };
        assert_eq!(from(0, 9, &nobody), Some(NodeId(3)));
        assert_eq!(from(1, 9, &nobody), Some(NodeId(3)));
        assert_eq!(from(0, 3, &nobody), Some(NodeId(1)));
        assert_eq!(from(1, 3, &nobody), Some(NodeId(2)));
        assert_eq!(from(0, 9, &set(&[3])), Some(NodeId(1)));
        assert_eq!(source(0, &moving(), me, |_| false, &nobody), None);
    }

    #[test]
    fn a_proof_meets_every_acknowledged_write() {
        let me = NodeId(4);
        let proof = |w, silent: u64| Proof::of(((3, 0), w), &moving(), me, |id| id.0 != silent);
        let all = proof(2, 9);
        assert_eq!((all.with.len(), all.needed), (3, 2));
        assert!(!all.is_met(&set(&[1, 2])));
        assert!(all.is_met(&set(&[1, 2, 3])));
        let without_one = proof(2, 3);
        assert!(without_one.is_met(&set(&[1, 2])));
        // A write of one acknowledgement may be where nobody answers.
        assert!(!proof(1, 3).is_met(&set(&[1, 2])));
    }

    #[test]
    fn a_proof_needs_more_where_writes_need_fewer_and_never_itself() {
        let needed = |w| Proof::of(((3, 0), w), &moving(), NodeId(4), |_| true).needed;
        assert_eq!([1, 2, 3].map(needed), [3, 2, 1]);
        let among = Holders {
            serving: ids(&[1, 2, 4]),
            owners: ids(&[1, 2, 4]),
            ..Holders::default()
        };
        let proof = Proof::of(((3, 0), 2), &among, NodeId(4), |id| id.0 != 2);
        assert_eq!((proof.with.as_slice(), proof.needed), (&ids(&[1])[..], 2));
        let two_vacant = Holders {
            serving: ids(&[1]),
            ..Holders::default()
        };
        let needed = |w| Proof::of(((3, 0), w), &two_vacant, NodeId(4), |_| true).needed;
        assert_eq!([1, 2, 3].map(needed), [1, 1, 1]);
    }

    #[test]
    fn a_vacant_place_needs_no_proof_and_what_nobody_has_needs_everybody() {
        let vacant = Holders {
            serving: ids(&[1, 2]),
            filling: ids(&[4]),
            owners: ids(&[1, 2, 4]),
            ..Holders::default()
        };
        let proof = Proof::of(((3, 0), 2), &vacant, NodeId(4), |_| true);
        assert_eq!(proof.needed, 2);
        let lost = Holders {
            serving: ids(&[1, 2, 4]),
            owners: ids(&[1, 2, 4]),
            ..Holders::default()
        };
        let proof = Proof::of(((3, 0), 2), &lost, NodeId(4), |id| id.0 == 1);
        assert!(!proof.is_met(&set(&[1])));
        let alone = Holders {
            serving: ids(&[4]),
            owners: ids(&[4]),
            ..Holders::default()
        };
        assert!(Proof::of(((3, 0), 2), &alone, NodeId(4), |_| true).is_met(&set(&[])));
    }
}
