//! Where elements stand behind the head of their collection: by name, and in the order of scores.

use bytes::Bytes;

use crate::logic::causal::{Element, Kind};
use crate::logic::codec::DecodeError;
use crate::logic::placement::key_hash;
use crate::logic::record;
use crate::logic::types::zset::{Bound, Score};

/// Stands before a member's score, in the place of a kind.
pub const SCORES: u8 = 0x84;
/// How long a generation is in the keys of its rows.
pub const GENERATION_LEN: usize = 8;
/// At most so much stands between the key of a head and the name in the key of an element's row.
pub const MOST_BEFORE_NAME: usize = GENERATION_LEN + 1 + 8;
/// How much of an element's hash is in the key of its row.
pub const HASH_LEN: usize = 6;

/// Where the rows of a generation begin: what follows the key of the head, below [`crate::logic::place::BEHIND`].
pub fn start_of(generation: u64) -> [u8; GENERATION_LEN] {
    (generation & (u64::MAX >> 1)).to_be_bytes()
}

/// What follows the generation in the key of an element's row.
pub fn place_of(element: &Element) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + HASH_LEN + element.name.len());
    out.push(element.kind as u8);
    if !element.kind.is_in_order() {
        let hash = key_hash(&element.name).to_be_bytes();
        out.extend_from_slice(&hash[..HASH_LEN]);
    }
    out.extend_from_slice(&element.name);
    out
}

/// The element at such a place; `None` where it is a place in another order.
///
/// # Errors
/// When nothing can be there.
pub fn element_at(place: &[u8]) -> Result<Option<Element>, DecodeError> {
    let (first, rest) = place.split_first().ok_or(DecodeError::Truncated)?;
    if *first == SCORES {
        return Ok(None);
    }
    let kind = record::read_kind(*first)?;
    let skipped = if kind.is_in_order() { 0 } else { HASH_LEN };
    let name = rest.get(skipped..).ok_or(DecodeError::Truncated)?;
    let name = Bytes::copy_from_slice(name);
    Ok(Some(Element { kind, name }))
}

/// Where the places of a kind's elements in their order begin and end.
pub fn ordered(kind: Kind) -> (u8, u8) {
    match kind {
        Kind::Zset => (SCORES, SCORES + 1),
        kind => (kind as u8, kind as u8 + 1),
    }
}

/// Some elements in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// From this place on.
    pub from: Vec<u8>,
    /// Up to this one, without it.
    pub to: Vec<u8>,
    /// So many at most: if there are more, the first.
    pub most: usize,
    /// The last instead.
    pub is_back: bool,
    /// If there are fewer, others from the beginning of the kind on.
    pub wraps: bool,
}

impl Stretch {
    /// Members of a sorted set by their scores.
    pub fn of_scores((min, max): (Bound<Score>, Bound<Score>), most: usize, is_back: bool) -> Self {
        let above = |score: Score| (u64::from_be_bytes(score.ordered()) + 1).to_be_bytes();
        let place = |bytes: &[u8]| [&[SCORES], bytes].concat();
        let from = match min {
            Bound::Lowest => vec![SCORES],
            Bound::Highest => vec![SCORES + 1],
            Bound::With(score) => place(&score.ordered()),
            Bound::Without(score) => place(&above(score)),
        };
        let to = match max {
            Bound::Lowest => vec![SCORES],
            Bound::Highest => vec![SCORES + 1],
            Bound::With(score) => place(&above(score)),
            Bound::Without(score) => place(&score.ordered()),
        };
        Self {
            from,
            to,
            most,
            is_back,
            wraps: false,
        }
    }

    /// Members of a sorted set that have one score by their bytes.
    pub fn of_bytes(
        score: Score,
        (min, max): (Bound<&[u8]>, Bound<&[u8]>),
        most: usize,
        is_back: bool,
    ) -> Self {
        let all = Self::of_scores((Bound::With(score), Bound::With(score)), most, is_back);
        let place = |bytes: &[u8]| [&all.from[..], bytes].concat();
        let behind = |bytes: &[u8]| [&all.from[..], bytes, &[0]].concat();
        let (from, to) = (
            match min {
                Bound::Lowest => all.from.clone(),
                Bound::Highest => all.to.clone(),
                Bound::With(bytes) => place(bytes),
                Bound::Without(bytes) => behind(bytes),
            },
            match max {
                Bound::Lowest => all.from.clone(),
                Bound::Highest => all.to.clone(),
                Bound::With(bytes) => behind(bytes),
                Bound::Without(bytes) => place(bytes),
            },
        );
        Self { from, to, ..all }
    }

    /// Elements whose names are in order, from one name on and below another (`None`: to the end).
    pub fn of_names(
        kind: Kind,
        (from, to): (&[u8], Option<&[u8]>),
        most: usize,
        is_back: bool,
    ) -> Self {
        Self {
            from: [&[kind as u8], from].concat(),
            to: to.map_or_else(|| vec![kind as u8 + 1], |to| [&[kind as u8], to].concat()),
            most,
            is_back,
            wraps: false,
        }
    }

    /// Elements of a hash, set or sorted set in the order of their hashes, from the first bytes of one on.
    pub fn of_hashes(kind: Kind, hash: [u8; HASH_LEN], most: usize, wraps: bool) -> Self {
        Self {
            from: [&[kind as u8], &hash[..]].concat(),
            to: vec![kind as u8 + 1],
            most,
            is_back: false,
            wraps,
        }
    }
}

/// The place of a member in the order of scores.
pub fn order_of(score: Score, member: &[u8]) -> Vec<u8> {
    let mut out = vec![SCORES];
    out.extend_from_slice(&score.ordered());
    out.extend_from_slice(member);
    out
}

/// The member at a place in the order of scores.
///
/// # Errors
/// When it is no such place.
pub fn member_at(place: &[u8]) -> Result<Element, DecodeError> {
    let member = place.get(1 + 8..).ok_or(DecodeError::Truncated)?;
    Ok(Element {
        kind: Kind::Zset,
        name: Bytes::copy_from_slice(member),
    })
}
