//! What commands on collections have in common: counts, and scans of elements.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::blocking::at_length;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::{Element, Kind, Object};
use crate::logic::glob;
use crate::logic::placement::key_hash;
use crate::logic::spread::{self, Stretch};
use crate::logic::types::{self, element, len, places, there};
use crate::replica::Reach;
use crate::resp::Reply;
use crate::routing::args::Args;

/// Collections of more elements than this are replied in pages of so many.
const PAGES_FROM: usize = 8_192;
const PAGE: usize = 256;
/// Bytes of the protocol around a field and its value, about.
const AROUND: u64 = 14;
/// At most so much of a reply is made room for before it is there.
const MOST_RESERVED: usize = 256 << 20;
/// Collections of so many elements are scanned in one go, as Redis's small ones are.
const SCANNED_AT_ONCE: usize = 128;

/// The elements of a kind that arguments from one on name.
pub(super) fn named(kind: Kind, args: Args<'_>, from: usize) -> Vec<Element> {
    args.from(from).map(|name| element(kind, name)).collect()
}

/// Which of the elements at hand, so many, are those between two places: all, where others are not.
pub(super) fn places_at_hand(
    object: &Object,
    (first, last): (i64, i64),
    at_hand: usize,
) -> std::ops::Range<usize> {
    if object.is_whole() {
        places(first, last, at_hand)
    } else {
        0..at_hand
    }
}

/// Replies with all elements of a collection: how many there are, and each. Those of a large one are shown page by
/// page, so that they are not all in memory beside the reply.
pub(super) fn reply_all(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    kind: Kind,
    begin: fn(&mut Reply, usize),
    each: fn(&mut Reply, &Object),
) -> Outcome {
    let head = ctx.some_of(key, Reach::Head)?;
    let is_shown = types::kind(&head, clock::now_ms()) == Some(kind);
    if is_shown && !head.is_whole() && len(&head, kind) > PAGES_FROM {
        let mark = ctx.reply.len();
        let is_all = at_length(|| reply_in_pages(ctx, (key, kind), &head, (begin, each)));
        if !matches!(is_all, Ok(true)) {
            ctx.reply.buffer().truncate(mark);
        }
        if is_all? {
            ctx.count_lookup(true);
            return Ok(());
        }
    }
    let all = if head.is_whole() {
        ctx.as_typed(head, kind)?
    } else {
        ctx.typed(key, kind)?
    };
    begin(ctx.reply, len(&all, kind));
    each(ctx.reply, &all);
    Ok(())
}

/// The same in pages; `false` where something was written meanwhile: then they are not of one moment. What is replied
/// so far has to be taken back then.
fn reply_in_pages(
    ctx: &mut Ctx<'_>,
    (key, kind): (&[u8], Kind),
    head: &Object,
    (begin, each): (fn(&mut Reply, usize), fn(&mut Reply, &Object)),
) -> Result<bool, Error> {
    // Where it is made at once it need not be copied again and again.
    let bytes = head
        .rest()
        .map_or(0, |rest| rest.bytes() + rest.elements() * AROUND);
    let bytes = usize::try_from(bytes).unwrap_or(MOST_RESERVED);
    ctx.reply.buffer().reserve(bytes.min(MOST_RESERVED));
    begin(ctx.reply, len(head, kind));
    let mut stretch = Stretch {
        from: vec![kind as u8],
        to: vec![kind as u8 + 1],
        most: PAGE,
        is_back: false,
        wraps: false,
    };
    loop {
        let page = ctx.some_of(key, Reach::Stretch(&stretch))?;
        if page.is_whole() || page.context() != head.context() {
            return Ok(false);
        }
        each(ctx.reply, &page);
        let places = there(&page, kind).map(|(element, _)| spread::place_of(element));
        match places.max() {
            Some(last) if there(&page, kind).count() == PAGE => {
                stretch.from = [&last[..], &[0]].concat();
            }
            _ => return Ok(true),
        }
    }
}

/// The options of HSCAN, SSCAN and ZSCAN.
pub(super) struct Scan<'a> {
    cursor: u64,
    count: usize,
    pattern: Option<&'a [u8]>,
}

impl<'a> Scan<'a> {
    /// A page of the elements of a key, as `key cursor [MATCH pattern] [COUNT count]` asks for it.
    /// Redis looks at its options last.
    pub(super) fn page<V: AsRef<[u8]>>(
        ctx: &mut Ctx<'_>,
        args: Args<'a>,
        kind: Kind,
        all: impl FnOnce(&Object) -> Vec<(&Bytes, Option<V>)>,
    ) -> Outcome {
        let cursor = std::str::from_utf8(args.at(2)).ok();
        let cursor = cursor.and_then(|text| text.parse().ok());
        let cursor = cursor.ok_or(Error::text("ERR invalid cursor"))?;
        let options = Self::new(cursor).with_options(args);
        let count = options.as_ref().map_or(1, |scan| scan.count);
        let (object, is_all) = Self::read(ctx, args.at(1), kind, (cursor, count))?;
        let scan = if object.is_unknown() {
            Self::new(0)
        } else {
            options?
        };
        let len = len(&object, kind);
        scan.reply(ctx, all(&object), (len, is_all))
    }

    /// A collection with more than a page at hand from a cursor on, and whether it ends with that.
    fn read(
        ctx: &Ctx<'_>,
        key: &[u8],
        kind: Kind,
        (cursor, count): (u64, usize),
    ) -> Result<(Arc<Object>, bool), Error> {
        let head = ctx.some_of(key, Reach::Head)?;
        if head.is_whole() {
            return Ok((ctx.as_typed(head, kind)?, true));
        }
        let [_, _, hash @ ..] = cursor.min(MOST_PLACE).to_be_bytes();
        let mut most = count.saturating_add(1);
        if len(&head, kind) <= SCANNED_AT_ONCE {
            most = most.max(SCANNED_AT_ONCE + 1);
        }
        loop {
            let stretch = Stretch::of_hashes(kind, hash, most, false);
            let object = ctx.some_of(key, Reach::Stretch(&stretch))?;
            let places = || there(&object, kind).map(|(element, _)| place(&element.name));
            let is_all = object.is_whole() || places().count() < most;
            // What shares the last place may go on.
            if is_all || places().min() != places().max() {
                return Ok((ctx.as_typed(object, kind)?, is_all));
            }
            most = most.saturating_mul(2);
        }
    }

    fn new(cursor: u64) -> Self {
        Self {
            cursor,
            count: 10,
            pattern: None,
        }
    }

    fn with_options(mut self, args: Args<'a>) -> Result<Self, Error> {
        let mut nth = 3;
        while nth < args.len() {
            if args.is(nth, "COUNT") && nth + 1 < args.len() {
                let count = args.integer(nth + 1)?;
                let count = usize::try_from(count).ok().filter(|count| *count > 0);
                self.count = count.ok_or(Error::Syntax)?;
            } else if args.is(nth, "MATCH") && nth + 1 < args.len() {
                self.pattern = Some(args.at(nth + 1));
            } else {
                return Err(Error::Syntax);
            }
            nth += 2;
        }
        Ok(self)
    }

    /// A page of elements, each with what is shown beside it. An element that is there throughout comes.
    ///
    /// Elements are in the order of their hashes, and a cursor is where in that order to go on: whoever
    /// comes or goes meanwhile moves nobody else. Of a large collection some are at hand from the cursor on.
    fn reply<V: AsRef<[u8]>>(
        &self,
        ctx: &mut Ctx<'_>,
        all: Vec<(&Bytes, Option<V>)>,
        (len, is_all): (usize, bool),
    ) -> Outcome {
        let is_small = len <= SCANNED_AT_ONCE && is_all;
        let mut placed: Vec<(u64, &Bytes, Option<V>)> = all
            .into_iter()
            .map(|(name, value)| (place(name), name, value))
            .filter(|(place, ..)| *place >= self.cursor)
            .collect();
        let mut next = 0;
        if !is_small && (placed.len() > self.count || !is_all) {
            placed.sort_unstable_by_key(|(place, ..)| *place);
            let end = placed.last().map_or(0, |(place, ..)| *place);
            let nth = self.count.min(placed.len()).saturating_sub(1);
            let mut last = placed.get(nth).map_or(0, |(place, ..)| *place);
            if !is_all && last == end {
                // Others may share it: they come with the next page.
                let before = placed.partition_point(|(place, ..)| *place < end);
                last = placed
                    .get(before.saturating_sub(1))
                    .map_or(0, |(place, ..)| *place);
            }
            let taken = placed.partition_point(|(place, ..)| *place <= last);
            if taken < placed.len() || !is_all {
                next = last + 1;
            }
            placed.truncate(taken);
        }
        let is_wanted = |name: &[u8]| self.pattern.is_none_or(|p| glob::matches(p, name));
        placed.retain(|(_, name, _)| is_wanted(name));
        ctx.reply.array(2);
        ctx.reply.bulk(next.to_string().as_bytes());
        let values = placed.iter().filter(|(.., value)| value.is_some()).count();
        ctx.reply.array(placed.len() + values);
        for (_, name, value) in placed {
            ctx.reply.bulk(name);
            if let Some(value) = value {
                ctx.reply.bulk(value.as_ref());
            }
        }
        Ok(())
    }
}

/// The last place.
const MOST_PLACE: u64 = (1 << 48) - 1;

/// Where an element comes in a scan: numbers that every client can hold.
fn place(name: &[u8]) -> u64 {
    key_hash(name) >> 16
}

/// The number of keys that a word says, and the place behind them: LMPOP and its like.
pub(super) fn multiple_keys(args: Args<'_>, nth: usize) -> Result<(usize, usize), Error> {
    let none = Error::text("ERR numkeys should be greater than 0");
    let count = args.integer(nth).ok().filter(|count| *count > 0);
    let count = count.ok_or(none)?;
    let behind = usize::try_from(count).unwrap_or(usize::MAX);
    let behind = behind.saturating_add(nth + 1);
    if behind >= args.len() {
        return Err(Error::Syntax);
    }
    Ok((count as usize, behind))
}

/// `[COUNT count]`
pub(super) fn multiple_count(args: Args<'_>, nth: usize) -> Result<usize, Error> {
    let mut found = None;
    let mut nth = nth;
    while nth < args.len() {
        if found.is_some() || !args.is(nth, "COUNT") || nth + 1 == args.len() {
            return Err(Error::Syntax);
        }
        let count = args.integer(nth + 1).ok().filter(|count| *count > 0);
        let wrong = Error::text("ERR count should be greater than 0");
        found = Some(count.ok_or(wrong)? as usize);
        nth += 2;
    }
    Ok(found.unwrap_or(1))
}

/// Refuses a reply of more bytes than a string may have: elements that come again and again are bounded by
/// nothing else.
pub(super) fn check_reply(ctx: &Ctx<'_>, lens: impl Iterator<Item = usize>) -> Outcome {
    if lens.sum::<usize>() > ctx.max_string() {
        return Err(Error::OutOfRange);
    }
    Ok(())
}

/// A count that must not be negative.
pub(super) fn positive_count(args: Args<'_>, nth: usize) -> Result<usize, Error> {
    let count = args.integer(nth).map_err(|_| Error::NotPositive)?;
    usize::try_from(count).map_err(|_| Error::NotPositive)
}

/// How many keys a word says that follow it.
pub(super) fn key_count(args: Args<'_>, nth: usize) -> Result<usize, Error> {
    let none = Error::text("ERR numkeys should be greater than 0");
    let count = args.integer(nth).map_err(|_| none.clone())?;
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or(none)?;
    if count > args.len() - nth - 1 {
        return Err(Error::text(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    Ok(count)
}
