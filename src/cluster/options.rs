//! What is agreed when a cluster is made, and what of it holds for a key.

use crate::logic::membership::Part;
use crate::logic::placement::Partitions;
use crate::logic::quorum::{Rule, Rules};

/// What is agreed when a cluster is made, and how patient this node is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The number of partitions (Q).
    pub partitions: Partitions,
    /// Owners a key, and how many of them count.
    pub rules: Rules,
    /// The suspicion from which a member is skipped.
    pub phi_threshold: f64,
    /// What proves the cluster's secret.
    pub key: [u8; 32],
    /// The newest wire version that this node speaks.
    pub wire: u16,
    /// Whether what is left of partitions that were lost is shown to readers, as if it was all.
    pub reads_lost: bool,
}

/// Where a key belongs, and what holds for it.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Its partition.
    pub partition: u16,
    /// Its rule.
    pub rule: Rule,
}

impl Route {
    /// What it belongs to.
    pub fn part(&self) -> Part {
        (self.rule.n, self.partition)
    }
}
