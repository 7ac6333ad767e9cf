//! A store's rows as plain files, for backups: one file a shard, and a manifest that is written last.
//!
//! A shard's file is records, each a table, a key and a value, then an end and a hash of all before it.
//! It says nothing of the engine: it can be read by a later version of the program, and by none other
//! than that. A folder without a manifest is no copy.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use thiserror::Error;

use super::pages::Pages;
use super::{Frozen, Op, StoreError, Table};

const MANIFEST: &str = "manifest.json";
const VERSION: u64 = 2;
/// Its rows are of the format before, which the start after a restore writes again.
const VERSION_BEFORE: u64 = 1;
/// Rows read from the store at a time, of about so many bytes.
const PAGE: usize = 512;
const PAGE_BYTES: usize = 1 << 20;
/// Rows given to the reader at a time, of about so many bytes.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// The longest key or value: the engine takes none that is longer.
const MOST_BYTES: u64 = u32::MAX as u64;
const END: u8 = 0;
const TABLES: [Table; 6] = [
    Table::Data,
    Table::Expiry,
    Table::Conflict,
    Table::Meta,
    Table::Hint,
    Table::Tombstone,
];

/// What a copy says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The node's name.
    pub node: String,
    /// The partitioning of slots.
    pub partitions: u16,
    /// When it was made, in milliseconds since the epoch.
    pub made_ms: u64,
    /// How many shards, each a file.
    pub shards: usize,
    /// Rows in all.
    pub rows: u64,
}

/// Why a copy could not be made or read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The folder is there already.
    #[error("{}: is there already", .0.display())]
    Exists(PathBuf),
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// It is no copy, not a whole one, or not what was written.
    #[error("{path}: {reason}", path = path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes shards as they were at one time into a folder that is not there yet. Blocks; `rest` is called
/// after every page.
///
/// # Errors
/// What was written until then stays, without a manifest.
pub fn write(
    dir: &Path,
    shards: &[Arc<dyn Frozen>],
    mut about: About,
    rest: impl Fn(),
) -> Result<About, ArchiveError> {
    let fail = |source| io_error(dir, source);
    if dir.exists() {
        return Err(ArchiveError::Exists(dir.to_owned()));
    }
    fs::create_dir_all(dir).map_err(fail)?;
    about.rows = 0;
    about.shards = shards.len();
    for (nth, shard) in shards.iter().enumerate() {
        about.rows += write_shard(&file_of(dir, nth), &**shard, &rest)?;
    }
    let manifest = json!({
        "ringwood_snapshot": VERSION,
        "node": about.node,
        "partitions": about.partitions,
        "made_ms": about.made_ms,
        "shards": about.shards,
        "rows": about.rows,
    });
    let path = dir.join(MANIFEST);
    let mut file = File::create(&path).map_err(|e| io_error(&path, e))?;
    let written = file.write_all(format!("{manifest:#}\n").as_bytes());
    written
        .and_then(|()| file.sync_all())
        .map_err(|e| io_error(&path, e))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(fail)?;
    Ok(about)
}

/// Reads a copy: `take` gets the rows of a shard, some at a time, in the order of tables and keys.
///
/// # Errors
/// When it is not whole; what was given until then may not be all.
pub fn read<E: From<ArchiveError>>(
    dir: &Path,
    mut take: impl FnMut(usize, Vec<Op>) -> Result<(), E>,
) -> Result<About, E> {
    let about = about(dir)?;
    let mut rows = 0;
    for nth in 0..about.shards {
        rows += read_shard(&file_of(dir, nth), |ops| take(nth, ops))?;
    }
    if rows == about.rows {
        Ok(about)
    } else {
        Err(broken(&dir.join(MANIFEST), "rows are missing").into())
    }
}

/// What a copy says of itself.
///
/// # Errors
/// When there is none.
pub fn about(dir: &Path) -> Result<About, ArchiveError> {
    let path = dir.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(|e| io_error(&path, e))?;
    let manifest: Value =
        serde_json::from_str(&text).map_err(|_| broken(&path, "it is no manifest"))?;
    let number = |name: &str| manifest[name].as_u64();
    match number("ringwood_snapshot") {
        Some(VERSION | VERSION_BEFORE) => {}
        Some(_) => return Err(broken(&path, "it was made by another version")),
        None => return Err(broken(&path, "it is no manifest")),
    }
    let read = || {
        Some(About {
            node: manifest["node"].as_str()?.to_owned(),
            partitions: u16::try_from(number("partitions")?).ok()?,
            made_ms: number("made_ms")?,
            shards: usize::try_from(number("shards")?).ok()?,
            rows: number("rows")?,
        })
    };
    read().ok_or_else(|| broken(&path, "it is no manifest"))
}

fn file_of(dir: &Path, shard: usize) -> PathBuf {
    dir.join(format!("shard-{shard}.rows"))
}

fn write_shard(path: &Path, shard: &dyn Frozen, rest: &impl Fn()) -> Result<u64, ArchiveError> {
    let fail = |source| io_error(path, source);
    let mut out = Hashed {
        file: BufWriter::new(File::create(path).map_err(fail)?),
        hash: blake3::Hasher::new(),
    };
    let mut rows = 0;
    for (table, kind) in TABLES.into_iter().zip(END + 1..) {
        let mut from = Vec::new();
        let mut pages = Pages::of(PAGE_BYTES, PAGE);
        loop {
            let page = shard.scan(table, &from, &[0xff; 32], pages.rows())?;
            let Some((last, _)) = page.last() else { break };
            pages.read(&page);
            from = [last.as_slice(), &[0]].concat();
            for (key, value) in &page {
                out.record(kind, key, value).map_err(fail)?;
            }
            rows += page.len() as u64;
            rest();
        }
    }
    out.write(&[END]).map_err(fail)?;
    let hash = out.hash.finalize();
    out.file.write_all(hash.as_bytes()).map_err(fail)?;
    let file = out.file.into_inner().map_err(|e| fail(e.into_error()))?;
    file.sync_all().map_err(fail)?;
    Ok(rows)
}

fn read_shard<E: From<ArchiveError>>(
    path: &Path,
    mut take: impl FnMut(Vec<Op>) -> Result<(), E>,
) -> Result<u64, E> {
    let fail = |source| E::from(io_error(path, source));
    let mut from = Hashed {
        file: BufReader::new(File::open(path).map_err(fail)?),
        hash: blake3::Hasher::new(),
    };
    let (mut rows, mut batch, mut bytes) = (0, Vec::new(), 0);
    while let Some((kind, key, value)) = from.next().map_err(fail)? {
        let table = TABLES.get(usize::from(kind - 1)).copied();
        let table = table.ok_or_else(|| broken(path, "it has rows of an unknown kind"))?;
        rows += 1;
        bytes += key.len() + value.len();
        batch.push(Op {
            table,
            key,
            value: Some(value),
        });
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            bytes = 0;
            take(std::mem::take(&mut batch))?;
        }
    }
    let mut hash = [0; 32];
    from.file.read_exact(&mut hash).map_err(fail)?;
    if *from.hash.finalize().as_bytes() != hash {
        return Err(broken(path, "it is not what was written").into());
    }
    if !batch.is_empty() {
        take(batch)?;
    }
    Ok(rows)
}

/// A file whose content is hashed on the way.
struct Hashed<F> {
    file: F,
    hash: blake3::Hasher,
}

impl<F: Write> Hashed<F> {
    fn write(&mut self, raw: &[u8]) -> io::Result<()> {
        self.hash.update(raw);
        self.file.write_all(raw)
    }

    fn record(&mut self, kind: u8, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.write(&[kind])?;
        for part in [key, value] {
            self.write(&(part.len() as u64).to_le_bytes())?;
            self.write(part)?;
        }
        Ok(())
    }
}

impl<F: Read> Hashed<F> {
    fn read(&mut self, raw: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(raw)?;
        self.hash.update(raw);
        Ok(())
    }

    fn part(&mut self) -> io::Result<Vec<u8>> {
        let mut len = [0; 8];
        self.read(&mut len)?;
        let len = u64::from_le_bytes(len);
        if len > MOST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Grows with what is there, not with what is said.
        let mut part = Vec::new();
        (&mut self.file).take(len).read_to_end(&mut part)?;
        if (part.len() as u64) < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hash.update(&part);
        Ok(part)
    }

    fn next(&mut self) -> io::Result<Option<(u8, Vec<u8>, Vec<u8>)>> {
        let mut kind = [END];
        self.read(&mut kind)?;
        match kind[0] {
            END => Ok(None),
            kind => Ok(Some((kind, self.part()?, self.part()?))),
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Io {
        path: path.to_owned(),
        source,
    }
}

fn broken(path: &Path, reason: &str) -> ArchiveError {
    ArchiveError::Broken {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStore, Store};

    fn filled() -> MemoryStore {
        let store = MemoryStore::new(2);
        for n in 0..3_000u32 {
            let op = |table| Op {
                table,
                key: n.to_be_bytes().to_vec(),
                value: Some(vec![7; n as usize % 300]),
            };
            let ops = TABLES.into_iter().map(op).collect();
            store
                .submit(n as usize % 2, crate::storage::Write::of(ops))
                .expect("memory takes it");
        }
        store
    }

    fn about_it() -> About {
        About {
            node: "a".into(),
            partitions: 16,
            made_ms: 5,
            shards: 0,
            rows: 0,
        }
    }

    fn copy(dir: &Path) -> About {
        let store = filled();
        let shards: Vec<_> = (0..2).map(|n| store.freeze(n).expect("frozen")).collect();
        write(dir, &shards, about_it(), || ()).expect("written")
    }

    fn read_all(dir: &Path) -> Result<(About, Vec<(usize, Op)>), ArchiveError> {
        let mut rows = Vec::new();
        let about = read(dir, |shard, ops| {
            rows.extend(ops.into_iter().map(|op| (shard, op)));
            Ok::<(), ArchiveError>(())
        })?;
        Ok((about, rows))
    }

    #[test]
    fn a_copy_has_every_row_and_is_written_once() {
        let parent = tempfile::tempdir().expect("a folder");
        let dir = parent.path().join("copy");
        let made = copy(&dir);
        let (about, rows) = read_all(&dir).expect("whole");
        assert_eq!(about, made);
        assert_eq!((about.rows, rows.len()), (18_000, 18_000));
        let store = filled();
        for (shard, op) in rows {
            let there = store.load(shard, op.table, &op.key).expect("read");
            assert_eq!(there, op.value);
        }
        let again = write(&dir, &[], about_it(), || ());
        assert!(matches!(again, Err(ArchiveError::Exists(_))));
    }

    #[test]
    fn a_copy_that_was_changed_or_cut_is_refused() {
        let parent = tempfile::tempdir().expect("a folder");
        let dir = parent.path().join("copy");
        copy(&dir);
        let file = file_of(&dir, 1);
        let whole = fs::read(&file).expect("read");
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        for wrong in [&changed[..], &whole[..whole.len() - 40], &whole[..100], &[]] {
            fs::write(&file, wrong).expect("written");
            assert!(read_all(&dir).is_err());
        }
        fs::write(&file, &whole).expect("written");
        fs::remove_file(dir.join(MANIFEST)).expect("removed");
        assert!(read_all(&dir).is_err());
    }
}
