//! Ranges of sorted sets, by place, score or bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::rank::counted;
use super::reply;
use crate::command::context::{Ctx, Outcome};
use crate::command::family::elements;
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::edit::Edit;
use crate::logic::spread::Stretch;
use crate::logic::types::zset::{self, Bound, Range, Score};
use crate::replica::Reach;
use crate::routing::args::Args;

/// What a range is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Place,
    Score,
    Bytes,
}

/// What a command asks for.
struct Query<'a> {
    range: Range<'a>,
    backwards: bool,
    with_scores: bool,
    offset: i64,
    limit: i64,
}

impl<'a> Query<'a> {
    /// The two ends of a range and its options; `fixed` is what the command's name says of it.
    fn parse(
        args: Args<'a>,
        first: usize,
        fixed: Option<(By, bool)>,
        may_score: bool,
    ) -> Result<Self, Error> {
        let (mut by, mut backwards) = fixed.unwrap_or((By::Place, false));
        let is_free = fixed.is_none();
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut nth = first + 2;
        while nth < args.len() {
            match () {
                () if may_score && args.is(nth, "WITHSCORES") => with_scores = true,
                () if args.is(nth, "LIMIT") && nth + 2 < args.len() => {
                    offset = args.integer(nth + 1)?;
                    limit = args.integer(nth + 2)?;
                    nth += 2;
                }
                () if is_free && args.is(nth, "REV") => backwards = true,
                () if is_free && by == By::Place && args.is(nth, "BYLEX") => by = By::Bytes,
                () if is_free && by == By::Place && args.is(nth, "BYSCORE") => by = By::Score,
                () => return Err(Error::Syntax),
            }
            nth += 1;
        }
        if limit != -1 && by == By::Place {
            return Err(Error::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or \
                 BYLEX",
            ));
        }
        if with_scores && by == By::Bytes {
            return Err(Error::text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let ends = if backwards && by != By::Place {
            (first + 1, first)
        } else {
            (first, first + 1)
        };
        Ok(Self {
            range: range(args, by, ends)?,
            backwards,
            with_scores,
            offset,
            limit,
        })
    }

    /// A sorted set with all at hand that is asked for.
    fn read(&self, ctx: &Ctx<'_>, key: &[u8]) -> Result<Arc<Object>, Error> {
        let most = usize::try_from(self.offset)
            .ok()
            .zip(usize::try_from(self.limit).ok())
            .map_or(usize::MAX, |(offset, limit)| offset.saturating_add(limit));
        let wanted = Wanted::of((ctx, key), &self.range, most, self.backwards)?;
        ctx.typed_some(key, Kind::Zset, wanted.reach())
    }

    /// Of members in their order those that are asked for.
    fn select<'s>(&self, set: &'s Object) -> Vec<(Score, &'s Bytes)> {
        let mut all = zset::by_score(set);
        if self.backwards && matches!(self.range, Range::Places(..)) {
            all.reverse();
        }
        let mut found = all[select(&self.range, set, &all)].to_vec();
        if self.backwards && !matches!(self.range, Range::Places(..)) {
            found.reverse();
        }
        // A negative offset is beyond the end.
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        found.into_iter().skip(offset).take(limit).collect()
    }
}

/// Which of the members at hand are in a range.
fn select(range: &Range<'_>, set: &Object, members: &[(Score, &Bytes)]) -> std::ops::Range<usize> {
    match range {
        Range::Places(first, last) => elements::places_at_hand(set, (*first, *last), members.len()),
        _ => range.select(members),
    }
}

/// As much of a sorted set as a range takes.
enum Wanted {
    All,
    Places(i64, i64),
    Stretch(Stretch),
}

impl Wanted {
    fn of(
        (ctx, key): (&Ctx<'_>, &[u8]),
        range: &Range<'_>,
        most: usize,
        backwards: bool,
    ) -> Result<Self, Error> {
        Ok(match range {
            // What is at 0 from the one end is at -1 from the other.
            Range::Places(first, last) if backwards => Self::Places(!*last, !*first),
            Range::Places(first, last) => Self::Places(*first, *last),
            Range::Scores(min, max) => {
                Self::Stretch(Stretch::of_scores((*min, *max), most, backwards))
            }
            Range::Bytes(min, max) => match one_score(ctx, key)? {
                Some(score) => {
                    Self::Stretch(Stretch::of_bytes(score, (*min, *max), most, backwards))
                }
                None => Self::All,
            },
        })
    }

    fn reach(&self) -> Reach<'_> {
        match self {
            Self::All => Reach::Whole,
            Self::Places(first, last) => Reach::Places(Kind::Zset, *first, *last),
            Self::Stretch(stretch) => Reach::Stretch(stretch),
        }
    }
}

/// The score that all members of a large sorted set have: then bytes are their order.
fn one_score(ctx: &Ctx<'_>, key: &[u8]) -> Result<Option<Score>, Error> {
    let ends = ctx.some_of(key, Reach::Ends(Kind::Zset, 1, 1))?;
    if ends.is_whole() {
        return Ok(None);
    }
    let members = zset::by_score(&ends);
    let (first, last) = (members.first(), members.last());
    let score = |end: Option<&(Score, &Bytes)>| end.map(|(score, _)| *score);
    Ok(score(first).filter(|first| Some(*first) == score(last)))
}

fn range(args: Args<'_>, by: By, (min, max): (usize, usize)) -> Result<Range<'_>, Error> {
    match by {
        By::Place => Ok(Range::Places(args.integer(min)?, args.integer(max)?)),
        By::Score => {
            let bound =
                |nth| score_bound(args.at(nth)).ok_or(Error::text("ERR min or max is not a float"));
            Ok(Range::Scores(bound(min)?, bound(max)?))
        }
        By::Bytes => {
            let wrong = Error::text("ERR min or max not valid string range item");
            let bound = |nth| byte_bound(args.at(nth)).ok_or(wrong.clone());
            Ok(Range::Bytes(bound(min)?, bound(max)?))
        }
    }
}

fn score_bound(raw: &[u8]) -> Option<Bound<Score>> {
    // As in C, nothing at all is 0.
    let parse = |raw: &[u8]| {
        let raw = raw.trim_ascii_start();
        zset::parse_score(if raw.is_empty() { b"0" } else { raw })
    };
    match raw.strip_prefix(b"(") {
        Some(rest) => parse(rest).map(Bound::Without),
        None => parse(raw).map(Bound::With),
    }
}

fn byte_bound(raw: &[u8]) -> Option<Bound<&[u8]>> {
    match raw.split_first()? {
        (b'-', []) => Some(Bound::Lowest),
        (b'+', []) => Some(Bound::Highest),
        (b'(', rest) => Some(Bound::Without(rest)),
        (b'[', rest) => Some(Bound::With(rest)),
        _ => None,
    }
}

pub(super) fn zrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, None)
}

pub(super) fn zrevrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Some((By::Place, true)))
}

pub(super) fn zrangebyscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Some((By::Score, false)))
}

pub(super) fn zrevrangebyscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Some((By::Score, true)))
}

pub(super) fn zrangebylex(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Some((By::Bytes, false)))
}

pub(super) fn zrevrangebylex(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Some((By::Bytes, true)))
}

fn show(ctx: &mut Ctx<'_>, args: Args<'_>, fixed: Option<(By, bool)>) -> Outcome {
    let query = Query::parse(args, 2, fixed, true)?;
    let set = query.read(ctx, args.at(1))?;
    let found = query.select(&set);
    reply::reply_members(ctx, &found, query.with_scores);
    Ok(())
}

pub(super) fn zrangestore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let query = Query::parse(args, 3, None, false)?;
    let set = query.read(ctx, args.at(2))?;
    let found = query.select(&set);
    let members = found.iter().map(|(score, member)| (*score, &member[..]));
    reply::store(ctx, args.at(1), members)
}

pub(super) fn zcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    count(ctx, args, By::Score)
}

pub(super) fn zlexcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    count(ctx, args, By::Bytes)
}

fn count(ctx: &mut Ctx<'_>, args: Args<'_>, by: By) -> Outcome {
    let range = range(args, by, (2, 3))?;
    let wanted = Wanted::of((ctx, args.at(1)), &range, usize::MAX, false)?;
    if let Wanted::Stretch(stretch) = &wanted
        && !ctx.some_of(args.at(1), Reach::Head)?.is_whole()
    {
        let counted = counted(ctx, args.at(1), |replica, key| {
            replica.count_in(key, stretch)
        })?;
        if let Some(counted) = counted {
            ctx.reply.integer(counted as i64);
            return Ok(());
        }
    }
    let set = ctx.typed_some(args.at(1), Kind::Zset, wanted.reach())?;
    let members = zset::by_score(&set);
    ctx.reply.integer(range.select(&members).len() as i64);
    Ok(())
}

pub(super) fn zremrangebyrank(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    remove(ctx, args, By::Place)
}

pub(super) fn zremrangebyscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    remove(ctx, args, By::Score)
}

pub(super) fn zremrangebylex(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    remove(ctx, args, By::Bytes)
}

fn remove(ctx: &mut Ctx<'_>, args: Args<'_>, by: By) -> Outcome {
    let range = range(args, by, (2, 3))?;
    let wanted = Wanted::of((ctx, args.at(1)), &range, usize::MAX, false)?;
    let gone = ctx.change_some(args.at(1), Kind::Zset, wanted.reach(), |set, _| {
        let members = zset::by_score(set);
        let found = &members[select(&range, set, &members)];
        let removed = found.iter().map(|(_, member)| zset::remove(member));
        Ok((Edit::touch(removed.collect()), found.len()))
    })?;
    ctx.reply.integer(gone as i64);
    Ok(())
}
