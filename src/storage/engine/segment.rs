//! Segments of the journal: what they begin with, and what is read of them at a start.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::batch::{self, Row};

/// Bytes before the first batch of a segment.
pub(super) const HEAD: u64 = 64;
const MAGIC: &[u8; 8] = b"RINGWJ01";
/// So many zeros behind what a file has are read, too.
const ZEROS_BEHIND: u64 = 4 << 20;

/// What is known of a store before its journal is read.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::storage) struct Before {
    /// The tables have everything up to this batch.
    pub(in crate::storage) flushed: u64,
    /// Everything up to this batch was on the disk.
    pub(in crate::storage) synced: u64,
}

/// What a journal had.
#[derive(Clone, Debug, Default)]
pub(in crate::storage) struct Found {
    /// The last batch, or that up to which the tables have everything.
    pub(in crate::storage) last: u64,
    /// Rows that were replayed.
    pub(in crate::storage) rows: u64,
    /// The file with the last batch.
    pub(in crate::storage) ends_in: Option<PathBuf>,
    /// What is wrong with it: the file, and what.
    pub(in crate::storage) damage: Option<(PathBuf, String)>,
}

/// A segment to which nothing is added any more.
pub(super) struct Older {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    pub(super) last: u64,
    pub(super) bytes: u64,
    pub(super) is_synced: bool,
    /// A sync of it has failed.
    pub(super) is_distrusted: bool,
}

/// Bytes of a file that may not be on the disk: a sync of them may have failed, and the system then takes them for
/// written. It tells of that once.
pub(super) struct Unsure {
    pub(super) file: Arc<File>,
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

/// What a segment begins with.
pub(super) struct Head {
    pub(super) id: u64,
    pub(super) first: u64,
    /// The last batch that was on the disk when the segment was begun.
    pub(super) synced: u64,
}

impl Head {
    pub(super) fn encode(&self, store: u64) -> [u8; HEAD as usize] {
        let mut out = [0; HEAD as usize];
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&self.id.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.to_le_bytes());
        out[24..32].copy_from_slice(&store.to_le_bytes());
        out[32..40].copy_from_slice(&self.synced.to_le_bytes());
        let check = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&check.to_le_bytes());
        out
    }

    fn decode(raw: &[u8], store: u64) -> Option<Self> {
        let field = |at: usize| Some(u64::from_le_bytes(raw.get(at..at + 8)?.try_into().ok()?));
        let head = Self {
            id: field(8)?,
            first: field(16)?,
            synced: field(32)?,
        };
        (head.encode(store) == raw.get(..HEAD as usize)?).then_some(head)
    }
}

/// The head of a file; `None` for one that has none, and what is wrong with another.
pub(super) fn read_head(file: &File, store: u64) -> io::Result<Result<Option<Head>, &'static str>> {
    use std::os::unix::fs::FileExt;
    let mut raw = [0; HEAD as usize];
    let len = file.metadata()?.len().min(HEAD) as usize;
    file.read_exact_at(&mut raw[..len], 0)?;
    if raw == [0; HEAD as usize] {
        return Ok(Ok(None));
    }
    let head = Head::decode(&raw, store);
    Ok(head
        .map(Some)
        .ok_or("the head of a segment is not what was written"))
}

/// Segments in the order of their batches. Of those that begin with the same one the one that has it comes
/// last: others were left empty, or without their beginning by a power cut.
pub(super) fn in_order(
    segments: Vec<(Head, PathBuf, File)>,
) -> io::Result<Vec<(Head, PathBuf, File)>> {
    let mut keyed = Vec::new();
    for segment in &segments {
        let (head, _, file) = segment;
        let same = segments
            .iter()
            .filter(|(other, ..)| other.first == head.first);
        let begins = same.count() > 1 && {
            let raw = read_data(file)?;
            batch::open(raw.get(HEAD as usize..).unwrap_or_default(), head.id).is_some()
        };
        keyed.push((head.first, begins));
    }
    let mut all: Vec<_> = keyed.into_iter().zip(segments).collect();
    all.sort_by_key(|(key, _)| *key);
    Ok(all.into_iter().map(|(_, segment)| segment).collect())
}

/// What a segment was found to have.
pub(super) struct Replayed {
    pub(super) older: Older,
    pub(super) unsure: Option<Unsure>,
    /// Where the next batch of it would begin, if nothing is behind.
    pub(super) goes_on_at: Option<u64>,
}

pub(super) fn replay_segment(
    head: &Head,
    path: PathBuf,
    file: File,
    (Before { flushed, synced }, until): (Before, u64),
    found: &mut Found,
    replay: &mut impl FnMut(u64, Row<'_>),
) -> io::Result<Replayed> {
    let raw = read_data(&file)?;
    let mut wrong = |what: String| {
        found.damage.get_or_insert((path.clone(), what));
    };
    if head.first > found.last + 1 {
        wrong(format!(
            "it begins with batch {}, and the last one before it is {}: others are missing",
            head.first, found.last
        ));
    }
    let (mut at, mut next, mut sure) = (HEAD as usize, head.first, 0);
    while next < until {
        let rest = raw.get(at..).unwrap_or_default();
        let Some(batch) = batch::open(rest, head.id) else {
            // What the tables have anyway may be unreadable.
            match batch::beyond(rest, head.id, next - 1) {
                Some((skipped, later)) if later.number <= flushed + 1 && later.number < until => {
                    (at, next) = (at + skipped, later.number);
                    continue;
                }
                _ => break,
            }
        };
        if batch.number != next {
            wrong(format!("batch {} stands where {next} should", batch.number));
            break;
        }
        if next > flushed {
            match replay_batch(&raw[at..at + batch.len], next, replay) {
                Some(rows) => found.rows += rows,
                None => wrong(format!("batch {next} makes no sense")),
            }
        }
        at += batch.len;
        sure = if next <= synced { at } else { sure };
        next += 1;
    }
    let rest = raw.get(at..).unwrap_or_default();
    let beyond = batch::beyond(rest, head.id, next - 1);
    let later = beyond.filter(|(_, later)| later.number < until);
    if let Some((_, later)) = later.filter(|(_, later)| later.synced >= next.max(flushed + 1)) {
        wrong(format!(
            "batch {next} cannot be read, and had been on the disk when batch {} was written",
            later.number
        ));
    }
    found.last = found.last.max(next - 1);
    found.ends_in = Some(path.clone());
    let file = Arc::new(file);
    let unsure = (next - 1 > synced).then(|| Unsure {
        file: Arc::clone(&file),
        at: sure as u64,
        bytes: raw[sure..at].to_vec(),
    });
    Ok(Replayed {
        goes_on_at: beyond.is_none().then_some(at as u64),
        unsure,
        older: Older {
            id: head.id,
            path,
            file,
            last: next - 1,
            bytes: at as u64 - HEAD,
            is_synced: false,
            is_distrusted: false,
        },
    })
}

/// How many rows a batch has; `None` where some of it makes no sense.
fn replay_batch(raw: &[u8], number: u64, replay: &mut impl FnMut(u64, Row<'_>)) -> Option<u64> {
    batch::rows(raw).try_fold(0, |rows, row| {
        replay(number, row?);
        Some(rows + 1)
    })
}

/// Whether nothing in a segment says that what is missing before it had been on the disk.
pub(super) fn is_beyond_the_end(head: &Head, file: &File, last: u64) -> io::Result<bool> {
    let raw = read_data(file)?;
    let (mut at, mut synced) = (HEAD as usize, head.synced);
    while let Some((skipped, batch)) = raw
        .get(at..)
        .and_then(|rest| batch::beyond(rest, head.id, head.first - 1))
    {
        synced = synced.max(batch.synced);
        at += skipped + batch.len;
    }
    Ok(synced <= last)
}

/// A file up to the end of what was ever written to it; what follows are zeros.
fn read_data(file: &File) -> io::Result<Vec<u8>> {
    use rustix::fs::{SeekFrom, seek};
    use std::os::unix::fs::FileExt;
    let len = file.metadata()?.len();
    let mut end = 0;
    loop {
        match seek(file, SeekFrom::Data(end)) {
            Ok(data) => end = seek(file, SeekFrom::Hole(data))?,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // A batch may end in zeros, which some file systems do not store.
    let mut raw = vec![0; (end + ZEROS_BEHIND).min(len) as usize];
    file.read_exact_at(&mut raw, 0)?;
    Ok(raw)
}
