//! Merkle trees over the keys of one partition (the paper's §4.7).
//!
//! A leaf stands for a contiguous range of rows; its sum is the order-free (wrapping) sum of the
//! digests of its objects, so that a write changes it by a subtraction and an addition. A node's sum
//! is the sum of the leaves below it. Not here: who keeps the sums (`replica`), who compares them
//! (`background`). Invariant: equal objects in equal places make equal sums, whatever the order.
//!
//! A digest covers what lives: the dots of an object's versions, and what is gone of contributions to
//! a counter. A dot names one write and no other, so equal dots are equal values (a row's checksum
//! watches over its bytes); what an object has merely seen is not part of it, so that forgetting a
//! tombstone is no difference.

mod walk;

pub use walk::{Leaves, Walk};

use super::placement::{Partitions, SLOTS};

/// Children of a node.
pub const FANOUT: usize = 16;
const FANOUT_BITS: u32 = 4;

/// The sums of a node's children.
pub type Sums = [u64; FANOUT];

/// The shape of every partition's tree: agreed with the number of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Slots of a partition, as a power of two.
    slot_bits: u32,
    /// Levels below the root.
    depth: u32,
}

/// A node of a tree: its distance from the root, and its place among those of that distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// 0 is the root.
    pub depth: u32,
    /// From 0.
    pub index: u32,
}

impl Shape {
    /// 4,096 leaves a partition up to 256 partitions, 256 above.
    pub fn of(partitions: Partitions) -> Self {
        let depth = if partitions.count() <= 256 { 3 } else { 2 };
        Self {
            slot_bits: (SLOTS / partitions.count()).trailing_zeros(),
            depth,
        }
    }

    /// Levels below the root.
    pub fn depth(self) -> u32 {
        self.depth
    }

    /// How many leaves a tree has.
    pub fn leaves(self) -> usize {
        1 << (self.depth * FANOUT_BITS)
    }

    /// The leaf of a key, from its slot and its hash.
    pub fn leaf(self, slot: u16, hash: u64) -> usize {
        let slot = u128::from(slot) & ((1 << self.slot_bits) - 1);
        let place = slot << 64 | u128::from(hash);
        (place >> (self.slot_bits + 64 - self.depth * FANOUT_BITS)) as usize
    }

    /// The first slot (counted within the partition) and hash of a leaf.
    pub fn start(self, leaf: u32) -> (u16, u64) {
        let place = u128::from(leaf) << (self.slot_bits + 64 - self.depth * FANOUT_BITS);
        ((place >> 64) as u16, place as u64)
    }

    /// Whether a tree has such a node, with children.
    pub fn has(self, node: Node) -> bool {
        node.depth < self.depth && node.index >> (node.depth * FANOUT_BITS) == 0
    }

    /// The leaves below a node; a leaf is below itself.
    pub fn below(self, node: Node) -> std::ops::Range<u32> {
        let bits = (self.depth - node.depth) * FANOUT_BITS;
        node.index << bits..(node.index + 1) << bits
    }
}

impl Node {
    /// The top.
    pub const ROOT: Node = Node { depth: 0, index: 0 };

    /// One of its children.
    pub fn child(self, nth: usize) -> Node {
        Node {
            depth: self.depth + 1,
            index: self.index << FANOUT_BITS | nth as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_the_nodes_of_its_levels_and_no_others() {
        for (count, depth) in [(256, 3), (512, 2)] {
            let shape = Shape::of(Partitions::new(count).expect("a power of two"));
            assert_eq!(shape.depth(), depth);
            assert_eq!(shape.leaves(), FANOUT.pow(depth));
            let mut last = Node::ROOT;
            assert!(!shape.has(Node { depth: 0, index: 1 }));
            for level in 1..depth {
                assert!(shape.has(last));
                last = last.child(FANOUT - 1);
                assert_eq!(last.index + 1, (FANOUT as u32).pow(level));
                let beyond = Node {
                    index: last.index + 1,
                    ..last
                };
                assert!(shape.has(last) && !shape.has(beyond));
                assert_eq!(shape.below(last).end, shape.leaves() as u32);
            }
            assert!(!shape.has(last.child(0)), "a leaf has no children");
        }
    }

    #[test]
    fn leaves_are_contiguous_ranges_of_rows() {
        for count in [1, 16, 256, 512, 16_384] {
            let shape = Shape::of(Partitions::new(count).expect("a power of two"));
            for leaf in [0, 1, 17, shape.leaves() as u32 - 1] {
                let (slot, hash) = shape.start(leaf);
                assert_eq!(shape.leaf(slot, hash), leaf as usize, "{count}");
                if leaf > 0 {
                    let (before_slot, before_hash) = match hash.checked_sub(1) {
                        Some(hash) => (slot, hash),
                        None => (slot - 1, u64::MAX),
                    };
                    assert_eq!(shape.leaf(before_slot, before_hash), leaf as usize - 1);
                }
            }
            let last = shape.leaf(SLOTS / count - 1, u64::MAX);
            assert_eq!(last, shape.leaves() - 1);
            assert_eq!(shape.below(Node::ROOT), 0..shape.leaves() as u32);
        }
    }
}
