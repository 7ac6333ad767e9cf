//! Sorted sets: the rows, and the commands on single members.

pub(super) mod add;
mod combine;
mod pop;
mod range;
mod rank;
pub(super) mod reply;

use bytes::Bytes;

use super::elements::{self, Scan};
use super::random;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, RF, Row, W, WF, WM, WMF, cmd};
use crate::command::spec::keys;
use crate::logic::causal::Kind;
use crate::logic::edit::Edit;
use crate::logic::types::zset::{self, Score};
use crate::replica::Reach;
use crate::resp::format_double;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "bzmpop",
        -5,
        W,
        keys::TAKE_COUNTED_SECOND,
        "sorted_set",
        pop::bzmpop,
        "Members with the lowest or highest scores of the first sorted set that has some, which are removed, waiting for one.",
    ).waits(1),
    cmd(
        "bzpopmax",
        -3,
        WF,
        keys::TAKE_ALL_BUT_LAST,
        "sorted_set",
        pop::bzpopmax,
        "The member with the highest score of the first sorted set that has some, which is removed, waiting for one.",
    ).waits(-1),
    cmd(
        "bzpopmin",
        -3,
        WF,
        keys::TAKE_ALL_BUT_LAST,
        "sorted_set",
        pop::bzpopmin,
        "The member with the lowest score of the first sorted set that has some, which is removed, waiting for one.",
    ).waits(-1),
    cmd(
        "zadd",
        -4,
        WMF,
        keys::UPDATE,
        "sorted_set",
        add::zadd,
        "Sets members' scores.",
    ),
    cmd(
        "zcard",
        2,
        RF,
        keys::META,
        "sorted_set",
        zcard,
        "How many members there are.",
    ),
    cmd(
        "zcount",
        4,
        RF,
        keys::READ,
        "sorted_set",
        range::zcount,
        "How many members have a score in a range.",
    ),
    cmd(
        "zdiff",
        -3,
        R,
        keys::READ_COUNTED,
        "sorted_set",
        combine::zdiff,
        "The members of the first sorted set that no other one has.",
    ),
    cmd(
        "zdiffstore",
        -4,
        WM,
        keys::STORE_COUNTED,
        "sorted_set",
        combine::zdiffstore,
        "Keeps the members of the first sorted set that no other one has.",
    ),
    cmd(
        "zincrby",
        4,
        WMF,
        keys::CHANGE,
        "sorted_set",
        add::zincrby,
        "Adds to a member's score.",
    )
    .shows_values(),
    cmd(
        "zinter",
        -3,
        R,
        keys::READ_COUNTED,
        "sorted_set",
        combine::zinter,
        "The members that all sorted sets have.",
    ),
    cmd(
        "zintercard",
        -3,
        R,
        keys::READ_COUNTED,
        "sorted_set",
        combine::zintercard,
        "How many members all sorted sets have.",
    ),
    cmd(
        "zinterstore",
        -4,
        WM,
        keys::STORE_COUNTED,
        "sorted_set",
        combine::zinterstore,
        "Keeps the members that all sorted sets have.",
    ),
    cmd(
        "zlexcount",
        4,
        RF,
        keys::READ,
        "sorted_set",
        range::zlexcount,
        "How many members are in a range of bytes.",
    ),
    cmd(
        "zmpop",
        -4,
        W,
        keys::TAKE_COUNTED,
        "sorted_set",
        pop::zmpop,
        "Members with the lowest or highest scores of the first sorted set that has some, which are removed.",
    ),
    cmd(
        "zmscore",
        -3,
        RF,
        keys::READ,
        "sorted_set",
        zmscore,
        "The scores of some members.",
    )
    .shows_values(),
    cmd(
        "zpopmax",
        -2,
        WF,
        keys::TAKE,
        "sorted_set",
        pop::zpopmax,
        "The members with the highest scores, which are removed.",
    ),
    cmd(
        "zpopmin",
        -2,
        WF,
        keys::TAKE,
        "sorted_set",
        pop::zpopmin,
        "The members with the lowest scores, which are removed.",
    ),
    cmd(
        "zrandmember",
        -2,
        R,
        keys::READ,
        "sorted_set",
        zrandmember,
        "Random members.",
    ),
    cmd(
        "zrange",
        -4,
        R,
        keys::READ,
        "sorted_set",
        range::zrange,
        "The members in a range.",
    ),
    cmd(
        "zrangebylex",
        -4,
        R,
        keys::READ,
        "sorted_set",
        range::zrangebylex,
        "The members in a range of bytes.",
    ),
    cmd(
        "zrangebyscore",
        -4,
        R,
        keys::READ,
        "sorted_set",
        range::zrangebyscore,
        "The members with a score in a range.",
    ),
    cmd(
        "zrangestore",
        -5,
        WM,
        keys::STORE_ONE,
        "sorted_set",
        range::zrangestore,
        "Keeps the members in a range.",
    ),
    cmd(
        "zrank",
        3,
        RF,
        keys::READ,
        "sorted_set",
        rank::zrank,
        "The place of a member, from the lowest score.",
    ),
    cmd(
        "zrem",
        -3,
        WF,
        keys::REMOVE,
        "sorted_set",
        zrem,
        "Removes members.",
    ),
    cmd(
        "zremrangebylex",
        4,
        W,
        keys::REMOVE,
        "sorted_set",
        range::zremrangebylex,
        "Removes the members in a range of bytes.",
    ),
    cmd(
        "zremrangebyrank",
        4,
        W,
        keys::REMOVE,
        "sorted_set",
        range::zremrangebyrank,
        "Removes the members in a range of places.",
    ),
    cmd(
        "zremrangebyscore",
        4,
        W,
        keys::REMOVE,
        "sorted_set",
        range::zremrangebyscore,
        "Removes the members with a score in a range.",
    ),
    cmd(
        "zrevrange",
        -4,
        R,
        keys::READ,
        "sorted_set",
        range::zrevrange,
        "The members in a range of places, from the highest score.",
    ),
    cmd(
        "zrevrangebylex",
        -4,
        R,
        keys::READ,
        "sorted_set",
        range::zrevrangebylex,
        "The members in a range of bytes, backwards.",
    ),
    cmd(
        "zrevrangebyscore",
        -4,
        R,
        keys::READ,
        "sorted_set",
        range::zrevrangebyscore,
        "The members with a score in a range, backwards.",
    ),
    cmd(
        "zrevrank",
        3,
        RF,
        keys::READ,
        "sorted_set",
        rank::zrevrank,
        "The place of a member, from the highest score.",
    ),
    cmd(
        "zscan",
        -3,
        R,
        keys::READ,
        "sorted_set",
        zscan,
        "A page of the members with their scores.",
    ),
    cmd(
        "zscore",
        3,
        RF,
        keys::READ,
        "sorted_set",
        zscore,
        "The score of a member.",
    )
    .shows_values(),
    cmd(
        "zunion",
        -3,
        R,
        keys::READ_COUNTED,
        "sorted_set",
        combine::zunion,
        "The members that any sorted set has.",
    ),
    cmd(
        "zunionstore",
        -4,
        WM,
        keys::STORE_COUNTED,
        "sorted_set",
        combine::zunionstore,
        "Keeps the members that any sorted set has.",
    ),
];

fn zcard(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let set = ctx.typed_some(args.at(1), Kind::Zset, Reach::Head)?;
    ctx.reply.integer(zset::len(&set) as i64);
    Ok(())
}

fn zscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let named = elements::named(Kind::Zset, args, 2);
    let set = ctx.typed_some(args.at(1), Kind::Zset, Reach::Named(&named))?;
    reply::reply_score(ctx, zset::score(&set, args.at(2)));
    Ok(())
}

fn zmscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let named = elements::named(Kind::Zset, args, 2);
    let set = ctx.typed_some(args.at(1), Kind::Zset, Reach::Named(&named))?;
    ctx.reply.array(args.len() - 2);
    for member in args.from(2) {
        reply::reply_score(ctx, zset::score(&set, member));
    }
    Ok(())
}

fn zrem(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let elements = elements::named(Kind::Zset, args, 2);
    let reach = Reach::Named(&elements);
    let gone = ctx.change_some(args.at(1), Kind::Zset, reach, |set, _| {
        let named: std::collections::BTreeSet<&[u8]> = args.from(2).collect();
        let there = named.into_iter().filter(|m| zset::score(set, m).is_some());
        let there: Vec<_> = there.map(zset::remove).collect();
        let gone = there.len();
        Ok((Edit::touch(there), gone))
    })?;
    ctx.reply.integer(gone as i64);
    Ok(())
}

fn zscan(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    Scan::page(ctx, args, Kind::Zset, |set| {
        let members = zset::by_score(set).into_iter();
        members
            .map(|(score, member)| (member, Some(scanned(score.get()))))
            .collect()
    })
}

/// A score as Redis's small sorted sets keep it: whole numbers as integers, as far as those reach.
fn scanned(score: f64) -> String {
    let is_whole = score.fract() == 0.0 && score.abs() <= (i64::MAX / 2) as f64;
    if is_whole && (score != 0.0 || score.is_sign_positive()) {
        return (score as i64).to_string();
    }
    format_double(score)
}

fn zrandmember(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() == 2 {
        let stretch = random::stretch(Kind::Zset);
        let set = ctx.typed_some(args.at(1), Kind::Zset, Reach::Stretch(&stretch))?;
        let members = zset::by_score(&set);
        let member = members.get(random::below(members.len()));
        ctx.reply
            .bulk_or_null(member.map(|(_, member)| &member[..]));
        return Ok(());
    }
    let (count, with_scores) = random::count(args, "WITHSCORES")?;
    let (set, chosen) = random::read(ctx, args.at(1), Kind::Zset, count)?;
    let members: Vec<(Score, &Bytes)> = if let Some(chosen) = &chosen {
        let names = random::names(chosen);
        let members = names.filter_map(|name| Some((zset::score(&set, name)?, name)));
        members.collect()
    } else {
        let all = zset::by_score(&set);
        let places = random::places(all.len(), count)?;
        places.into_iter().map(|at| all[at]).collect()
    };
    elements::check_reply(ctx, members.iter().map(|(_, member)| member.len()))?;
    reply::reply_members(ctx, &members, with_scores);
    Ok(())
}
