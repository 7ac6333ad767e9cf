//! The threads of a store: they commit for those who wait for the disk, flush, sync, learn, and look after
//! what changes by itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::AppendFsync;
use super::engine::Engine;
use super::marks::Marks;
use super::reserve::Reserve;
use super::room::{self, Room};
use crate::base::{clock, give_way};

const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often the disk's room is looked at, and what could not be written is written again.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Who reads all of the tables after a start rests so long, each 1,024 rows.
const LEARNER_RESTS: Duration = Duration::from_millis(2);
/// How often is looked whether that is worth it again.
const LEARN_AGAIN: Duration = Duration::from_mins(1);
/// Those who wait are told after so long that nobody knows.
const IN_DOUBT: Duration = Duration::from_secs(2);
/// What has failed for want of space, or of a disk, is tried again so often.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Whether all are to end, and who waits to hear it.
pub(super) type Stop = (Mutex<bool>, Condvar);

/// What the threads work on.
pub(super) struct Tended {
    pub(super) engine: Arc<Engine>,
    pub(super) marks: Arc<Marks>,
    pub(super) mode: Arc<Mutex<AppendFsync>>,
}

impl Tended {
    /// Starts all of them. Those that have started when one cannot end with `stop`.
    pub(super) fn start(
        self,
        stop: &Arc<Stop>,
        mut minder: Minder,
    ) -> std::io::Result<Vec<JoinHandle<()>>> {
        let Self {
            engine,
            marks,
            mode,
        } = self;
        let mut threads = Vec::new();
        let mut spawn = |name: &str, does: Does| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            let (engine, stop) = (Arc::clone(&engine), Arc::clone(stop));
            threads.push(thread.spawn(move || does(&engine, &stop))?);
            Ok::<(), std::io::Error>(())
        };
        spawn(
            "committer",
            Box::new(|engine, _| while engine.commit_next() {}),
        )?;
        // It has locks that those who serve wait for.
        spawn("flusher", Box::new(flush))?;
        spawn("segments", Box::new(prepare))?;
        spawn(
            "learner",
            Box::new(|engine, stop| {
                give_way();
                learn(engine, stop);
            }),
        )?;
        spawn(
            "fsync-everysec",
            Box::new(move |engine, stop| sync(engine, &mode, &marks, stop)),
        )?;
        spawn(
            "minder",
            Box::new(move |_, stop| {
                while !has_stopped(stop, LOOK_EVERY) {
                    minder.look();
                }
            }),
        )?;
        Ok(threads)
    }
}

/// What a thread does.
type Does = Box<dyn FnOnce(&Engine, &Stop) + Send>;

/// Waits for the end, so long.
fn has_stopped((stopped, moved): &Stop, within: Duration) -> bool {
    let mut stopped = stopped.lock();
    if !*stopped {
        moved.wait_for(&mut stopped, within);
    }
    *stopped
}

fn flush(engine: &Engine, stop: &Stop) {
    let mut said = None;
    while let Some(flushed) = engine.flush_next() {
        let failed = flushed.err().map(|error| error.to_string());
        if failed != said {
            if let Some(error) = &failed {
                tracing::error!(%error, "what is in memory and in the journal cannot be brought into the tables yet");
            } else {
                tracing::info!("what is in memory is brought into the tables again");
            }
            said.clone_from(&failed);
        }
        if failed.is_some() {
            if has_stopped(stop, AGAIN_AFTER) {
                return;
            }
            engine.want_flush();
        }
    }
}

/// Has it known what the tables have, where that is worth it.
fn learn(engine: &Engine, stop: &Stop) {
    loop {
        if engine.is_to_learn()
            && let Err(error) = engine.learn(|| has_stopped(stop, LEARNER_RESTS))
        {
            tracing::warn!(%error, "what the tables have could not be learnt: they are asked");
        }
        if has_stopped(stop, LEARN_AGAIN) {
            return;
        }
    }
}

fn prepare(engine: &Engine, stop: &Stop) {
    loop {
        match engine.prepare_segment() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::debug!(%error, "the next segment of the journal cannot be made yet");
                if has_stopped(stop, AGAIN_AFTER) {
                    return;
                }
            }
        }
    }
}

fn sync(engine: &Engine, mode: &Mutex<AppendFsync>, marks: &Marks, stop: &Stop) {
    while !has_stopped(stop, SYNC_EVERY) {
        let mode = *mode.lock();
        let synced = match mode {
            // What goes wrong is said in the log; where it has gone wrong, in whatever mode, it is tried
            // again.
            AppendFsync::EverySec => engine.sync(),
            _ if engine.is_unsynced() => engine.sync(),
            _ => Ok(engine.progress.synced()),
        };
        // With every batch synced as it is committed, the mark follows now and then: it costs a sync.
        if let Ok(upto) = synced
            && upto > marks.last_synced()
            && let Err(error) = marks.synced(upto, false)
        {
            tracing::warn!(%error, "what is synced could not be marked");
        }
    }
}

/// Looks after what changes by itself.
pub(super) struct Minder {
    engine: Arc<Engine>,
    reserve: Reserve,
    room: Room,
    in_doubt_since: Option<Instant>,
    dir: PathBuf,
}

impl Minder {
    /// One that has looked.
    pub(super) fn new(engine: &Arc<Engine>, reserve: Reserve, dir: PathBuf) -> Self {
        let mut minder = Self {
            engine: Arc::clone(engine),
            reserve,
            room: Room::Plenty,
            in_doubt_since: None,
            dir,
        };
        // The first write has to know whether there is room.
        minder.look();
        minder
    }

    fn look(&mut self) {
        let room = room::look(&self.reserve, self.room);
        if room != self.room {
            let dir = self.dir.display();
            match room {
                Room::Plenty => tracing::info!(%dir, "writes are accepted again"),
                Room::Tight => {
                    tracing::error!(%dir, "disk full: nothing is written but what frees space");
                }
                Room::None => tracing::error!(%dir, "disk full: writes are refused"),
            }
            self.room = room;
        }
        self.engine.set_room(room);
        if self.engine.holds_up() {
            let since = *self.in_doubt_since.get_or_insert_with(clock::monotonic);
            if self.engine.is_in_doubt() {
                self.reserve.give_up();
                self.engine.commit();
            }
            if clock::monotonic().duration_since(since) > IN_DOUBT {
                self.engine.doubt();
            }
        } else {
            self.in_doubt_since = None;
        }
        self.engine.evict();
    }
}
