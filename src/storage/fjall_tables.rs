//! Sorted tables in fjall: one database, a keyspace a table, rows added by ingestion alone. The only file
//! that names it.
//!
//! What is known about fjall 3.1 and handled here: at least four worker threads (with one it deadlocks,
//! with two it spins); an ingestion takes no notice of how many tables wait for a compaction (we do); equal
//! or descending keys panic (rows come sorted, without two of one key); an ingestion that was begun leaves a
//! file behind, also without rows (none is begun without); threads that fail poison it until it is opened
//! anew, and end after it is dropped (we wait until they have let go of its files); a damaged list of tables
//! may take all memory (it is checked before).

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use parking_lot::{Condvar, Mutex, RwLock};

use super::check::check_lists_of_tables;
use super::engine::{Fill, Sorted, Tables};
use super::layout::TABLES;
use super::{StoreError, Table};
use crate::base::{clock, give_way};

const WORKER_THREADS: usize = 4;
/// What is ingested never goes through its write buffers.
const WRITE_BUFFER: u64 = 4 << 20;
/// A reader waits so long for tables that are being opened anew.
const READERS_WAIT: Duration = Duration::from_secs(1);
/// Who opens them anew waits so long at a time for others to be done with them.
const OTHERS_MAY_TAKE: Duration = Duration::from_millis(500);
/// So long threads of closed tables may take to let go of the files.
const CLOSING_TAKES: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// So many tables in the first level make reads slow: no more are added until some were compacted.
const MOST_FIRST_LEVEL: usize = 24;
/// Bytes that a disk must take before tables are opened anew on it.
const PROBE: usize = 256 << 10;
/// Longer than this they are not waited for: a compaction may have been forgotten, until the next
/// ingestion asks for one.
const SETTLING_TAKES: Duration = Duration::from_secs(5);
const COMPACTION_TAKES: Duration = Duration::from_millis(10);
const NAMES: [&str; TABLES] = ["data", "expiry", "conflict", "meta", "hint", "tombstone"];

/// How the tables are opened.
#[derive(Clone, Debug)]
pub(super) struct FjallOptions {
    pub(super) dir: PathBuf,
    pub(super) block_cache_bytes: u64,
    pub(super) cached_files: usize,
}

struct Handles {
    db: Database,
    keyspaces: [Keyspace; TABLES],
}

/// Tables in fjall.
pub(super) struct FjallTables {
    options: FjallOptions,
    /// Nothing while it is opened anew.
    handles: RwLock<Option<Arc<Handles>>>,
    opening: Mutex<()>,
    opened: Condvar,
    /// An ingestion has failed: what it has left goes when they are opened anew.
    is_suspect: AtomicBool,
}

impl FjallTables {
    /// Opens or creates them; whether they were made once, and none may be missing.
    pub(super) fn open(options: FjallOptions, is_made: bool) -> Result<Self, StoreError> {
        be_alone(&options.dir)?;
        // With a wrong list the engine might take all memory before it notices.
        let checked = check_lists_of_tables(&options.dir, is_made);
        checked.map_err(|(path, what)| damaged(&path, &what))?;
        if is_made && !has_journal(&options.dir) {
            // It would take that for a new database, and remove the rest.
            return Err(damaged(&options.dir, "the tables have no journal"));
        }
        let handles = Handles::open(&options)?;
        Ok(Self {
            options,
            handles: RwLock::new(Some(Arc::new(handles))),
            opening: Mutex::default(),
            opened: Condvar::new(),
            is_suspect: AtomicBool::new(false),
        })
    }

    /// The tables; waits for them while they are opened anew, a moment.
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
                return Err(engine_error(&"the tables are being opened anew"));
            }
        }
    }

    /// Drops them when nobody else uses them, and waits until their threads are done with the files. Until
    /// then others go on reading.
    fn take_away(&self) -> bool {
        let begun = clock::monotonic();
        let is_late = || clock::monotonic().duration_since(begun) > OTHERS_MAY_TAKE;
        loop {
            let mut handles = self.handles.write();
            match &*handles {
                Some(shared) if Arc::strong_count(shared) > 1 => {}
                // Dropping them waits for their threads.
                Some(_) => {
                    let taken = handles.take();
                    drop(handles);
                    drop(taken);
                    continue;
                }
                None if !has_open_files(&self.options.dir) => return true,
                None => {}
            }
            drop(handles);
            if is_late() {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Closes them, and waits until their threads have let go of the files.
    pub(super) fn close(self) {
        let begun = clock::monotonic();
        let dir = self.options.dir.clone();
        drop(self);
        while has_open_files(&dir) && clock::monotonic().duration_since(begun) < CLOSING_TAKES {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Whether the disk takes something.
    fn probe(&self) -> std::io::Result<()> {
        let path = self.options.dir.with_extension("probe");
        let taken = fs::write(&path, vec![0; PROBE]).and_then(|()| File::open(&path)?.sync_all());
        let removed = fs::remove_file(&path);
        taken.and(removed)
    }

    fn fail(&self, error: &fjall::Error) -> StoreError {
        tracing::error!(dir = %self.options.dir.display(), ?error, "the tables failed");
        engine_error(error)
    }
}

impl Tables for FjallTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let handles = self.handles()?;
        let found = handles.keyspaces[table as usize].get(key);
        let found = found.map_err(|e| self.fail(&e))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn snapshot(&self) -> Result<Arc<dyn Sorted>, StoreError> {
        let handles = self.handles()?;
        Ok(Arc::new(Snapshot {
            snapshot: handles.db.snapshot(),
            handles: Arc::downgrade(&handles),
        }))
    }

    fn ingest(&self, table: Table, fill: &mut Fill<'_>) -> Result<(), StoreError> {
        self.mend()?;
        let handles = self.handles()?;
        let keyspace = &handles.keyspaces[table as usize];
        self.is_suspect.store(true, Ordering::Release);
        let mut ingestion = keyspace.start_ingestion().map_err(|e| self.fail(&e))?;
        fill(&mut |key: &[u8], value: Option<&[u8]>| {
            let put = match value {
                Some(value) => ingestion.write(key, value),
                None => ingestion.write_tombstone(key),
            };
            put.map_err(|e| engine_error(&e))
        })?;
        ingestion.finish().map_err(|e| self.fail(&e))?;
        self.is_suspect.store(false, Ordering::Release);
        Ok(())
    }

    fn mend(&self) -> Result<(), StoreError> {
        if !self.is_suspect.load(Ordering::Acquire)
            && let Some(handles) = &*self.handles.read()
            && handles.db.persist(PersistMode::Buffer).is_ok()
        {
            return Ok(());
        }
        // Until the disk works again what is open is read on.
        self.probe().map_err(|e| io_error(&self.options.dir, e))?;
        if !self.take_away() {
            return Err(engine_error(
                &"the tables are in use, and must be opened anew",
            ));
        }
        let opened = Handles::open(&self.options)?;
        tracing::warn!(dir = %self.options.dir.display(), "the tables were opened anew after a failure");
        *self.handles.write() = Some(Arc::new(opened));
        self.is_suspect.store(false, Ordering::Release);
        let _opening = self.opening.lock();
        self.opened.notify_all();
        Ok(())
    }

    fn settle(&self, is_over: &dyn Fn() -> bool) {
        let Ok(handles) = self.handles() else { return };
        let begun = clock::monotonic();
        for keyspace in &handles.keyspaces {
            while clock::monotonic().duration_since(begun) < SETTLING_TAKES
                && keyspace.l0_table_count() >= MOST_FIRST_LEVEL
                && !is_over()
                && handles.db.persist(PersistMode::Buffer).is_ok()
            {
                std::thread::sleep(COMPACTION_TAKES);
            }
        }
    }

    fn compact(&self) -> Result<(), StoreError> {
        // They are let go in between: they may have to be opened anew.
        for nth in 0..TABLES {
            let compacted = self.handles()?.keyspaces[nth].major_compact();
            compacted.map_err(|e| self.fail(&e))?;
        }
        Ok(())
    }

    fn rows(&self) -> u64 {
        let handles = self.handles.read();
        let data =
            |handles: &Arc<Handles>| handles.keyspaces[Table::Data as usize].approximate_len();
        handles
            .as_ref()
            .map_or(u64::MAX, |handles| data(handles) as u64)
    }

    fn disk_bytes(&self) -> u64 {
        let handles = self.handles.read();
        let handles = handles.as_ref();
        handles.map_or(0, |handles| handles.db.disk_space().unwrap_or(0))
    }
}

/// Keeps nobody from opening the tables anew; then it cannot be read any more.
struct Snapshot {
    snapshot: fjall::Snapshot,
    handles: Weak<Handles>,
}

impl Sorted for Snapshot {
    fn range(
        &self,
        table: Table,
        range: (&[u8], &[u8]),
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Self::walk(self.of(table, range)?.into_iter().flatten(), each)
    }

    fn range_back(
        &self,
        table: Table,
        range: (&[u8], &[u8]),
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Self::walk(self.of(table, range)?.into_iter().flatten().rev(), each)
    }
}

impl Snapshot {
    /// What there is in a range; nothing where nothing can be.
    fn of(
        &self,
        table: Table,
        (from, to): (&[u8], &[u8]),
    ) -> Result<Option<fjall::Iter>, StoreError> {
        if from >= to {
            return Ok(None);
        }
        let handles = self.handles.upgrade();
        let handles = handles.ok_or_else(|| engine_error(&"the tables were opened anew since"))?;
        let keyspace = &handles.keyspaces[table as usize];
        Ok(Some(self.snapshot.range(keyspace, from..to)))
    }

    fn walk(
        rows: impl Iterator<Item = fjall::Guard>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for guard in rows {
            let (key, value) = guard.into_inner().map_err(|e| engine_error(&e))?;
            if each(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Handles {
    /// Of what it reads fjall believes some: where that makes it panic, the files are damaged.
    fn open(options: &FjallOptions) -> Result<Self, StoreError> {
        // Its threads have the priority of the one that opens it.
        let open = || {
            give_way();
            Self::try_open(options)
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, open);
            let thread = thread.map_err(|e| io_error(&options.dir, e))?;
            let panicked = |_| Err(damaged(&options.dir, "reading the tables has panicked"));
            thread.join().unwrap_or_else(panicked)
        })
    }

    fn try_open(options: &FjallOptions) -> Result<Self, StoreError> {
        let dir = &options.dir;
        let fail = |error: fjall::Error| match error {
            fjall::Error::Locked => StoreError::InUse(dir.clone()),
            fjall::Error::Io(e) if is_of_the_machine(&e) => io_error(dir, e),
            fjall::Error::Storage(fjall::LsmError::Io(e)) if is_of_the_machine(&e) => {
                io_error(dir, e)
            }
            other => damaged(dir, &format!("{other:?}")),
        };
        let db = Database::builder(dir)
            .cache_size(options.block_cache_bytes.max(1 << 20))
            .worker_threads(WORKER_THREADS)
            .max_cached_files(Some(options.cached_files))
            .open()
            .map_err(fail)?;
        let open = |name: &str| {
            let keyspace = KeyspaceCreateOptions::default;
            let options = || {
                let small = keyspace().max_memtable_size(WRITE_BUFFER);
                small.data_block_compression_policy(compression())
            };
            db.keyspace(name, options).map_err(fail)
        };
        let [data, expiry, conflict, meta, hint, tombstone] = NAMES.map(open);
        let keyspaces = [data?, expiry?, conflict?, meta?, hint?, tombstone?];
        Ok(Self { db, keyspaces })
    }
}

/// What is flushed is written as it is; what is compacted, and stays, is compressed.
fn compression() -> CompressionPolicy {
    CompressionPolicy::new([CompressionType::None, CompressionType::Lz4])
}

/// Whether what the operating system says is about the machine, and not about what is in a file.
fn is_of_the_machine(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    use std::io::ErrorKind::{
        OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let kinds = [
        OutOfMemory,
        PermissionDenied,
        QuotaExceeded,
        ReadOnlyFilesystem,
        StorageFull,
    ];
    let errors = [Errno::IO, Errno::MFILE, Errno::NFILE];
    kinds.contains(&error.kind())
        || Errno::from_io_error(error).is_some_and(|errno| errors.contains(&errno))
}

/// Whether nobody else has a database open: a living one's files are not to be judged.
fn be_alone(dir: &Path) -> Result<(), StoreError> {
    let Ok(lock) = File::open(dir.join("lock")) else {
        return Ok(());
    };
    match lock.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_path_buf())),
        _ => Ok(()),
    }
}

fn has_journal(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.any(|path| path.extension().is_some_and(|extension| extension == "jnl"))
}

/// Whether this process has a database's lock or its journal open. Threads of it may have for a moment
/// after it was dropped, and write when they let go.
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

/// What is not as it was written.
pub(super) fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged {
        path: path.to_path_buf(),
        reason: format!(
            "the store is damaged: {what}. Nothing was changed. Restore the data directory from a \
             backup, or start once with --accept-damaged-store true to keep what is readable"
        ),
    }
}

/// What the operating system has refused.
pub(super) fn io_error(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        path: path.to_path_buf(),
        source,
    }
}

fn engine_error(error: &impl std::fmt::Display) -> StoreError {
    StoreError::Engine(error.to_string())
}
