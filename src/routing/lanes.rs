//! Turns: which command on a key comes first. No thread is blocked while a command waits for its turn.

use std::task::Poll;

use smallvec::SmallVec;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::logic::placement::key_hash;

/// Commands on one key take turns; those that need not be alone share one. Fair, so that a connection's
/// commands keep their order. Two keys share a lane now and then, which costs time and nothing else.
pub struct Lanes {
    lanes: Box<[RwLock<()>]>,
    /// Held while a command queues in several lanes, so that all such commands have one order.
    queueing: parking_lot::Mutex<()>,
}

/// The turns of one command, in all its lanes.
pub type Turns<'a> = SmallVec<[Turn<'a>; 1]>;

/// A command's turn in one lane.
pub enum Turn<'a> {
    Shared(RwLockReadGuard<'a, ()>),
    Alone(RwLockWriteGuard<'a, ()>),
}

/// The lanes of some keys, in the order of all lanes.
pub(super) type Places = SmallVec<[u16; 4]>;

impl Lanes {
    pub(super) fn new(count: u16) -> Self {
        Self {
            lanes: (0..count).map(|_| RwLock::new(())).collect(),
            queueing: parking_lot::Mutex::default(),
        }
    }

    /// Where some keys are.
    pub(super) fn of<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Places {
        let lane = |key| (key_hash(key) % self.lanes.len() as u64) as u16;
        let mut places: Places = keys.map(lane).collect();
        if places.len() > 1 {
            places.sort_unstable();
            places.dedup();
        }
        places
    }

    /// All of them.
    pub(super) fn all(&self) -> Places {
        (0..self.lanes.len() as u16).collect()
    }

    /// Turns for which nobody has to wait.
    pub(super) fn at_once(&self, places: &[u16], alone: bool) -> Option<Turns<'_>> {
        let turn = |place: &u16| Turn::at_once(&self.lanes[usize::from(*place)], alone);
        places.iter().map(turn).collect()
    }

    /// Waits until the commands that write now are done.
    pub async fn pass(&self) {
        for lane in &self.lanes {
            drop(lane.read().await);
        }
    }

    /// Shares a lane. Blocks.
    pub(super) fn share_blocking(&self, place: u16) -> RwLockReadGuard<'_, ()> {
        self.lanes[usize::from(place)].blocking_read()
    }

    /// Queues in all these lanes at the first poll, and waits for all of them. A command that
    /// queues later comes later, in every one of these lanes.
    pub(super) async fn enter(&self, places: &[u16], alone: bool) -> Turns<'_> {
        if let [_] = places
            && let Some(turns) = self.at_once(places, alone)
        {
            return turns;
        }
        let lanes = places.iter().map(|place| &self.lanes[usize::from(*place)]);
        let mut queues: Vec<_> = lanes
            .map(|lane| Box::pin(Turn::wait(lane, alone)))
            .collect();
        let mut turns: Vec<Option<Turn<'_>>> = queues.iter().map(|_| None).collect();
        let mut queued = false;
        // The scheduler's budget must not make a lane's turn look taken.
        let all = tokio::task::unconstrained(std::future::poll_fn(|cx| {
            let _atomically = (!queued).then(|| self.queueing.lock());
            queued = true;
            for (queue, turn) in queues
                .iter_mut()
                .zip(&mut turns)
                .filter(|(_, turn)| turn.is_none())
            {
                if let Poll::Ready(taken) = queue.as_mut().poll(cx) {
                    *turn = Some(taken);
                }
            }
            if turns.iter().all(Option::is_some) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        all.await;
        turns.into_iter().flatten().collect()
    }
}

impl<'a> Turn<'a> {
    /// A turn for which nobody has to wait.
    fn at_once(lane: &'a RwLock<()>, alone: bool) -> Option<Self> {
        if alone {
            lane.try_write().ok().map(Turn::Alone)
        } else {
            lane.try_read().ok().map(Turn::Shared)
        }
    }

    async fn wait(lane: &'a RwLock<()>, alone: bool) -> Self {
        if alone {
            Turn::Alone(lane.write().await)
        } else {
            Turn::Shared(lane.read().await)
        }
    }
}
