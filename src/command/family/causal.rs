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
use crate::command::seal::Place;
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::{Context, Element, Kind, Object, Payload, Value, Version};
use crate::logic::edit::{Edit, Touch};
use crate::logic::integer;
use crate::logic::types::cell::{self, Sibling};
use crate::logic::types::zset::Score;
use crate::logic::types::{self, list, string, zset};
use crate::resp::format_double;
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

pub(super) fn siblings(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (mut with_meta, mut field) = (false, None);
    let mut nth = 2;
    while nth < args.len() {
        if args.is(nth, "WITHMETA") {
            with_meta = true;
        } else if args.is(nth, "FIELD") && field.is_none() && nth + 1 < args.len() {
            nth += 1;
            field = Some(args.at(nth));
        } else {
            return Err(Error::Syntax);
        }
        nth += 1;
    }
    let key = args.at(1);
    let (object, now_ms) = (ctx.object(key)?, clock::now_ms());
    let element = field
        .map(|field| element_of(&object, field, now_ms))
        .transpose()?;
    let (context, found) = match &element {
        Some(element) => {
            let versions = object.versions(element);
            (of_versions(versions), values(&object, element, now_ms))
        }
        None => (object.context().clone(), whole(&object, now_ms)),
    };
    let at = Place {
        db: ctx.node.replica.database(ctx.session.db),
        key,
        element: element.as_ref(),
    };
    let token = ctx.node.seal.token(at, &context);
    ctx.reply.array(2);
    ctx.reply.bulk(token.as_bytes());
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

/// The values of a string; of a key that holds collections the types that it holds at once.
fn whole(object: &Object, now_ms: u64) -> Vec<Sibling> {
    let kinds = types::kinds(object, now_ms);
    if kinds.iter().all(|(kind, _)| *kind == Kind::String) {
        return string::siblings(object, now_ms);
    }
    let expires_at_ms = object.ends_at_ms();
    let sibling = |(kind, newest): &(Kind, &Version)| Sibling {
        bytes: Bytes::from_static(types::name(*kind).as_bytes()),
        at: newest.at,
        actor: newest.dot.actor,
        expires_at_ms,
    };
    kinds.iter().map(sibling).collect()
}

/// The element that a client means: a field, a member, or the place of a list's element.
fn element_of(object: &Object, field: &[u8], now_ms: u64) -> Result<Element, Error> {
    match types::kind(object, now_ms) {
        Some(Kind::String | Kind::Expiry | Kind::Stream | Kind::StreamState) => {
            Err(Error::WrongType)
        }
        Some(Kind::List) => {
            let at = integer::parse(field).ok_or(Error::NotInteger)?;
            let found = types::places(at, at, list::len(object)).next();
            let item = found.and_then(|at| list::items(object).nth(at));
            let (name, _) = item.ok_or(Error::text("ERR index out of range"))?;
            Ok(types::element(Kind::List, name))
        }
        kind => Ok(types::element(kind.unwrap_or(Kind::Hash), field)),
    }
}

/// The values that an element holds at once, newest first, as a client reads them.
fn values(object: &Object, element: &Element, now_ms: u64) -> Vec<Sibling> {
    let versions = object.versions(element);
    if object.is_expired(now_ms) {
        return Vec::new();
    }
    let ends = object.ends_at_ms();
    match element.kind {
        Kind::Zset => {
            let mut scores = zset::siblings(object, element, versions, ends);
            for sibling in &mut scores {
                let score = Score::decode(&sibling.bytes).map_or(0.0, Score::get);
                sibling.bytes = format_double(score).into();
            }
            scores
        }
        _ => cell::siblings(object, element, versions, ends),
    }
}

/// RESOLVE's words behind the context.
struct Resolve<'a> {
    value: Option<&'a [u8]>,
    expires: Option<u64>,
    keep_ttl: bool,
    field: Option<&'a [u8]>,
}

impl<'a> Resolve<'a> {
    fn parse(args: Args<'a>) -> Result<Self, Error> {
        let mut resolve = Self {
            value: None,
            expires: None,
            keep_ttl: false,
            field: None,
        };
        let mut nth = 3;
        if nth < args.len() && !(args.is(nth, "FIELD") && args.len() == 5) {
            resolve.value = Some(args.at(nth));
            nth += 1;
        }
        while nth < args.len() {
            let unit = expiry::unit(args.at(nth)).filter(|_| nth + 1 < args.len());
            match unit {
                Some(unit) if resolve.expires.is_none() && !resolve.keep_ttl => {
                    resolve.expires = expiry::absolute(args, Some((unit, nth + 1)), "resolve")?;
                    nth += 1;
                }
                None if args.is(nth, "KEEPTTL") && resolve.expires.is_none() => {
                    resolve.keep_ttl = true;
                }
                None if args.is(nth, "FIELD")
                    && resolve.field.is_none()
                    && nth + 1 < args.len() =>
                {
                    nth += 1;
                    resolve.field = Some(args.at(nth));
                }
                _ => return Err(Error::Syntax),
            }
            nth += 1;
        }
        if resolve.field.is_some() && (resolve.expires.is_some() || resolve.keep_ttl) {
            return Err(Error::Syntax);
        }
        Ok(resolve)
    }

    /// What is written where the whole key is meant.
    fn value(&self, object: &Object, now_ms: u64) -> Option<Value> {
        let kept = types::present(object, now_ms).and_then(|present| present.expires_at_ms);
        let bytes = self.value?;
        Some(Value {
            payload: Payload::Bytes(Bytes::copy_from_slice(bytes)),
            expires_at_ms: self.expires.or(kept.filter(|_| self.keep_ttl)),
        })
    }

    /// What is written where an element is meant.
    fn element_value(&self, kind: Kind) -> Result<Option<Value>, Error> {
        let Some(bytes) = self.value else {
            return Ok(None);
        };
        let payload = match kind {
            Kind::Set => Bytes::new(),
            Kind::Zset => zset::parse_score(bytes).ok_or(Error::NotFloat)?.encode(),
            _ => Bytes::copy_from_slice(bytes),
        };
        Ok(Some(Value {
            payload: Payload::Bytes(payload),
            expires_at_ms: None,
        }))
    }
}

pub(super) fn resolve(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let key = args.at(1);
    let resolve = Resolve::parse(args)?;
    let at = Place {
        db: ctx.node.replica.database(ctx.session.db),
        key,
        element: None,
    };
    let Some(field) = resolve.field else {
        let seen = ctx.node.seal.open(at, args.at(2))?;
        ctx.update(key, |object, now_ms| {
            (
                Edit::over(seen, Element::STRING, resolve.value(object, now_ms)),
                (),
            )
        })?;
        let object = ctx.object(key)?;
        let now = whole(&object, clock::now_ms()).len();
        return settled(ctx, at, object.context(), now);
    };
    let seal = ctx.node.seal.clone();
    let element = ctx.update(key, |object, now_ms| {
        let decide = || -> Result<(Edit, Element), Error> {
            let element = element_of(object, field, now_ms)?;
            let of_element = Place {
                element: Some(&element),
                ..at
            };
            let seen = seal.open(of_element, args.at(2))?;
            let value = resolve.element_value(element.kind)?;
            // Of a key that is gone nothing goes on, its end neither.
            let edit = match value {
                None if !types::is_present(object, now_ms) => Edit::Keep,
                Some(value) if !types::is_present(object, now_ms) => Edit::Touch(vec![Touch {
                    element: element.clone(),
                    value: Some(value),
                }]),
                value => Edit::over(seen, element.clone(), value),
            };
            Ok((edit, element))
        };
        match decide() {
            Ok((edit, element)) => (edit, Ok(element)),
            Err(error) => (Edit::Keep, Err(error)),
        }
    })??;
    let object = ctx.object(key)?;
    let now = values(&object, &element, clock::now_ms()).len();
    let at = Place {
        element: Some(&element),
        ..at
    };
    settled(ctx, at, &of_versions(object.versions(&element)), now)
}

fn of_versions(versions: &[Version]) -> Context {
    Context::of_dots(versions.iter().map(|version| version.dot))
}

fn settled(ctx: &mut Ctx<'_>, at: Place<'_>, context: &Context, now: usize) -> Outcome {
    ctx.reply.array(2);
    ctx.reply.bulk(ctx.node.seal.token(at, context).as_bytes());
    ctx.reply.integer(now as i64);
    Ok(())
}
