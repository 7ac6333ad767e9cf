//! For the operator: whether all owners of a partition hold the same, and mending one out of turn.

use std::collections::BTreeSet;
use std::time::Duration;

use super::compare::{Difference, Side};
use super::{Convergence, ExchangeError, Exchanged};
use crate::logic::placement::NodeId;

/// Differences that are named of a partition and a pair of owners, at most.
pub const MOST_NAMED: usize = 1_000;
/// How much later a partition that differs is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// Fewer differing keys than this may be writes that are on their way.
const FEW: usize = 64;

/// What two owners' comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// The partition.
    pub partition: u16,
    /// The owners that were compared.
    pub between: [NodeId; 2],
    /// Keys that differ, with their database; not more than [`MOST_NAMED`].
    pub keys: BTreeSet<(u8, Vec<u8>)>,
}

/// What a look at all owners found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Pairs of a partition and a number of owners that were compared.
    pub compared: u64,
    /// Partitions whose owners differ, at a second look too.
    pub differs: Vec<Differs>,
    /// Owners that did not answer, with how many of those pairs they own.
    pub silent: Vec<(NodeId, u64)>,
}

impl Convergence {
    /// Compares the copies of all owners of some partitions.
    ///
    /// # Errors
    /// When an owner breaks off in the middle.
    pub async fn verify(&self, partitions: &[u16]) -> Result<Verified, ExchangeError> {
        let mut verified = Verified::default();
        for &owners in self.replica.sizes() {
            for partition in partitions {
                self.verify_one(owners, *partition, &mut verified).await?;
            }
        }
        Ok(verified)
    }

    async fn verify_one(
        &self,
        owners: u8,
        partition: u16,
        verified: &mut Verified,
    ) -> Result<(), ExchangeError> {
        let nodes = self.cluster.holders((owners, partition)).serving.clone();
        verified.compared += 1;
        let (answering, silent): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|id| self.cluster.answers(*id));
        for id in silent {
            match verified.silent.iter_mut().find(|(node, _)| *node == id) {
                Some((_, count)) => *count += 1,
                None => verified.silent.push((id, 1)),
            }
        }
        let Some((&first, others)) = answering.split_first() else {
            return Ok(());
        };
        for &other in others {
            let sides = [self.side(first), self.side(other)];
            let mut keys = self.differences(sides, owners, partition).await?;
            // So many are not on their way.
            if (1..FEW).contains(&keys.len()) {
                tokio::time::sleep(SECOND_LOOK).await;
                let again = self.differences(sides, owners, partition).await?;
                keys.retain(|key| again.contains(key));
            }
            if !keys.is_empty() {
                verified.differs.push(Differs {
                    partition,
                    between: [first, other],
                    keys,
                });
            }
        }
        Ok(())
    }

    fn side(&self, node: NodeId) -> Side {
        if node == self.cluster.me() {
            Side::Here
        } else {
            Side::There(node)
        }
    }

    async fn differences(
        &self,
        sides: [Side; 2],
        owners: u8,
        partition: u16,
    ) -> Result<BTreeSet<(u8, Vec<u8>)>, ExchangeError> {
        let mut named = BTreeSet::new();
        let one = [partition];
        let asked = (self.as_of_ms(), false);
        let (as_of_ms, theirs) = self.roots(sides[1], owners, &one, asked).await?;
        let asked = (as_of_ms, false);
        let (_, ours) = self.roots(sides[0], owners, &one, asked).await?;
        if ours == theirs {
            return Ok(named);
        }
        let differing = [(partition, ours[0], theirs[0])];
        for found in self.walk(sides, owners, &differing).await? {
            let mut comparison = self.comparison(sides, &found, as_of_ms);
            while named.len() < MOST_NAMED {
                let differences = comparison.next(MOST_NAMED).await?;
                if differences.is_empty() {
                    break;
                }
                let keys = differences.iter().filter_map(Difference::key);
                named.extend(keys.map(|key| (key.db, key.name.to_vec())));
            }
        }
        Ok(named)
    }

    /// Mends what this node owns of a partition between it and all other owners that answer.
    ///
    /// # Errors
    /// When an exchange breaks off.
    pub async fn repair(&self, partition: u16) -> Result<Exchanged, ExchangeError> {
        let mut exchanged = Exchanged::default();
        let me = self.cluster.me();
        for &owners in self.replica.sizes() {
            let nodes = self.cluster.holders((owners, partition)).serving.clone();
            if !nodes.contains(&me) {
                continue;
            }
            let others = nodes
                .into_iter()
                .filter(|id| *id != me && self.cluster.answers(*id));
            let others: Vec<NodeId> = others.collect();
            // What the last one had goes to the others the second time.
            for _ in 0..2 {
                let before = exchanged.received;
                for other in &others {
                    self.exchange(*other, owners, &[partition], &mut exchanged)
                        .await?;
                }
                if exchanged.received == before {
                    break;
                }
            }
        }
        Ok(exchanged)
    }
}
