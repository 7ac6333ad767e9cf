//! The node's own marks beside the engine: what it must find again after a start.
//!
//! The engine can open empty after a damaged pointer file, and drop the rest of a journal after a
//! lost page, without a word. Every batch therefore carries its number, and two small files a shard
//! remember numbers outside the engine:
//!
//! - `shard-N.mark` is fsynced *after* the engine's own fsync: batches up to `synced` must be there
//!   whatever happened. It also says whether the last stop was clean.
//! - `shard-N.tail` is written with every batch and never fsynced: it binds only as long as the
//!   operating system has not been restarted since (a process kill loses nothing).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const RECORD_LEN: usize = 32;

/// The marks of one shard.
#[derive(Debug)]
pub(super) struct Marks {
    mark: File,
    mark_path: PathBuf,
    tail: File,
    boot: u64,
    last_synced: AtomicU64,
}

/// What the marks said at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether there was a mark.
    pub(super) is_there: bool,
    /// Batches that were on the disk.
    pub(super) synced: u64,
    /// Batches that the running operating system had taken.
    pub(super) written: u64,
    /// Whether the last stop was clean.
    pub(super) clean: bool,
    /// Whether the mark is there and cannot be read: nobody knows what was on the disk.
    pub(super) is_spoilt: bool,
}

impl Marks {
    /// Opens or creates the marks of a shard, or of the node.
    pub(super) fn open(dir: &Path, whose: &str) -> io::Result<(Self, Found)> {
        let open = |name: String| -> io::Result<(File, PathBuf)> {
            let path = dir.join(name);
            let mut options = OpenOptions::new();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            Ok((file, path))
        };
        let (mark, mark_path) = open(format!("{whose}.mark"))?;
        let (tail, _) = open(format!("{whose}.tail"))?;
        File::open(dir)?.sync_all()?;
        let boot = boot_id();
        let mut found = Found::default();
        match read_record(&mark) {
            Some([synced, clean, _]) => {
                (found.is_there, found.synced, found.clean) = (true, synced, clean == 1);
            }
            None if mark.metadata()?.len() > 0 => found.is_spoilt = true,
            None => {}
        }
        if let Some([written, written_under, _]) = read_record(&tail)
            && written_under == boot
            && boot != 0
        {
            found.written = written;
        }
        Ok((
            Self {
                mark,
                mark_path,
                tail,
                boot,
                last_synced: AtomicU64::new(found.synced),
            },
            found,
        ))
    }

    /// Batches up to `batch` have been fsynced by the engine.
    pub(super) fn synced(&self, batch: u64, clean: bool) -> io::Result<()> {
        self.mark
            .write_all_at(&record([batch, u64::from(clean), 0]), 0)?;
        self.mark.sync_data()?;
        self.last_synced.store(batch, Ordering::Release);
        Ok(())
    }

    /// The last batch that was marked so.
    pub(super) fn last_synced(&self) -> u64 {
        self.last_synced.load(Ordering::Acquire)
    }

    /// The operating system has taken `batch`. Best effort: a full disk must not fail the write.
    pub(super) fn written(&self, batch: u64) {
        if self
            .tail
            .write_all_at(&record([batch, self.boot, 0]), 0)
            .is_err()
        {
            let _ = self.tail.set_len(0);
        }
    }

    /// The fsynced file, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.mark_path
    }
}

fn record(fields: [u64; 3]) -> [u8; RECORD_LEN] {
    let mut out = [0; RECORD_LEN];
    for (nth, field) in fields.into_iter().enumerate() {
        out[nth * 8..nth * 8 + 8].copy_from_slice(&field.to_le_bytes());
    }
    let sum = crc32fast::hash(&out[..24]);
    out[24..28].copy_from_slice(&sum.to_le_bytes());
    out
}

fn read_record(file: &File) -> Option<[u64; 3]> {
    let mut raw = [0; RECORD_LEN];
    file.read_exact_at(&mut raw, 0).ok()?;
    let field = |nth: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&raw[nth * 8..nth * 8 + 8]);
        u64::from_le_bytes(bytes)
    };
    let fields = [field(0), field(1), field(2)];
    (record(fields) == raw).then_some(fields)
}

/// A number that changes with every start of the operating system; 0 when it cannot be told.
fn boot_id() -> u64 {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or(0, |text| {
        crate::logic::placement::key_hash(text.trim().as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_again_and_a_torn_record_counts_as_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let (marks, found) = Marks::open(dir.path(), "shard-0").expect("marks");
        assert_eq!(found, Found::default());
        marks.synced(7, false).expect("fsync");
        marks.written(9);
        let (marks, found) = Marks::open(dir.path(), "shard-0").expect("marks");
        assert_eq!(
            found,
            Found {
                is_there: true,
                synced: 7,
                written: 9,
                clean: false,
                is_spoilt: false
            }
        );
        marks.tail.write_all_at(&[0xff], 3).expect("write");
        let (_, found) = Marks::open(dir.path(), "shard-0").expect("marks");
        assert_eq!(
            found,
            Found {
                is_there: true,
                synced: 7,
                written: 0,
                clean: false,
                is_spoilt: false
            }
        );
    }
}
