//! Why a node does not start.

use std::path::PathBuf;

use thiserror::Error;

use crate::replica::ReplicaError;
use crate::storage::StoreError;

/// Why the server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data in it.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A socket.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A directive that only shows now.
    #[error("partitions must be a power of two up to 16384, not {0}")]
    Partitions(i64),
    /// The secret's file.
    #[error("{path}: {source}", path = path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Too few descriptors.
    #[error("at most {limit} files can be open, and the node needs {least}: raise 'ulimit -n'")]
    Files {
        /// The limit.
        limit: u64,
        /// What would do.
        least: u64,
    },
    /// Numbers of copies that do not go together.
    #[error("{0}")]
    Quorum(String),
    /// The runtime.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}
