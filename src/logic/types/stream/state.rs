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

use super::entry::{name_of, named};
use super::id::Id;
use crate::logic::causal::{ActorId, Element, Kind, Object, Payload, Version};
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint, put_zigzag};
use crate::logic::edit::Touch;
use crate::logic::types::elements;

const ADDED: u8 = 1;
const GROUP: u8 = 2;
const CONSUMER: u8 = 3;
const PENDING: u8 = 4;

/// A value that an element of a stream's state has.
pub trait State: Sized {
    /// As it is stored.
    fn encode(&self) -> Vec<u8>;
    /// From what is stored.
    ///
    /// # Errors
    /// When it is nothing of the sort.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// With another version of it, which is newer.
    #[must_use]
    fn with(self, newer: Self) -> Self;
}

/// What an actor has added to a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Its first entry.
    pub first: Id,
    /// Its last one.
    pub last: Id,
    /// The highest entry that was taken out by XDEL here.
    pub deleted: Id,
    /// How many it has added.
    pub count: u64,
}

/// How far a group is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Where it began: what was there up to here is not its business.
    pub start: Id,
    /// When that was said, in milliseconds since the epoch.
    pub set_at_ms: u64,
    /// How many entries it has read, where that is known.
    pub read: Option<u64>,
    /// Up to where it has got the entries of each actor, by ascending actor: ids of one actor ascend, those of two
    /// that do not hear each other may be found between others later.
    pub positions: Vec<(ActorId, Id)>,
}

/// Who reads for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// When it was heard of last, in milliseconds since the epoch.
    pub seen_ms: u64,
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// When it was delivered last, in milliseconds since the epoch.
    pub delivered_ms: u64,
    /// How often.
    pub times: u64,
    /// To whom.
    pub consumer: Bytes,
}

fn put_id(out: &mut Vec<u8>, id: Id) {
    out.extend_from_slice(&id.encode());
}

fn read_id(r: &mut Reader<'_>) -> Result<Id, DecodeError> {
    let raw = r.take(Id::LEN)?.try_into();
    Ok(Id::decode(raw.map_err(|_| DecodeError::Truncated)?))
}

impl State for Added {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 * Id::LEN + 4);
        for id in [self.first, self.last, self.deleted] {
            put_id(&mut out, id);
        }
        put_varint(&mut out, self.count);
        out
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first: read_id(r)?,
            last: read_id(r)?,
            deleted: read_id(r)?,
            count: r.varint()?,
        })
    }

    fn with(self, newer: Self) -> Self {
        let firsts = [self.first, newer.first].into_iter();
        Self {
            first: firsts.filter(|id| *id > Id::MIN).min().unwrap_or_default(),
            last: self.last.max(newer.last),
            deleted: self.deleted.max(newer.deleted),
            count: self.count.max(newer.count),
        }
    }
}

impl State for Group {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        put_id(&mut out, self.start);
        put_varint(&mut out, self.set_at_ms);
        let read = self.read.and_then(|read| i64::try_from(read).ok());
        put_zigzag(&mut out, read.unwrap_or(-1));
        put_varint(&mut out, self.positions.len() as u64);
        for (actor, id) in &self.positions {
            out.extend_from_slice(&actor.0.to_le_bytes());
            put_id(&mut out, *id);
        }
        out
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (start, set_at_ms, read) = (read_id(r)?, r.varint()?, r.zigzag()?);
        let positions = (0..r.count(8 + Id::LEN)?).map(|_| Ok((ActorId(r.u64_le()?), read_id(r)?)));
        let positions: Vec<(ActorId, Id)> = positions.collect::<Result<_, DecodeError>>()?;
        if !positions.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError::Malformed);
        }
        Ok(Self {
            start,
            set_at_ms,
            read: u64::try_from(read).ok(),
            positions,
        })
    }

    fn with(mut self, newer: Self) -> Self {
        if self.set_at_ms != newer.set_at_ms || self.start != newer.start {
            // Who has set it anew has the last word.
            return if self.set_at_ms > newer.set_at_ms {
                self
            } else {
                newer
            };
        }
        for (actor, id) in newer.positions {
            self.reach(actor, id);
        }
        self.read = self.read.max(newer.read);
        self
    }
}

impl State for Consumer {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.seen_ms);
        out
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seen_ms: r.varint()?,
        })
    }

    fn with(self, newer: Self) -> Self {
        Self {
            seen_ms: self.seen_ms.max(newer.seen_ms),
        }
    }
}

impl State for Pending {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.consumer.len());
        put_varint(&mut out, self.delivered_ms);
        put_varint(&mut out, self.times);
        put_bytes(&mut out, &self.consumer);
        out
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            delivered_ms: r.varint()?,
            times: r.varint()?,
            consumer: Bytes::copy_from_slice(r.bytes()?),
        })
    }

    fn with(self, newer: Self) -> Self {
        newer
    }
}

impl Group {
    /// One that begins behind an id.
    pub fn behind(start: Id, read: Option<u64>, now_ms: u64) -> Self {
        Self {
            start,
            set_at_ms: now_ms,
            read,
            positions: Vec::new(),
        }
    }

    /// Up to where it has got the entries of an actor.
    pub fn position(&self, actor: ActorId) -> Id {
        let at = self.positions.binary_search_by_key(&actor, |(of, _)| *of);
        at.map_or(self.start, |at| self.positions[at].1)
    }

    /// The last one that it has got, or where it began.
    pub fn last(&self) -> Id {
        let positions = self.positions.iter().map(|(_, id)| *id);
        positions.max().unwrap_or_default().max(self.start)
    }

    /// It has got the entries of an actor up to one.
    fn reach(&mut self, actor: ActorId, id: Id) {
        match self.positions.binary_search_by_key(&actor, |(of, _)| *of) {
            Ok(at) => self.positions[at].1 = self.positions[at].1.max(id),
            Err(at) => self.positions.insert(at, (actor, id)),
        }
    }

    /// It has got all that is known up to an id.
    pub fn advance(&mut self, adders: &[(ActorId, Added)], to: Id) {
        for (actor, added) in adders {
            let upto = added.last.min(to);
            if upto > self.position(*actor) {
                self.reach(*actor, upto);
            }
        }
    }

    /// Behind which id there may be entries that it has not got; `None` where there are none.
    pub fn next_behind(&self, adders: &[(ActorId, Added)]) -> Option<Id> {
        let behind = adders.iter().filter_map(|(actor, added)| {
            let position = self.position(*actor);
            let before = added.first.previous().unwrap_or_default();
            (added.last > position).then(|| position.max(before))
        });
        behind.min()
    }
}

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
    all.collect()
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
    put(element(&adder_name(actor)), added)
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(ms: u64) -> Id {
        Id { ms, seq: 0 }
    }

    fn added(first: u64, last: u64) -> Added {
        Added {
            first: id(first),
            last: id(last),
            ..Added::default()
        }
    }

    fn same<S: State + PartialEq + std::fmt::Debug>(state: &S) {
        let raw = state.encode();
        let mut r = Reader(&raw);
        assert_eq!(S::decode(&mut r).as_ref(), Ok(state));
        assert!(r.0.is_empty());
    }

    #[test]
    fn what_is_written_is_read() {
        same(&added(1, 5));
        same(&Pending {
            delivered_ms: 5,
            times: 2,
            consumer: Bytes::from_static(b"c"),
        });
        same(&Consumer { seen_ms: 1 << 40 });
        let mut group = Group::behind(id(3), None, 99);
        group.advance(
            &[(ActorId(7), added(1, 9)), (ActorId(9), added(1, 4))],
            id(5),
        );
        same(&group);
    }

    #[test]
    fn entries_that_come_late_with_lower_ids_are_not_passed_over() {
        let (a, b) = (ActorId(1), ActorId(2));
        let mut group = Group::behind(Id::MIN, Some(0), 1);
        group.advance(&[(a, added(10, 100))], id(100));
        assert_eq!(group.next_behind(&[(a, added(10, 100))]), None);
        // B could not be heard, and has added at 50.
        let both = [(a, added(10, 100)), (b, added(50, 60))];
        let behind = group.next_behind(&both);
        assert!(behind.is_some_and(|at| at >= id(49) && at < id(50)));
        group.advance(&both, id(60));
        assert_eq!(group.next_behind(&both), None);
        assert_eq!(group.last(), id(100));
        // A goes on.
        let more = [(a, added(10, 120)), (b, added(50, 60))];
        assert_eq!(group.next_behind(&more), Some(id(100)));
    }

    #[test]
    fn two_sides_that_went_on_have_got_what_either_has_got_unless_one_has_set_it_anew() {
        let (a, b) = (ActorId(1), ActorId(2));
        let mut left = Group::behind(id(5), Some(1), 1);
        let mut right = left.clone();
        left.advance(&[(a, added(6, 20))], id(20));
        right.advance(&[(a, added(6, 10)), (b, added(7, 30))], id(30));
        let both = left.clone().with(right.clone());
        assert_eq!(both, right.clone().with(left.clone()));
        assert_eq!(both.positions, [(a, id(20)), (b, id(30))]);
        let again = Group::behind(Id::MIN, None, 2);
        assert_eq!(both.with(again.clone()), again);
        assert_eq!(again.clone().with(left), again);
    }
}
