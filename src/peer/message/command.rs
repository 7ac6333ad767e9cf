//! A client's command on its way to its coordinator.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::fields::{finish, put_wrote, read_bytes, read_wrote};
use super::version::DOUBTS;
use super::wire::Wrote;
use crate::logic::causal::Timestamp;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};

/// A forwarded command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// How many joins and leaves the sender knows: who knows more decides where a key lives.
    pub events: u64,
    /// How often it may still be forwarded.
    pub hops: u8,
    /// The client's database.
    pub db: u8,
    /// The client's protocol, 2 or 3.
    pub protocol: u8,
    /// Replies that a read waits for; 0 for the receiver's default.
    pub r: u8,
    /// Acknowledgements that a write waits for; 0 for the receiver's default.
    pub w: u8,
    /// How long the sender waits, in milliseconds: a command that comes later must not run.
    pub patience_ms: u64,
    /// Its words, as [`put_words`] writes them; of a transaction, each command's.
    pub steps: SmallVec<[Bytes; 1]>,
    /// For a transaction: its watched keys, with what its client has seen of them.
    pub transaction: Option<Vec<(Bytes, Bytes)>>,
    /// What the client has written of its keys, by database: what the command must not miss.
    pub own: Vec<Wrote>,
    /// When the command was sent first, where it may have run then: it must not overwrite what came
    /// later.
    pub since: Option<Timestamp>,
}

impl Command {
    pub(super) fn encode(&self, wire: u16, out: &mut Vec<u8>) {
        put_varint(out, self.events);
        let Command {
            hops,
            db,
            protocol,
            r,
            w,
            ..
        } = *self;
        out.extend_from_slice(&[hops, db, protocol, r, w]);
        put_varint(out, self.patience_ms);
        put_varint(out, self.steps.len() as u64);
        for words in &self.steps {
            put_bytes(out, words);
        }
        out.push(u8::from(self.transaction.is_some()));
        if let Some(watches) = &self.transaction {
            put_varint(out, watches.len() as u64);
            for (key, seen) in watches {
                put_bytes(out, key);
                put_bytes(out, seen);
            }
        }
        put_wrote(out, &self.own);
        if wire >= DOUBTS {
            let since = self.since.unwrap_or_default();
            out.extend_from_slice(&since.0.to_le_bytes());
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>, wire: u16) -> Result<Self, DecodeError> {
        let events = r.varint()?;
        let (hops, db, protocol) = (r.u8()?, r.u8()?, r.u8()?);
        let (read, write) = (r.u8()?, r.u8()?);
        Ok(Self {
            events,
            hops,
            db,
            protocol,
            r: read,
            w: write,
            patience_ms: r.varint()?,
            steps: read_steps(r)?,
            transaction: read_watches(r)?,
            own: read_wrote(r)?,
            since: if wire >= DOUBTS {
                Some(Timestamp(r.u64_le()?)).filter(|since| since.0 > 0)
            } else {
                None
            },
        })
    }
}

fn read_steps(r: &mut Reader<'_>) -> Result<SmallVec<[Bytes; 1]>, DecodeError> {
    let count = r.count(1)?;
    (0..count).map(|_| read_bytes(r)).collect()
}

fn read_watches(r: &mut Reader<'_>) -> Result<Option<Vec<(Bytes, Bytes)>>, DecodeError> {
    if r.u8()? == 0 {
        return Ok(None);
    }
    let count = r.count(2)?;
    let watches: Result<_, _> = (0..count)
        .map(|_| Ok((read_bytes(r)?, read_bytes(r)?)))
        .collect();
    watches.map(Some)
}

/// A command's words: their number, then each with its length.
pub fn put_words<'a>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    put_varint(out, words.len() as u64);
    words.for_each(|word| put_bytes(out, word));
}

/// Where the words are in what [`put_words`] wrote.
pub fn find_words(raw: &[u8]) -> Result<impl Iterator<Item = Range<usize>>, DecodeError> {
    let mut r = Reader(raw);
    let count = r.count(1)?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let len = r.bytes()?.len();
        let end = raw.len() - r.0.len();
        ranges.push(end - len..end);
    }
    finish(&r, ranges.into_iter())
}
