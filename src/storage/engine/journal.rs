//! The journal: segments, files of one size, each a head and then batches in the order of their numbers.
//!
//! A segment is allocated before it is needed and used again when everything in it is in the tables. Its
//! head names the first batch, so that a missing segment is told from an end: the numbers of batches have
//! no gap but what the tables have. Not here: when a batch is written, and what its rows mean.
//!
//! Invariants: nothing is written behind what could not be written; a file of which a sync has failed is
//! never believed again, nor used again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::batch::{self, Row};
use super::files::Files;
use super::segment::{
    Before, Found, HEAD, Head, Older, Unsure, in_order, is_beyond_the_end, read_head,
    replay_segment,
};

/// Segments that are kept to be used again.
const MOST_SPARES: usize = 1;

/// The files of a journal.
pub(super) struct Journal {
    dir: PathBuf,
    files: Arc<dyn Files>,
    /// Which store it belongs to.
    store: u64,
    segment_bytes: u64,
    known: Mutex<Known>,
    /// Somebody has taken the segment that was ready.
    taken: Condvar,
    /// Bytes in segments whose rows the tables may lack.
    bytes: AtomicU64,
}

#[derive(Default)]
struct Known {
    older: Vec<Older>,
    spares: Vec<(PathBuf, File)>,
    /// Files that nobody needs, of another size.
    odd: Vec<PathBuf>,
    /// The next segment, ready.
    ready: Option<(PathBuf, File)>,
    /// Segments behind the end, which a power cut has left.
    beyond: Vec<(PathBuf, File)>,
    /// Files of which not even the head can be read.
    unreadable: Vec<PathBuf>,
    /// What is read of files and may not be on the disk, though nothing says so.
    unsure: Vec<Unsure>,
    /// Where the last of the older ones can go on.
    goes_on_at: Option<u64>,
    /// Files are numbered from 1.
    last_name: u64,
    closing: bool,
}

/// The segment to which batches are added.
pub(super) struct Segment {
    path: PathBuf,
    file: Arc<File>,
    id: u64,
    /// Where the next batch begins.
    end: u64,
    last: u64,
}

impl Journal {
    /// Opens what there is, gives every row of batches that the tables may lack to `replay`, in order, and begins
    /// a segment. Damage is told, not mended: what can be read was given.
    pub(super) fn open(
        dir: &Path,
        files: Arc<dyn Files>,
        store: u64,
        segment_bytes: u64,
        before: Before,
        mut replay: impl FnMut(u64, Row<'_>),
    ) -> io::Result<(Self, Found)> {
        fs::create_dir_all(dir)?;
        let mut known = Known::default();
        let mut found = Found {
            last: before.flushed,
            ..Found::default()
        };
        let mut segments = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(name) = name_of(&path) else { continue };
            known.last_name = known.last_name.max(name);
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            match read_head(&file, store)? {
                Ok(Some(head)) => segments.push((head, path, file)),
                // It has never been used, or everything in it is in the tables.
                Ok(None) if file.metadata()?.len() == segment_bytes => {
                    known.spares.push((path, file));
                }
                Ok(None) => known.odd.push(path),
                Err(what) => {
                    known.unreadable.push(path.clone());
                    found.damage.get_or_insert((path, what.to_owned()));
                }
            }
        }
        let (mut bytes, mut goes_on) = (0, None);
        let mut segments = in_order(segments)?.into_iter().peekable();
        while let Some((head, path, file)) = segments.next() {
            if head.first > found.last + 1 && is_beyond_the_end(&head, &file, found.last)? {
                // A power cut has taken what was between, and nothing of it had been on the disk.
                known.beyond.push((path, file));
                continue;
            }
            // What one has of batches that the next begins with, a power cut had left behind the end.
            let until = segments.peek().map_or(u64::MAX, |(next, ..)| next.first);
            let span = (before, until);
            let replayed = replay_segment(&head, path, file, span, &mut found, &mut replay)?;
            known.unsure.extend(replayed.unsure);
            bytes += replayed.older.bytes;
            known.older.push(replayed.older);
            goes_on = replayed.goes_on_at;
        }
        known.goes_on_at = goes_on.filter(|_| found.damage.is_none());
        let journal = Self {
            dir: dir.to_path_buf(),
            files,
            store,
            segment_bytes,
            known: Mutex::new(known),
            taken: Condvar::new(),
            bytes: AtomicU64::new(bytes),
        };
        Ok((journal, found))
    }

    /// Goes on with a batch: where the last one ended, if that can be, or in a new segment.
    pub(super) fn resume(&self, next: u64) -> io::Result<Segment> {
        {
            let mut known = self.known.lock();
            // That they cannot be read was accepted.
            for path in std::mem::take(&mut known.unreadable) {
                fs::rename(&path, path.with_extension("damaged"))?;
            }
            // So that the next sync is about them, and not about what had failed before.
            for Unsure { file, at, bytes } in std::mem::take(&mut known.unsure) {
                let _ = self.files.sync(&file);
                self.files.write(&file, &bytes, at)?;
            }
            // Before batches are numbered as theirs were.
            for (path, file) in std::mem::take(&mut known.beyond) {
                self.files.write(&file, &[0; HEAD as usize], 0)?;
                self.files.sync(&file)?;
                known.odd.push(path);
            }
            let at = known.goes_on_at.take();
            let at = at.filter(|at| *at < self.segment_bytes);
            if let Some(at) = at
                && let Some(last) = known.older.pop_if(|older| older.last + 1 == next)
            {
                return Ok(Segment {
                    path: last.path,
                    file: last.file,
                    id: last.id,
                    end: at,
                    last: last.last,
                });
            }
        }
        self.begin(next, 0)
    }

    /// Begins a segment with a batch that is to come.
    pub(super) fn begin(&self, first: u64, synced: u64) -> io::Result<Segment> {
        let (ready, odd) = {
            let mut known = self.known.lock();
            (known.ready.take(), std::mem::take(&mut known.odd))
        };
        for path in odd {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, file = %path.display(), "a file of the journal is left behind");
            }
        }
        self.taken.notify_all();
        let (path, file) = match ready {
            Some(ready) => ready,
            None => self.make()?,
        };
        let id = crate::base::random::random_u64();
        let head = Head { id, first, synced }.encode(self.store);
        if let Err(error) = self.files.write(&file, &head, 0) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Segment {
            path,
            file: Arc::new(file),
            id,
            end: HEAD,
            last: first - 1,
        })
    }

    /// A file for a segment, all of it on the disk.
    fn make(&self) -> io::Result<(PathBuf, File)> {
        let name = {
            let mut known = self.known.lock();
            if let Some(spare) = known.spares.pop() {
                return Ok(spare);
            }
            known.last_name += 1;
            known.last_name
        };
        let path = self.dir.join(format!("{name:08}.log"));
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let made = self
            .files
            .allocate(&file, self.segment_bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(&self.dir)?.sync_all());
        if let Err(error) = made {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok((path, file))
    }

    /// Waits until the segment that is ready was taken and makes the next; `false` when the journal is
    /// closing.
    pub(super) fn prepare(&self) -> io::Result<bool> {
        {
            let mut known = self.known.lock();
            while known.ready.is_some() && !known.closing {
                self.taken.wait(&mut known);
            }
            if known.closing {
                return Ok(false);
            }
        }
        self.prepare_now()?;
        Ok(true)
    }

    /// Has the next segment ready.
    pub(super) fn prepare_now(&self) -> io::Result<()> {
        if self.known.lock().ready.is_none() {
            let made = self.make()?;
            self.known.lock().ready = Some(made);
        }
        Ok(())
    }

    /// Ends [`Self::prepare`].
    pub(super) fn close(&self) {
        self.known.lock().closing = true;
        self.taken.notify_all();
    }

    /// Adds a batch, which is completed for it. When that fails the same batch may be added again, and
    /// nothing else.
    pub(super) fn add(
        &self,
        segment: &mut Segment,
        raw: &mut [u8],
        number: u64,
        synced: u64,
    ) -> io::Result<()> {
        if segment.end + raw.len() as u64 > self.segment_bytes && segment.end > HEAD {
            self.turn(segment, number, synced)?;
        }
        batch::seal(raw, segment.id, number, synced);
        self.files.write(&segment.file, raw, segment.end)?;
        segment.end += raw.len() as u64;
        segment.last = number;
        self.bytes.fetch_add(raw.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Goes on in another segment. One that is not ready is not waited for: this one grows, while it can.
    fn turn(&self, segment: &mut Segment, first: u64, synced: u64) -> io::Result<()> {
        let is_ready = self.known.lock().ready.is_some();
        if is_ready {
            let next = self.begin(first, synced)?;
            self.leave(std::mem::replace(segment, next), false);
        }
        Ok(())
    }

    /// Goes on in another segment, made if need be, after a sync of this one has failed.
    pub(super) fn distrust(&self, segment: &mut Segment) -> io::Result<()> {
        for older in &mut self.known.lock().older {
            older.is_distrusted |= !older.is_synced;
        }
        let next = self.begin(segment.last + 1, 0)?;
        self.leave(std::mem::replace(segment, next), true);
        Ok(())
    }

    fn leave(&self, segment: Segment, is_distrusted: bool) {
        self.known.lock().older.push(Older {
            id: segment.id,
            bytes: segment.end - HEAD,
            path: segment.path,
            file: segment.file,
            last: segment.last,
            is_synced: false,
            is_distrusted,
        });
    }

    /// Has everything that was written on the disk. Blocks; holds up no write.
    ///
    /// # Errors
    /// Of a file of which a sync has failed it fails until the tables have what is in it.
    pub(super) fn sync(&self, current: &Arc<File>) -> io::Result<()> {
        let older: Vec<Arc<File>> = {
            let known = self.known.lock();
            let unsynced = known.older.iter().filter(|older| !older.is_synced);
            let unsynced: Vec<&Older> = unsynced.collect();
            if unsynced.iter().any(|older| older.is_distrusted) {
                return Err(io::Error::other("a sync of the journal has failed before"));
            }
            unsynced
                .iter()
                .map(|older| Arc::clone(&older.file))
                .collect()
        };
        for file in older {
            self.files.sync(&file)?;
            let mut known = self.known.lock();
            let mut same = known.older.iter_mut();
            if let Some(older) = same.find(|older| Arc::ptr_eq(&older.file, &file)) {
                older.is_synced = true;
            }
        }
        self.files.sync(current)
    }

    /// The tables have everything up to a batch: segments that have nothing else go, or are kept to be
    /// used again.
    pub(super) fn release(&self, flushed: u64) {
        let gone: Vec<Older> = {
            let mut known = self.known.lock();
            let (gone, kept) = std::mem::take(&mut known.older)
                .into_iter()
                .partition(|older| older.last <= flushed);
            known.older = kept;
            gone
        };
        for older in gone {
            self.bytes.fetch_sub(older.bytes, Ordering::Relaxed);
            if let Err(error) = self.reuse(&older) {
                tracing::warn!(%error, file = %older.path.display(), "a segment of the journal is left behind");
            }
        }
    }

    fn reuse(&self, older: &Older) -> io::Result<()> {
        let is_wanted = self.known.lock().spares.len() < MOST_SPARES;
        let is_usual = older.file.metadata()?.len() == self.segment_bytes;
        if older.is_distrusted || !is_wanted || !is_usual {
            return fs::remove_file(&older.path);
        }
        let emptied = self
            .files
            .write(&older.file, &[0; HEAD as usize], 0)
            .and_then(|()| self.files.sync(&older.file));
        if emptied.is_err() {
            return fs::remove_file(&older.path);
        }
        let spare = (older.path.clone(), older.file.try_clone()?);
        self.known.lock().spares.push(spare);
        Ok(())
    }

    /// Gives up what is kept to be used again: there is no room for it.
    pub(super) fn shrink(&self) {
        let spares = std::mem::take(&mut self.known.lock().spares);
        for (path, _) in spares {
            let _ = fs::remove_file(path);
        }
    }

    /// Bytes in batches whose rows the tables may lack.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of all its files.
    pub(super) fn disk_bytes(&self) -> u64 {
        let known = self.known.lock();
        let older: u64 = known
            .older
            .iter()
            .map(|older| older.bytes.max(self.segment_bytes))
            .sum();
        let rest = known.spares.len() as u64 + u64::from(known.ready.is_some()) + 1;
        older + rest * self.segment_bytes
    }
}

impl Segment {
    /// The file, to be synced while it is written on.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// For messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn name_of(path: &Path) -> Option<u64> {
    (path.extension()? == "log").then(|| path.file_stem()?.to_str()?.parse().ok())?
}
