//! What moves from one owner to another: pieces of a part for the member that takes it over, how far that has
//! come, and dropping the copies that others have proven to hold.
//!
//! A piece is read in the order of rows, as of the moment when it is asked for. No snapshot is held from
//! piece to piece: what is written meanwhile goes to the new owner as well.

use std::sync::Arc;

use super::{Key, Replica, ReplicaError};
use crate::logic::causal::Object;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::handoff::Progress;
use crate::logic::place::{self, Position};
use crate::storage::pages::Pages;
use crate::storage::{Op, Table, Write};

/// Rows read at a time: few, since each may be large.
const PAGE: usize = 64;
/// Rows of a piece, at most.
const MOST_ROWS: usize = 1_024;
/// Parts by which sizes are guessed, and rows of each.
const SAMPLED: usize = 32;
const SAMPLE: usize = 16;
const PROGRESS_VERSION: u8 = 2;
/// Its places had no length of the key.
const PROGRESS_BEFORE: u8 = 1;
const PROGRESS_PREFIX: &[u8] = b"handoff/";

/// A piece of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Keys by database, with their objects.
    pub objects: Vec<(u8, Vec<u8>, Object)>,
    /// Where to go on, unless that was all.
    pub next: Option<Vec<u8>>,
}

impl Replica {
    /// A piece of a part from a row on, tombstones among it. The caller has waited for
    /// [`Self::settled`]. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn piece(
        &self,
        (owners, partition): (u8, u16),
        from: &[u8],
        bytes: usize,
    ) -> Result<Piece, ReplicaError> {
        let start = partition.to_be_bytes();
        let mut from = from.max(&start[..]).to_vec();
        let (end, shard) = (place::partition_end(partition), self.shard_of(partition));
        let (mut piece, mut size, mut rows) = (Piece::default(), 0, 0);
        let mut pages = Pages::of(bytes, PAGE);
        loop {
            let wanted = pages.rows();
            let page = self.store.scan(shard, Table::Data, &from, &end, wanted)?;
            let full = page.len() == wanted;
            pages.read(&page);
            for (row_key, raw) in page {
                from = place::behind(&row_key);
                rows += 1;
                let Some((_, db, name)) = place::parse(&row_key) else {
                    continue;
                };
                if self.owners_of(name) != owners {
                    continue;
                }
                // A damaged row is reported where it is read, and stays.
                let Ok(object) = self.whole_of((db, name), &raw) else {
                    continue;
                };
                if object.is_unknown() {
                    continue;
                }
                size += row_key.len() + raw.len().max(object.size());
                piece
                    .objects
                    .push((db, name.to_vec(), Arc::unwrap_or_clone(object)));
                if size >= bytes {
                    piece.next = Some(from);
                    return Ok(piece);
                }
            }
            if !full {
                return Ok(piece);
            }
            if rows >= MOST_ROWS {
                piece.next = Some(from);
                return Ok(piece);
            }
        }
    }

    /// The rows of some parts, and about how many bytes they have. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn part_sizes(
        &self,
        owners: u8,
        partitions: impl Iterator<Item = u16>,
    ) -> Result<Vec<(u64, u64)>, ReplicaError> {
        let rows_of = |partition| (partition, self.rows(owners, partition));
        let rows: Vec<(u16, u64)> = partitions.map(rows_of).collect();
        let (mut sampled, mut bytes) = (0, 0);
        for (partition, _) in rows.iter().filter(|(_, rows)| *rows > 0).take(SAMPLED) {
            let (start, end) = (partition.to_be_bytes(), place::partition_end(*partition));
            let shard = self.shard_of(*partition);
            let sample = self.store.scan(shard, Table::Data, &start, &end, SAMPLE)?;
            sampled += sample.len();
            let of_row = |(key, value): &(Vec<u8>, Vec<u8>)| key.len() + value.len();
            bytes += sample.iter().map(of_row).sum::<usize>();
        }
        let row_bytes = (bytes / sampled.max(1)) as u64;
        let size = |(_, rows): (u16, u64)| (rows, rows * row_bytes);
        Ok(rows.into_iter().map(size).collect())
    }

    /// How far a part that this node takes over has come.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn handoff_progress(
        &self,
        owners: u8,
        partition: u16,
    ) -> Result<Option<Progress>, ReplicaError> {
        let (key, shard) = (progress_key(owners, partition), self.shard_of(partition));
        let raw = self.store.load(shard, Table::Meta, &key)?;
        Ok(raw.map(|raw| decode_progress(&raw)).transpose()?)
    }

    /// Notes how far it has come, behind the rows that were taken in before; `None` at the end.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn note_handoff(
        &self,
        owners: u8,
        partition: u16,
        progress: Option<&Progress>,
    ) -> Result<(), ReplicaError> {
        let shard = self.shard_of(partition);
        let op = Op {
            table: Table::Meta,
            key: progress_key(owners, partition),
            value: progress.map(encode_progress),
        };
        self.store.submit(shard, Write::freeing(vec![op]))?;
        Ok(())
    }

    /// Drops a copy that is as it was when others said that they know all of it, unless it is kept for
    /// somebody; whether it went. The caller has waited for [`Self::settled`].
    ///
    /// # Errors
    /// When the store fails.
    pub fn drop_copy(&self, key: Key<'_>, as_it_was: &Object) -> Result<bool, ReplicaError> {
        let located = self.locate(key, Position::of(key.name, self.partitions));
        let _order = self.lock(located.at);
        let goes = *self.load(&located)? == *as_it_was
            && !self.is_looked_at(located.at)
            && !self.has_hint(&located, None)?;
        if goes {
            self.note_dropped(located.at.partition, as_it_was.context().last(self.actor));
            self.store_object(&located, as_it_was, &Object::default(), None)?;
        }
        Ok(goes)
    }
}

fn progress_key(owners: u8, partition: u16) -> Vec<u8> {
    [PROGRESS_PREFIX, &[owners], &partition.to_be_bytes()].concat()
}

fn encode_progress(progress: &Progress) -> Vec<u8> {
    let mut out = vec![PROGRESS_VERSION, u8::from(progress.is_whole)];
    put_bytes(&mut out, &progress.next);
    for number in [progress.rows, progress.bytes, progress.pieces] {
        put_varint(&mut out, number);
    }
    out
}

fn decode_progress(raw: &[u8]) -> Result<Progress, DecodeError> {
    let mut r = Reader(raw);
    let version = r.u8()?;
    let place = match version {
        PROGRESS_VERSION => <[u8]>::to_vec,
        PROGRESS_BEFORE => place::with_length,
        _ => return Err(DecodeError::Version(version)),
    };
    Ok(Progress {
        is_whole: r.u8()? != 0,
        next: place(r.bytes()?),
        rows: r.varint()?,
        bytes: r.varint()?,
        pieces: r.varint()?,
    })
}
