//! Sorted sets: an element a member, whose value is its score. The newest score is shown; what ZINCRBY
//! adds to whole numbers is summed as in counters, each actor's once.

use std::cmp::Ordering;

use bytes::Bytes;

use super::cell::{self, Sibling};
use super::elements;
use crate::logic::causal::{Element, Kind, Object, Payload, Version};
use crate::logic::edit::{Edit, Touch};

/// Whole numbers up to here are exact as scores: 2^53.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// A score: any double but NaN, in its order.
#[derive(Clone, Copy, Debug)]
pub struct Score(f64);

impl Score {
    /// The least.
    pub const MIN: Score = Score(f64::NEG_INFINITY);
    /// The greatest.
    pub const MAX: Score = Score(f64::INFINITY);

    /// A number as a score.
    pub fn new(value: f64) -> Option<Self> {
        (!value.is_nan()).then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// As it is stored.
    pub fn encode(self) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_bits().to_be_bytes())
    }

    /// From what is stored.
    pub fn decode(raw: &[u8]) -> Option<Self> {
        let raw: [u8; 8] = raw.try_into().ok()?;
        Self::new(f64::from_bits(u64::from_be_bytes(raw)))
    }

    /// In bytes that are in the order of scores.
    pub fn ordered(self) -> [u8; 8] {
        const SIGN: u64 = 1 << 63;
        // A negative zero is zero.
        let bits = (self.0 + 0.0).to_bits();
        let ordered = if bits & SIGN == 0 { bits | SIGN } else { !bits };
        ordered.to_be_bytes()
    }

    fn whole(self) -> Option<i64> {
        let is_whole = self.0.fract() == 0.0 && self.0.abs() <= MAX_WHOLE;
        // A negative zero is not the sum that Redis shows.
        (is_whole && (self.0 != 0.0 || self.0.is_sign_positive())).then_some(self.0 as i64)
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

/// A word as a score.
pub fn parse_score(raw: &[u8]) -> Option<Score> {
    let text = std::str::from_utf8(raw).ok()?;
    if text.starts_with(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let has_digits = text.contains(|c: char| c.is_ascii_digit());
    let is_beyond = value.is_infinite() && has_digits
        || value == 0.0 && mantissa.contains(|c: char| ('1'..='9').contains(&c));
    Score::new(value).filter(|_| !is_beyond)
}

/// The score of a member.
pub fn score(object: &Object, member: &[u8]) -> Option<Score> {
    let element = elements::element(Kind::Zset, member);
    shown(object, &element, object.versions(&element))
}

/// The members by their scores, equal ones by their bytes.
pub fn by_score(object: &Object) -> Vec<(Score, &Bytes)> {
    let members = elements::there(object, Kind::Zset).filter_map(|(element, versions)| {
        let score = shown(object, element, versions)?;
        Some((score, &element.name))
    });
    let mut all: Vec<(Score, &Bytes)> = members.collect();
    all.sort_unstable();
    all
}

/// How many members there are.
pub fn len(object: &Object) -> usize {
    elements::len(object, Kind::Zset)
}

/// The scores that a member holds at once, newest first, as they are stored.
pub fn siblings(
    object: &Object,
    element: &Element,
    versions: &[Version],
    expires_at_ms: Option<u64>,
) -> Vec<Sibling> {
    let total = cell::counted(object, element, versions);
    let scored = |version: &Version, score: Score| {
        let sibling = cell::sibling(version, score.encode(), expires_at_ms);
        (sibling, version.dot.seq)
    };
    let sum = total.map_or(0, |(sum, _)| sum);
    let bases = versions.iter().filter_map(|version| {
        let base = version.value.payload.base()?;
        let base = Score::decode(base).unwrap_or(Score(0.0));
        Some(scored(version, plus(base, sum)))
    });
    let mut all: Vec<_> = bases.collect();
    if let Some((sum, newest)) = total
        && all.is_empty()
    {
        all.push(scored(newest, plus(Score(0.0), sum)));
    }
    cell::newest_first(all)
}

/// The score that a member shows, of its versions here.
pub fn shown(object: &Object, element: &Element, versions: &[Version]) -> Option<Score> {
    if let [version] = versions
        && let Payload::Bytes(raw) = &version.value.payload
    {
        return Score::decode(raw);
    }
    let newest = siblings(object, element, versions, None)
        .into_iter()
        .next()?;
    Score::decode(&newest.bytes)
}

fn plus(base: Score, sum: i128) -> Score {
    if sum == 0 {
        return base;
    }
    Score(base.0 + sum as f64)
}

/// A member's score over those that are seen.
pub fn put(member: &[u8], score: Score) -> Touch {
    Touch::put(elements::element(Kind::Zset, member), score.encode())
}

/// Adds to a member's score: as a counter where all is whole, else the sum is the new score. `None` where
/// that would be no number.
pub fn add(object: &Object, member: &[u8], amount: f64) -> Option<(Edit, Score)> {
    let old = score(object, member);
    let sum = Score::new(old.map_or(0.0, Score::get) + amount)?;
    let wholes = [old.unwrap_or(Score(0.0)), Score(amount), sum].map(Score::whole);
    let edit = match wholes {
        [Some(_), Some(amount), Some(_)] => {
            Edit::Count(elements::element(Kind::Zset, member), amount)
        }
        _ => Edit::Touch(vec![put(member, sum)]),
    };
    Some((edit, sum))
}

/// A member goes.
pub fn remove(member: &[u8]) -> Touch {
    Touch::remove(elements::element(Kind::Zset, member))
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound<T> {
    /// Below everything.
    Lowest,
    /// Above everything.
    Highest,
    /// This one is in the range.
    With(T),
    /// The range begins or ends next to this one.
    Without(T),
}

impl<T: Ord> Bound<T> {
    /// Whether something is not below the beginning of a range.
    fn begins(&self, at: &T) -> bool {
        match self {
            Self::Lowest => true,
            Self::Highest => false,
            Self::With(min) => at >= min,
            Self::Without(min) => at > min,
        }
    }

    /// Whether something is not above the end of a range.
    fn ends(&self, at: &T) -> bool {
        match self {
            Self::Lowest => false,
            Self::Highest => true,
            Self::With(max) => at <= max,
            Self::Without(max) => at < max,
        }
    }
}

/// A range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range<'a> {
    /// By place, both ends included, negative from the end.
    Places(i64, i64),
    /// By score.
    Scores(Bound<Score>, Bound<Score>),
    /// By bytes, among members of one score.
    Bytes(Bound<&'a [u8]>, Bound<&'a [u8]>),
}

impl Range<'_> {
    /// Which of some members in their order are in the range.
    pub fn select(&self, members: &[(Score, &Bytes)]) -> std::ops::Range<usize> {
        let (start, end) = match self {
            Self::Places(first, last) => return elements::places(*first, *last, members.len()),
            Self::Scores(min, max) => (
                members.partition_point(|(score, _)| !min.begins(score)),
                members.partition_point(|(score, _)| max.ends(score)),
            ),
            Self::Bytes(min, max) => (
                members.partition_point(|(_, member)| !min.begins(&&member[..])),
                members.partition_point(|(_, member)| max.ends(&&member[..])),
            ),
        };
        start..end.max(start)
    }
}
