//! Keys of any type: existence, names, and the key space as a whole.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

use super::docs;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{L, LF, R, RF, Row, W, WF, WM, cmd, sub};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::{Object, Payload, Value};
use crate::logic::codec::{Reader, put_bytes, put_varint};
use crate::logic::edit::Edit;
use crate::logic::policy::OnConflict;
use crate::logic::types::string;
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
        "dump",
        2,
        R,
        keys::READ,
        "generic",
        dump,
        "A key's values in Ringwood's own format.",
    ),
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
        "restore",
        -4,
        WM,
        keys::OVERWRITE,
        "generic",
        restore,
        "Makes a key from what DUMP gave.",
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

/// DUMP's own format; Redis's payloads end in an RDB version and are refused.
const DUMP_MAGIC: &[u8] = b"ringwood1";
/// The longest value that Redis keeps in one allocation with its header ("embstr").
const EMBSTR_MAX: usize = 44;

pub(super) fn del(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut gone = 0;
    for key in args.from(1) {
        let deleted = ctx.update(key, |object, now_ms| {
            let shown = string::is_shown(object, now_ms);
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
        let shown = ctx.shown(key)?.is_some();
        ctx.count_lookup(shown);
        found += i64::from(shown);
    }
    ctx.reply.integer(found);
    Ok(())
}

pub(super) fn type_of(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let shown = ctx.shown(args.at(1))?;
    ctx.reply
        .simple(if shown.is_some() { "string" } else { "none" });
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
        return if ctx.shown(from)?.is_some() {
            Ok(!only_if_absent)
        } else {
            Err(Error::NoSuchKey)
        };
    }
    let db = ctx.session.db;
    ctx.update_two((db, from), (db, to), |source, target, now_ms| {
        if !string::is_shown(source, now_ms) {
            return (keep_both(), Err(Error::NoSuchKey));
        }
        if only_if_absent && string::is_shown(target, now_ms) {
            return (keep_both(), Ok(false));
        }
        let values = string::values(source, now_ms);
        ([Edit::delete(), string::put_all(values)], Ok(true))
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
        if !string::is_shown(source, now_ms) || (!replace && string::is_shown(target, now_ms)) {
            return (keep_both(), false);
        }
        (
            [Edit::Keep, string::put_all(string::values(source, now_ms))],
            true,
        )
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
        if !string::is_shown(source, now_ms) || string::is_shown(target, now_ms) {
            return (keep_both(), false);
        }
        (
            [
                Edit::delete(),
                string::put_all(string::values(source, now_ms)),
            ],
            true,
        )
    })?;
    ctx.reply.integer(i64::from(done));
    Ok(())
}

fn keep_both() -> [Edit; 2] {
    [Edit::Keep, Edit::Keep]
}

pub(super) fn object_encoding(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let Some(shown) = ctx.shown(args.at(2))? else {
        return missing(ctx);
    };
    let encoding = match () {
        () if shown.integer().is_some() => "int",
        () if shown.bytes.len() <= EMBSTR_MAX => "embstr",
        () => "raw",
    };
    ctx.reply.bulk(encoding.as_bytes());
    Ok(())
}

pub(super) fn object_refcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    constant(ctx, args, 1)
}

/// Access times are not kept: the cache does without them. Zero is what a recently used key has.
pub(super) fn object_idletime(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    constant(ctx, args, 0)
}

fn constant(ctx: &mut Ctx<'_>, args: Args<'_>, value: i64) -> Outcome {
    if ctx.shown(args.at(2))?.is_none() {
        return missing(ctx);
    }
    ctx.reply.integer(value);
    Ok(())
}

pub(super) fn object_freq(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if ctx.shown(args.at(2))?.is_none() {
        return missing(ctx);
    }
    Err(Error::text(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
         that when switching between policies at runtime LRU and LFU data will take some time to \
         adjust.",
    ))
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
    if !string::is_shown(&object, clock::now_ms()) {
        return missing(ctx);
    }
    let row = crate::logic::record::ROW.encode(&object).len() + args.at(2).len();
    ctx.reply
        .integer((row + crate::logic::place::PREFIX_LEN) as i64);
    Ok(())
}

pub(super) fn dump(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let object = ctx.object(args.at(1))?;
    let payload = encode_dump(&object);
    ctx.reply.bulk_or_null(payload.as_deref());
    Ok(())
}

fn encode_dump(object: &Object) -> Option<Vec<u8>> {
    let values = string::values(object, clock::now_ms());
    if values.is_empty() {
        return None;
    }
    let mut out = DUMP_MAGIC.to_vec();
    put_varint(&mut out, values.len() as u64);
    for value in &values {
        if let Payload::Bytes(bytes) = &value.payload {
            put_bytes(&mut out, bytes);
        }
    }
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    Some(out)
}

/// The values of a payload, the oldest first; beyond `most` the oldest are one, as the policy says.
fn decode_dump(payload: &[u8], most: usize, policy: OnConflict) -> Option<Vec<Bytes>> {
    let (body, sum) = payload.split_at_checked(payload.len().checked_sub(4)?)?;
    let body = body.strip_prefix(DUMP_MAGIC)?;
    if crc32fast::hash(&payload[..payload.len() - 4]).to_le_bytes() != sum {
        return None;
    }
    let mut r = Reader(body);
    let (mut newest, mut rest) = (VecDeque::new(), None);
    for _ in 0..r.count(1).ok()? {
        newest.push_back(r.bytes().ok()?);
        if newest.len() >= most.max(1) {
            let next = newest.pop_front()?;
            rest = Some(match rest {
                Some(best) if policy.prefers(best, next) => best,
                _ => next,
            });
        }
    }
    let mut met = HashSet::new();
    let newest_first = newest.into_iter().rev().chain(rest);
    let distinct = newest_first.filter(|value| met.insert(*value));
    let mut values: Vec<Bytes> = distinct.map(Bytes::copy_from_slice).collect();
    values.reverse();
    (r.0.is_empty() && !values.is_empty()).then_some(values)
}

pub(super) fn restore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (mut replace, mut absolute) = (false, false);
    let mut nth = 4;
    while nth < args.len() {
        match () {
            () if args.is(nth, "REPLACE") => replace = true,
            () if args.is(nth, "ABSTTL") => absolute = true,
            () if args.is(nth, "IDLETIME") && nth + 1 < args.len() => {
                nth += 1;
                if args.integer(nth)? < 0 {
                    return Err(Error::text("ERR Invalid IDLETIME value, must be >= 0"));
                }
            }
            () if args.is(nth, "FREQ") && nth + 1 < args.len() => {
                nth += 1;
                if !(0..=255).contains(&args.integer(nth)?) {
                    return Err(Error::text(
                        "ERR Invalid FREQ value, must be >= 0 and <= 255",
                    ));
                }
            }
            () => return Err(Error::Syntax),
        }
        nth += 1;
    }
    if !replace && ctx.shown(args.at(1))?.is_some() {
        return Err(Error::BusyKey);
    }
    let ttl = args.integer(2)?;
    let ttl = u64::try_from(ttl).map_err(|_| Error::text("ERR Invalid TTL value, must be >= 0"))?;
    let replica = &ctx.node.replica;
    let (most, policy) = (replica.sibling_limit(), replica.policies().of(args.at(1)));
    let values = decode_dump(args.at(3), most, policy).ok_or(Error::text(
        "ERR DUMP payload version or checksum are wrong",
    ))?;
    let start = if absolute { 0 } else { clock::now_ms() };
    let expires_at_ms = match start.checked_add(ttl) {
        _ if ttl == 0 => None,
        Some(at) if i64::try_from(at).is_ok() => Some(at),
        _ => return Err(Error::InvalidExpire("restore")),
    };
    let values = values
        .into_iter()
        .map(|bytes| Value {
            payload: Payload::Bytes(bytes),
            expires_at_ms,
        })
        .collect();
    ctx.update(args.at(1), |object, now_ms| {
        if !replace && string::is_shown(object, now_ms) {
            return (Edit::Keep, Err(Error::BusyKey));
        }
        (string::put_all(values), Ok(()))
    })??;
    ctx.reply.ok();
    Ok(())
}
