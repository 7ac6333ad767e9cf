//! What the elements of a stream's state hold, how it is written, and what two of one come to: the furthest of
//! whatever goes on.

use bytes::Bytes;

use super::id::Id;
use crate::logic::causal::ActorId;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint, put_zigzag};

/// A value that an element of a stream's state has.
pub trait State: Sized {
    /// As it is stored.
    fn encode(&self) -> Vec<u8>;
    /// From what is stored.
    ///
    /// # Errors
    /// When it is nothing of the sort.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// With another version of it, which is newer.
    #[must_use]
    fn with(self, newer: Self) -> Self;
}

/// What an actor has added to a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Its first entry.
    pub first: Id,
    /// Its last one.
    pub last: Id,
    /// The highest entry that was taken out by XDEL here.
    pub deleted: Id,
    /// How many it has added.
    pub count: u64,
}

/// How far a group is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Where it began: what was there up to here is not its business.
    pub start: Id,
    /// When that was said, in milliseconds since the epoch.
    pub set_at_ms: u64,
    /// How many entries it has read, where that is known.
    pub read: Option<u64>,
    /// Up to where it has got the entries of each actor, by ascending actor: ids of one actor ascend, those of two
    /// that do not hear each other may be found between others later.
    pub positions: Vec<(ActorId, Id)>,
}

/// Who reads for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// When it was heard of last, in milliseconds since the epoch.
    pub seen_ms: u64,
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// When it was delivered last, in milliseconds since the epoch.
    pub delivered_ms: u64,
    /// How often.
    pub times: u64,
    /// To whom.
    pub consumer: Bytes,
}

fn put_id(out: &mut Vec<u8>, id: Id) {
    out.extend_from_slice(&id.encode());
}

fn read_id(r: &mut Reader<'_>) -> Result<Id, DecodeError> {
    let raw = r.take(Id::LEN)?.try_into();
    Ok(Id::decode(raw.map_err(|_| DecodeError::Truncated)?))
}

impl State for Added {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 * Id::LEN + 4);
        for id in [self.first, self.last, self.deleted] {
            put_id(&mut out, id);
        }
        put_varint(&mut out, self.count);
        out
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first: read_id(r)?,
            last: read_id(r)?,
            deleted: read_id(r)?,
            count: r.varint()?,
        })
    }

    fn with(self, newer: Self) -> Self {
        let firsts = [self.first, newer.first].into_iter();
        Self {
            first: firsts.filter(|id| *id > Id::MIN).min().unwrap_or_default(),
            last: self.last.max(newer.last),
            deleted: self.deleted.max(newer.deleted),
            count: self.count.max(newer.count),
        }
    }
}

impl State for Group {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        put_id(&mut out, self.start);
        put_varint(&mut out, self.set_at_ms);
        let read = self.read.and_then(|read| i64::try_from(read).ok());
        put_zigzag(&mut out, read.unwrap_or(-1));
        put_varint(&mut out, self.positions.len() as u64);
        for (actor, id) in &self.positions {
            out.extend_from_slice(&actor.0.to_le_bytes());
            put_id(&mut out, *id);
        }
        out
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (start, set_at_ms, read) = (read_id(r)?, r.varint()?, r.zigzag()?);
        let positions = (0..r.count(8 + Id::LEN)?).map(|_| Ok((ActorId(r.u64_le()?), read_id(r)?)));
        let positions: Vec<(ActorId, Id)> = positions.collect::<Result<_, DecodeError>>()?;
        if !positions.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError::Malformed);
        }
        Ok(Self {
            start,
            set_at_ms,
            read: u64::try_from(read).ok(),
            positions,
        })
    }

    fn with(mut self, newer: Self) -> Self {
        if self.set_at_ms != newer.set_at_ms || self.start != newer.start {
            // Who has set it anew has the last word.
            return if self.set_at_ms > newer.set_at_ms {
                self
            } else {
                newer
            };
        }
        for (actor, id) in newer.positions {
            self.reach(actor, id);
        }
        self.read = self.read.max(newer.read);
        self
    }
}

impl State for Consumer {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.seen_ms);
        out
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seen_ms: r.varint()?,
        })
    }

    fn with(self, newer: Self) -> Self {
        Self {
            seen_ms: self.seen_ms.max(newer.seen_ms),
        }
    }
}

impl State for Pending {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.consumer.len());
        put_varint(&mut out, self.delivered_ms);
        put_varint(&mut out, self.times);
        put_bytes(&mut out, &self.consumer);
        out
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            delivered_ms: r.varint()?,
            times: r.varint()?,
            consumer: Bytes::copy_from_slice(r.bytes()?),
        })
    }

    fn with(self, newer: Self) -> Self {
        newer
    }
}

impl Group {
    /// One that begins behind all that is known. Of others it gets whatever comes.
    pub fn behind_all(adders: &[(ActorId, Added)], read: Option<u64>, now_ms: u64) -> Self {
        let known = adders.iter().filter(|(_, added)| added.last > Id::MIN);
        Self {
            positions: known.map(|(actor, added)| (*actor, added.last)).collect(),
            ..Self::behind(Id::MIN, read, now_ms)
        }
    }

    /// One that begins behind an id.
    pub fn behind(start: Id, read: Option<u64>, now_ms: u64) -> Self {
        Self {
            start,
            set_at_ms: now_ms,
            read,
            positions: Vec::new(),
        }
    }

    /// Up to where it has got the entries of an actor.
    pub fn position(&self, actor: ActorId) -> Id {
        let at = self.positions.binary_search_by_key(&actor, |(of, _)| *of);
        at.map_or(self.start, |at| self.positions[at].1)
    }

    /// The last one that it has got, or where it began.
    pub fn last(&self) -> Id {
        let positions = self.positions.iter().map(|(_, id)| *id);
        positions.max().unwrap_or_default().max(self.start)
    }

    /// It has got the entries of an actor up to one.
    pub(super) fn reach(&mut self, actor: ActorId, id: Id) {
        match self.positions.binary_search_by_key(&actor, |(of, _)| *of) {
            Ok(at) => self.positions[at].1 = self.positions[at].1.max(id),
            Err(at) => self.positions.insert(at, (actor, id)),
        }
    }

    /// It has got all that is known up to an id, but for that of this id of some.
    pub fn advance(&mut self, adders: &[(ActorId, Added)], to: Id, without: &[ActorId]) {
        for (actor, added) in adders {
            let mut upto = added.last.min(to);
            if upto == to && without.contains(actor) {
                upto = to.previous().unwrap_or_default();
            }
            if upto > self.position(*actor) {
                self.reach(*actor, upto);
            }
        }
    }

    /// Behind which id there may be entries that it has not got; `None` where there are none.
    pub fn next_behind(&self, adders: &[(ActorId, Added)]) -> Option<Id> {
        let behind = adders.iter().filter_map(|(actor, added)| {
            let position = self.position(*actor);
            let before = added.first.previous().unwrap_or_default();
            (added.last > position).then(|| position.max(before))
        });
        behind.min()
    }
}
