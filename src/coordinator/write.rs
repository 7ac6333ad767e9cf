//! The second half of a write: the delta goes to the other owners.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::oneshot;

use super::{Coordinator, QuorumError};
use crate::logic::placement::NodeId;
use crate::logic::quorum::{Decision, Effect, Write};
use crate::logic::row;
use crate::peer::encode;
use crate::peer::message::{Request, Response, WireKey};
use crate::replica::{Delta, Key};

impl Coordinator {
    /// Sends a delta, which this node has stored, to the other owners; the future ends when `w` have
    /// it. Everything is on its way before this returns, and goes on when the future is dropped.
    pub fn replicate(
        self: &Arc<Self>,
        delta: &Delta,
        w: u8,
    ) -> impl Future<Output = Result<(), QuorumError>> + Send + use<> {
        let partition = self.partition(&delta.name);
        let targets = self.cluster.targets(partition);
        let cluster = Arc::clone(&self.cluster);
        let (mut write, mut effects) = Write::start(w.into(), &targets, |id| cluster.answers(id));
        effects.extend(write.on_stored_here());
        let sending = Sending {
            coordinator: Arc::clone(self),
            key: WireKey {
                db: delta.db,
                name: delta.name.clone(),
            },
            object: row::encode(&delta.object).into(),
            calls: FuturesUnordered::new(),
            decided: None,
        };
        let (decided, decision) = oneshot::channel();
        let mut sending = Sending {
            decided: Some(decided),
            ..sending
        };
        if !cluster.owns(partition) {
            // A copy that is not ours goes when an owner has it.
            effects.extend(targets.owners.first().copied().map(Effect::KeepHint));
        }
        sending.follow(effects);
        if !write.is_over() {
            self.detach(async move { sending.run(write).await });
        }
        let wanted = w.into();
        async move {
            match decision.await {
                Ok(Decision::Met) => Ok(()),
                Ok(Decision::Short { answered }) => Err(QuorumError::WriteShort {
                    stored: answered,
                    wanted,
                }),
                Err(_) => Err(QuorumError::WriteShort { stored: 1, wanted }),
            }
        }
    }
}

type Call = std::pin::Pin<Box<dyn Future<Output = (NodeId, bool)> + Send>>;

struct Sending {
    coordinator: Arc<Coordinator>,
    key: WireKey,
    object: Bytes,
    calls: FuturesUnordered<Call>,
    decided: Option<oneshot::Sender<Decision>>,
}

impl Sending {
    fn follow(&mut self, effects: Vec<Effect>) {
        // The same bytes for everybody who is no fallback.
        let mut plain: Option<Bytes> = None;
        for effect in effects {
            match effect {
                Effect::Ask { node, hint_for } => {
                    let body = match hint_for {
                        None => plain.get_or_insert_with(|| self.body(None)).clone(),
                        hint_for => self.body(hint_for),
                    };
                    self.ask(node, body);
                }
                Effect::KeepHint(owner) => self.keep_hint(owner),
                Effect::Decide(decision) => {
                    if let Some(decided) = self.decided.take() {
                        let _ = decided.send(decision);
                    }
                }
            }
        }
    }

    fn body(&self, hint_for: Option<NodeId>) -> Bytes {
        encode(&Request::Apply {
            key: self.key.clone(),
            object: self.object.clone(),
            hint_for,
        })
    }

    fn ask(&mut self, node: NodeId, body: Bytes) {
        let Coordinator {
            cluster, within, ..
        } = &*self.coordinator;
        let call = cluster.peers().call(node, body, *within);
        let cluster = Arc::clone(cluster);
        self.calls.push(Box::pin(async move {
            match call.await {
                Ok(Response::Done) => (node, true),
                Ok(refused) => {
                    tracing::debug!(%node, ?refused, "a write was not taken");
                    (node, false)
                }
                Err(error) => {
                    cluster.failed(node, error);
                    (node, false)
                }
            }
        }));
    }

    fn keep_hint(&self, owner: NodeId) {
        let key = Key {
            db: self.key.db,
            name: &self.key.name,
        };
        if let Err(error) = self.coordinator.replica.keep_hint(key, owner) {
            tracing::warn!(%owner, %error, "a hint was not kept");
        }
    }

    async fn run(mut self, mut write: Write) {
        while let Some((node, stored)) = self.calls.next().await {
            let effects = if stored {
                write.on_stored(node)
            } else {
                write.on_failed(node)
            };
            self.follow(effects);
        }
    }
}
