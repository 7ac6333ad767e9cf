//! The engine: a journal, rows in memory, and sorted tables behind them.
//!
//! A write is put into memory and into the batch that is being filled, under the locks of the parts of
//! memory that it touches; readers see it at once. Whoever wants it kept has the batch written, for
//! everybody who has added to it. A flush gives the tables what they lack, up to a batch, and then lets go
//! the segments of the journal that have nothing else.
//!
//! Order of locks: the writer, then parts ascending, then other tables in their order, then the batch. None
//! is held while a file is synced, and only the writer while one is written.
//!
//! What a crash leaves: tables may have any mix of rows up to the batch at which the last flush was cut,
//! and everything up to the one before. Segments go only when the tables have on the disk all that is in
//! them; a row that was overwritten before the flush saw it is in a segment that is left. To replay whole
//! batches in order therefore ends with what was there, and with no part of a batch.

mod batch;
mod commit;
mod files;
mod flush;
mod journal;
mod keys;
mod known;
mod learn;
mod loose;
mod merge;
mod part;
mod point;
mod scan;
mod segment;
mod slot;
mod tables;
mod view;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use smallvec::SmallVec;

use super::marks::Marks;
use super::progress::{Progress, Ticket};
use super::room::Room;
use super::{Need, Op, Refused, StoreError, Table, Write};
use batch::Row as BatchRow;
pub(super) use files::{Files, RealFiles};
use journal::{Journal, Segment};
use keys::{Keys, PARTS};
use loose::Loose;
use part::{Growth, Needed, Part};
pub(super) use segment::{Before, Found};
#[cfg(test)]
pub(super) use tables::memory;
pub(super) use tables::{Fill, Sorted, Tables};

pub(super) use super::layout::BATCH_ROW as FLUSHED_ROW;
/// A batch of so many bytes is written without being asked for.
const EAGER_BYTES: usize = 4 << 20;
/// When the tables lack so many write buffers nothing that grows is taken.
const BUFFERS_AT_MOST: u64 = 4;
/// Room for batches is kept for the next one, up to so many bytes.
const KEPT_BYTES: usize = 1 << 20;
/// Those who gather what belongs together are waited for, so long at a time.
const GATHERERS_TAKE: Duration = Duration::from_micros(50);
/// Tables other than data.
const LOOSE: usize = Table::ALL.len() - 1;
/// A part of memory gives up rows for what comes in, and a little more, so that none of it piles up.
const EVICTED_MORE: u64 = 64;

/// How an engine works.
pub(super) struct EngineOptions {
    /// Which store it is.
    pub(super) store: u64,
    pub(super) partitions: u16,
    /// Bytes of rows that the tables lack, at most.
    pub(super) write_buffer_bytes: u64,
    /// Bytes of other rows.
    pub(super) cache_bytes: u64,
    pub(super) segment_bytes: u64,
    /// Bytes of the journal, about.
    pub(super) journal_bytes: u64,
}

/// Rows in memory, the journal before them and the tables behind.
pub(super) struct Engine {
    options: EngineOptions,
    keys: Keys,
    parts: Box<[Mutex<Part>]>,
    loose: [Mutex<Loose>; LOOSE],
    tables: Arc<dyn Tables>,
    journal: Journal,
    marks: Arc<Marks>,
    filling: Mutex<Filling>,
    writer: Mutex<Writer>,
    pub(super) progress: Progress,
    /// The last batch to which something was added.
    last: AtomicU64,
    /// The last batch that was written to the journal.
    written: AtomicU64,
    /// The tables have everything up to this batch.
    flushed: AtomicU64,
    /// Views of earlier times.
    views: RwLock<Vec<Needed>>,
    open_views: AtomicUsize,
    /// Bytes of rows in memory, and of those that the tables lack and that are not being flushed.
    all_bytes: AtomicI64,
    dirty_bytes: AtomicI64,
    /// Bytes of rows that are being flushed.
    flushing_bytes: AtomicI64,
    /// What the tables have is known, or being learnt; and how many bytes of memory that takes.
    knows: AtomicBool,
    known_bytes: AtomicI64,
    /// Whether batches are synced before they count as committed.
    syncs_first: AtomicBool,
    /// A sync has failed, and the tables do not have yet what may be lost.
    is_distrusted: AtomicBool,
    refuses: AtomicBool,
    /// Wakes the thread that commits for those who wait for the disk.
    wanted: (Mutex<bool>, Condvar),
    flush_wanted: (Mutex<FlushWanted>, Condvar),
    flushing: Mutex<()>,
    syncing: Mutex<()>,
    pub(super) counters: Counters,
}

/// What the engine has done since it was opened.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Rows that were looked for in the tables.
    pub(super) misses: AtomicU64,
}

#[derive(Debug, Default)]
struct FlushWanted {
    is_wanted: bool,
    is_closing: bool,
}

/// The batch that is being filled, and why it may not be.
#[expect(clippy::struct_excessive_bools, reason = "five facts, each by itself")]
struct Filling {
    batch: Vec<u8>,
    number: u64,
    /// Complete, and not yet taken by who writes.
    sealed: Vec<Sealed>,
    /// Room for the next one.
    spare: Vec<u8>,
    /// Commands that are adding what belongs into one batch.
    gathering: usize,
    /// Somebody wanted it written meanwhile.
    is_kicked: bool,
    room: Room,
    /// A batch could not be written.
    is_in_doubt: bool,
    /// What was written cannot be synced.
    is_unsynced: bool,
    is_closing: bool,
}

struct Sealed {
    number: u64,
    batch: Vec<u8>,
}

struct Writer {
    segment: Segment,
    unwritten: VecDeque<Sealed>,
}

/// Locks of everything that a write touches.
struct Touched<'a> {
    parts: SmallVec<[(usize, MutexGuard<'a, Part>); 2]>,
    loose: TouchedLoose<'a>,
}

type TouchedLoose<'a> = SmallVec<[(usize, MutexGuard<'a, Loose>); 2]>;

impl Filling {
    fn new(number: u64) -> Self {
        let mut batch = Vec::new();
        batch::begin(&mut batch);
        Self {
            batch,
            number,
            sealed: Vec::new(),
            spare: Vec::new(),
            gathering: 0,
            is_kicked: false,
            room: Room::Plenty,
            is_in_doubt: false,
            is_unsynced: false,
            is_closing: false,
        }
    }

    /// What is in the batch is complete; later writes go into the next.
    fn seal(&mut self) {
        if batch::is_empty(&self.batch) {
            return;
        }
        let mut next = std::mem::take(&mut self.spare);
        batch::begin(&mut next);
        let batch = std::mem::replace(&mut self.batch, next);
        let number = self.number;
        self.sealed.push(Sealed { number, batch });
        self.number += 1;
    }

    /// Whether it is to be written though nobody may ask for it soon.
    fn is_long(&self) -> bool {
        self.batch.len() >= EAGER_BYTES && self.gathering == 0
    }

    fn check(&self, need: Need) -> Result<(), Refused> {
        let least = match need {
            Need::Grows => Room::Plenty,
            Need::Frees => Room::Tight,
        };
        match () {
            () if self.is_closing => Err(Refused::Closing),
            () if self.is_unsynced => Err(Refused::Unsynced),
            () if self.is_in_doubt || self.room < least => Err(Refused::DiskFull),
            () => Ok(()),
        }
    }
}

impl Engine {
    /// Opens a journal before tables, of which something is known. What is found is judged before
    /// anything is changed; the next batch is at least the one that is wanted then.
    pub(super) fn open(
        dir: &Path,
        files: Arc<dyn Files>,
        tables: Arc<dyn Tables>,
        options: EngineOptions,
        (marks, before): (Arc<Marks>, Before),
        judge: impl FnOnce(&Found) -> Result<u64, StoreError>,
    ) -> Result<Self, StoreError> {
        let keys = Keys::of(options.partitions);
        let parts: Box<[Mutex<Part>]> = (0..PARTS).map(|_| Mutex::default()).collect();
        let loose: [Mutex<Loose>; LOOSE] = Default::default();
        let mut grown = Growth::default();
        let fail = |source| StoreError::Io {
            path: dir.to_path_buf(),
            source,
        };
        let (journal, found) = Journal::open(
            dir,
            files,
            options.store,
            options.segment_bytes,
            before,
            |number, row| grown.add(apply(&keys, &parts, &loose, &row, number)),
        )
        .map_err(fail)?;
        let next = (found.last + 1).max(judge(&found)?);
        let segment = journal.resume(next).map_err(fail)?;
        let progress = Progress::default();
        progress.publish_committed(next - 1, false);
        Ok(Self {
            options,
            keys,
            parts,
            loose,
            tables,
            journal,
            marks,
            filling: Mutex::new(Filling::new(next)),
            writer: Mutex::new(Writer {
                segment,
                unwritten: VecDeque::new(),
            }),
            progress,
            last: AtomicU64::new(next - 1),
            written: AtomicU64::new(next - 1),
            flushed: AtomicU64::new(before.flushed),
            views: RwLock::default(),
            open_views: AtomicUsize::new(0),
            all_bytes: AtomicI64::new(grown.all),
            dirty_bytes: AtomicI64::new(grown.dirty),
            flushing_bytes: AtomicI64::new(0),
            knows: AtomicBool::new(false),
            known_bytes: AtomicI64::new(0),
            syncs_first: AtomicBool::new(false),
            is_distrusted: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            wanted: <(Mutex<bool>, Condvar)>::default(),
            flush_wanted: <(Mutex<FlushWanted>, Condvar)>::default(),
            flushing: Mutex::default(),
            syncing: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// Puts changes into memory, all of them or none, and into the batch that is being filled.
    pub(super) fn put(&self, write: &Write) -> Result<Ticket, Refused> {
        let mut touched = self.touch(&write.ops);
        let (number, is_long) = {
            let mut filling = self.filling.lock();
            filling.check(write.need)?;
            self.progress.check(write.as_of)?;
            self.check_bounds(write.ops.iter().map(row_of), write.need)?;
            if write.ops.is_empty() {
                // Nothing comes of it: it is there as soon as what was put before.
                let is_new = batch::is_empty(&filling.batch);
                return Ok(filling.number - u64::from(is_new));
            }
            for op in &write.ops {
                batch::put(&mut filling.batch, &row_of(op));
            }
            self.last.store(filling.number, Ordering::Release);
            (filling.number, filling.is_long())
        };
        let views = self.views();
        let mut grown = Growth::default();
        for op in &write.ops {
            grown.add(touched.put(&self.keys, &row_of(op), number, &views));
        }
        if grown.all > 0 {
            self.make_room(&mut touched, grown.all as u64, &views);
        }
        drop(touched);
        self.note(grown);
        if is_long {
            // Nobody may ask for it soon.
            self.kick();
        }
        Ok(number)
    }

    /// Whether rows are short enough for the journal, and memory has room for them: tables that take
    /// nothing any more are no reason to take all of it.
    fn check_bounds<'r>(
        &self,
        mut rows: impl Iterator<Item = BatchRow<'r>>,
        need: Need,
    ) -> Result<(), Refused> {
        let fits = |row: BatchRow<'_>| {
            let len = row.value.map_or(0, <[u8]>::len);
            row.key.len() <= batch::MOST_KEY_BYTES && len <= batch::MOST_VALUE_BYTES
        };
        let is_full = self.dirty_bytes() > self.options.write_buffer_bytes * BUFFERS_AT_MOST;
        if !rows.all(fits) {
            return Err(Refused::TooLong);
        }
        if is_full && need == Need::Grows {
            return Err(Refused::DiskFull);
        }
        Ok(())
    }

    /// Locks what some changes touch.
    fn touch(&self, ops: &[Op]) -> Touched<'_> {
        let of_data = ops.iter().filter(|op| op.table == Table::Data);
        let mut parts: SmallVec<[usize; 2]> = of_data.map(|op| self.keys.part(&op.key)).collect();
        parts.sort_unstable();
        parts.dedup();
        Touched {
            parts: parts
                .into_iter()
                .map(|nth| (nth, self.parts[nth].lock()))
                .collect(),
            loose: self.touch_loose(ops),
        }
    }

    /// Locks the tables other than data that some changes touch.
    fn touch_loose(&self, ops: &[Op]) -> TouchedLoose<'_> {
        let others = ops.iter().filter(|op| op.table != Table::Data);
        let mut loose: SmallVec<[usize; 2]> = others.map(|op| op.table as usize - 1).collect();
        loose.sort_unstable();
        loose.dedup();
        let loose = loose.into_iter();
        loose.map(|nth| (nth, self.loose[nth].lock())).collect()
    }

    /// Gives up rows that the tables have, in parts that are locked anyway, where there are too many.
    fn make_room(&self, touched: &mut Touched<'_>, wanted: u64, views: &[Needed]) {
        for (_, part) in &mut touched.parts {
            self.make_room_in(part, wanted, views);
        }
    }

    fn make_room_in(&self, part: &mut Part, wanted: u64, views: &[Needed]) {
        let most = self.options.cache_bytes + self.options.write_buffer_bytes;
        if self.all_bytes.load(Ordering::Relaxed) > most as i64 {
            let flushed = self.flushed.load(Ordering::Acquire);
            let freed = part.evict(wanted + EVICTED_MORE, flushed, views);
            self.all_bytes.fetch_sub(freed as i64, Ordering::Relaxed);
        }
    }

    /// Gives up rows until there are no more than there should be, or all were looked at; whether enough
    /// were found.
    pub(super) fn evict(&self) -> bool {
        let most = (self.options.cache_bytes + self.options.write_buffer_bytes) as i64;
        for part in &self.parts {
            let over = self.all_bytes.load(Ordering::Relaxed) - most;
            if over <= 0 {
                return true;
            }
            let flushed = self.flushed.load(Ordering::Acquire);
            let mut part = part.lock();
            let freed = part.evict(over as u64, flushed, &self.views());
            self.all_bytes.fetch_sub(freed as i64, Ordering::Relaxed);
        }
        self.all_bytes.load(Ordering::Relaxed) <= most
    }

    fn note(&self, grown: Growth) {
        if grown.all != 0 {
            self.all_bytes.fetch_add(grown.all, Ordering::Relaxed);
        }
        if grown.dirty != 0 {
            let before = self.dirty_bytes.fetch_add(grown.dirty, Ordering::Relaxed);
            let half = (self.options.write_buffer_bytes / 2) as i64;
            if before < half && before + grown.dirty >= half {
                self.want_flush();
            }
        }
    }

    /// The last batch to which something was added.
    pub(super) fn last_put(&self) -> Ticket {
        self.last.load(Ordering::Acquire)
    }

    /// The batch has what belongs together: it is not completed before [`Self::gathered`] was called as
    /// often.
    pub(super) fn gather(&self) {
        self.filling.lock().gathering += 1;
    }

    /// Whether somebody wanted it written meanwhile, and can have it now.
    pub(super) fn gathered(&self) {
        let is_due = {
            let mut filling = self.filling.lock();
            filling.gathering -= 1;
            filling.gathering == 0 && std::mem::take(&mut filling.is_kicked)
        };
        if is_due {
            self.kick();
        }
    }

    /// Refuses what comes, writes what was taken, syncs it, and ends what waits in the engine's threads.
    pub(super) fn close(&self) -> Result<u64, StoreError> {
        self.refuse(|filling| {
            filling.is_closing = true;
            filling.seal();
        });
        self.commit();
        let synced = self.sync();
        {
            self.flush_wanted.0.lock().is_closing = true;
            self.flush_wanted.1.notify_all();
            *self.wanted.0.lock() = true;
            self.wanted.1.notify_all();
        }
        self.journal.close();
        synced
    }

    /// Makes the next segment of the journal when it is needed; `false` at the end.
    pub(super) fn prepare_segment(&self) -> std::io::Result<bool> {
        self.journal.prepare()
    }

    /// [`Self::prepare_segment`], without waiting for the need.
    #[cfg(test)]
    fn prepare_next(&self) -> std::io::Result<()> {
        self.journal.prepare_now()
    }

    /// Bytes of rows that the tables lack.
    pub(super) fn dirty_bytes(&self) -> u64 {
        let dirty = self.dirty_bytes.load(Ordering::Relaxed);
        (dirty + self.flushing_bytes.load(Ordering::Relaxed)).max(0) as u64
    }

    /// Bytes of all rows in memory.
    pub(super) fn held_bytes(&self) -> u64 {
        self.all_bytes.load(Ordering::Relaxed).max(0) as u64
    }

    /// Rows that were found in memory.
    pub(super) fn hits(&self) -> u64 {
        self.parts.iter().map(|part| part.lock().hits()).sum()
    }

    /// Bytes of files.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.journal.disk_bytes() + self.tables.disk_bytes()
    }

    /// Gives back what removed rows occupy in the tables.
    pub(super) fn compact(&self) -> Result<(), StoreError> {
        self.tables.compact()
    }

    /// The last batch that was written.
    pub(super) fn last_written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn views(&self) -> SmallVec<[Needed; 2]> {
        if self.open_views.load(Ordering::Acquire) == 0 {
            return SmallVec::new();
        }
        self.views.read().iter().copied().collect()
    }
}

impl Touched<'_> {
    fn put(&mut self, keys: &Keys, row: &BatchRow<'_>, batch: u64, views: &[Needed]) -> Growth {
        if row.table == Table::Data {
            let nth = keys.part(row.key);
            let part = self.parts.iter_mut().find(|(at, _)| *at == nth);
            let (_, part) = part.expect("it was locked");
            return part.put(keys, (keys.hash(row.key), row.key), row.value, batch, views);
        }
        put_loose(&mut self.loose, row)
    }
}

fn put_loose(touched: &mut TouchedLoose<'_>, row: &BatchRow<'_>) -> Growth {
    let nth = row.table as usize - 1;
    let loose = touched.iter_mut().find(|(at, _)| *at == nth);
    let (_, loose) = loose.expect("it was locked");
    of_loose(loose.put(row.key, row.value))
}

fn of_loose(grown: i64) -> Growth {
    Growth {
        all: grown,
        dirty: grown,
    }
}

fn row_of(op: &Op) -> BatchRow<'_> {
    BatchRow {
        table: op.table,
        key: &op.key,
        value: op.value.as_deref(),
    }
}

/// Puts a row of the journal into memory.
fn apply(
    keys: &Keys,
    parts: &[Mutex<Part>],
    loose: &[Mutex<Loose>; LOOSE],
    row: &BatchRow<'_>,
    number: u64,
) -> Growth {
    if row.table == Table::Data {
        let mut part = parts[keys.part(row.key)].lock();
        return part.put(keys, (keys.hash(row.key), row.key), row.value, number, &[]);
    }
    let mut loose = loose[row.table as usize - 1].lock();
    of_loose(loose.put(row.key, row.value))
}
