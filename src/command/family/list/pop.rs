//! Elements that are taken from the ends of lists. Those that wait for one try here as the others do:
//! whoever runs them sees to the waiting.

use bytes::Bytes;

use crate::command::context::{Ctx, Outcome};
use crate::command::family::elements;
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::edit::Edit;
use crate::logic::types::element;
use crate::logic::types::list::{self, End};
use crate::replica::Reach;
use crate::routing::args::Args;

pub(super) fn lpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_some(ctx, args, End::Left, "lpop")
}

pub(super) fn rpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_some(ctx, args, End::Right, "rpop")
}

fn pop_some(ctx: &mut Ctx<'_>, args: Args<'_>, end: End, name: &'static str) -> Outcome {
    if args.len() > 3 {
        return Err(Error::Arity(name.into()));
    }
    if args.len() == 2 {
        let popped = pop(ctx, args.at(1), end, 1)?;
        ctx.reply.bulk_or_null(popped.first().map(|v| &v[..]));
        return Ok(());
    }
    let count = elements::positive_count(args, 2)?;
    if count == 0 {
        let list = ctx.typed_some(args.at(1), Kind::List, Reach::Head)?;
        if list::len(&list) == 0 {
            ctx.reply.null_array();
        } else {
            ctx.reply.array(0);
        }
        return Ok(());
    }
    let popped = pop(ctx, args.at(1), end, count)?;
    if popped.is_empty() {
        ctx.reply.null_array();
    } else {
        ctx.reply.bulks(&popped);
    }
    Ok(())
}

/// So many elements from an end.
pub(super) fn reach_of<'e>(end: End, count: usize) -> Reach<'e> {
    match end {
        End::Left => Reach::Ends(Kind::List, count, 0),
        End::Right => Reach::Ends(Kind::List, 0, count),
    }
}

/// Removes up to `count` elements from an end.
fn pop(ctx: &mut Ctx<'_>, key: &[u8], end: End, count: usize) -> Result<Vec<Bytes>, Error> {
    let reach = reach_of(end, count);
    let popped = ctx.change_some(key, Kind::List, reach, |list, _| {
        let items = list::items(list);
        let items: Vec<(&Bytes, Bytes)> = match end {
            End::Left => items.take(count).collect(),
            End::Right => items.rev().take(count).collect(),
        };
        let removed = items.iter().map(|(place, _)| list::remove(place)).collect();
        let values: Vec<Bytes> = items.into_iter().map(|(_, value)| value).collect();
        Ok((Edit::touch(removed), values))
    })?;
    ctx.count_lookup(!popped.is_empty());
    Ok(popped)
}

fn parse_end(args: Args<'_>, nth: usize) -> Result<End, Error> {
    match () {
        () if args.is(nth, "LEFT") => Ok(End::Left),
        () if args.is(nth, "RIGHT") => Ok(End::Right),
        () => Err(Error::Syntax),
    }
}

pub(super) fn lmove(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let ends = (parse_end(args, 3)?, parse_end(args, 4)?);
    move_one(ctx, args, ends)
}

pub(super) fn blmove(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    lmove(ctx, args)
}

pub(super) fn rpoplpush(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    move_one(ctx, args, (End::Right, End::Left))
}

pub(super) fn brpoplpush(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    rpoplpush(ctx, args)
}

/// What is at an end.
fn outermost(list: &Object, end: End) -> Option<(&Bytes, Bytes)> {
    let mut items = list::items(list);
    match end {
        End::Left => items.next(),
        End::Right => items.next_back(),
    }
}

fn move_one(ctx: &mut Ctx<'_>, args: Args<'_>, (from, to): (End, End)) -> Outcome {
    let (source, target) = (args.at(1), args.at(2));
    let actor = ctx.node.replica.actor();
    let list = ctx.typed_some(source, Kind::List, reach_of(from, 1))?;
    let Some((place, value)) = outermost(&list, from) else {
        ctx.reply.null();
        return Ok(());
    };
    let push = |list: &_, value: &Bytes, now_ms| {
        list::push(list, to, (actor, now_ms), std::iter::once(&value[..]))
    };
    if source == target {
        let both = Reach::Ends(Kind::List, 1, 1);
        let turned = ctx.change_some(source, Kind::List, both, |list, now_ms| {
            let Some((place, value)) = outermost(list, from) else {
                return Ok((Edit::Keep, None));
            };
            let mut turned = push(list, &value, now_ms);
            turned.push(list::remove(place));
            Ok((Edit::Touch(turned), Some(value)))
        })?;
        ctx.reply.bulk_or_null(turned.as_deref());
        return Ok(());
    }
    // The new place before the old one goes: a crash in between leaves two, never none.
    ctx.change_some(target, Kind::List, reach_of(to, 1), |list, now_ms| {
        Ok((Edit::Touch(push(list, &value, now_ms)), ()))
    })?;
    let take = |_: &_, _| Ok((Edit::Touch(vec![list::remove(place)]), ()));
    let named = [element(Kind::List, place)];
    let taken = ctx.change_some(source, Kind::List, Reach::Named(&named), take);
    taken.map_err(|error| error.after_others(true))?;
    ctx.reply.bulk(&value);
    Ok(())
}

pub(super) fn lmpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_multiple(ctx, args, 1)
}

pub(super) fn blmpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_multiple(ctx, args, 2)
}

/// `numkeys key … LEFT|RIGHT [COUNT count]`, from a place on.
fn pop_multiple(ctx: &mut Ctx<'_>, args: Args<'_>, nth: usize) -> Outcome {
    let (keys, at) = elements::multiple_keys(args, nth)?;
    let end = parse_end(args, at)?;
    let count = elements::multiple_count(args, at + 1)?;
    for key in args.from(nth + 1).take(keys) {
        let popped = pop(ctx, key, end, count)?;
        if !popped.is_empty() {
            ctx.reply.array(2);
            ctx.reply.bulk(key);
            ctx.reply.bulks(&popped);
            return Ok(());
        }
    }
    ctx.reply.null_array();
    Ok(())
}

pub(super) fn blpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_first(ctx, args, End::Left)
}

pub(super) fn brpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_first(ctx, args, End::Right)
}

fn pop_first(ctx: &mut Ctx<'_>, args: Args<'_>, end: End) -> Outcome {
    for key in args.from(1).take(args.len() - 2) {
        let popped = pop(ctx, key, end, 1)?;
        if let Some(value) = popped.first() {
            ctx.reply.array(2);
            ctx.reply.bulk(key);
            ctx.reply.bulk(value);
            return Ok(());
        }
    }
    ctx.reply.null_array();
    Ok(())
}
