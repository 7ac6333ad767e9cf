//! Writes of one turn go together: they are gathered, sent in one message to each member, and fall out where
//! something is wrong with one of them.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::sync::oneshot;

use super::Coordinator;
use super::group::{Alone, Group, MOST_BYTES, Next, Terms, Told};
use super::sending::{Here, How, Sending, Wait};
use crate::cluster::Route;
use crate::logic::placement::NodeId;
use crate::logic::quorum::{self, Decision, Holder, Wanted};
use crate::peer::message::{Deltas, KeyRequest, OneDelta, Response};
use crate::peer::{CallError, encode};
use crate::replica::{Delta, Uncommitted, WriteFailed, Written};

/// A longer delta goes by itself: the others do not wait behind it.
const LONG: usize = MOST_BYTES / 4;

/// A write in a group.
pub(super) struct InGroup {
    coordinator: Arc<Coordinator>,
    group: Arc<Group>,
    nth: usize,
    /// Where the decision comes from, once it goes on by itself.
    told: Option<Told>,
}

impl Drop for InGroup {
    /// Nobody waits for what this one would have said.
    fn drop(&mut self) {
        self.group.known_here(self.nth, None);
    }
}

impl InGroup {
    pub(super) fn is_nowhere(&self) -> bool {
        self.group.is_nowhere(self.nth)
    }

    /// Waits for the decision; sees to this node's own copy meanwhile, where it has to.
    pub(super) async fn decided(&mut self) -> Option<(Decision, Option<Written>)> {
        let coordinator = Arc::clone(&self.coordinator);
        let store = Arc::clone(coordinator.replica.store());
        let mut commit: Option<Pin<Box<dyn Future<Output = Result<(), WriteFailed>> + Send>>> =
            None;
        let mut commits = false;
        poll_fn(|cx| {
            loop {
                if let Some(waits) = &mut commit
                    && let Poll::Ready(fate) = waits.as_mut().poll(cx)
                {
                    commit = None;
                    coordinator.committed_here(&self.group, self.nth, fate);
                }
                if let Some(told) = &mut self.told {
                    return Pin::new(told).poll(cx).map(Result::ok);
                }
                match self.group.poll(self.nth, commits, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Next::Met) => return Poll::Ready(Some((Decision::Met, None))),
                    Poll::Ready(Next::Alone(told)) => self.told = Some(told),
                    Poll::Ready(Next::Commit(Uncommitted { shard, ticket })) => {
                        commits = true;
                        let store = Arc::clone(&store);
                        commit = Some(Box::pin(async move {
                            store.progress(shard).wait_committed(ticket).await
                        }));
                    }
                }
            }
        })
        .await
    }
}

impl Alone for Sending {
    fn on_outcome(self: Arc<Self>, node: NodeId, outcome: Result<Response, CallError>) {
        if outcome == Err(CallError::Unknown) {
            // An older node does not know groups.
            return self.ask_owner(node);
        }
        Sending::on_outcome(&self, node, None, outcome);
    }

    fn on_here(&self, fate: Result<(), WriteFailed>) {
        self.report_here(fate);
    }

    fn is_nowhere(&self) -> bool {
        self.is_nowhere_yet()
    }
}

impl Coordinator {
    /// Puts a delta into a group of this turn. `None`: it has to go by itself.
    pub(super) fn join_group(
        self: &Arc<Self>,
        (delta, at): (&Delta, Uncommitted),
        w: Wait,
        blind: bool,
    ) -> Option<InGroup> {
        let route = self.cluster.route(&delta.name);
        let view = self.cluster.view(route);
        let common = view.common().filter(|_| w.hoped == w.w);
        let fits = delta.object.len() <= LONG && self.cluster.is_at_rest(route.part());
        let Some(common) = common.filter(|_| fits) else {
            self.counters.writes_alone.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let wanted = Wanted {
            w: w.w,
            hoped: w.hoped,
            n: route.rule.n,
            strict: route.rule.strict,
        };
        let terms = Terms {
            view: common,
            wanted,
            blind,
        };
        let dot = delta.dot.filter(|_| blind);
        let one = OneDelta {
            db: delta.db,
            name: &delta.name,
            object: &delta.object,
            touched: delta.touched.clone(),
        };
        let mut open = self.turn.lock();
        let known = open.iter().position(|group| group.terms == terms);
        let nth = if let Some(nth) = known {
            nth
        } else {
            let Some(quorum) = self.group_of(route, wanted) else {
                self.counters.writes_alone.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            open.push(Arc::new(Group::new(terms, view, quorum)));
            open.len() - 1
        };
        let group = Arc::clone(&open[nth]);
        let (number, has_room) = group.add(at, dot, |out| one.put(out))?;
        if !has_room {
            open.swap_remove(nth);
        }
        drop(open);
        if has_room {
            self.turn.ends_soon();
        } else {
            self.send_group(&group);
            self.commit_group(&group);
        }
        Some(InGroup {
            coordinator: Arc::clone(self),
            group,
            nth: number,
            told: None,
        })
    }

    /// The quorum of a group, with those who are asked; `None` where somebody who holds its keys does not answer, has
    /// no room or does not know groups.
    fn group_of(&self, route: Route, wanted: Wanted) -> Option<(quorum::Group, Vec<NodeId>)> {
        let targets = self.cluster.targets(route);
        let counts = |holder: &Holder| holder.serves && holder.elsewhere && holder.stays;
        let takes = |holder: &Holder| {
            self.cluster.answers(holder.node)
                && self.cluster.takes_writes(holder.node)
                && !self.turn.is_older(holder.node)
        };
        let is_whole = targets.here.as_ref().is_some_and(counts)
            && targets
                .holders
                .iter()
                .all(|holder| counts(holder) && takes(holder));
        is_whole.then(|| quorum::Group::start(wanted, &targets))
    }

    /// Ends turns, until it is dropped: whoever has something to write or to send in one does so first.
    pub async fn end_turns(self: Arc<Self>) {
        loop {
            self.turn.some().await;
            tokio::task::yield_now().await;
            self.send_groups();
            let store = self.replica.store();
            (0..store.shards()).for_each(|shard| store.kick(shard));
        }
    }

    /// What was put into the store is committed when this turn ends.
    pub fn end_turn_soon(&self) {
        self.turn.ends_soon();
    }

    /// Sends what has gathered in this turn, and has this node's own copies committed.
    pub(super) fn send_groups(self: &Arc<Self>) {
        let groups = std::mem::take(&mut *self.turn.lock());
        for group in &groups {
            self.send_group(group);
        }
        for group in &groups {
            self.commit_group(group);
        }
    }

    fn send_group(self: &Arc<Self>, group: &Arc<Group>) {
        let (raw, count) = group.seal();
        let Ok(deltas) = Deltas::new(raw) else { return };
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        let grouped = &self.counters.writes_grouped;
        grouped.fetch_add(count as u64, Ordering::Relaxed);
        let body = encode(KeyRequest::ApplyAll {
            deltas,
            only_over_seen: group.terms.blind,
            view: group.terms.view,
        });
        for &node in &group.asked {
            let (coordinator, group) = (Arc::clone(self), Arc::clone(group));
            let done = move |outcome| coordinator.on_group(&group, node, outcome);
            self.ask(node, body.clone(), done);
        }
    }

    /// Has this node's copies written to the journal. Where they are not committed with that, each waits for its own.
    fn commit_group(&self, group: &Group) {
        let store = self.replica.store();
        let mut is_stored = true;
        group.for_each_commit(|Uncommitted { shard, ticket }| {
            let progress = store.progress(shard);
            if progress.committed() < ticket {
                store.kick(shard);
            }
            is_stored &= progress.committed() >= ticket && progress.fate(ticket).is_ok();
        });
        if is_stored {
            group.stored_here();
        } else {
            group.commit_by_write();
        }
    }

    /// What became of this node's copy of a write that waited for its own commit.
    fn committed_here(
        self: &Arc<Self>,
        group: &Arc<Group>,
        nth: usize,
        fate: Result<(), WriteFailed>,
    ) {
        if fate.is_err() {
            self.go_alone(group, nth);
        }
        if let Some(alone) = group.known_here(nth, Some(fate)) {
            alone.on_here(fate);
        }
    }

    /// What a node has answered to a group.
    fn on_group(
        self: &Arc<Self>,
        group: &Arc<Group>,
        node: NodeId,
        outcome: Result<Response, CallError>,
    ) {
        let exceptions = match outcome {
            Ok(Response::Done) => Vec::new(),
            Ok(Response::Each(exceptions)) => exceptions,
            of_all => {
                if of_all == Err(CallError::Unknown) {
                    self.turn.note_older(node);
                }
                for nth in 0..group.len() {
                    if let Some(alone) = self.go_alone(group, nth) {
                        alone.on_outcome(node, of_all.clone());
                    }
                }
                return;
            }
        };
        let before = group.all_alone().into_iter();
        let mut told: BTreeMap<usize, (Arc<dyn Alone>, Response)> = before
            .map(|(nth, alone)| (nth, (alone, Response::Done)))
            .collect();
        // They fall out as they are without that answer.
        for (nth, response) in exceptions {
            let nth = usize::try_from(nth).unwrap_or(usize::MAX);
            let alone = self.go_alone(group, nth);
            told.extend(alone.map(|alone| (nth, (alone, response))));
        }
        group.stored_at(node);
        for (alone, response) in told.into_values() {
            alone.on_outcome(node, Ok(response));
        }
    }

    /// Has a write go on by itself, unless it does already.
    fn go_alone(self: &Arc<Self>, group: &Arc<Group>, nth: usize) -> Option<Arc<dyn Alone>> {
        let (place, alone) = group.place(nth)?;
        if alone.is_some() {
            return alone;
        }
        let delta = OneDelta::at(&place.sent, place.starts)?;
        let targets = self.cluster.targets(self.cluster.route(delta.name));
        let fallbacks = targets.fallbacks.into();
        let Terms { wanted, blind, .. } = group.terms;
        let w = Wait {
            w: wanted.w,
            hoped: wanted.hoped,
        };
        let how = How { w, blind, again: 0 };
        self.counters.writes_out.fetch_add(1, Ordering::Relaxed);
        group.fall_out(nth, |quorum, is_told, is_known_here| {
            let write = quorum.fall_out(nth, fallbacks)?;
            let here = if is_known_here {
                Here::stored()
            } else {
                Arc::default()
            };
            if group.is_somewhere() {
                here.note_somewhere();
            }
            let (decided, told) = oneshot::channel();
            let sending = Sending::of(
                self,
                (&delta, &place.sent),
                (how, group.view.clone(), place.dot),
                (write, targets.here),
                (&here, (!is_told).then_some(decided)),
            );
            if !is_known_here {
                here.tell(&sending);
            }
            Some((sending, told))
        })
    }
}
