//! Strings and counters.

use bytes::Bytes;

use super::expiry::{self, Unit};
use super::float;
use super::setting;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, RF, Row, WF, WM, WMF, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::edit::Edit;
use crate::logic::integer;
use crate::logic::plain::Holds;
use crate::logic::types;
use crate::logic::types::string::{self, Shown};
use crate::routing::args::Args;
use crate::routing::shape::Merge;

/// The options with which it matters to SET what is there.
const SET_DEPENDS: &[&str] = &[
    "NX", "XX", "GET", "KEEPTTL", "IFEQ", "IFNE", "IFDEQ", "IFDNE",
];

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "append",
        3,
        WMF,
        keys::INSERT,
        "string",
        append,
        "Appends to a string.",
    )
    .shows_values(),
    cmd(
        "decr",
        2,
        WMF,
        keys::CHANGE,
        "string",
        decr,
        "Takes one from a counter.",
    )
    .shows_values(),
    cmd(
        "decrby",
        3,
        WMF,
        keys::CHANGE,
        "string",
        decrby,
        "Takes an amount from a counter.",
    )
    .shows_values(),
    cmd(
        "get",
        2,
        RF,
        keys::READ,
        "string",
        get,
        "The value of a key.",
    )
    .shows_values(),
    cmd(
        "getdel",
        2,
        WF,
        keys::TAKE,
        "string",
        getdel,
        "The value of a key, which is deleted.",
    )
    .shows_values(),
    cmd(
        "getex",
        -2,
        WF,
        keys::CHANGE,
        "string",
        setting::getex,
        "The value of a key, whose expiry is changed.",
    )
    .shows_values(),
    cmd(
        "getrange",
        4,
        R,
        keys::READ,
        "string",
        getrange,
        "A part of a string.",
    )
    .shows_values(),
    cmd(
        "getset",
        3,
        WMF,
        keys::CHANGE,
        "string",
        getset,
        "The old value of a key, which gets a new one.",
    )
    .shows_values(),
    cmd(
        "incr",
        2,
        WMF,
        keys::CHANGE,
        "string",
        incr,
        "Adds one to a counter.",
    )
    .shows_values(),
    cmd(
        "incrby",
        3,
        WMF,
        keys::CHANGE,
        "string",
        incrby,
        "Adds an amount to a counter.",
    )
    .shows_values(),
    cmd(
        "incrbyfloat",
        3,
        WMF,
        keys::CHANGE,
        "string",
        incrbyfloat,
        "Adds a decimal to a number.",
    )
    .shows_values(),
    cmd(
        "mget",
        -2,
        RF,
        keys::READ_ALL,
        "string",
        mget,
        "The values of several keys.",
    )
    .apart(Merge::Elements)
    .shows_values(),
    cmd(
        "mset",
        -3,
        WM,
        keys::OVERWRITE_PAIRS,
        "string",
        mset,
        "Sets several keys.",
    )
    .apart(Merge::Ok)
    .said(),
    cmd(
        "msetnx",
        -3,
        WM,
        keys::CREATE_PAIRS,
        "string",
        msetnx,
        "Sets several keys if none of them exists.",
    )
    .together(),
    cmd(
        "psetex",
        4,
        WM,
        keys::OVERWRITE,
        "string",
        psetex,
        "Sets a key with a time to live in milliseconds.",
    )
    .said(),
    cmd(
        "set",
        -3,
        WM,
        keys::SET,
        "string",
        setting::set,
        "Sets a key.",
    )
    .said_unless(SET_DEPENDS, 3),
    cmd(
        "setex",
        4,
        WM,
        keys::OVERWRITE,
        "string",
        setex,
        "Sets a key with a time to live in seconds.",
    )
    .said(),
    cmd(
        "setnx",
        3,
        WMF,
        keys::CREATE,
        "string",
        setnx,
        "Sets a key if it does not exist.",
    ),
    cmd(
        "setrange",
        4,
        WM,
        keys::UPDATE,
        "string",
        setrange,
        "Overwrites a part of a string.",
    )
    .shows_values(),
    cmd(
        "strlen",
        2,
        RF,
        keys::META,
        "string",
        strlen,
        "The length of a string.",
    )
    .shows_values(),
    cmd(
        "substr",
        4,
        R,
        keys::READ,
        "string",
        getrange,
        "A part of a string (old name of GETRANGE).",
    )
    .shows_values(),
];

pub(super) fn get(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let is_there = ctx.look(args.at(1), |row, reply| {
        // Most never end: nobody asks for the time.
        let lives = |at| at >= clock::now_ms();
        let row = row.filter(|row| row.expires_at_ms.is_none_or(lives));
        match row.map(|row| row.holds) {
            Some(Holds::Bytes(bytes)) => reply.bulk(bytes),
            Some(Holds::Count(counted)) => reply.bulk(&integer::to_bytes(counted.total)),
            None => reply.null(),
        }
        Some(row.is_some())
    })?;
    if let Some(is_there) = is_there {
        ctx.count_lookup(is_there);
        return Ok(());
    }
    let shown = ctx.shown(args.at(1))?;
    ctx.count_lookup(shown.is_some());
    ctx.reply.bulk_or_null(shown.as_ref().map(|s| &s.bytes[..]));
    Ok(())
}

pub(super) fn strlen(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let shown = ctx.shown(args.at(1))?;
    ctx.count_lookup(shown.is_some());
    ctx.reply.integer(shown.map_or(0, |s| s.bytes.len() as i64));
    Ok(())
}

pub(super) fn setnx(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let bytes = Bytes::copy_from_slice(args.at(2));
    let done = ctx.update(args.at(1), |object, now_ms| {
        if types::is_present(object, now_ms) {
            (Edit::Keep, false)
        } else {
            (string::put(bytes, None), true)
        }
    })?;
    ctx.reply.integer(i64::from(done));
    Ok(())
}

pub(super) fn setex(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    set_with_ttl(ctx, args, Unit::Seconds, "setex")
}

pub(super) fn psetex(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    set_with_ttl(ctx, args, Unit::Milliseconds, "psetex")
}

fn set_with_ttl(ctx: &mut Ctx<'_>, args: Args<'_>, unit: Unit, name: &'static str) -> Outcome {
    let expires = expiry::absolute(args, Some((unit, 2)), name)?;
    ctx.put(args.at(1), args.at(3), expires)?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn getset(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let bytes = Bytes::copy_from_slice(args.at(2));
    let old = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        Ok((string::put(bytes, None), string::shown(object, now_ms)))
    })?;
    ctx.reply.bulk_or_null(old.as_ref().map(|o| &o.bytes[..]));
    Ok(())
}

pub(super) fn getdel(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let old = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        let old = string::shown(object, now_ms);
        let edit = if old.is_some() {
            Edit::delete()
        } else {
            Edit::Keep
        };
        Ok((edit, old))
    })?;
    ctx.count_lookup(old.is_some());
    ctx.reply.bulk_or_null(old.as_ref().map(|o| &o.bytes[..]));
    Ok(())
}

pub(super) fn mget(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut found = Vec::with_capacity(args.len() - 1);
    for key in args.from(1) {
        found.push(match ctx.shown(key) {
            Err(Error::WrongType) => None,
            shown => shown?,
        });
    }
    ctx.reply.array(found.len());
    for shown in found {
        ctx.count_lookup(shown.is_some());
        ctx.reply.bulk_or_null(shown.as_ref().map(|s| &s.bytes[..]));
    }
    Ok(())
}

pub(super) fn mset(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pairs(args, "mset")?;
    put_all(ctx, args)?;
    ctx.reply.ok();
    Ok(())
}

/// All or nothing: the table runs it with every other command kept out.
pub(super) fn msetnx(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    pairs(args, "msetnx")?;
    for nth in (1..args.len()).step_by(2) {
        if ctx.present(args.at(nth))?.is_some() {
            ctx.reply.integer(0);
            return Ok(());
        }
    }
    put_all(ctx, args)?;
    ctx.reply.integer(1);
    Ok(())
}

fn put_all(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    for nth in (1..args.len()).step_by(2) {
        let put = ctx.put(args.at(nth), args.at(nth + 1), None);
        put.map_err(|error| error.after_others(nth > 1))?;
    }
    Ok(())
}

fn pairs(args: Args<'_>, name: &'static str) -> Outcome {
    if args.len().is_multiple_of(2) {
        Err(Error::Arity(name.into()))
    } else {
        Ok(())
    }
}

pub(super) fn append(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let tail = args.at(2);
    let max = ctx.max_string();
    let len = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        let old = string::shown(object, now_ms);
        let (head, expires) = parts(old.as_ref());
        let len = head.len() + tail.len();
        if len > max {
            return Err(Error::StringTooLong);
        }
        if tail.is_empty() && old.is_some() {
            return Ok((Edit::Keep, len));
        }
        Ok((string::put([head, tail].concat().into(), expires), len))
    })?;
    ctx.reply.integer(len as i64);
    Ok(())
}

pub(super) fn setrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let offset = args.integer(2)?;
    let patch = args.at(3);
    let offset = usize::try_from(offset).map_err(|_| Error::text("ERR offset is out of range"))?;
    let max = ctx.max_string();
    let len = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        let old = string::shown(object, now_ms);
        let (head, expires) = parts(old.as_ref());
        if patch.is_empty() {
            return Ok((Edit::Keep, head.len()));
        }
        let end = offset.saturating_add(patch.len());
        if end > max {
            return Err(Error::StringTooLong);
        }
        let mut bytes = head.to_vec();
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset..end].copy_from_slice(patch);
        let len = bytes.len();
        Ok((string::put(bytes.into(), expires), len))
    })?;
    ctx.reply.integer(len as i64);
    Ok(())
}

pub(super) fn getrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (start, end) = (args.integer(2)?, args.integer(3)?);
    let shown = ctx.shown(args.at(1))?;
    ctx.count_lookup(shown.is_some());
    let bytes = shown.as_ref().map_or(&b""[..], |s| &s.bytes[..]);
    ctx.reply.bulk(slice(bytes, start, end));
    Ok(())
}

/// Redis's inclusive ranges, negative from the end.
fn slice(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    let len = bytes.len() as i64;
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let from_end = |n: i64| {
        if n < 0 {
            n.saturating_add(len).max(0)
        } else {
            n
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if len == 0 || start > end {
        b""
    } else {
        &bytes[start as usize..=end as usize]
    }
}

pub(super) fn incr(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    count(ctx, args, 1)
}

pub(super) fn decr(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    count(ctx, args, -1)
}

pub(super) fn incrby(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    count(ctx, args, args.integer(2)?)
}

pub(super) fn decrby(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let amount = args.integer(2)?;
    let amount = amount
        .checked_neg()
        .ok_or(Error::text("ERR decrement would overflow"))?;
    count(ctx, args, amount)
}

fn count(ctx: &mut Ctx<'_>, args: Args<'_>, amount: i64) -> Outcome {
    if let Some(sum) = ctx.count(args.at(1), amount)? {
        ctx.reply.integer(sum);
        return Ok(());
    }
    let value = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        let old = string::shown(object, now_ms);
        let value = old.as_ref().map_or(Some(0), Shown::integer);
        let sum = value.ok_or(Error::NotInteger)?.checked_add(amount);
        Ok((string::count(amount), sum.ok_or(Error::Overflow)?))
    })?;
    ctx.reply.integer(value);
    Ok(())
}

pub(super) fn incrbyfloat(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let by = float::parse(args.at(2)).ok_or(Error::NotFloat);
    let bytes = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        let old = string::shown(object, now_ms);
        let (bytes, expires) = parts(old.as_ref());
        let bytes = if old.is_some() { bytes } else { b"0" };
        let value = float::parse(bytes).ok_or(Error::NotFloat)?;
        let sum = by?.add(value).ok_or(Error::NotFinite)?;
        let bytes = Bytes::from(sum);
        Ok((string::put(bytes.clone(), expires), bytes))
    })?;
    ctx.reply.bulk(&bytes);
    Ok(())
}

fn parts(shown: Option<&Shown>) -> (&[u8], Option<u64>) {
    shown.map_or((&[], None), |s| (&s.bytes[..], s.expires_at_ms))
}
