//! What one element of an object shows: the newest of its values, with what was counted on top of it.
//!
//! Not here: when the key ends, and what the element means. Showing never discards.

use bytes::Bytes;

use crate::logic::causal::{ActorId, Element, Object, Payload, Timestamp, Version};
use crate::logic::integer;

/// One of the values that an element holds at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The value.
    pub bytes: Bytes,
    /// When it was written.
    pub at: Timestamp,
    /// Who wrote it.
    pub actor: ActorId,
    /// When the key ends, in milliseconds since the epoch.
    pub expires_at_ms: Option<u64>,
}

/// The value that an element shows, of its versions here.
pub fn shown(object: &Object, element: &Element, versions: &[Version]) -> Option<Bytes> {
    if let [version] = versions
        && let Payload::Bytes(bytes) = &version.value.payload
    {
        return Some(bytes.clone());
    }
    let newest = siblings(object, element, versions, None).into_iter().next();
    newest.map(|sibling| sibling.bytes)
}

/// The values of an element, newest first; equal ones count as one. When the key ends the caller says.
///
/// Contributions are added to every base that is an integer; without such a base their sum is a
/// value of its own, so that no increment is ever hidden.
pub fn siblings(
    object: &Object,
    element: &Element,
    versions: &[Version],
    expires_at_ms: Option<u64>,
) -> Vec<Sibling> {
    let total = counted(object, element, versions);
    let mut out: Vec<(Sibling, u64)> = Vec::new();
    let mut is_added = false;
    for version in versions {
        let Payload::Bytes(bytes) = &version.value.payload else {
            continue;
        };
        let mut sibling = sibling(version, bytes.clone(), expires_at_ms);
        if let (Some((sum, newest)), Some(base)) = (total, integer::parse(bytes)) {
            is_added = true;
            sibling.bytes = clamped(sum.saturating_add(i128::from(base)));
            if sibling.at < newest.at {
                (sibling.at, sibling.actor) = (newest.at, newest.dot.actor);
            }
        }
        out.push((sibling, version.dot.seq));
    }
    if let Some((sum, newest)) = total
        && !is_added
    {
        let sibling = sibling(newest, clamped(sum), expires_at_ms);
        out.push((sibling, newest.dot.seq));
    }
    newest_first(out)
}

/// Values in their order, of equal ones the newest.
pub(super) fn newest_first(mut all: Vec<(Sibling, u64)>) -> Vec<Sibling> {
    all.sort_by_key(|(s, seq)| std::cmp::Reverse((s.at, s.actor, *seq)));
    let mut met = std::collections::HashSet::with_capacity(all.len());
    all.into_iter()
        .map(|(sibling, _)| sibling)
        .filter(|sibling| met.insert(sibling.bytes.clone()))
        .collect()
}

/// What all contributions to an element add, and the newest of them.
pub(super) fn counted<'v>(
    object: &Object,
    element: &Element,
    versions: &'v [Version],
) -> Option<(i128, &'v Version)> {
    let mut total: Option<(i128, &Version)> = None;
    for version in versions {
        if let Payload::Count(contribution) = version.value.payload {
            let left = object.left_of(element, version.dot.actor, contribution);
            let (sum, newest) = total.unwrap_or((0, version));
            let newest = if newest.at < version.at {
                version
            } else {
                newest
            };
            total = Some((sum.saturating_add(left), newest));
        }
    }
    total
}

/// What a sum shows: Redis's integers end at 64 bits.
fn clamped(sum: i128) -> Bytes {
    integer::to_bytes(sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
}

/// A version as a sibling that shows something.
pub(super) fn sibling(version: &Version, bytes: Bytes, expires_at_ms: Option<u64>) -> Sibling {
    Sibling {
        bytes,
        at: version.at,
        actor: version.dot.actor,
        expires_at_ms,
    }
}
