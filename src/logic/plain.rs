//! The common row, read and changed as it is written down: one value of one write, of a string or of a
//! counter. No object is made of it, and nothing is allocated.
//!
//! Rows of any other shape are left to `record` and `edit`. Where both can, both write the same bytes.

use super::causal::{ActorId, Context, Contribution, Dot, Kind, Timestamp};
use super::codec::{Reader, put_bytes, put_varint, put_zigzag};
use super::record::{
    CHECKSUM_LEN, Format, HAS_CHAIN, HAS_EXPIRY, IS_COUNT, ROW, put_context, read_actors,
};

/// A row that has one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    seen: Seen<'a>,
    /// The write.
    pub dot: Dot,
    /// When.
    pub at: Timestamp,
    /// What.
    pub holds: Holds<'a>,
    /// When it ends, in milliseconds since the epoch.
    pub expires_at_ms: Option<u64>,
}

/// The value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// What one actor has counted.
    Count(Contribution),
}

/// A context as it is written down, behind the number of its actors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen<'a> {
    actors: u64,
    raw: &'a [u8],
}

/// What was seen of one actor.
#[derive(Clone, Copy)]
struct SeenOf<'a> {
    actor: ActorId,
    raw: &'a [u8],
    /// All but the last interval.
    before: &'a [u8],
    gap: u64,
    length: u64,
    /// The last dot.
    upto: u64,
}

/// Reads a row; `None` where it is none of these, or damaged: `record` tells.
pub fn read(row: &[u8]) -> Option<Plain<'_>> {
    read_as(ROW, row)
}

/// The same of a record of some format.
pub fn read_as(format: Format, row: &[u8]) -> Option<Plain<'_>> {
    let (body, sum) = row.split_at_checked(row.len().checked_sub(CHECKSUM_LEN)?)?;
    if crc32fast::hash(body).to_le_bytes() != *sum {
        return None;
    }
    let mut r = Reader(body);
    let is_full = match r.u8().ok()? {
        version if version == format.plain => false,
        version if version == format.full => true,
        _ => return None,
    };
    let seen = Seen::read(&mut r)?;
    // One cell, of a string, without a name, with one version.
    if r.u8().ok()? != 1
        || r.u8().ok()? != Kind::String as u8
        || r.u8().ok()? != 0
        || r.u8().ok()? != 1
    {
        return None;
    }
    let index = usize::try_from(r.varint().ok()?).ok()?;
    let dot = Dot {
        actor: seen.iter().nth(index)?.actor,
        seq: r.varint().ok()?,
    };
    let at = Timestamp(r.varint().ok()?);
    let flags = r.u8().ok()?;
    let expires_at_ms = match flags & HAS_EXPIRY {
        0 => None,
        _ => Some(r.varint().ok()?),
    };
    let holds = match flags & !HAS_EXPIRY {
        0 if !is_full => Holds::Bytes(r.bytes().ok()?),
        IS_COUNT if !is_full => Holds::Count(Contribution {
            total: r.zigzag().ok()?,
            chain: dot.seq,
        }),
        flags if flags == IS_COUNT | HAS_CHAIN && is_full => Holds::Count(Contribution {
            chain: chain_before(dot.seq, r.varint().ok()?)?,
            total: r.zigzag().ok()?,
        }),
        _ => return None,
    };
    // No resets.
    let is_whole = if is_full { r.0 == [0] } else { r.0.is_empty() };
    is_whole.then_some(Plain {
        seen,
        dot,
        at,
        holds,
        expires_at_ms,
    })
}

/// The first dot of a chain of so many links: it has at least one, and no chain begins before the first dot.
fn chain_before(seq: u64, links: u64) -> Option<u64> {
    let chain = seq.checked_sub(links)?;
    (links > 0 && chain > 0).then_some(chain)
}

/// Appends the row that is left of another when one value is written over everything that was seen there.
/// The writer's dots since its last one here are its.
pub fn write(
    out: &mut Vec<u8>,
    over: Option<&Plain<'_>>,
    (dot, at): (Dot, Timestamp),
    holds: Holds<'_>,
    expires_at_ms: Option<u64>,
) {
    let start = out.len();
    out.push(version(ROW, dot, holds));
    let seen = over.map_or_else(Seen::default, |row| row.seen);
    let index = seen.put_with(out, dot.actor, dot.seq);
    put_value(out, index, (dot, at), holds, expires_at_ms);
    put_sum(out, start);
}

/// Appends the record of one value, of whose key a context was seen, the value's dot in it.
pub fn write_with(
    out: &mut Vec<u8>,
    (format, seen): (Format, &Context),
    (dot, at): (Dot, Timestamp),
    holds: Holds<'_>,
    expires_at_ms: Option<u64>,
) {
    let start = out.len();
    out.push(version(format, dot, holds));
    put_context(out, seen);
    let before = seen.actor_ids().take_while(|actor| *actor < dot.actor);
    let index = before.count() as u64;
    put_value(out, index, (dot, at), holds, expires_at_ms);
    put_sum(out, start);
}

/// How many numbers of dots are between a counter's first one and a dot.
fn links(dot: Dot, holds: Holds<'_>) -> u64 {
    match holds {
        Holds::Bytes(_) => 0,
        Holds::Count(Contribution { chain, .. }) => dot.seq - chain,
    }
}

fn version(format: Format, dot: Dot, holds: Holds<'_>) -> u8 {
    if links(dot, holds) == 0 {
        format.plain
    } else {
        format.full
    }
}

fn put_value(
    out: &mut Vec<u8>,
    index: u64,
    (dot, at): (Dot, Timestamp),
    holds: Holds<'_>,
    expires_at_ms: Option<u64>,
) {
    let links = links(dot, holds);
    out.extend_from_slice(&[1, Kind::String as u8, 0, 1]);
    put_varint(out, index);
    put_varint(out, dot.seq);
    put_varint(out, at.0);
    let kind = match holds {
        Holds::Bytes(_) => 0,
        Holds::Count(_) if links == 0 => IS_COUNT,
        Holds::Count(_) => IS_COUNT | HAS_CHAIN,
    };
    out.push(
        kind | if expires_at_ms.is_some() {
            HAS_EXPIRY
        } else {
            0
        },
    );
    if let Some(at) = expires_at_ms {
        put_varint(out, at);
    }
    match holds {
        Holds::Bytes(bytes) => put_bytes(out, bytes),
        Holds::Count(Contribution { total, .. }) => {
            if links > 0 {
                put_varint(out, links);
            }
            put_zigzag(out, total);
        }
    }
    if links > 0 {
        put_varint(out, 0);
    }
}

fn put_sum(out: &mut Vec<u8>, start: usize) {
    let sum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

impl Plain<'_> {
    /// What was seen of the key; `None` where that is not written as it should be, or the value is not of it.
    pub fn context(&self) -> Option<Context> {
        let mut r = Reader(self.seen.raw);
        let actors = usize::try_from(self.seen.actors).ok()?;
        let context = read_actors(&mut r, actors).ok()?;
        (r.0.is_empty() && context.contains(self.dot)).then_some(context)
    }
}

impl<'a> Seen<'a> {
    fn read(r: &mut Reader<'a>) -> Option<Self> {
        let actors = r.count(11).ok()? as u64;
        let raw = r.0;
        for _ in 0..actors {
            SeenOf::read(r)?;
        }
        let raw = &raw[..raw.len() - r.0.len()];
        Some(Self { actors, raw })
    }

    fn iter(self) -> impl Iterator<Item = SeenOf<'a>> {
        let mut r = Reader(self.raw);
        (0..self.actors).map_while(move |_| SeenOf::read(&mut r))
    }

    /// Appends it with an actor's dots from its last one up to another; which actor that is in it.
    fn put_with(self, out: &mut Vec<u8>, actor: ActorId, upto: u64) -> u64 {
        let place = self.iter().take_while(|seen| seen.actor < actor).count() as u64;
        let is_known = self.iter().any(|seen| seen.actor == actor);
        put_varint(out, self.actors + u64::from(!is_known));
        for (nth, seen) in (0..).zip(self.iter()) {
            if nth == place {
                if is_known {
                    out.extend_from_slice(seen.before);
                    put_varint(out, seen.gap);
                    put_varint(out, seen.length + (upto - seen.upto));
                    continue;
                }
                put_new(out, actor, upto);
            }
            out.extend_from_slice(seen.raw);
        }
        if place == self.actors {
            put_new(out, actor, upto);
        }
        place
    }
}

fn put_new(out: &mut Vec<u8>, actor: ActorId, upto: u64) {
    out.extend_from_slice(&actor.0.to_le_bytes());
    // One interval, from the first dot on.
    out.extend_from_slice(&[1, 0]);
    put_varint(out, upto);
}

impl<'a> SeenOf<'a> {
    fn read(r: &mut Reader<'a>) -> Option<Self> {
        let all = r.0;
        let upto = |r: &Reader<'_>| all.len() - r.0.len();
        let actor = ActorId(r.u64_le().ok()?);
        let intervals = r.count(2).ok()?;
        let (mut before, mut gap, mut length, mut last) = (0, 0, 0, 0_u64);
        for _ in 0..intervals {
            before = upto(r);
            (gap, length) = (r.varint().ok()?, r.varint().ok()?);
            last = last.checked_add(gap)?.checked_add(length)?;
        }
        (intervals > 0).then(|| Self {
            actor,
            raw: &all[..upto(r)],
            before: &all[..before],
            gap,
            length,
            upto: last,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logic::causal::{Element, Object, Payload, Value};
    use crate::logic::edit::{Edit, Stamp};

    /// What a write does by way of an object, where nobody else has the key.
    fn by_object(row: Option<&[u8]>, edit: &Edit, (dot, at): (Dot, Timestamp)) -> Vec<u8> {
        let object = row.map_or_else(Object::default, |row| ROW.decode(row).expect("a row"));
        let stamp = Stamp {
            actor: dot.actor,
            previous: object.context().last(dot.actor),
            first_seq: dot.seq,
            at,
            now_ms: 0,
        };
        let mut delta = edit.delta(&object, stamp);
        delta.forget_resets();
        ROW.encode(&object.joined(delta))
    }

    fn put(bytes: &[u8], expires_at_ms: Option<u64>) -> Edit {
        let payload = Payload::Bytes(bytes.to_vec().into());
        let value = Value {
            payload,
            expires_at_ms,
        };
        Edit::put(Element::STRING, value)
    }

    proptest! {
        #[test]
        fn a_row_that_is_changed_in_place_is_that_of_the_changed_object(
            steps in prop::collection::vec((1..4u64, 1..400u64, 0..6u8, 0..300usize), 1..12),
        ) {
            let mut row: Option<Vec<u8>> = None;
            let mut seq = 0;
            let mut plain_ones = 0;
            for (actor, gap, what, len) in steps {
                seq += gap;
                let dot = Dot { actor: ActorId(actor), seq };
                let stamp = (dot, Timestamp(seq * 3));
                let bytes = vec![7; len];
                let expires = (what == 1).then_some(len as u64);
                let edit = match what {
                    0 | 1 => put(&bytes, expires),
                    2..=4 => Edit::Count(Element::STRING, len as i64 - 100),
                    _ => Edit::delete(),
                };
                let expected = by_object(row.as_deref(), &edit, stamp);
                let over = row.as_deref().map(read);
                let holds = match (what, over) {
                    (0 | 1, None | Some(Some(_))) => Some(Holds::Bytes(&bytes)),
                    (2..=4, None) => Some(Holds::Count(Contribution {
                        total: len as i64 - 100,
                        chain: seq,
                    })),
                    (2..=4, Some(Some(Plain { holds: Holds::Count(before), dot, .. })))
                        if dot.actor == ActorId(actor) =>
                    {
                        let total = before.total + len as i64 - 100;
                        Some(Holds::Count(Contribution { total, ..before }))
                    }
                    _ => None,
                };
                if let Some(holds) = holds {
                    let mut out = b"before".to_vec();
                    write(&mut out, over.flatten().as_ref(), stamp, holds, expires);
                    prop_assert_eq!(&out[6..], &expected[..]);
                    let again = read(&out[6..]).expect("it is one");
                    prop_assert_eq!((again.dot, again.at), stamp);
                    prop_assert_eq!((again.holds, again.expires_at_ms), (holds, expires));
                    plain_ones += 1;
                }
                row = Some(expected);
            }
            prop_assert!(plain_ones > 0 || row.is_some());
        }

        #[test]
        fn a_row_is_written_with_what_was_seen_as_its_object_is(
            actors in prop::collection::btree_map(1..5u64, (0..9u64, 1..9u64, 0..3u64), 1..4),
            nth in 0..4usize, len in 0..200usize, expires in prop::option::of(1..99u64), counts in any::<bool>(),
        ) {
            let mut seen = Context::new();
            for (actor, (after, length, gap)) in &actors {
                seen.insert_interval(ActorId(*actor), *after, after + length);
                seen.insert_interval(ActorId(*actor), after + length + gap, after + length + gap + 1);
            }
            let (actor, (after, length, _)) = actors.iter().nth(nth % actors.len()).expect("one");
            let dot = Dot { actor: ActorId(*actor), seq: after + length };
            let bytes = vec![5; len];
            let chain = dot.seq - 1.min(after + length - 1);
            let total = len as i64 - 9;
            let holds = if counts {
                Holds::Count(Contribution { total, chain })
            } else {
                Holds::Bytes(&bytes)
            };
            let payload = match holds {
                Holds::Bytes(bytes) => Payload::Bytes(bytes.to_vec().into()),
                Holds::Count(count) => Payload::Count(count),
            };
            let expires_at_ms = expires.filter(|_| !counts);
            let mut object = Object::delta(dot.actor, *after);
            object.observe(&seen);
            object.place(dot.seq, Timestamp(77), &Element::STRING, Value { payload, expires_at_ms });
            let object = object.finish();
            let mut raw = Vec::new();
            write_with(&mut raw, (ROW, &seen), (dot, Timestamp(77)), holds, expires_at_ms);
            prop_assert_eq!(&raw, &ROW.encode(&object));
            let read = read(&raw).expect("it is one");
            prop_assert_eq!(read.context(), Some(seen));
            prop_assert_eq!((read.dot, read.holds, read.expires_at_ms), (dot, holds, expires_at_ms));
        }

        #[test]
        fn what_is_read_in_place_an_object_can_be_made_of(
            seq in 1..300u64, chain in 0..300u64, len in 0..40usize, counts in any::<bool>(),
            at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let dot = Dot { actor: ActorId(1), seq };
            let bytes = vec![5; len];
            let chain = chain.min(seq);
            let holds = if counts {
                Holds::Count(Contribution { total: 3, chain })
            } else {
                Holds::Bytes(&bytes)
            };
            let mut row = Vec::new();
            write(&mut row, None, (dot, Timestamp(9)), holds, None);
            row.truncate(row.len() - CHECKSUM_LEN);
            let at = at.index(row.len());
            row[at] = byte;
            let sum = crc32fast::hash(&row).to_le_bytes();
            row.extend_from_slice(&sum);
            if read(&row).and_then(|row| row.context()).is_some() {
                prop_assert!(ROW.decode(&row).is_ok());
            }
        }

        #[test]
        fn what_is_read_is_what_the_object_has(raw in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut row = raw;
            let sum = crc32fast::hash(&row).to_le_bytes();
            row.extend_from_slice(&sum);
            // It may be looser about what nobody writes, and must not panic.
            if let Some(row) = read(&row) {
                let _ = row.context();
            }
        }
    }

    #[test]
    fn a_damaged_row_is_none() {
        let stamp = (
            Dot {
                actor: ActorId(1),
                seq: 9,
            },
            Timestamp(5),
        );
        let mut row = Vec::new();
        write(&mut row, None, stamp, Holds::Bytes(b"value"), None);
        assert!(read(&row).is_some());
        for at in 0..row.len() {
            let mut spoilt = row.clone();
            spoilt[at] ^= 4;
            assert!(read(&spoilt).is_none());
            assert!(read(&row[..at]).is_none());
        }
    }
}
