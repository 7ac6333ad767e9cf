//! A write by itself: to every other holder a message, and what its answer means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::smallvec;
use tokio::sync::oneshot;

use super::terms::{How, Wait};
use super::{Coordinator, MOST_AGAIN};
use crate::cluster::View;
use crate::logic::causal::{Dot, Element};
use crate::logic::edit::{Edit, Put};
use crate::logic::placement::NodeId;
use crate::logic::quorum::{Decision, Effect, Holder, Wanted, Write};
use crate::logic::record;
use crate::peer::message::{KeyRequest, OneDelta, Response, WhyNot, WireKey};
use crate::peer::{CallError, encode};
use crate::replica::{Delta, Key, WriteFailed, Written};

impl Coordinator {
    /// Sends a delta to everybody else who holds its key.
    pub(super) fn send(
        self: &Arc<Self>,
        delta: &Delta,
        how: How,
        (decided, again): (Decided, Option<Written>),
        here: &Arc<Here>,
    ) {
        let route = self.cluster.route(&delta.name);
        let view = self.cluster.view(route);
        let targets = self.cluster.targets(route);
        // A node without room is told of deletes alone.
        let takes = |id| !delta.grows || self.cluster.takes_writes(id);
        let answers = |id| self.cluster.answers(id) && takes(id);
        let wanted = Wanted {
            w: how.w.w,
            hoped: how.w.hoped,
            n: route.rule.n,
            strict: route.rule.strict,
        };
        let (write, mut effects) = Write::start(wanted, &targets, answers);
        if targets.here.is_none() {
            // A copy that is not ours goes when an owner has it.
            let first = targets.holders.first();
            effects.extend(first.map(|holder| Effect::KeepHint(holder.node)));
        }
        let sending = Arc::new(Sending {
            coordinator: Arc::clone(self),
            key: WireKey {
                db: delta.db,
                name: delta.name.clone(),
            },
            object: delta.object.clone(),
            touched: delta.touched.clone(),
            how,
            view,
            here: Arc::clone(here),
            holds_here: targets.here,
            blind: delta.dot.filter(|_| how.blind),
            state: Mutex::new(State {
                write,
                decided: Some(decided),
                decision: None,
                again,
                is_outdated: false,
            }),
        });
        sending.follow(effects);
        here.tell(&sending);
    }
}

/// What became of this node's own copy of a write, for all who are counting; and whether anybody may
/// have a copy.
#[derive(Default)]
pub struct Here {
    state: Mutex<HereState>,
    /// Whether somebody has it, or nobody knows.
    may_be_somewhere: AtomicBool,
}

#[derive(Default)]
struct HereState {
    stored: Option<bool>,
    /// They hold this, too: until it is reported, or nobody will.
    waiting: Vec<Arc<Sending>>,
    is_abandoned: bool,
}

impl Here {
    /// It is stored already.
    pub(super) fn stored() -> Arc<Self> {
        let here = Self::default();
        here.report(Ok(()));
        Arc::new(here)
    }

    /// The fate of this node's copy.
    pub fn report(&self, fate: Result<(), WriteFailed>) {
        if fate != Err(WriteFailed::NotStored) {
            self.note_somewhere();
        }
        let waiting = {
            let mut state = self.state.lock();
            state.stored = Some(fate.is_ok());
            std::mem::take(&mut state.waiting)
        };
        for sending in waiting {
            sending.on_here(fate.is_ok());
        }
    }

    /// Tells it what is known, now or when it is.
    pub(super) fn tell(&self, sending: &Arc<Sending>) {
        let stored = {
            let mut state = self.state.lock();
            if state.stored.is_none() && !state.is_abandoned {
                state.waiting.push(Arc::clone(sending));
            }
            state.stored
        };
        if let Some(stored) = stored {
            sending.on_here(stored);
        }
    }

    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.is_abandoned = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// Whether nobody can have a copy, as far as is known now.
    pub fn is_nowhere(&self) -> bool {
        !self.may_be_somewhere.load(Ordering::Acquire)
    }

    pub(super) fn note_somewhere(&self) {
        self.may_be_somewhere.store(true, Ordering::Release);
    }
}

pub(super) type Decided = oneshot::Sender<(Decision, Option<Written>)>;

pub(super) struct Sending {
    coordinator: Arc<Coordinator>,
    key: WireKey,
    object: Bytes,
    touched: Option<Vec<Element>>,
    how: How,
    /// What was known of the membership when it began.
    view: View,
    here: Arc<Here>,
    /// What this node's own copy counts for.
    holds_here: Option<Holder>,
    /// The dot of a write that has not read a quorum.
    blind: Option<Dot>,
    state: Mutex<State>,
}

struct State {
    write: Write,
    /// The client to tell; none when it was told, or waits for another write instead.
    decided: Option<Decided>,
    decision: Option<Decision>,
    /// What this node has written instead of what the client waited for at first.
    again: Option<Written>,
    /// Whether it was sent again, to whom it belongs by now.
    is_outdated: bool,
}

impl Sending {
    /// A write that goes on by itself, behind what has happened to it so far.
    pub(super) fn of(
        coordinator: &Arc<Coordinator>,
        delta: &OneDelta<'_>,
        (how, view, blind): (How, View, Option<Dot>),
        (write, holds_here): (Write, Option<Holder>),
        (here, decided): (&Arc<Here>, Option<Decided>),
    ) -> Arc<Self> {
        Arc::new(Self {
            coordinator: Arc::clone(coordinator),
            key: delta.key(),
            object: Bytes::copy_from_slice(delta.object),
            touched: delta.touched.clone(),
            how,
            view,
            here: Arc::clone(here),
            holds_here,
            blind,
            state: Mutex::new(State {
                write,
                decided,
                decision: None,
                again: None,
                is_outdated: false,
            }),
        })
    }

    fn key(&self) -> Key<'_> {
        Key {
            db: self.key.db,
            name: &self.key.name,
        }
    }

    fn follow(self: &Arc<Self>, effects: Vec<Effect>) {
        // The same bytes for everybody who is no fallback, and to whom the same view is said.
        let mut plain: Option<(u64, Bytes)> = None;
        for effect in effects {
            match effect {
                Effect::Ask { node, hint_for } => {
                    let view = self.view.for_node(node);
                    let body = match &plain {
                        Some((as_of, body)) if *as_of == view && hint_for.is_none() => body.clone(),
                        _ => self.body(node, hint_for, self.blind.is_some()),
                    };
                    if hint_for.is_none() {
                        plain = Some((view, body.clone()));
                    }
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

    fn body(&self, node: NodeId, hint_for: Option<NodeId>, only_over_seen: bool) -> Bytes {
        encode(KeyRequest::Apply {
            key: self.key.clone(),
            object: self.object.clone(),
            hint_for,
            only_over_seen,
            touched: self.touched.clone(),
            view: self.view.for_node(node),
        })
    }

    /// Sends it to an owner, which has not been sent it.
    pub(super) fn ask_owner(self: &Arc<Self>, node: NodeId) {
        self.ask(node, None, self.body(node, None, self.blind.is_some()));
    }

    fn ask(self: &Arc<Self>, node: NodeId, hint_for: Option<NodeId>, body: Bytes) {
        let sending = Arc::clone(self);
        let done = move |outcome| sending.on_outcome(node, hint_for, outcome);
        self.coordinator.ask(node, body, done);
    }

    /// Whether this node's own copy is stored is known.
    fn on_here(self: &Arc<Self>, stored: bool) {
        let effects = {
            let write = &mut self.state.lock().write;
            if stored {
                write.on_stored_here(self.holds_here)
            } else {
                write.on_failed_here(self.holds_here)
            }
        };
        self.follow(effects);
    }

    /// What is known of this node's copy, and of all.
    pub(super) fn here(&self) -> &Here {
        &self.here
    }

    /// What a node has answered.
    pub(super) fn on_outcome(
        self: &Arc<Self>,
        node: NodeId,
        hint_for: Option<NodeId>,
        outcome: Result<Response, CallError>,
    ) {
        let stored = match outcome {
            Ok(Response::Done) => true,
            Ok(Response::Outdated(members)) => {
                self.coordinator.cluster.learn_from(node, members);
                self.send_anew()
            }
            Ok(Response::Unseen(theirs)) => {
                if !self.write_again(&theirs) {
                    // Nobody waits for it, or it was overwritten: as it is.
                    self.spread(&theirs);
                    return self.ask(node, hint_for, self.body(node, hint_for, false));
                }
                true
            }
            Ok(Response::InDoubt) => {
                self.here.note_somewhere();
                false
            }
            Ok(refused) => {
                match refused {
                    Response::NotRun(WhyNot::Full) => self.coordinator.cluster.note_full(node),
                    Response::NotRun(_) => {}
                    // Older nodes say so, too, where nobody knows.
                    _ => self.here.note_somewhere(),
                }
                tracing::debug!(%node, ?refused, "a write was not taken");
                false
            }
            Err(error) => {
                self.coordinator.cluster.failed(node, error);
                return self.fail(node, error.nothing_done());
            }
        };
        self.end(node, stored);
    }

    /// A node has not answered, which is noted.
    pub(super) fn fail(self: &Arc<Self>, node: NodeId, nothing_done: bool) {
        if !nothing_done {
            self.here.note_somewhere();
        }
        self.end(node, false);
    }

    /// A node sees another membership, which was learned from.
    pub(super) fn go_to_others(self: &Arc<Self>, node: NodeId) {
        let stored = self.send_anew();
        self.end(node, stored);
    }

    /// A node has it, or will not have it.
    fn end(self: &Arc<Self>, node: NodeId, stored: bool) {
        if stored {
            self.here.note_somewhere();
        }
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
        let again = self
            .coordinator
            .take(&self.key, theirs, None)
            .and_then(|_| {
                let first = record::WIRE.decode(&self.object).ok()?;
                // What came to this node's copy since then is later, and stays.
                let mut seen = first.context().clone();
                let theirs = record::WIRE.decode(theirs).ok()?;
                if theirs.context().last(dot.actor) > dot.seq {
                    // There is something that may have been written over this one: it stays beside it.
                    return None;
                }
                seen.join(theirs.context());
                let updated = self.coordinator.replica.update(self.key(), |object, _| {
                    let ours = object.cells().iter().find_map(|(element, versions)| {
                        let ours = versions.iter().find(|version| version.dot == dot)?;
                        Some(Put {
                            element: element.clone(),
                            value: ours.value.clone(),
                        })
                    });
                    let over = |put| Edit::Over {
                        seen,
                        puts: smallvec![put],
                        at: None,
                    };
                    (ours.map_or(Edit::Keep, over), ())
                });
                let mut written = updated.ok()?.1?;
                self.coordinator.replica.store().kick(written.shard);
                let mut delta = written.delta.take()?;
                // A node that has refused the first delta must still learn what that one had overwritten.
                let mut both = delta.decode().ok()?;
                both.join(first);
                delta.object = record::WIRE.encode(&both).into();
                Some((delta, written))
            });
        let rewrites = &self.coordinator.counters.rewrites;
        rewrites.fetch_add(u64::from(again.is_some()), Ordering::Relaxed);
        let Some((delta, written)) = again else {
            self.state.lock().decided = Some(decided);
            self.tell();
            return false;
        };
        let how = How {
            blind: false,
            ..self.how
        };
        let again = (decided, Some(written));
        self.coordinator.send(&delta, how, again, &Here::stored());
        true
    }

    /// The membership has changed: the same delta goes to those that hold the key now; whether the
    /// node that said so is one of them.
    fn send_anew(&self) -> bool {
        let coordinator = &self.coordinator;
        if self.how.again >= MOST_AGAIN {
            return false;
        }
        let (decided, again) = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.is_outdated, true) {
                return true;
            }
            (state.decided.take(), state.again.take())
        };
        let Ok(object) = record::WIRE.decode(&self.object) else {
            return false;
        };
        let key = (self.key.db, self.key.name.clone());
        let delta = Delta {
            touched: self.touched.clone(),
            ..Delta::of(key, &object, coordinator.replica.actor())
        };
        let how = How {
            again: self.how.again + 1,
            ..self.how
        };
        // The client may have its answer already.
        let decided = decided.unwrap_or_else(|| oneshot::channel().0);
        coordinator.send(&delta, how, (decided, again), &self.here);
        true
    }

    /// Takes in what one owner alone may have, and sends it to all: the remains of a write whose
    /// coordinator went away.
    fn spread(&self, theirs: &[u8]) {
        if self.coordinator.take(&self.key, theirs, None).is_none() {
            return;
        }
        if let Ok(object) = self.coordinator.replica.read(self.key()) {
            let key = (self.key.db, self.key.name.clone());
            let all = Delta::of(key, &object, self.coordinator.replica.actor());
            let (nobody, _) = oneshot::channel();
            let how = How {
                w: Wait { w: 1, hoped: 1 },
                blind: false,
                again: 0,
            };
            self.coordinator
                .send(&all, how, (nobody, None), &Here::stored());
        }
    }

    fn keep_hint(&self, owner: NodeId) {
        if let Err(error) = self.coordinator.replica.keep_hint(self.key(), owner) {
            tracing::warn!(%owner, %error, "a hint was not kept");
        }
    }
}
