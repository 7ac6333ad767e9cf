//! What the engine does not check of its files when it opens, checked before.
//!
//! The engine stops reading a journal at the first thing that it does not understand, which is right at
//! the end of the newest one and loses batches in the middle of any other; it believes the sequence
//! numbers of batches, which its checksums leave out; and it does not look at the checksum of the list of
//! a keyspace's tables. Tables are checked block by block when they are read. The layouts are those of
//! fjall 3.1 and lsm-tree 3.1.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::layout::{BATCH_ROW, IDENTITY_ROW, TABLES};

/// The keys that every batch of ours has among its items, and the first of every run.
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// The engine gives up at greater sequence numbers.
const MOST_SEQNO: u64 = 1 << 62;
const TRAILER: [u8; 4] = *b"FJL\x03";
/// What is behind an item's tag before its key: type, compression, keyspace, lengths.
const ITEM_HEAD: usize = 20;
const BUFFER: usize = 1 << 20;

/// A file that is not what was written, and what is wrong with it.
pub(super) type Damage = (PathBuf, String);

/// Checks the journals of one shard; the newest of its batches must be there, if any is, that are known to
/// have been taken.
pub(super) fn check_journals(dir: &Path, taken: u64) -> Result<(), Damage> {
    if !dir.exists() {
        return Ok(());
    }
    let of_dir = |error: io::Error| (dir.to_path_buf(), error.to_string());
    let mut journals: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir).map_err(of_dir)? {
        let path = entry.map_err(of_dir)?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            journals.extend(number.map(|number| (number, path)));
        }
    }
    if journals.is_empty() && taken > 0 {
        return Err((dir.to_path_buf(), "it has no journal".to_owned()));
    }
    journals.sort_unstable();
    let newest = check_batches(&journals)?;
    if newest.is_some_and(|newest| newest < taken) {
        let newest = newest.unwrap_or_default();
        let path = journals.last().map_or(dir, |(_, path)| path);
        let what = format!("its last batch is {newest}, and {taken} was taken");
        return Err((path.to_path_buf(), what));
    }
    Ok(())
}

/// Checks which tables a shard's keyspaces have; those of one that was made once are all there.
pub(super) fn check_lists_of_tables(dir: &Path, is_made: bool) -> Result<(), Damage> {
    let of_dir = |error: io::Error| (dir.to_path_buf(), error.to_string());
    let keyspaces = dir.join("keyspaces");
    let found = match fs::read_dir(&keyspaces) {
        Ok(found) => found.collect::<Result<Vec<_>, _>>().map_err(of_dir)?,
        Err(error) if is_made => return Err((keyspaces, error.to_string())),
        Err(_) => return Ok(()),
    };
    // The engine has one of its own.
    if is_made && found.len() <= TABLES {
        let what = format!("{} keyspaces, others are missing", found.len());
        return Err((keyspaces, what));
    }
    for keyspace in found {
        check_list_of_tables(&keyspace.path(), is_made)?;
    }
    Ok(())
}

/// `current` names a version of the list of tables, and has its checksum.
fn check_list_of_tables(keyspace: &Path, is_made: bool) -> Result<(), Damage> {
    let path = keyspace.join("current");
    let wrong = |path: &Path, what: &str| Err((path.to_path_buf(), what.to_owned()));
    let current = match fs::read(&path) {
        Ok(current) => current,
        // The keyspace was being made. Of another one the engine would remove the tables.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_made => return Ok(()),
        Err(error) => return wrong(&path, &error.to_string()),
    };
    let (Some(version), Some(sum), [0]) = (
        current.first_chunk::<8>().copied().map(u64::from_le_bytes),
        current.get(8..24).and_then(|sum| sum.try_into().ok()),
        current.get(24..).unwrap_or_default(),
    ) else {
        return wrong(&path, "it is not what was written");
    };
    let list = keyspace.join(format!("v{version}"));
    match fs::read(&list) {
        Ok(raw) if xxh3_128(&raw) == u128::from_le_bytes(sum) => Ok(()),
        Ok(_) => wrong(
            &list,
            "the list of tables, or its checksum, is not what was written",
        ),
        Err(error) => wrong(&list, &error.to_string()),
    }
}

/// Batches have ascending sequence numbers, and consecutive numbers of ours: the last of them.
fn check_batches(journals: &[(u64, PathBuf)]) -> Result<Option<u64>, Damage> {
    let mut before: Option<Batch> = None;
    let mut last_number = None;
    for (_, path) in journals {
        let wrong = |what: String| (path.clone(), what);
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mut journal = Journal(BufReader::with_capacity(BUFFER, file), Vec::new());
        while let Some(batch) = journal
            .next_batch()
            .map_err(|error| wrong(error.to_string()))?
        {
            let follows = before
                .as_ref()
                .is_none_or(|before| batch.seqno > before.seqno);
            if !follows || batch.seqno > MOST_SEQNO {
                return Err(wrong("its batches are not in order".to_owned()));
            }
            // A start may leave numbers out, after a loss that was accepted.
            if let (Some(last), Some(number), false) =
                (last_number, batch.number, batch.begins_a_run)
                && number != last + 1
            {
                let what = format!("batch {number} follows batch {last}: others are missing");
                return Err(wrong(what));
            }
            last_number = batch.number.or(last_number);
            before = Some(batch);
        }
    }
    Ok(last_number)
}

struct Batch {
    seqno: u64,
    number: Option<u64>,
    begins_a_run: bool,
}

/// What is read, and an item of it.
struct Journal<R>(R, Vec<u8>);

impl<R: Read> Journal<R> {
    /// The next batch; `None` where no whole one follows.
    fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        match self.whole_batch() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            batch => batch,
        }
    }

    fn whole_batch(&mut self) -> io::Result<Option<Batch>> {
        if self.take()? != [START] {
            return Ok(None);
        }
        let mut left = u32::from_le_bytes(self.take()?);
        let mut batch = Batch {
            seqno: u64::from_le_bytes(self.take()?),
            number: None,
            begins_a_run: false,
        };
        let mut hash = Xxh3::new();
        loop {
            let [tag] = self.take()?;
            match tag {
                ITEM if left > 0 => {
                    hash.update(&[ITEM]);
                    self.item(&mut hash, &mut batch)?;
                }
                CLEAR if left > 0 => {
                    hash.update(&[CLEAR]);
                    hash.update(&self.take::<8>()?);
                }
                END if left == 0 => break,
                _ => return Ok(None),
            }
            left -= u32::from(tag != END);
        }
        let sum = u64::from_le_bytes(self.take()?);
        if self.take()? != TRAILER {
            return Ok(None);
        }
        if sum != hash.digest() {
            return Err(io::Error::other("the checksum of a batch does not match"));
        }
        Ok(Some(batch))
    }

    fn item(&mut self, hash: &mut Xxh3, batch: &mut Batch) -> io::Result<()> {
        let head: [u8; ITEM_HEAD] = self.take()?;
        hash.update(&head);
        let key_len = usize::from(u16::from_le_bytes([head[10], head[11]]));
        let value_len = u32::from_le_bytes([head[16], head[17], head[18], head[19]]) as usize;
        let raw = &mut self.1;
        raw.clear();
        let len = key_len + value_len;
        if self.0.by_ref().take(len as u64).read_to_end(raw)? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(raw);
        let (key, value) = raw.split_at(key_len);
        if key == BATCH_ROW {
            batch.number = value.try_into().ok().map(u64::from_le_bytes);
        }
        batch.begins_a_run |= key == IDENTITY_ROW;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut raw = [0; N];
        self.0.read_exact(&mut raw)?;
        Ok(raw)
    }
}
