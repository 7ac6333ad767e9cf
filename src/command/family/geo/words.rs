//! Places and lengths as words, and places as replies.

use crate::command::context::Ctx;
use crate::error::Error;
use crate::logic::types::geo::Place;
use crate::logic::types::zset::{self, Score};
use crate::resp::format_human;
use crate::routing::args::Args;

/// A word as a number.
pub(super) fn number(args: Args<'_>, nth: usize) -> Option<f64> {
    let score = zset::parse_score(args.get(nth)?)?;
    Some(score.get())
}

/// Longitude and latitude, from a place on.
pub(super) fn coordinates(args: Args<'_>, nth: usize) -> Result<(f64, f64), Error> {
    let lon = number(args, nth).ok_or(Error::NotFloat)?;
    Ok((lon, number(args, nth + 1).ok_or(Error::NotFloat)?))
}

/// A place that can be stored.
pub(super) fn place(lon: f64, lat: f64) -> Result<Place, Error> {
    Place::new(lon, lat).ok_or_else(|| {
        Error::Text(format!("ERR invalid longitude,latitude pair {lon:.6},{lat:.6}").into())
    })
}

/// Metres in a unit.
pub(super) fn unit(word: &[u8]) -> Result<f64, Error> {
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    match () {
        () if is("m") => Ok(1.0),
        () if is("km") => Ok(1_000.0),
        () if is("ft") => Ok(0.3048),
        () if is("mi") => Ok(1_609.34),
        () => Err(Error::text(
            "ERR unsupported unit provided. please use M, KM, FT, MI",
        )),
    }
}

/// The place that a score stands for.
pub(super) fn reply_place(ctx: &mut Ctx<'_>, score: Score) {
    let Place { lon, lat } = Place::of(score);
    ctx.reply.array(2);
    ctx.reply.decimal(&format_human(lon));
    ctx.reply.decimal(&format_human(lat));
}
