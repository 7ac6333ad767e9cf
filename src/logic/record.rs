//! How an object is written down: one versioned, checksummed record, on the disk and on the wire.
//!
//! The two have version numbers of their own ([`ROW`], [`WIRE`]): what a disk holds is read by later
//! builds, what is sent by the build before; as long as nothing tells them apart they share the layout.
//!
//! ```text
//! version u8 | actors: n, then n x (id u64le, intervals: n, then n x (gap, length))
//!            | cells: n, then n x (kind u8, name, versions: n, then n x (actor, seq, time,
//!              flags u8, [expiry], [seq - chain], payload))
//!            | in version 2, resets: n, then n x (id u64le, seq, total)
//!            | in versions 3, 6 and 7, resets: n, then n x (kind u8, name, id u64le, seq, total)
//!            | crc32 u32le
//! ```
//!
//! Numbers are varints, `actor` is an index into the table above. The lowest version is written that says
//! all: 1 of a string without resets, whose expiry was never changed and whose chains have one link; 2 of
//! every string; 3 of collections; 6 where a change of the expiry names all that was seen; 7 of streams. (4, 5 and 8
//! are rows of [`super::spread`].) The encoding is canonical: equal objects have equal bytes, and the
//! decoder accepts only what the encoder writes. It reads hostile input without panic and without
//! allocating more than the input's own size.

use super::causal::{
    ActorId, Cells, Context, Contribution, Dot, Element, Kind, Object, Over, Payload, Reset,
    Timestamp, Value, Version, Versions,
};
use super::codec::{DecodeError, Reader, put_bytes, put_varint, put_zigzag};
use bytes::Bytes;

pub(super) const CHECKSUM_LEN: usize = 4;
pub(super) const HAS_EXPIRY: u8 = 1;
pub(super) const IS_COUNT: u8 = 2;
pub(super) const HAS_CHAIN: u8 = 4;
const IS_DEADLINE: u8 = 8;
const IS_GONE: u8 = 16;
const IS_OVER_SEEN: u8 = 32;

/// The versions of a record: of a string that the first builds could have written, of every other string,
/// of collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub(super) plain: u8,
    pub(super) full: u8,
    collection: u8,
    wide: u8,
    stream: u8,
}

/// A row of the store.
pub const ROW: Format = Format {
    plain: 1,
    full: 2,
    collection: 3,
    wide: 6,
    stream: 7,
};
/// An object in a message.
pub const WIRE: Format = Format {
    plain: 1,
    full: 2,
    collection: 3,
    wide: 6,
    stream: 7,
};

impl Format {
    /// Whether a record is of a version that the first builds cannot read.
    pub fn is_full(self, record: &[u8]) -> bool {
        let version = record.first();
        version == Some(&self.full) || self.is_collection(record)
    }

    /// Whether a record is of a version that has collections.
    pub fn is_collection(self, record: &[u8]) -> bool {
        record.first() == Some(&self.collection) || self.is_wide(record) || self.is_stream(record)
    }

    /// Whether a record is of a version that has streams.
    pub fn is_stream(self, record: &[u8]) -> bool {
        record.first() == Some(&self.stream)
    }

    /// Whether a record is of a version that names all that was seen.
    pub fn is_wide(self, record: &[u8]) -> bool {
        record.first() == Some(&self.wide)
    }

    /// The lowest version that says all of an object.
    fn version_of(self, object: &Object) -> u8 {
        match () {
            () if is_stream(object) => self.stream,
            () if is_over_seen(object) => self.wide,
            () if !is_string(object) => self.collection,
            () if !is_plain(object) => self.full,
            () => self.plain,
        }
    }

    /// Encodes an object with its checksum. (Of one whose elements are not all at hand see [`super::spread`].)
    pub fn encode(self, object: &Object) -> Vec<u8> {
        debug_assert!(object.is_whole(), "what is not at hand would be lost");
        let payload: usize = object
            .all_versions()
            .map(|v| match &v.value.payload {
                Payload::Bytes(bytes) => bytes.len(),
                Payload::Count(_) => 10,
                Payload::Deadline(Over::Dots(dots)) => dots.len() * 16,
                Payload::Deadline(Over::Seen(seen)) => seen.actors() * 16,
                Payload::Gone(_) => 20,
            })
            .sum();
        let cells = object.cells().iter();
        let names: usize = cells.map(|(element, _)| element.name.len() + 20).sum();
        let mut out = Vec::with_capacity(64 + payload + names);
        let version = self.version_of(object);
        out.push(version);
        put_context(&mut out, object.context());
        put_varint(&mut out, object.cells().len() as u64);
        for (element, versions) in object.cells() {
            out.push(element.kind as u8);
            put_bytes(&mut out, &element.name);
            put_varint(&mut out, versions.len() as u64);
            for version in versions {
                put_version(&mut out, object.context(), version);
            }
        }
        if version != self.plain {
            put_resets(&mut out, object.resets(), version >= self.collection);
        }
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Decodes what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode(self, record: &[u8]) -> Result<Object, DecodeError> {
        let body_len = record
            .len()
            .checked_sub(CHECKSUM_LEN)
            .ok_or(DecodeError::Truncated)?;
        let (body, sum) = record.split_at(body_len);
        let mut r = Reader(body);
        let version = r.u8()?;
        if crc32fast::hash(body).to_le_bytes() != sum {
            return Err(DecodeError::Checksum);
        }
        let is_collection = [self.collection, self.wide, self.stream].contains(&version);
        if !is_collection && version != self.plain && version != self.full {
            return Err(DecodeError::Version(version));
        }
        let context = read_context(&mut r)?;
        // Names and values of collections are parts of one copy.
        let copy = is_collection.then(|| Bytes::copy_from_slice(r.0));
        let copy = copy.as_ref();
        if let Some(copy) = copy {
            r = Reader(copy);
        }
        let mut cells = Cells::new();
        for _ in 0..r.count(3)? {
            let kind = read_kind(r.u8()?)?;
            let name = owned(copy, r.bytes()?);
            let mut versions = Versions::new();
            for _ in 0..r.count(5)? {
                versions.push(read_version(&mut r, &context, copy)?);
            }
            cells.push((Element { kind, name }, versions));
        }
        let resets = if version == self.plain {
            Vec::new()
        } else {
            read_resets(&mut r, is_collection)?
        };
        if !r.0.is_empty() {
            return Err(DecodeError::Malformed);
        }
        let object = Object::from_parts(context, cells, resets).ok_or(DecodeError::Malformed)?;
        if self.version_of(&object) == version {
            Ok(object)
        } else {
            Err(DecodeError::Malformed)
        }
    }
}

/// Bytes that outlive what was read: a part of a copy of it, where there is one.
fn owned(copy: Option<&Bytes>, read: &[u8]) -> Bytes {
    match copy {
        Some(copy) => copy.slice_ref(read),
        None => Bytes::copy_from_slice(read),
    }
}

fn is_stream(object: &Object) -> bool {
    let mut cells = object.cells().iter();
    let mut resets = object.resets().iter();
    cells.any(|(e, _)| e.kind.shown() == Kind::Stream)
        || resets.any(|reset| reset.element.kind.shown() == Kind::Stream)
}

/// Whether nothing of it belongs to a collection.
fn is_string(object: &Object) -> bool {
    let is_string = |element: &Element| matches!(element.kind, Kind::String | Kind::Expiry);
    object.cells().iter().all(|(element, _)| is_string(element))
        && object.resets().iter().all(|r| r.element == Element::STRING)
}

/// Whether a change of its expiry names all that its writer had seen.
fn is_over_seen(object: &Object) -> bool {
    let ends = object.versions(&Element::EXPIRY).iter();
    let mut ends = ends.map(|version| &version.value.payload);
    ends.any(|payload| matches!(payload, Payload::Deadline(Over::Seen(_))))
}

/// Whether the first builds could have written it: no resets, no expiry that was changed, chains of one link.
fn is_plain(object: &Object) -> bool {
    let plain = |v: &Version| match &v.value.payload {
        Payload::Bytes(_) => true,
        Payload::Count(Contribution { chain, .. }) => *chain == v.dot.seq,
        Payload::Deadline(_) | Payload::Gone(_) => false,
    };
    object.resets().is_empty() && object.all_versions().all(plain)
}

fn put_resets(out: &mut Vec<u8>, resets: &[Reset], named: bool) {
    put_varint(out, resets.len() as u64);
    for reset in resets {
        if named {
            out.push(reset.element.kind as u8);
            put_bytes(out, &reset.element.name);
        }
        out.extend_from_slice(&reset.actor.0.to_le_bytes());
        put_varint(out, reset.seq);
        put_zigzag(out, reset.total);
    }
}

fn read_resets(r: &mut Reader<'_>, named: bool) -> Result<Vec<Reset>, DecodeError> {
    let mut resets = Vec::new();
    for _ in 0..r.count(10)? {
        let element = if named {
            let kind = read_kind(r.u8()?)?;
            let name = Bytes::copy_from_slice(r.bytes()?);
            Element { kind, name }
        } else {
            Element::STRING
        };
        resets.push(Reset {
            element,
            actor: ActorId(r.u64_le()?),
            seq: r.varint()?,
            total: r.zigzag()?,
        });
    }
    Ok(resets)
}

/// Appends a context.
pub fn put_context(out: &mut Vec<u8>, context: &Context) {
    put_varint(out, context.entries().len() as u64);
    for seen in context.entries() {
        out.extend_from_slice(&seen.actor.0.to_le_bytes());
        put_varint(out, seen.intervals.len() as u64);
        let mut end = 0;
        for interval in &seen.intervals {
            put_varint(out, interval.after - end);
            put_varint(out, interval.upto - interval.after);
            end = interval.upto;
        }
    }
}

/// Reads a context in canonical form.
pub fn read_context(r: &mut Reader<'_>) -> Result<Context, DecodeError> {
    let actors = r.count(11)?;
    read_actors(r, actors)
}

/// Reads what was seen of so many actors.
pub(super) fn read_actors(r: &mut Reader<'_>, actors: usize) -> Result<Context, DecodeError> {
    let mut context = Context::new();
    let mut last_actor = None;
    for _ in 0..actors {
        let actor = ActorId(r.u64_le()?);
        let intervals = r.count(2)?;
        if last_actor.is_some_and(|last| last >= actor) || intervals == 0 {
            return Err(DecodeError::Malformed);
        }
        last_actor = Some(actor);
        let mut end = 0u64;
        for nth in 0..intervals {
            let (gap, length) = (r.varint()?, r.varint()?);
            let after = end.checked_add(gap).ok_or(DecodeError::Malformed)?;
            let upto = after.checked_add(length).ok_or(DecodeError::Malformed)?;
            if length == 0 || (nth > 0 && gap == 0) {
                return Err(DecodeError::Malformed);
            }
            context.insert_interval(actor, after, upto);
            end = upto;
        }
    }
    Ok(context)
}

fn put_version(out: &mut Vec<u8>, context: &Context, version: &Version) {
    let index = context
        .entries()
        .binary_search_by_key(&version.dot.actor, |seen| seen.actor);
    put_varint(
        out,
        index.expect("a version's dot is in the context") as u64,
    );
    put_event(out, version);
}

/// Appends a version, but for its actor.
pub(super) fn put_event(out: &mut Vec<u8>, version: &Version) {
    put_varint(out, version.dot.seq);
    put_varint(out, version.at.0);
    let Value {
        payload,
        expires_at_ms,
    } = &version.value;
    let expiry = if expires_at_ms.is_some() {
        HAS_EXPIRY
    } else {
        0
    };
    let kind = match payload {
        Payload::Bytes(_) => 0,
        Payload::Count(Contribution { chain, .. }) if *chain == version.dot.seq => IS_COUNT,
        Payload::Count(_) => IS_COUNT | HAS_CHAIN,
        Payload::Deadline(Over::Dots(_)) => IS_DEADLINE,
        Payload::Deadline(Over::Seen(_)) => IS_DEADLINE | IS_OVER_SEEN,
        Payload::Gone(None) => IS_GONE,
        Payload::Gone(Some(_)) => IS_GONE | IS_COUNT,
    };
    out.push(expiry | kind);
    if let Some(at) = expires_at_ms {
        put_varint(out, *at);
    }
    match payload {
        Payload::Gone(None) => {}
        Payload::Gone(Some(Contribution { total, chain })) => {
            put_varint(out, version.dot.seq - chain);
            put_zigzag(out, *total);
        }
        Payload::Bytes(bytes) => put_bytes(out, bytes),
        Payload::Count(Contribution { total, chain }) => {
            if kind & HAS_CHAIN != 0 {
                put_varint(out, version.dot.seq - chain);
            }
            put_zigzag(out, *total);
        }
        Payload::Deadline(Over::Seen(seen)) => put_context(out, seen),
        Payload::Deadline(Over::Dots(over)) => {
            put_varint(out, over.len() as u64);
            for dot in over {
                out.extend_from_slice(&dot.actor.0.to_le_bytes());
                put_varint(out, dot.seq);
            }
        }
    }
}

fn read_version(
    r: &mut Reader<'_>,
    context: &Context,
    copy: Option<&Bytes>,
) -> Result<Version, DecodeError> {
    let index = usize::try_from(r.varint()?).map_err(|_| DecodeError::Malformed)?;
    let actor = context
        .entries()
        .get(index)
        .ok_or(DecodeError::Malformed)?
        .actor;
    read_event(r, actor, copy)
}

/// Reads a version of an actor.
pub(super) fn read_event(
    r: &mut Reader<'_>,
    actor: ActorId,
    copy: Option<&Bytes>,
) -> Result<Version, DecodeError> {
    let dot = Dot {
        actor,
        seq: r.varint()?,
    };
    let at = Timestamp(r.varint()?);
    let flags = r.u8()?;
    let expires_at_ms = if flags & HAS_EXPIRY == 0 {
        None
    } else {
        Some(r.varint()?)
    };
    let payload = match flags & !HAS_EXPIRY {
        0 => Payload::Bytes(owned(copy, r.bytes()?)),
        IS_COUNT => Payload::Count(Contribution {
            total: r.zigzag()?,
            chain: dot.seq,
        }),
        flags if flags == IS_COUNT | HAS_CHAIN => {
            let links = r.varint()?;
            if links == 0 {
                return Err(DecodeError::Malformed);
            }
            Payload::Count(Contribution {
                chain: dot.seq.checked_sub(links).ok_or(DecodeError::Malformed)?,
                total: r.zigzag()?,
            })
        }
        IS_DEADLINE => Payload::Deadline(Over::Dots(read_over(r)?)),
        flags if flags == IS_DEADLINE | IS_OVER_SEEN => {
            Payload::Deadline(Over::Seen(Box::new(read_context(r)?)))
        }
        IS_GONE => Payload::Gone(None),
        flags if flags == IS_GONE | IS_COUNT => {
            let links = r.varint()?;
            Payload::Gone(Some(Contribution {
                chain: dot.seq.checked_sub(links).ok_or(DecodeError::Malformed)?,
                total: r.zigzag()?,
            }))
        }
        _ => return Err(DecodeError::Malformed),
    };
    Ok(Version {
        dot,
        at,
        value: Value {
            payload,
            expires_at_ms,
        },
    })
}

fn read_over(r: &mut Reader<'_>) -> Result<Box<[Dot]>, DecodeError> {
    let read = |r: &mut Reader<'_>| {
        Ok(Dot {
            actor: ActorId(r.u64_le()?),
            seq: r.varint()?,
        })
    };
    (0..r.count(9)?).map(|_| read(r)).collect()
}

/// A type by its number.
pub fn read_kind(raw: u8) -> Result<Kind, DecodeError> {
    match raw {
        1 => Ok(Kind::String),
        2 => Ok(Kind::Hash),
        3 => Ok(Kind::Set),
        4 => Ok(Kind::Zset),
        5 => Ok(Kind::List),
        6 => Ok(Kind::Stream),
        7 => Ok(Kind::StreamState),
        255 => Ok(Kind::Expiry),
        _ => Err(DecodeError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A context from actors with pairs of a gap and a length.
    fn context(actors: &[(u64, &[(u64, u64)])]) -> Result<Context, DecodeError> {
        let mut raw = Vec::new();
        put_varint(&mut raw, actors.len() as u64);
        for (actor, intervals) in actors {
            raw.extend_from_slice(&actor.to_le_bytes());
            put_varint(&mut raw, intervals.len() as u64);
            for (gap, length) in *intervals {
                put_varint(&mut raw, *gap);
                put_varint(&mut raw, *length);
            }
        }
        let read = read_context(&mut Reader(&raw))?;
        let mut again = Vec::new();
        put_context(&mut again, &read);
        assert_eq!(again, raw, "it is canonical");
        Ok(read)
    }

    #[test]
    fn a_context_reads_in_canonical_form_alone() {
        assert!(context(&[]).is_ok());
        assert!(context(&[(1, &[(0, 1)]), (2, &[(3, 1), (1, 2)])]).is_ok());
        let most = u64::MAX;
        for wrong in [
            &[(2, &[(0, 1)][..]), (1, &[(0, 1)])][..],
            &[(1, &[(0, 1)]), (1, &[(5, 1)])],
            &[(1, &[])],
            &[(1, &[(0, 0)])],
            &[(1, &[(0, 1), (0, 1)])],
            &[(1, &[(0, 1), (1, 0)])],
            &[(1, &[(most, 1)])],
            &[(1, &[(1, most)])],
        ] {
            assert!(context(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_row_and_a_message_say_which_version_they_are_of() {
        let mut delta = Object::delta(ActorId(1), 0);
        let value = Value {
            payload: Payload::Deadline(Over::default()),
            expires_at_ms: None,
        };
        delta.put(1, Timestamp(1), &Element::EXPIRY, value);
        let full = WIRE.encode(&delta.finish());
        assert!(WIRE.is_full(&full) && !WIRE.is_full(&[]));
        for (chain, is_full) in [(5, false), (4, true)] {
            let mut delta = Object::delta(ActorId(1), 0);
            let value = Value {
                payload: Payload::Count(Contribution { total: 1, chain }),
                expires_at_ms: None,
            };
            delta.put(5, Timestamp(1), &Element::STRING, value);
            let counted = WIRE.encode(&delta.finish());
            assert_eq!(
                WIRE.is_full(&counted),
                is_full,
                "a chain of one link is old"
            );
        }
        let plain = ROW.encode(&Object::default());
        assert!(!ROW.is_full(&plain) && !WIRE.is_full(&WIRE.encode(&Object::default())));
        let mut other = plain.clone();
        other[0] = 4;
        let body = other.len() - CHECKSUM_LEN;
        assert_eq!(ROW.decode(&other), Err(DecodeError::Checksum));
        let sum = crc32fast::hash(&other[..body]).to_le_bytes();
        other[body..].copy_from_slice(&sum);
        assert_eq!(ROW.decode(&other), Err(DecodeError::Version(4)));
        assert_eq!(ROW.decode(&plain[..3]), Err(DecodeError::Truncated));
    }
}
