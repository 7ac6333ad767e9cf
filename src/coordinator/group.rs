//! Writes of one turn that go to the same members in one message: what is known of each, and who waits for it.
//!
//! Whatever does not go well for one of them makes it fall out: an [`Alone`] goes on with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::cluster::View;
use crate::logic::causal::Dot;
use crate::logic::placement::NodeId;
use crate::logic::quorum::{Decision, Group as Quorum, Wanted};
use crate::peer::message::Response;
use crate::replica::{Uncommitted, WriteFailed, Written};

/// Writes in one message, and their bytes, at most: what waits behind it waits so long.
pub(super) const MOST_WRITES: usize = 1_024;
pub(super) const MOST_BYTES: usize = 256 << 10;

/// A node that did not know groups is asked again after so long.
const OLDER_FOR: Duration = Duration::from_secs(10);

/// What writes in one message have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// How their sender sees who holds their keys.
    pub(super) view: u64,
    pub(super) wanted: Wanted,
}

/// A write that goes on by itself.
pub(super) trait Alone: Send + Sync {
    /// What another node has answered to it, but for what follows.
    fn on_answer(self: Arc<Self>, node: NodeId, answer: Response);

    /// Another node has not answered, which is noted; whether it certainly did nothing.
    fn on_no_answer(self: Arc<Self>, node: NodeId, nothing_done: bool);

    /// Another node sees another membership, which was learned from.
    fn on_outdated(self: Arc<Self>, node: NodeId);

    /// Another node is to be asked by itself.
    fn ask_by_itself(self: Arc<Self>, node: NodeId);

    /// What became of this node's copy.
    fn on_here(&self, fate: Result<(), WriteFailed>);

    /// Nobody will say what became of this node's copy.
    fn abandon(&self);

    /// Whether nobody can have a copy, as far as is known now.
    fn is_nowhere(&self) -> bool;
}

/// What the client of a write that goes on by itself will hear.
pub(super) type Told = oneshot::Receiver<(Decision, Option<Written>)>;

/// Writes in one message.
pub(super) struct Group {
    pub(super) terms: Terms,
    pub(super) view: View,
    pub(super) asked: Vec<NodeId>,
    state: Mutex<State>,
    /// Whether somebody has some of them, or nobody knows.
    may_be_somewhere: AtomicBool,
}

struct State {
    quorum: Quorum,
    deltas: Vec<u8>,
    sent: Option<Bytes>,
    writes: Vec<One>,
}

/// The groups of this turn.
#[derive(Default)]
pub(super) struct Turn {
    open: Mutex<Vec<Arc<Group>>>,
    /// Somebody has something to send or to commit.
    begun: Notify,
    /// Nodes that do not know groups, as far as was heard lately: until when that is believed.
    older: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Turn {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Arc<Group>>> {
        self.open.lock()
    }

    /// There is something to be sent, or committed, when it ends.
    pub(super) fn ends_soon(&self) {
        self.begun.notify_one();
    }

    /// Waits until there is.
    pub(super) async fn some(&self) {
        self.begun.notified().await;
    }

    /// A node does not know groups.
    pub(super) fn note_older(&self, id: NodeId) {
        self.older.lock().insert(id, Instant::now() + OLDER_FOR);
    }

    /// Whether a node does not, as far as was heard lately.
    pub(super) fn is_older(&self, id: NodeId) -> bool {
        let mut older = self.older.lock();
        let until = older.get(&id).copied();
        let is_over = until.is_some_and(|until| until <= Instant::now());
        if is_over {
            older.remove(&id);
        }
        until.is_some() && !is_over
    }
}

/// One of them.
struct One {
    /// Where its delta is.
    starts: usize,
    /// Its dot, where it has not read a quorum.
    dot: Option<Dot>,
    at: Uncommitted,
    /// Whether its client is gone.
    is_left: bool,
    waits: Option<Waker>,
    alone: Option<Arc<dyn Alone>>,
    told: Option<Told>,
}

/// What its client is to do next.
pub(super) enum Next {
    /// It is answered.
    Met,
    /// The write goes on by itself: its client waits for its commit, and says what came of that.
    Alone(Told, Arc<dyn Alone>, Uncommitted),
}

/// Where a write's delta is, for who goes on with it.
pub(super) struct Place {
    pub(super) starts: usize,
    pub(super) dot: Option<Dot>,
    /// The deltas of all.
    pub(super) sent: Bytes,
}

impl Group {
    /// No writes yet.
    pub(super) fn new(terms: Terms, view: View, (quorum, asked): (Quorum, Vec<NodeId>)) -> Self {
        Self {
            terms,
            view,
            asked,
            state: Mutex::new(State {
                quorum,
                deltas: Vec::new(),
                sent: None,
                writes: Vec::new(),
            }),
            may_be_somewhere: AtomicBool::new(false),
        }
    }

    /// Takes a write that `put` appends; its number, and whether there is room for more. Nothing was sent yet.
    pub(super) fn add(
        &self,
        at: Uncommitted,
        dot: Option<Dot>,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> (usize, bool) {
        let mut state = self.state.lock();
        debug_assert!(state.sent.is_none(), "a group that is open is not sent");
        let starts = state.deltas.len();
        put(&mut state.deltas);
        state.writes.push(One {
            starts,
            dot,
            at,
            is_left: false,
            waits: None,
            alone: None,
            told: None,
        });
        let nth = state.quorum.add();
        let has_room = state.writes.len() < MOST_WRITES && state.deltas.len() < MOST_BYTES;
        (nth, has_room)
    }

    /// No more are taken: their bytes, and how many there are.
    pub(super) fn seal(&self) -> (Bytes, usize) {
        let mut state = self.state.lock();
        let sent = Bytes::from(std::mem::take(&mut state.deltas));
        state.sent = Some(sent.clone());
        (sent, state.writes.len())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.state.lock().writes.len()
    }

    /// Whether something holds for where each of them is committed.
    pub(super) fn all(&self, holds: impl FnMut(Uncommitted) -> bool) -> bool {
        let state = self.state.lock();
        state.writes.iter().map(|one| one.at).all(holds)
    }

    /// This node has all of them.
    pub(super) fn stored_here(&self) {
        self.note_somewhere();
        let mut state = self.state.lock();
        // Those that fall out from here on have that from the group.
        state.quorum.on_stored_here();
        let alone: Vec<_> = state
            .writes
            .iter()
            .filter_map(|one| one.alone.clone())
            .collect();
        go_on(state);
        for alone in alone {
            alone.on_here(Ok(()));
        }
    }

    /// Another node has all of them that have not fallen out by now. Those that have, by number.
    pub(super) fn stored_at(&self, node: NodeId) -> Vec<(usize, Arc<dyn Alone>)> {
        self.note_somewhere();
        let mut state = self.state.lock();
        // One look: whoever falls out later has that from the group.
        state.quorum.on_stored(node);
        let all = state.writes.iter().enumerate();
        let alone = all.filter_map(|(nth, one)| Some((nth, one.alone.clone()?)));
        let alone = alone.collect();
        go_on(state);
        alone
    }

    /// The client of a write is gone.
    pub(super) fn leave(&self, nth: usize) {
        let mut state = self.state.lock();
        let one = &mut state.writes[nth];
        one.is_left = true;
        let alone = one.alone.clone();
        drop(state);
        if let Some(alone) = alone {
            alone.abandon();
        }
    }

    /// Where a write is that was sent; with who goes on with it, if somebody does.
    pub(super) fn place(&self, nth: usize) -> Option<(Place, Option<Arc<dyn Alone>>)> {
        let state = self.state.lock();
        let one = state.writes.get(nth)?;
        let place = Place {
            starts: one.starts,
            dot: one.dot,
            sent: state.sent.clone()?,
        };
        Some((place, one.alone.clone()))
    }

    /// A write falls out: `make` makes who goes on with it of its quorum, and of whether its client is told already.
    pub(super) fn fall_out<A: Alone + 'static>(
        &self,
        nth: usize,
        make: impl FnOnce(&mut Quorum, bool) -> Option<(Arc<A>, Told)>,
    ) -> Option<Arc<dyn Alone>> {
        let mut state = self.state.lock();
        let State { quorum, writes, .. } = &mut *state;
        let one = writes.get_mut(nth)?;
        if let Some(alone) = &one.alone {
            return Some(Arc::clone(alone));
        }
        let is_told = quorum.decision().is_some();
        let (alone, told) = make(quorum, is_told)?;
        let alone: Arc<dyn Alone> = alone;
        one.alone = Some(Arc::clone(&alone));
        one.told = (!is_told).then_some(told);
        let (waits, is_left) = (one.waits.take(), one.is_left);
        drop(state);
        if is_left {
            alone.abandon();
        }
        if let Some(waits) = waits {
            waits.wake();
        }
        Some(alone)
    }

    /// What the client of a write is to do next.
    pub(super) fn poll(&self, nth: usize, cx: &Context<'_>) -> Poll<Next> {
        let mut state = self.state.lock();
        let is_met = state.quorum.decision() == Some(Decision::Met);
        let one = &mut state.writes[nth];
        if let Some((told, alone)) = one.told.take().zip(one.alone.clone()) {
            return Poll::Ready(Next::Alone(told, alone, one.at));
        }
        if is_met {
            return Poll::Ready(Next::Met);
        }
        one.waits = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether nobody can have a copy of a write, as far as is known now.
    pub(super) fn is_nowhere(&self, nth: usize) -> bool {
        let alone = self.state.lock().writes[nth].alone.clone();
        match alone {
            Some(alone) => alone.is_nowhere(),
            None => !self.is_somewhere(),
        }
    }

    pub(super) fn is_somewhere(&self) -> bool {
        self.may_be_somewhere.load(Ordering::Acquire)
    }

    fn note_somewhere(&self) {
        self.may_be_somewhere.store(true, Ordering::Release);
    }
}

/// Those who wait for a decision that is there go on.
fn go_on(mut state: MutexGuard<'_, State>) {
    if state.quorum.decision().is_none() {
        return;
    }
    let waiting = state.writes.iter_mut();
    let waiting: Vec<Waker> = waiting.filter_map(|one| one.waits.take()).collect();
    drop(state);
    waiting.into_iter().for_each(Waker::wake);
}
