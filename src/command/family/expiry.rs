//! Expiry: units, absolute times, and the commands that read and change them.

use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{RF, Row, WF, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::edit::Edit;
use crate::logic::types;
use crate::replica::Reach;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "expire",
        -3,
        WF,
        keys::UPDATE,
        "generic",
        expire,
        "Sets a time to live in seconds.",
    ),
    cmd(
        "expireat",
        -3,
        WF,
        keys::UPDATE,
        "generic",
        expireat,
        "Sets the expiry as a time in seconds.",
    ),
    cmd(
        "expiretime",
        2,
        RF,
        keys::READ,
        "generic",
        expiretime,
        "The expiry as a time in seconds.",
    ),
    cmd(
        "persist",
        2,
        WF,
        keys::UPDATE,
        "generic",
        persist,
        "Removes the expiry.",
    ),
    cmd(
        "pexpire",
        -3,
        WF,
        keys::UPDATE,
        "generic",
        pexpire,
        "Sets a time to live in milliseconds.",
    ),
    cmd(
        "pexpireat",
        -3,
        WF,
        keys::UPDATE,
        "generic",
        pexpireat,
        "Sets the expiry as a time in milliseconds.",
    ),
    cmd(
        "pexpiretime",
        2,
        RF,
        keys::READ,
        "generic",
        pexpiretime,
        "The expiry as a time in milliseconds.",
    ),
    cmd(
        "pttl",
        2,
        RF,
        keys::READ,
        "generic",
        pttl,
        "The time to live in milliseconds.",
    ),
    cmd(
        "ttl",
        2,
        RF,
        keys::READ,
        "generic",
        ttl,
        "The time to live in seconds.",
    ),
];

/// How a client states a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// From now.
    Seconds,
    /// From now.
    Milliseconds,
    /// Since the epoch.
    UnixSeconds,
    /// Since the epoch.
    UnixMilliseconds,
}

/// EX, PX, EXAT, PXAT.
pub(super) fn unit(word: &[u8]) -> Option<Unit> {
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    match () {
        () if is("EX") => Some(Unit::Seconds),
        () if is("PX") => Some(Unit::Milliseconds),
        () if is("EXAT") => Some(Unit::UnixSeconds),
        () if is("PXAT") => Some(Unit::UnixMilliseconds),
        () => None,
    }
}

/// The absolute time of an option's argument, which must be positive.
pub(super) fn absolute(
    args: Args<'_>,
    option: Option<(Unit, usize)>,
    command: &'static str,
) -> Result<Option<u64>, Error> {
    let Some((unit, nth)) = option else {
        return Ok(None);
    };
    let amount = args.integer(nth)?;
    if amount <= 0 {
        return Err(Error::InvalidExpire(command));
    }
    let at = to_ms(amount, unit).ok_or(Error::InvalidExpire(command))?;
    Ok(Some(at as u64))
}

fn to_ms(amount: i64, unit: Unit) -> Option<i64> {
    let ms = match unit {
        Unit::Seconds | Unit::UnixSeconds => amount.checked_mul(1_000)?,
        Unit::Milliseconds | Unit::UnixMilliseconds => amount,
    };
    match unit {
        Unit::Seconds | Unit::Milliseconds => ms.checked_add(clock::now_ms() as i64),
        Unit::UnixSeconds | Unit::UnixMilliseconds => Some(ms),
    }
}

pub(super) fn expire(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    change(ctx, args, Unit::Seconds, "expire")
}

pub(super) fn pexpire(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    change(ctx, args, Unit::Milliseconds, "pexpire")
}

pub(super) fn expireat(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    change(ctx, args, Unit::UnixSeconds, "expireat")
}

pub(super) fn pexpireat(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    change(ctx, args, Unit::UnixMilliseconds, "pexpireat")
}

#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four options, each on or off"
)]
struct Conditions {
    if_none: bool,
    if_some: bool,
    if_later: bool,
    if_sooner: bool,
}

fn conditions(args: Args<'_>) -> Result<Conditions, Error> {
    let mut found = Conditions::default();
    for nth in 3..args.len() {
        match () {
            () if args.is(nth, "NX") => found.if_none = true,
            () if args.is(nth, "XX") => found.if_some = true,
            () if args.is(nth, "GT") => found.if_later = true,
            () if args.is(nth, "LT") => found.if_sooner = true,
            () => {
                return Err(Error::Text(
                    format!("ERR Unsupported option {}", args.text(nth)).into(),
                ));
            }
        }
    }
    if found.if_none && (found.if_some || found.if_later || found.if_sooner) {
        return Err(Error::text(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if found.if_later && found.if_sooner {
        return Err(Error::text(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(found)
}

fn change(ctx: &mut Ctx<'_>, args: Args<'_>, unit: Unit, name: &'static str) -> Outcome {
    let conditions = conditions(args)?;
    let at = to_ms(args.integer(2)?, unit).ok_or(Error::InvalidExpire(name))?;
    let done = ctx.update_some(args.at(1), Reach::Head, |object, now_ms| {
        let Some(shown) = types::present(object, now_ms) else {
            return (Edit::Keep, false);
        };
        let current = shown.expires_at_ms.map_or(i64::MAX, |ms| ms as i64);
        let refused = (conditions.if_none && shown.expires_at_ms.is_some())
            || (conditions.if_some && shown.expires_at_ms.is_none())
            || (conditions.if_later && at <= current)
            || (conditions.if_sooner && at >= current);
        if refused {
            return (Edit::Keep, false);
        }
        let past = u64::try_from(at).map_or(true, |at| at <= now_ms);
        (
            if past {
                Edit::delete()
            } else {
                Edit::Retime(Some(at as u64))
            },
            true,
        )
    })?;
    ctx.reply.integer(i64::from(done));
    Ok(())
}

pub(super) fn persist(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let done = ctx.update_some(args.at(1), Reach::Head, |object, now_ms| {
        let has = types::present(object, now_ms).is_some_and(|s| s.expires_at_ms.is_some());
        (if has { Edit::Retime(None) } else { Edit::Keep }, has)
    })?;
    ctx.reply.integer(i64::from(done));
    Ok(())
}

pub(super) fn ttl(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    read(ctx, args, |at, now| {
        at.saturating_sub(now).saturating_add(500) / 1_000
    })
}

pub(super) fn pttl(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    read(ctx, args, u64::saturating_sub)
}

pub(super) fn expiretime(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    read(ctx, args, |at, _| at.saturating_add(500) / 1_000)
}

pub(super) fn pexpiretime(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    read(ctx, args, |at, _| at)
}

fn read(ctx: &mut Ctx<'_>, args: Args<'_>, form: impl FnOnce(u64, u64) -> u64) -> Outcome {
    let present = ctx.present(args.at(1))?;
    ctx.count_lookup(present.is_some());
    ctx.reply.integer(match present {
        None => -2,
        Some(present) => present
            .expires_at_ms
            .map_or(-1, |at| form(at, clock::now_ms()) as i64),
    });
    Ok(())
}
