//! Lists: an element a place, whose name orders it as bytes do. Two pushes that have not seen each other
//! stand one behind the other, never in each other, and each keeps its order.
//!
//! ```text
//! a push: side u8 | time u64 | actor u64 | number u32        at the left end all but the side is inverted
//! between two places: the name of the lower one or of its group, then digits u32 … | actor u64
//! ```
//!
//! All big endian. A push is later than all that its coordinator saw at that end. The number counts the
//! values of one push. Digits are a fraction between those of the neighbours.

use bytes::Bytes;

use super::cell;
use super::elements;
use crate::logic::causal::{ActorId, Element, Kind, Object};
use crate::logic::edit::{Puts, Touch};

const LEFT: u8 = 0x40;
const RIGHT: u8 = 0x80;
/// The length of a push's place.
const PUSH_LEN: usize = 1 + 8 + 8 + 4;
/// The length of one digit with its actor.
const STEP_LEN: usize = 4 + 8;
const MIDDLE: u32 = 1 << 31;
/// Neighbours keep so much of a distance, where there is room.
const STRIDES: [u32; 3] = [1 << 16, 1 << 8, 1];

/// Which end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first elements.
    Left,
    /// The last ones.
    Right,
}

/// The places with their values, in order.
pub fn items(object: &Object) -> impl DoubleEndedIterator<Item = (&Bytes, Bytes)> {
    elements::there(object, Kind::List).filter_map(|(element, versions)| {
        let value = cell::shown(object, element, versions)?;
        Some((&element.name, value))
    })
}

/// How many elements there are.
pub fn len(object: &Object) -> usize {
    elements::len(object, Kind::List)
}

/// Pushes values one after the other at an end.
pub fn push<'v>(
    object: &Object,
    end: End,
    (actor, now_ms): (ActorId, u64),
    values: impl Iterator<Item = &'v [u8]>,
) -> Vec<Touch> {
    let mut there = elements::there(object, Kind::List);
    let (side, outermost) = match end {
        End::Left => (LEFT, there.next()),
        End::Right => (RIGHT, there.next_back()),
    };
    let last = outermost.and_then(|(element, _)| time_of(side, &element.name));
    let time = last
        .map_or(0, |last| last.saturating_add(1))
        .max(now_ms << 16);
    (0..)
        .zip(values)
        .map(|(number, value)| put(&place(end, time, actor, number), value))
        .collect()
}

/// Gives the elements of lists among some puts, in their order, the places of a push.
pub fn place_anew(puts: &mut Puts, (actor, now_ms): (ActorId, u64)) {
    let mut last: Option<Bytes> = None;
    let mut number: u32 = 0;
    for put in puts.iter_mut().filter(|put| put.element.kind == Kind::List) {
        let is_sibling = last.as_ref() == Some(&put.element.name);
        if last.is_some() && !is_sibling {
            number += 1;
        }
        last = Some(put.element.name.clone());
        put.element.name = place(End::Right, now_ms << 16, actor, number).into();
    }
}

/// A value between two neighbours, of which the upper one is above the lower.
pub fn insert(lower: &[u8], upper: &[u8], actor: ActorId, value: &[u8]) -> Touch {
    put(&between(lower, upper, actor), value)
}

/// A value over those that are seen at a place.
pub fn put(place: &[u8], value: &[u8]) -> Touch {
    Touch::put(element(place), Bytes::copy_from_slice(value))
}

/// What is at a place goes.
pub fn remove(place: &[u8]) -> Touch {
    Touch::remove(element(place))
}

/// Whether some bytes can be a place.
pub fn is_place(name: &[u8]) -> bool {
    matches!(name.first(), Some(&LEFT | &RIGHT)) && name.len() >= PUSH_LEN
}

/// The place of a push's value.
fn place(end: End, time: u64, actor: ActorId, number: u32) -> Vec<u8> {
    let (side, time, number) = match end {
        End::Left => (LEFT, !time, !number),
        End::Right => (RIGHT, time, number),
    };
    let mut name = Vec::with_capacity(PUSH_LEN);
    name.push(side);
    name.extend_from_slice(&time.to_be_bytes());
    name.extend_from_slice(&actor.0.to_be_bytes());
    name.extend_from_slice(&number.to_be_bytes());
    name
}

fn element(place: &[u8]) -> Element {
    elements::element(Kind::List, place)
}

/// The time of a push at a side, or of the one next to which a place is.
fn time_of(side: u8, place: &[u8]) -> Option<u64> {
    let (first, rest) = place.split_first()?;
    let time = u64::from_be_bytes(*rest.first_chunk()?);
    match *first {
        first if first != side => None,
        LEFT => Some(!time),
        _ => Some(time),
    }
}

fn between(lower: &[u8], upper: &[u8], actor: ActorId) -> Vec<u8> {
    let beside = beside(lower, actor, u32::checked_add);
    let before = self::beside(upper, actor, u32::checked_sub);
    let fits = |place: &Vec<u8>| lower < &place[..] && &place[..] < upper;
    if let Some(place) = beside.into_iter().chain(before).find(fits) {
        return place;
    }
    let mut place = lower.to_vec();
    match upper.strip_prefix(lower) {
        None => place.extend_from_slice(&MIDDLE.to_be_bytes()),
        Some(above) => place.extend(below(above)),
    }
    place.extend_from_slice(&actor.0.to_be_bytes());
    place
}

/// Places of the same group as one that was put between others, at some distances from it.
fn beside(place: &[u8], actor: ActorId, step: fn(u32, u32) -> Option<u32>) -> Vec<Vec<u8>> {
    let Some(group_len) = place.len().checked_sub(STEP_LEN) else {
        return Vec::new();
    };
    if group_len < PUSH_LEN {
        return Vec::new();
    }
    let (group, last) = place.split_at(group_len);
    let digit = last.first_chunk().map_or(0, |raw| u32::from_be_bytes(*raw));
    let digits = STRIDES.iter().filter_map(|by| step(digit, *by));
    let digits = digits.filter(|digit| *digit > 0);
    let place = |digit: u32| [group, &digit.to_be_bytes(), &actor.0.to_be_bytes()].concat();
    digits.map(place).collect()
}

/// Digits below some others, above none.
fn below(digits: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for raw in digits.chunks(4) {
        let digit = raw.first_chunk().map_or(0, |raw| u32::from_be_bytes(*raw));
        if digit > 1 {
            let gap = (digit / 2).min(STRIDES[0]);
            out.extend_from_slice(&(digit - gap).to_be_bytes());
            return out;
        }
        out.extend_from_slice(&0u32.to_be_bytes());
        if digit == 1 {
            break;
        }
    }
    out.extend_from_slice(&MIDDLE.to_be_bytes());
    out
}
