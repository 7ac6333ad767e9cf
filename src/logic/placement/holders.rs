//! Who holds a part while it moves, and whose copies count.
//!
//! The table says who shall own a part. Whether its copy is complete a holder says of itself; a new owner
//! first says that it has been proven. Until all owners' copies are proven or complete, the part is served
//! by those whose copies are complete, the old owners; then by the new ones. So reads switch once, from
//! all old owners to all new ones, however many changes come at once and in whatever order they are heard.
//!
//! Not every member hears of it at once. Writes go to both sets, before the switch, so that a member that knows of
//! it already reads them, and after it, until every old owner has been told. From then on a read that is
//! meant for the old owners meets one that knows better: requests say for whom they are meant.
//!
//! When the next change comes in that moment, it cannot be told which N copies are those that count: some
//! new owners say already that theirs are complete, some old ones say it still, and reads may have switched
//! for those who do not know of the change. Then all of them serve, more than N, and reads and writes
//! want one more for every one too many ([`Holders::beyond`]): they meet every quorum of any N of them.

use super::{NodeId, key_hash, sort_by_rank};

/// What a member says of its copy of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// Something may be missing.
    Partial,
    /// It was proven equal to those that count.
    Proven,
    /// It was proven in another membership than the one that is known here: it may count already.
    ProvenElsewhere,
    /// It counts.
    Complete,
}

/// Who holds a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Whose copies count for reads, the coordinator first.
    pub serving: Vec<NodeId>,
    /// Owners whose copies do not count yet.
    pub filling: Vec<NodeId>,
    /// Old owners that do not count any more, and have not given the part up.
    pub spare: Vec<NodeId>,
    /// Who takes the place of a holder that does not answer, in rank order.
    pub fallbacks: Vec<NodeId>,
    /// Who shall own it.
    pub owners: Vec<NodeId>,
    /// Whose copies count for those who know of the switch already, or do not know of it yet.
    pub elsewhere: Vec<NodeId>,
    /// Whether all owners have it.
    pub is_settled: bool,
    /// Whether all owners' copies are complete: nobody needs the old owners any more.
    pub is_complete: bool,
    /// Whether nobody has a copy of it that counts, though somebody had.
    pub is_lost: bool,
    /// A fingerprint of who serves it.
    pub mark: u64,
}

impl Holders {
    /// The holders of a part with `n` owners: `list` is its preference list, `leaving` are members that
    /// own nothing any more, `copy` tells what a member says of its copy,
    /// `was_seen_lost` whether somebody has seen the last of those go that counted.
    pub fn new(
        partition: u16,
        (list, n): (&[NodeId], usize),
        was_seen_lost: bool,
        leaving: &[NodeId],
        copy: impl Fn(NodeId) -> Copy + std::marker::Copy,
    ) -> Self {
        let (owners, rest) = list.split_at(n.min(list.len()));
        let all = || owners.iter().chain(rest).chain(leaving).copied();
        let with = |wanted: Copy| all().filter(move |id| copy(*id) == wanted);
        let mut old: Vec<NodeId> = with(Copy::Complete).collect();
        if old.len() < n {
            // Some of those whose copies counted are gone: these have what they had.
            old.extend(with(Copy::Proven));
        }
        old.extend(with(Copy::ProvenElsewhere));
        sort_by_rank(&mut old, partition);
        let has_it = |id: &NodeId| matches!(copy(*id), Copy::Proven | Copy::Complete);
        // What nobody has its owners have. Where no member is left to own it, the one that has it keeps it.
        let is_lost = old.is_empty() && was_seen_lost;
        let is_settled = old.is_empty() || !owners.is_empty() && owners.iter().all(has_it);
        let (serving, elsewhere) = if is_settled {
            let elsewhere = if old.is_empty() { owners } else { &old };
            (owners.to_vec(), elsewhere.to_vec())
        } else {
            let elsewhere = if owners.is_empty() { &old } else { owners };
            (old.clone(), elsewhere.to_vec())
        };
        let filling: Vec<NodeId> = owners
            .iter()
            .copied()
            .filter(|id| !serving.contains(id))
            .collect();
        let is_spare = |id: &NodeId| !serving.contains(id) && !filling.contains(id);
        let spare: Vec<NodeId> = old.into_iter().filter(is_spare).collect();
        let fallbacks = rest.iter().copied();
        let fallbacks = fallbacks.filter(|id| is_spare(id) && !spare.contains(id));
        Self {
            fallbacks: fallbacks.collect(),
            mark: mark(&serving),
            is_settled: is_settled && !is_lost,
            is_complete: is_settled
                && !is_lost
                && owners.iter().all(|id| copy(*id) == Copy::Complete),
            serving,
            filling,
            spare,
            owners: owners.to_vec(),
            elsewhere,
            is_lost,
        }
    }

    /// Whether all owners have it, and every old owner has said that it has the part no more.
    pub fn is_over(&self) -> bool {
        self.is_settled && self.spare.is_empty()
    }

    /// Whether its owners are those whose copies count, for those who know of moves and for those who do not.
    pub fn is_at_rest(&self) -> bool {
        let count = |ids: &[NodeId]| ids.iter().all(|id| self.serving.contains(id));
        self.is_over()
            && self.filling.is_empty()
            && self.elsewhere.len() == self.serving.len()
            && count(&self.elsewhere)
    }

    /// By how many copies of so many are more than a part with `n` owners shall have. A quorum is larger
    /// by that.
    pub fn beyond(n: u8, copies: usize) -> u8 {
        copies.saturating_sub(usize::from(n)) as u8
    }

    /// Who must know that, before the new owners can do without the old ones.
    pub fn old(&self) -> impl Iterator<Item = NodeId> {
        self.elsewhere.iter().chain(&self.spare).copied()
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

fn mark(serving: &[NodeId]) -> u64 {
    let raw: Vec<u8> = serving.iter().flat_map(|id| id.0.to_le_bytes()).collect();
    key_hash(&raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From here on nodes have proven their copies in another membership.
    const ELSEWHERE: u64 = 100;

    fn ids(raw: &[u64]) -> Vec<NodeId> {
        raw.iter().map(|id| NodeId(*id)).collect()
    }

    fn sorted(nodes: &[NodeId]) -> Vec<u64> {
        let mut nodes: Vec<u64> = nodes.iter().map(|id| id.0).collect();
        nodes.sort_unstable();
        nodes
    }

    fn holders(list: &[u64], leaving: &[u64], complete: &[u64]) -> Holders {
        with_proven(list, leaving, complete, &[])
    }

    fn with_proven(list: &[u64], leaving: &[u64], complete: &[u64], proven: &[u64]) -> Holders {
        let copy = |id: NodeId| match () {
            () if id.0 >= ELSEWHERE => Copy::ProvenElsewhere,
            () if complete.contains(&id.0) => Copy::Complete,
            () if proven.contains(&id.0) => Copy::Proven,
            () => Copy::Partial,
        };
        Holders::new(7, (&ids(list), 3), false, &ids(leaving), copy)
    }

    #[test]
    fn where_nothing_moves_the_owners_serve() {
        let settled = holders(&[1, 2, 3, 4], &[], &[1, 2, 3]);
        assert!(settled.is_settled);
        assert_eq!(settled.serving, ids(&[1, 2, 3]));
        assert_eq!(settled.fallbacks, ids(&[4]));
    }

    #[test]
    fn an_old_owner_serves_until_the_new_one_is_complete() {
        let moving = holders(&[1, 2, 3, 4], &[], &[1, 2, 4]);
        assert_eq!(sorted(&moving.serving), [1, 2, 4]);
        assert_eq!(moving.filling, ids(&[3]));
        assert!(!moving.is_settled);
        let done = with_proven(&[1, 2, 3, 4], &[], &[1, 2, 4], &[3]);
        assert!(done.is_settled && !done.is_over());
        assert_eq!(sorted(&done.serving), [1, 2, 3]);
        // Until node 4 says that it knows, it gets writes.
        assert_eq!(
            (&done.spare, sorted(&done.elsewhere)),
            (&ids(&[4]), vec![1, 2, 4])
        );
        assert!(done.old().any(|id| id == NodeId(4)));
    }

    #[test]
    fn where_all_have_left_they_serve_on() {
        let left = holders(&[], &[1, 2], &[1, 2]);
        assert_eq!(sorted(&left.serving), [1, 2]);
        assert!(!left.is_settled && !left.is_complete);
        assert_eq!(left.elsewhere, left.serving);
        // A newcomer takes over from them.
        let newcomer = holders(&[3], &[1, 2], &[1, 2]);
        assert_eq!(
            (sorted(&newcomer.serving), newcomer.filling),
            (vec![1, 2], ids(&[3]))
        );
    }

    #[test]
    fn who_leaves_serves_too() {
        let leaving = holders(&[1, 2, 3], &[9], &[1, 2, 9]);
        assert_eq!(sorted(&leaving.serving), [1, 2, 9]);
        assert!(leaving.fallbacks.is_empty());
    }

    #[test]
    fn two_new_owners_take_over_together() {
        let half = with_proven(&[1, 5, 6, 2, 3], &[], &[1, 2, 3], &[5]);
        assert_eq!(sorted(&half.serving), [1, 2, 3]);
        assert_eq!(half.filling, ids(&[5, 6]));
        let done = with_proven(&[1, 5, 6, 2, 3], &[], &[1, 2, 3], &[5, 6]);
        assert!(done.is_settled);
        assert_eq!(sorted(&done.serving), [1, 5, 6]);
        assert_eq!(sorted(&done.all().collect::<Vec<_>>()), [1, 2, 3, 5, 6]);
    }

    #[test]
    fn where_it_cannot_be_told_whose_copies_count_all_serve() {
        // Node 4 had taken the place of 3, which does not know that yet, when 5 came.
        let more = holders(&[1, 5, 2, 3, 4], &[], &[1, 2, 3, 4]);
        assert_eq!(sorted(&more.serving), [1, 2, 3, 4]);
        assert_eq!(Holders::beyond(3, more.serving.len()), 1);
        assert_eq!(more.filling, ids(&[5]));
        // When 5 has it too, writes go on meeting those who do not know that.
        let done = with_proven(&[1, 5, 2, 3, 4], &[], &[1, 2, 3, 4], &[5]);
        assert_eq!(sorted(&done.serving), [1, 2, 5]);
        assert_eq!(sorted(&done.elsewhere), [1, 2, 3, 4]);
        // For a member that does not know what is known here, 100 and 101 may count already.
        let switched = holders(&[1, 5, 100, 2, 101, 3], &[], &[1, 2, 3]);
        assert_eq!(sorted(&switched.serving), [1, 2, 3, 100, 101]);
        assert!(!switched.is_settled);
    }

    #[test]
    fn a_proven_copy_stands_in_for_a_complete_one_that_is_gone() {
        // 4 had proven its copy when 1, with whom it did, was removed too: a write may be on 4 alone.
        let gone = with_proven(&[2, 4, 5], &[], &[2], &[4]);
        assert_eq!(sorted(&gone.serving), [2, 4]);
        assert_eq!((gone.filling, gone.is_settled), (ids(&[5]), false));
    }

    #[test]
    fn a_vacant_place_is_nobodys() {
        let removed = holders(&[1, 2, 3], &[], &[1, 2]);
        assert_eq!(removed.serving, ids(&[1, 2]));
        assert_eq!(removed.filling, ids(&[3]));
        let vacant = holders(&[1, 2, 3], &[], &[]);
        assert_eq!(vacant.serving, ids(&[1, 2, 3]));
        assert!(vacant.filling.is_empty());
        assert!(vacant.is_settled && !vacant.is_lost);
        let seen_lost = |copy| Holders::new(7, (&ids(&[1, 2, 3]), 3), true, &[], move |_| copy);
        let lost = seen_lost(Copy::Partial);
        assert!(lost.is_lost && !lost.is_settled && lost.serving.len() == 3);
        assert!(!seen_lost(Copy::Complete).is_lost);
    }
}
