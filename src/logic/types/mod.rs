//! Redis types as views of the dotted map: what a reader is shown and what each write changes.
//!
//! A view takes an object that lives; whoever has one knows from [`kind`] which type it shows. Where
//! values of two types live under one key the type of the newest is shown, and the rest waits.

pub mod cell;
pub mod conflict;
mod elements;
pub mod geo;
pub mod hash;
pub mod hll;
pub mod list;
pub mod set;
pub mod stream;
pub mod string;
pub mod zset;

pub use elements::{element, len, places, there};

use bytes::Bytes;

use crate::logic::causal::{Element, Kind, Object, Over, Payload, Value, Version, Versions};
use crate::logic::edit::{Put, Puts};

/// The types, in the words of TYPE.
pub const NAMES: [(Kind, &str); 6] = [
    (Kind::String, "string"),
    (Kind::Hash, "hash"),
    (Kind::Set, "set"),
    (Kind::Zset, "zset"),
    (Kind::List, "list"),
    (Kind::Stream, "stream"),
];

/// What there is of a key, whatever its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// The type that it shows.
    pub kind: Kind,
    /// When it ends, in milliseconds since the epoch.
    pub expires_at_ms: Option<u64>,
}

/// What there is of a key; `None` where it reads as absent.
pub fn present(object: &Object, now_ms: u64) -> Option<Present> {
    Some(Present {
        kind: kind(object, now_ms)?,
        expires_at_ms: object.ends_at_ms(),
    })
}

/// Whether a key reads as present.
pub fn is_present(object: &Object, now_ms: u64) -> bool {
    object.lives(now_ms)
}

/// The type that a key shows; `None` where it reads as absent.
pub fn kind(object: &Object, now_ms: u64) -> Option<Kind> {
    if object.is_expired(now_ms) {
        return None;
    }
    let first = object.first_kind()?;
    if !object.has_several_kinds() {
        return Some(first);
    }
    kinds(object, now_ms).first().map(|(kind, _)| *kind)
}

/// The types that a key holds at once, each with its newest version; the type that is shown is the first.
pub fn kinds(object: &Object, now_ms: u64) -> Vec<(Kind, &Version)> {
    if object.is_expired(now_ms) {
        return Vec::new();
    }
    let newest = |(kind, _): &(Kind, &str)| {
        let versions = object.cells_shown_as(*kind).flat_map(|(_, v)| v.iter());
        let there = versions.filter(|version| version.is_there());
        Some((
            *kind,
            there.max_by_key(|version| (version.at, version.dot))?,
        ))
    };
    let mut kinds: Vec<(Kind, &Version)> = NAMES.iter().filter_map(newest).collect();
    kinds.sort_by_key(|(_, newest)| std::cmp::Reverse((newest.at, newest.dot)));
    kinds
}

/// The word for a type.
pub fn name(kind: Kind) -> &'static str {
    let mut names = NAMES.iter();
    names
        .find(|(of, _)| *of == kind)
        .map_or("none", |(_, name)| name)
}

/// All that a key shows and hides, as values to be put under another key (RENAME, COPY): siblings stay
/// siblings, counters become their sums.
pub fn puts(object: &Object, now_ms: u64) -> Puts {
    let mut puts = Puts::new();
    if object.is_expired(now_ms) {
        return puts;
    }
    // The type that is shown last: it gets the latest dots.
    let kinds = kinds(object, now_ms);
    let cells = kinds
        .iter()
        .rev()
        .flat_map(|(kind, _)| object.cells_shown_as(*kind))
        .filter(|cell| elements::is_there(cell));
    for (element, versions) in cells {
        let values: Vec<Bytes> = match element.kind {
            // An older one may have gone further.
            Kind::StreamState => bases(versions),
            Kind::Set => vec![Bytes::new()],
            Kind::Zset => zset::siblings(object, element, versions, None)
                .into_iter()
                .map(|sibling| sibling.bytes)
                .collect(),
            _ => cell::siblings(object, element, versions, None)
                .into_iter()
                .map(|sibling| sibling.bytes)
                .collect(),
        };
        // The newest last: it gets the latest dot.
        puts.extend(values.into_iter().rev().map(|bytes| Put {
            element: element.clone(),
            value: Value {
                payload: Payload::Bytes(bytes),
                expires_at_ms: None,
            },
        }));
    }
    end_at(&mut puts, object.ends_at_ms());
    puts
}

/// The base values of an element, newest first.
fn bases(versions: &[Version]) -> Vec<Bytes> {
    let mut there: Vec<&Version> = versions.iter().collect();
    there.sort_by_key(|version| std::cmp::Reverse((version.at, version.dot)));
    let values = there.into_iter();
    let values = values.filter_map(|version| version.value.payload.base());
    values.cloned().collect()
}

/// Has values that are put under a key end at a moment.
pub fn end_at(puts: &mut Puts, at_ms: Option<u64>) {
    let mut has_collection = false;
    for Put { element, value } in puts.iter_mut() {
        match element.kind {
            Kind::String => value.expires_at_ms = at_ms,
            _ => has_collection = true,
        }
    }
    let ending = at_ms.filter(|_| has_collection).map(|at_ms| Put {
        element: Element::EXPIRY,
        value: Value {
            payload: Payload::Deadline(Over::default()),
            expires_at_ms: Some(at_ms),
        },
    });
    puts.extend(ending);
}

/// Whether every element has a name and values that its type can have.
pub fn is_possible(object: &Object) -> bool {
    let is_counted = |kind| matches!(kind, Kind::String | Kind::Hash | Kind::Zset);
    let mut resets = object.resets().iter();
    if !resets.all(|reset| is_counted(reset.element.kind)) {
        return false;
    }
    object.cells().iter().all(|(element, versions)| {
        let mut payloads = versions.iter().map(|version| &version.value.payload);
        payloads.all(|payload| fits(element, payload))
    })
}

/// The same of values that are to be put.
pub fn are_possible(puts: &Puts) -> bool {
    let mut puts = puts.iter();
    puts.all(|put| fits(&put.element, &put.value.payload))
}

fn fits(element: &Element, payload: &Payload) -> bool {
    let name = &element.name;
    let is_gone = payload.is_gone();
    match element.kind {
        Kind::String | Kind::Expiry => name.is_empty(),
        Kind::Hash => true,
        Kind::Set => is_gone || payload.base().is_some_and(Bytes::is_empty),
        Kind::Zset => match payload {
            Payload::Bytes(raw) => zset::Score::decode(raw).is_some(),
            _ => true,
        },
        Kind::List => list::is_place(name) && (is_gone || payload.base().is_some()),
        Kind::Stream | Kind::StreamState => {
            let value = payload.base();
            (is_gone || value.is_some()) && stream::is_possible(element.kind, name, value)
        }
    }
}

/// Up to where Redis would keep a collection compactly.
#[derive(Clone, Copy, Debug)]
pub struct Compact {
    /// Fields, members or integers at most.
    pub most: usize,
    /// Bytes of each at most.
    pub longest: usize,
}

/// The word of OBJECT ENCODING for a collection: what Redis would keep it in.
pub fn encoding(object: &Object, kind: Kind, compact: Compact) -> &'static str {
    let is_short = |(element, versions): &(Element, Versions)| {
        let value = cell::shown(object, element, versions);
        let value_len = value.map_or(0, |value| value.len());
        element.name.len() <= compact.longest
            && (kind == Kind::Zset || value_len <= compact.longest)
    };
    let are_few = || len(object, kind) <= compact.most;
    let is_small = || are_few() && there(object, kind).all(is_short);
    match kind {
        Kind::Hash | Kind::Zset if is_small() => "listpack",
        Kind::Zset => "skiplist",
        Kind::Set if are_few() && set::are_integers(object) => "intset",
        Kind::List => "quicklist",
        Kind::Stream => "stream",
        _ => "hashtable",
    }
}
