//! Sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::elements::{self, Scan};
use super::random;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, RF, Row, WF, WM, WMF, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::edit::{self, Edit};
use crate::logic::types::{element, set};
use crate::replica::Reach;
use crate::resp::Reply;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd("sadd", -3, WMF, keys::INSERT, "set", sadd, "Adds members."),
    cmd(
        "scard",
        2,
        RF,
        keys::META,
        "set",
        scard,
        "How many members there are.",
    ),
    cmd(
        "sdiff",
        -2,
        R,
        keys::READ_ALL,
        "set",
        sdiff,
        "The members of the first set that no other one has.",
    ),
    cmd(
        "sdiffstore",
        -3,
        WM,
        keys::STORE_ALL,
        "set",
        sdiffstore,
        "Keeps the members of the first set that no other one has.",
    ),
    cmd(
        "sinter",
        -2,
        R,
        keys::READ_ALL,
        "set",
        sinter,
        "The members that all sets have.",
    ),
    cmd(
        "sintercard",
        -3,
        R,
        keys::READ_COUNTED,
        "set",
        sintercard,
        "How many members all sets have.",
    ),
    cmd(
        "sinterstore",
        -3,
        WM,
        keys::STORE_ALL,
        "set",
        sinterstore,
        "Keeps the members that all sets have.",
    ),
    cmd(
        "sismember",
        3,
        RF,
        keys::META,
        "set",
        sismember,
        "Whether a member is there.",
    ),
    cmd(
        "smembers",
        2,
        R,
        keys::READ,
        "set",
        smembers,
        "All members.",
    ),
    cmd(
        "smismember",
        -3,
        RF,
        keys::READ,
        "set",
        smismember,
        "Which of some members are there.",
    ),
    cmd(
        "smove",
        4,
        WF,
        keys::MOVE,
        "set",
        smove,
        "Moves a member to another set.",
    ),
    cmd(
        "spop",
        -2,
        WF,
        keys::TAKE,
        "set",
        spop,
        "Random members, which are removed.",
    ),
    cmd(
        "srandmember",
        -2,
        R,
        keys::READ,
        "set",
        srandmember,
        "Random members.",
    ),
    cmd(
        "srem",
        -3,
        WF,
        keys::REMOVE,
        "set",
        srem,
        "Removes members.",
    ),
    cmd(
        "sscan",
        -3,
        R,
        keys::READ,
        "set",
        sscan,
        "A page of the members.",
    ),
    cmd(
        "sunion",
        -2,
        R,
        keys::READ_ALL,
        "set",
        sunion,
        "The members that any set has.",
    ),
    cmd(
        "sunionstore",
        -3,
        WM,
        keys::STORE_ALL,
        "set",
        sunionstore,
        "Keeps the members that any set has.",
    ),
];

pub(super) fn sadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    // Beside a removal that this node has not heard of it has to be added again.
    let others_remove = ctx.is_in_cluster();
    let members = elements::named(Kind::Set, args, 2);
    let reach = Reach::Named(&members);
    let added = ctx.change_some(args.at(1), Kind::Set, reach, |set, _| {
        let named: BTreeSet<&[u8]> = args.from(2).collect();
        let is_new = |member: &&&[u8]| !set::contains(set, member);
        let added = named.iter().filter(is_new).count();
        let wanted = named.iter().filter(|m| others_remove || is_new(m));
        let touched = wanted.map(|member| set::add(member)).collect();
        Ok((Edit::touch(touched), added))
    })?;
    ctx.reply.integer(added as i64);
    Ok(())
}

pub(super) fn srem(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let members = elements::named(Kind::Set, args, 2);
    let reach = Reach::Named(&members);
    let gone = ctx.change_some(args.at(1), Kind::Set, reach, |set, _| {
        let named: BTreeSet<&[u8]> = args.from(2).collect();
        let there = named.into_iter().filter(|m| set::contains(set, m));
        let there: Vec<_> = there.map(set::remove).collect();
        let gone = there.len();
        Ok((Edit::touch(there), gone))
    })?;
    ctx.reply.integer(gone as i64);
    Ok(())
}

pub(super) fn scard(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let set = ctx.typed_some(args.at(1), Kind::Set, Reach::Head)?;
    ctx.reply.integer(set::len(&set) as i64);
    Ok(())
}

pub(super) fn sismember(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let named = elements::named(Kind::Set, args, 2);
    let set = ctx.typed_some(args.at(1), Kind::Set, Reach::Named(&named))?;
    let is_there = set::contains(&set, args.at(2));
    ctx.reply.integer(i64::from(is_there));
    Ok(())
}

pub(super) fn smismember(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let named = elements::named(Kind::Set, args, 2);
    let set = ctx.typed_some(args.at(1), Kind::Set, Reach::Named(&named))?;
    ctx.reply.array(args.len() - 2);
    for member in args.from(2) {
        let is_there = set::contains(&set, member);
        ctx.reply.integer(i64::from(is_there));
    }
    Ok(())
}

pub(super) fn smembers(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    elements::reply_all(ctx, args.at(1), Kind::Set, Reply::set, |reply, set| {
        set::members(set).for_each(|member| reply.bulk(member));
    })
}

pub(super) fn sscan(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    Scan::page(ctx, args, Kind::Set, |set| {
        let members = set::members(set);
        members.map(|member| (member, None::<Bytes>)).collect()
    })
}

pub(super) fn srandmember(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = match args.get(2) {
        Some(_) => Some(args.integer(2)?),
        None => None,
    };
    if count == Some(i64::MIN) {
        return Err(Error::OutOfRange);
    }
    let Some(count) = count else {
        let stretch = random::stretch(Kind::Set);
        let set = ctx.typed_some(args.at(1), Kind::Set, Reach::Stretch(&stretch))?;
        let members: Vec<&Bytes> = set::members(&set).collect();
        let member = members.get(random::below(members.len()));
        ctx.reply.bulk_or_null(member.map(|member| &member[..]));
        return Ok(());
    };
    let (set, chosen) = random::read(ctx, args.at(1), Kind::Set, count)?;
    let members: Vec<&Bytes> = if let Some(chosen) = &chosen {
        random::names(chosen).collect()
    } else {
        let all: Vec<&Bytes> = set::members(&set).collect();
        let places = random::places(all.len(), count)?;
        places.into_iter().map(|at| all[at]).collect()
    };
    elements::check_reply(ctx, members.iter().map(|member| member.len()))?;
    ctx.reply.array(members.len());
    for member in members {
        ctx.reply.bulk(member);
    }
    Ok(())
}

pub(super) fn spop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = match args.get(2) {
        Some(_) => Some(elements::positive_count(args, 2)?),
        None => None,
    };
    let stretch = random::stretch(Kind::Set);
    if count == Some(0) {
        ctx.typed_some(args.at(1), Kind::Set, Reach::Head)?;
        ctx.reply.set(0);
        return Ok(());
    }
    let mut popped = match count {
        None => Vec::new(),
        Some(count) => pop_of_large(ctx, args.at(1), count)?,
    };
    let reach = match count {
        None => Reach::Stretch(&stretch),
        Some(_) => Reach::Whole,
    };
    let wanted = count.unwrap_or(1) - popped.len();
    if wanted > 0 {
        let rest = ctx.change_some(args.at(1), Kind::Set, reach, |set, _| {
            let members: Vec<&Bytes> = set::members(set).collect();
            let places = random::places(members.len(), wanted.min(members.len()) as i64)?;
            Ok(taken(places.iter().map(|at| members[*at])))
        });
        popped.extend(rest.map_err(|error| error.after_others(!popped.is_empty()))?);
    }
    ctx.count_lookup(!popped.is_empty());
    if count.is_none() {
        ctx.reply.bulk_or_null(popped.first().map(|m| &m[..]));
        return Ok(());
    }
    ctx.reply.set(popped.len());
    for member in popped {
        ctx.reply.bulk(&member);
    }
    Ok(())
}

/// Random members of a large set, as long as it is one.
fn pop_of_large(ctx: &mut Ctx<'_>, key: &[u8], count: usize) -> Result<Vec<Bytes>, Error> {
    let mut popped = Vec::new();
    while popped.len() < count {
        let wanted = i64::try_from(count - popped.len()).unwrap_or(i64::MAX);
        let chosen = random::of_large(ctx, key, Kind::Set, wanted);
        let Some(chosen) = chosen.map_err(|error| error.after_others(!popped.is_empty()))? else {
            break;
        };
        let reach = Reach::Named(&chosen);
        // Some may have gone since they were chosen.
        let some = ctx.change_some(key, Kind::Set, reach, |set, _| {
            Ok(taken(
                random::names(&chosen).filter(|name| set::contains(set, name)),
            ))
        });
        popped.extend(some.map_err(|error| error.after_others(!popped.is_empty()))?);
    }
    Ok(popped)
}

/// Members go, and are shown.
fn taken<'m>(members: impl Iterator<Item = &'m Bytes>) -> (Edit, Vec<Bytes>) {
    let members: Vec<Bytes> = members.cloned().collect();
    let removed = members.iter().map(|member| set::remove(member)).collect();
    (Edit::touch(removed), members)
}

pub(super) fn smove(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (from, to, member) = (args.at(1), args.at(2), args.at(3));
    let named = [element(Kind::Set, member)];
    let reach = Reach::Named(&named);
    let source = ctx.typed_some(from, Kind::Set, reach)?;
    if set::len(&source) == 0 {
        ctx.reply.integer(0);
        return Ok(());
    }
    let target = ctx.typed_some(to, Kind::Set, reach)?;
    let is_there = set::contains(&source, member);
    if is_there && from != to {
        if ctx.is_in_cluster() || !set::contains(&target, member) {
            let put = |_: &_, _| Ok((Edit::Touch(vec![set::add(member)]), ()));
            ctx.change_some(to, Kind::Set, reach, put)?;
        }
        // The new place before the old one goes: a crash in between leaves two, never none.
        let take = |_: &_, _| Ok((Edit::Touch(vec![set::remove(member)]), ()));
        let taken = ctx.change_some(from, Kind::Set, reach, take);
        taken.map_err(|error| error.after_others(true))?;
    }
    ctx.reply.integer(i64::from(is_there));
    Ok(())
}

#[derive(Clone, Copy)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What comes of some sets. Redis looks at the types of all before it uses any.
fn combine<'a>(
    ctx: &Ctx<'_>,
    operation: Operation,
    names: impl Iterator<Item = &'a [u8]>,
) -> Result<BTreeSet<Bytes>, Error> {
    // A key that is named more than once is read once.
    let mut read: BTreeMap<&[u8], Arc<Object>> = BTreeMap::new();
    let mut sets = Vec::new();
    for name in names {
        let set = match read.get(name) {
            Some(set) => Arc::clone(set),
            None => ctx.typed(name, Kind::Set)?,
        };
        read.insert(name, Arc::clone(&set));
        sets.push(set);
    }
    let (first, others) = sets.split_first().ok_or(Error::Syntax)?;
    let mut all: BTreeSet<Bytes> = set::members(first).cloned().collect();
    for other in others {
        match operation {
            Operation::Union => all.extend(set::members(other).cloned()),
            Operation::Intersection => all.retain(|member| set::contains(other, member)),
            Operation::Difference => all.retain(|member| !set::contains(other, member)),
        }
    }
    Ok(all)
}

fn show(ctx: &mut Ctx<'_>, args: Args<'_>, operation: Operation) -> Outcome {
    let all = combine(ctx, operation, args.from(1))?;
    ctx.reply.set(all.len());
    for member in all {
        ctx.reply.bulk(&member);
    }
    Ok(())
}

fn store(ctx: &mut Ctx<'_>, args: Args<'_>, operation: Operation) -> Outcome {
    let all = combine(ctx, operation, args.from(2))?;
    let len = all.len();
    let puts = edit::puts(all.iter().map(|member| set::add(member)));
    super::replace(ctx, args.at(1), puts)?;
    ctx.reply.integer(len as i64);
    Ok(())
}

pub(super) fn sunion(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Operation::Union)
}

pub(super) fn sinter(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Operation::Intersection)
}

pub(super) fn sdiff(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    show(ctx, args, Operation::Difference)
}

pub(super) fn sunionstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    store(ctx, args, Operation::Union)
}

pub(super) fn sinterstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    store(ctx, args, Operation::Intersection)
}

pub(super) fn sdiffstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    store(ctx, args, Operation::Difference)
}

pub(super) fn sintercard(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let count = elements::key_count(args, 1)?;
    let mut limit = 0;
    let mut nth = 2 + count;
    while nth < args.len() {
        if !args.is(nth, "LIMIT") || nth + 1 == args.len() {
            return Err(Error::Syntax);
        }
        let wrong = Error::text("ERR LIMIT can't be negative");
        limit = args.integer(nth + 1).map_err(|_| wrong.clone())?;
        if limit < 0 {
            return Err(wrong);
        }
        nth += 2;
    }
    let names = args.from(2).take(count);
    let all = combine(ctx, Operation::Intersection, names)?;
    let len = all.len() as i64;
    ctx.reply
        .integer(if limit == 0 { len } else { len.min(limit) });
    Ok(())
}
