//! Turns: which command on a key comes first at its coordinator.

use std::task::Poll;

use smallvec::{SmallVec, smallvec};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::logic::placement::key_hash;

const LANES: usize = 1_024;

/// Commands on one key take turns at its coordinator: from the read quorum before the command to its
/// local step. Those that only read share a turn. Fair, so that a connection's commands keep their
/// order.
pub struct Lanes {
    lanes: Box<[RwLock<()>]>,
    /// Held while a command queues in several lanes, so that all such commands have one order.
    queueing: parking_lot::Mutex<()>,
}

/// A command's turn in one lane.
pub(super) enum Turn<'a> {
    Shared(#[expect(dead_code)] RwLockReadGuard<'a, ()>),
    Alone(#[expect(dead_code)] RwLockWriteGuard<'a, ()>),
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            lanes: (0..LANES).map(|_| RwLock::new(())).collect(),
            queueing: parking_lot::Mutex::default(),
        }
    }
}

impl Lanes {
    /// Queues in the lanes of all keys at the first poll, and waits for all of them. Whoever queues
    /// later comes later, on every one of these keys.
    pub(super) async fn enter(&self, keys: &[&[u8]], alone: bool) -> SmallVec<[Turn<'_>; 1]> {
        let lane = |key: &&[u8]| &self.lanes[key_hash(key) as usize % LANES];
        if let [key] = keys
            && let Some(turn) = Turn::at_once(lane(key), alone)
        {
            return smallvec![turn];
        }
        let mut wanted: Vec<&RwLock<()>> = keys.iter().map(lane).collect();
        wanted.sort_unstable_by_key(|lane| std::ptr::from_ref(*lane));
        wanted.dedup_by_key(|lane| std::ptr::from_ref(*lane));
        let mut queues: Vec<_> = wanted
            .into_iter()
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
