//! Keys of any type: existence, names, and the key space as a whole.

use super::docs;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{L, LF, R, RF, Row, W, WF, WM, cmd, sub};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::edit::Edit;
use crate::logic::types::string::{self, Shown};
use crate::logic::types::{self, Compact};
use crate::replica::Reach;
use crate::routing::args::Args;
use crate::routing::shape::{Elsewhere, Merge};

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "copy",
        -3,
        WM,
        keys::COPY,
        "generic",
        copy,
        "Copies a key, with siblings and expiry.",
    )
    .other_database(Elsewhere::Option("DB", 3)),
    cmd(
        "del",
        -2,
        W,
        keys::DELETE_ALL,
        "generic",
        del,
        "Deletes keys.",
    )
    .apart(Merge::Sum),
    cmd(
        "exists",
        -2,
        RF,
        keys::META_ALL,
        "generic",
        exists,
        "How many of the keys exist.",
    )
    .apart(Merge::Sum),
    cmd(
        "move",
        3,
        WF,
        keys::CHANGE,
        "generic",
        move_key,
        "Moves a key to another database.",
    )
    .other_database(Elsewhere::At(2)),
    cmd(
        "object",
        -2,
        R,
        &[],
        "generic",
        docs::help,
        "What is known about a key's value.",
    ),
    sub(
        "object",
        "encoding",
        3,
        R,
        object_encoding,
        "The encoding that Redis would use.",
    )
    .on(keys::SECOND_META),
    sub(
        "object",
        "freq",
        3,
        R,
        object_freq,
        "Access frequency; always an error, as without LFU.",
    )
    .on(keys::SECOND_META),
    sub(
        "object",
        "idletime",
        3,
        R,
        object_idletime,
        "Seconds since the last access; always 0.",
    )
    .on(keys::SECOND_META),
    sub(
        "object",
        "refcount",
        3,
        R,
        object_refcount,
        "References to the value; always 1.",
    )
    .on(keys::SECOND_META),
    sub("object", "help", 2, LF, docs::help, "This text."),
    cmd(
        "rename",
        3,
        W,
        keys::RENAME,
        "generic",
        rename,
        "Gives a key another name, with siblings and expiry.",
    ),
    cmd(
        "renamenx",
        3,
        WF,
        keys::RENAME_NEW,
        "generic",
        renamenx,
        "Gives a key another name if that is free.",
    ),
    cmd(
        "touch",
        -2,
        RF,
        keys::META_ALL,
        "generic",
        exists,
        "How many of the keys exist.",
    )
    .apart(Merge::Sum),
    cmd(
        "type",
        2,
        RF,
        keys::META,
        "generic",
        type_of,
        "The type of a key's value.",
    ),
    cmd(
        "unlink",
        -2,
        WF,
        keys::DELETE_ALL,
        "generic",
        del,
        "Deletes keys.",
    )
    .apart(Merge::Sum),
    cmd("memory", -2, R, &[], "server", docs::help, "Memory."),
    sub("memory", "help", 2, L, docs::help, "This text."),
    sub(
        "memory",
        "usage",
        -3,
        R,
        memory_usage,
        "The bytes of a key.",
    )
    .on(keys::SECOND_META),
];

/// The longest value that Redis keeps in one allocation with its header ("embstr").
const EMBSTR_MAX: usize = 44;

pub(super) fn del(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut gone = 0;
    for key in args.from(1) {
        let deleted = ctx.update_some(key, Reach::Head, |object, now_ms| {
            let shown = types::is_present(object, now_ms);
            (if shown { Edit::delete() } else { Edit::Keep }, shown)
        });
        gone += i64::from(deleted.map_err(|error| error.after_others(gone > 0))?);
    }
    ctx.reply.integer(gone);
    Ok(())
}

pub(super) fn exists(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut found = 0;
    for key in args.from(1) {
        let is_there = ctx.present(key)?.is_some();
        ctx.count_lookup(is_there);
        found += i64::from(is_there);
    }
    ctx.reply.integer(found);
    Ok(())
}

pub(super) fn type_of(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let present = ctx.present(args.at(1))?;
    ctx.reply
        .simple(present.map_or("none", |present| types::name(present.kind)));
    Ok(())
}

pub(super) fn rename(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    transfer(ctx, args, false)?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn renamenx(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let done = transfer(ctx, args, true)?;
    ctx.reply.integer(i64::from(done));
    Ok(())
}

/// Carries values, siblings and expiry over to the other name.
fn transfer(ctx: &mut Ctx<'_>, args: Args<'_>, only_if_absent: bool) -> Result<bool, Error> {
    let (from, to) = (args.at(1), args.at(2));
    if from == to {
        return if ctx.present(from)?.is_some() {
            Ok(!only_if_absent)
        } else {
            Err(Error::NoSuchKey)
        };
    }
    let db = ctx.session.db;
    ctx.update_two((db, from), (db, to), |source, target, now_ms| {
        if !types::is_present(source, now_ms) {
            return (keep_both(), Err(Error::NoSuchKey));
        }
        if only_if_absent && types::is_present(target, now_ms) {
            return (keep_both(), Ok(false));
        }
        let puts = Edit::Replace(types::puts(source, now_ms));
        ([Edit::delete(), puts], Ok(true))
    })?
}

pub(super) fn copy(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (mut to_db, mut replace) = (ctx.session.db, false);
    let mut nth = 3;
    while nth < args.len() {
        if args.is(nth, "REPLACE") {
            replace = true;
        } else if args.is(nth, "DB") && nth + 1 < args.len() {
            to_db = args.database(nth + 1)?;
            nth += 1;
        } else {
            return Err(Error::Syntax);
        }
        nth += 1;
    }
    let (from, to) = (args.at(1), args.at(2));
    if from == to && to_db == ctx.session.db {
        return Err(Error::SameObject);
    }
    let db = ctx.session.db;
    let done = ctx.update_two((db, from), (to_db, to), |source, target, now_ms| {
        if !types::is_present(source, now_ms) || (!replace && types::is_present(target, now_ms)) {
            return (keep_both(), false);
        }
        let puts = Edit::Replace(types::puts(source, now_ms));
        ([Edit::Keep, puts], true)
    })?;
    ctx.reply.integer(i64::from(done));
    Ok(())
}

pub(super) fn move_key(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (db, to_db) = (ctx.session.db, args.database(2)?);
    if db == to_db {
        return Err(Error::SameObject);
    }
    let key = args.at(1);
    let done = ctx.update_two((db, key), (to_db, key), |source, target, now_ms| {
        if !types::is_present(source, now_ms) || types::is_present(target, now_ms) {
            return (keep_both(), false);
        }
        let puts = Edit::Replace(types::puts(source, now_ms));
        ([Edit::delete(), puts], true)
    })?;
    ctx.reply.integer(i64::from(done));
    Ok(())
}

fn keep_both() -> [Edit; 2] {
    [Edit::Keep, Edit::Keep]
}

pub(super) fn object_encoding(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (object, now_ms) = (ctx.object(args.at(2))?, clock::now_ms());
    let Some(kind) = types::kind(&object, now_ms) else {
        return missing(ctx);
    };
    let encoding = match kind {
        Kind::String => {
            let object = ctx.viewed(args.at(2), &object, now_ms);
            string::shown(&object, now_ms).map_or("raw", |shown| string_encoding(&shown))
        }
        kind => types::encoding(&object, kind, compact(ctx, kind)),
    };
    ctx.reply.bulk(encoding.as_bytes());
    Ok(())
}

/// What the configuration calls compact.
fn compact(ctx: &Ctx<'_>, kind: Kind) -> Compact {
    let number = |name| usize::try_from(ctx.node.config.number(name)).unwrap_or(usize::MAX);
    let (most, longest) = match kind {
        Kind::Hash => (
            number("hash-max-listpack-entries"),
            number("hash-max-listpack-value"),
        ),
        Kind::Zset => (
            number("zset-max-listpack-entries"),
            number("zset-max-listpack-value"),
        ),
        _ => (number("set-max-intset-entries"), usize::MAX),
    };
    Compact { most, longest }
}

fn string_encoding(shown: &Shown) -> &'static str {
    match () {
        () if shown.integer().is_some() => "int",
        () if shown.bytes.len() <= EMBSTR_MAX => "embstr",
        () => "raw",
    }
}

pub(super) fn object_refcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    constant(ctx, args, 1)
}

/// Seconds since its last use, where `maxmemory-policy` goes by that; else what a key has that was just used.
pub(super) fn object_idletime(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if ctx.present(args.at(2))?.is_none() {
        return missing(ctx);
    }
    let idle = ctx.node.eviction.idle_secs(args.at(2));
    let idle = idle.ok_or(Error::text(
        "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
         switching between policies at runtime LRU and LFU data will take some time to adjust.",
    ))?;
    ctx.reply.integer(idle.into());
    Ok(())
}

fn constant(ctx: &mut Ctx<'_>, args: Args<'_>, value: i64) -> Outcome {
    if ctx.present(args.at(2))?.is_none() {
        return missing(ctx);
    }
    ctx.reply.integer(value);
    Ok(())
}

pub(super) fn object_freq(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if ctx.present(args.at(2))?.is_none() {
        return missing(ctx);
    }
    let count = ctx.node.eviction.count(args.at(2));
    let count = count.ok_or(Error::text(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
         that when switching between policies at runtime LRU and LFU data will take some time to \
         adjust.",
    ))?;
    ctx.reply.integer(count.into());
    Ok(())
}

fn missing(ctx: &mut Ctx<'_>) -> Outcome {
    ctx.reply.null();
    Ok(())
}

pub(super) fn memory_usage(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 3 && !(args.len() == 5 && args.is(3, "SAMPLES")) {
        return Err(Error::Syntax);
    }
    let object = ctx.object(args.at(2))?;
    if !types::is_present(&object, clock::now_ms()) {
        return missing(ctx);
    }
    let row = crate::logic::record::ROW.encode(&object).len() + args.at(2).len();
    ctx.reply
        .integer((row + crate::logic::place::PREFIX_LEN) as i64);
    Ok(())
}
