//! What a node answers to another that compares trees with it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Convergence;
use super::compare::checked;
use super::exchange::BATCH_BYTES;
use crate::base::blocking::off_worker;
use crate::base::clock;
use crate::logic::causal::{Dot, Object};
use crate::logic::merkle::Leaves;
use crate::logic::placement::{NodeId, PartitionSet};
use crate::logic::record;
use crate::peer::message::{
    ExchangeRequest, Response, TransferRequest, UNKNOWN_VIEW, WireKey, WireListed,
};
use crate::replica::{Join, Listed, ReplicaError};

/// Keys that one request lists or names, and nodes whose sums it asks for, at most.
const MOST: usize = 4_096;

fn no_such() -> Response {
    Response::Refused("no such request".into())
}

impl Convergence {
    /// Answers one of the requests of an exchange.
    pub async fn answer(self: &Arc<Self>, from: NodeId, request: ExchangeRequest) -> Response {
        let count = self.replica.partitions().count();
        match request {
            ExchangeRequest::Written => self.written(),
            ExchangeRequest::Roots {
                as_of_ms,
                owners,
                rules,
                partitions,
                mends,
                view,
            } => {
                if view != UNKNOWN_VIEW && view != self.cluster.changes() {
                    return Response::Outdated(self.cluster.everybody());
                }
                if rules != self.cluster.trees_fingerprint() {
                    return Response::Refused("the rules of prefixes, or builds, differ".into());
                }
                if mends && self.cluster.is_unsure() {
                    return Response::Refused("the disk here may be an older copy".into());
                }
                // An older node does not know that nobody has it.
                let is_lost = |partition: u16| self.cluster.holders((owners, partition)).is_lost;
                let asked = PartitionSet::from_bytes(&partitions);
                if mends && asked.below(count).any(is_lost) {
                    return Response::Refused("every complete copy of it was lost".into());
                }
                if !self.replica.is_counted() {
                    return Response::Refused("trees are being made again".into());
                }
                if mends && !self.makes_way(from) {
                    return Response::Refused("an exchange is under way".into());
                }
                let as_of_ms = as_of_ms.max(self.as_of_ms());
                let asked: Vec<u16> = asked.below(count).collect();
                match self.own_roots(owners, &asked, as_of_ms).await {
                    Ok(roots) => Response::Roots { as_of_ms, roots },
                    Err(error) => Response::Refused(error.to_string()),
                }
            }
            ExchangeRequest::Sums { owners, nodes } => {
                let shape = self.replica.shape();
                let known = |(partition, node): &(u16, _)| *partition < count && shape.has(*node);
                if nodes.len() > MOST || !nodes.iter().all(known) {
                    return Response::Refused("no such node".into());
                }
                let sums = nodes.into_iter();
                let sums = sums.map(|(partition, node)| self.replica.sums(owners, partition, node));
                Response::Sums(sums.collect())
            }
            ExchangeRequest::List {
                owners,
                partition,
                leaves,
                from,
                limit,
                as_of_ms,
            } => {
                let known =
                    partition < count && leaves.end as usize <= self.replica.shape().leaves();
                if !known || leaves.start > leaves.end {
                    return Response::Refused("no such leaves".into());
                }
                let limit = usize::try_from(limit).unwrap_or(MOST).clamp(1, MOST);
                self.listing((owners, partition), leaves, (from, limit), as_of_ms)
                    .await
            }
            ExchangeRequest::Objects(keys) => self.objects(&keys),
            ExchangeRequest::Merge(objects) => self.merge(objects).await,
            ExchangeRequest::Repair { partition } if partition >= count => no_such(),
            ExchangeRequest::Repair { partition } => match self.repair(partition).await {
                Ok(exchanged) => Response::Repaired {
                    received: exchanged.received,
                    sent: exchanged.sent,
                },
                Err(error) => Response::Refused(error.to_string()),
            },
        }
    }

    /// Answers one of the requests for parts that move.
    pub async fn answer_transfer(self: &Arc<Self>, request: TransferRequest) -> Response {
        let count = self.replica.partitions().count();
        match request {
            TransferRequest::Chunk { partition, .. }
                if partition >= count || self.cluster.is_unsure() =>
            {
                no_such()
            }
            TransferRequest::Chunk {
                owners,
                partition,
                from,
                bytes,
            } => self.piece((owners, partition), from, bytes).await,
            TransferRequest::Sizes { owners, partitions } => self.sizes(owners, &partitions).await,
        }
    }

    /// Of two nodes that would mend each other at the same time, the one with the lower id does.
    fn makes_way(&self, from: NodeId) -> bool {
        match self.under_way.lock().get_mut(&from) {
            None => true,
            Some(_) if from > self.cluster.me() => false,
            Some(asked) => {
                *asked = true;
                true
            }
        }
    }

    /// What this run has written; of which partitions it may hold what an owner lacks.
    pub fn written(&self) -> Response {
        let seq = self.replica.last_seq();
        let count = self.replica.partitions().count();
        let held = |owners: u8| {
            let held = self.held(owners);
            let strays = |partition: &u16| {
                held.binary_search(partition).is_err() && self.replica.rows(owners, *partition) > 0
            };
            let held: PartitionSet = (0..count).filter(strays).collect();
            (owners, held.into_bytes().into())
        };
        let partitions = self
            .replica
            .sizes()
            .iter()
            .map(|owners| held(*owners))
            .collect();
        Response::Written {
            actor: self.replica.actor(),
            seq,
            now_ms: clock::now_ms(),
            view: self.cluster.fingerprint(),
            partitions,
        }
    }

    async fn listing(
        &self,
        (owners, partition): (u8, u16),
        leaves: Leaves,
        (from, limit): (Bytes, usize),
        as_of_ms: u64,
    ) -> Response {
        let replica = Arc::clone(&self.replica);
        replica.settled().await;
        let list = move || replica.list(owners, partition, &leaves, (&from, limit), as_of_ms);
        match off_worker(list).await {
            Ok(page) => Response::Listing {
                keys: page.keys.into_iter().map(wire).collect(),
                next: page.next.unwrap_or_default().into(),
                damaged: page.damaged,
            },
            Err(error) => Response::Refused(error.to_string()),
        }
    }

    async fn piece(&self, part: (u8, u16), from: Bytes, bytes: u64) -> Response {
        let holds = self.cluster.holders(part).has(self.cluster.me());
        if !holds || self.cluster.lacks_part(part) {
            return Response::Refused("it is not complete here".into());
        }
        let replica = Arc::clone(&self.replica);
        replica.settled().await;
        let bytes = usize::try_from(bytes)
            .unwrap_or(BATCH_BYTES)
            .min(BATCH_BYTES);
        match off_worker(move || replica.piece(part, &from, bytes)).await {
            Ok(piece) => {
                let wired = |(db, name, object): (u8, Vec<u8>, Object)| {
                    let name = name.into();
                    (
                        WireKey { db, name },
                        Bytes::from(record::WIRE.encode(&object)),
                    )
                };
                Response::Chunk {
                    objects: piece.objects.into_iter().map(wired).collect(),
                    next: piece.next.unwrap_or_default().into(),
                }
            }
            Err(error) => Response::Refused(error.to_string()),
        }
    }

    pub(super) async fn sizes(&self, owners: u8, partitions: &[u8]) -> Response {
        let partitions = PartitionSet::from_bytes(partitions);
        let replica = Arc::clone(&self.replica);
        let sizes = move || {
            let asked = partitions.below(replica.partitions().count());
            replica.part_sizes(owners, asked)
        };
        let begun = Instant::now();
        let sizes = off_worker(sizes).await;
        self.governor.rest(begun.elapsed()).await;
        match sizes {
            Ok(sizes) => Response::Sizes(sizes),
            Err(error) => Response::Refused(error.to_string()),
        }
    }

    /// As many as fit; what is not here has no bytes.
    fn objects(&self, keys: &[WireKey]) -> Response {
        let mut objects = Vec::new();
        let mut bytes = 0;
        for key in keys.iter().take(MOST) {
            let Some(at) = checked(key) else {
                return Response::Refused("no such key is possible".into());
            };
            let raw: Bytes = match self.replica.read(at) {
                Ok(object) if object.is_unknown() => Bytes::new(),
                Ok(object) => record::WIRE.encode(&object).into(),
                // Reported where it was listed.
                Err(ReplicaError::Row(_)) => Bytes::new(),
                Err(error) => return Response::Refused(error.to_string()),
            };
            bytes += key.name.len() + raw.len();
            objects.push((key.clone(), raw));
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        Response::Objects(objects)
    }

    /// Joins objects; the answer tells what of them was overwritten long ago.
    async fn merge(&self, objects: Vec<(WireKey, Bytes)>) -> Response {
        let mut corrections = Vec::new();
        let failed = self.replica.failed_batches();
        for (key, raw) in objects {
            let Some(at) = checked(&key) else {
                return Response::Refused("no such key is possible".into());
            };
            let joined = record::WIRE
                .decode(&raw)
                .map_err(Into::into)
                .and_then(|object| {
                    let dots: Vec<Dot> = object.all_versions().map(|version| version.dot).collect();
                    self.replica.join(at, object, &Join::default())?;
                    self.replica.dead_of(at, &dots)
                });
            match joined {
                Ok(dead) if dead.is_empty() => {}
                Ok(dead) => {
                    let mut correction = Object::default();
                    correction.observe(dead);
                    if let Ok(object) = self.replica.read(at) {
                        correction.take_resets(&object);
                    }
                    corrections.push((key, record::WIRE.encode(&correction).into()));
                }
                // It is mended by a read, and holds up nothing else.
                Err(ReplicaError::Row(_)) => {}
                Err(error) => return Response::Refused(error.to_string()),
            }
        }
        self.replica.settled().await;
        if self.replica.failed_batches() == failed {
            Response::Objects(corrections)
        } else {
            Response::Refused("a write was not stored".into())
        }
    }
}

fn wire(key: Listed) -> WireListed {
    WireListed {
        key: WireKey {
            db: key.db,
            name: key.name.into(),
        },
        digest: key.digest,
        dots: key.dots.into_vec(),
    }
}
