//! `ringwood check`: whether every key is here what it is at a running Redis.
//!
//! Both sides go on serving. What differs is looked at once more at the end: most of it was a write that had
//! come to one side only.

use std::collections::{BTreeMap, BTreeSet};

use indicatif::ProgressBar;
use redis::{Cmd, ConnectionInfo, Value};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::copy::{LARGE, MAX_KEY, TOGETHER, has_changed, is_large};
use super::error::MigrateError;
use super::remote::Remote;
use super::show::Shown;
use super::source::{Part, Source};
use super::stream::described;
use super::value::{Found, Kind, Place, entries, words};
use crate::cli::client::words_of;

/// Differences that are looked at again, at most; more are believed at once.
const LOOKED_AT_AGAIN: usize = 10_000;
/// How long after the last key that is.
const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(1);
/// Keys that are looked at together then.
const PAGE: usize = 500;
/// Two ends are the same so far apart, where the source tells only how long it is until then, in milliseconds.
const ENDS_APART: i64 = 2_000;
/// Databases that a node has, as Redis by default.
const DATABASES: i64 = 16;

/// A comparison, as it was asked for.
pub struct Check<'a> {
    /// What this store is compared with.
    pub source: &'a Source,
    /// The nodes that are asked; the next where one is gone.
    pub target: Vec<ConnectionInfo>,
    /// Only keys of this pattern.
    pub matching: Option<&'a str>,
    /// Where it is shown.
    pub bar: &'a ProgressBar,
    /// What is said of single keys.
    pub shown: Shown,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Keys that were compared.
    pub compared: u64,
    /// Those that differ, by how.
    pub differ: BTreeMap<&'static str, u64>,
}

/// The two databases of one part.
struct Sides {
    from: Remote,
    to: Remote,
    db: i64,
}

/// A key that differs, and how.
type Difference = (Vec<u8>, &'static str);

impl Check<'_> {
    /// Compares all there is.
    ///
    /// # Errors
    /// When a server stays away, or refuses to tell.
    pub fn run(mut self) -> Result<Findings, MigrateError> {
        let parts = self.source.parts()?;
        self.bar
            .set_length(parts.iter().map(|part| part.keys).sum());
        let mut findings = Findings::default();
        let mut again = Vec::new();
        for part in &parts {
            let mut sides = Sides {
                from: self.source.remote(part),
                to: Remote::new(self.target.clone(), part.db),
                db: part.db,
            };
            let mut doubtful = Vec::new();
            self.walk(&mut sides, &mut findings, &mut doubtful)?;
            again.push((sides, doubtful));
        }
        std::thread::sleep(AGAIN_AFTER);
        for (sides, doubtful) in &mut again {
            for keys in doubtful.chunks(PAGE) {
                let differences = sides.compare(keys)?;
                self.found(sides.db, differences, &mut findings);
            }
        }
        self.only_here(&parts, &mut findings)?;
        Ok(findings)
    }

    fn walk(
        &mut self,
        sides: &mut Sides,
        findings: &mut Findings,
        doubtful: &mut Vec<Vec<u8>>,
    ) -> Result<(), MigrateError> {
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys) = sides.from.scan(&cursor, self.matching)?;
            let mut differences = sides.compare(&keys)?;
            findings.compared += keys.len() as u64;
            self.bar.inc(keys.len() as u64);
            let room = LOOKED_AT_AGAIN.saturating_sub(doubtful.len());
            let later = differences.drain(..differences.len().min(room));
            doubtful.extend(later.map(|(key, _)| key));
            self.found(sides.db, differences, findings);
            cursor = next;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// Keys of this store that the source does not have.
    fn only_here(&mut self, parts: &[Part], findings: &mut Findings) -> Result<(), MigrateError> {
        let in_source: Vec<i64> = parts.iter().map(|part| part.db).collect();
        for db in (0..DATABASES).filter(|db| self.source.may_have(*db)) {
            let mut to = Remote::new(self.target.clone(), db);
            let mut from = if in_source.contains(&db) {
                self.source.remotes(db)
            } else {
                Vec::new()
            };
            let mut only = Vec::new();
            let mut cursor = "0".to_owned();
            loop {
                let (next, keys) = to.scan(&cursor, self.matching)?;
                only.extend(only_in(&mut to, &mut from, keys)?);
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
            if !only.is_empty() {
                std::thread::sleep(AGAIN_AFTER);
            }
            for keys in only.chunks(PAGE) {
                let still = only_in(&mut to, &mut from, keys.to_vec())?;
                let still = still.into_iter().map(|key| (key, "only here"));
                self.found(db, still.collect(), findings);
            }
        }
        Ok(())
    }

    fn found(&mut self, db: i64, differences: Vec<Difference>, findings: &mut Findings) {
        for (key, how) in differences {
            *findings.differ.entry(how).or_default() += 1;
            self.shown.of(self.bar, db, &key, how);
        }
    }
}

/// Which of these keys are here and not there.
fn only_in(
    to: &mut Remote,
    from: &mut [Remote],
    mut keys: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, MigrateError> {
    for remote in from {
        keys = absent(remote, keys)?;
    }
    // One that has ended since is nobody's.
    let held = to.holds(&keys)?;
    let here = keys.into_iter().zip(held).filter(|(_, is_held)| *is_held);
    Ok(here.map(|(key, _)| key).collect())
}

fn absent(remote: &mut Remote, keys: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, MigrateError> {
    let held = remote.holds(&keys)?;
    let each = keys.into_iter().zip(held);
    Ok(each
        .filter(|(_, is_held)| !is_held)
        .map(|(key, _)| key)
        .collect())
}

impl Sides {
    /// Which of these keys differ.
    fn compare(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Difference>, MigrateError> {
        let too_long = keys.iter().filter(|key| key.len() > MAX_KEY);
        let mut differences: Vec<Difference> = too_long
            .map(|key| (key.clone(), "is too long for a key here"))
            .collect();
        let keys: Vec<Vec<u8>> = keys
            .iter()
            .filter(|key| key.len() <= MAX_KEY)
            .cloned()
            .collect();
        let keys = &*keys;
        let there = self.from.look(keys)?;
        let here = self.to.look(keys)?.into_iter();
        let here: BTreeMap<_, _> = here.map(|here| (here.key.clone(), here)).collect();
        let apart = if self.from.ends_are_exact() {
            0
        } else {
            ENDS_APART
        };
        let (mut group, mut bytes) = (Vec::new(), 0);
        // What is gone there and is here is found among the keys that only are here.
        for there in there {
            let here = here.get(&there.key);
            match here {
                None => differences.push((there.key, "is not here")),
                Some(here) if here.kind != there.kind => {
                    differences.push((there.key, "has another type here"));
                }
                Some(here) if !same_end(there.ends_at, here.ends_at, apart) => {
                    differences.push((there.key, "ends at another time here"));
                }
                Some(_) => {
                    bytes += there.bytes.unwrap_or(LARGE) + there.key.len() as u64;
                    group.push(there);
                    if bytes >= TOGETHER {
                        differences.extend(self.values(&std::mem::take(&mut group))?);
                        bytes = 0;
                    }
                }
            }
        }
        differences.extend(self.values(&group)?);
        Ok(differences)
    }

    fn values(&mut self, group: &[Found]) -> Result<Vec<Difference>, MigrateError> {
        let there = digests(&mut self.from, group)?;
        let here = digests(&mut self.to, group)?;
        let each = group.iter().zip(there.into_iter().zip(here));
        let differ = each.filter(|(_, (there, here))| there != here);
        Ok(differ
            .map(|(one, _)| (one.key.clone(), "has another value here"))
            .collect())
    }
}

fn same_end(there: Option<i64>, here: Option<i64>, apart: i64) -> bool {
    match (there, here) {
        (Some(there), Some(here)) => (there - here).abs() <= apart,
        (there, here) => there == here,
    }
}

/// A digest of each value; of one that cannot be read as what it was, of nothing.
fn digests(remote: &mut Remote, group: &[Found]) -> Result<Vec<u128>, MigrateError> {
    let mut digests = vec![0; group.len()];
    let small = |one: &Found| {
        if is_large(one) {
            None
        } else {
            one.kind.read(&one.key)
        }
    };
    let reads: Vec<Cmd> = group.iter().filter_map(small).collect();
    let mut replies = remote.all(&reads)?.into_iter();
    for (one, digest) in group.iter().zip(&mut digests) {
        if small(one).is_some() {
            match replies.next() {
                Some(Value::ServerError(error)) if error.code() != "WRONGTYPE" => {
                    return Err(remote.refused(words_of(&error)));
                }
                Some(reply) => {
                    let mut of = Digest::new(&one.kind);
                    of.add(&words(reply).unwrap_or_default());
                    *digest = of.finish();
                }
                None => {}
            }
            continue;
        }
        *digest = match by_pages(remote, one) {
            Err(MigrateError::Refused { words, .. }) if has_changed(&words) => 0,
            of => of?,
        };
    }
    Ok(digests)
}

/// A digest of a value that is read page by page.
fn by_pages(remote: &mut Remote, one: &Found) -> Result<u128, MigrateError> {
    let mut of = Digest::new(&one.kind);
    let mut place = Place::default();
    let mut ids = BTreeSet::new();
    while let Some(words) = remote.read_on(one, &mut place)? {
        of.add(&words);
        if one.kind == Kind::Stream {
            ids.extend(entries(&words).filter_map(|entry| entry.first().cloned()));
        }
    }
    if one.kind == Kind::Stream {
        of.add(&described(remote, &one.key, &ids)?);
    }
    Ok(of.finish())
}

/// A digest of a value's words, that does not depend on the order of what has none.
struct Digest<'a> {
    kind: &'a Kind,
    in_order: Xxh3,
    elements: Vec<u128>,
}

impl<'a> Digest<'a> {
    fn new(kind: &'a Kind) -> Self {
        Self {
            kind,
            in_order: Xxh3::new(),
            elements: Vec::new(),
        }
    }

    fn add(&mut self, words: &[Vec<u8>]) {
        let framed = |words: &[Vec<u8>]| {
            let mut all = Vec::new();
            for word in words {
                all.extend((word.len() as u64).to_le_bytes());
                all.extend(word);
            }
            all
        };
        match self.kind {
            Kind::Set => self
                .elements
                .extend(words.iter().map(|word| xxh3_128(word))),
            Kind::Hash => {
                let pairs = words.chunks(2).map(|pair| xxh3_128(&framed(pair)));
                self.elements.extend(pairs);
            }
            Kind::Sorted => {
                // A score is a number, however it is written.
                let pairs = words.chunks(2).map(|pair| {
                    let score = pair.get(1).map(|score| String::from_utf8_lossy(score));
                    let score = score.and_then(|score| score.parse::<f64>().ok());
                    let score = score.unwrap_or(f64::NAN) + 0.0;
                    xxh3_128(&framed(&[pair[0].clone(), score.to_le_bytes().to_vec()]))
                });
                self.elements.extend(pairs);
            }
            _ => self.in_order.update(&framed(words)),
        }
    }

    fn finish(mut self) -> u128 {
        // A scan may return an element twice.
        self.elements.sort_unstable();
        self.elements.dedup();
        for element in &self.elements {
            self.in_order.update(&element.to_le_bytes());
        }
        self.in_order.digest128()
    }
}

/// What a comparison has found, in a line; whether nothing differs.
pub fn report(findings: &Findings) -> (String, bool) {
    let compared = findings.compared;
    if findings.differ.is_empty() {
        return (format!("equal: {compared} keys are the same"), true);
    }
    let each = findings.differ.iter().map(|(how, n)| format!("{n} {how}"));
    let each: Vec<String> = each.collect();
    let count: u64 = findings.differ.values().sum();
    let text = format!(
        "NOT equal: {compared} keys compared, {count} differ ({})",
        each.join(", ")
    );
    (text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &Kind, pages: &[&[&str]]) -> u128 {
        let mut digest = Digest::new(kind);
        for page in pages {
            let words: Vec<Vec<u8>> = page.iter().map(|word| word.as_bytes().to_vec()).collect();
            digest.add(&words);
        }
        digest.finish()
    }

    #[test]
    fn a_digest_knows_order_only_where_there_is_one() {
        assert_eq!(
            of(&Kind::Set, &[&["a", "b"]]),
            of(&Kind::Set, &[&["b"], &["a", "b"]])
        );
        assert_ne!(of(&Kind::Set, &[&["a", "b"]]), of(&Kind::Set, &[&["ab"]]));
        assert_eq!(
            of(&Kind::Hash, &[&["f", "1", "g", "2"]]),
            of(&Kind::Hash, &[&["g", "2", "f", "1"]])
        );
        assert_ne!(
            of(&Kind::Hash, &[&["f", "1", "g", "2"]]),
            of(&Kind::Hash, &[&["f", "2", "g", "1"]])
        );
        assert_ne!(
            of(&Kind::List, &[&["a", "b"]]),
            of(&Kind::List, &[&["b", "a"]])
        );
        assert_eq!(
            of(&Kind::List, &[&["a", "b"]]),
            of(&Kind::List, &[&["a"], &["b"]])
        );
        assert_ne!(
            of(&Kind::List, &[&["ab", "c"]]),
            of(&Kind::List, &[&["a", "bc"]])
        );
    }

    #[test]
    fn scores_are_numbers() {
        let short = of(&Kind::Sorted, &[&["m", "1.1", "n", "-0"]]);
        let long = of(&Kind::Sorted, &[&["m", "1.1000000000000001", "n", "0"]]);
        assert_eq!(short, long);
        assert_ne!(short, of(&Kind::Sorted, &[&["m", "1.2", "n", "0"]]));
    }
}
