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
use super::sending::{Here, Sending};
use super::terms::{How, Wait};
use crate::cluster::Route;
use crate::logic::placement::NodeId;
use crate::logic::quorum::{self, Decision, Holder, Wanted};
use crate::peer::message::{Deltas, KeyRequest, OneDelta, Response, WhyNot};
use crate::peer::{CallError, encode};
use crate::replica::{Delta, Uncommitted, WriteFailed, Written};

/// A longer delta goes by itself: the others do not wait behind it.
const LONG: usize = MOST_BYTES / 4;

/// A write in a group.
pub(super) struct InGroup {
    coordinator: Arc<Coordinator>,
    group: Arc<Group>,
    nth: usize,
    /// Where the decision comes from, once it goes on by itself; and its commit, which somebody waits for then.
    alone: Option<(Told, Option<Commit>)>,
}

/// Waits for this node's copy of a write, and says what came of it.
type Commit = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Drop for InGroup {
    /// Nobody waits any more for what became of this node's copy.
    fn drop(&mut self) {
        self.group.leave(self.nth);
    }
}

impl InGroup {
    pub(super) fn is_nowhere(&self) -> bool {
        self.group.is_nowhere(self.nth)
    }

    /// Waits for the decision; sees to this node's own copy meanwhile, where it has to.
    pub(super) async fn decided(&mut self) -> Option<(Decision, Option<Written>)> {
        poll_fn(|cx| {
            loop {
                if let Some((told, commit)) = &mut self.alone {
                    if let Some(waits) = commit
                        && waits.as_mut().poll(cx).is_ready()
                    {
                        *commit = None;
                    }
                    return Pin::new(told).poll(cx).map(Result::ok);
                }
                match self.group.poll(self.nth, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Next::Met) => return Poll::Ready(Some((Decision::Met, None))),
                    Poll::Ready(Next::Alone(told, alone, at)) => {
                        let store = Arc::clone(self.coordinator.replica.store());
                        let commit = async move {
                            let progress = store.progress(at.shard);
                            alone.on_here(progress.wait_committed(at.ticket).await);
                        };
                        self.alone = Some((told, Some(Box::pin(commit))));
                    }
                }
            }
        })
        .await
    }
}

impl Alone for Sending {
    fn on_answer(self: Arc<Self>, node: NodeId, answer: Response) {
        self.on_outcome(node, None, Ok(answer));
    }

    fn on_no_answer(self: Arc<Self>, node: NodeId, nothing_done: bool) {
        self.fail(node, nothing_done);
    }

    fn on_outdated(self: Arc<Self>, node: NodeId) {
        self.go_to_others(node);
    }

    fn ask_by_itself(self: Arc<Self>, node: NodeId) {
        self.ask_owner(node);
    }

    fn on_here(&self, fate: Result<(), WriteFailed>) {
        self.here().report(fate);
    }

    fn abandon(&self) {
        self.here().abandon();
    }

    fn is_nowhere(&self) -> bool {
        self.here().is_nowhere()
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
        let touched = delta.touched.iter().flatten();
        let touched: usize = touched.map(|element| element.name.len()).sum();
        let fits = delta.object.len() + touched <= LONG && self.cluster.is_at_rest(route.part());
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
        };
        let dot = delta.dot.filter(|_| blind);
        let one = OneDelta {
            db: delta.db,
            name: &delta.name,
            object: &delta.object,
            only_over_seen: dot.is_some(),
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
        let (number, has_room) = group.add(at, dot, |out| one.put(out));
        if !has_room {
            open.remove(nth);
        }
        drop(open);
        if has_room {
            self.turn.ends_soon();
        } else {
            self.send_group(&group);
            self.commit();
            self.settle(&group);
        }
        Some(InGroup {
            coordinator: Arc::clone(self),
            group,
            nth: number,
            alone: None,
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
        }
    }

    /// What was put into the store is committed when this turn ends.
    pub fn end_turn_soon(&self) {
        self.turn.ends_soon();
    }

    /// Sends what has gathered in this turn, and has everything committed that was put into the store.
    pub(super) fn send_groups(self: &Arc<Self>) {
        let groups = std::mem::take(&mut *self.turn.lock());
        for group in &groups {
            self.send_group(group);
        }
        self.commit();
        for group in &groups {
            self.settle(group);
        }
    }

    fn commit(&self) {
        let store = self.replica.store();
        for shard in 0..store.shards() {
            if store.progress(shard).committed() < store.last(shard) {
                store.kick(shard);
            }
        }
    }

    fn send_group(self: &Arc<Self>, group: &Arc<Group>) {
        let (raw, count) = group.seal();
        let deltas = Deltas::of_put(raw);
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        let grouped = &self.counters.writes_grouped;
        grouped.fetch_add(count as u64, Ordering::Relaxed);
        let body = encode(KeyRequest::ApplyAll {
            deltas,
            view: group.terms.view,
        });
        for &node in &group.asked {
            let (coordinator, group) = (Arc::clone(self), Arc::clone(group));
            let done = move |outcome| coordinator.on_group(&group, node, outcome);
            self.ask(node, body.clone(), done);
        }
    }

    /// This node's copies were to be committed: those of a group that are not (they wait for the disk, or something is
    /// wrong) go on by themselves, and each waits for its own.
    fn settle(self: &Arc<Self>, group: &Arc<Group>) {
        let store = self.replica.store();
        let is_there = |Uncommitted { shard, ticket }| {
            let progress = store.progress(shard);
            progress.committed() >= ticket && progress.fate(ticket).is_ok()
        };
        if group.all(is_there) {
            return group.stored_here();
        }
        for nth in 0..group.len() {
            self.go_alone(group, nth);
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
            Ok(Response::Outdated(members)) => {
                self.cluster.learn_from(node, members);
                return self.all_go_alone(group, |alone| alone.on_outdated(node));
            }
            Ok(of_all) => {
                return self.all_go_alone(group, |alone| alone.on_answer(node, of_all.clone()));
            }
            Err(CallError::Unknown) => {
                self.turn.note_older(node);
                return self.all_go_alone(group, |alone| alone.ask_by_itself(node));
            }
            Err(error) => {
                self.cluster.failed(node, error);
                let nothing_done = error.nothing_done();
                return self.all_go_alone(group, |alone| alone.on_no_answer(node, nothing_done));
            }
        };
        // Before the group counts that node: they have not been stored there.
        let mut by_number: BTreeMap<usize, Response> = BTreeMap::new();
        for (nth, response) in exceptions {
            let nth = usize::try_from(nth).unwrap_or(usize::MAX);
            if self.go_alone(group, nth).is_some() {
                by_number.insert(nth, response);
            }
        }
        for (nth, alone) in group.stored_at(node) {
            match by_number.remove(&nth) {
                // It did not fit into the answer.
                Some(Response::NotRun(WhyNot::Busy)) => alone.ask_by_itself(node),
                response => alone.on_answer(node, response.unwrap_or(Response::Done)),
            }
        }
    }

    fn all_go_alone(self: &Arc<Self>, group: &Arc<Group>, tell: impl Fn(Arc<dyn Alone>)) {
        for nth in 0..group.len() {
            if let Some(alone) = self.go_alone(group, nth) {
                tell(alone);
            }
        }
    }

    /// Has a write go on by itself, unless it does already.
    fn go_alone(self: &Arc<Self>, group: &Arc<Group>, nth: usize) -> Option<Arc<dyn Alone>> {
        let (place, alone) = group.place(nth)?;
        if alone.is_some() {
            return alone;
        }
        let delta = OneDelta::at(&place.sent, place.starts)?;
        let route = self.cluster.route(delta.name);
        let Terms { wanted, view } = group.terms;
        // Of another membership than that in which it was sent nothing is said here.
        let is_same = self.cluster.view(route).is(view);
        let fallbacks = self.cluster.targets(route).fallbacks.into_iter();
        let fallbacks = fallbacks.filter(|id| is_same && !group.asked.contains(id));
        let fallbacks = fallbacks.collect();
        let w = Wait {
            w: wanted.w,
            hoped: wanted.hoped,
        };
        let how = How {
            w,
            blind: delta.only_over_seen,
            again: 0,
        };
        group.fall_out(nth, |quorum, is_told| {
            let write = quorum.fall_out(nth, fallbacks)?;
            self.counters.writes_out.fetch_add(1, Ordering::Relaxed);
            let here = if quorum.is_here() {
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
                &delta,
                (how, group.view.clone(), place.dot),
                (write, quorum.here()),
                (&here, (!is_told).then_some(decided)),
            );
            if !quorum.is_here() {
                here.tell(&sending);
            }
            Some((sending, told))
        })
    }
}
