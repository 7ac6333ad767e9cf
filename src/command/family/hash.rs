//! Hashes.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::elements::{self, Scan};
use super::float;
use super::random;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, RF, Row, WF, WMF, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::{Element, Kind, Object};
use crate::logic::edit::Edit;
use crate::logic::integer;
use crate::logic::types::hash;
use crate::replica::Reach;
use crate::resp::Reply;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "hdel",
        -3,
        WF,
        keys::REMOVE,
        "hash",
        hdel,
        "Deletes fields.",
    ),
    cmd(
        "hexists",
        3,
        RF,
        keys::META,
        "hash",
        hexists,
        "Whether a field is there.",
    ),
    cmd(
        "hget",
        3,
        RF,
        keys::READ,
        "hash",
        hget,
        "The value of a field.",
    )
    .shows_values(),
    cmd(
        "hgetall",
        2,
        R,
        keys::READ,
        "hash",
        hgetall,
        "All fields with their values.",
    )
    .shows_values(),
    cmd(
        "hincrby",
        4,
        WMF,
        keys::CHANGE,
        "hash",
        hincrby,
        "Adds an amount to a field.",
    )
    .shows_values(),
    cmd(
        "hincrbyfloat",
        4,
        WMF,
        keys::CHANGE,
        "hash",
        hincrbyfloat,
        "Adds a decimal to a field.",
    )
    .shows_values(),
    cmd("hkeys", 2, R, keys::READ, "hash", hkeys, "All fields."),
    cmd(
        "hlen",
        2,
        RF,
        keys::META,
        "hash",
        hlen,
        "How many fields there are.",
    ),
    cmd(
        "hmget",
        -3,
        RF,
        keys::READ,
        "hash",
        hmget,
        "The values of some fields.",
    )
    .shows_values(),
    cmd(
        "hmset",
        -4,
        WMF,
        keys::UPDATE,
        "hash",
        hmset,
        "Sets fields (old name of HSET).",
    ),
    cmd(
        "hrandfield",
        -2,
        R,
        keys::READ,
        "hash",
        hrandfield,
        "Random fields.",
    )
    .shows_values(),
    cmd(
        "hscan",
        -3,
        R,
        keys::READ,
        "hash",
        hscan,
        "A page of the fields with their values.",
    )
    .shows_values(),
    cmd("hset", -4, WMF, keys::UPDATE, "hash", hset, "Sets fields."),
    cmd(
        "hsetnx",
        4,
        WMF,
        keys::INSERT,
        "hash",
        hsetnx,
        "Sets a field if it is not there.",
    ),
    cmd(
        "hstrlen",
        3,
        RF,
        keys::META,
        "hash",
        hstrlen,
        "The length of a field's value.",
    )
    .shows_values(),
    cmd(
        "hvals",
        2,
        R,
        keys::READ,
        "hash",
        hvals,
        "The values of all fields.",
    )
    .shows_values(),
];

pub(super) fn hset(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let added = set_all(ctx, args, "hset")?;
    ctx.reply.integer(added);
    Ok(())
}

pub(super) fn hmset(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    set_all(ctx, args, "hmset")?;
    ctx.reply.ok();
    Ok(())
}

/// How many fields were not there.
fn set_all(ctx: &mut Ctx<'_>, args: Args<'_>, name: &'static str) -> Result<i64, Error> {
    if !args.len().is_multiple_of(2) {
        return Err(Error::Arity(name.into()));
    }
    // Of a field that is named twice the last value counts.
    let mut met = BTreeSet::new();
    let fields = (2..args.len()).step_by(2).rev();
    let last: Vec<usize> = fields.filter(|nth| met.insert(args.at(*nth))).collect();
    let named: Vec<Element> = last.iter().map(|n| hash::element(args.at(*n))).collect();
    ctx.change_some(args.at(1), Kind::Hash, Reach::Named(&named), |hash, _| {
        let is_new = |nth: &&usize| hash::get(hash, args.at(**nth)).is_none();
        let added = last.iter().filter(is_new).count() as i64;
        let put = |nth: &usize| hash::put(args.at(*nth), args.at(*nth + 1));
        Ok((Edit::Touch(last.iter().map(put).collect()), added))
    })
}

pub(super) fn hsetnx(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (field, value) = (args.at(2), args.at(3));
    let named = [hash::element(field)];
    let is_set = ctx.change_some(args.at(1), Kind::Hash, Reach::Named(&named), |hash, _| {
        Ok(match hash::get(hash, field) {
            Some(_) => (Edit::Keep, false),
            None => (Edit::Touch(vec![hash::put(field, value)]), true),
        })
    })?;
    ctx.reply.integer(i64::from(is_set));
    Ok(())
}

/// A hash with the field at hand that is named.
fn one(ctx: &Ctx<'_>, args: Args<'_>) -> Result<Arc<Object>, Error> {
    let named = [hash::element(args.at(2))];
    ctx.typed_some(args.at(1), Kind::Hash, Reach::Named(&named))
}

pub(super) fn hget(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let hash = one(ctx, args)?;
    ctx.reply
        .bulk_or_null(hash::get(&hash, args.at(2)).as_deref());
    Ok(())
}

pub(super) fn hmget(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let named = elements::named(Kind::Hash, args, 2);
    let hash = ctx.typed_some(args.at(1), Kind::Hash, Reach::Named(&named))?;
    ctx.reply.array(args.len() - 2);
    for field in args.from(2) {
        ctx.reply.bulk_or_null(hash::get(&hash, field).as_deref());
    }
    Ok(())
}

pub(super) fn hgetall(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    elements::reply_all(ctx, args.at(1), Kind::Hash, Reply::map, |reply, hash| {
        for (field, value) in hash::fields(hash) {
            reply.bulk(field);
            reply.bulk(&value);
        }
    })
}

pub(super) fn hkeys(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    elements::reply_all(ctx, args.at(1), Kind::Hash, Reply::array, |reply, hash| {
        hash::fields(hash).for_each(|(field, _)| reply.bulk(field));
    })
}

pub(super) fn hvals(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    elements::reply_all(ctx, args.at(1), Kind::Hash, Reply::array, |reply, hash| {
        hash::fields(hash).for_each(|(_, value)| reply.bulk(&value));
    })
}

pub(super) fn hlen(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let hash = ctx.typed_some(args.at(1), Kind::Hash, Reach::Head)?;
    ctx.reply.integer(hash::len(&hash) as i64);
    Ok(())
}

pub(super) fn hstrlen(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let hash = one(ctx, args)?;
    let value = hash::get(&hash, args.at(2));
    ctx.reply
        .integer(value.map_or(0, |value| value.len()) as i64);
    Ok(())
}

pub(super) fn hexists(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let hash = one(ctx, args)?;
    let is_there = hash::get(&hash, args.at(2)).is_some();
    ctx.reply.integer(i64::from(is_there));
    Ok(())
}

pub(super) fn hdel(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let named = elements::named(Kind::Hash, args, 2);
    let reach = Reach::Named(&named);
    let gone = ctx.change_some(args.at(1), Kind::Hash, reach, |hash, _| {
        let named: BTreeSet<&[u8]> = args.from(2).collect();
        let there = named.into_iter().filter(|f| hash::get(hash, f).is_some());
        let there: Vec<_> = there.map(hash::remove).collect();
        let gone = there.len();
        Ok((Edit::touch(there), gone))
    })?;
    ctx.reply.integer(gone as i64);
    Ok(())
}

pub(super) fn hincrby(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (field, amount) = (args.at(2), args.integer(3)?);
    let named = [hash::element(field)];
    let sum = ctx.change_some(args.at(1), Kind::Hash, Reach::Named(&named), |hash, _| {
        let old = hash::get(hash, field).map_or(Some(0), |value| integer::parse(&value));
        let old = old.ok_or(Error::text("ERR hash value is not an integer"))?;
        let sum = old.checked_add(amount).ok_or(Error::Overflow)?;
        Ok((hash::count(field, amount), sum))
    })?;
    ctx.reply.integer(sum);
    Ok(())
}

pub(super) fn hincrbyfloat(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let field = args.at(2);
    let amount = float::parse(args.at(3)).ok_or(Error::NotFloat)?;
    if amount.is_infinite() {
        return Err(Error::text("ERR value is NaN or Infinity"));
    }
    let named = [hash::element(field)];
    let sum = ctx.change_some(args.at(1), Kind::Hash, Reach::Named(&named), |hash, _| {
        let old = hash::get(hash, field).unwrap_or(Bytes::from_static(b"0"));
        let old = float::parse(&old).ok_or(Error::text("ERR hash value is not a float"))?;
        let sum = old.add(amount).ok_or(Error::NotFinite)?;
        let put = hash::put(field, sum.as_bytes());
        Ok((Edit::Touch(vec![put]), sum))
    })?;
    ctx.reply.bulk(sum.as_bytes());
    Ok(())
}

pub(super) fn hscan(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    Scan::page(ctx, args, Kind::Hash, |hash| {
        let fields = hash::fields(hash);
        fields.map(|(field, value)| (field, Some(value))).collect()
    })
}

pub(super) fn hrandfield(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() == 2 {
        let stretch = random::stretch(Kind::Hash);
        let hash = ctx.typed_some(args.at(1), Kind::Hash, Reach::Stretch(&stretch))?;
        let at = random::below(hash::fields(&hash).count());
        let field = hash::fields(&hash).nth(at).map(|(field, _)| field);
        ctx.reply.bulk_or_null(field.map(|field| &field[..]));
        return Ok(());
    }
    let (count, with_values) = random::count(args, "WITHVALUES")?;
    let (hash, chosen) = random::read(ctx, args.at(1), Kind::Hash, count)?;
    let fields: Vec<(&Bytes, Bytes)> = if let Some(chosen) = &chosen {
        let names = random::names(chosen);
        let fields = names.filter_map(|name| Some((name, hash::get(&hash, name)?)));
        fields.collect()
    } else {
        let all: Vec<(&Bytes, Bytes)> = hash::fields(&hash).collect();
        let places = random::places(all.len(), count)?;
        places.into_iter().map(|at| all[at].clone()).collect()
    };
    elements::check_reply(
        ctx,
        fields
            .iter()
            .map(|(field, value)| field.len() + value.len()),
    )?;
    if with_values {
        ctx.reply.pairs(fields.len());
    } else {
        ctx.reply.array(fields.len());
    }
    for (field, value) in &fields {
        if with_values {
            ctx.reply.pair();
        }
        ctx.reply.bulk(field);
        if with_values {
            ctx.reply.bulk(value);
        }
    }
    Ok(())
}
