//! What only a causal store has: SIBLINGS and RESOLVE.
//!
//! A context leaves the server as text, bound to its key and database (as stored: it goes along with a
//! SWAPDB) and authenticated with the cluster's
//! secret: a forged one could hide writes that nobody has seen.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::args::Args;
use super::error::Error;
use super::expiry;
use super::{Ctx, Outcome};
use crate::base::clock;
use crate::logic::causal::{Context, Payload, Value};
use crate::logic::codec::Reader;
use crate::logic::row;
use crate::logic::types::string::{self, Change};

const TAG_LEN: usize = 16;

/// What authenticates contexts.
#[derive(Clone)]
pub struct ContextSeal([u8; 32]);

impl ContextSeal {
    /// From the cluster's secret.
    pub fn new(secret: &[u8]) -> Self {
        Self(blake3::derive_key("ringwood context token v2", secret))
    }

    fn tag(&self, db: u8, key: &[u8], body: &[u8]) -> [u8; TAG_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[db]);
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(body);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_LEN]);
        tag
    }

    fn token(&self, (db, key): (u8, &[u8]), context: &Context) -> String {
        let mut raw = vec![0; TAG_LEN];
        row::put_context(&mut raw, context);
        let tag = self.tag(db, key, &raw[TAG_LEN..]);
        raw[..TAG_LEN].copy_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(raw)
    }

    fn open(&self, (db, key): (u8, &[u8]), token: &[u8]) -> Result<Context, Error> {
        let raw = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| Error::BadContext)?;
        let (tag, body) = raw.split_at_checked(TAG_LEN).ok_or(Error::BadContext)?;
        let expected = blake3::hash(&self.tag(db, key, body));
        if expected != blake3::hash(tag) {
            return Err(Error::BadContext);
        }
        let mut r = Reader(body);
        let context = row::read_context(&mut r).map_err(|_| Error::BadContext)?;
        if r.0.is_empty() {
            Ok(context)
        } else {
            Err(Error::BadContext)
        }
    }
}

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
        (Change::Resolve { seen, value }, ())
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
