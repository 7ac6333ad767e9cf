//! The store on disk: one fjall database a shard. The only file that names the engine.
//!
//! What is known about fjall 3.1 and handled here: at least four worker threads (with one it
//! deadlocks, with two it spins), no group commit (our committer), an fsync under the writer lock
//! (for `everysec` we sync the newest journal on a descriptor of our own), silent loss of a
//! journal's rest and of everything behind a zeroed `current` file (our marks), poisoning after a
//! full disk (a guard on free space, and reopening), a batch whose commit failed and that is there
//! after reopening (the number in it tells), threads that end after the database is dropped (we wait
//! until they have closed its files), lazy flush on close (we rotate first).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use parking_lot::{Condvar, Mutex, RwLock};

use super::check::{check_journals, check_lists_of_tables};
use super::committer::{CommitFailed, Committed, Committer, Engine, Fate, Room};
use super::layout::{BATCH_ROW, IDENTITY_ROW, TABLES};
use super::marks::{Found, Marks};
use super::progress::{Progress, Ticket};
use super::reserve::{Reserve, Space};
use super::{AppendFsync, Frozen, Op, Refused, Row, Store, StoreError, Table, Usage, Write};
use crate::base::clock;

/// The layout that this program writes; an older or newer one is refused by name.
const FORMAT: &str = "ringwood store, format 3";
/// The one before it, with other rows, which the replica writes again.
const FORMAT_2: &str = "ringwood store, format 2";
/// The first one said nothing of the shards' making, and had no checksum.
const FORMAT_1: &str = "ringwood store, format 1";
/// There while damage was accepted and not yet seen to.
const DAMAGED_FILE: &str = "damaged";
const WORKER_THREADS: usize = 4;
/// A folder in which a store is restored, within the data directory.
pub const RESTORING: &str = "restoring";

const SYNC_EVERY: Duration = Duration::from_secs(1);
/// A reader waits so long for an engine that is being opened anew.
const READERS_WAIT: Duration = Duration::from_secs(1);
/// A thread that opens an engine anew waits so long at a time for others to be done with it.
const OTHERS_MAY_TAKE: Duration = Duration::from_millis(500);
/// Write buffers are flushed within this time, or not at all. A stop waits less: the journal has them.
const FLUSH_WAITS: Duration = Duration::from_mins(1);
const CLOSE_WAITS: Duration = Duration::from_secs(6);
const FLUSH_LOOK_EVERY: Duration = Duration::from_millis(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Of the space that must be free, what frees more may use all but this part.
const LAST_PART: u64 = 8;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The data directory.
    pub dir: PathBuf,
    /// Databases; fixed when the store is created.
    pub shards: usize,
    /// When a write is on the disk.
    pub appendfsync: AppendFsync,
    /// Bytes of a shard's write buffer.
    pub write_buffer_bytes: u64,
    /// Bytes of the engine's block cache, all shards together.
    pub block_cache_bytes: u64,
    /// Writes are refused while the disk has less free.
    pub min_free_bytes: u64,
    /// Take what is readable of a damaged store instead of refusing to start.
    pub accept_damage: bool,
    /// Files that the engine of one shard keeps open at most.
    pub cached_files: usize,
}

/// Files that an engine keeps open where nothing else is said.
pub const DEFAULT_CACHED_FILES: usize = 512;

struct Handles {
    db: Database,
    tables: [Keyspace; TABLES],
}

/// How a shard was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Clean,
    Unclean,
    /// Something that was stored is missing.
    Damaged,
}

struct Shard {
    dir: PathBuf,
    options: DiskOptions,
    /// Of the whole store.
    shards: usize,
    /// Nothing while it is opened anew.
    handles: RwLock<Option<Arc<Handles>>>,
    opening: Mutex<()>,
    opened: Condvar,
    /// Whether committed batches were missing after opening anew: nothing more is written.
    has_lost: AtomicBool,
    reserve: Arc<Reserve>,
    marks: Marks,
    /// The number of the last committed batch.
    batch: AtomicU64,
    /// That of the last one that was synced when it was committed.
    synced_batch: AtomicU64,
    /// Held while a batch is written.
    writing: Mutex<()>,
    /// Journals of which the system may have forgotten pages that it could not write: what is not written
    /// again must not count as synced, whatever it says. Held while one is synced.
    distrusted: Mutex<BTreeSet<PathBuf>>,
}

/// Rows in fjall.
pub struct DiskStore {
    options: DiskOptions,
    identity: Identity,
    shards: Vec<Arc<Shard>>,
    committers: Vec<Arc<Committer>>,
    appendfsync: Arc<Mutex<AppendFsync>>,
    was_clean: bool,
    is_damaged: bool,
    stop: Arc<(Mutex<bool>, Condvar)>,
    syncer: Mutex<Option<std::thread::JoinHandle<()>>>,
    closed: AtomicBool,
}

impl DiskStore {
    /// Opens or creates the store.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when something that was stored is missing or unreadable; the files
    /// are left as they are, unless `accept_damage` is set.
    pub fn open(options: DiskOptions) -> Result<Self, StoreError> {
        fs::create_dir_all(&options.dir).map_err(|e| io_error(&options.dir, e))?;
        let aside = options.dir.join(RESTORING);
        if aside.exists() {
            let reason = "a restore into this directory has not come to its end: do it again";
            return Err(StoreError::Damaged {
                path: aside,
                reason: reason.to_owned(),
            });
        }
        let identity = Identity::load_or_create(&options)?;
        let mut shards = Vec::new();
        // Damage is noted before it can no longer be seen, until what follows from it is written down.
        let marker = options.dir.join(DAMAGED_FILE);
        let (mut was_clean, mut is_damaged) = (!identity.is_new, marker.exists());
        let reserve = Arc::new(Reserve::new(&options.dir, options.min_free_bytes));
        for index in 0..identity.shards {
            let (shard, state) = Shard::open(index, &options, &identity, &reserve)?;
            was_clean &= state == State::Clean;
            is_damaged |= state == State::Damaged;
            shards.push(Arc::new(shard));
        }
        let identity = identity.be_made(&options.dir)?;
        let appendfsync = Arc::new(Mutex::new(options.appendfsync));
        let mut committers = Vec::new();
        for (index, shard) in shards.iter().enumerate() {
            let engine = ShardEngine {
                shard: Arc::clone(shard),
                mode: Arc::clone(&appendfsync),
                room: Room::Plenty,
                is_settled: false,
                landed: false,
            };
            let started = Committer::start(index, engine);
            committers.push(started.map_err(|e| io_error(&options.dir, e))?);
        }
        let store = Self {
            options,
            identity,
            shards,
            committers,
            appendfsync,
            was_clean,
            is_damaged,
            stop: Arc::default(),
            syncer: Mutex::new(None),
            closed: AtomicBool::new(false),
        };
        store.start_syncer()?;
        Ok(store)
    }

    /// Whether a shard's rows have room beside themselves.
    fn check_room_for_rows(&self) -> Result<(), StoreError> {
        let size = |shard: &Arc<Shard>| {
            let handles = shard.handles.read();
            let handles = handles.as_ref();
            handles.map_or(0, |handles| handles.db.disk_space().unwrap_or(0))
        };
        let largest = self.shards.iter().map(size).max().unwrap_or(0);
        let space = self.shards.first().and_then(|shard| shard.reserve.space());
        match space {
            Some(Space { free, .. }) if free < largest => {
                let text = format!(
                    "{free} bytes are free, and rows of an earlier format have to be written again: about {largest} are needed"
                );
                let source = std::io::Error::new(std::io::ErrorKind::StorageFull, text);
                Err(io_error(&self.options.dir, source))
            }
            _ => Ok(()),
        }
    }

    /// Changes when writes reach the disk, from the next batch on.
    pub fn set_appendfsync(&self, mode: AppendFsync) {
        *self.appendfsync.lock() = mode;
    }

    fn start_syncer(&self) -> Result<(), StoreError> {
        let shards = self.shards.clone();
        let committers = self.committers.clone();
        let (mode, stop) = (Arc::clone(&self.appendfsync), Arc::clone(&self.stop));
        let thread = std::thread::Builder::new()
            .name("fsync-everysec".into())
            .spawn(move || {
                let (stopped, moved) = &*stop;
                let mut stopped = stopped.lock();
                while !*stopped {
                    moved.wait_for(&mut stopped, SYNC_EVERY);
                    let mode = *mode.lock();
                    for (shard, committer) in shards.iter().zip(&committers) {
                        if shard.distrusted.is_locked() {
                            // It is opened anew, which may take long: the others are not to wait for it.
                            continue;
                        }
                        match mode {
                            // What goes wrong is said in the log; where it has gone wrong, in whatever
                            // mode, it is tried again.
                            AppendFsync::EverySec => drop(sync_shard(shard, committer)),
                            _ if committer.is_unsynced() => drop(sync_shard(shard, committer)),
                            AppendFsync::Always => mark_shard(shard),
                            AppendFsync::No => {}
                        }
                    }
                }
            });
        *self.syncer.lock() = Some(thread.map_err(|e| io_error(&self.options.dir, e))?);
        Ok(())
    }
}

impl Store for DiskStore {
    fn shards(&self) -> usize {
        self.shards.len()
    }

    fn enqueue(&self, shard: usize, write: Write) -> Result<Ticket, Refused> {
        self.committers[shard].enqueue(write)
    }

    fn kick(&self, shard: usize) {
        self.committers[shard].kick();
    }

    fn gather(&self, shard: usize) {
        self.committers[shard].gather();
    }

    fn urge(&self, shard: usize) {
        self.committers[shard].urge();
    }

    fn gathered(&self, shard: usize) {
        self.committers[shard].gathered();
    }

    fn progress(&self, shard: usize) -> &Progress {
        &self.committers[shard].progress
    }

    fn load(&self, shard: usize, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let shard = &self.shards[shard];
        let handles = shard.handles()?;
        let found = handles.tables[table as usize]
            .get(key)
            .map_err(|e| shard.read_error(&e))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        shard: usize,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let shard = &self.shards[shard];
        let handles = shard.handles()?;
        let rows = scan_snapshot(&handles.db.snapshot(), &handles, table, (from, to), limit);
        rows.map_err(|e| shard.read_error(&e))
    }

    fn freeze(&self, shard: usize) -> Result<Arc<dyn Frozen>, StoreError> {
        let handles = self.shards[shard].handles()?;
        Ok(Arc::new(FrozenShard {
            snapshot: handles.db.snapshot(),
            handles: Arc::downgrade(&handles),
        }))
    }

    fn was_clean(&self) -> bool {
        self.was_clean
    }

    fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    fn adopt_format(&self, rows_follow: bool) -> Result<(), StoreError> {
        if rows_follow && self.identity.format != FORMAT {
            self.check_room_for_rows()?;
        }
        let identity = Identity {
            format: FORMAT,
            ..self.identity.clone()
        };
        identity.say(&self.options.dir)
    }

    fn forget_damage(&self) {
        let marker = self.options.dir.join(DAMAGED_FILE);
        if self.is_damaged
            && let Err(error) = fs::remove_file(&marker)
        {
            tracing::warn!(%error, file = %marker.display(), "is left behind");
        }
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (shard, committer) in self.shards.iter().zip(&self.committers) {
            if let Some(handles) = &*shard.handles.read() {
                usage.disk_bytes += handles.db.disk_space().unwrap_or(0);
                usage.buffer_bytes += handles.db.write_buffer_size();
            }
            usage.disk_full |= committer.refuses();
        }
        usage
    }

    fn refuses_growth(&self) -> bool {
        self.committers.iter().any(|committer| committer.refuses())
    }

    fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.syncer.lock().take() {
            let _ = thread.join();
        }
        for (shard, committer) in self.shards.iter().zip(&self.committers) {
            committer.close();
            shard.close(&committer.progress);
        }
    }

    fn compact(&self) -> Result<(), StoreError> {
        for shard in &self.shards {
            // The engine is let go in between: it may have to be opened anew.
            for nth in 0..TABLES {
                // The journals go when nothing in memory needs them any more.
                let rotated = shard.handles()?.tables[nth].rotate_memtable();
                rotated.map_err(|e| engine_error(&e))?;
            }
            if !shard.handles()?.wait_until_flushed(FLUSH_WAITS) {
                return Err(engine_error(&"write buffers were not flushed in time"));
            }
            for nth in 0..TABLES {
                let compacted = shard.handles()?.tables[nth].major_compact();
                compacted.map_err(|e| engine_error(&e))?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        for (shard, committer) in self.shards.iter().zip(&self.committers) {
            sync_shard(shard, committer)?;
        }
        Ok(())
    }
}

/// Keeps nobody from opening the engine anew; then it cannot be read any more.
struct FrozenShard {
    snapshot: fjall::Snapshot,
    handles: Weak<Handles>,
}

impl Frozen for FrozenShard {
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let handles = self.handles.upgrade();
        let handles = handles.ok_or_else(|| engine_error(&"it was opened anew since"))?;
        let rows = scan_snapshot(&self.snapshot, &handles, table, (from, to), limit);
        rows.map_err(|e| engine_error(&e))
    }
}

fn scan_snapshot(
    snapshot: &fjall::Snapshot,
    handles: &Handles,
    table: Table,
    (from, to): (&[u8], &[u8]),
    limit: usize,
) -> Result<Vec<Row>, fjall::Error> {
    let mut rows = Vec::new();
    if from >= to {
        return Ok(rows);
    }
    let range = snapshot.range(&handles.tables[table as usize], from..to);
    for guard in range.take(limit) {
        let (key, value) = guard.into_inner()?;
        rows.push((key.to_vec(), value.to_vec()));
    }
    Ok(rows)
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Syncs the newest journal on our own descriptor: the engine's writer is not held up. A journal is
/// fsynced by the engine before it turns to the next, so the newest is the only one that lags. While that
/// fails, the shard takes no writes.
fn sync_shard(shard: &Shard, committer: &Committer) -> Result<(), StoreError> {
    let progress = &committer.progress;
    let (upto, batch) = (progress.committed(), shard.batch.load(Ordering::Acquire));
    if upto == progress.synced() && !committer.is_unsynced() {
        return Ok(());
    }
    let synced = shard.sync_newest().and_then(|()| {
        let marked = shard.marks.synced(batch, false);
        marked.map_err(|e| io_error(shard.marks.path(), e))
    });
    let was_unsynced = committer.be_unsynced(synced.is_err());
    match (&synced, was_unsynced) {
        (Ok(()), true) => {
            tracing::info!(dir = %shard.dir.display(), "writes are synced again, and accepted");
        }
        (Err(error), false) => {
            tracing::error!(%error, "writes cannot be synced: no more are accepted until they are");
        }
        _ => {}
    }
    synced?;
    progress.publish_synced(upto);
    Ok(())
}

/// With every batch synced as it is committed, the mark follows now and then: it costs a sync of its own.
fn mark_shard(shard: &Shard) {
    let batch = shard.synced_batch.load(Ordering::Acquire);
    if !shard.distrusted.lock().is_empty() {
        return;
    }
    if batch > shard.marks.last_synced()
        && let Err(error) = shard.marks.synced(batch, false)
    {
        tracing::warn!(%error, "what is synced could not be marked");
    }
}

/// Writes a file again, as it is, but for its holes.
fn write_again(file: &File) -> std::io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let from = match seek(file, SeekFrom::Data(at)) {
            Ok(from) => from,
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(from))?;
        at = from;
        while at < end {
            let len = (end - at).min(chunk.len() as u64) as usize;
            file.read_exact_at(&mut chunk[..len], at)?;
            file.write_all_at(&chunk[..len], at)?;
            at += len as u64;
        }
    }
}

struct ShardEngine {
    shard: Arc<Shard>,
    mode: Arc<Mutex<AppendFsync>>,
    room: Room,
    /// Whether it is known what became of the last batch, and what.
    is_settled: bool,
    landed: bool,
}

impl Engine for ShardEngine {
    fn commit(&mut self, ops: Vec<Op>) -> Result<Committed, CommitFailed> {
        let size = |op: &Op| op.key.len() + op.value.as_ref().map_or(0, Vec::len);
        let size: usize = ops.iter().map(size).sum();
        if !self.shard.has_room_for(size as u64) {
            tracing::error!(dir = %self.shard.dir.display(), "disk full: a write was not stored");
            return Err(CommitFailed::Untouched);
        }
        let synced = *self.mode.lock() == AppendFsync::Always;
        self.shard.commit(ops, synced).map_err(|error| {
            tracing::error!(dir = %self.shard.dir.display(), %error, "write failed");
            CommitFailed::Unknown
        })?;
        Ok(Committed { synced })
    }

    fn settle(&mut self) -> Option<Fate> {
        if !self.is_settled {
            self.landed = self.shard.settle()?;
            self.is_settled = true;
            let what = if self.landed {
                "is there"
            } else {
                "is not there"
            };
            tracing::warn!(dir = %self.shard.dir.display(), "opened anew after a failure: the last write {what}");
        }
        let synced = *self.mode.lock() == AppendFsync::Always;
        if synced && let Err(error) = self.shard.sync_newest() {
            tracing::error!(%error, "the last write is there, and not on the disk");
            return None;
        }
        self.is_settled = false;
        Some(if self.landed {
            Fate::Landed(Committed { synced })
        } else {
            Fate::Absent
        })
    }

    fn room(&mut self) -> Room {
        let room = self.shard.room(self.room);
        if room != self.room {
            let dir = self.shard.dir.display();
            match room {
                Room::Plenty => tracing::info!(%dir, "writes are accepted again"),
                Room::Tight => {
                    tracing::error!(%dir, "disk full: nothing is written but what frees space");
                }
                Room::None => tracing::error!(%dir, "disk full: writes are refused"),
            }
            self.room = room;
        }
        room
    }
}

impl Shard {
    fn open(
        index: usize,
        options: &DiskOptions,
        identity: &Identity,
        reserve: &Arc<Reserve>,
    ) -> Result<(Self, State), StoreError> {
        let dir = options.dir.join(format!("shard-{index}"));
        let (marks, found) =
            Marks::open(&options.dir, index).map_err(|e| io_error(&options.dir, e))?;
        let mut is_damaged = false;
        let shards = identity.shards;
        let what_is_wrong = |(path, what): (PathBuf, String)| damaged(&path, &what);
        be_alone(&dir, options)?;
        let taken = found.synced.max(found.written);
        let checked = match check_journals(&dir, taken).map_err(what_is_wrong) {
            // It stays in the engine's files for a while, and is accepted once.
            Err(damaged) if was_accepted(&options.dir, index, &damaged) => {
                tracing::warn!(%damaged, "was accepted before");
                Ok(())
            }
            Err(damaged) if options.accept_damage => {
                tracing::error!(%damaged, "accepted: the store starts with what is readable");
                is_damaged = true;
                note_accepted(&options.dir, index, &damaged)?;
                Ok(())
            }
            checked => checked,
        };
        // With a wrong list the engine might take all memory before it notices.
        let checked =
            checked.and(check_lists_of_tables(&dir, identity.is_made).map_err(what_is_wrong));
        let opened = checked.and_then(|()| open_engine(&dir, options, shards));
        let handles = match opened {
            Ok(handles) => handles,
            // Nothing was ever committed here: a first start was interrupted in the middle.
            Err(StoreError::Damaged { path, .. })
                if found == Found::default() && !identity.is_made =>
            {
                let aside = dir.with_extension(format!("unfinished-{}", std::process::id()));
                tracing::warn!(path = %path.display(), aside = %aside.display(),
                    "a shard whose making was interrupted is set aside and made anew");
                fs::rename(&dir, &aside).map_err(|e| io_error(&dir, e))?;
                open_engine(&dir, options, shards)?
            }
            Err(StoreError::Damaged { path, reason }) if options.accept_damage => {
                let aside = dir.with_extension(format!("damaged-{}", std::process::id()));
                tracing::error!(%reason, path = %path.display(), aside = %aside.display(),
                    "damaged shard set aside, starting it empty");
                if dir.exists() {
                    fs::rename(&dir, &aside).map_err(|e| io_error(&dir, e))?;
                }
                is_damaged = true;
                open_engine(&dir, options, shards)?
            }
            Err(error) => return Err(error),
        };
        let batch = handles.stored_batch()?;
        let is_spoilt = found.is_spoilt || identity.is_made && found == Found::default();
        is_damaged |= is_spoilt;
        let missing = found.synced.max(found.written).saturating_sub(batch);
        let foreign = handles.identity()?.is_none_or(|id| id != identity.id);
        if is_spoilt && !options.accept_damage {
            return Err(damaged(marks.path(), "its checksum does not match"));
        }
        if missing > 0 || (foreign && (identity.is_made || found != Found::default())) {
            let damaged = damaged(
                &newest_journal(&dir).unwrap_or_else(|| dir.clone()),
                &format!(
                    "{missing} batches of acknowledged writes are missing (found {batch}, expected \
                     at least {})",
                    found.synced.max(found.written)
                ),
            );
            if !options.accept_damage {
                return Err(damaged);
            }
            tracing::error!(%damaged, "accepted: the store starts with what is readable");
            is_damaged = true;
        }
        if is_damaged {
            let marker = options.dir.join(DAMAGED_FILE);
            let marked = File::create(&marker).and_then(|file| file.sync_all());
            marked.map_err(|e| io_error(&marker, e))?;
        }
        let state = match () {
            () if is_damaged => State::Damaged,
            () if found.clean => State::Clean,
            () => State::Unclean,
        };
        let batch = batch.max(found.synced).max(found.written);
        let shard = Self {
            dir,
            options: options.clone(),
            shards,
            handles: RwLock::new(Some(Arc::new(handles))),
            opening: Mutex::default(),
            opened: Condvar::new(),
            has_lost: AtomicBool::new(false),
            reserve: Arc::clone(reserve),
            marks,
            batch: AtomicU64::new(batch),
            synced_batch: AtomicU64::new(0),
            writing: Mutex::default(),
            distrusted: Mutex::default(),
        };
        shard.note_start(identity)?;
        Ok((shard, state))
    }

    /// The first batch of a run: names the store, so that an empty engine is noticed.
    fn note_start(&self, identity: &Identity) -> Result<(), StoreError> {
        let ops = vec![Op {
            table: Table::Meta,
            key: IDENTITY_ROW.to_vec(),
            value: Some(identity.id.as_bytes().to_vec()),
        }];
        self.commit(ops, true).map_err(|e| engine_error(&e))?;
        let batch = self.batch.load(Ordering::Acquire);
        self.marks
            .synced(batch, false)
            .map_err(|e| io_error(self.marks.path(), e))
    }

    fn commit(&self, ops: Vec<Op>, synced: bool) -> Result<(), fjall::Error> {
        let number = self.batch.load(Ordering::Acquire) + 1;
        let handles = self.handles().map_err(|_| fjall::Error::Poisoned)?;
        let mode = if synced {
            PersistMode::SyncData
        } else {
            PersistMode::Buffer
        };
        let mut batch = handles.db.batch().durability(Some(mode));
        for Op { table, key, value } in ops {
            let keyspace = &handles.tables[table as usize];
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.insert(
            &handles.tables[Table::Meta as usize],
            BATCH_ROW,
            number.to_le_bytes(),
        );
        {
            let _writing = self.writing.lock();
            batch.commit()?;
        }
        self.batch.store(number, Ordering::Release);
        if synced {
            self.synced_batch.store(number, Ordering::Release);
        }
        self.marks.written(number);
        Ok(())
    }

    /// The engine; waits for it while it is opened anew, a moment.
    fn handles(&self) -> Result<Arc<Handles>, StoreError> {
        if let Some(handles) = &*self.handles.read() {
            return Ok(Arc::clone(handles));
        }
        let mut opening = self.opening.lock();
        let begun = clock::monotonic();
        loop {
            if let Some(handles) = &*self.handles.read() {
                return Ok(Arc::clone(handles));
            }
            let left = READERS_WAIT.saturating_sub(clock::monotonic().duration_since(begun));
            if left.is_zero() || self.opened.wait_for(&mut opening, left).timed_out() {
                return Err(engine_error(&"it is being opened anew"));
            }
        }
    }

    fn sync_newest(&self) -> Result<(), StoreError> {
        let mut distrusted = self.distrusted.lock();
        let newest = self.newest_journal()?;
        let mut journals = std::mem::take(&mut *distrusted);
        journals.retain(|journal| journal.exists());
        for journal in &journals {
            let _nobody_writes = self.writing.lock();
            let again = OpenOptions::new().read(true).write(true).open(journal);
            let again = again.and_then(|file| {
                write_again(&file)?;
                file.sync_data()
            });
            if let Err(error) = again {
                distrusted.extend(journals.clone());
                return Err(io_error(journal, error));
            }
        }
        if journals.contains(&newest) {
            return Ok(());
        }
        let synced = File::open(&newest).and_then(|file| file.sync_data());
        synced.map_err(|error| {
            let error = io_error(&newest, error);
            distrusted.insert(newest);
            error
        })
    }

    fn newest_journal(&self) -> Result<PathBuf, StoreError> {
        newest_journal(&self.dir).ok_or_else(|| {
            let none = std::io::Error::new(std::io::ErrorKind::NotFound, "no journal");
            io_error(&self.dir, none)
        })
    }

    /// Whether a batch leaves something of what must be free.
    fn has_room_for(&self, size: u64) -> bool {
        let Some(space) = self.reserve.space() else {
            return true;
        };
        space.free >= self.reserve.least(space) / LAST_PART + size
    }

    fn room(&self, before: Room) -> Room {
        let Some(space) = self.reserve.space() else {
            return Room::Plenty;
        };
        let least = self.reserve.least(space);
        // A store that has refused does not take it back at the first byte.
        let wanted = if before == Room::Plenty {
            least
        } else {
            least + least / 4
        };
        if space.free >= wanted {
            self.reserve.take();
            return Room::Plenty;
        }
        let is_tight = |space: Space| space.free >= least / LAST_PART + least / 100;
        let more = || self.reserve.give_up().then(|| self.reserve.space())?;
        if is_tight(space) || more().is_some_and(is_tight) {
            Room::Tight
        } else {
            Room::None
        }
    }

    /// After a commit has failed: opens the engine anew and says whether the batch is there. The number
    /// in it tells: a batch is there as a whole or not at all.
    fn settle(&self) -> Option<bool> {
        if self.has_lost.load(Ordering::Acquire) {
            return None;
        }
        // Nobody writes a journal again while the engine opens it anew, and cuts off its end.
        let mut distrusted = self.distrusted.lock();
        // What the engine could not sync, as it failed or as it opens, is not believed the next time.
        distrusted.extend(newest_journal(&self.dir));
        if !self.take_engine_away() {
            return None;
        }
        let opened = open_engine(&self.dir, &self.options, self.shards)
            .and_then(|fresh| Ok((fresh.stored_batch()?, fresh)));
        let (stored, fresh) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // What cannot be opened for want of space may be with what is reserved.
                self.reserve.give_up();
                tracing::error!(%error, "the shard cannot be opened anew yet");
                return None;
            }
        };
        let before = self.batch.load(Ordering::Acquire);
        let landed = match stored.checked_sub(before) {
            Some(0) => Some(false),
            Some(1) => {
                self.batch.store(stored, Ordering::Release);
                self.marks.written(stored);
                Some(true)
            }
            _ => {
                self.has_lost.store(true, Ordering::Release);
                let marker = self.options.dir.join(DAMAGED_FILE);
                let marked = File::create(&marker).and_then(|file| file.sync_all());
                tracing::error!(dir = %self.dir.display(), found = stored, expected = before, ?marked,
                    "acknowledged writes are missing after a failure: nothing more is written here");
                None
            }
        };
        distrusted.extend(newest_journal(&self.dir));
        drop(distrusted);
        *self.handles.write() = Some(Arc::new(fresh));
        let _opening = self.opening.lock();
        self.opened.notify_all();
        landed
    }

    /// Drops the engine when nobody else uses it, and waits until its threads are done with its files.
    /// Until then others go on reading what it had committed.
    fn take_engine_away(&self) -> bool {
        let begun = clock::monotonic();
        let is_late = || clock::monotonic().duration_since(begun) > OTHERS_MAY_TAKE;
        loop {
            let mut handles = self.handles.write();
            match &*handles {
                Some(shared) if Arc::strong_count(shared) > 1 => {}
                // Dropping it flushes its journal, and waits for its threads.
                Some(_) => {
                    let engine = handles.take();
                    drop(handles);
                    drop(engine);
                    continue;
                }
                None if !has_open_files(&self.dir) => return true,
                None => {}
            }
            drop(handles);
            if is_late() {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn close(&self, progress: &Progress) {
        let Some(handles) = self.handles.write().take() else {
            return;
        };
        for keyspace in &handles.tables {
            if let Err(error) = keyspace.rotate_memtable() {
                tracing::warn!(%error, "a write buffer was not flushed; the journal has it");
            }
        }
        handles.wait_until_flushed(CLOSE_WAITS);
        // A sync that has failed before is not believed by itself.
        let trusted = self.sync_newest();
        let persisted = handles.db.persist(PersistMode::SyncAll);
        let synced = trusted.and(persisted.map_err(|e| engine_error(&e)));
        let batch = self.batch.load(Ordering::Acquire);
        match synced {
            Ok(()) => {
                if let Err(error) = self.marks.synced(batch, true) {
                    tracing::warn!(%error, "the clean stop could not be marked");
                }
                progress.publish_synced(progress.committed());
            }
            Err(error) => tracing::error!(%error, "the last writes may not be on the disk"),
        }
    }

    fn read_error(&self, error: &fjall::Error) -> StoreError {
        tracing::error!(dir = %self.dir.display(), ?error, "read failed");
        engine_error(error)
    }
}

impl Handles {
    /// Whether all write buffers that were rotated are flushed, in time.
    fn wait_until_flushed(&self, within: Duration) -> bool {
        let begun = clock::monotonic();
        for keyspace in &self.tables {
            while keyspace.sealed_memtable_count() > 0 {
                if clock::monotonic().duration_since(begun) > within {
                    return false;
                }
                std::thread::sleep(FLUSH_LOOK_EVERY);
            }
        }
        true
    }

    fn stored_batch(&self) -> Result<u64, StoreError> {
        let row = self.meta(BATCH_ROW)?;
        Ok(row
            .and_then(|raw| raw.try_into().ok())
            .map_or(0, u64::from_le_bytes))
    }

    fn identity(&self) -> Result<Option<String>, StoreError> {
        let row = self.meta(IDENTITY_ROW)?;
        Ok(row.map(|raw| String::from_utf8_lossy(&raw).into_owned()))
    }

    fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.tables[Table::Meta as usize]
            .get(key)
            .map_err(|e| engine_error(&e))?;
        Ok(row.map(|value| value.to_vec()))
    }
}

/// Whether nobody else has a shard's engine open: a living one's files are not to be judged.
fn be_alone(dir: &Path, options: &DiskOptions) -> Result<(), StoreError> {
    let Ok(lock) = File::open(dir.join("lock")) else {
        return Ok(());
    };
    match lock.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(options.dir.clone())),
        _ => Ok(()),
    }
}

fn accepted_file(dir: &Path, shard: usize) -> PathBuf {
    dir.join(format!("shard-{shard}.accepted"))
}

fn was_accepted(dir: &Path, shard: usize, damage: &StoreError) -> bool {
    let before = fs::read_to_string(accepted_file(dir, shard));
    before.is_ok_and(|before| before == damage.to_string())
}

fn note_accepted(dir: &Path, shard: usize, damage: &StoreError) -> Result<(), StoreError> {
    let path = accepted_file(dir, shard);
    let written = fs::write(&path, damage.to_string());
    let synced = written.and_then(|()| File::open(&path)?.sync_all());
    synced.map_err(|e| io_error(&path, e))
}

/// Opens the engine. Of what it reads it believes some: where that makes it panic, the files are
/// damaged.
fn open_engine(dir: &Path, options: &DiskOptions, shards: usize) -> Result<Handles, StoreError> {
    let open = || try_open_engine(dir, options, shards);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)).unwrap_or_else(|_| {
        let path = newest_journal(dir).unwrap_or_else(|| dir.into());
        Err(damaged(&path, "the engine panicked while it read it"))
    })
}

fn try_open_engine(
    dir: &Path,
    options: &DiskOptions,
    shards: usize,
) -> Result<Handles, StoreError> {
    let fail = |error: fjall::Error| match error {
        fjall::Error::Locked => StoreError::InUse(options.dir.clone()),
        fjall::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => io_error(dir, e),
        other => damaged(
            &newest_journal(dir).unwrap_or_else(|| dir.into()),
            &format!("{other:?}"),
        ),
    };
    let shards = shards.max(1) as u64;
    let db = Database::builder(dir)
        .cache_size((options.block_cache_bytes / shards).max(1 << 20))
        .worker_threads(WORKER_THREADS)
        .max_cached_files(Some(options.cached_files))
        .max_journaling_size((options.write_buffer_bytes * 4).max(64 << 20))
        .open()
        .map_err(fail)?;
    let open = |name: &str, buffer: u64| {
        db.keyspace(name, || {
            KeyspaceCreateOptions::default().max_memtable_size(buffer)
        })
        .map_err(fail)
    };
    let buffer = spread(options.write_buffer_bytes);
    let tables = [
        open("data", buffer)?,
        open("expiry", (buffer / 4).max(1 << 20))?,
        open("conflict", 4 << 20)?,
        open("meta", 4 << 20)?,
        open("hint", (buffer / 4).max(1 << 20))?,
        open("tombstone", (buffer / 4).max(1 << 20))?,
    ];
    Ok(Handles { db, tables })
}

/// A write buffer's size, up to a quarter less: buffers of shards and nodes on one disk that fill at one
/// pace are flushed one after the other. A keyspace keeps the size that it was made with.
fn spread(bytes: u64) -> u64 {
    let mut part = [0];
    getrandom::fill(&mut part).expect("the operating system has randomness");
    bytes - bytes / 4 * u64::from(part[0]) / 255
}

/// Whether a row says which store it is in, and how far that has come.
pub fn is_the_stores_own(op: &Op) -> bool {
    op.table == Table::Meta && [BATCH_ROW, IDENTITY_ROW].contains(&op.key.as_slice())
}

/// What the store is, in one small text file.
#[derive(Clone, Debug)]
struct Identity {
    /// An earlier one, until its rows are written again.
    format: &'static str,
    id: String,
    shards: usize,
    is_new: bool,
    /// Whether all shards have been made once: then none may be missing.
    is_made: bool,
}

impl Identity {
    fn load_or_create(options: &DiskOptions) -> Result<Self, StoreError> {
        let path = options.dir.join("ringwood.store");
        match fs::read(&path) {
            Ok(raw) => {
                let text = String::from_utf8_lossy(&raw);
                let identity = Self::parse(&text).ok_or_else(|| {
                    damaged(
                        &path,
                        "not a description of a store that this program can read",
                    )
                })?;
                identity.check(options, &path)?;
                Ok(identity)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                if options.dir.join("shard-0").exists() {
                    return Err(damaged(&path, "missing, though the directory holds data"));
                }
                let identity = Self {
                    format: FORMAT,
                    id: random_id(),
                    shards: options.shards,
                    is_new: true,
                    is_made: false,
                };
                identity.write(&path).map_err(|e| io_error(&path, e))?;
                Ok(identity)
            }
            Err(e) => Err(io_error(&path, e)),
        }
    }

    /// All shards are there: from now on none may be missing.
    fn be_made(mut self, dir: &Path) -> Result<Self, StoreError> {
        self.is_made = true;
        self.say(dir)?;
        Ok(self)
    }

    /// Writes it down, unless it is.
    fn say(&self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join("ringwood.store");
        let is_said = fs::read(&path).is_ok_and(|raw| raw == self.text().as_bytes());
        if is_said {
            return Ok(());
        }
        self.write(&path).map_err(|e| io_error(&path, e))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let first = lines.next()?;
        let id = lines.next()?.strip_prefix("id ")?.to_owned();
        let shards = lines.next()?.strip_prefix("shards ")?.parse().ok()?;
        let of_format = |format, is_made| Self {
            format,
            id: id.clone(),
            shards,
            is_new: false,
            is_made,
        };
        let identity = if first == FORMAT_1 {
            let is_all = lines.next().is_none();
            of_format(FORMAT_2, is_all)
        } else {
            let format = [FORMAT, FORMAT_2].into_iter().find(|name| *name == first)?;
            let state = lines.next()?.strip_prefix("state ")?;
            let identity = of_format(format, state == "made");
            // The checksum covers every byte before it.
            (identity.text() == text).then_some(identity)?
        };
        let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        (is_id && (1..=256).contains(&shards)).then_some(identity)
    }

    fn text(&self) -> String {
        let state = if self.is_made { "made" } else { "making" };
        let body = format!(
            "{}\nid {}\nshards {}\nstate {state}\n",
            self.format, self.id, self.shards
        );
        let sum = crc32fast::hash(body.as_bytes());
        format!("{body}check {sum:08x}\n")
    }

    /// Whether the folders are those of so many shards, no more and, once they were made, no fewer.
    fn check(&self, options: &DiskOptions, path: &Path) -> Result<(), StoreError> {
        let dir = &options.dir;
        let has = |shard: usize| {
            dir.join(format!("shard-{shard}")).exists()
                || dir.join(format!("shard-{shard}.mark")).exists()
        };
        let more = (self.shards..=256).any(has);
        // One that is missing can be accepted, and is empty then.
        let fewer = self.is_made && !options.accept_damage && !(0..self.shards).all(has);
        if more || fewer {
            let what = format!("it says {} shards, and there are others", self.shards);
            return Err(damaged(path, &what));
        }
        Ok(())
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        fs::write(&temporary, self.text())?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn random_id() -> String {
    let mut raw = [0; 16];
    getrandom::fill(&mut raw).expect("the operating system has randomness");
    format!("{:032x}", u128::from_le_bytes(raw))
}

fn newest_journal(dir: &Path) -> Option<PathBuf> {
    let number = |path: &PathBuf| -> Option<u64> {
        (path.extension()? == "jnl").then(|| path.file_stem()?.to_str()?.parse().ok())?
    };
    let entries = fs::read_dir(dir).ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((number(&path)?, path)))
        .max()
        .map(|(_, path)| path)
}

/// Whether this process has a shard's lock or one of its journals open. Threads of the engine may have
/// for a moment after it was dropped, and write when they let go.
fn has_open_files(dir: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return false;
    };
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let Ok(dir) = dir.canonicalize() else {
        return false;
    };
    let mut ours = targets.filter(|target| target.parent() == Some(&dir));
    ours.any(|target| {
        target.file_name().is_some_and(|name| name == "lock")
            || target
                .extension()
                .is_some_and(|extension| extension == "jnl")
    })
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged {
        path: path.to_path_buf(),
        reason: format!(
            "the store is damaged: {what}. Nothing was changed. Restore the data directory from a \
             backup, or start once with --accept-damaged-store true to keep what is readable"
        ),
    }
}

fn io_error(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        path: path.to_path_buf(),
        source,
    }
}

fn engine_error(error: &impl std::fmt::Display) -> StoreError {
    StoreError::Engine(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> DiskStore {
        let options = DiskOptions {
            dir: dir.to_path_buf(),
            shards: 1,
            appendfsync: AppendFsync::EverySec,
            write_buffer_bytes: 4 << 20,
            block_cache_bytes: 4 << 20,
            min_free_bytes: 0,
            accept_damage: false,
            cached_files: DEFAULT_CACHED_FILES,
        };
        DiskStore::open(options).expect("open")
    }

    fn put(shard: &Shard, value: &str) {
        let op = Op {
            table: Table::Data,
            key: b"k".to_vec(),
            value: Some(value.into()),
        };
        shard.commit(vec![op], false).expect("committed");
    }

    fn read(store: &DiskStore) -> Vec<u8> {
        let row = store.load(0, Table::Data, b"k").expect("read");
        row.expect("it is there")
    }

    #[test]
    fn after_a_failure_the_number_of_the_last_batch_says_whether_it_is_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path());
        let shard = &store.shards[0];
        put(shard, "first");
        // A view of the shard as it was, or a read, keeps nobody from opening it anew.
        let frozen = store.freeze(0).expect("frozen");
        assert_eq!(shard.settle(), Some(false));
        assert!(frozen.scan(Table::Data, b"", b"z", 9).is_err());
        assert_eq!(read(&store), b"first");
        // As if the engine had failed after it had written the batch.
        put(shard, "second");
        shard.batch.fetch_sub(1, Ordering::AcqRel);
        assert_eq!(shard.settle(), Some(true));
        assert_eq!(read(&store), b"second");
        put(shard, "third");
        // A batch that was acknowledged is missing: nothing more is written.
        shard.batch.fetch_add(1, Ordering::AcqRel);
        assert_eq!(shard.settle(), None);
        assert_eq!(shard.settle(), None);
        assert_eq!(read(&store), b"third");
        assert!(dir.path().join(DAMAGED_FILE).exists());
    }

    #[test]
    fn the_mark_follows_what_was_synced_and_not_what_is_distrusted() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path());
        let shard = &store.shards[0];
        let put_synced = || {
            let op = Op {
                table: Table::Data,
                key: b"k".to_vec(),
                value: Some(b"v".to_vec()),
            };
            shard.commit(vec![op], true).expect("committed");
            shard.batch.load(Ordering::Acquire)
        };
        let first = put_synced();
        assert!(shard.marks.last_synced() < first);
        mark_shard(shard);
        assert_eq!(shard.marks.last_synced(), first);
        // A sync has failed since: one that succeeds says nothing of what was before.
        let journal = shard.newest_journal().expect("a journal");
        shard.distrusted.lock().insert(journal.clone());
        let before = fs::read(&journal).expect("read");
        let second = put_synced();
        mark_shard(shard);
        assert_eq!(shard.marks.last_synced(), first);
        shard.sync_newest().expect("written again and synced");
        mark_shard(shard);
        assert_eq!(shard.marks.last_synced(), second);
        // What was written again is what was there.
        let after = fs::read(&journal).expect("read");
        let same = before.iter().zip(&after).filter(|(a, b)| a == b).count();
        assert!(before.len() == after.len() && before.len() - same < 4_096);
        drop(store);
        assert_eq!(read(&open(dir.path())), b"v");
    }

    #[test]
    fn reads_go_on_while_somebody_keeps_the_engine_from_being_opened_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path());
        put(&store.shards[0], "v");
        let held = store.shards[0].handles().expect("open");
        assert_eq!(store.shards[0].settle(), None);
        assert_eq!(read(&store), b"v");
        drop(held);
        assert_eq!(store.shards[0].settle(), Some(false));
        assert_eq!(read(&store), b"v");
    }
}
