//! `ringwood restore`: a data directory from a copy that `RINGWOOD SNAPSHOT` has made.
//!
//! The node keeps its name in the cluster and is a new actor, as at every start. What it has may be
//! old: nothing of it counts for reads before it was compared with the other owners' copies.

use std::path::Path;

use thiserror::Error;

use crate::cluster::Notes;
use crate::replica::{ReplicaError, note_key};
use crate::server::CLUSTER_NOTE;
use crate::storage::archive::{self, About, ArchiveError};
use crate::storage::{
    AppendFsync, DEFAULT_CACHED_FILES, DiskOptions, DiskStore, Op, Refused, Store, StoreError,
    Table,
};

/// Write buffers while a copy is read.
const BUFFER_BYTES: u64 = 64 << 20;

/// Why a copy was not put back.
#[derive(Debug, Error)]
pub enum RestoreError {
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
    #[error("a write was not stored")]
    NotStored,
}

/// Makes a data directory from a copy.
///
/// # Errors
/// When the copy is not whole, or the folder is not empty; what was made until then is of no use.
pub fn restore(from: &Path, dir: &Path) -> Result<About, RestoreError> {
    let is_empty = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty {
        return Err(RestoreError::NotEmpty(dir.display().to_string()));
    }
    let about = archive::about(from)?;
    let store = DiskStore::open(DiskOptions {
        dir: dir.to_owned(),
        shards: about.shards,
        appendfsync: AppendFsync::No,
        write_buffer_bytes: BUFFER_BYTES,
        block_cache_bytes: BUFFER_BYTES,
        min_free_bytes: 0,
        accept_damage: false,
        cached_files: DEFAULT_CACHED_FILES,
    })?;
    let about = archive::read::<RestoreError>(from, |shard, ops| {
        let ops: Vec<Op> = ops
            .into_iter()
            .map(as_of_a_restored_node)
            .collect::<Result<_, _>>()?;
        let ticket = store.submit(shard, crate::storage::Write::of(ops))?;
        store.progress(shard).block_until_committed(ticket);
        Ok(())
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
