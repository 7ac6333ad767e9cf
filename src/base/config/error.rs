//! What is wrong with a directive.

use std::path::PathBuf;

use thiserror::Error;

/// What is wrong with a directive. Nothing was changed.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No such name.
    #[error("unknown directive '{0}'")]
    Unknown(String),
    /// A value that does not fit.
    #[error("'{value}' is not a value for '{name}': {expected}")]
    Value {
        /// The directive.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// Only possible at the start.
    #[error("'{0}' cannot be changed while the server runs")]
    Immutable(&'static str),
    /// The file cannot be read or written.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// CONFIG REWRITE without a file.
    #[error("The server is running without a config file")]
    NoFile,
}
