//! From a differing root down to the leaves that differ, as a value: it says whose children's sums
//! it wants and is told them.

use super::{FANOUT, Node, Shape, Sums};

/// Neighbouring leaves that differ, as a range.
pub type Leaves = std::ops::Range<u32>;

/// A walk down one pair of trees.
#[derive(Clone, Debug)]
pub struct Walk {
    shape: Shape,
    /// Differing nodes whose children are not compared yet.
    open: Vec<Node>,
    differing: Vec<Leaves>,
}

impl Walk {
    /// Begins at a root whose sums differ. Where one side has nothing at all, everything differs.
    pub fn new(shape: Shape, ours: u64, theirs: u64) -> Self {
        let mut walk = Self {
            shape,
            open: Vec::new(),
            differing: Vec::new(),
        };
        walk.differs(Node::ROOT, ours, theirs);
        walk
    }

    /// Up to `limit` nodes whose children's sums are wanted; none at the end.
    pub fn wanted(&self, limit: usize) -> &[Node] {
        &self.open[..self.open.len().min(limit)]
    }

    /// Takes in the sums of the first of the wanted nodes.
    pub fn compare(&mut self, ours: &[Sums], theirs: &[Sums]) {
        let compared = ours.len().min(theirs.len()).min(self.open.len());
        let nodes: Vec<Node> = self.open.drain(..compared).collect();
        for (node, (ours, theirs)) in nodes.into_iter().zip(ours.iter().zip(theirs)) {
            for nth in 0..FANOUT {
                self.differs(node.child(nth), ours[nth], theirs[nth]);
            }
        }
    }

    /// The leaves that differ, ascending.
    pub fn finish(mut self) -> Vec<Leaves> {
        self.differing.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Leaves> = Vec::new();
        for range in self.differing {
            match merged.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        merged
    }

    fn differs(&mut self, node: Node, ours: u64, theirs: u64) {
        if ours == theirs {
            return;
        }
        if ours == 0 || theirs == 0 || node.depth == self.shape.depth() {
            self.differing.push(self.shape.below(node));
        } else {
            self.open.push(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::placement::Partitions;

    fn sums(leaves: &[u64], shape: Shape, node: Node) -> Sums {
        std::array::from_fn(|nth| {
            let below = shape.below(node.child(nth));
            leaves[below.start as usize..below.end as usize]
                .iter()
                .fold(0u64, |sum, leaf| sum.wrapping_add(*leaf))
        })
    }

    fn walk(ours: &[u64], theirs: &[u64]) -> (Vec<Leaves>, usize) {
        let shape = Shape::of(Partitions::new(256).expect("a power of two"));
        let total = |leaves: &[u64]| {
            leaves
                .iter()
                .fold(0u64, |sum, leaf| sum.wrapping_add(*leaf))
        };
        let mut walk = Walk::new(shape, total(ours), total(theirs));
        let mut asked = 0;
        loop {
            let wanted = walk.wanted(7).to_vec();
            if wanted.is_empty() {
                return (walk.finish(), asked);
            }
            asked += wanted.len();
            let of = |leaves| -> Vec<Sums> {
                wanted
                    .iter()
                    .map(|node| sums(leaves, shape, *node))
                    .collect()
            };
            walk.compare(&of(ours), &of(theirs));
        }
    }

    #[test]
    fn a_walk_ends_at_the_leaves_that_differ_and_asks_for_nothing_beside_them() {
        let ours: Vec<u64> = (1..=4_096).collect();
        let mut theirs = ours.clone();
        assert_eq!(walk(&ours, &theirs), (Vec::new(), 0));
        theirs[700] += 5;
        theirs[701] -= 1;
        theirs[4_000] += 9;
        let (differing, asked) = walk(&ours, &theirs);
        assert_eq!(differing, vec![700..702, 4_000..4_001]);
        assert_eq!(asked, 1 + 2 + 2);
    }

    #[test]
    fn where_one_side_has_nothing_everything_differs_at_once() {
        let (differing, asked) = walk(&vec![3; 4_096], &vec![0; 4_096]);
        assert_eq!((differing.len(), asked), (1, 0));
        assert_eq!(differing[0], 0..4_096);
    }
}
