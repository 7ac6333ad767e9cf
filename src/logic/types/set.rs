//! Sets: an element a member, without a value. A member that is added beside its removal stays: a removal
//! covers the additions that its coordinator saw.

use bytes::Bytes;

use super::elements;
use crate::logic::causal::{Kind, Object, Version};
use crate::logic::edit::Touch;
use crate::logic::integer;

/// Whether a member is there.
pub fn contains(object: &Object, member: &[u8]) -> bool {
    let versions = object.versions(&elements::element(Kind::Set, member));
    versions.iter().any(Version::is_there)
}

/// The members, in their order as bytes.
pub fn members(object: &Object) -> impl DoubleEndedIterator<Item = &Bytes> {
    elements::there(object, Kind::Set).map(|(element, _)| &element.name)
}

/// How many members there are.
pub fn len(object: &Object) -> usize {
    elements::len(object, Kind::Set)
}

/// Whether all members are integers, and few.
pub fn are_integers(object: &Object) -> bool {
    let is_integer = |member: &Bytes| integer::parse(member).is_some();
    members(object).all(is_integer)
}

/// A member comes.
pub fn add(member: &[u8]) -> Touch {
    Touch::put(elements::element(Kind::Set, member), Bytes::new())
}

/// A member goes.
pub fn remove(member: &[u8]) -> Touch {
    Touch::remove(elements::element(Kind::Set, member))
}
