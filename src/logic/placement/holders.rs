//! Who holds a part while it moves, and whose copies count.
//!
//! The table says who shall own a part. A copy counts for reads when it is complete, which its holder
//! says of itself. As long as a new owner's copy is not, an old owner whose copy is serves in its
//! place; writes go to both. So a part is served by the old owners until the new ones have proven
//! equal, one place at a time, however many changes come at once and in whatever order they are heard.

use super::{NodeId, sort_by_rank};

/// Who holds a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Whose copies count for reads, the coordinator first; at most N.
    pub serving: Vec<NodeId>,
    /// Owners whose copies are not complete yet.
    pub filling: Vec<NodeId>,
    /// Whose copies are complete, and count for nothing unless another is lost: old owners.
    pub spare: Vec<NodeId>,
    /// Who takes the place of a holder that does not answer, in rank order.
    pub fallbacks: Vec<NodeId>,
    /// Who shall own it.
    pub owners: Vec<NodeId>,
}

impl Holders {
    /// The holders of a part with `n` owners: `list` is its preference list, `leaving` are members that
    /// own nothing any more, `is_complete` tells whose copies are.
    pub fn new(
        partition: u16,
        (list, n): (&[NodeId], usize),
        leaving: &[NodeId],
        is_complete: impl Fn(NodeId) -> bool,
    ) -> Self {
        let (owners, rest) = list.split_at(n.min(list.len()));
        let (mut serving, mut filling): (Vec<_>, Vec<_>) =
            owners.iter().copied().partition(|id| is_complete(*id));
        let mut spare = Vec::new();
        if !filling.is_empty() {
            let mut others: Vec<NodeId> = rest.iter().chain(leaving).copied().collect();
            others.retain(|id| is_complete(*id));
            sort_by_rank(&mut others, partition);
            spare = others.split_off(others.len().min(n.saturating_sub(serving.len())));
            serving.extend(others);
            sort_by_rank(&mut serving, partition);
        }
        if serving.is_empty() {
            // Nobody has it: what there is, its owners have.
            serving = std::mem::take(&mut filling);
        }
        let holds = |id: &NodeId| serving.contains(id) || filling.contains(id);
        let fallbacks = rest
            .iter()
            .copied()
            .filter(|id| !holds(id) && !spare.contains(id))
            .collect();
        Self {
            fallbacks,
            serving,
            filling,
            spare,
            owners: owners.to_vec(),
        }
    }

    /// Whether all its owners have it.
    pub fn is_settled(&self) -> bool {
        self.filling.is_empty() && self.serving.iter().all(|id| self.owners.contains(id))
    }

    /// Who gets every write.
    pub fn all(&self) -> impl Iterator<Item = NodeId> {
        let (serving, filling) = (self.serving.iter(), self.filling.iter());
        serving.chain(filling).chain(&self.spare).copied()
    }

    /// Whether a node gets every write.
    pub fn has(&self, id: NodeId) -> bool {
        self.all().any(|holder| holder == id)
    }

    /// Whether a node's copy counts for reads.
    pub fn serves(&self, id: NodeId) -> bool {
        self.serving.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(raw: &[u64]) -> Vec<NodeId> {
        raw.iter().map(|id| NodeId(*id)).collect()
    }

    fn sorted(nodes: &[NodeId]) -> Vec<u64> {
        let mut nodes: Vec<u64> = nodes.iter().map(|id| id.0).collect();
        nodes.sort_unstable();
        nodes
    }

    fn holders(list: &[u64], leaving: &[u64], complete: &[u64]) -> Holders {
        let complete = ids(complete);
        let is_complete = |id| complete.contains(&id);
        Holders::new(7, (&ids(list), 3), &ids(leaving), is_complete)
    }

    #[test]
    fn where_nothing_moves_the_owners_serve() {
        let settled = holders(&[1, 2, 3, 4], &[], &[1, 2, 3]);
        assert!(settled.is_settled());
        assert_eq!(settled.serving, ids(&[1, 2, 3]));
        assert_eq!(settled.fallbacks, ids(&[4]));
    }

    #[test]
    fn an_old_owner_serves_until_the_new_one_is_complete() {
        let moving = holders(&[1, 2, 3, 4], &[], &[1, 2, 4]);
        assert_eq!(sorted(&moving.serving), [1, 2, 4]);
        assert_eq!(moving.filling, ids(&[3]));
        assert!(!moving.is_settled());
        let done = holders(&[1, 2, 3, 4], &[], &[1, 2, 3, 4]);
        assert!(done.is_settled());
        assert_eq!(sorted(&done.serving), [1, 2, 3]);
    }

    #[test]
    fn who_leaves_serves_too() {
        let leaving = holders(&[1, 2, 3], &[9], &[1, 2, 9]);
        assert_eq!(sorted(&leaving.serving), [1, 2, 9]);
        assert!(leaving.fallbacks.is_empty());
    }

    #[test]
    fn two_new_owners_take_over_one_place_at_a_time() {
        let moving = holders(&[1, 5, 6, 2, 3], &[], &[1, 2, 3]);
        assert_eq!(sorted(&moving.serving), [1, 2, 3]);
        let half = holders(&[1, 5, 6, 2, 3], &[], &[1, 2, 3, 5]);
        assert_eq!(half.serving.len(), 3);
        assert!(half.serves(NodeId(1)) && half.serves(NodeId(5)));
        // Who does not serve any more gets writes, as long as it may have to again.
        assert_eq!(half.spare.len(), 1);
        assert_eq!(sorted(&half.all().collect::<Vec<_>>()), [1, 2, 3, 5, 6]);
    }

    #[test]
    fn a_vacant_place_is_nobodys() {
        let removed = holders(&[1, 2, 3], &[], &[1, 2]);
        assert_eq!(removed.serving, ids(&[1, 2]));
        assert_eq!(removed.filling, ids(&[3]));
        let lost = holders(&[1, 2, 3], &[], &[]);
        assert_eq!(lost.serving, ids(&[1, 2, 3]));
        assert!(lost.filling.is_empty());
    }
}
