//! Stores of earlier layouts: several databases, each with a journal of its own. Their rows are brought
//! into the tables of this one at the first start, and they are removed when all is there.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::check_journals;
use super::engine::{Sorted, Tables};
use super::fjall_tables::{FjallOptions, FjallTables, damaged, io_error};
use super::identity::Identity;
use super::layout::{BATCH_ROW, FORMAT_ROW, IDENTITY_ROW, JOURNAL, MARKS, TABLES_DIR};
use super::marks::{Found, Marks};
use super::reserve::Reserve;
use super::{Row, StoreError, Table};

/// Rows read from a shard at a time.
const PAGE: usize = 256;

/// A database has at least so many files open.
const LEAST_FILES: usize = 32;

/// How the shards were found.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenOver {
    pub(super) was_clean: bool,
    pub(super) is_damaged: bool,
}

/// Brings the rows of all shards into new tables. The shards stay: [`remove_shards`].
pub(super) fn take_over(
    dir: &Path,
    identity: &Identity,
    shards: usize,
    options: &FjallOptions,
    reserve: &Reserve,
    accepts_damage: bool,
) -> Result<TakenOver, StoreError> {
    // What an attempt before has left is not complete.
    for left in [
        TABLES_DIR.to_owned(),
        JOURNAL.to_owned(),
        format!("{MARKS}.mark"),
        format!("{MARKS}.tail"),
    ] {
        remove(&dir.join(left))?;
    }
    let mut taken = TakenOver {
        was_clean: true,
        is_damaged: false,
    };
    let mut below = Vec::new();
    for shard in 0..shards {
        let (tables, found) = open_shard(dir, (shard, shards), identity, options, accepts_damage)?;
        taken.was_clean &= found.was_clean;
        taken.is_damaged |= found.is_damaged;
        below.extend(tables);
    }
    let bytes: u64 = below.iter().map(Tables::disk_bytes).sum();
    if let Some(space) = reserve.space()
        && space.free < bytes
    {
        let text = format!(
            "{} bytes are free, and rows of an earlier layout have to be written again: about {bytes} are needed",
            space.free
        );
        let source = io::Error::new(io::ErrorKind::StorageFull, text);
        return Err(io_error(dir, source));
    }
    tracing::info!(shards, bytes, "a store of an earlier layout is taken over");
    let tables = FjallTables::open(options.clone(), false)?;
    let mut snapshots = Vec::new();
    for tables in &below {
        snapshots.push(tables.snapshot()?);
    }
    let mut rows = 0;
    for table in Table::ALL {
        rows += copy(table, &snapshots, &tables)?;
    }
    drop(snapshots);
    tables.close();
    below.into_iter().for_each(FjallTables::close);
    tracing::info!(
        rows,
        "all rows were taken over; earlier builds cannot read this store any more"
    );
    Ok(taken)
}

/// Removes what was taken over.
pub(super) fn remove_shards(dir: &Path) -> Result<(), StoreError> {
    for shard in 0..=256 {
        for name in [
            format!("shard-{shard}"),
            format!("shard-{shard}.mark"),
            format!("shard-{shard}.tail"),
            format!("shard-{shard}.accepted"),
        ] {
            remove(&dir.join(name))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.map_err(|e| io_error(path, e))
}

/// Opens a shard and looks whether everything is there; `None` where nothing can be read of it, and that
/// was accepted.
fn open_shard(
    dir: &Path,
    (shard, shards): (usize, usize),
    identity: &Identity,
    options: &FjallOptions,
    accepts_damage: bool,
) -> Result<(Option<FjallTables>, TakenOver), StoreError> {
    let folder = dir.join(format!("shard-{shard}"));
    let marks = Marks::open(dir, &format!("shard-{shard}"));
    let (marks, found) = marks.map_err(|e| io_error(dir, e))?;
    let taken = found.synced.max(found.written);
    let mut is_damaged = false;
    let mut accept = |error: StoreError| match error {
        StoreError::Damaged { .. } if accepts_damage => {
            tracing::error!(%error, "accepted: what is readable is taken over");
            is_damaged = true;
            Ok(())
        }
        error => Err(error),
    };
    if let Err((path, what)) = check_journals(&folder, taken) {
        accept(damaged(&path, &what))?;
    }
    let options = FjallOptions {
        dir: folder.clone(),
        // All shards are open at once, and the tables they go to.
        cached_files: (options.cached_files / (shards + 1)).max(LEAST_FILES),
        ..options.clone()
    };
    let is_nothing = found == Found::default() && !identity.is_made;
    let tables = match FjallTables::open(options, identity.is_made) {
        Ok(tables) => Some(tables),
        // Nothing was ever committed here: a first start was interrupted in the middle.
        Err(StoreError::Damaged { .. }) if is_nothing => None,
        Err(error) => {
            accept(error)?;
            None
        }
    };
    let row = |key: &[u8]| match &tables {
        Some(tables) => tables.get(Table::Meta, key),
        None => Ok(None),
    };
    let batch = row(BATCH_ROW)?;
    let batch = batch
        .and_then(|raw| raw.try_into().ok())
        .map_or(0, u64::from_le_bytes);
    if found.is_spoilt || identity.is_made && found == Found::default() {
        accept(damaged(marks.path(), "its checksum does not match"))?;
    }
    let is_foreign = row(IDENTITY_ROW)?.is_none_or(|id| id != identity.id.as_bytes());
    if batch < taken || is_foreign && !is_nothing {
        let what = format!(
            "{} batches of acknowledged writes are missing (found {batch}, expected at least {taken})",
            taken.saturating_sub(batch)
        );
        accept(damaged(&folder, &what))?;
    }
    let found = TakenOver {
        was_clean: found.clean,
        is_damaged,
    };
    Ok((tables, found))
}

/// Rows of one shard, some at a time.
struct Cursor {
    shard: Arc<dyn Sorted>,
    table: Table,
    page: VecDeque<Row>,
    /// What follows the last row of the page; nothing at the end.
    from: Option<Vec<u8>>,
}

impl Cursor {
    fn fill(&mut self) -> Result<(), StoreError> {
        while self.page.is_empty()
            && let Some(from) = self.from.take()
        {
            let page = &mut self.page;
            // No key of a row is so long, or begins so.
            let end = [0xff; 64];
            self.shard
                .range(self.table, (&from, &end), &mut |key, value| {
                    page.push_back((key.to_vec(), value.to_vec()));
                    if page.len() == PAGE {
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                })?;
            if page.len() == PAGE {
                let last = page.back().map(|(key, _)| [key, &[0][..]].concat());
                self.from = last;
            }
        }
        Ok(())
    }
}

/// Merges a table of all shards. What several have, the first one has it of; but of which format rows are,
/// if not all shards say the same.
fn copy(table: Table, shards: &[Arc<dyn Sorted>], to: &dyn Tables) -> Result<u64, StoreError> {
    let cursor = |shard: &Arc<dyn Sorted>| Cursor {
        shard: Arc::clone(shard),
        table,
        page: VecDeque::new(),
        from: Some(Vec::new()),
    };
    let mut cursors: Vec<Cursor> = shards.iter().map(cursor).collect();
    cursors.iter_mut().try_for_each(Cursor::fill)?;
    if cursors.iter().all(|cursor| cursor.page.is_empty()) {
        return Ok(0);
    }
    let mut rows = 0;
    to.ingest(table, &mut |sink| {
        loop {
            let heads = cursors.iter().filter_map(|cursor| cursor.page.front());
            let Some(key) = heads.map(|(key, _)| key).min().cloned() else {
                return Ok(());
            };
            let mut same = Vec::new();
            for cursor in &mut cursors {
                let is_next = cursor.page.front().is_some_and(|(next, _)| *next == key);
                if is_next && let Some((_, value)) = cursor.page.pop_front() {
                    same.push(value);
                    cursor.fill()?;
                }
            }
            let is_own = table == Table::Meta && [BATCH_ROW, IDENTITY_ROW].contains(&&*key);
            let is_mixed = table == Table::Meta
                && key == FORMAT_ROW
                && (same.len() < shards.len() || same.windows(2).any(|two| two[0] != two[1]));
            if !is_own && !is_mixed {
                rows += 1;
                sink.put(&key, same.first().map(Vec::as_slice))?;
            }
        }
    })?;
    Ok(rows)
}

/// Where shards are, for messages.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = |nth: u32| path.with_extension(format!("damaged-{nth}"));
    let aside = (1..=u32::MAX).map(aside).find(|aside| !aside.exists());
    let aside = aside.unwrap_or_else(|| path.with_extension("damaged"));
    fs::rename(path, &aside).map_err(|e| io_error(path, e))?;
    Ok(aside)
}
