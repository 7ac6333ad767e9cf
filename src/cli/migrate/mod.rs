//! A running Redis's keys, brought here (`ringwood import`) and compared with what is here (`ringwood check`).
//!
//! Both are ordinary clients of both sides: SCAN and the reading commands of each type there, the writing ones
//! here. Anything that speaks RESP and knows these can be the source: Redis from 5 on, `KeyDB`, Valkey, Dragonfly,
//! a Redis Cluster (all its masters), Ringwood itself.

mod compare;
mod copy;
mod error;
mod progress;
mod remote;
mod show;
mod source;
mod stream;
mod value;

use std::path::PathBuf;

use indicatif::ProgressBar;
use redis::ConnectionInfo;

use compare::Check;
use copy::Import;
pub use error::MigrateError;
use progress::Progress;
use remote::name_of;
use show::{Shown, say};
use source::Source;

/// What is the same of both.
pub struct Asked<'a> {
    /// The source's URL.
    pub from: &'a str,
    /// The nodes of this store.
    pub target: Vec<ConnectionInfo>,
    /// Only keys of this pattern, as SCAN's MATCH.
    pub matching: Option<&'a str>,
    /// Shown on a terminal.
    pub bar: &'a ProgressBar,
}

/// Copies all keys; what was done, and whether that was all.
///
/// # Errors
/// When a server stays away, or the progress file is of something else.
pub fn import(
    asked: Asked<'_>,
    replaces: bool,
    progress: Option<PathBuf>,
) -> Result<(String, bool), MigrateError> {
    let source = Source::of(asked.from)?;
    let path = progress.unwrap_or_else(|| PathBuf::from("ringwood-import.json"));
    let nodes: Vec<String> = asked.target.iter().map(name_of).collect();
    let ends = (&*source.name, &*nodes.join(","));
    let progress = Progress::open(&path, ends, replaces, asked.matching)?;
    if progress.goes_on() {
        say(asked.bar, &format!("goes on where {} says", path.display()));
    }
    let done = Import {
        source: &source,
        target: asked.target,
        replaces,
        matching: asked.matching,
        progress,
        again: None,
        bar: asked.bar,
        shown: Shown::default(),
    }
    .run()?;
    Ok((copy::report(&done), done.is_whole()))
}

/// Compares all keys; what was found, and whether nothing differs.
///
/// # Errors
/// When a server stays away, or refuses to tell.
pub fn check(asked: Asked<'_>) -> Result<(String, bool), MigrateError> {
    let source = Source::of(asked.from)?;
    let findings = Check {
        source: &source,
        target: asked.target,
        matching: asked.matching,
        bar: asked.bar,
        shown: Shown::default(),
    }
    .run()?;
    Ok(compare::report(&findings))
}
