//! What only a causal store has: SIBLINGS and RESOLVE.
//!
//! A context leaves the server as text, bound to its key and database (as stored: it goes along with a
//! SWAPDB) and authenticated with the cluster's
//! secret: a forged one could hide writes that nobody has seen.

use bytes::Bytes;

use super::expiry;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{OWN, R, Row, WM, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::{Payload, Value};
use crate::logic::types::string;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "siblings",
        -2,
        R.and(OWN),
        keys::READ,
        "causal",
        siblings,
        "All values of a key and the context to resolve them: SIBLINGS key [WITHMETA] [FIELD element].",
    ),
    cmd(
        "resolve",
        -3,
        WM.and(OWN),
        keys::CHANGE,
        "causal",
        resolve,
        "Writes over exactly what a context has seen: RESOLVE key context [value [EX s|PX ms|EXAT t|PXAT t|KEEPTTL]] [FIELD element].",
    ),
];

fn stored_db(ctx: &Ctx<'_>) -> u8 {
    ctx.node.replica.database(ctx.session.db)
}

/// `FIELD element` names a part of a collection; a string has none.
fn refuse_field(ctx: &mut Ctx<'_>, key: &[u8]) -> Result<(), Error> {
    if ctx.shown(key)?.is_some() {
        return Err(Error::text(
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        ));
    }
    Err(Error::text(
        "ERR FIELD needs a collection, and this version has none yet",
    ))
}

pub(super) fn siblings(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut with_meta = false;
    let mut nth = 2;
    while nth < args.len() {
        if args.is(nth, "WITHMETA") {
            with_meta = true;
        } else if args.is(nth, "FIELD") && nth + 1 < args.len() {
            return refuse_field(ctx, args.at(1));
        } else {
            return Err(Error::Syntax);
        }
        nth += 1;
    }
    let key = args.at(1);
    let object = ctx.object(key)?;
    let at = (stored_db(ctx), key);
    let now_ms = clock::now_ms();
    let found = string::siblings(&object, now_ms);
    ctx.reply.array(2);
    ctx.reply
        .bulk(ctx.node.seal.token(at, object.context()).as_bytes());
    ctx.reply.array(found.len());
    for sibling in found {
        if !with_meta {
            ctx.reply.bulk(&sibling.bytes);
            continue;
        }
        ctx.reply.array(4);
        ctx.reply.bulk(&sibling.bytes);
        ctx.reply.integer(sibling.at.ms() as i64);
        ctx.reply.bulk(ctx.node.name_of(sibling.actor).as_bytes());
        let ttl = sibling
            .expires_at_ms
            .map_or(-1, |at| at.saturating_sub(now_ms) as i64);
        ctx.reply.integer(ttl);
    }
    Ok(())
}

pub(super) fn resolve(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let key = args.at(1);
    let seen = ctx.node.seal.open((stored_db(ctx), key), args.at(2))?;
    let (mut value, mut expires, mut keep_ttl) = (None, None, false);
    let mut nth = 3;
    if nth < args.len() && !(args.is(nth, "FIELD") && args.len() == 5) {
        value = Some(Bytes::copy_from_slice(args.at(nth)));
        nth += 1;
    }
    while nth < args.len() {
        let unit = expiry::unit(args.at(nth)).filter(|_| nth + 1 < args.len());
        match unit {
            Some(unit) if expires.is_none() && !keep_ttl => {
                expires = expiry::absolute(args, Some((unit, nth + 1)), "resolve")?;
                nth += 1;
            }
            None if args.is(nth, "KEEPTTL") && expires.is_none() => keep_ttl = true,
            None if args.is(nth, "FIELD") && nth + 1 < args.len() => return refuse_field(ctx, key),
            _ => return Err(Error::Syntax),
        }
        nth += 1;
    }
    ctx.update(key, |object, now_ms| {
        let kept = string::shown(object, now_ms)
            .and_then(|s| s.expires_at_ms)
            .filter(|_| keep_ttl);
        let value = value.map(|bytes| Value {
            payload: Payload::Bytes(bytes),
            expires_at_ms: expires.or(kept),
        });
        (string::resolve(seen, value), ())
    })?;
    let object = ctx.object(key)?;
    let at = (stored_db(ctx), key);
    let now = string::siblings(&object, clock::now_ms()).len();
    ctx.reply.array(2);
    ctx.reply
        .bulk(ctx.node.seal.token(at, object.context()).as_bytes());
    ctx.reply.integer(now as i64);
    Ok(())
}
