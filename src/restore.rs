//! `ringwood restore`: a data directory from a copy that `RINGWOOD SNAPSHOT` has made.
//!
//! The node keeps its name in the cluster and is a new actor, as at every start. What it has may be
//! old: nothing of it counts for reads before it was compared with the other owners' copies.
//!
//! The store is built in a folder of its own within the data directory, which no node starts with, and
//! moved to its place when it is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cluster::{CLUSTER_NOTE, Notes};
use crate::replica::{ReplicaError, note_key};
use crate::storage::archive::{self, About, ArchiveError};
use crate::storage::{
    AppendFsync, DEFAULT_CACHED_FILES, DiskOptions, DiskStore, Op, RESTORING, Refused, Store,
    StoreError, Table, WriteFailed, is_the_stores_own,
};

/// Write buffers while a copy is read.
const BUFFER_BYTES: u64 = 64 << 20;

/// Why a copy was not put back.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// The folder holds something.
    #[error("{0}: is not empty; a copy is put back into a new data directory")]
    NotEmpty(String),
    /// The copy.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The new store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It does not take more.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What it says of its cluster cannot be read.
    #[error(transparent)]
    Notes(#[from] ReplicaError),
    /// It was not stored.
    #[error("the disk did not take it: {0}")]
    NotStored(#[from] WriteFailed),
}

/// Makes a data directory from a copy.
///
/// # Errors
/// When the copy is not whole, the folder is not empty, or the disk does not take it. It can be tried
/// again then: what was made until then is removed first.
pub fn restore(from: &Path, dir: &Path) -> Result<About, RestoreError> {
    let aside = dir.join(RESTORING);
    let fail = |source| RestoreError::Io {
        path: dir.to_owned(),
        source,
    };
    if aside.exists() {
        // All that is here is what an earlier attempt has left.
        for entry in fs::read_dir(dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let is_folder = entry.file_type().map_err(fail)?.is_dir();
            if entry.file_name() != RESTORING && is_folder {
                fs::remove_dir_all(entry.path()).map_err(fail)?;
            } else if !is_folder {
                fs::remove_file(entry.path()).map_err(fail)?;
            }
        }
        fs::remove_dir_all(&aside).map_err(fail)?;
    }
    let is_empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty {
        return Err(RestoreError::NotEmpty(dir.display().to_string()));
    }
    fs::create_dir_all(&aside).map_err(fail)?;
    let about = build(from, &aside)?;
    move_up(&aside, dir).map_err(fail)?;
    Ok(about)
}

/// Moves a whole store to its place. What describes it comes last, and the folder it was in goes then.
fn move_up(aside: &Path, dir: &Path) -> io::Result<()> {
    let sync = |dir: &Path| File::open(dir)?.sync_all();
    sync(aside)?;
    let entries: Result<Vec<_>, _> = fs::read_dir(aside)?.collect();
    for entry in entries? {
        fs::rename(entry.path(), dir.join(entry.file_name()))?;
    }
    sync(dir)?;
    fs::remove_dir(aside)?;
    sync(dir)
}

/// Makes a store from a copy.
fn build(from: &Path, dir: &Path) -> Result<About, RestoreError> {
    let about = archive::about(from)?;
    let store = DiskStore::open(DiskOptions {
        dir: dir.to_owned(),
        partitions: about.partitions,
        cache_bytes: BUFFER_BYTES,
        appendfsync: AppendFsync::No,
        write_buffer_bytes: BUFFER_BYTES,
        block_cache_bytes: BUFFER_BYTES,
        min_free_bytes: 0,
        accept_damage: false,
        cached_files: DEFAULT_CACHED_FILES,
    })?;
    let about = archive::read::<RestoreError>(from, |_, ops| {
        // The new store has an identity of its own.
        let ops = ops.into_iter().filter(|op| !is_the_stores_own(op));
        let ops: Vec<Op> = ops.map(as_of_a_restored_node).collect::<Result<_, _>>()?;
        let ticket = store.submit(0, crate::storage::Write::of(ops))?;
        store.progress(0).block_until_committed(ticket);
        Ok(store.progress(0).fate(ticket)?)
    })?;
    store.sync()?;
    store.close();
    Ok(about)
}

/// What a node notes of its cluster says that its copies are complete, which they were.
fn as_of_a_restored_node(mut op: Op) -> Result<Op, RestoreError> {
    if op.table == Table::Meta && op.key == note_key(CLUSTER_NOTE) {
        let raw = op.value.take().unwrap_or_default();
        let mut notes = Notes::decode(&raw).map_err(ReplicaError::from)?;
        notes.forget_what_is_complete();
        op.value = Some(notes.encode());
    }
    Ok(op)
}
