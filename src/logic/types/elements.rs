//! The elements of one type in an object.

use bytes::Bytes;

use crate::logic::causal::{Element, Kind, Object, Version, Versions};

/// The element of a type and name.
pub fn element(kind: Kind, name: &[u8]) -> Element {
    Element {
        kind,
        name: Bytes::copy_from_slice(name),
    }
}

/// The elements of a type that are there, and at hand.
pub fn there(object: &Object, kind: Kind) -> impl DoubleEndedIterator<Item = &(Element, Versions)> {
    object.cells_of(kind).iter().filter(|cell| is_there(cell))
}

/// How many elements of a type are there.
pub fn len(object: &Object, kind: Kind) -> usize {
    let rest = object.rest().map_or(0, |rest| rest.there(kind));
    there(object, kind).count() + rest as usize
}

/// Redis's ranges of places, both ends included, negative from the end.
pub fn places(first: i64, last: i64, len: usize) -> std::ops::Range<usize> {
    let from_end = |n: i64| {
        if n < 0 {
            n.saturating_add(len as i64)
        } else {
            n
        }
    };
    let start = from_end(first).max(0);
    let end = from_end(last).min(len as i64 - 1);
    if start > end {
        return 0..0;
    }
    start as usize..end as usize + 1
}

/// Whether an element has a value that was not reclaimed.
pub(super) fn is_there((element, versions): &(Element, Versions)) -> bool {
    element.kind != Kind::Expiry && versions.iter().any(Version::is_there)
}
