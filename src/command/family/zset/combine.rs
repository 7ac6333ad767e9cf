//! Unions, intersections and differences of sorted sets, and of sets, whose members have the score 1.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use super::reply;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::types::zset::Score;
use crate::logic::types::{self, set, zset};
use crate::routing::args::Args;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            // Infinities of both signs are nothing.
            Self::Sum if (a + b).is_nan() => 0.0,
            Self::Sum => a + b,
            Self::Min => a.min(b),
            Self::Max => a.max(b),
        }
    }
}

type Scores = BTreeMap<Bytes, f64>;

struct Combined {
    members: Vec<(Score, Bytes)>,
    with_scores: bool,
    limit: usize,
}

/// `numkeys key … [WEIGHTS …] [AGGREGATE …] [WITHSCORES] [LIMIT n]`, from a place on.
struct Query {
    operation: Operation,
    first: usize,
    may_score: bool,
    may_limit: bool,
}

impl Query {
    fn run(&self, ctx: &Ctx<'_>, args: Args<'_>, name: &'static str) -> Result<Combined, Error> {
        let count = args.integer(self.first)?;
        if count < 1 {
            let text = format!("ERR at least 1 input key is needed for '{name}' command");
            return Err(Error::Text(text.into()));
        }
        let room = args.len() - self.first - 1;
        let count = usize::try_from(count).ok().filter(|count| *count <= room);
        let count = count.ok_or(Error::Syntax)?;
        // A key that is named more than once is read once.
        let mut read: BTreeMap<&[u8], Rc<Scores>> = BTreeMap::new();
        let mut sets = Vec::with_capacity(count);
        for key in args.from(self.first + 1).take(count) {
            let set = match read.get(key) {
                Some(set) => Rc::clone(set),
                None => Rc::new(scores(ctx, key)?),
            };
            read.insert(key, Rc::clone(&set));
            sets.push(set);
        }
        let mut combined = Combined {
            members: Vec::new(),
            with_scores: false,
            limit: 0,
        };
        let (mut weights, mut aggregate) = (vec![1.0; count], Aggregate::Sum);
        let may_weigh = self.operation != Operation::Difference && !self.may_limit;
        let mut nth = self.first + 1 + count;
        while nth < args.len() {
            match () {
                () if may_weigh && args.is(nth, "WEIGHTS") && nth + count < args.len() => {
                    for (at, weight) in (nth + 1..).zip(&mut weights) {
                        let parsed = zset::parse_score(args.at(at));
                        let wrong = Error::text("ERR weight value is not a float");
                        *weight = parsed.ok_or(wrong)?.get();
                    }
                    nth += count;
                }
                () if may_weigh && args.is(nth, "AGGREGATE") && nth + 1 < args.len() => {
                    nth += 1;
                    aggregate = match () {
                        () if args.is(nth, "SUM") => Aggregate::Sum,
                        () if args.is(nth, "MIN") => Aggregate::Min,
                        () if args.is(nth, "MAX") => Aggregate::Max,
                        () => return Err(Error::Syntax),
                    };
                }
                () if self.may_score && args.is(nth, "WITHSCORES") => combined.with_scores = true,
                () if self.may_limit && args.is(nth, "LIMIT") && nth + 1 < args.len() => {
                    nth += 1;
                    let limit = usize::try_from(args.integer(nth).unwrap_or(-1));
                    combined.limit =
                        limit.map_err(|_| Error::text("ERR LIMIT can't be negative"))?;
                }
                () => return Err(Error::Syntax),
            }
            nth += 1;
        }
        let all = combine(self.operation, sets, &weights, aggregate).into_iter();
        let scored = all.filter_map(|(member, score)| Some((Score::new(score)?, member)));
        combined.members = scored.collect();
        combined.members.sort_unstable();
        Ok(combined)
    }
}

fn combine(
    operation: Operation,
    sets: Vec<Rc<Scores>>,
    weights: &[f64],
    aggregate: Aggregate,
) -> Scores {
    let weigh = |set: Rc<Scores>, weight: f64| {
        let weighed = move |score: f64| {
            let score = score * weight;
            if score.is_nan() { 0.0 } else { score }
        };
        let weigh = move |(m, score): (&Bytes, &f64)| (m.clone(), weighed(*score));
        set.iter().map(weigh).collect::<Scores>()
    };
    let mut sets = sets.into_iter().zip(weights);
    let Some((first, weight)) = sets.next() else {
        return Scores::new();
    };
    let mut all: Scores = weigh(first, *weight);
    for (other, weight) in sets {
        match operation {
            Operation::Difference => all.retain(|member, _| !other.contains_key(member)),
            Operation::Intersection => {
                let other = weigh(other, *weight);
                all.retain(|member, score| {
                    let theirs = other.get(member);
                    *score = theirs.map_or(*score, |theirs| aggregate.of(*score, *theirs));
                    theirs.is_some()
                });
            }
            Operation::Union => {
                for (member, theirs) in weigh(other, *weight) {
                    let ours = all.entry(member);
                    ours.and_modify(|ours| *ours = aggregate.of(*ours, theirs))
                        .or_insert(theirs);
                }
            }
        }
    }
    all
}

/// The members of a sorted set, or of a set.
fn scores(ctx: &Ctx<'_>, key: &[u8]) -> Result<Scores, Error> {
    let object = ctx.object(key)?;
    let kind = types::kind(&object, clock::now_ms());
    ctx.count_lookup(kind.is_some());
    match kind {
        None => Ok(Scores::new()),
        Some(Kind::Zset) => {
            let members = zset::by_score(&object).into_iter();
            Ok(members.map(|(score, m)| (m.clone(), score.get())).collect())
        }
        Some(Kind::Set) => Ok(set::members(&object).map(|m| (m.clone(), 1.0)).collect()),
        Some(_) => Err(Error::WrongType),
    }
}

fn show(ctx: &mut Ctx<'_>, args: Args<'_>, operation: Operation, name: &'static str) -> Outcome {
    let query = Query {
        operation,
        first: 1,
        may_score: true,
        may_limit: false,
    };
    let combined = query.run(ctx, args, name)?;
    let members = combined.members.iter().map(|(score, m)| (*score, m));
    let members: Vec<(Score, &Bytes)> = members.collect();
    reply::reply_members(ctx, &members, combined.with_scores);
    Ok(())
}

fn store(ctx: &mut Ctx<'_>, args: Args<'_>, operation: Operation, name: &'static str) -> Outcome {
    let query = Query {
        operation,
        first: 2,
        may_score: false,
        may_limit: false,
    };
    let combined = query.run(ctx, args, name)?;
    let members = combined.members.iter().map(|(score, m)| (*score, &m[..]));
    reply::store(ctx, args.at(1), members)
}

pub(super) fn zunion(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Operation::Union, "zunion")
}

pub(super) fn zinter(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Operation::Intersection, "zinter")
}

pub(super) fn zdiff(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Operation::Difference, "zdiff")
}

pub(super) fn zunionstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    store(ctx, args, Operation::Union, "zunionstore")
}

pub(super) fn zinterstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    store(ctx, args, Operation::Intersection, "zinterstore")
}

pub(super) fn zdiffstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    store(ctx, args, Operation::Difference, "zdiffstore")
}

pub(super) fn zintercard(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let query = Query {
        operation: Operation::Intersection,
        first: 1,
        may_score: false,
        may_limit: true,
    };
    let combined = query.run(ctx, args, "zintercard")?;
    let len = combined.members.len();
    let len = if combined.limit == 0 {
        len
    } else {
        len.min(combined.limit)
    };
    ctx.reply.integer(len as i64);
    Ok(())
}
