//! ZADD and ZINCRBY.

use std::collections::BTreeMap;

use super::reply;
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::{Element, Kind, Object};
use crate::logic::edit::Edit;
use crate::logic::types::element;
use crate::logic::types::zset::{self, Score};
use crate::replica::Reach;
use crate::routing::args::Args;

/// The options of ZADD.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "six options, each on or off")]
pub(in crate::command::family) struct Options {
    /// Members that are not there alone.
    pub(in crate::command::family) if_absent: bool,
    /// Members that are there alone.
    pub(in crate::command::family) if_present: bool,
    if_greater: bool,
    if_less: bool,
    /// Changes count, too.
    pub(in crate::command::family) counts_changes: bool,
    adds: bool,
}

impl Options {
    /// The options, and where the pairs begin.
    fn parse(args: Args<'_>) -> Result<(Self, usize), Error> {
        let mut options = Self::default();
        let mut nth = 2;
        loop {
            match () {
                () if args.is(nth, "NX") => options.if_absent = true,
                () if args.is(nth, "XX") => options.if_present = true,
                () if args.is(nth, "GT") => options.if_greater = true,
                () if args.is(nth, "LT") => options.if_less = true,
                () if args.is(nth, "CH") => options.counts_changes = true,
                () if args.is(nth, "INCR") => options.adds = true,
                () => break,
            }
            nth += 1;
        }
        let pairs = (args.len() - nth) / 2;
        if pairs == 0 || !(args.len() - nth).is_multiple_of(2) {
            return Err(Error::Syntax);
        }
        let Self {
            if_absent,
            if_present,
            if_greater,
            if_less,
            adds,
            ..
        } = options;
        if if_absent && if_present {
            return Err(Error::text(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if [if_absent, if_greater, if_less]
            .into_iter()
            .filter(|is| *is)
            .count()
            > 1
        {
            return Err(Error::text(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if adds && pairs > 1 {
            return Err(Error::text(
                "ERR INCR option supports a single increment-element pair",
            ));
        }
        Ok((options, nth))
    }

    /// Whether a member that has one score, or is not there, may get another one.
    fn allow(self, old: Option<Score>, new: Score) -> bool {
        match old {
            None => !self.if_present,
            Some(old) => {
                !self.if_absent && (!self.if_greater || new > old) && (!self.if_less || new < old)
            }
        }
    }
}

pub(super) fn zadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (options, first) = Options::parse(args)?;
    let mut pairs = Vec::with_capacity((args.len() - first) / 2);
    for nth in (first..args.len()).step_by(2) {
        let score = zset::parse_score(args.at(nth)).ok_or(Error::NotFloat)?;
        pairs.push((args.at(nth + 1), score));
    }
    if options.adds {
        let (member, amount) = pairs[0];
        let sum = add(ctx, args.at(1), member, amount, options)?;
        reply::reply_score(ctx, sum);
        return Ok(());
    }
    let changed = set(ctx, args.at(1), &pairs, options)?;
    ctx.reply.integer(changed);
    Ok(())
}

/// Sets scores one after the other; how many members that counts.
pub(in crate::command::family) fn set(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    pairs: &[(&[u8], Score)],
    options: Options,
) -> Result<i64, Error> {
    // Beside a removal that this node has not heard of it has to be added again.
    let others_remove = ctx.is_in_cluster();
    let named: Vec<Element> = pairs.iter().map(|(m, _)| element(Kind::Zset, m)).collect();
    ctx.change_some(key, Kind::Zset, Reach::Named(&named), |set, _| {
        Ok(set_all(set, pairs, options, others_remove))
    })
}

/// What setting scores one after the other comes to, and how many members it counts.
fn set_all(
    set: &Object,
    pairs: &[(&[u8], Score)],
    options: Options,
    others_remove: bool,
) -> (Edit, i64) {
    let mut now: BTreeMap<&[u8], Option<Score>> = BTreeMap::new();
    let mut put: BTreeMap<&[u8], Score> = BTreeMap::new();
    let mut counted = 0;
    for (member, score) in pairs {
        let old = *now
            .entry(member)
            .or_insert_with(|| zset::score(set, member));
        if old == Some(*score) {
            if others_remove && !options.if_absent {
                put.insert(member, *score);
            }
            continue;
        }
        if !options.allow(old, *score) {
            continue;
        }
        counted += i64::from(old.is_none() || options.counts_changes);
        now.insert(member, Some(*score));
        put.insert(member, *score);
    }
    let touched = put.iter().map(|(member, score)| zset::put(member, *score));
    (Edit::touch(touched.collect()), counted)
}

pub(super) fn zincrby(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let amount = zset::parse_score(args.at(2)).ok_or(Error::NotFloat)?;
    let sum = add(ctx, args.at(1), args.at(3), amount, Options::default())?;
    reply::reply_score(ctx, sum);
    Ok(())
}

/// The new score; `None` where the options did not allow it.
fn add(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    member: &[u8],
    amount: Score,
    options: Options,
) -> Result<Option<Score>, Error> {
    let named = [element(Kind::Zset, member)];
    ctx.change_some(key, Kind::Zset, Reach::Named(&named), |set, _| {
        let old = zset::score(set, member);
        if old.is_none() && options.if_present || old.is_some() && options.if_absent {
            return Ok((Edit::Keep, None));
        }
        let added = zset::add(set, member, amount.get());
        let (edit, sum) = added.ok_or(Error::text("ERR resulting score is not a number (NaN)"))?;
        Ok(if options.allow(old, sum) {
            (edit, Some(sum))
        } else {
            (Edit::Keep, None)
        })
    })
}
