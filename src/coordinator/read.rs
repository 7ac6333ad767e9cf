//! The first half of a read: a quorum's objects are joined into this node's copy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::take::Taken;
use super::watched::Hedge;
use super::{Coordinator, MOST_AGAIN, QuorumError};
use crate::cluster::View;
use crate::logic::causal::{Context, Dot, Object};
use crate::logic::digest;
use crate::logic::placement::{Holders, NodeId};
use crate::logic::quorum::{Decision, Effect, Read};
use crate::logic::record;
use crate::peer::message::{KeyRequest, Response, WhyNot, WireKey};
use crate::peer::{CallError, encode};
use crate::replica::{Join, Key, Reach, ReplicaError};

/// A read is not called slow before.
const SOONEST_HEDGE: Duration = Duration::from_millis(2);
/// How often it is tried to mend damaged rows.
const MEND_EVERY: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Joins the copies of `r` replicas, this node's among them, into this node's, and more until it
    /// has the `own` dots that the client has written. A node that turns out to be behind is sent the result
    /// (read repair).
    ///
    /// # Errors
    /// When fewer reply.
    pub fn refresh(
        self: &Arc<Self>,
        db: u8,
        name: &[u8],
        r: u8,
        own: &[Dot],
    ) -> impl Future<Output = Result<(), QuorumError>> + Send + use<> {
        let refuses = self.cluster.refuses_some();
        let is_lost = refuses && self.cluster.is_lost(self.cluster.route(name).part());
        let mut waiting = if is_lost {
            None
        } else {
            self.start_reading(Key { db, name }, r, own, true)
        };
        let (mut again, mut was_gone) = (0, false);
        let name = Bytes::copy_from_slice(name);
        let own: SmallVec<[Dot; 2]> = SmallVec::from_slice(own);
        let coordinator = Arc::clone(self);
        async move {
            if is_lost {
                return Err(QuorumError::Lost);
            }
            let short = |answered| QuorumError::ReadShort {
                replied: answered,
                wanted: r.into(),
            };
            while let Some(decided) = waiting {
                match decided.await {
                    Ok(Told::Decision(Decision::Met)) => break,
                    // A node that has handed it on since had delivered it before.
                    Ok(Told::Decision(Decision::Gone)) if was_gone => break,
                    Ok(Told::Decision(Decision::Gone)) => {
                        was_gone = true;
                        let key = Key { db, name: &name };
                        waiting = coordinator.start_reading(key, r, &own, true);
                    }
                    Ok(Told::Decision(Decision::Short { answered })) => {
                        return Err(short(answered));
                    }
                    Ok(Told::Decision(Decision::Behind)) => return Err(QuorumError::Behind),
                    // To whom the key belongs now.
                    Ok(Told::Outdated) => {
                        again += 1;
                        let key = Key { db, name: &name };
                        waiting = coordinator.start_reading(key, r, &own, again < MOST_AGAIN);
                    }
                    Err(_) => return Err(short(1)),
                }
            }
            Ok(())
        }
    }

    /// `None`: this node's own copy is enough.
    fn start_reading(
        self: &Arc<Self>,
        key: Key<'_>,
        r: u8,
        own: &[Dot],
        can_begin_again: bool,
    ) -> Option<oneshot::Receiver<Told>> {
        let Key { db, name } = key;
        let route = self.cluster.route(name);
        let view = self.cluster.view(route);
        let holders = self.cluster.holders(route.part());
        let copies = holders.serving.len();
        let r = r.max(1) + Holders::beyond(route.rule.n, copies);
        let r = r.min(copies.max(1) as u8);
        // A copy that may not be there does not count, unless nobody is there who has one that does.
        let serves = self.cluster.serves(route);
        let (all, covers) = (
            self.compares_all(),
            own.is_empty() || self.replica.has_seen(key, own),
        );
        if r <= 1 && serves && !all && covers && !self.replica.has_damaged() {
            return None;
        }
        let ours = self.own_copy(key);
        let is_damaged = matches!(ours, Err(ReplicaError::Row(_)));
        let ours = ours.ok();
        let me = self.cluster.me();
        let others = holders.serving.iter().filter(|id| **id != me);
        let nobody_else = !others.into_iter().any(|id| self.cluster.answers(*id));
        let stands_in = (!holders.has(me) || self.cluster.is_unsure()) && nobody_else;
        let counts = ours.is_some() && (serves || stands_in);
        let r = if counts { r } else { r + 1 };
        // What cannot be read is read from others, who count alone.
        let r = if is_damaged {
            r.max(2).min(copies.max(1) as u8)
        } else {
            r
        };
        if r <= 1 && !all && covers {
            return None;
        }
        let mut targets = self.cluster.targets(route);
        if is_damaged {
            // A node that does not hold the key tells nothing of it.
            targets.fallbacks.clear();
        }
        let answers = |id| self.cluster.answers(id);
        let (read, effects) = Read::start(r.into(), &targets, answers, all, covers);
        let stray_for = match targets.here {
            Some(_) => None,
            None => targets.holders.first().map(|holder| holder.node),
        };
        let (decided, decision) = oneshot::channel();
        let name = Bytes::copy_from_slice(name);
        let reading = Arc::new(Reading {
            coordinator: Arc::clone(self),
            key: WireKey { db, name },
            // No object has the digest that is asked for where this one cannot be read.
            ours: ours.unwrap_or(Ours {
                known: u64::MAX,
                ..Ours::default()
            }),
            stray_for,
            view,
            can_begin_again,
            own: SmallVec::from_slice(own),
            begun: Instant::now(),
            state: Mutex::new(State {
                read,
                seen: SmallVec::new(),
                gathered: is_damaged.then(Object::default),
                dots: SmallVec::new(),
                decided: Some(decided),
            }),
        });
        reading.follow(effects);
        if r > 1 {
            let watched = Arc::clone(&reading) as Arc<dyn Hedge>;
            self.watched.add(reading.begun, &watched);
        }
        Some(decision)
    }

    /// This node's copy; of a large collection the sums, which are compared first.
    fn own_copy(&self, key: Key<'_>) -> Result<Ours, ReplicaError> {
        let reach = if self.replica.has_damaged() {
            Reach::Whole
        } else {
            if let Some(sight) = self.replica.sight(key) {
                return Ok(Ours {
                    known: sight.known,
                    lives: sight.lives,
                    dots: sight.dot.into_iter().collect(),
                    have_seen: None,
                });
            }
            Reach::Head
        };
        let object = self.replica.read_some(key, reach)?;
        Ok(Ours {
            known: self.replica.digest(key, &object),
            lives: digest::of_living(key.name, &object),
            dots: object.all_versions().map(|version| version.dot).collect(),
            have_seen: (!object.is_whole()).then(|| object.context().clone()),
        })
    }

    /// Of a hundred reads so many ask all owners.
    fn compares_all(&self) -> bool {
        let percent = u64::from(self.options.read_repair_chance);
        let nth = self.counters.reads.fetch_add(1, Ordering::Relaxed);
        nth * percent % 100 < percent
    }

    /// Reads rows that are damaged here from others, one after the other, until it is dropped.
    pub async fn mend_rows(self: Arc<Self>) {
        let mut next = (0, Vec::new());
        loop {
            let Some((db, name)) = self.replica.next_damaged(&next) else {
                next = (0, Vec::new());
                tokio::time::sleep(MEND_EVERY).await;
                continue;
            };
            let r = self.quorum_of(&name, super::Asked::default()).r;
            let mended = self.refresh(db, &name, r, &[]).await;
            if let Err(error) = mended {
                tracing::debug!(%error, "a damaged row cannot be mended yet");
            }
            self.replica.forget_damaged(db, &name);
            next = (db, [name.as_slice(), &[0]].concat());
        }
    }

    /// Asks one more owner wherever the reply takes longer than nearly all others, until it is
    /// dropped.
    pub async fn hedge_reads(&self) {
        loop {
            self.watched.some().await;
            let patience = Duration::from_micros(self.watched.slowest().us()).max(SOONEST_HEDGE);
            tokio::time::sleep(patience / 2).await;
            for reading in self.watched.slower_than(patience) {
                if reading.hedge() {
                    self.counters.hedged_reads.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

struct Reading {
    coordinator: Arc<Coordinator>,
    key: WireKey,
    /// This node's copy before.
    ours: Ours,
    /// An owner for whom a copy that is not ours is kept.
    stray_for: Option<NodeId>,
    /// What was known of the membership when it began.
    view: View,
    /// Whether it may begin again when the membership has changed.
    can_begin_again: bool,
    /// What the client itself has written.
    own: SmallVec<[Dot; 2]>,
    begun: Instant,
    state: Mutex<State>,
}

/// What a read compares of this node's copy.
#[derive(Default)]
struct Ours {
    /// The digest of all that is known.
    known: u64,
    /// The digest of what lives, and the dots of that.
    lives: u64,
    dots: Vec<Dot>,
    /// What it has seen, where it is large.
    have_seen: Option<Context>,
}

struct State {
    read: Read,
    /// The digests of what lives in the others' copies.
    seen: SmallVec<[(NodeId, u64); 4]>,
    /// What lives in those that are not equal to this node's.
    dots: SmallVec<[Dot; 4]>,
    /// Where this node's copy cannot be read: the others' together, until there are enough.
    gathered: Option<Object>,
    decided: Option<oneshot::Sender<Told>>,
}

/// What the client's side hears.
#[derive(Debug)]
enum Told {
    Decision(Decision),
    /// The membership has changed: the read must begin again.
    Outdated,
}

impl Hedge for Reading {
    fn hedge(self: Arc<Self>) -> bool {
        let effect = self.state.lock().read.on_slow();
        let hedged = effect.is_some();
        self.follow(effect.into_iter().collect());
        hedged
    }
}

impl Reading {
    fn follow(self: &Arc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Ask { node, .. } => self.ask(node),
                Effect::Decide(decision @ (Decision::Met | Decision::Gone)) => {
                    let decision = self.mend().unwrap_or(decision);
                    self.tell(Told::Decision(decision));
                }
                Effect::Decide(decision) => self.tell(Told::Decision(decision)),
                Effect::KeepHint(_) => {}
            }
        }
    }

    /// A quorum of others takes the place of a copy that cannot be read; the decision where it does not.
    fn mend(&self) -> Option<Decision> {
        let object = self.state.lock().gathered.take()?;
        let key = Key {
            db: self.key.db,
            name: &self.key.name,
        };
        let how = Join {
            hint_for: self.stray_for,
            mends: true,
            ..Join::default()
        };
        match self.coordinator.replica.join(key, object, &how) {
            Ok(written) => {
                self.coordinator.replica.store().kick(written.shard);
                let name = key.name.escape_ascii().to_string();
                tracing::info!(
                    db = key.db,
                    key = name,
                    "a damaged row is mended from others"
                );
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a damaged row was not mended");
                Some(Decision::Short { answered: 0 })
            }
        }
    }

    /// Takes an object in, or keeps it until there are enough.
    fn take(&self, raw: &[u8]) -> Option<Taken> {
        let mut state = self.state.lock();
        if let Some(gathered) = &mut state.gathered {
            let object = record::WIRE.decode(raw).ok()?;
            let taken = Taken::of(&self.key, &object);
            gathered.join(object);
            return Some(taken);
        }
        drop(state);
        self.coordinator.take(&self.key, raw, self.stray_for)
    }

    fn tell(&self, told: Told) {
        let decided = self.state.lock().decided.take();
        if let Some(decided) = decided {
            let _ = decided.send(told);
        }
    }

    fn ask(self: &Arc<Self>, node: NodeId) {
        let body = encode(KeyRequest::Fetch {
            key: self.key.clone(),
            digest: self.ours.known,
            dots: self.ours.dots.clone(),
            seen: self.ours.have_seen.clone(),
            view: self.view.for_node(node),
        });
        let reading = Arc::clone(self);
        let done = move |outcome| reading.on_outcome(node, outcome);
        self.coordinator.ask(node, body, done);
    }

    fn on_outcome(self: &Arc<Self>, node: NodeId, outcome: Result<Response, CallError>) {
        let seen = match outcome {
            Ok(Response::Same) => Some(self.ours.lives),
            Ok(Response::Object(raw)) => {
                let taken = self.take(&raw);
                taken.map(|taken| {
                    self.state.lock().dots.extend(taken.dots);
                    taken.lives
                })
            }
            Ok(Response::Empty(raw)) => {
                self.coordinator.cluster.note_empty(node);
                if !raw.is_empty() {
                    self.take(&raw);
                }
                None
            }
            Ok(Response::Outdated(members)) => {
                self.coordinator.cluster.learn_from(node, members);
                if self.can_begin_again {
                    self.tell(Told::Outdated);
                }
                None
            }
            Ok(_) => None,
            Err(error) => {
                self.coordinator.cluster.failed(node, error);
                None
            }
        };
        if seen.is_some() {
            let took_us = self.begun.elapsed().as_micros() as u64;
            self.coordinator.watched.slowest().note(took_us);
        }
        let key = Key {
            db: self.key.db,
            name: &self.key.name,
        };
        let covers = self.own.is_empty() || self.coordinator.replica.has_seen(key, &self.own);
        let (effects, is_over) = {
            let mut state = self.state.lock();
            let effects = match seen {
                Some(digest) => {
                    state.seen.push((node, digest));
                    state.read.on_reply(node, covers)
                }
                None => state.read.on_failed(node),
            };
            (effects, state.read.is_over())
        };
        self.follow(effects);
        if is_over {
            self.repair();
        }
    }

    /// Sends what this node holds now to those who hold something else.
    fn repair(&self) {
        let (seen, dots) = {
            let mut state = self.state.lock();
            (
                std::mem::take(&mut state.seen),
                std::mem::take(&mut state.dots),
            )
        };
        let key = Key {
            db: self.key.db,
            name: &self.key.name,
        };
        if seen.iter().all(|(_, seen)| *seen == self.ours.lives) {
            return;
        }
        let replica = &self.coordinator.replica;
        let (Ok(object), Ok(dead)) = (replica.read(key), replica.dead_of(key, &dots)) else {
            return;
        };
        let now = digest::of_living(&self.key.name, &object);
        // They must also hear what of theirs is dead, where that is remembered by nobody one by one.
        let mut object = (*object).clone();
        object.observe(dead);
        if object.is_unknown() {
            return;
        }
        let object = Bytes::from(record::WIRE.encode(&object));
        let coordinator = &*self.coordinator;
        let stale = seen.into_iter().filter(|(_, seen)| *seen != now);
        // A node without room is told when it has some.
        for (node, _) in stale.filter(|(node, _)| coordinator.cluster.takes_writes(*node)) {
            let body = encode(KeyRequest::Apply {
                key: self.key.clone(),
                object: object.clone(),
                hint_for: None,
                only_over_seen: false,
                touched: None,
                view: self.view.for_node(node),
            });
            let repairs = &coordinator.counters.read_repairs;
            repairs.fetch_add(1, Ordering::Relaxed);
            let cluster = Arc::clone(&coordinator.cluster);
            coordinator.ask(node, body, move |answer| {
                if answer == Ok(Response::NotRun(WhyNot::Full)) {
                    cluster.note_full(node);
                }
            });
        }
    }
}
