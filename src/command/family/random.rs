//! Random elements of collections.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::blocking::at_length;
use crate::base::clock;
use crate::command::context::Ctx;
use crate::error::Error;
use crate::logic::causal::{Element, Kind, Object, Version};
use crate::logic::spread::Stretch;
use crate::logic::types::{self, len, there};
use crate::replica::{Reach, random_u64};
use crate::routing::args::Args;

/// A random element is one of so many that follow a random place.
const RANDOM_AMONG: usize = 16;
/// How many elements a client may ask for where each may come more than once.
const MOST_REPEATS: u64 = 1 << 24;
/// More random elements, or more than one of so many, are chosen among all of them: to read an element at a random
/// place costs as much as to read so many one after the other.
const MOST_ONE_BY_ONE: u64 = 1_024;
const ONE_BY_ONE_OF: u64 = 50;
/// To find more takes its time.
const FEW: u64 = 32;

/// Elements that follow a random place.
pub(super) fn stretch(kind: Kind) -> Stretch {
    let [_, _, hash @ ..] = random_u64().to_be_bytes();
    Stretch::of_hashes(kind, hash, RANDOM_AMONG, true)
}

/// So many random elements of a large collection, without reading all of it: where negative, some may come again.
/// `None` where it is small, or too many are wanted of it.
pub(super) fn of_large(
    ctx: &Ctx<'_>,
    key: &[u8],
    kind: Kind,
    count: i64,
) -> Result<Option<Vec<Element>>, Error> {
    let head = ctx.some_of(key, Reach::Head)?;
    let wanted = count.unsigned_abs();
    let is_large = !head.is_whole() && types::kind(&head, clock::now_ms()) == Some(kind);
    if !is_large || wanted > MOST_ONE_BY_ONE.min(len(&head, kind) as u64 / ONE_BY_ONE_OF) {
        return Ok(None);
    }
    let choose = || one_by_one(ctx, key, kind, count);
    if wanted <= FEW {
        choose()
    } else {
        at_length(choose)
    }
}

/// A collection with so many random elements at hand, and which they are; or all of it.
pub(super) fn read(
    ctx: &Ctx<'_>,
    key: &[u8],
    kind: Kind,
    count: i64,
) -> Result<(Arc<Object>, Option<Vec<Element>>), Error> {
    if let Some(chosen) = of_large(ctx, key, kind, count)? {
        let object = ctx.some_of(key, Reach::Named(&chosen))?;
        let is_there = |of: &Element| object.versions(of).iter().any(Version::is_there);
        // Else some have gone since they were chosen.
        if chosen.iter().all(is_there) {
            return Ok((ctx.as_typed(object, kind)?, Some(chosen)));
        }
    }
    Ok((ctx.typed(key, kind)?, None))
}

fn one_by_one(
    ctx: &Ctx<'_>,
    key: &[u8],
    kind: Kind,
    count: i64,
) -> Result<Option<Vec<Element>>, Error> {
    let wanted = count.unsigned_abs();
    let (mut chosen, mut met) = (Vec::new(), BTreeSet::new());
    // Few come again, of so many.
    for _ in 0..wanted * 4 + 64 {
        if chosen.len() as u64 == wanted {
            return Ok(Some(chosen));
        }
        let stretch = stretch(kind);
        let some = ctx.some_of(key, Reach::Stretch(&stretch))?;
        let at = below(there(&some, kind).count());
        if let Some((element, _)) = there(&some, kind).nth(at)
            && (count < 0 || met.insert(element.name.clone()))
        {
            chosen.push(element.clone());
        }
    }
    Ok(None)
}

/// Their names.
pub(super) fn names(elements: &[Element]) -> impl Iterator<Item = &Bytes> {
    elements.iter().map(|element| &element.name)
}

/// A number below another, or 0.
pub(super) fn below(end: usize) -> usize {
    (random_u64() % (end as u64).max(1)) as usize
}

/// So many of `len` places: where negative, some may come again; else each once, in any order.
pub(super) fn places(len: usize, count: i64) -> Result<Vec<usize>, Error> {
    if len == 0 {
        return Ok(Vec::new());
    }
    if count < 0 {
        let count = count.unsigned_abs();
        if count > MOST_REPEATS {
            return Err(Error::OutOfRange);
        }
        return Ok((0..count).map(|_| below(len)).collect());
    }
    let mut places: Vec<usize> = (0..len).collect();
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(len);
    // The beginning of a shuffle.
    for at in 0..count {
        places.swap(at, at + below(len - at));
    }
    places.truncate(count);
    Ok(places)
}

/// How many random elements are wanted, and whether with what this option says.
pub(super) fn count(args: Args<'_>, with: &str) -> Result<(i64, bool), Error> {
    let count = args.integer(2)?;
    let is_with = args.is(3, with);
    if args.len() > 4 || args.len() == 4 && !is_with {
        return Err(Error::Syntax);
    }
    if is_with && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::OutOfRange);
    }
    if count == i64::MIN {
        return Err(Error::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    Ok((count, is_with))
}
