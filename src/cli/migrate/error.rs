//! Why an import or a comparison ended early. What was copied until then stays, and the progress file says
//! how far it got.

use redis::RedisError;
use thiserror::Error;

/// Nothing more is done; what is there is whole, key by key.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// A server cannot be reached, or went away and did not come back in time.
    #[error("{who}: {why}")]
    Lost {
        /// The server.
        who: String,
        /// What was seen last.
        why: RedisError,
    },
    /// A server's own words, where nothing else than ending is left.
    #[error("{who}: {words}")]
    Refused {
        /// The server.
        who: String,
        /// What it said.
        words: String,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Unusable(String),
    /// The progress file cannot be read or written.
    #[error("{path}: {why}")]
    Progress {
        /// The file.
        path: String,
        /// Why.
        why: std::io::Error,
    },
}
