//! The store on disk: one fjall database a shard. The only file that names the engine.
//!
//! What is known about fjall 3.1 and handled here: at least four worker threads (with one it
//! deadlocks, with two it spins), no group commit (our committer), an fsync under the writer lock
//! (for `everysec` we sync the newest journal on a descriptor of our own), silent loss of a
//! journal's rest and of everything behind a zeroed `current` file (our marks), poisoning after a
//! full disk (a guard on free space, and reopening), lazy flush on close (we rotate first).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use parking_lot::{Condvar, Mutex, RwLock};

use super::committer::{CommitFailed, Committed, Committer, Engine};
use super::marks::{Found, Marks};
use super::progress::{Progress, Ticket};
use super::{AppendFsync, Frozen, Op, Refused, Row, Store, StoreError, Table, Usage};

/// The layout that this program writes; an older or newer one is refused by name.
const FORMAT: &str = "ringwood store, format 1";
/// There while damage was accepted and not yet seen to.
const DAMAGED_FILE: &str = "damaged";
const WORKER_THREADS: usize = 4;
const BATCH_ROW: &[u8] = b"batch";
const IDENTITY_ROW: &[u8] = b"store-id";
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Free space is looked at once for so many bytes written.
const CHECK_SPACE_EVERY_BYTES: usize = 1 << 20;

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
}

#[derive(Clone)]
struct Handles {
    db: Database,
    tables: [Keyspace; 6],
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
    handles: RwLock<Option<Handles>>,
    marks: Marks,
    /// The number of the last committed batch.
    batch: AtomicU64,
}

/// Rows in fjall.
pub struct DiskStore {
    options: DiskOptions,
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
        let identity = Identity::load_or_create(&options)?;
        let mut shards = Vec::new();
        // Damage is noted before it can no longer be seen, until what follows from it is written down.
        let marker = options.dir.join(DAMAGED_FILE);
        let (mut was_clean, mut is_damaged) = (!identity.is_new, marker.exists());
        for index in 0..identity.shards {
            let (shard, state) = Shard::open(index, &options, &identity)?;
            was_clean &= state == State::Clean;
            is_damaged |= state == State::Damaged;
            shards.push(Arc::new(shard));
        }
        let appendfsync = Arc::new(Mutex::new(options.appendfsync));
        let mut committers = Vec::new();
        for (index, shard) in shards.iter().enumerate() {
            let engine = ShardEngine {
                shard: Arc::clone(shard),
                mode: Arc::clone(&appendfsync),
                unseen: 0,
            };
            let started = Committer::start(index, engine);
            committers.push(started.map_err(|e| io_error(&options.dir, e))?);
        }
        let store = Self {
            options,
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
                    if *mode.lock() == AppendFsync::EverySec {
                        for (shard, committer) in shards.iter().zip(&committers) {
                            let _ = sync_shard(shard, &committer.progress);
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

    fn enqueue(&self, shard: usize, ops: Vec<Op>) -> Result<Ticket, Refused> {
        self.committers[shard].enqueue(ops)
    }

    fn kick(&self, shard: usize) {
        self.committers[shard].kick();
    }

    fn progress(&self, shard: usize) -> &Progress {
        &self.committers[shard].progress
    }

    fn load(&self, shard: usize, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let shard = &self.shards[shard];
        let handles = shard.handles.read();
        let handles = handles
            .as_ref()
            .ok_or_else(|| engine_error(&"being reopened"))?;
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
        let handles = shard.handles.read();
        let handles = handles
            .as_ref()
            .ok_or_else(|| engine_error(&"being reopened"))?;
        let rows = scan_snapshot(&handles.db.snapshot(), handles, table, (from, to), limit);
        rows.map_err(|e| shard.read_error(&e))
    }

    fn freeze(&self, shard: usize) -> Result<Arc<dyn Frozen>, StoreError> {
        let handles = self.shards[shard].handles.read().clone();
        let handles = handles.ok_or_else(|| engine_error(&"being reopened"))?;
        let snapshot = handles.db.snapshot();
        Ok(Arc::new(FrozenShard { snapshot, handles }))
    }

    fn was_clean(&self) -> bool {
        self.was_clean
    }

    fn is_damaged(&self) -> bool {
        self.is_damaged
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
            let Some(handles) = shard.handles.read().clone() else {
                continue;
            };
            for keyspace in &handles.tables {
                // The journals go when nothing in memory needs them any more.
                keyspace
                    .rotate_memtable_and_wait()
                    .map_err(|e| engine_error(&e))?;
            }
            for keyspace in &handles.tables {
                keyspace.major_compact().map_err(|e| engine_error(&e))?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        for (shard, committer) in self.shards.iter().zip(&self.committers) {
            sync_shard(shard, &committer.progress)?;
        }
        Ok(())
    }
}

struct FrozenShard {
    snapshot: fjall::Snapshot,
    handles: Handles,
}

impl Frozen for FrozenShard {
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = scan_snapshot(&self.snapshot, &self.handles, table, (from, to), limit);
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
/// fsynced by the engine before it turns to the next, so the newest is the only one that lags.
fn sync_shard(shard: &Shard, progress: &Progress) -> Result<(), StoreError> {
    let (upto, batch) = (progress.committed(), shard.batch.load(Ordering::Acquire));
    if upto == progress.synced() {
        return Ok(());
    }
    let journal = newest_journal(&shard.dir).ok_or_else(|| {
        io_error(
            &shard.dir,
            std::io::Error::new(std::io::ErrorKind::NotFound, "no journal"),
        )
    })?;
    let synced = File::open(&journal).and_then(|file| file.sync_data());
    synced.map_err(|e| io_error(&journal, e))?;
    shard
        .marks
        .synced(batch, false)
        .map_err(|e| io_error(shard.marks.path(), e))?;
    progress.publish_synced(upto);
    Ok(())
}

struct ShardEngine {
    shard: Arc<Shard>,
    mode: Arc<Mutex<AppendFsync>>,
    /// Bytes written since free space was looked at.
    unseen: usize,
}

impl Engine for ShardEngine {
    fn commit(&mut self, ops: Vec<Op>) -> Result<Committed, CommitFailed> {
        let size: usize = ops.iter().map(|op| op.key.len()).sum::<usize>()
            + ops
                .iter()
                .filter_map(|op| op.value.as_ref())
                .map(Vec::len)
                .sum::<usize>();
        self.unseen += size;
        if self.unseen >= CHECK_SPACE_EVERY_BYTES || self.shard.batch.load(Ordering::Relaxed) < 2 {
            self.unseen = 0;
            if !self.shard.has_space(size as u64) {
                tracing::error!(dir = %self.shard.dir.display(), "disk full: writes are refused");
                return Err(CommitFailed);
            }
        }
        let synced = *self.mode.lock() == AppendFsync::Always;
        self.shard.commit(ops, synced).map_err(|error| {
            tracing::error!(dir = %self.shard.dir.display(), %error, "write failed");
            CommitFailed
        })?;
        Ok(Committed { synced })
    }

    fn recover(&mut self) -> bool {
        let writable = self.shard.has_space(0) && self.shard.reopen_if_poisoned();
        if writable {
            tracing::info!(dir = %self.shard.dir.display(), "writes are accepted again");
        }
        writable
    }
}

impl Shard {
    fn open(
        index: usize,
        options: &DiskOptions,
        identity: &Identity,
    ) -> Result<(Self, State), StoreError> {
        let dir = options.dir.join(format!("shard-{index}"));
        let (marks, found) =
            Marks::open(&options.dir, index).map_err(|e| io_error(&options.dir, e))?;
        let mut is_damaged = false;
        let handles = match open_engine(&dir, options, identity) {
            Ok(handles) => handles,
            // Nothing was ever committed here: a first start was interrupted in the middle.
            Err(StoreError::Damaged { path, .. }) if found == Found::default() => {
                let aside = dir.with_extension(format!("unfinished-{}", std::process::id()));
                tracing::warn!(path = %path.display(), aside = %aside.display(),
                    "a shard whose making was interrupted is set aside and made anew");
                fs::rename(&dir, &aside).map_err(|e| io_error(&dir, e))?;
                open_engine(&dir, options, identity)?
            }
            Err(StoreError::Damaged { path, reason }) if options.accept_damage => {
                let aside = dir.with_extension(format!("damaged-{}", std::process::id()));
                tracing::error!(%reason, path = %path.display(), aside = %aside.display(),
                    "damaged shard set aside, starting it empty");
                fs::rename(&dir, &aside).map_err(|e| io_error(&dir, e))?;
                is_damaged = true;
                open_engine(&dir, options, identity)?
            }
            Err(error) => return Err(error),
        };
        let batch = handles.stored_batch()?;
        let missing = found.synced.max(found.written).saturating_sub(batch);
        let foreign = handles.identity()?.is_none_or(|id| id != identity.id);
        if missing > 0 || (foreign && found != Found::default()) {
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
            handles: RwLock::new(Some(handles)),
            marks,
            batch: AtomicU64::new(batch),
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
        let handles = self.handles.read();
        let Some(handles) = handles.as_ref() else {
            return Err(fjall::Error::Poisoned);
        };
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
        batch.commit()?;
        self.batch.store(number, Ordering::Release);
        self.marks.written(number);
        Ok(())
    }

    fn has_space(&self, size: u64) -> bool {
        let Ok(stat) = rustix::fs::statvfs(&self.options.dir) else {
            return true;
        };
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        // On a small disk the reserve is a tenth of it.
        free >= self
            .options
            .min_free_bytes
            .min(total / 10)
            .saturating_add(size)
    }

    /// A failed write poisons the engine until it is opened anew.
    fn reopen_if_poisoned(&self) -> bool {
        let probe = Op {
            table: Table::Meta,
            key: b"probe".to_vec(),
            value: Some(Vec::new()),
        };
        if self.commit(vec![probe.clone()], true).is_ok() {
            return true;
        }
        let mut handles = self.handles.write();
        *handles = None;
        let identity = Identity {
            id: String::new(),
            shards: 0,
            is_new: false,
        };
        match open_engine(&self.dir, &self.options, &identity) {
            Ok(fresh) => *handles = Some(fresh),
            Err(error) => {
                tracing::error!(%error, "the shard cannot be reopened yet");
                return false;
            }
        }
        drop(handles);
        self.commit(vec![probe], true).is_ok()
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
        for keyspace in &handles.tables {
            let mut left = 3_000;
            while keyspace.sealed_memtable_count() > 0 && left > 0 {
                std::thread::sleep(Duration::from_millis(2));
                left -= 1;
            }
        }
        let synced = handles.db.persist(PersistMode::SyncAll);
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

/// Opens the engine. Of what it reads it believes some: where that makes it panic, the files are
/// damaged.
fn open_engine(
    dir: &Path,
    options: &DiskOptions,
    identity: &Identity,
) -> Result<Handles, StoreError> {
    let open = || try_open_engine(dir, options, identity);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)).unwrap_or_else(|_| {
        let path = newest_journal(dir).unwrap_or_else(|| dir.into());
        Err(damaged(&path, "the engine panicked while it read it"))
    })
}

fn try_open_engine(
    dir: &Path,
    options: &DiskOptions,
    identity: &Identity,
) -> Result<Handles, StoreError> {
    let fail = |error: fjall::Error| match error {
        fjall::Error::Locked => StoreError::InUse(options.dir.clone()),
        fjall::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => io_error(dir, e),
        other => damaged(
            &newest_journal(dir).unwrap_or_else(|| dir.into()),
            &format!("{other:?}"),
        ),
    };
    let shards = identity.shards.max(1) as u64;
    let db = Database::builder(dir)
        .cache_size((options.block_cache_bytes / shards).max(1 << 20))
        .worker_threads(WORKER_THREADS)
        .max_journaling_size((options.write_buffer_bytes * 4).max(64 << 20))
        .open()
        .map_err(fail)?;
    let open = |name: &str, buffer: u64| {
        db.keyspace(name, || {
            KeyspaceCreateOptions::default().max_memtable_size(buffer)
        })
        .map_err(fail)
    };
    let buffer = options.write_buffer_bytes;
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

/// What the store is, in one small text file.
#[derive(Debug)]
struct Identity {
    id: String,
    shards: usize,
    is_new: bool,
}

impl Identity {
    fn load_or_create(options: &DiskOptions) -> Result<Self, StoreError> {
        let path = options.dir.join("ringwood.store");
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).ok_or_else(|| {
                damaged(
                    &path,
                    "not a description of a store that this program can read",
                )
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                if options.dir.join("shard-0").exists() {
                    return Err(damaged(&path, "missing, though the directory holds data"));
                }
                let identity = Self {
                    id: random_id(),
                    shards: options.shards,
                    is_new: true,
                };
                identity.write(&path).map_err(|e| io_error(&path, e))?;
                Ok(identity)
            }
            Err(e) => Err(io_error(&path, e)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != FORMAT {
            return None;
        }
        let id = lines.next()?.strip_prefix("id ")?.to_owned();
        let shards = lines.next()?.strip_prefix("shards ")?.parse().ok()?;
        (1..=256).contains(&shards).then_some(Self {
            id,
            shards,
            is_new: false,
        })
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let text = format!("{FORMAT}\nid {}\nshards {}\n", self.id, self.shards);
        let temporary = path.with_extension("new");
        fs::write(&temporary, text)?;
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
