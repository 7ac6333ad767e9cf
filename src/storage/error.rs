//! What goes wrong with a store.

use std::path::PathBuf;

use thiserror::Error;

/// What went wrong with the store. Reads leave it unchanged.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The data on disk is not what was written. Nothing was changed.
    #[error("{path}: {reason}", path = path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Another process has the data directory.
    #[error("{}: the data directory is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
    /// It cannot be told now, and may be in a moment.
    #[error("the store is busy")]
    Busy,
    /// The engine failed while reading.
    #[error("the storage engine failed: {0}")]
    Engine(String),
}

/// Why a write was not taken. Nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// No space, or the engine is being reopened after there was none.
    #[error("the disk is full")]
    DiskFull,
    /// What was committed before cannot be synced.
    #[error("the disk does not sync what was written")]
    Unsynced,
    /// What it rests on has turned out not to be stored.
    #[error("a write that this one had seen was not stored")]
    Changed,
    /// It has a row that is longer than any can be.
    #[error("a row is too long")]
    TooLong,
    /// The store is closing.
    #[error("the store is closing")]
    Closing,
}
