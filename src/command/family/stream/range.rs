//! Looking at entries by their ids.

use super::parts::{
    INVALID_ID, MOST_OF_AN_ID, entries_stretch, id_or, is_there, reply_entries, whole_ids,
};
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::types::stream::{self, Entry, Id};
use crate::replica::Reach;
use crate::routing::args::Args;

pub(super) fn xlen(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let stream = ctx.typed_some(args.at(1), Kind::Stream, Reach::Head)?;
    ctx.reply.integer(stream::len(&stream) as i64);
    Ok(())
}

/// The beginning of a range of ids.
pub(super) fn first(word: &[u8]) -> Result<Id, Error> {
    match word {
        b"-" => Ok(Id::MIN),
        b"+" => Ok(Id::MAX),
        [b'(', id @ ..] => {
            let id = exclusive(id, 0)?.next();
            id.ok_or(Error::text("ERR invalid start ID for the interval"))
        }
        id => id_or(id, 0),
    }
}

/// The end of a range of ids.
pub(super) fn last(word: &[u8]) -> Result<Id, Error> {
    match word {
        b"-" => Ok(Id::MIN),
        b"+" => Ok(Id::MAX),
        [b'(', id @ ..] => {
            let id = exclusive(id, u64::MAX)?.previous();
            id.ok_or(Error::text("ERR invalid end ID for the interval"))
        }
        id => id_or(id, u64::MAX),
    }
}

fn exclusive(word: &[u8], without: u64) -> Result<Id, Error> {
    Id::parse(word, without).ok_or(INVALID_ID)
}

pub(super) fn xrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (from, to) = (first(args.at(2))?, last(args.at(3))?);
    range(ctx, args, (from, to), false)
}

pub(super) fn xrevrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (from, to) = (first(args.at(3))?, last(args.at(2))?);
    range(ctx, args, (from, to), true)
}

fn range(ctx: &mut Ctx<'_>, args: Args<'_>, (from, to): (Id, Id), is_back: bool) -> Outcome {
    let mut count = None;
    let mut nth = 4;
    while nth < args.len() {
        if !args.is(nth, "COUNT") || nth + 1 == args.len() {
            return Err(Error::Syntax);
        }
        count = Some(usize::try_from(args.integer(nth + 1)?.max(0)).unwrap_or(usize::MAX));
        nth += 2;
    }
    let most = count.unwrap_or(usize::MAX);
    let read = most.saturating_add(MOST_OF_AN_ID);
    let stretch = entries_stretch(from, to, read, is_back);
    let stream = ctx.typed_some(args.at(1), Kind::Stream, Reach::Stretch(&stretch))?;
    if most == 0 && is_there(&stream) {
        ctx.reply.null_array();
        return Ok(());
    }
    let is_in = |entry: &Entry| from <= entry.id && entry.id <= to;
    let entries = stream::entries(&stream).filter(is_in);
    let entries: Vec<Entry> = if is_back {
        whole_ids(entries.rev(), most, |entry| entry.id)
    } else {
        whole_ids(entries, most, |entry| entry.id)
    };
    reply_entries(ctx.reply, &entries);
    Ok(())
}
