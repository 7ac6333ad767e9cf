//! `ringwood import`: every key of a running Redis, written here.
//!
//! A key that fits a reply is written in one step, so that it is here whole or not at all. A large one comes in
//! pages; while it does, the progress file names it, and who goes on later begins that key anew. Keys that are
//! here already stay as they are, unless `--replace` is said.

use indicatif::ProgressBar;
use redis::{Cmd, ConnectionInfo, RedisError, Value};

use super::error::MigrateError;
use super::progress::{Cursor, Done, Progress, Unfinished};
use super::remote::{Patience, Remote, passes};
use super::show::{Shown, say};
use super::source::{Part, Source};
use super::stream::beside_entries;
use super::value::{Found, Kind, Place, command, words};
use crate::base::clock;
use crate::cli::client::words_of;

/// From so many bytes on a value comes in pages.
pub const LARGE: u64 = 1 << 20;
/// Small values come together up to so many bytes.
pub const TOGETHER: u64 = 4 << 20;
/// Commands of a client that was killed may still be run for so long.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);
/// The longest key that is taken here, in bytes.
pub const MAX_KEY: usize = 60_000;
/// A key that has another type when it is read than when it was looked at is looked at so often.
const LOOKS: usize = 3;

/// An import, as it was asked for.
pub struct Import<'a> {
    /// Where keys come from.
    pub source: &'a Source,
    /// The nodes that they are written through; the next where one is gone.
    pub target: Vec<ConnectionInfo>,
    /// Whether a key that is here already gives way.
    pub replaces: bool,
    /// Only keys of this pattern.
    pub matching: Option<&'a str>,
    /// How far it is.
    pub progress: Progress,
    /// A key of which an earlier run has written only some elements.
    pub again: Option<Unfinished>,
    /// Where it is shown.
    pub bar: &'a ProgressBar,
    /// What is said of single keys.
    pub shown: Shown,
}

/// The two databases of one part.
struct Sides {
    from: Remote,
    to: Remote,
    db: i64,
}

/// Why a large key is not there.
enum Stopped {
    /// The target was gone: all of it again.
    Again(RedisError),
    /// It is another one than before.
    Changed,
    /// It is refused.
    Failed(String),
    /// Nothing goes on.
    End(MigrateError),
}

impl Import<'_> {
    /// Copies all there is. What it returns is what all runs together have done.
    ///
    /// # Errors
    /// When a server stays away; the progress file is written then.
    pub fn run(mut self) -> Result<Done, MigrateError> {
        let copied = self.all_parts();
        if let Err(error) = copied {
            // The first error is the one that matters.
            if self.progress.goes_on() {
                let _ = self.progress.keep_now();
            }
            return Err(error);
        }
        self.progress.finish()
    }

    fn all_parts(&mut self) -> Result<(), MigrateError> {
        let parts = self.source.parts()?;
        self.bar
            .set_length(parts.iter().map(|part| part.keys).sum());
        if let Some(half) = self.progress.done.unfinished.clone() {
            // What the run that was interrupted had sent may not be done yet.
            std::thread::sleep(LAST_WORDS);
            let mut to = Remote::new(self.target.clone(), half.db);
            to.one(command("DEL", &half.key))?;
            // It comes again, where it still is at its source.
            self.again = Some(half);
        }
        if !self.progress.done.functions {
            self.functions()?;
            self.progress.done.functions = true;
        }
        for part in &parts {
            if part.has_ending_fields {
                say(
                    self.bar,
                    &format!(
                        "database {} of {} has hashes with fields that end: the fields are copied, their ends are not",
                        part.db, part.node
                    ),
                );
            }
            if self.progress.done.parts.contains(&name_of(part)) {
                self.bar.inc(part.keys);
            } else {
                self.part(part)?;
            }
        }
        Ok(())
    }

    fn part(&mut self, part: &Part) -> Result<(), MigrateError> {
        let mut sides = Sides {
            from: self.source.remote(part),
            to: Remote::new(self.target.clone(), part.db),
            db: part.db,
        };
        let name = name_of(part);
        // A process without a name is never known to be the same.
        let same_run = |at: &Cursor| at.run_id == part.run_id && !at.run_id.is_empty();
        let of_this = |at: &&Cursor| at.part == name && same_run(at);
        let at = self.progress.done.part.as_ref().filter(of_this);
        let (mut cursor, mut seen) =
            at.map_or(("0".to_owned(), 0), |at| (at.scan.clone(), at.seen));
        self.bar.inc(seen);
        loop {
            let (next, keys) = sides.from.scan(&cursor, self.matching)?;
            let count = keys.len() as u64;
            self.page(&mut sides, keys)?;
            cursor = next;
            seen += count;
            self.bar.inc(count);
            if cursor == "0" {
                break;
            }
            self.progress.done.part = Some(Cursor {
                part: name.clone(),
                run_id: part.run_id.clone(),
                scan: cursor.clone(),
                seen,
            });
            self.progress.keep()?;
        }
        self.progress.done.part = None;
        self.progress.done.parts.push(name);
        self.progress.keep_now()
    }

    fn page(&mut self, sides: &mut Sides, keys: Vec<Vec<u8>>) -> Result<(), MigrateError> {
        let (mut keys, too_long): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| key.len() <= MAX_KEY);
        for key in too_long {
            self.failed(sides.db, &key, "is a longer key than can be kept here");
        }
        if !self.replaces {
            keys = self.absent(sides, keys)?;
        }
        for _ in 0..LOOKS {
            let found = sides.from.look(&keys)?;
            keys = self.copy(sides, found)?;
            if keys.is_empty() {
                return Ok(());
            }
        }
        for key in keys {
            self.failed(sides.db, &key, "changes its type while it is read");
        }
        Ok(())
    }

    /// The keys that are not here.
    fn absent(
        &mut self,
        sides: &mut Sides,
        keys: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, MigrateError> {
        let held = sides.to.holds(&keys)?;
        let (db, again) = (sides.db, self.again.as_ref());
        let is_half = |key: &[u8]| again.is_some_and(|half| half.db == db && half.key == key);
        let each = keys.into_iter().zip(held);
        let (kept, absent): (Vec<_>, Vec<_>) =
            each.partition(|(key, is_held)| *is_held && !is_half(key));
        self.progress.done.kept += kept.len() as u64;
        Ok(absent.into_iter().map(|(key, _)| key).collect())
    }

    /// Copies keys; returns those that have become something else in between.
    fn copy(&mut self, sides: &mut Sides, found: Vec<Found>) -> Result<Vec<Vec<u8>>, MigrateError> {
        let (mut changed, mut group, mut bytes) = (Vec::new(), Vec::new(), 0);
        for one in found {
            if one.ends_at.is_some_and(|at| at <= clock::now_ms() as i64) {
                continue;
            }
            if let Kind::Other(name) = &one.kind {
                let why = format!("is of type {name}, which is not known here");
                *self.progress.done.unknown.entry(name.clone()).or_default() += 1;
                self.shown.of(self.bar, sides.db, &one.key, &why);
            } else if is_large(&one) {
                self.large(sides, &one)?;
            } else {
                bytes += one.bytes.unwrap_or(LARGE) + one.key.len() as u64;
                group.push(one);
                if bytes >= TOGETHER {
                    changed.extend(self.small(sides, &std::mem::take(&mut group))?);
                    bytes = 0;
                }
            }
        }
        changed.extend(self.small(sides, &group)?);
        Ok(changed)
    }

    fn small(&mut self, sides: &mut Sides, group: &[Found]) -> Result<Vec<Vec<u8>>, MigrateError> {
        let reads: Vec<Cmd> = group
            .iter()
            .filter_map(|one| one.kind.read(&one.key))
            .collect();
        let mut changed = Vec::new();
        let mut ready = Vec::with_capacity(group.len());
        for (one, reply) in group.iter().zip(sides.from.all(&reads)?) {
            match reply {
                Value::ServerError(error) if error.code() == "WRONGTYPE" => {
                    changed.push(one.key.clone());
                }
                Value::ServerError(error) => self.failed(sides.db, &one.key, &words_of(&error)),
                reply => match words(reply) {
                    Some(words) if words.is_empty() => {} // It has ended since.
                    Some(words) => ready.push((one, words)),
                    None => self.failed(sides.db, &one.key, "its source sent no value"),
                },
            }
        }
        self.write(sides, ready)?;
        Ok(changed)
    }

    /// Writes values, each in one step; again those that may be refused for now only.
    fn write(
        &mut self,
        sides: &mut Sides,
        mut ready: Vec<(&Found, Vec<Vec<u8>>)>,
    ) -> Result<(), MigrateError> {
        let mut patience = Patience::default();
        while !ready.is_empty() {
            let steps: Vec<Vec<Cmd>> = ready.iter().map(|(one, words)| one.write(words)).collect();
            let lengths: Vec<usize> = steps.iter().map(Vec::len).collect();
            let commands: Vec<Cmd> = steps.into_iter().flatten().collect();
            let mut replies = sides.to.sent(&commands)?.into_iter();
            let mut again = Vec::new();
            let mut last = String::new();
            for ((one, words), length) in ready.into_iter().zip(lengths) {
                let replies: Vec<Value> = replies.by_ref().take(length).collect();
                match refusal(&replies) {
                    None => self.copied(one.kind.name()),
                    Some((code, why)) if passes(&code) => {
                        last = why;
                        again.push((one, words));
                    }
                    Some((_, why)) => self.failed(sides.db, &one.key, &why),
                }
            }
            ready = again;
            if !ready.is_empty() && !patience.goes_on() {
                return Err(sides.to.refused(last));
            }
        }
        Ok(())
    }

    fn large(&mut self, sides: &mut Sides, found: &Found) -> Result<(), MigrateError> {
        self.progress.done.unfinished = Some(Unfinished {
            db: sides.db,
            key: found.key.clone(),
        });
        self.progress.keep_now()?;
        let mut patience = Patience::default();
        let mut looks = 1;
        loop {
            match by_pages(sides, found) {
                Ok(true) => self.copied(found.kind.name()),
                // It has ended since.
                Ok(false) => _ = sides.to.one(command("DEL", &found.key))?,
                Err(Stopped::Again(why)) => {
                    sides.to.wait(why, &mut patience)?;
                    continue;
                }
                Err(Stopped::Changed) if looks < LOOKS => {
                    looks += 1;
                    continue;
                }
                Err(Stopped::Changed) => self.undo(sides, found, "changes while it is read")?,
                Err(Stopped::Failed(why)) => self.undo(sides, found, &why)?,
                Err(Stopped::End(error)) => return Err(error),
            }
            self.progress.done.unfinished = None;
            return Ok(());
        }
    }

    /// Half of a value is none.
    fn undo(&mut self, sides: &mut Sides, found: &Found, why: &str) -> Result<(), MigrateError> {
        sides.to.one(command("DEL", &found.key))?;
        self.failed(sides.db, &found.key, why);
        Ok(())
    }

    /// Libraries of functions, where the source knows any.
    fn functions(&mut self) -> Result<(), MigrateError> {
        let Some(mut from) = self.source.remotes(0).into_iter().next() else {
            return Ok(());
        };
        let list = Cmd::new()
            .arg("FUNCTION")
            .arg("LIST")
            .arg("WITHCODE")
            .take();
        let libraries = match from.all(&[list])?.into_iter().next() {
            Some(Value::Array(libraries)) => libraries,
            Some(Value::ServerError(error)) if !words_of(&error).contains("unknown") => {
                self.progress.done.failed += 1;
                let why = words_of(&error);
                say(
                    self.bar,
                    &format!("libraries of functions are not copied: {why}"),
                );
                return Ok(());
            }
            _ => return Ok(()), // Before Redis 7.
        };
        let mut to = Remote::new(self.target.clone(), 0);
        for library in libraries {
            let words = words(library).unwrap_or_default();
            let code = words.iter().position(|word| word == b"library_code");
            let Some(code) = code.and_then(|at| words.get(at + 1)) else {
                continue;
            };
            let mut load = Cmd::new();
            load.arg("FUNCTION").arg("LOAD");
            if self.replaces {
                load.arg("REPLACE");
            }
            let replies = to.all(&[load.arg(code).take()])?;
            match refusal(&replies) {
                None => self.copied("function library"),
                Some((_, why)) if why.contains("already exists") => self.progress.done.kept += 1,
                Some((_, why)) => {
                    self.progress.done.failed += 1;
                    say(self.bar, &format!("a library of functions: {why}"));
                }
            }
        }
        Ok(())
    }

    fn copied(&mut self, kind: &str) {
        let of = self.progress.done.copied.entry(kind.to_owned());
        *of.or_default() += 1;
    }

    fn failed(&mut self, db: i64, key: &[u8], why: &str) {
        self.progress.done.failed += 1;
        self.shown.of(self.bar, db, key, why);
    }
}

/// Whether a value comes in pages: streams always do.
pub fn is_large(found: &Found) -> bool {
    let is_large = found.bytes.unwrap_or(LARGE) >= LARGE;
    found.kind == Kind::Stream || (is_large && found.kind != Kind::Text)
}

/// Writes a value page by page, from its beginning; whether there was anything.
fn by_pages(sides: &mut Sides, found: &Found) -> Result<bool, Stopped> {
    let mut place = Place::default();
    let mut is_empty = true;
    put(&mut sides.to, &[command("DEL", &found.key)])?;
    while let Some(words) = sides.from.read_on(found, &mut place)? {
        if !words.is_empty() {
            put(&mut sides.to, &found.kind.add(&found.key, &words))?;
            is_empty = false;
        }
    }
    if found.kind == Kind::List {
        // Places in a list move when somebody writes at its head.
        let length = sides.from.one(command("LLEN", &found.key))?;
        if length != Value::Int(place.index() as i64) {
            return Err(Stopped::Changed);
        }
    }
    if found.kind == Kind::Stream {
        let commands = beside_entries(&mut sides.from, &found.key, is_empty)?;
        put(&mut sides.to, &commands)?;
        is_empty = false;
    }
    if let Some(end) = found.end().filter(|_| !is_empty) {
        put(&mut sides.to, &[end])?;
    }
    Ok(!is_empty)
}

fn put(to: &mut Remote, commands: &[Cmd]) -> Result<(), Stopped> {
    let replies = to.once(commands).map_err(Stopped::Again)?;
    for reply in replies {
        match reply {
            Value::ServerError(error) if passes(error.code()) => {
                return Err(Stopped::Again(error.into()));
            }
            Value::ServerError(error) => return Err(Stopped::Failed(words_of(&error))),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a server refuses so because a key is not what it was.
pub fn has_changed(words: &str) -> bool {
    words.starts_with("WRONGTYPE") || words.starts_with("ERR no such key")
}

/// Why a step was refused, by its code and in its words: what came first, and what EXEC's commands say.
fn refusal(replies: &[Value]) -> Option<(String, String)> {
    replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => Some((error.code().to_owned(), words_of(error))),
        Value::Array(of) => refusal(of),
        _ => None,
    })
}

fn name_of(part: &Part) -> String {
    format!("{}/{}", part.node, part.db)
}

impl From<MigrateError> for Stopped {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Refused { words, .. } if has_changed(&words) => Self::Changed,
            MigrateError::Refused { words, .. } => Self::Failed(words),
            error => Self::End(error),
        }
    }
}

/// What an import has done, in lines.
pub fn report(done: &Done) -> String {
    let count = |of: &std::collections::BTreeMap<String, u64>| of.values().sum::<u64>();
    let by_type = |of: &std::collections::BTreeMap<String, u64>| {
        let each: Vec<_> = of.iter().map(|(name, n)| format!("{name} {n}")).collect();
        if each.is_empty() {
            String::new()
        } else {
            format!(" ({})", each.join(", "))
        }
    };
    let mut lines = vec![format!(
        "copied {}{}",
        count(&done.copied),
        by_type(&done.copied)
    )];
    if done.kept > 0 {
        let why = "were here already and stay as they are (--replace takes the source's)";
        lines.push(format!("kept {}: {why}", done.kept));
    }
    if !done.unknown.is_empty() {
        lines.push(format!(
            "NOT copied {}{}: types that are not known here",
            count(&done.unknown),
            by_type(&done.unknown)
        ));
    }
    if done.failed > 0 {
        lines.push(format!("NOT copied {}: refused", done.failed));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exec_says_is_found() {
        let fine = [Value::Okay, Value::Array(vec![Value::Int(1), Value::Okay])];
        assert_eq!(refusal(&fine), None);
        let error = redis::parse_redis_value(b"*2\r\n:1\r\n-WRONGTYPE not a list\r\n");
        let refused = [Value::Okay, error.expect("a reply")];
        let (code, why) = refusal(&refused).expect("refused");
        assert_eq!((&*code, &*why), ("WRONGTYPE", "WRONGTYPE not a list"));
    }
}
