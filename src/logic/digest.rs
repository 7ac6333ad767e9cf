//! Digests of objects: additive over elements, so that a change of one element changes the digest by
//! what that element alone is worth.
//!
//! Of elements that are not at hand the sum is known.
//!
//! A dot names one write of one value, so digests are of dots and not of values: equal dots mean equal
//! values. Lengths go before names, so that no two lists of names read alike.

use smallvec::SmallVec;

use super::causal::{Context, Dot, Element, Kind, Object, Payload, Reset, Version};
use super::placement::key_hash;

/// Tells digests of this kind from those of other builds, with which they cannot be compared.
pub const VERSION: u64 = 3;

/// Tells a value that was reclaimed from one that is there.
const GONE: u8 = 0xff;
/// The same, where it is known what it had added to a counter.
const GONE_COUNT: u8 = 0xfe;
/// What is hashed beside elements, in the place of their kind.
const RESET: u8 = 0xfd;
const CONTEXT: u8 = 0xfc;

type Buffer = SmallVec<[u8; 192]>;

/// Of what lives at a place; 0 where nothing does.
pub fn of_living(place: &[u8], object: &Object) -> u64 {
    if object.is_tombstone() {
        return 0;
    }
    let mut raw = Buffer::from_slice(place);
    put(&mut raw, sum(object));
    key_hash(&raw)
}

/// The same where one value of a string lives, by its dot.
pub fn of_plain(place: &[u8], dot: Dot) -> u64 {
    let mut raw = Buffer::from_slice(place);
    put(&mut raw, of_cell(dot));
    key_hash(&raw)
}

/// Of all that is known of a key, what was overwritten too; 0 where nothing is.
pub fn of_known(object: &Object) -> u64 {
    if object.is_unknown() {
        return 0;
    }
    of_context(object.context()).wrapping_add(sum(object))
}

/// The same where one value of a string lives, by its dot, and by what was seen.
pub fn of_known_plain(seen: &Context, dot: Dot) -> u64 {
    of_context(seen).wrapping_add(of_cell(dot))
}

fn of_context(context: &Context) -> u64 {
    let mut raw = Buffer::from_slice(&[CONTEXT]);
    for seen in context.entries() {
        put(&mut raw, seen.actor.0);
        put(&mut raw, seen.intervals.len() as u64);
        for interval in &seen.intervals {
            put(&mut raw, interval.after);
            put(&mut raw, interval.upto);
        }
    }
    key_hash(&raw)
}

/// Of a string's cell with one value.
fn of_cell(dot: Dot) -> u64 {
    let mut cell = Buffer::new();
    cell.push(Kind::String as u8);
    put(&mut cell, 0);
    put(&mut cell, dot.actor.0);
    put(&mut cell, dot.seq);
    key_hash(&cell)
}

/// Of one element, and of the resets that take something from it.
pub fn of_element<'r>(
    element: &Element,
    versions: &[Version],
    live_resets: impl Iterator<Item = &'r Reset>,
) -> u64 {
    let mut raw = Buffer::new();
    let mut sum = 0u64;
    if !versions.is_empty() {
        put_cell(&mut raw, element, versions);
        sum = key_hash(&raw);
    }
    for reset in live_resets {
        raw.clear();
        put_reset(&mut raw, reset);
        sum = sum.wrapping_add(key_hash(&raw));
    }
    sum
}

fn sum(object: &Object) -> u64 {
    let mut raw = Buffer::new();
    let mut sum = object.rest().map_or(0, |rest| rest.sum);
    for (element, versions) in object.cells() {
        raw.clear();
        put_cell(&mut raw, element, versions);
        sum = sum.wrapping_add(key_hash(&raw));
    }
    for reset in object.live_resets() {
        raw.clear();
        put_reset(&mut raw, &reset);
        sum = sum.wrapping_add(key_hash(&raw));
    }
    sum
}

fn put_reset(raw: &mut Buffer, reset: &Reset) {
    raw.push(RESET);
    if reset.element != Element::STRING {
        raw.push(reset.element.kind as u8);
        put(raw, reset.element.name.len() as u64);
        raw.extend_from_slice(&reset.element.name);
    }
    put(raw, reset.actor.0);
    put(raw, reset.seq);
}

fn put_cell(raw: &mut Buffer, element: &Element, versions: &[Version]) {
    raw.push(element.kind as u8);
    put(raw, element.name.len() as u64);
    raw.extend_from_slice(&element.name);
    for version in versions {
        put(raw, version.dot.actor.0);
        put(raw, version.dot.seq);
        match version.value.payload {
            Payload::Gone(None) => raw.push(GONE),
            Payload::Gone(Some(_)) => raw.push(GONE_COUNT),
            Payload::Bytes(_) | Payload::Count(_) | Payload::Deadline(_) => {}
        }
    }
}

fn put(raw: &mut Buffer, number: u64) {
    raw.extend_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::{ActorId, Timestamp, Value};

    fn element(name: &str) -> Element {
        Element {
            kind: Kind::String,
            name: name.to_owned().into(),
        }
    }

    fn written(actor: u64, seq: u64, name: &str) -> Object {
        let mut delta = Object::delta(ActorId(actor), 0);
        let value = Value {
            payload: Payload::Bytes("value".into()),
            expires_at_ms: None,
        };
        delta.put(seq, Timestamp(seq), &element(name), value);
        delta.finish()
    }

    #[test]
    fn a_digest_is_of_the_place_and_of_the_dots_that_live() {
        let one = of_living(b"key", &written(1, 1, ""));
        assert!(one > 1, "no number that many have");
        assert_eq!(of_living(b"key", &written(1, 1, "")), one);
        let dot = |actor, seq| Dot {
            actor: ActorId(actor),
            seq,
        };
        assert_eq!(of_plain(b"key", dot(1, 1)), one);
        assert_eq!(
            of_plain(b"other", dot(3, 7)),
            of_living(b"other", &written(3, 7, ""))
        );
        assert_ne!(of_living(b"other", &written(1, 1, "")), one);
        assert_ne!(of_living(b"key", &written(2, 1, "")), one);
        assert_ne!(of_living(b"key", &written(1, 2, "")), one);
        let mut both = written(1, 1, "");
        both.join(written(2, 1, ""));
        let mut turned = written(2, 1, "");
        turned.join(written(1, 1, ""));
        assert_eq!(of_living(b"key", &both), of_living(b"key", &turned));
        assert_ne!(of_living(b"key", &both), one);
        let mut deleted = written(1, 1, "");
        let mut delta = Object::delta(ActorId(1), 1);
        delta.overwrite_all(&deleted);
        delta.cover(2);
        deleted.join(delta.finish());
        assert_eq!(of_living(b"key", &deleted), 0);
        let mut reclaimed = written(1, 1, "");
        reclaimed.reclaim();
        assert_ne!(of_living(b"key", &reclaimed), one);
    }

    #[test]
    fn what_was_merely_seen_is_known_and_does_not_live() {
        let one = written(1, 1, "");
        let mut knows_more = written(1, 1, "");
        knows_more.observe([Dot {
            actor: ActorId(9),
            seq: 1,
        }]);
        assert_eq!(of_living(b"key", &knows_more), of_living(b"key", &one));
        assert_ne!(of_known(&knows_more), of_known(&one));
        assert_eq!(of_known(&Object::default()), 0);
    }

    #[test]
    fn elements_add_up_and_their_names_have_lengths() {
        let (a, b) = (written(1, 1, "a"), written(2, 1, "bc"));
        let both = a.joined(b.clone());
        assert_eq!(sum(&both), sum(&a).wrapping_add(sum(&b)));
        let of_each = both
            .cells()
            .iter()
            .map(|(element, versions)| of_element(element, versions, std::iter::empty()));
        assert_eq!(of_each.fold(0, u64::wrapping_add), sum(&both));
        assert_ne!(of_living(b"k", &written(1, 1, "")), of_living(b"k", &a));
        // The same bytes in a row, divided otherwise.
        let place = |place: &[u8]| of_living(place, &a);
        assert_ne!(place(b"k"), place(b"ka"));
    }
}
