//! What a stream has beside its entries: who has added them, its groups, their consumers, and what is pending.
//!
//! ```text
//! name   1 | actor u64be                                what an actor has added
//!        2 | group                                      a group
//!        3 | group's length u32be | group | consumer
//!        4 | group's length u32be | group | id | actor  an entry that was delivered and not acknowledged
//! ```
//!
//! Of each of them there may be several versions, which are one: the furthest of whatever goes on.

use bytes::Bytes;

use super::entry::{entries, name_of, named};
use super::id::Id;
use super::values::{Added, Consumer, Group, Pending, State};
use crate::logic::causal::{ActorId, Element, Kind, Object, Payload, Version};
use crate::logic::codec::Reader;
use crate::logic::edit::Touch;
use crate::logic::types::elements;

const ADDED: u8 = 1;
const GROUP: u8 = 2;
const CONSUMER: u8 = 3;
const PENDING: u8 = 4;

/// The state of an element, of its versions here.
fn read<S: State>(versions: &[Version]) -> Option<S> {
    let mut there: Vec<&Version> = versions.iter().filter(|v| v.is_there()).collect();
    there.sort_by_key(|version| (version.at, version.dot));
    let states = there
        .into_iter()
        .filter_map(|version| match &version.value.payload {
            Payload::Bytes(raw) => S::decode(&mut Reader(raw)).ok(),
            Payload::Count(_) | Payload::Deadline(_) | Payload::Gone(_) => None,
        });
    states.reduce(State::with)
}

fn all<S: State>(object: &Object, sort: u8) -> impl Iterator<Item = (&[u8], S)> {
    let cells = object.cells_of(Kind::StreamState);
    let start = cells.partition_point(|(e, _)| e.name.first() < Some(&sort));
    let of_sort = cells[start..].iter();
    let of_sort = of_sort.take_while(move |(e, _)| e.name.first() == Some(&sort));
    of_sort.filter_map(|(element, versions)| Some((&element.name[1..], read(versions)?)))
}

fn element(name: &[u8]) -> Element {
    elements::element(Kind::StreamState, name)
}

fn put(element: Element, state: &impl State) -> Touch {
    Touch::put(element, state.encode().into())
}

fn in_group(sort: u8, group: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(5 + group.len() + rest.len());
    name.push(sort);
    name.extend_from_slice(&(group.len() as u32).to_be_bytes());
    name.extend_from_slice(group);
    name.extend_from_slice(rest);
    name
}

/// What follows the group in a name, behind its first byte.
fn of_group(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = name.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

/// Who has added what, by ascending actor.
pub fn adders(object: &Object) -> Vec<(ActorId, Added)> {
    let all = all::<Added>(object, ADDED);
    let all = all.filter_map(|(name, added)| {
        let raw = name.try_into().ok()?;
        Some((ActorId(u64::from_be_bytes(raw)), added))
    });
    let mut all: Vec<(ActorId, Added)> = all.collect();
    // What was added says so by itself, too: who has deleted the stream may have seen the later of two, and not both.
    for entry in entries(object) {
        let seen = Added {
            first: entry.id,
            last: entry.id,
            ..Added::default()
        };
        match all.binary_search_by_key(&entry.actor, |(actor, _)| *actor) {
            Ok(at) => all[at].1 = all[at].1.with(seen),
            Err(at) => all.insert(at, (entry.actor, seen)),
        }
    }
    all
}

/// What says how much an actor has added.
pub fn adder_element(actor: ActorId) -> Element {
    element(&adder_name(actor))
}

/// Where the names of those begin and end.
pub fn adders_between() -> ([u8; 1], [u8; 1]) {
    ([ADDED], [GROUP])
}

/// Where the names of groups begin and end.
pub fn groups_between() -> ([u8; 1], [u8; 1]) {
    ([GROUP], [CONSUMER])
}

/// What an actor has added, over what is known of it.
pub fn put_added(actor: ActorId, added: &Added) -> Touch {
    put(adder_element(actor), added)
}

fn adder_name(actor: ActorId) -> [u8; 9] {
    let mut name = [ADDED; 9];
    name[1..].copy_from_slice(&actor.0.to_be_bytes());
    name
}

/// A group's element.
pub fn group_element(name: &[u8]) -> Element {
    element(&[&[GROUP], name].concat())
}

/// A group.
pub fn group(object: &Object, name: &[u8]) -> Option<Group> {
    read(object.versions(&group_element(name)))
}

/// All groups, in the order of their names.
pub fn groups(object: &Object) -> impl Iterator<Item = (&[u8], Group)> {
    all(object, GROUP)
}

/// A group, over what is known of it.
pub fn put_group(name: &[u8], group: &Group) -> Touch {
    put(group_element(name), group)
}

/// A consumer's element.
pub fn consumer_element(group: &[u8], name: &[u8]) -> Element {
    element(&in_group(CONSUMER, group, name))
}

/// A consumer.
pub fn consumer(object: &Object, group: &[u8], name: &[u8]) -> Option<Consumer> {
    read(object.versions(&consumer_element(group, name)))
}

/// The consumers of a group, in the order of their names.
pub fn consumers<'o>(
    object: &'o Object,
    group: &'o [u8],
) -> impl Iterator<Item = (&'o [u8], Consumer)> {
    let all = all(object, CONSUMER);
    all.filter_map(move |(name, consumer)| {
        let (of, name) = of_group(name)?;
        (of == group).then_some((name, consumer))
    })
}

/// Where the names of a group's consumers begin and end.
pub fn consumers_between(group: &[u8]) -> (Vec<u8>, Vec<u8>) {
    bounds(in_group(CONSUMER, group, &[]))
}

/// A consumer, over what is known of it.
pub fn put_consumer(group: &[u8], name: &[u8], consumer: &Consumer) -> Touch {
    put(consumer_element(group, name), consumer)
}

/// The element of a group's entry that is pending.
pub fn pending_element(group: &[u8], id: Id, actor: ActorId) -> Element {
    element(&in_group(PENDING, group, &name_of(id, actor)))
}

/// What is pending of a group, by ascending id.
pub fn pending<'o>(
    object: &'o Object,
    group: &'o [u8],
) -> impl DoubleEndedIterator<Item = (Id, ActorId, Pending)> + 'o {
    let cells = object.cells_of(Kind::StreamState);
    let (from, to) = pending_between(group);
    let start = cells.partition_point(|(e, _)| e.name < from);
    let end = cells.partition_point(|(e, _)| e.name < to);
    cells[start..end.max(start)]
        .iter()
        .filter_map(|(e, versions)| {
            let (_, name) = of_group(&e.name[1..])?;
            let (id, actor) = named(name)?;
            Some((id, actor, read(versions)?))
        })
}

/// What is pending at hand with an id.
pub fn pending_at(object: &Object, group: &[u8], id: Id) -> Vec<(ActorId, Pending)> {
    let cells = object.cells_of(Kind::StreamState);
    let from = pending_from(group, id);
    let start = cells.partition_point(|(e, _)| e.name < from);
    let its = cells[start..].iter();
    let its = its.take_while(|(e, _)| e.name.starts_with(&from));
    let its = its.filter_map(|(e, versions)| {
        let (_, name) = of_group(&e.name[1..])?;
        Some((named(name)?.1, read(versions)?))
    });
    its.collect()
}

/// Where the names of what is pending of a group begin and end.
pub fn pending_between(group: &[u8]) -> (Vec<u8>, Vec<u8>) {
    bounds(in_group(PENDING, group, &[]))
}

/// From an id on.
pub fn pending_from(group: &[u8], id: Id) -> Vec<u8> {
    in_group(PENDING, group, &id.encode())
}

/// An entry is pending, over what is known of that.
pub fn put_pending(group: &[u8], (id, actor): (Id, ActorId), pending: &Pending) -> Touch {
    put(pending_element(group, id, actor), pending)
}

/// Names that begin with something.
fn bounds(from: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    // A length stands in it: the last byte that is not the greatest is never far.
    let mut to = from.clone();
    while let Some(last) = to.pop() {
        if let Some(next) = last.checked_add(1) {
            to.push(next);
            break;
        }
    }
    (from, to)
}

/// Whether an element of a stream's state can have such a name, and such a value.
pub fn is_possible(name: &[u8], value: Option<&Bytes>) -> bool {
    fn is<S: State>(value: Option<&Bytes>) -> bool {
        value.is_none_or(|raw| {
            let mut r = Reader(raw);
            S::decode(&mut r).is_ok() && r.0.is_empty()
        })
    }
    match name.split_first() {
        Some((&ADDED, rest)) => rest.len() == 8 && is::<Added>(value),
        Some((&GROUP, _)) => is::<Group>(value),
        Some((&CONSUMER, rest)) => of_group(rest).is_some() && is::<Consumer>(value),
        Some((&PENDING, rest)) => {
            let name = of_group(rest).and_then(|(_, name)| named(name));
            name.is_some() && is::<Pending>(value)
        }
        _ => false,
    }
}
