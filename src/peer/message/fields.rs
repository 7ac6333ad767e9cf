//! The parts that messages have in common, as bytes.

use bytes::Bytes;

use super::version::{LOSSES, PLACES, UNKNOWN_VIEW, VIEWS};
use super::wire::{WireKey, Wrote};
use crate::logic::causal::{ActorId, Dot, Element, Timestamp};
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::membership::{
    Digest, MEMBER_AS_BEFORE, MEMBER_VERSION, MEMBER_WITHOUT_LOSSES, Member, decode_member,
    encode_member, encode_member_as_before, encode_member_without_losses,
};
use crate::logic::place;
use crate::logic::placement::NodeId;
use crate::logic::record::read_kind;

/// Members or digests in one message.
const MAX_MEMBERS: usize = 16_384;

pub(super) fn finish<T>(r: &Reader<'_>, message: T) -> Result<T, DecodeError> {
    if r.0.is_empty() {
        Ok(message)
    } else {
        Err(DecodeError::Malformed)
    }
}

pub(super) fn put_key(out: &mut Vec<u8>, key: &WireKey) {
    out.push(key.db);
    put_bytes(out, &key.name);
}

pub(super) fn read_key(r: &mut Reader<'_>) -> Result<WireKey, DecodeError> {
    Ok(WireKey {
        db: r.u8()?,
        name: read_bytes(r)?,
    })
}

/// A place in the order of keys, where a page begins.
pub(super) fn put_place(out: &mut Vec<u8>, place: &[u8], wire: u16) {
    if wire < PLACES {
        put_bytes(out, &place::without_length(place));
    } else {
        put_bytes(out, place);
    }
}

pub(super) fn read_place(r: &mut Reader<'_>, wire: u16) -> Result<Bytes, DecodeError> {
    let place = read_bytes(r)?;
    Ok(if wire < PLACES {
        place::with_length(&place).into()
    } else {
        place
    })
}

pub(super) fn put_dots(out: &mut Vec<u8>, dots: &[Dot]) {
    put_varint(out, dots.len() as u64);
    for dot in dots {
        out.extend_from_slice(&dot.actor.0.to_le_bytes());
        put_varint(out, dot.seq);
    }
}

pub(super) fn read_dots(r: &mut Reader<'_>) -> Result<Vec<Dot>, DecodeError> {
    let count = r.count(9)?;
    let dot = |_| {
        Ok(Dot {
            actor: ActorId(r.u64_le()?),
            seq: r.varint()?,
        })
    };
    (0..count).map(dot).collect()
}

/// Names of elements, or that nobody says them.
pub(super) fn put_elements(out: &mut Vec<u8>, elements: Option<&[Element]>) {
    out.push(u8::from(elements.is_some()));
    let Some(elements) = elements else { return };
    put_varint(out, elements.len() as u64);
    for element in elements {
        out.push(element.kind as u8);
        put_bytes(out, &element.name);
    }
}

pub(super) fn read_elements(r: &mut Reader<'_>) -> Result<Option<Vec<Element>>, DecodeError> {
    if r.u8()? == 0 {
        return Ok(None);
    }
    let count = r.count(2)?;
    let element = |_| {
        let kind = read_kind(r.u8()?)?;
        let name = read_bytes(r)?;
        Ok(Element { kind, name })
    };
    (0..count).map(element).collect::<Result<_, _>>().map(Some)
}

pub(super) fn put_objects(out: &mut Vec<u8>, objects: &[(WireKey, Bytes)]) {
    put_varint(out, objects.len() as u64);
    for (key, object) in objects {
        put_key(out, key);
        put_bytes(out, object);
    }
}

pub(super) fn read_objects(r: &mut Reader<'_>) -> Result<Vec<(WireKey, Bytes)>, DecodeError> {
    let count = r.count(3)?;
    (0..count)
        .map(|_| Ok((read_key(r)?, read_bytes(r)?)))
        .collect()
}

pub(super) fn read_u16(r: &mut Reader<'_>) -> Result<u16, DecodeError> {
    u16::try_from(r.varint()?).map_err(|_| DecodeError::Malformed)
}

pub(super) fn read_u32_le(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let raw = r.take(4)?.first_chunk().ok_or(DecodeError::Malformed)?;
    Ok(u32::from_le_bytes(*raw))
}

pub(super) fn read_u32(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    u32::try_from(r.varint()?).map_err(|_| DecodeError::Malformed)
}

pub(super) fn put_wrote(out: &mut Vec<u8>, dots: &[Wrote]) {
    put_varint(out, dots.len() as u64);
    for Wrote { db, name, dot, at } in dots {
        out.push(*db);
        put_bytes(out, name);
        out.extend_from_slice(&dot.actor.0.to_le_bytes());
        put_varint(out, dot.seq);
        out.extend_from_slice(&at.0.to_le_bytes());
    }
}

pub(super) fn read_wrote(r: &mut Reader<'_>) -> Result<Vec<Wrote>, DecodeError> {
    let count = r.count(19)?;
    let one = |_| {
        let (db, name) = (r.u8()?, read_bytes(r)?);
        let (actor, seq) = (ActorId(r.u64_le()?), r.varint()?);
        Ok(Wrote {
            db,
            name,
            dot: Dot { actor, seq },
            at: Timestamp(r.u64_le()?),
        })
    };
    (0..count).map(one).collect()
}

/// Copied: a message's buffer must not be kept alive by one of its parts.
pub(super) fn read_bytes(r: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    Ok(Bytes::copy_from_slice(r.bytes()?))
}

pub(super) fn put_node(out: &mut Vec<u8>, node: Option<NodeId>) {
    out.push(u8::from(node.is_some()));
    if let Some(node) = node {
        out.extend_from_slice(&node.0.to_le_bytes());
    }
}

pub(super) fn read_node(r: &mut Reader<'_>) -> Result<Option<NodeId>, DecodeError> {
    match r.u8()? {
        0 => Ok(None),
        1 => Ok(Some(NodeId(r.u64_le()?))),
        _ => Err(DecodeError::Malformed),
    }
}

pub(super) fn read_nodes(r: &mut Reader<'_>) -> Result<Vec<NodeId>, DecodeError> {
    let count = r.count(8)?;
    (0..count).map(|_| Ok(NodeId(r.u64_le()?))).collect()
}

pub(super) fn put_digest(out: &mut Vec<u8>, digest: &[Digest], wire: u16) {
    put_varint(out, digest.len() as u64);
    for d in digest {
        out.extend_from_slice(&d.id.0.to_le_bytes());
        put_varint(out, d.incarnation);
        put_varint(out, d.version);
        put_varint(out, d.heartbeat);
        put_varint(out, d.joined);
        out.push(u8::from(d.left));
        if wire >= VIEWS {
            out.extend_from_slice(&d.facts.unwrap_or(0).to_le_bytes());
        }
    }
}

pub(super) fn read_digest(r: &mut Reader<'_>, wire: u16) -> Result<Vec<Digest>, DecodeError> {
    let count = r.count(13)?;
    if count > MAX_MEMBERS {
        return Err(DecodeError::Malformed);
    }
    let one = |_| {
        Ok(Digest {
            id: NodeId(r.u64_le()?),
            incarnation: r.varint()?,
            version: r.varint()?,
            heartbeat: r.varint()?,
            joined: r.varint()?,
            left: r.u8()? != 0,
            facts: (wire >= VIEWS).then(|| read_u32_le(r)).transpose()?,
        })
    };
    (0..count).map(one).collect()
}

pub(super) fn put_member(out: &mut Vec<u8>, member: &Member, wire: u16) {
    let raw = if wire >= LOSSES {
        encode_member(member)
    } else if wire >= VIEWS {
        encode_member_without_losses(member)
    } else {
        encode_member_as_before(member)
    };
    put_bytes(out, &raw);
}

pub(super) fn put_members(out: &mut Vec<u8>, members: &[Member], wire: u16) {
    put_varint(out, members.len() as u64);
    for member in members {
        put_member(out, member, wire);
    }
}

/// Reads one member. What this wire's nodes never heard of does not travel on it: what is written in a way
/// that came later is refused, for it could not be passed on as it is.
pub(super) fn read_member(r: &mut Reader<'_>, wire: u16) -> Result<Member, DecodeError> {
    let raw = r.bytes()?;
    let newest = if wire >= LOSSES {
        MEMBER_VERSION
    } else if wire >= VIEWS {
        MEMBER_WITHOUT_LOSSES
    } else {
        MEMBER_AS_BEFORE
    };
    match raw.first() {
        Some(&version) if version > newest => Err(DecodeError::Version(version)),
        _ => decode_member(raw),
    }
}

pub(super) fn read_members(r: &mut Reader<'_>, wire: u16) -> Result<Vec<Member>, DecodeError> {
    let count = r.count(26)?;
    if count > MAX_MEMBERS {
        return Err(DecodeError::Malformed);
    }
    (0..count).map(|_| read_member(r, wire)).collect()
}

pub(super) fn read_view(r: &mut Reader<'_>, wire: u16) -> Result<u64, DecodeError> {
    if wire >= VIEWS {
        r.u64_le()
    } else {
        Ok(UNKNOWN_VIEW)
    }
}

pub(super) fn put_view(out: &mut Vec<u8>, view: u64, wire: u16) {
    if wire >= VIEWS {
        out.extend_from_slice(&view.to_le_bytes());
    }
}
