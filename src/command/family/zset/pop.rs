//! The members with the lowest or highest scores, which are removed.

use bytes::Bytes;

use crate::command::context::{Ctx, Outcome};
use crate::command::family::elements;
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::edit::Edit;
use crate::logic::types::zset::{self, Score};
use crate::replica::Reach;
use crate::routing::args::Args;

/// From which end.
#[derive(Clone, Copy)]
enum End {
    /// The lowest scores.
    Min,
    /// The highest ones.
    Max,
}

pub(super) fn zpopmin(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_some(ctx, args, End::Min)
}

pub(super) fn zpopmax(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_some(ctx, args, End::Max)
}

fn pop_some(ctx: &mut Ctx<'_>, args: Args<'_>, end: End) -> Outcome {
    if args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = match args.get(2) {
        Some(_) => Some(elements::positive_count(args, 2)?),
        None => None,
    };
    let popped = pop(ctx, args.at(1), end, count.unwrap_or(1))?;
    match count {
        Some(_) => ctx.reply.pairs(popped.len()),
        None => ctx.reply.array(popped.len() * 2),
    }
    for (score, member) in popped {
        if count.is_some() {
            ctx.reply.pair();
        }
        ctx.reply.bulk(&member);
        ctx.reply.double(score.get());
    }
    Ok(())
}

/// Removes up to `count` members from an end.
fn pop(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    end: End,
    count: usize,
) -> Result<Vec<(Score, Bytes)>, Error> {
    let reach = match end {
        End::Min => Reach::Ends(Kind::Zset, count, 0),
        End::Max => Reach::Ends(Kind::Zset, 0, count),
    };
    let popped = ctx.change_some(key, Kind::Zset, reach, |set, _| {
        let mut members = zset::by_score(set);
        if matches!(end, End::Max) {
            members.reverse();
        }
        members.truncate(count);
        let removed = members.iter().map(|(_, member)| zset::remove(member));
        let removed = Edit::touch(removed.collect());
        let popped = members.iter().map(|(score, m)| (*score, (*m).clone()));
        Ok((removed, popped.collect::<Vec<_>>()))
    })?;
    ctx.count_lookup(!popped.is_empty());
    Ok(popped)
}

pub(super) fn zmpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_multiple(ctx, args, 1)
}

pub(super) fn bzmpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_multiple(ctx, args, 2)
}

/// `numkeys key … MIN|MAX [COUNT count]`, from a place on.
fn pop_multiple(ctx: &mut Ctx<'_>, args: Args<'_>, nth: usize) -> Outcome {
    let (keys, at) = elements::multiple_keys(args, nth)?;
    let end = match () {
        () if args.is(at, "MIN") => End::Min,
        () if args.is(at, "MAX") => End::Max,
        () => return Err(Error::Syntax),
    };
    let count = elements::multiple_count(args, at + 1)?;
    for key in args.from(nth + 1).take(keys) {
        let popped = pop(ctx, key, end, count)?;
        if popped.is_empty() {
            continue;
        }
        ctx.reply.array(2);
        ctx.reply.bulk(key);
        ctx.reply.array(popped.len());
        for (score, member) in popped {
            ctx.reply.array(2);
            ctx.reply.bulk(&member);
            ctx.reply.double(score.get());
        }
        return Ok(());
    }
    ctx.reply.null_array();
    Ok(())
}

pub(super) fn bzpopmin(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_first(ctx, args, End::Min)
}

pub(super) fn bzpopmax(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pop_first(ctx, args, End::Max)
}

fn pop_first(ctx: &mut Ctx<'_>, args: Args<'_>, end: End) -> Outcome {
    for key in args.from(1).take(args.len() - 2) {
        let popped = pop(ctx, key, end, 1)?;
        if let Some((score, member)) = popped.first() {
            ctx.reply.array(3);
            ctx.reply.bulk(key);
            ctx.reply.bulk(member);
            ctx.reply.double(score.get());
            return Ok(());
        }
    }
    ctx.reply.null_array();
    Ok(())
}
