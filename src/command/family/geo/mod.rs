//! Places on the earth: sorted sets whose scores are geohashes.

mod search;
mod words;

use words::{coordinates, place, reply_place, unit};

use super::zset::add;
use crate::command::context::{Ctx, Outcome};
use crate::command::family::elements;
use crate::command::row::{R, Row, WM, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::types::geo::Place;
use crate::logic::types::zset;
use crate::replica::Reach;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "geoadd",
        -5,
        WM,
        keys::UPDATE,
        "geo",
        geoadd,
        "Adds places.",
    ),
    cmd(
        "geodist",
        -4,
        R,
        keys::READ,
        "geo",
        geodist,
        "How far two places are from each other.",
    ),
    cmd(
        "geohash",
        -2,
        R,
        keys::READ,
        "geo",
        geohash,
        "The geohashes of places.",
    ),
    cmd(
        "geopos",
        -2,
        R,
        keys::READ,
        "geo",
        geopos,
        "Longitude and latitude of places.",
    ),
    cmd(
        "georadius",
        -6,
        WM,
        keys::GEORADIUS_AT,
        "geo",
        search::georadius,
        "The places around a point (old form of GEOSEARCH).",
    ),
    cmd(
        "georadius_ro",
        -6,
        R,
        keys::READ,
        "geo",
        search::georadius_ro,
        "The places around a point (old form of GEOSEARCH).",
    ),
    cmd(
        "georadiusbymember",
        -5,
        WM,
        keys::GEORADIUS_BY,
        "geo",
        search::georadiusbymember,
        "The places around a member (old form of GEOSEARCH).",
    ),
    cmd(
        "georadiusbymember_ro",
        -5,
        R,
        keys::READ,
        "geo",
        search::georadiusbymember_ro,
        "The places around a member (old form of GEOSEARCH).",
    ),
    cmd(
        "geosearch",
        -7,
        R,
        keys::READ,
        "geo",
        search::geosearch,
        "The places in an area.",
    ),
    cmd(
        "geosearchstore",
        -8,
        WM,
        keys::STORE_ONE,
        "geo",
        search::geosearchstore,
        "Keeps the places in an area.",
    ),
];

fn geoadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut nth = 2;
    let mut options = add::Options::default();
    loop {
        match () {
            () if args.is(nth, "NX") => options.if_absent = true,
            () if args.is(nth, "XX") => options.if_present = true,
            () if args.is(nth, "CH") => options.counts_changes = true,
            () => break,
        }
        nth += 1;
    }
    let is_both = options.if_absent && options.if_present;
    if is_both || !(args.len() - nth).is_multiple_of(3) || nth == args.len() {
        return Err(Error::Syntax);
    }
    let mut pairs = Vec::new();
    for nth in (nth..args.len()).step_by(3) {
        let (lon, lat) = coordinates(args, nth)?;
        let score = place(lon, lat)?.score().ok_or(Error::NotFloat)?;
        pairs.push((args.at(nth + 2), score));
    }
    let changed = add::set(ctx, args.at(1), &pairs, options)?;
    ctx.reply.integer(changed);
    Ok(())
}

fn geodist(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let metres = match args.len() {
        4 => 1.0,
        5 => unit(args.at(4))?,
        _ => return Err(Error::Syntax),
    };
    let named = elements::named(Kind::Zset, args, 2);
    let set = ctx.typed_some(args.at(1), Kind::Zset, Reach::Named(&named))?;
    let found = |nth| zset::score(&set, args.at(nth)).map(Place::of);
    match (found(2), found(3)) {
        (Some(a), Some(b)) => ctx
            .reply
            .bulk(format!("{:.4}", a.distance(b) / metres).as_bytes()),
        _ => ctx.reply.null(),
    }
    Ok(())
}

fn geohash(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let named = elements::named(Kind::Zset, args, 2);
    let set = ctx.typed_some(args.at(1), Kind::Zset, Reach::Named(&named))?;
    ctx.reply.array(args.len() - 2);
    for member in args.from(2) {
        let hash = zset::score(&set, member).map(|score| Place::of(score).geohash());
        ctx.reply.bulk_or_null(hash.as_ref().map(String::as_bytes));
    }
    Ok(())
}

fn geopos(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let named = elements::named(Kind::Zset, args, 2);
    let set = ctx.typed_some(args.at(1), Kind::Zset, Reach::Named(&named))?;
    ctx.reply.array(args.len() - 2);
    for member in args.from(2) {
        match zset::score(&set, member) {
            Some(score) => reply_place(ctx, score),
            None => ctx.reply.null_array(),
        }
    }
    Ok(())
}
