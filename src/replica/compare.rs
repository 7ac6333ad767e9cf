//! What other owners ask of this node's trees, and the pages of keys below differing leaves.

use smallvec::SmallVec;

use super::space::Space;
use super::tree::Tree;
use super::{Replica, ReplicaError};
use crate::logic::causal::Dot;
use crate::logic::digest;
use crate::logic::merkle::{Leaves, Node, Shape, Sums};
use crate::logic::place;
use crate::logic::placement::{SLOTS, Slot};
use crate::storage::Table;
use crate::storage::pages::Pages;

/// Rows read at a time: few, since each may be large.
const PAGE: usize = 64;
/// About so many bytes of them.
const PAGE_BYTES: usize = 256 << 10;

/// A key with what lives there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The database.
    pub db: u8,
    /// The key.
    pub name: Vec<u8>,
    /// The digest of its object.
    pub digest: u64,
    /// The dots of its versions.
    pub dots: SmallVec<[Dot; 1]>,
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of rows.
    pub keys: Vec<Listed>,
    /// Where to go on, unless that was all.
    pub next: Option<Vec<u8>>,
    /// Rows that could not be read.
    pub damaged: u64,
}

impl Replica {
    /// The shape of every partition's tree.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many owners a key has.
    pub fn owners_of(&self, name: &[u8]) -> u8 {
        self.rules.of(name).n
    }

    /// Every number of owners that some key has, ascending: there is a tree for each.
    pub fn sizes(&self) -> &[u8] {
        &self.sizes
    }

    pub(super) fn tree(&self, owners: u8) -> Option<usize> {
        self.sizes.binary_search(&owners).ok()
    }

    pub(super) fn tree_of(&self, name: &[u8]) -> usize {
        self.tree(self.owners_of(name)).unwrap_or(0)
    }

    /// The sum of a partition's objects with so many owners, without what has ended before an
    /// instant.
    pub fn root(&self, owners: u8, partition: u16, as_of_ms: u64) -> u64 {
        let tree = self.tree(owners);
        tree.map_or(0, |tree| self.spaces.root(tree, partition, as_of_ms))
    }

    /// The sums of a node's children.
    pub fn sums(&self, owners: u8, partition: u16, node: Node) -> Sums {
        let sum = |tree, nth| {
            let below = self.shape.below(node.child(nth));
            self.spaces.sum(tree, partition, &below)
        };
        let tree = self.tree(owners);
        std::array::from_fn(|nth| tree.map_or(0, |tree| sum(tree, nth)))
    }

    /// How many rows of a partition there are of keys with so many owners, tombstones among them; not
    /// none while they are not counted.
    pub fn rows(&self, owners: u8, partition: u16) -> u64 {
        if !self.is_counted_in(partition) {
            return 1;
        }
        let spaces = self.spaces.of_partition(partition).iter();
        let rows = |tree: usize| spaces.map(|space| space.trees()[tree].rows()).sum::<i64>();
        self.tree(owners).map_or(0, rows).max(0) as u64
    }

    /// How many tombstones there are.
    pub fn tombstones(&self) -> u64 {
        let partitions = 0..self.partitions.count();
        partitions
            .map(|partition| self.tombstones_of(partition))
            .sum()
    }

    /// How many tombstones a partition has.
    pub fn tombstones_of(&self, partition: u16) -> u64 {
        let of_space = |space: &Space| {
            let rows: i64 = space.trees().iter().map(Tree::rows).sum();
            (rows - space.live()).max(0) as u64
        };
        let spaces = self.spaces.of_partition(partition).iter();
        spaces.map(of_space).sum()
    }

    /// Up to `limit` keys with so many owners below some leaves from a row on, in the order of rows, without those that
    /// have ended before an instant. The caller settles before. Blocks.
    pub fn list(
        &self,
        owners: u8,
        partition: u16,
        leaves: &Leaves,
        (from, limit): (&[u8], usize),
        as_of_ms: u64,
    ) -> Result<Page, ReplicaError> {
        let shard = self.shard_of(partition);
        let start = self.leaf_start(partition, leaves.start);
        let end = self.leaf_start(partition, leaves.end);
        let mut from = from.max(&start).to_vec();
        let mut page = Page::default();
        let mut pages = Pages::of(PAGE_BYTES, PAGE);
        loop {
            let wanted = pages.rows();
            let rows = self.store.scan(shard, Table::Data, &from, &end, wanted)?;
            let full = rows.len() == wanted;
            pages.read(&rows);
            for (row_key, raw) in rows {
                from = place::behind(&row_key);
                let Some((_, db, name)) = place::parse(&row_key) else {
                    continue;
                };
                if self.owners_of(name) != owners {
                    continue;
                }
                let Ok(object) = self.whole_of((db, name), &raw) else {
                    page.damaged += 1;
                    continue;
                };
                if object.is_tombstone() || object.ends_at_ms().is_some_and(|end| end < as_of_ms) {
                    continue;
                }
                page.keys.push(Listed {
                    db,
                    name: name.to_vec(),
                    digest: digest::of_living(&row_key, &object),
                    dots: object
                        .all_versions()
                        // Another may still have it, and know that it goes on.
                        .filter(|version| !version.value.payload.is_gone())
                        .map(|version| version.dot)
                        .collect(),
                });
                if page.keys.len() == limit {
                    page.next = Some(from);
                    return Ok(page);
                }
            }
            if !full {
                return Ok(page);
            }
        }
    }

    fn leaf_start(&self, partition: u16, leaf: u32) -> Vec<u8> {
        if leaf as usize >= self.shape.leaves() {
            return place::partition_end(partition).to_vec();
        }
        let (slot, hash) = self.shape.start(leaf);
        let first = partition * (SLOTS / self.partitions.count());
        place::range_start(partition, Slot(first + slot), hash).to_vec()
    }
}
