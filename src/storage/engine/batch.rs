//! A batch of the journal: a head, then rows. Written with one write, valid as a whole or not at all.
//!
//! `check u32 | check of what follows of the head u32 | length of the rows u64 | number u64 | synced u64`, then each row `table u8 | length
//! of the key u16 | length of the value u32 (all ones: removed) | key | value`; little endian. The check
//! begins with the segment's id, so that what an earlier use of the file has left is never taken for new.
//! `synced` is the last batch that was on the disk when this one was written: a batch that is missing in
//! front of one that says so was lost, and not merely never written.

use crate::storage::Table;

/// Bytes before the rows.
pub(super) const HEAD: usize = 32;
const REMOVED: u32 = u32::MAX;
/// The longest key and value of a row.
pub(super) const MOST_KEY_BYTES: usize = u16::MAX as usize;
pub(super) const MOST_VALUE_BYTES: usize = REMOVED as usize - 1;

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Batches are numbered from 1.
    pub(super) number: u64,
    /// The last batch that was on the disk before it.
    pub(super) synced: u64,
    /// Bytes of head and rows.
    pub(super) len: usize,
}

/// A row as a batch has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) table: Table,
    pub(super) key: &'a [u8],
    /// `None`: it was removed.
    pub(super) value: Option<&'a [u8]>,
}

/// Room for the head of a batch to which rows are added.
pub(super) fn begin(batch: &mut Vec<u8>) {
    batch.clear();
    batch.resize(HEAD, 0);
}

/// Whether nothing was added.
pub(super) fn is_empty(batch: &[u8]) -> bool {
    batch.len() <= HEAD
}

/// Adds a row.
pub(super) fn put(batch: &mut Vec<u8>, row: &Row<'_>) {
    let key_len = u16::try_from(row.key.len()).expect("keys of rows are bounded");
    let value_len = match row.value {
        Some(value) => u32::try_from(value.len()).expect("values are bounded"),
        None => REMOVED,
    };
    batch.reserve(7 + row.key.len() + row.value.map_or(0, <[u8]>::len));
    batch.push(row.table as u8);
    batch.extend_from_slice(&key_len.to_le_bytes());
    batch.extend_from_slice(&value_len.to_le_bytes());
    batch.extend_from_slice(row.key);
    batch.extend_from_slice(row.value.unwrap_or_default());
}

/// Completes a batch for a segment.
pub(super) fn seal(batch: &mut [u8], segment: u64, number: u64, synced: u64) {
    let rows = (batch.len() - HEAD) as u64;
    batch[8..16].copy_from_slice(&rows.to_le_bytes());
    batch[16..24].copy_from_slice(&number.to_le_bytes());
    batch[24..32].copy_from_slice(&synced.to_le_bytes());
    let head = head_check(segment, batch);
    batch[4..8].copy_from_slice(&head.to_le_bytes());
    let check = check(segment, batch);
    batch[..4].copy_from_slice(&check.to_le_bytes());
}

/// The head of a batch that begins here and is whole.
pub(super) fn open(raw: &[u8], segment: u64) -> Option<Head> {
    let head = head(raw, segment)?;
    let batch = &raw[..head.len];
    let stored = u32::from_le_bytes(batch[..4].try_into().ok()?);
    (check(segment, batch) == stored).then_some(head)
}

/// A head, whatever is behind it.
fn head(raw: &[u8], segment: u64) -> Option<Head> {
    let field = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(raw.get(at..at + 8)?.try_into().ok()?))
    };
    let rows = usize::try_from(field(8)?).ok()?;
    let len = rows.checked_add(HEAD)?;
    // The cheap things first: anything may stand here.
    let is_here = raw.len() >= len
        && rows > 0
        && u32::from_le_bytes(raw[4..8].try_into().ok()?) == head_check(segment, raw);
    is_here.then_some(Head {
        number: field(16)?,
        synced: field(24)?,
        len,
    })
}

/// A whole batch somewhere behind what cannot be read: later than the last one that was read, and left
/// by a power cut that took what is in between, or by damage.
pub(super) fn beyond(raw: &[u8], segment: u64, last: u64) -> Option<(usize, Head)> {
    let mut at = 0;
    while at + HEAD < raw.len() {
        // Nothing that begins in so many zeros is a head.
        if raw[at..].len() >= 2 * HEAD && raw[at..at + 2 * HEAD] == [0; 2 * HEAD] {
            at += HEAD + 1;
            continue;
        }
        let head = head(&raw[at..], segment)
            .filter(|head| head.number > last && head.synced < head.number);
        if let Some(head) = head
            && open(&raw[at..], segment).is_some()
        {
            return Some((at, head));
        }
        at += 1;
    }
    None
}

fn head_check(segment: u64, batch: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&batch[8..HEAD]);
    hasher.finalize()
}

fn check(segment: u64, batch: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&batch[4..]);
    hasher.finalize()
}

/// The rows of a batch that is whole; `None` stands for one that makes no sense.
pub(super) struct Rows<'a>(&'a [u8]);

/// The rows of what [`open`] has found to be whole.
pub(super) fn rows(batch: &[u8]) -> Rows<'_> {
    Rows(batch.get(HEAD..).unwrap_or_default())
}

impl<'a> Iterator for Rows<'a> {
    type Item = Option<Row<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let row = self.row();
        if row.is_none() {
            self.0 = &[];
        }
        Some(row)
    }
}

impl<'a> Rows<'a> {
    fn row(&mut self) -> Option<Row<'a>> {
        let table = Table::ALL.get(usize::from(self.take::<1>()?[0])).copied()?;
        let key_len = usize::from(u16::from_le_bytes(self.take()?));
        let value_len = u32::from_le_bytes(self.take()?);
        let (key, rest) = self.0.split_at_checked(key_len)?;
        let (value, rest) = match value_len {
            REMOVED => (None, rest),
            len => {
                let (value, rest) = rest.split_at_checked(len as usize)?;
                (Some(value), rest)
            }
        };
        self.0 = rest;
        Some(Row { table, key, value })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64, synced: u64) -> Vec<u8> {
        let mut batch = Vec::new();
        begin(&mut batch);
        assert!(is_empty(&batch));
        for row in sample() {
            put(&mut batch, &row);
        }
        seal(&mut batch, 7, number, synced);
        batch
    }

    fn sample() -> [Row<'static>; 3] {
        let row = |table, key, value| Row { table, key, value };
        [
            row(Table::Data, b"key".as_slice(), Some(b"value".as_slice())),
            row(Table::Tombstone, b"gone", None),
            row(Table::Meta, b"", Some(b"")),
        ]
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let raw = batch(5, 3);
        let head = open(&raw, 7).expect("whole");
        let len = raw.len();
        let expected = Head {
            number: 5,
            synced: 3,
            len,
        };
        assert_eq!(head, expected);
        let found: Vec<_> = rows(&raw).map(|row| row.expect("a row")).collect();
        assert_eq!(found, sample());
        assert_eq!(open(&raw, 8), None, "it is another segment's");
    }

    #[test]
    fn no_bit_of_a_batch_can_change() {
        let raw = batch(5, 3);
        for bit in 0..raw.len() * 8 {
            let mut spoilt = raw.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&spoilt, 7), None, "bit {bit}");
        }
        for len in 0..raw.len() {
            assert_eq!(open(&raw[..len], 7), None, "{len} bytes of it");
        }
    }

    #[test]
    fn what_follows_what_cannot_be_read_is_found() {
        for torn in [vec![0xaa; 50], vec![0; 500]] {
            let behind = |number, synced| [&torn[..], &batch(number, synced)].concat();
            let (at, found) = beyond(&behind(7, 5), 7, 4).expect("it is there");
            assert_eq!((at, found.number, found.synced), (torn.len(), 7, 5));
            assert_eq!(beyond(&behind(4, 3), 7, 4), None, "an earlier one");
            assert_eq!(beyond(&behind(7, 5), 8, 4), None, "another segment");
            assert_eq!(beyond(&torn, 7, 4), None);
        }
    }

    #[test]
    fn rows_that_make_no_sense_are_told() {
        let mut raw = Vec::new();
        begin(&mut raw);
        raw.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rows(&raw).collect::<Vec<_>>(), [None]);
        raw[HEAD] = 0;
        raw[HEAD + 3] = 1;
        assert_eq!(rows(&raw).collect::<Vec<_>>(), [None]);
    }
}
