//! How an object is written down: one versioned, checksummed record.
//!
//! ```text
//! version u8 | actors: n, then n x (id u64le, intervals: n, then n x (gap, length))
//!            | cells: n, then n x (kind u8, name, versions: n, then n x (actor, seq, time,
//!              flags u8, [expiry], payload))
//!            | crc32 u32le
//! ```
//!
//! Numbers are varints, `actor` is an index into the table above. The encoding is canonical: equal
//! objects have equal bytes, and the decoder accepts only what the encoder writes. It reads hostile
//! input without panic and without allocating more than the input's own size.

use bytes::Bytes;
use smallvec::SmallVec;

use super::causal::{
    ActorId, Context, Dot, Element, Kind, Object, Payload, Timestamp, Value, Version, Versions,
};
use super::codec::{DecodeError, Reader, put_bytes, put_varint, put_zigzag};

const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 4;
const HAS_EXPIRY: u8 = 1;
const IS_COUNT: u8 = 2;

/// Encodes an object with its checksum.
pub fn encode(object: &Object) -> Vec<u8> {
    let payload: usize = object
        .all_versions()
        .map(|v| match &v.value.payload {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Count(_) => 10,
        })
        .sum();
    let mut out = Vec::with_capacity(64 + payload);
    out.push(VERSION);
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
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// Decodes what [`encode`] wrote; anything else is an error.
pub fn decode(row: &[u8]) -> Result<Object, DecodeError> {
    let body_len = row
        .len()
        .checked_sub(CHECKSUM_LEN)
        .ok_or(DecodeError::Truncated)?;
    let (body, sum) = row.split_at(body_len);
    let mut r = Reader(body);
    let version = r.u8()?;
    if crc32fast::hash(body).to_le_bytes() != sum {
        return Err(DecodeError::Checksum);
    }
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let context = read_context(&mut r)?;
    let mut cells = SmallVec::new();
    for _ in 0..r.count(3)? {
        let kind = read_kind(r.u8()?)?;
        let name = Bytes::copy_from_slice(r.bytes()?);
        let mut versions = Versions::new();
        for _ in 0..r.count(5)? {
            versions.push(read_version(&mut r, &context)?);
        }
        cells.push((Element { kind, name }, versions));
    }
    if !r.0.is_empty() {
        return Err(DecodeError::Malformed);
    }
    Object::from_parts(context, cells).ok_or(DecodeError::Malformed)
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
    let mut context = Context::new();
    let mut last_actor = None;
    for _ in 0..r.count(11)? {
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
        .iter()
        .position(|s| s.actor == version.dot.actor);
    put_varint(
        out,
        index.expect("a version's dot is in the context") as u64,
    );
    put_varint(out, version.dot.seq);
    put_varint(out, version.at.0);
    let expiry = version.value.expires_at_ms;
    let count = matches!(version.value.payload, Payload::Count(_));
    out.push(if expiry.is_some() { HAS_EXPIRY } else { 0 } | if count { IS_COUNT } else { 0 });
    if let Some(at) = expiry {
        put_varint(out, at);
    }
    match &version.value.payload {
        Payload::Bytes(bytes) => put_bytes(out, bytes),
        Payload::Count(amount) => put_zigzag(out, *amount),
    }
}

fn read_version(r: &mut Reader<'_>, context: &Context) -> Result<Version, DecodeError> {
    let index = usize::try_from(r.varint()?).map_err(|_| DecodeError::Malformed)?;
    let actor = context
        .entries()
        .get(index)
        .ok_or(DecodeError::Malformed)?
        .actor;
    let dot = Dot {
        actor,
        seq: r.varint()?,
    };
    let at = Timestamp(r.varint()?);
    let flags = r.u8()?;
    if flags & !(HAS_EXPIRY | IS_COUNT) != 0 {
        return Err(DecodeError::Malformed);
    }
    let expires_at_ms = if flags & HAS_EXPIRY == 0 {
        None
    } else {
        Some(r.varint()?)
    };
    let payload = if flags & IS_COUNT == 0 {
        Payload::Bytes(Bytes::copy_from_slice(r.bytes()?))
    } else {
        Payload::Count(r.zigzag()?)
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

fn read_kind(raw: u8) -> Result<Kind, DecodeError> {
    match raw {
        1 => Ok(Kind::String),
        _ => Err(DecodeError::Malformed),
    }
}
