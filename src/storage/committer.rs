//! Group commit: one thread a shard drains a queue into batches, so that no write to the engine
//! runs on an async worker and all the writes that wait share one journal write and one fsync.
//!
//! Queueing does not wake the thread: a writer that has queued all it has says so with a kick. The
//! more writers queue before the first of them kicks, the fewer wake-ups and journal writes.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::progress::{Progress, Ticket};
use super::{Op, Refused};

/// What the committer drives. Called by its thread alone.
pub(super) trait Engine: Send + 'static {
    /// Commits the changes as one batch. On an error nothing may be assumed of them.
    fn commit(&mut self, ops: Vec<Op>) -> Result<Committed, CommitFailed>;

    /// After a failure: tries to become writable again.
    fn recover(&mut self) -> bool;
}

/// The batch is in the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    /// Whether it is on the disk too.
    pub(super) synced: bool,
}

/// The batch was not stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommitFailed;

/// So many queued changes start a batch by themselves.
const EAGER_OPS: usize = 1_024;
/// How often a failed engine tries to recover.
const RECOVER_EVERY: std::time::Duration = std::time::Duration::from_millis(250);

#[derive(Debug, Default)]
struct Queue {
    ops: Vec<Op>,
    /// Whether the thread sleeps until it is woken.
    idle: bool,
    last: Ticket,
    refused: Option<Refused>,
    closing: bool,
    closed: bool,
}

/// A shard's queue.
#[derive(Debug, Default)]
pub(super) struct Committer {
    queue: Mutex<Queue>,
    filled: Condvar,
    closed: Condvar,
    pub(super) progress: Progress,
}

impl Committer {
    /// Starts the shard's thread.
    pub(super) fn start(shard: usize, engine: impl Engine) -> std::io::Result<Arc<Self>> {
        let committer = Arc::new(Self::default());
        let mine = Arc::clone(&committer);
        std::thread::Builder::new()
            .name(format!("committer-{shard}"))
            .spawn(move || mine.run(engine))?;
        Ok(committer)
    }

    /// Queues changes as one atomic part of the next batch. A [`Self::kick`] must follow.
    pub(super) fn enqueue(&self, mut ops: Vec<Op>) -> Result<Ticket, Refused> {
        let mut queue = self.queue.lock();
        if queue.closing {
            return Err(Refused::Closing);
        }
        if let Some(refused) = queue.refused {
            return Err(refused);
        }
        queue.ops.append(&mut ops);
        queue.last += 1;
        let ticket = queue.last;
        if queue.ops.len() >= EAGER_OPS {
            self.wake(queue);
        }
        Ok(ticket)
    }

    /// Has what is queued committed soon.
    pub(super) fn kick(&self) {
        let queue = self.queue.lock();
        if !queue.ops.is_empty() {
            self.wake(queue);
        }
    }

    /// A thread that is not idle takes the queue when its batch is done.
    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if std::mem::take(&mut queue.idle) {
            drop(queue);
            self.filled.notify_one();
        }
    }

    /// Whether writes are refused.
    pub(super) fn refuses(&self) -> bool {
        self.queue.lock().refused.is_some()
    }

    /// Commits what was taken and ends the thread.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closing = true;
        self.filled.notify_one();
        while !queue.closed {
            self.closed.wait(&mut queue);
        }
    }

    fn run(&self, mut engine: impl Engine) {
        while let Some((ops, upto)) = self.next_batch() {
            match engine.commit(ops) {
                Ok(Committed { synced }) => self.progress.publish_committed(upto, synced),
                Err(CommitFailed) => self.fail_until_recovered(&mut engine),
            }
        }
        drop(engine);
        self.queue.lock().closed = true;
        self.closed.notify_all();
    }

    fn next_batch(&self) -> Option<(Vec<Op>, Ticket)> {
        let mut queue = self.queue.lock();
        while queue.ops.is_empty() {
            if queue.closing {
                return None;
            }
            queue.idle = true;
            self.filled.wait(&mut queue);
            queue.idle = false;
        }
        let room = Vec::with_capacity(queue.ops.len());
        Some((std::mem::replace(&mut queue.ops, room), queue.last))
    }

    /// Writes that were queued behind a failed one saw it: they fail with it.
    fn fail_until_recovered(&self, engine: &mut impl Engine) {
        let upto = {
            let mut queue = self.queue.lock();
            queue.refused = Some(Refused::DiskFull);
            queue.ops.clear();
            queue.last
        };
        self.progress.publish_failed(upto);
        loop {
            if engine.recover() {
                break;
            }
            let mut queue = self.queue.lock();
            if queue.closing {
                break;
            }
            self.filled.wait_for(&mut queue, RECOVER_EVERY);
        }
        self.queue.lock().refused = None;
    }
}
