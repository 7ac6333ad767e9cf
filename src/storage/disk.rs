//! The store on disk: the engine over sorted tables in fjall, with the marks that tell what must be there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use super::engine::{Before, Engine, EngineOptions, Found, RealFiles, Tables};
use super::fjall_tables::{FjallOptions, FjallTables, damaged, io_error};
use super::identity::Identity;
use super::layout::{BATCH_ROW, IDENTITY_ROW, JOURNAL, LOCK, MARKS, TABLES_DIR};
use super::marks::{self, Marks};
use super::progress::{Progress, Ticket};
use super::reserve::Reserve;
use super::takeover::{TakenOver, remove_shards, set_aside, take_over};
use super::threads::{Minder, Tended};
use super::{
    AppendFsync, Changing, Frozen, Op, Refused, Row, Store, StoreError, Table, Usage, Write,
};

/// There while damage was accepted and not yet seen to.
const DAMAGED_FILE: &str = "damaged";
/// A folder in which a store is restored, within the data directory.
pub const RESTORING: &str = "restoring";
/// Files that the tables keep open where nothing else is said.
pub const DEFAULT_CACHED_FILES: usize = 512;

/// The size of a segment of the journal: at most this, and of a small disk at most a part.
const SEGMENT_BYTES: u64 = 64 << 20;
const LEAST_SEGMENT_BYTES: u64 = 1 << 20;
const SEGMENTS_A_DISK: u64 = 64;
/// The journal takes as much as so many write buffers, and at least so many segments.
const BUFFERS_A_JOURNAL: u64 = 2;
const SEGMENTS_A_JOURNAL: u64 = 3;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The data directory.
    pub dir: PathBuf,
    /// The partitioning of slots: how rows are spread in memory.
    pub partitions: u16,
    /// When a write is on the disk.
    pub appendfsync: AppendFsync,
    /// Bytes of rows in memory that the tables lack.
    pub write_buffer_bytes: u64,
    /// Bytes of other rows in memory.
    pub cache_bytes: u64,
    /// Bytes of the tables' block cache.
    pub block_cache_bytes: u64,
    /// Writes are refused while the disk has less free.
    pub min_free_bytes: u64,
    /// Take what is readable of a damaged store instead of refusing to start.
    pub accept_damage: bool,
    /// Files that the tables keep open at most.
    pub cached_files: usize,
}

/// Rows on a disk.
pub struct DiskStore {
    options: DiskOptions,
    engine: Arc<Engine>,
    marks: Arc<Marks>,
    appendfsync: Arc<Mutex<AppendFsync>>,
    was_clean: bool,
    is_damaged: bool,
    stop: Arc<(Mutex<bool>, Condvar)>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    closed: AtomicBool,
    /// Held as long as the directory is ours.
    _lock: File,
}

/// How a store was found.
struct State {
    marked: marks::Found,
    was_clean: bool,
    is_damaged: bool,
}

impl DiskStore {
    /// Opens or creates the store.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when something that was stored is missing or unreadable; the files
    /// are left as they are, unless `accept_damage` is set.
    pub fn open(options: DiskOptions) -> Result<Self, StoreError> {
        let dir = options.dir.clone();
        fs::create_dir_all(&dir).map_err(|e| io_error(&dir, e))?;
        let aside = dir.join(RESTORING);
        if aside.exists() {
            let reason = "a restore into this directory has not come to its end: do it again";
            return Err(StoreError::Damaged {
                path: aside,
                reason: reason.to_owned(),
            });
        }
        let lock = lock(&dir)?;
        let identity = Identity::load_or_create(&dir, options.accept_damage)?;
        let reserve = Reserve::new(&dir, options.min_free_bytes);
        let fjall = FjallOptions {
            dir: dir.join(TABLES_DIR),
            block_cache_bytes: options.block_cache_bytes,
            cached_files: options.cached_files,
        };
        let taken = match identity.shards {
            Some(shards) => {
                let accepts = options.accept_damage;
                Some(take_over(
                    &dir, &identity, shards, &fjall, &reserve, accepts,
                )?)
            }
            None => None,
        };
        let (marks, marked) = Marks::open(&dir, MARKS).map_err(|e| io_error(&dir, e))?;
        let mut state = State::of(&identity, marked, taken, &dir);
        state.check_mark(&marks, &identity, &options)?;
        let tables = state.open_tables(&fjall, &identity, &options)?;
        let flushed = state.flushed(&*tables, &fjall.dir, &identity, &options)?;
        let marks = Arc::new(marks);
        let engine = state.open_engine(&options, tables, &identity, (&marks, flushed), &reserve)?;
        if state.is_damaged {
            note_damage(&dir)?;
            // What is missing is missed once: from here on the tables have everything.
            engine.flush()?;
        }
        let upto = engine.sync()?;
        let marked = marks.synced(upto, false);
        marked.map_err(|e| io_error(marks.path(), e))?;
        identity.be_made(&dir)?;
        remove_shards(&dir)?;
        let store = Self {
            appendfsync: Arc::new(Mutex::new(options.appendfsync)),
            options,
            engine: Arc::new(engine),
            marks,
            was_clean: state.was_clean,
            is_damaged: state.is_damaged,
            stop: Arc::default(),
            threads: Mutex::default(),
            closed: AtomicBool::new(false),
            _lock: lock,
        };
        store.set_appendfsync(store.options.appendfsync);
        store.start(reserve).map_err(|e| io_error(&dir, e))?;
        Ok(store)
    }

    /// Changes when writes reach the disk, from the next batch on.
    pub fn set_appendfsync(&self, mode: AppendFsync) {
        *self.appendfsync.lock() = mode;
        self.engine.sync_first(mode == AppendFsync::Always);
    }

    fn start(&self, reserve: Reserve) -> std::io::Result<()> {
        let minder = Minder::new(&self.engine, reserve, self.options.dir.clone());
        let tended = Tended {
            engine: Arc::clone(&self.engine),
            marks: Arc::clone(&self.marks),
            mode: Arc::clone(&self.appendfsync),
        };
        self.threads
            .lock()
            .extend(tended.start(&self.stop, minder)?);
        Ok(())
    }
}

/// Takes a data directory for this process: a living one's files are not to be judged, or written.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(|e| io_error(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_path_buf())),
        Err(fs::TryLockError::Error(error)) => Err(io_error(&path, error)),
    }
}

fn note_damage(dir: &Path) -> Result<(), StoreError> {
    let marker = dir.join(DAMAGED_FILE);
    let noted = File::create(&marker).and_then(|file| file.sync_all());
    let noted = noted.and_then(|()| File::open(dir)?.sync_all());
    noted.map_err(|e| io_error(&marker, e))
}

impl State {
    fn of(identity: &Identity, marked: marks::Found, taken: Option<TakenOver>, dir: &Path) -> Self {
        let was_damaged = dir.join(DAMAGED_FILE).exists();
        let (was_clean, is_damaged) = match taken {
            Some(taken) => (taken.was_clean, taken.is_damaged),
            None => (!identity.is_new && marked.clean, false),
        };
        Self {
            marked,
            was_clean,
            is_damaged: is_damaged || was_damaged,
        }
    }

    /// Something is missing: whether that was accepted.
    fn accept(&mut self, error: StoreError, options: &DiskOptions) -> Result<(), StoreError> {
        match error {
            StoreError::Damaged { .. } if options.accept_damage => {
                tracing::error!(%error, "accepted: the store starts with what is readable");
                // It is noted before it can no longer be seen, until what follows from it is written down.
                note_damage(&options.dir)?;
                self.is_damaged = true;
                self.was_clean = false;
                Ok(())
            }
            error => Err(error),
        }
    }

    fn check_mark(
        &mut self,
        marks: &Marks,
        identity: &Identity,
        options: &DiskOptions,
    ) -> Result<(), StoreError> {
        let is_made = identity.is_made && identity.shards.is_none();
        if self.marked.is_spoilt || is_made && self.marked == marks::Found::default() {
            let what = damaged(marks.path(), "its checksum does not match");
            self.accept(what, options)?;
        }
        Ok(())
    }

    fn open_tables(
        &mut self,
        fjall: &FjallOptions,
        identity: &Identity,
        options: &DiskOptions,
    ) -> Result<Arc<FjallTables>, StoreError> {
        let is_made = identity.is_made && identity.shards.is_none();
        match FjallTables::open(fjall.clone(), is_made) {
            Ok(tables) => Ok(Arc::new(tables)),
            Err(error @ StoreError::Damaged { .. }) => {
                if is_made {
                    self.accept(error, options)?;
                    return Self::anew(fjall);
                }
                if identity.shards.is_some() {
                    // They were made a moment ago, and have everything.
                    return Err(error);
                }
                // A first start was interrupted in the middle, and nothing was ever in them.
                Self::anew(fjall)
            }
            Err(error) => Err(error),
        }
    }

    /// Empty tables in the place of those that cannot be read.
    fn anew(fjall: &FjallOptions) -> Result<Arc<FjallTables>, StoreError> {
        if fjall.dir.exists() {
            let aside = set_aside(&fjall.dir)?;
            tracing::warn!(aside = %aside.display(), "tables that cannot be read are set aside");
        }
        Ok(Arc::new(FjallTables::open(fjall.clone(), false)?))
    }

    /// Up to which batch the tables have everything; names the store in new ones.
    fn flushed(
        &mut self,
        tables: &dyn Tables,
        dir: &Path,
        identity: &Identity,
        options: &DiskOptions,
    ) -> Result<u64, StoreError> {
        let is_made = identity.is_made && identity.shards.is_none();
        let id = tables.get(Table::Meta, IDENTITY_ROW)?;
        if id.as_deref() == Some(identity.id.as_bytes()) {
            let batch = tables.get(Table::Meta, BATCH_ROW)?;
            let batch = batch.and_then(|raw| raw.try_into().ok());
            return Ok(batch.map_or(0, u64::from_le_bytes));
        }
        if is_made {
            let error = damaged(dir, "the tables are not this store's, or are empty");
            self.accept(error, options)?;
        }
        tables.ingest(Table::Meta, &mut |sink| {
            sink.put(BATCH_ROW, Some(&0_u64.to_le_bytes()))?;
            sink.put(IDENTITY_ROW, Some(identity.id.as_bytes()))
        })?;
        Ok(0)
    }

    fn open_engine(
        &mut self,
        options: &DiskOptions,
        tables: Arc<FjallTables>,
        identity: &Identity,
        (marks, flushed): (&Arc<Marks>, u64),
        reserve: &Reserve,
    ) -> Result<Engine, StoreError> {
        let dir = options.dir.join(JOURNAL);
        let segment_bytes = match reserve.space() {
            Some(space) => (space.total / SEGMENTS_A_DISK).next_multiple_of(LEAST_SEGMENT_BYTES),
            None => SEGMENT_BYTES,
        };
        let segment_bytes = segment_bytes.clamp(LEAST_SEGMENT_BYTES, SEGMENT_BYTES);
        let journal_bytes = options.write_buffer_bytes * BUFFERS_A_JOURNAL;
        let engine_options = EngineOptions {
            store: identity.number(),
            partitions: options.partitions,
            write_buffer_bytes: options.write_buffer_bytes,
            cache_bytes: options.cache_bytes,
            segment_bytes,
            journal_bytes: journal_bytes.max(SEGMENTS_A_JOURNAL * segment_bytes),
        };
        let before = Before {
            flushed,
            synced: self.marked.synced,
        };
        let must_be = self.marked.synced.max(self.marked.written);
        let judge = |found: &Found| {
            if let Some((path, what)) = &found.damage {
                self.accept(damaged(path, what), options)?;
            }
            if found.last < must_be {
                let what = format!(
                    "{} batches of acknowledged writes are missing (found {}, expected at least {must_be})",
                    must_be - found.last,
                    found.last
                );
                let path = found.ends_in.as_ref().unwrap_or(&dir);
                self.accept(damaged(path, &what), options)?;
            }
            if found.rows > 0 {
                tracing::info!(rows = found.rows, "the journal was replayed");
            }
            Ok(must_be + 1)
        };
        Engine::open(
            &dir,
            Arc::new(RealFiles),
            tables,
            engine_options,
            (Arc::clone(marks), before),
            judge,
        )
    }
}

impl Store for DiskStore {
    fn shards(&self) -> usize {
        1
    }

    fn enqueue(&self, _: usize, write: Write) -> Result<Ticket, Refused> {
        self.engine.put(&write)
    }

    fn kick(&self, _: usize) {
        self.engine.kick();
    }

    fn gather(&self, _: usize) {
        self.engine.gather();
    }

    fn gathered(&self, _: usize) {
        self.engine.gathered();
    }

    fn progress(&self, _: usize) -> &Progress {
        &self.engine.progress
    }

    fn last(&self, _: usize) -> Ticket {
        self.engine.last_put()
    }

    fn pending(&self, _: usize, table: Table, key: &[u8]) -> Ticket {
        self.engine.pending(table, key)
    }

    fn load(&self, _: usize, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.get(table, key)
    }

    fn look(&self, _: usize, key: &[u8], see: &mut dyn FnMut(Option<&[u8]>)) -> Option<Ticket> {
        self.engine.look(key, see)
    }

    fn change(
        &self,
        _: usize,
        key: &[u8],
        change: &mut dyn FnMut(Option<&[u8]>, &mut Changing) -> bool,
    ) -> Result<Option<Ticket>, Refused> {
        self.engine.change(key, change)
    }

    fn scan(
        &self,
        _: usize,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.engine.scan(table, (from, to), limit)
    }

    fn scan_back(
        &self,
        _: usize,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.engine.scan_back((from, to), limit)
    }

    fn freeze(&self, _: usize) -> Result<Arc<dyn Frozen>, StoreError> {
        Ok(Arc::new(self.engine.view()?))
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
        Usage {
            disk_bytes: self.engine.disk_bytes(),
            buffer_bytes: self.engine.dirty_bytes(),
            cached_bytes: self.engine.held_bytes(),
            hits: self.engine.hits(),
            misses: self.engine.counters.misses.load(Ordering::Relaxed),
            disk_full: self.engine.refuses(),
        }
    }

    fn refuses_growth(&self) -> bool {
        self.engine.refuses()
    }

    fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let synced = self.engine.close();
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        match synced {
            Ok(upto) => {
                if let Err(error) = self.marks.synced(upto, true) {
                    tracing::warn!(%error, "the clean stop could not be marked");
                }
            }
            Err(error) => tracing::error!(%error, "the last writes may not be on the disk"),
        }
    }

    fn compact(&self) -> Result<(), StoreError> {
        self.engine.flush()?;
        self.engine.compact()
    }

    fn sync(&self) -> Result<(), StoreError> {
        let upto = self.engine.sync()?;
        let marked = self.marks.synced(upto, false);
        marked.map_err(|e| io_error(self.marks.path(), e))
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether a row says which store it is in, and how far that has come.
pub fn is_the_stores_own(op: &Op) -> bool {
    op.table == Table::Meta && [BATCH_ROW, IDENTITY_ROW].contains(&op.key.as_slice())
}
