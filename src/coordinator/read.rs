//! The first half of a read: a quorum's objects are joined into this node's copy.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::oneshot;

use super::{Coordinator, QuorumError};
use crate::logic::placement::NodeId;
use crate::logic::quorum::{Decision, Effect, Read};
use crate::logic::row;
use crate::peer::encode;
use crate::peer::message::{Request, Response, WireKey};
use crate::replica::{Key, digest};

impl Coordinator {
    /// Joins the copies of `r` replicas, this node's among them, into this node's. The others are
    /// compared afterwards, and who is behind is sent the result (read repair).
    ///
    /// # Errors
    /// When fewer reply.
    pub async fn refresh(self: &Arc<Self>, db: u8, name: &[u8], r: u8) -> Result<(), QuorumError> {
        let partition = self.partition(name);
        let targets = self.cluster.targets(partition);
        let cluster = Arc::clone(&self.cluster);
        let (read, effects) = Read::start(r.into(), &targets, |id| cluster.answers(id));
        let stray_for = (!cluster.owns(partition)).then(|| targets.owners.first().copied());
        let (decided, decision) = oneshot::channel();
        let key = Key { db, name };
        let ours = self.replica.read(key).map_or(0, |object| digest(&object));
        let mut asking = Asking {
            coordinator: Arc::clone(self),
            key: WireKey {
                db,
                name: bytes::Bytes::copy_from_slice(name),
            },
            ours,
            stray_for: stray_for.flatten(),
            seen: Vec::new(),
            calls: FuturesUnordered::new(),
            decided: Some(decided),
        };
        asking.follow(effects);
        if !read.is_over() {
            self.detach(async move { asking.run(read).await });
        }
        let wanted = r.into();
        match decision.await {
            Ok(Decision::Met) => Ok(()),
            Ok(Decision::Short { answered }) => Err(QuorumError::ReadShort {
                replied: answered,
                wanted,
            }),
            Err(_) => Err(QuorumError::ReadShort { replied: 1, wanted }),
        }
    }
}

/// What a node replied: the digest of its copy.
enum Copy {
    Seen(u64),
    Failed,
}

type Call = std::pin::Pin<Box<dyn Future<Output = (NodeId, Copy)> + Send>>;

struct Asking {
    coordinator: Arc<Coordinator>,
    key: WireKey,
    /// The digest of this node's copy before.
    ours: u64,
    /// An owner for whom a copy that is not ours is kept.
    stray_for: Option<NodeId>,
    seen: Vec<(NodeId, u64)>,
    calls: FuturesUnordered<Call>,
    decided: Option<oneshot::Sender<Decision>>,
}

impl Asking {
    fn follow(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Ask { node, .. } => self.ask(node),
                Effect::Decide(decision) => {
                    if let Some(decided) = self.decided.take() {
                        let _ = decided.send(decision);
                    }
                }
                Effect::KeepHint(_) => {}
            }
        }
    }

    fn ask(&mut self, node: NodeId) {
        let body = encode(&Request::Fetch {
            key: self.key.clone(),
            digest: self.ours,
        });
        let coordinator = Arc::clone(&self.coordinator);
        let call = coordinator
            .cluster
            .peers()
            .call(node, body, coordinator.within);
        let (ours, key, stray_for) = (self.ours, self.key.clone(), self.stray_for);
        self.calls.push(Box::pin(async move {
            match call.await {
                Ok(Response::Same) => (node, Copy::Seen(ours)),
                Ok(Response::Object(raw)) => (node, coordinator.take(&key, &raw, stray_for)),
                Ok(_) => (node, Copy::Failed),
                Err(error) => {
                    coordinator.cluster.failed(node, error);
                    (node, Copy::Failed)
                }
            }
        }));
    }

    async fn run(mut self, mut read: Read) {
        while let Some((node, copy)) = self.calls.next().await {
            let effects = match copy {
                Copy::Seen(digest) => {
                    self.seen.push((node, digest));
                    read.on_reply(node)
                }
                Copy::Failed => read.on_failed(node),
            };
            self.follow(effects);
        }
        self.repair().await;
    }

    /// Sends what this node holds now to those who hold something else.
    async fn repair(self) {
        let key = Key {
            db: self.key.db,
            name: &self.key.name,
        };
        let Ok(object) = self.coordinator.replica.read(key) else {
            return;
        };
        let now = digest(&object);
        let stale: Vec<NodeId> = self
            .seen
            .iter()
            .filter(|(_, seen)| *seen != now)
            .map(|(node, _)| *node)
            .collect();
        if stale.is_empty() || object.is_unknown() {
            return;
        }
        let body = encode(&Request::Apply {
            key: self.key.clone(),
            object: row::encode(&object).into(),
            hint_for: None,
        });
        let Coordinator {
            cluster, within, ..
        } = &*self.coordinator;
        for node in stale {
            let _ = cluster.peers().call(node, body.clone(), *within).await;
        }
    }
}

impl Coordinator {
    fn take(&self, key: &WireKey, raw: &[u8], stray_for: Option<NodeId>) -> Copy {
        let Ok(object) = row::decode(raw) else {
            tracing::warn!("a replica's object cannot be read");
            return Copy::Failed;
        };
        let seen = digest(&object);
        let key = Key {
            db: key.db,
            name: &key.name,
        };
        match self.replica.join(key, object, stray_for) {
            Ok(written) => {
                if let Some(written) = written {
                    self.replica.store().kick(written.shard);
                }
                Copy::Seen(seen)
            }
            Err(error) => {
                tracing::warn!(%error, "a replica's object was not taken in");
                Copy::Failed
            }
        }
    }
}
