//! Group commit: one thread a shard drains a queue into batches, so that no write to the engine
//! runs on an async worker and all the writes that wait share one journal write and one fsync.
//!
//! Queueing does not wake the thread: a writer that has queued all it has says so with a kick. The
//! more writers queue before the first of them kicks, the fewer wake-ups and journal writes.
//!
//! Invariant: a write is reported as failed only when it is known not to be there. Whether a batch is
//! there that the engine has failed over is settled before anything else is written; writes that were
//! queued behind it have seen it, and share its fate. (Where settling takes too long, those who wait
//! are told that nobody knows, and failures are counted once more when it is known.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::progress::{Progress, Ticket};
use super::{Need, Op, Refused, Write};
use crate::base::clock;

/// What the committer drives. Called by its thread alone.
pub(super) trait Engine: Send + 'static {
    /// Commits the changes as one batch.
    fn commit(&mut self, ops: Vec<Op>) -> Result<Committed, CommitFailed>;

    /// After [`CommitFailed::Unknown`]: makes the engine usable again and says whether the batch is
    /// there, as durable as it was to be. `None`: it cannot be told yet.
    fn settle(&mut self) -> Option<Fate>;

    /// How much room there is.
    fn room(&mut self) -> Room;
}

/// The batch is in the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    /// Whether it is on the disk too.
    pub(super) synced: bool,
}

/// What became of a batch that the engine had failed over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Landed(Committed),
    Absent,
}

/// The batch was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitFailed {
    /// It did not reach the engine.
    Untouched,
    /// It may be there, all of it, when the engine is opened anew.
    Unknown,
}

/// What the disk has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Nothing.
    None,
    /// What frees space.
    Tight,
    /// Everything.
    #[default]
    Plenty,
}

/// So many queued changes start a batch by themselves.
const EAGER_OPS: usize = 1_024;
/// How often the disk is looked at while it has no room, and an engine that cannot be used.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often an engine that failed is tried again at first.
const SETTLE_EVERY: Duration = Duration::from_millis(10);
/// Those who wait are told after so long that nobody knows.
const IN_DOUBT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "seven facts, each by itself")]
struct Queue {
    ops: Vec<Op>,
    /// Whether the thread sleeps until it is woken.
    idle: bool,
    last: Ticket,
    room: Room,
    /// Commands that are queueing what belongs into one batch.
    gathering: usize,
    /// Whether somebody wants it committed as soon as they have.
    kicked: bool,
    /// Whether somebody waits whom they may wait for in turn.
    urged: bool,
    /// Whether a batch is being settled.
    in_doubt: bool,
    /// Whether what was committed cannot be synced.
    unsynced: bool,
    closing: bool,
    closed: bool,
}

/// A shard's queue.
#[derive(Debug, Default)]
pub(super) struct Committer {
    queue: Mutex<Queue>,
    filled: Condvar,
    closed: Condvar,
    /// Whether writes that take space are refused.
    refuses: AtomicBool,
    pub(super) progress: Progress,
}

impl Committer {
    /// Starts the shard's thread.
    pub(super) fn start(shard: usize, mut engine: impl Engine) -> std::io::Result<Arc<Self>> {
        let committer = Arc::new(Self::default());
        // The first write has to know whether there is room.
        committer.look(&mut engine);
        let mine = Arc::clone(&committer);
        std::thread::Builder::new()
            .name(format!("committer-{shard}"))
            .spawn(move || mine.run(engine))?;
        Ok(committer)
    }

    /// Queues changes as one atomic part of the next batch. A [`Self::kick`] must follow.
    pub(super) fn enqueue(&self, write: Write) -> Result<Ticket, Refused> {
        let mut queue = self.queue.lock();
        if queue.closing {
            return Err(Refused::Closing);
        }
        let least = match write.need {
            Need::Grows => Room::Plenty,
            Need::Frees => Room::Tight,
        };
        if queue.unsynced {
            return Err(Refused::Unsynced);
        }
        if queue.in_doubt || queue.room < least {
            return Err(Refused::DiskFull);
        }
        self.progress.check(write.as_of)?;
        if write.ops.is_empty() {
            // No batch comes of it: it is there as soon as what was queued before, and whatever became of
            // earlier writes.
            let is_all_settled = self.progress.committed() >= queue.last;
            return Ok(if is_all_settled { 0 } else { queue.last });
        }
        queue.ops.extend(write.ops);
        queue.last += 1;
        let ticket = queue.last;
        if queue.ops.len() >= EAGER_OPS && queue.gathering == 0 {
            self.wake(queue);
        }
        Ok(ticket)
    }

    /// Has what is queued committed soon.
    pub(super) fn kick(&self) {
        let mut queue = self.queue.lock();
        if queue.gathering > 0 {
            queue.kicked = true;
        } else if !queue.ops.is_empty() {
            self.wake(queue);
        }
    }

    /// Has everything queued committed soon, also what is being gathered: that may wait for the caller.
    pub(super) fn urge(&self) {
        let mut queue = self.queue.lock();
        if !queue.ops.is_empty() {
            queue.urged = true;
            self.wake(queue);
        }
    }

    /// From now on nothing is committed, until as many have called [`Self::gathered`].
    pub(super) fn gather(&self) {
        self.queue.lock().gathering += 1;
    }

    /// What was queued since [`Self::gather`] may be committed, in one batch.
    pub(super) fn gathered(&self) {
        let mut queue = self.queue.lock();
        queue.gathering -= 1;
        let is_due = queue.kicked || queue.ops.len() >= EAGER_OPS;
        if queue.gathering == 0 && is_due {
            queue.kicked = false;
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

    /// Whether writes that take space are refused.
    pub(super) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
    }

    /// Refuses writes while what was committed cannot be synced; whether it did before.
    pub(super) fn be_unsynced(&self, unsynced: bool) -> bool {
        let mut before = false;
        self.refuse(|queue| before = std::mem::replace(&mut queue.unsynced, unsynced));
        before
    }

    /// Whether writes are refused because of that.
    pub(super) fn is_unsynced(&self) -> bool {
        self.queue.lock().unsynced
    }

    /// Changes what is refused.
    fn refuse(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        change(&mut queue);
        let refuses = queue.in_doubt || queue.unsynced || queue.room < Room::Plenty;
        self.refuses.store(refuses, Ordering::Release);
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
            if !ops.is_empty() {
                match engine.commit(ops) {
                    Ok(Committed { synced }) => self.progress.publish_committed(upto, synced),
                    Err(CommitFailed::Untouched) => self.fail_all(),
                    Err(CommitFailed::Unknown) => self.settle(&mut engine, upto),
                }
            }
            self.look(&mut engine);
        }
        drop(engine);
        self.queue.lock().closed = true;
        self.closed.notify_all();
    }

    /// What is queued; nothing when the disk should be looked at again, `None` at the end.
    fn next_batch(&self) -> Option<(Vec<Op>, Ticket)> {
        let mut queue = self.queue.lock();
        while queue.ops.is_empty() || queue.gathering > 0 && !queue.urged {
            if queue.closing {
                if queue.ops.is_empty() {
                    return None;
                }
                break;
            }
            queue.idle = true;
            if queue.room == Room::Plenty {
                self.filled.wait(&mut queue);
            } else if self.filled.wait_for(&mut queue, LOOK_EVERY).timed_out() {
                queue.idle = false;
                if queue.gathering > 0 && !queue.urged {
                    return Some((Vec::new(), queue.last));
                }
                break;
            }
            queue.idle = false;
        }
        queue.urged = false;
        let room = Vec::with_capacity(queue.ops.len());
        Some((std::mem::replace(&mut queue.ops, room), queue.last))
    }

    fn look(&self, engine: &mut impl Engine) {
        let room = engine.room();
        self.refuse(|queue| queue.room = room);
    }

    /// Writes that were queued behind a failed one saw it: they fail with it.
    fn fail_all(&self) {
        let upto = {
            let mut queue = self.queue.lock();
            queue.ops.clear();
            queue.urged = false;
            // While nothing can be queued, a writer that has seen what failed learns it when it tries to.
            let upto = queue.last;
            self.progress.publish_failed(upto, true);
            upto
        };
        debug_assert!(self.progress.committed() >= upto);
    }

    /// Finds out whether a batch is there.
    fn settle(&self, engine: &mut impl Engine, upto: Ticket) {
        self.refuse(|queue| queue.in_doubt = true);
        let begun = clock::monotonic();
        let mut told = false;
        let landed = loop {
            if let Some(landed) = engine.settle() {
                break Some(landed);
            }
            let waited = clock::monotonic().duration_since(begun);
            if !told && waited >= IN_DOUBT {
                told = true;
                let mut queue = self.queue.lock();
                queue.ops.clear();
                queue.urged = false;
                self.progress.publish_failed(queue.last, false);
            }
            if self.pause_or_end(begun, told) {
                break None;
            }
        };
        match landed {
            Some(Fate::Landed(Committed { synced })) if !told => {
                self.progress.publish_committed(upto, synced);
            }
            Some(Fate::Absent) if !told => self.fail_all(),
            // What was read meanwhile may not be what is there.
            _ => {
                let mut queue = self.queue.lock();
                queue.ops.clear();
                queue.urged = false;
                self.progress.publish_failed(queue.last, false);
            }
        }
        self.refuse(|queue| queue.in_doubt = false);
    }

    /// Whether the store closes.
    fn pause_or_end(&self, begun: Instant, told: bool) -> bool {
        let mut queue = self.queue.lock();
        if queue.closing && clock::monotonic().duration_since(begun) >= IN_DOUBT {
            return true;
        }
        let pause = if told { LOOK_EVERY } else { SETTLE_EVERY };
        self.filled.wait_for(&mut queue, pause);
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::storage::{Table, WriteFailed};

    /// Does as it is told, batch by batch.
    struct Scripted {
        commits: VecDeque<Result<(), CommitFailed>>,
        fates: VecDeque<Option<bool>>,
        began: std::sync::mpsc::Sender<()>,
        go_on: std::sync::mpsc::Receiver<()>,
    }

    impl Engine for Scripted {
        fn commit(&mut self, _: Vec<Op>) -> Result<Committed, CommitFailed> {
            let _ = self.began.send(());
            let _ = self.go_on.recv();
            let outcome = self.commits.pop_front().unwrap_or(Ok(()));
            outcome.map(|()| Committed { synced: false })
        }

        fn settle(&mut self) -> Option<Fate> {
            let landed = self.fates.pop_front().unwrap_or(Some(false))?;
            Some(if landed {
                Fate::Landed(Committed { synced: false })
            } else {
                Fate::Absent
            })
        }

        fn room(&mut self) -> Room {
            Room::Plenty
        }
    }

    fn write() -> Write {
        Write::of(vec![Op {
            table: Table::Data,
            key: b"k".to_vec(),
            value: Some(Vec::new()),
        }])
    }

    #[test]
    fn a_write_of_nothing_is_there_when_what_came_before_it_is() {
        let (began, beginnings) = std::sync::mpsc::channel();
        let (go, go_on) = std::sync::mpsc::channel();
        let engine = Scripted {
            commits: VecDeque::new(),
            fates: VecDeque::new(),
            began,
            go_on,
        };
        let committer = Committer::start(0, engine).expect("a thread");
        let nothing = || committer.enqueue(Write::of(Vec::new())).expect("taken");
        let first = nothing();
        committer.kick();
        committer.progress.block_until_committed(first);
        let second = committer.enqueue(write()).expect("taken");
        committer.kick();
        beginnings.recv().expect("began");
        let third = nothing();
        assert!(committer.progress.committed() < third);
        drop(go);
        committer.progress.block_until_committed(third);
        assert_eq!(committer.progress.fate(second), Ok(()));
        committer.close();
    }

    /// Queues a write, and one behind it while the first is being committed; their fates, in order,
    /// and that of one afterwards.
    fn fates(commit: CommitFailed, fates: Vec<Option<bool>>) -> [Result<(), WriteFailed>; 3] {
        let (began, beginnings) = std::sync::mpsc::channel();
        let (go, go_on) = std::sync::mpsc::channel();
        let engine = Scripted {
            commits: VecDeque::from([Err(commit)]),
            fates: fates.into(),
            began,
            go_on,
        };
        let committer = Committer::start(0, engine).expect("a thread");
        let first = committer.enqueue(write()).expect("taken");
        committer.kick();
        beginnings.recv().expect("began");
        let second = committer.enqueue(write()).expect("taken");
        drop(go);
        committer.kick();
        let progress = &committer.progress;
        progress.block_until_committed(second);
        let third = loop {
            match committer.enqueue(write()) {
                Ok(ticket) => break ticket,
                Err(Refused::DiskFull) => std::thread::yield_now(),
                Err(other) => panic!("{other}"),
            }
        };
        committer.kick();
        progress.block_until_committed(third);
        let fates = [first, second, third].map(|ticket| progress.fate(ticket));
        committer.close();
        fates
    }

    #[test]
    fn what_was_there_after_all_is_no_failure_and_neither_is_what_saw_it() {
        let all = fates(CommitFailed::Unknown, vec![None, None, Some(true)]);
        assert_eq!(all, [Ok(()); 3]);
    }

    #[test]
    fn what_is_not_there_fails_with_what_saw_it() {
        let failed = Err(WriteFailed::NotStored);
        let all = fates(CommitFailed::Unknown, vec![None, Some(false)]);
        assert_eq!(all, [failed, failed, Ok(())]);
        let all = fates(CommitFailed::Untouched, Vec::new());
        assert_eq!(all, [failed, failed, Ok(())]);
    }

    #[test]
    fn who_has_seen_what_failed_is_refused_later() {
        let (began, _) = std::sync::mpsc::channel();
        let (_, go_on) = std::sync::mpsc::channel();
        let engine = Scripted {
            commits: VecDeque::from([Err(CommitFailed::Untouched)]),
            fates: VecDeque::new(),
            began,
            go_on,
        };
        let committer = Committer::start(0, engine).expect("a thread");
        let saw = committer.progress.failures();
        let failed = committer.enqueue(write()).expect("taken");
        committer.kick();
        committer.progress.block_until_committed(failed);
        let refused = committer.enqueue(write().as_of(saw));
        assert_eq!(refused, Err(Refused::Changed));
        let now = committer.progress.failures();
        assert!(committer.enqueue(write().as_of(now)).is_ok());
        committer.close();
    }
}
