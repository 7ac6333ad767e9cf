//! How a large collection is written down: a head, a row an element, and where elements have another order than
//! that of their names, the same row in that order once more. So that one of a million is read and written alone.
//!
//! ```text
//! head     4 or 8 u8 | generation u64le | length, record of all but the elements of collections | sums | crc32 u32le
//! sums     there by kind: 4 numbers, in version 8, of streams, 6 | elements, gone, conflicted, counted, resets, bytes, latest | sum u64le
//!          | actors: n, then n x (id u64le, versions, first, last - first) | lowest, highest
//! element  5 u8 | versions: n, then n x (actor u64le, as in a record) | resets: n, then n x (actor u64le, seq, total)
//!          | crc32 u32le
//! ```
//!
//! Numbers are varints. The rows of elements stand behind the head's: its key, then the generation (big endian),
//! the kind, of all but lists and streams six bytes of the name's hash, the name. A key that is emptied begins another generation
//! when it has many elements again; the rows of the one before are dropped behind it. Lowest and highest are
//! bounds of the rows in order: what was taken from an end is not passed over again and again.

mod places;
mod ranks;

use bytes::Bytes;

use crate::logic::causal::{
    ActorId, Cells, Element, KINDS, Kind, Object, Reset, Rest, Version, Versions, Wrote,
};
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint, put_zigzag};
use crate::logic::digest;
use crate::logic::record::{self, CHECKSUM_LEN, ROW};
use crate::logic::types::zset;

pub use places::{
    GENERATION_LEN, HASH_LEN, MOST_BEFORE_NAME, SCORES, Stretch, element_at, member_at, order_of,
    ordered, place_of, start_of,
};
pub use ranks::{Found, Ranks, SAMPLED};

const HEAD: u8 = 4;
const ELEMENT: u8 = 5;
const STREAM_HEAD: u8 = 8;
/// So many kinds the sums of a head had before there were streams.
const FIRST_KINDS: usize = 4;

/// What the row of a key with many elements says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// All but the elements of collections.
    pub object: Object,
    /// Which rows are its elements'.
    pub generation: u64,
    /// The sums of all elements.
    pub total: Rest,
    /// What of the rows in order lies outside is not there: what follows the generation in their keys.
    pub bounds: Bounds,
}

/// The lowest and the highest of some rows in order, or bounds of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// None is lower.
    pub lowest: Vec<u8>,
    /// None is higher.
    pub highest: Vec<u8>,
}

/// One element with all that is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'o> {
    /// Which.
    pub element: &'o Element,
    /// Its versions, if there are any.
    pub versions: &'o [Version],
    /// What was overwritten of its contributions.
    pub resets: &'o [Reset],
}

/// What a row of data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// All there is of a key.
    Object(Object),
    /// The head of a key with many elements.
    Head(Box<Head>),
}

/// Whether elements of a kind are rows of their own.
pub fn has_row(kind: Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Expiry)
}

/// The elements of collections that an object has at hand.
pub fn cells(object: &Object) -> Vec<Cell<'_>> {
    let own = object.cells().iter().filter(|(e, _)| has_row(e.kind));
    let mut own = own.peekable();
    let mut resets = object.resets();
    let first = resets.partition_point(|reset| !has_row(reset.element.kind));
    resets = &resets[first..];
    let mut cells = Vec::with_capacity(own.size_hint().1.unwrap_or(0));
    loop {
        let of_cell = own.peek().map(|(element, _)| element);
        let of_reset = resets.first().map(|reset| &reset.element);
        let element = match (of_cell, of_reset) {
            (None, None) => return cells,
            (Some(a), Some(b)) => a.min(b),
            (a, b) => match a.or(b) {
                Some(element) => element,
                None => return cells,
            },
        };
        let len = resets.partition_point(|reset| reset.element == *element);
        let (its, others) = resets.split_at(len);
        let versions = own.next_if(|(of, _)| of == element);
        cells.push(Cell {
            element,
            versions: versions.map_or(&[], |(_, versions)| versions.as_slice()),
            resets: its,
        });
        resets = others;
    }
}

/// The sums of the elements of collections that are at hand.
fn total(object: &Object) -> Rest {
    let mut total = Rest::default();
    for cell in cells(object) {
        total.add(&cell.sums(object));
    }
    total
}

impl Cell<'_> {
    /// What it adds to the sums.
    pub fn sums(&self, object: &Object) -> Rest {
        let is_live = |reset: &&Reset| object.is_live(reset);
        let live = self.resets.iter().filter(is_live);
        let digest = digest::of_element(self.element, self.versions, live);
        Rest::of(self.element, self.versions, self.resets.len(), digest)
    }

    /// Its row.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.push(ELEMENT);
        put_varint(&mut out, self.versions.len() as u64);
        for version in self.versions {
            out.extend_from_slice(&version.dot.actor.0.to_le_bytes());
            record::put_event(&mut out, version);
        }
        put_varint(&mut out, self.resets.len() as u64);
        for reset in self.resets {
            out.extend_from_slice(&reset.actor.0.to_le_bytes());
            put_varint(&mut out, reset.seq);
            put_zigzag(&mut out, reset.total);
        }
        seal(out)
    }

    /// Where it stands in another order than that of names: what follows the generation in its row's key.
    pub fn order(&self, object: &Object) -> Option<Vec<u8>> {
        if self.element.kind != Kind::Zset {
            return None;
        }
        let score = zset::shown(object, self.element, self.versions)?;
        Some(order_of(score, &self.element.name))
    }
}

/// The elements that rows have, as they are gathered.
#[derive(Debug, Default)]
pub struct Gathered {
    cells: Vec<(Element, Versions)>,
    resets: Vec<Reset>,
}

impl Gathered {
    /// Takes the row of an element.
    ///
    /// # Errors
    /// When it is none.
    pub fn take(&mut self, element: Element, row: &[u8]) -> Result<(), DecodeError> {
        let copy = Bytes::copy_from_slice(opened(row, ELEMENT)?);
        let mut r = Reader(&copy);
        let mut versions = Versions::new();
        for _ in 0..r.count(11)? {
            let actor = ActorId(r.u64_le()?);
            versions.push(record::read_event(&mut r, actor, Some(&copy))?);
        }
        for _ in 0..r.count(10)? {
            self.resets.push(Reset {
                element: element.clone(),
                actor: ActorId(r.u64_le()?),
                seq: r.varint()?,
                total: r.zigzag()?,
            });
        }
        if !r.0.is_empty() {
            return Err(DecodeError::Malformed);
        }
        if !versions.is_empty() {
            self.cells.push((element, versions));
        }
        Ok(())
    }
}

impl Gathered {
    /// Keeps one of each element that came twice.
    pub fn dedup(&mut self) {
        self.cells.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.cells.dedup_by(|a, b| a.0 == b.0);
        let place = |reset: &Reset| (reset.element.clone(), reset.actor);
        self.resets.sort_unstable_by_key(place);
        self.resets
            .dedup_by(|a, b| a.element == b.element && a.actor == b.actor);
    }
}

impl Head {
    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        let has_streams = self.total.there[FIRST_KINDS..]
            .iter()
            .any(|there| *there > 0);
        let (version, kinds) = if has_streams {
            (STREAM_HEAD, self.total.there.len())
        } else {
            (HEAD, FIRST_KINDS)
        };
        let mut out = vec![version];
        out.extend_from_slice(&self.generation.to_le_bytes());
        put_bytes(&mut out, &ROW.encode(&self.object));
        let total = &self.total;
        for number in total.there.into_iter().take(kinds) {
            put_varint(&mut out, number);
        }
        for number in [
            total.elements,
            total.gone,
            total.conflicted,
            total.counted,
            total.resets,
            total.bytes,
            total.latest.0,
        ] {
            put_varint(&mut out, number);
        }
        out.extend_from_slice(&total.sum.to_le_bytes());
        put_varint(&mut out, total.actors().len() as u64);
        for wrote in total.actors() {
            out.extend_from_slice(&wrote.actor.0.to_le_bytes());
            put_varint(&mut out, wrote.versions);
            put_varint(&mut out, wrote.first);
            put_varint(&mut out, wrote.last - wrote.first);
        }
        put_bytes(&mut out, &self.bounds.lowest);
        put_bytes(&mut out, &self.bounds.highest);
        seal(out)
    }

    fn decode(row: &[u8]) -> Result<Self, DecodeError> {
        let (version, kinds) = match row.first() {
            Some(&STREAM_HEAD) => (STREAM_HEAD, KINDS.len()),
            _ => (HEAD, FIRST_KINDS),
        };
        let mut r = Reader(opened(row, version)?);
        let generation = r.u64_le()?;
        let object = ROW.decode(r.bytes()?)?;
        let mut total = Rest::default();
        for number in total.there.iter_mut().take(kinds) {
            *number = r.varint()?;
        }
        for number in [
            &mut total.elements,
            &mut total.gone,
            &mut total.conflicted,
            &mut total.counted,
            &mut total.resets,
            &mut total.bytes,
            &mut total.latest.0,
        ] {
            *number = r.varint()?;
        }
        total.sum = r.u64_le()?;
        for _ in 0..r.count(11)? {
            let (actor, versions) = (ActorId(r.u64_le()?), r.varint()?);
            let first = r.varint()?;
            let last = first
                .checked_add(r.varint()?)
                .ok_or(DecodeError::Malformed)?;
            let is_above = |wrote: &Wrote| wrote.actor < actor;
            if !total.actors.last().is_none_or(is_above) {
                return Err(DecodeError::Malformed);
            }
            total.actors.push(Wrote {
                actor,
                versions,
                first,
                last,
            });
        }
        let bounds = Bounds {
            lowest: r.bytes()?.to_vec(),
            highest: r.bytes()?.to_vec(),
        };
        if !r.0.is_empty() {
            return Err(DecodeError::Malformed);
        }
        Ok(Self {
            object,
            generation,
            total,
            bounds,
        })
    }

    /// The object with some of its elements at hand.
    ///
    /// # Errors
    /// When those cannot be its elements.
    pub fn with(self, gathered: Gathered) -> Result<Object, DecodeError> {
        let all = self.total.clone();
        let object = self.gathered(gathered)?;
        let rest = all.without(&total(&object)).ok_or(DecodeError::Malformed)?;
        Ok(object.with_rest(rest))
    }

    fn gathered(self, gathered: Gathered) -> Result<Object, DecodeError> {
        let Gathered {
            cells: mut found,
            mut resets,
        } = gathered;
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        resets.extend_from_slice(self.object.resets());
        resets.sort_unstable_by(|a, b| (&a.element, a.actor).cmp(&(&b.element, b.actor)));
        let own = self.object.cells().iter();
        let (before, behind): (Vec<_>, Vec<_>) =
            own.cloned().partition(|(e, _)| e.kind == Kind::String);
        let cells: Cells = before.into_iter().chain(found).chain(behind).collect();
        let context = self.object.context().clone();
        Object::from_parts(context, cells, resets).ok_or(DecodeError::Malformed)
    }

    /// The same, where all elements were gathered.
    ///
    /// # Errors
    /// When those are not all its elements.
    pub fn with_all(self, gathered: Gathered) -> Result<Object, DecodeError> {
        let total = self.total.clone();
        let whole = self.gathered(gathered)?;
        let is_same = total.is_same(&self::total(&whole));
        is_same.then_some(whole).ok_or(DecodeError::Malformed)
    }
}

/// Whether a row of data is a head.
pub fn is_head(row: &[u8]) -> bool {
    matches!(row.first(), Some(&HEAD | &STREAM_HEAD))
}

/// Whether the row of an element has no versions: what is remembered of them alone.
pub fn is_bare(row: &[u8]) -> bool {
    row.starts_with(&[ELEMENT, 0])
}

/// What a row of data is.
///
/// # Errors
/// When it is nothing that is written there.
pub fn read(row: &[u8]) -> Result<Stored, DecodeError> {
    if is_head(row) {
        return Ok(Stored::Head(Box::new(Head::decode(row)?)));
    }
    Ok(Stored::Object(ROW.decode(row)?))
}

/// All but the elements of collections.
#[must_use]
pub fn without_elements(object: &Object) -> Object {
    let own = object.cells().iter().filter(|(e, _)| !has_row(e.kind));
    let resets = object.resets().iter();
    let resets = resets.filter(|reset| !has_row(reset.element.kind));
    let own: Cells = own.cloned().collect();
    let of_head = Object::from_parts(object.context().clone(), own, resets.cloned().collect());
    of_head.expect("a part of an object is one")
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// What a row says, without its version and its checksum.
fn opened(row: &[u8], version: u8) -> Result<&[u8], DecodeError> {
    let len = row.len().checked_sub(CHECKSUM_LEN);
    let (body, sum) = row.split_at(len.ok_or(DecodeError::Truncated)?);
    if crc32fast::hash(body).to_le_bytes() != sum {
        return Err(DecodeError::Checksum);
    }
    match body.split_first() {
        Some((first, rest)) if *first == version => Ok(rest),
        Some((first, _)) => Err(DecodeError::Version(*first)),
        None => Err(DecodeError::Truncated),
    }
}
