//! `HyperLogLog`: strings, whose siblings come together by the greatest of each register.

use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, Row, WM, WMF, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::edit::Edit;
use crate::logic::types::hll::{NotOne, Registers};
use crate::logic::types::string;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "pfadd",
        -2,
        WMF,
        keys::INSERT,
        "hyperloglog",
        pfadd,
        "Counts elements in a HyperLogLog.",
    ),
    cmd(
        "pfcount",
        -2,
        R,
        keys::READ_ALL,
        "hyperloglog",
        pfcount,
        "How many different elements were counted, about.",
    ),
    cmd(
        "pfmerge",
        -2,
        WM,
        keys::MERGE,
        "hyperloglog",
        pfmerge,
        "Brings HyperLogLogs together.",
    ),
];

/// What all siblings have counted; `None` where there is no key.
fn registers(object: &Object, now_ms: u64) -> Result<Option<Registers>, Error> {
    let mut all: Option<Registers> = None;
    for sibling in string::siblings(object, now_ms) {
        let one = Registers::decode(&sibling.bytes).map_err(|why| match why {
            NotOne::Other => Error::text("WRONGTYPE Key is not a valid HyperLogLog string value."),
            NotOne::Corrupt => Error::text("INVALIDOBJ Corrupted HLL object detected"),
        })?;
        match &mut all {
            Some(all) => all.join(&one),
            None => all = Some(one),
        }
    }
    Ok(all)
}

fn pfadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let is_changed = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        let old = registers(object, now_ms)?;
        let is_new = old.is_none();
        let mut all = old.unwrap_or_default();
        let more = args.from(2).filter(|element| all.add(element)).count();
        if !is_new && more == 0 {
            return Ok((Edit::Keep, false));
        }
        let expires = object.ends_at_ms();
        Ok((string::put(all.encode().into(), expires), true))
    })?;
    ctx.reply.integer(i64::from(is_changed));
    Ok(())
}

/// What some keys have counted together.
fn united<'k>(ctx: &Ctx<'_>, names: impl Iterator<Item = &'k [u8]>) -> Result<Registers, Error> {
    let mut all = Registers::default();
    for name in names {
        let object = ctx.typed(name, Kind::String)?;
        if let Some(one) = registers(&object, clock::now_ms())? {
            all.join(&one);
        }
    }
    Ok(all)
}

fn pfcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let all = united(ctx, args.from(1))?;
    ctx.reply.integer(all.count() as i64);
    Ok(())
}

fn pfmerge(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let all = united(ctx, args.from(1))?;
    ctx.change(args.at(1), Kind::String, |object, _| {
        let expires = object.ends_at_ms();
        Ok((string::put(all.encode().into(), expires), ()))
    })?;
    ctx.reply.ok();
    Ok(())
}
