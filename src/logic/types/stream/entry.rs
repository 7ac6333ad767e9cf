//! The entries of a stream, and their names.

use bytes::Bytes;

use super::id::Id;
use crate::logic::causal::{ActorId, Element, Kind, Object};
use crate::logic::codec::Reader;
use crate::logic::edit::Touch;
use crate::logic::types::{cell, elements};

const NAME_LEN: usize = Id::LEN + 8;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: Id,
    /// Who has added it.
    pub actor: ActorId,
    /// Its words, as they are stored.
    raw: Bytes,
}

impl Entry {
    /// Its fields and values in turn.
    pub fn words(&self) -> Vec<&[u8]> {
        words(&self.raw).unwrap_or_default()
    }
}

/// Whether that is what an entry has, as it is stored.
pub(super) fn are_words(raw: &[u8]) -> bool {
    let mut r = Reader(raw);
    let Ok(count) = r.count(1) else { return false };
    count % 2 == 0 && (0..count).all(|_| r.bytes().is_ok()) && r.0.is_empty()
}

fn words(raw: &[u8]) -> Option<Vec<&[u8]>> {
    let mut r = Reader(raw);
    let words = (0..r.count(1).ok()?).map(|_| r.bytes().ok());
    let words: Option<Vec<&[u8]>> = words.collect();
    words.filter(|words| r.0.is_empty() && words.len() % 2 == 0)
}

/// The entries that are at hand, by ascending id.
pub fn entries(object: &Object) -> impl DoubleEndedIterator<Item = Entry> + '_ {
    elements::there(object, Kind::Stream).filter_map(|(element, versions)| {
        let (id, actor) = named(&element.name)?;
        let raw = cell::shown(object, element, versions)?;
        Some(Entry { id, actor, raw })
    })
}

/// The entries at hand that have an id: two sides may have given it.
pub fn at(object: &Object, id: Id) -> impl Iterator<Item = Entry> + '_ {
    let cells = object.cells_of(Kind::Stream);
    let start = cells.partition_point(|(e, _)| e.name[..] < id.encode()[..]);
    let its = cells[start..].iter();
    let its = its.take_while(move |(e, _)| e.name.starts_with(&id.encode()));
    its.filter_map(move |(element, versions)| {
        let (id, actor) = named(&element.name)?;
        let raw = cell::shown(object, element, versions)?;
        Some(Entry { id, actor, raw })
    })
}

/// An entry's element.
pub fn entry_element(id: Id, actor: ActorId) -> Element {
    elements::element(Kind::Stream, &name_of(id, actor))
}

pub(super) fn name_of(id: Id, actor: ActorId) -> [u8; NAME_LEN] {
    let mut name = [0; NAME_LEN];
    name[..Id::LEN].copy_from_slice(&id.encode());
    name[Id::LEN..].copy_from_slice(&actor.0.to_be_bytes());
    name
}

pub(super) fn named(name: &[u8]) -> Option<(Id, ActorId)> {
    let name: &[u8; NAME_LEN] = name.try_into().ok()?;
    let (id, actor) = name.split_first_chunk()?;
    let actor = actor.try_into().ok()?;
    Some((Id::decode(*id), ActorId(u64::from_be_bytes(actor))))
}

/// An entry goes.
pub fn remove(entry: &Entry) -> Touch {
    Touch::remove(entry_element(entry.id, entry.actor))
}
