//! SET and GETEX with their options.

use bytes::Bytes;

use super::compare::Comparison;
use super::expiry::{self, Unit};
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::edit::Edit;
use crate::logic::types;
use crate::logic::types::string;
use crate::routing::args::Args;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Condition {
    #[default]
    Always,
    IfAbsent,
    IfPresent,
    /// With the word at a place.
    If(Comparison, usize),
}

#[derive(Default)]
struct SetOptions {
    condition: Condition,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expiry: Option<(Unit, usize)>,
}

impl SetOptions {
    /// Whether a condition says nothing else than what was said before.
    fn may_be(&self, condition: Condition) -> bool {
        [Condition::Always, condition].contains(&self.condition)
    }
}

/// The options of SET (`for_set`) and GETEX.
fn set_options(args: Args<'_>, from: usize, for_set: bool) -> Result<SetOptions, Error> {
    let mut options = SetOptions::default();
    let mut nth = from;
    while nth < args.len() {
        let free_expiry = options.expiry.is_none() && !options.keep_ttl && !options.persist;
        let unit = expiry::unit(args.at(nth));
        match unit {
            Some(unit) if free_expiry && nth + 1 < args.len() => {
                options.expiry = Some((unit, nth + 1));
                nth += 1;
            }
            None if for_set && args.is(nth, "NX") && options.may_be(Condition::IfAbsent) => {
                options.condition = Condition::IfAbsent;
            }
            None if for_set && args.is(nth, "XX") && options.may_be(Condition::IfPresent) => {
                options.condition = Condition::IfPresent;
            }
            None if for_set && args.is(nth, "GET") => options.get = true,
            None if for_set
                && options.condition == Condition::Always
                && nth + 1 < args.len()
                && let Some(comparison) = Comparison::named(args, nth) =>
            {
                nth += 1;
                comparison.check(args.at(nth))?;
                options.condition = Condition::If(comparison, nth);
            }
            None if for_set && args.is(nth, "KEEPTTL") && options.expiry.is_none() => {
                options.keep_ttl = true;
            }
            None if !for_set && args.is(nth, "PERSIST") && options.expiry.is_none() => {
                options.persist = true;
            }
            _ => return Err(Error::Syntax),
        }
        nth += 1;
    }
    Ok(options)
}

pub(super) fn set(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() == 3 {
        ctx.put(args.at(1), args.at(2), None)?;
        ctx.reply.ok();
        return Ok(());
    }
    let options = set_options(args, 3, true)?;
    let expires = expiry::absolute(args, options.expiry, "set")?;
    let bytes = Bytes::copy_from_slice(args.at(2));
    let (old, done) = ctx.update(args.at(1), |object, now_ms| {
        let present = types::present(object, now_ms);
        let is_other = present.is_some_and(|p| p.kind != Kind::String);
        let compares = matches!(options.condition, Condition::If(..));
        if (options.get || compares) && is_other {
            return (Edit::Keep, Err(Error::WrongType));
        }
        let old = string::shown(object, now_ms).filter(|_| !is_other);
        let wanted = match options.condition {
            Condition::Always => true,
            Condition::IfAbsent => present.is_none(),
            Condition::IfPresent => present.is_some(),
            Condition::If(comparison, nth) => {
                let shown = old.as_ref().map(|old| &old.bytes[..]);
                comparison.holds(shown, args.at(nth))
            }
        };
        if !wanted {
            return (Edit::Keep, Ok((old, false)));
        }
        let kept = present.and_then(|present| present.expires_at_ms);
        let expires = expires.or(kept.filter(|_| options.keep_ttl));
        (string::put(bytes, expires), Ok((old, true)))
    })??;
    match (options.get, done) {
        (true, _) => ctx.reply.bulk_or_null(old.as_ref().map(|o| &o.bytes[..])),
        (false, true) => ctx.reply.ok(),
        (false, false) => ctx.reply.null(),
    }
    Ok(())
}

pub(super) fn getex(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let options = set_options(args, 2, false)?;
    if ctx.shown(args.at(1))?.is_none() {
        ctx.count_lookup(false);
        ctx.reply.null();
        return Ok(());
    }
    let expires = expiry::absolute(args, options.expiry, "getex")?;
    let old = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        let Some(old) = string::shown(object, now_ms) else {
            return Ok((Edit::Keep, None));
        };
        let change = match expires {
            Some(at) if at <= now_ms => Edit::delete(),
            Some(_) => Edit::Retime(expires),
            None if options.persist && old.expires_at_ms.is_some() => Edit::Retime(None),
            None => Edit::Keep,
        };
        Ok((change, Some(old)))
    })?;
    ctx.count_lookup(old.is_some());
    ctx.reply.bulk_or_null(old.as_ref().map(|o| &o.bytes[..]));
    Ok(())
}
