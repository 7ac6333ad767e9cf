//! How far an import has come, in a file, so that one that was interrupted goes on there.
//!
//! What the file says is done is done; a page of keys or two after it may be done as well, and is done again.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::MigrateError;
use crate::base::clock;

/// The file is written at most so often.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);
/// What this version writes.
const VERSION: u32 = 1;

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    version: u32,
    /// The source, without its password.
    from: String,
    /// The nodes that it goes to.
    to: String,
    /// Whether keys that are there give way.
    replaces: bool,
    /// The pattern that keys are of, where one was given.
    matching: Option<String>,
    /// Parts of the source that are done: `node/database`.
    pub parts: Vec<String>,
    /// The part that is not, and how far it is.
    pub part: Option<Cursor>,
    /// A large key of which only some elements may be there.
    pub unfinished: Option<Unfinished>,
    /// Whether libraries of functions were copied.
    pub functions: bool,
    /// Keys copied, by their type.
    pub copied: BTreeMap<String, u64>,
    /// Keys that were left as they were.
    pub kept: u64,
    /// Keys of types that there are not here, by their type.
    pub unknown: BTreeMap<String, u64>,
    /// Keys that were refused.
    pub failed: u64,
}

impl Done {
    /// Whether every key is here.
    pub fn is_whole(&self) -> bool {
        self.unknown.is_empty() && self.failed == 0
    }
}

/// How far one part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// `node/database`.
    pub part: String,
    /// The process that the cursor is of.
    pub run_id: String,
    /// SCAN's cursor.
    pub scan: String,
    /// Keys that it went by.
    pub seen: u64,
}

/// A large key that is being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The database.
    pub db: i64,
    /// The key.
    pub key: Vec<u8>,
}

/// The file, and what it says.
pub struct Progress {
    path: PathBuf,
    written: Option<Instant>,
    /// What there is before anything was done.
    fresh: Done,
    /// What is done.
    pub done: Done,
}

impl Progress {
    /// Reads the file, when there is one.
    ///
    /// # Errors
    /// When it is of another import, or no such file.
    pub fn open(
        path: &Path,
        (from, to): (&str, &str),
        replaces: bool,
        matching: Option<&str>,
    ) -> Result<Self, MigrateError> {
        let fresh = Done {
            version: VERSION,
            from: from.to_owned(),
            to: to.to_owned(),
            replaces,
            matching: matching.map(str::to_owned),
            ..Done::default()
        };
        let done = match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                MigrateError::Unusable(format!("{} tells no progress: {error}", path.display()))
            })?,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => fresh.clone(),
            Err(why) => return Err(failed(path, why)),
        };
        let of = |done: &Done| {
            let Done {
                version,
                from,
                to,
                replaces,
                matching,
                ..
            } = done.clone();
            (version, from, to, replaces, matching)
        };
        if of(&done) != of(&fresh) {
            let why = "is of another import (--from, --address, --match, --replace): finish that, name another file \
                       with --progress, or remove it";
            return Err(MigrateError::Unusable(format!("{} {why}", path.display())));
        }
        Ok(Self {
            path: path.to_owned(),
            written: None,
            fresh,
            done,
        })
    }

    /// Whether anything was done.
    pub fn goes_on(&self) -> bool {
        self.done != self.fresh
    }

    /// Writes the file, when that was not done a moment ago.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&mut self) -> Result<(), MigrateError> {
        let now = clock::monotonic();
        if self.written.is_some_and(|at| now - at < WRITTEN_EVERY) {
            return Ok(());
        }
        self.keep_now()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_now(&mut self) -> Result<(), MigrateError> {
        let text = serde_json::to_vec_pretty(&self.done).expect("names and numbers");
        let beside = self.path.with_extension("new");
        let write = || {
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(&text)?;
            file.sync_data()?;
            std::fs::rename(&beside, &self.path)
        };
        write().map_err(|why| failed(&self.path, why))?;
        self.written = Some(clock::monotonic());
        Ok(())
    }

    /// All is done: the file goes.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn finish(self) -> Result<Done, MigrateError> {
        match std::fs::remove_file(&self.path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(failed(&self.path, why)),
            _ => Ok(self.done),
        }
    }
}

fn failed(path: &Path, why: std::io::Error) -> MigrateError {
    MigrateError::Progress {
        path: path.display().to_string(),
        why,
    }
}
