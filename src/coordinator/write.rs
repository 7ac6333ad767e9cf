//! The second half of a write: the delta goes to the other owners.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Coordinator, QuorumError};
use crate::logic::causal::Dot;
use crate::logic::placement::NodeId;
use crate::logic::quorum::{Decision, Effect, Write};
use crate::logic::row;
use crate::logic::types::string::Change;
use crate::peer::message::{Request, Response, WireKey};
use crate::peer::{CallError, encode};
use crate::replica::{Delta, Key, Written};

impl Coordinator {
    /// Sends a delta, which this node has stored, to the other owners; the future ends when `w` have
    /// it. Everything is on its way before this returns, and goes on when the future is dropped.
    ///
    /// A `blind` write has not read a quorum before: a replica that holds what the write has not seen
    /// sends that instead of storing a sibling, and the value is written again, over that too. Then
    /// the future brings what was written in the end, for the caller to see committed.
    pub fn replicate(
        self: &Arc<Self>,
        delta: &Delta,
        w: u8,
        blind: bool,
    ) -> impl Future<Output = Result<Option<Written>, QuorumError>> + Send + use<> {
        let (decided, decision) = oneshot::channel();
        self.send(delta, w, blind, decided, None);
        let wanted = w.into();
        async move {
            let short = |stored| QuorumError::WriteShort { stored, wanted };
            match decision.await {
                Ok((Decision::Met, again)) => Ok(again),
                Ok((Decision::Short { answered }, _)) => Err(short(answered)),
                Ok((Decision::Behind, _)) | Err(_) => Err(short(1)),
            }
        }
    }

    fn send(
        self: &Arc<Self>,
        delta: &Delta,
        w: u8,
        blind: bool,
        decided: Decided,
        again: Option<Written>,
    ) {
        let route = self.cluster.route(&delta.name);
        self.cluster.note_data();
        let targets = self.cluster.targets(route);
        let answers = |id| self.cluster.answers(id);
        let (mut write, mut effects) = Write::start(w.into(), &targets, answers);
        effects.extend(write.on_stored_here());
        if !self.cluster.owns(route) {
            // A copy that is not ours goes when an owner has it.
            effects.extend(targets.owners.first().copied().map(Effect::KeepHint));
        }
        let dot = delta.object.all_versions().next().map(|v| v.dot);
        let sending = Arc::new(Sending {
            coordinator: Arc::clone(self),
            key: WireKey {
                db: delta.db,
                name: delta.name.clone(),
            },
            object: row::encode(&delta.object).into(),
            w,
            blind: dot.filter(|_| blind),
            state: Mutex::new(State {
                write,
                decided: Some(decided),
                decision: None,
                again,
            }),
        });
        sending.follow(effects);
    }
}

type Decided = oneshot::Sender<(Decision, Option<Written>)>;

struct Sending {
    coordinator: Arc<Coordinator>,
    key: WireKey,
    object: Bytes,
    w: u8,
    /// The dot of a write that has not read a quorum.
    blind: Option<Dot>,
    state: Mutex<State>,
}

struct State {
    write: Write,
    /// Whom to tell; nobody when he was told, or waits for another write instead.
    decided: Option<Decided>,
    decision: Option<Decision>,
    /// What this node has written instead of what the client waited for at first.
    again: Option<Written>,
}

impl Sending {
    fn follow(self: &Arc<Self>, effects: Vec<Effect>) {
        // The same bytes for everybody who is no fallback.
        let mut plain: Option<Bytes> = None;
        for effect in effects {
            match effect {
                Effect::Ask { node, hint_for } => {
                    let body = match hint_for {
                        None => plain
                            .get_or_insert_with(|| self.body(None, self.blind.is_some()))
                            .clone(),
                        hint_for => self.body(hint_for, self.blind.is_some()),
                    };
                    self.ask(node, hint_for, body);
                }
                Effect::KeepHint(owner) => self.keep_hint(owner),
                Effect::Decide(decision) => {
                    self.state.lock().decision = Some(decision);
                    self.tell();
                }
            }
        }
    }

    /// Tells the client, once there is a decision.
    fn tell(&self) {
        let told = {
            let mut state = self.state.lock();
            let State {
                decided,
                decision,
                again,
                ..
            } = &mut *state;
            decision.and_then(|decision| Some((decided.take()?, (decision, again.take()))))
        };
        if let Some((decided, outcome)) = told {
            let _ = decided.send(outcome);
        }
    }

    fn body(&self, hint_for: Option<NodeId>, only_over_seen: bool) -> Bytes {
        encode(&Request::Apply {
            key: self.key.clone(),
            object: self.object.clone(),
            hint_for,
            only_over_seen,
        })
    }

    fn ask(self: &Arc<Self>, node: NodeId, hint_for: Option<NodeId>, body: Bytes) {
        let sending = Arc::clone(self);
        let done = move |outcome| sending.on_outcome(node, hint_for, outcome);
        self.coordinator.ask(node, body, done);
    }

    fn on_outcome(
        self: &Arc<Self>,
        node: NodeId,
        hint_for: Option<NodeId>,
        outcome: Result<Response, CallError>,
    ) {
        let stored = match outcome {
            Ok(Response::Done) => true,
            Ok(Response::Unseen(theirs)) => {
                if !self.write_again(&theirs) {
                    // Nobody waits for it, or it was overwritten: as it is.
                    self.spread(&theirs);
                    return self.ask(node, hint_for, self.body(hint_for, false));
                }
                true
            }
            Ok(refused) => {
                tracing::debug!(%node, ?refused, "a write was not taken");
                false
            }
            Err(error) => {
                self.coordinator.cluster.failed(node, error);
                false
            }
        };
        let effects = {
            let mut state = self.state.lock();
            if stored {
                state.write.on_stored(node)
            } else {
                state.write.on_failed(node)
            }
        };
        self.follow(effects);
    }

    /// Takes in what a blind write has not seen and writes its value over that too, in a write of its
    /// own, for which the client waits from now on.
    fn write_again(&self, theirs: &[u8]) -> bool {
        let Some(dot) = self.blind else {
            return false;
        };
        let Some(decided) = self.state.lock().decided.take() else {
            return false;
        };
        let key = Key {
            db: self.key.db,
            name: &self.key.name,
        };
        let again = self
            .coordinator
            .take(&self.key, theirs, None)
            .and_then(|_| {
                let first = row::decode(&self.object).ok()?;
                // What came to this node's copy since then is later, and stays.
                let mut seen = first.context().clone();
                seen.join(row::decode(theirs).ok()?.context());
                let updated = self.coordinator.replica.update(key, |object, _| {
                    let ours = object.all_versions().find(|version| version.dot == dot);
                    let change = ours.map(|version| Change::Resolve {
                        seen,
                        value: Some(version.value.clone()),
                    });
                    (change.unwrap_or(Change::Keep), ())
                });
                let mut written = updated.ok()?.1?;
                self.coordinator.replica.store().kick(written.shard);
                let mut delta = written.delta.take()?;
                // Who has refused the first delta must still learn what that one had overwritten.
                delta.object.join(first);
                Some((delta, written))
            });
        let rewrites = &self.coordinator.counters.rewrites;
        rewrites.fetch_add(u64::from(again.is_some()), Ordering::Relaxed);
        let Some((delta, written)) = again else {
            self.state.lock().decided = Some(decided);
            self.tell();
            return false;
        };
        self.coordinator
            .send(&delta, self.w, false, decided, Some(written));
        true
    }

    /// Takes in what one owner alone may have, and sends it to all: the remains of a write whose
    /// coordinator went away.
    fn spread(&self, theirs: &[u8]) {
        let key = Key {
            db: self.key.db,
            name: &self.key.name,
        };
        if self.coordinator.take(&self.key, theirs, None).is_none() {
            return;
        }
        if let Ok(object) = self.coordinator.replica.read(key) {
            let all = Delta {
                db: self.key.db,
                name: self.key.name.clone(),
                object: (*object).clone(),
            };
            let (nobody, _) = oneshot::channel();
            self.coordinator.send(&all, 1, false, nobody, None);
        }
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
}
