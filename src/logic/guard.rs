//! Bounds on how many concurrent values an element of a key keeps: beyond them the oldest give way to the newest.
//!
//! What is merged away stays seen, so every copy of the key comes to the same, in whatever order it
//! hears of the values.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::causal::{Dot, Object, Timestamp, Version, Versions};
use super::policy::OnConflict;

/// The most that any node may let a key have: nobody's object has more.
pub const MOST_SIBLINGS: usize = 10_000;

/// What one key may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Siblings from which a key is worth a word.
    pub warn: usize,
    /// Siblings at most.
    pub siblings: usize,
    /// Bytes of all siblings at most, where there are several.
    pub bytes: u64,
}

/// Of the element with the most of them how many siblings there are; contributions to a counter are none.
pub fn siblings(object: &Object) -> usize {
    let of_each = cells(object).map(|versions| bases(versions).count());
    of_each.max().unwrap_or(0)
}

/// Merges the oldest siblings of an element beyond the limits into one, as the key's policy says (into
/// the newest of them, where that needs no new value); how many went.
pub fn merge_oldest(object: &mut Object, limits: Limits, policy: OnConflict) -> usize {
    let gone: BTreeSet<Dot> = cells(object)
        .flat_map(|versions| beyond(versions, limits, policy))
        .collect();
    if !gone.is_empty() {
        object.retain_versions(|version| !gone.contains(&version.dot));
    }
    gone.len()
}

/// The versions of elements that have values.
fn cells(object: &Object) -> impl Iterator<Item = &Versions> {
    let cells = object.cells().iter();
    cells.filter_map(|(element, versions)| (!element.kind.is_one_by_itself()).then_some(versions))
}

/// The siblings of one element that have to go.
fn beyond(versions: &[Version], limits: Limits, policy: OnConflict) -> Vec<Dot> {
    let (mut count, mut bytes) = (0, 0);
    for (_, _, len) in bases(versions) {
        count += 1;
        bytes += len;
    }
    if count <= limits.siblings.max(1) && (count <= 1 || bytes <= limits.bytes) {
        return Vec::new();
    }
    let mut all: Vec<(Timestamp, Dot, u64)> = bases(versions).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    let (mut kept, mut bytes) = (0, 0);
    for (_, _, len) in &all {
        bytes += len;
        if kept > 0 && (kept == limits.siblings || bytes > limits.bytes) {
            break;
        }
        kept += 1;
    }
    let mut oldest: Vec<Dot> = all
        .split_off(kept - 1)
        .into_iter()
        .map(|(_, dot, _)| dot)
        .collect();
    let best = best_of(versions, &oldest, policy);
    oldest.retain(|dot| Some(*dot) != best);
    oldest
}

/// Which of some siblings stays, the newest of which comes first.
fn best_of(versions: &[Version], newest_first: &[Dot], policy: OnConflict) -> Option<Dot> {
    let bytes: BTreeMap<Dot, &Bytes> = versions
        .iter()
        .filter_map(|version| Some((version.dot, version.value.payload.base()?)))
        .collect();
    newest_first.iter().copied().reduce(|best, other| {
        let is_better = match (bytes.get(&other), bytes.get(&best)) {
            (Some(other), Some(best)) => policy.prefers(other, best),
            _ => false,
        };
        if is_better { other } else { best }
    })
}

fn bases(versions: &[Version]) -> impl Iterator<Item = (Timestamp, Dot, u64)> {
    versions.iter().filter_map(|version| {
        let len = version.value.payload.base()?.len();
        Some((version.at, version.dot, len as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::{ActorId, Element, Payload, Value};

    fn sibling(actor: u64, at: u64) -> Object {
        let mut delta = Object::delta(ActorId(actor), 0);
        let value = Value {
            payload: Payload::Bytes(format!("{actor:010}").into()),
            expires_at_ms: None,
        };
        delta.put(1, Timestamp(at), &Element::STRING, value);
        delta.finish()
    }

    #[test]
    fn the_newest_stay_whatever_the_order_in_which_copies_hear_of_them() {
        let limits = |siblings, bytes| Limits {
            warn: 2,
            siblings,
            bytes,
        };
        let all: Vec<Object> = (1..=9).map(|n| sibling(n, 100 - n)).collect();
        let hear = |order: &mut dyn Iterator<Item = &Object>, limits| {
            order.fold(Object::default(), |mut object, sibling| {
                object.join(sibling.clone());
                merge_oldest(&mut object, limits, OnConflict::Newest);
                object
            })
        };
        for limits in [limits(4, 1_000), limits(100, 45)] {
            let one = hear(&mut all.iter(), limits);
            let other = hear(&mut all.iter().rev(), limits);
            let mut both = one.joined(other.clone());
            merge_oldest(&mut both, limits, OnConflict::Newest);
            assert_eq!(siblings(&both), 4);
            assert!(both.all_versions().all(|version| version.dot.actor.0 <= 4));
            assert_eq!(both, one.joined(other));
        }
    }

    #[test]
    fn a_key_at_its_limits_stays_as_it_is_and_one_value_has_none() {
        let of = |count: u64| {
            let mut object = Object::default();
            (1..=count).for_each(|n| object.join(sibling(n, 100 - n)));
            object
        };
        let limits = |siblings, bytes| Limits {
            warn: 2,
            siblings,
            bytes,
        };
        for (count, limits, merged) in [
            (3, limits(3, 30), 0),
            (3, limits(2, 30), 1),
            (3, limits(3, 29), 1),
            (1, limits(0, 5), 0),
            (2, limits(5, 5), 1),
        ] {
            let mut object = of(count);
            let policy = OnConflict::Newest;
            assert_eq!(
                merge_oldest(&mut object, limits, policy),
                merged,
                "{limits:?}"
            );
            assert_eq!(siblings(&object), count as usize - merged);
        }
    }

    #[test]
    fn a_policy_says_which_of_the_oldest_stays() {
        let limits = Limits {
            warn: 2,
            siblings: 2,
            bytes: 1_000,
        };
        for (policy, stays) in [(OnConflict::Max, 4), (OnConflict::Min, 2)] {
            let mut object = Object::default();
            (1..=4).for_each(|n| object.join(sibling(n, 100 - n)));
            assert_eq!(merge_oldest(&mut object, limits, policy), 2);
            let kept: Vec<u64> = object.all_versions().map(|v| v.dot.actor.0).collect();
            assert_eq!(kept, [1, stays]);
        }
    }
}
