//! Hashes: an element a field. A field is a register or a counter, as a string is; concurrent writes of
//! one field are siblings of that field.

use bytes::Bytes;

use super::cell::{self, Sibling};
use super::elements;
use crate::logic::causal::{Element, Kind, Object};
use crate::logic::edit::{Edit, Touch};

/// The value of a field.
pub fn get(object: &Object, field: &[u8]) -> Option<Bytes> {
    let element = element(field);
    cell::shown(object, &element, object.versions(&element))
}

/// The fields with their values, in the order of their names.
pub fn fields(object: &Object) -> impl DoubleEndedIterator<Item = (&Bytes, Bytes)> {
    elements::there(object, Kind::Hash).filter_map(|(element, versions)| {
        let value = cell::shown(object, element, versions)?;
        Some((&element.name, value))
    })
}

/// The values that a field holds at once, newest first.
pub fn siblings(object: &Object, field: &[u8]) -> Vec<Sibling> {
    let element = element(field);
    cell::siblings(
        object,
        &element,
        object.versions(&element),
        object.ends_at_ms(),
    )
}

/// How many fields there are.
pub fn len(object: &Object) -> usize {
    elements::len(object, Kind::Hash)
}

/// A field's value over those that are seen.
pub fn put(field: &[u8], value: &[u8]) -> Touch {
    Touch::put(element(field), Bytes::copy_from_slice(value))
}

/// A field goes.
pub fn remove(field: &[u8]) -> Touch {
    Touch::remove(element(field))
}

/// Adds to the number that a field holds.
pub fn count(field: &[u8], amount: i64) -> Edit {
    Edit::Count(element(field), amount)
}

/// The element of a field.
pub fn element(field: &[u8]) -> Element {
    elements::element(Kind::Hash, field)
}
