//! Strings that are changed where they are what somebody thinks: SET's IFEQ and its kin, DELEX, DELIFEQ, DIGEST
//! (Valkey 8.1, Redis 8.4); and MSETEX.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::expiry::{self, Unit};
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, Row, WF, WM, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::edit::Edit;
use crate::logic::types;
use crate::logic::types::string;
use crate::replica::Reach;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "delex",
        -2,
        WF,
        keys::DELETE_ONE,
        "string",
        delex,
        "Deletes a key if its string is, or is not, what is said.",
    )
    .shows_values(),
    cmd(
        "delifeq",
        3,
        WF,
        keys::DELETE_ONE,
        "string",
        delifeq,
        "Deletes a key if its string is what is said.",
    )
    .shows_values(),
    cmd(
        "digest",
        2,
        R,
        keys::READ,
        "string",
        digest,
        "The XXH3 hash of a string, for IFDEQ and IFDNE.",
    )
    .shows_values(),
    cmd(
        "msetex",
        -4,
        WM,
        keys::OVERWRITE_COUNTED,
        "string",
        msetex,
        "Sets several keys, all or none, with one expiry: MSETEX n key value ... [NX | XX] [EX s | ... | KEEPTTL].",
    )
    .together(),
];

/// What a string is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is this.
    Is,
    /// It is not this, or not there.
    IsNot,
    /// Its digest is this.
    DigestIs,
    /// Its digest is not this, or it is not there.
    DigestIsNot,
}

impl Comparison {
    /// The options that say so, which a value follows.
    pub fn named(args: Args<'_>, nth: usize) -> Option<Self> {
        Some(match () {
            () if args.is(nth, "IFEQ") => Self::Is,
            () if args.is(nth, "IFNE") => Self::IsNot,
            () if args.is(nth, "IFDEQ") => Self::DigestIs,
            () if args.is(nth, "IFDNE") => Self::DigestIsNot,
            () => return None,
        })
    }

    /// Whether a value can be compared so.
    pub fn check(self, with: &[u8]) -> Outcome {
        let is_digest = with.len() == 16 && with.iter().all(u8::is_ascii_hexdigit);
        match self {
            Self::DigestIs | Self::DigestIsNot if !is_digest => Err(Error::text(
                "ERR digest must be exactly 16 hexadecimal characters",
            )),
            _ => Ok(()),
        }
    }

    /// Whether a string, if there is one, is as is said.
    pub fn holds(self, shown: Option<&[u8]>, with: &[u8]) -> bool {
        let is_digest = |bytes: &[u8]| hex(bytes).as_bytes().eq_ignore_ascii_case(with);
        match self {
            Self::Is => shown == Some(with),
            Self::IsNot => shown != Some(with),
            Self::DigestIs => shown.is_some_and(is_digest),
            Self::DigestIsNot => !shown.is_some_and(is_digest),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

fn digest(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let shown = ctx.shown(args.at(1))?;
    ctx.count_lookup(shown.is_some());
    let digest = shown.map(|shown| hex(&shown.bytes));
    ctx.reply.bulk_or_null(digest.as_deref().map(str::as_bytes));
    Ok(())
}

fn delifeq(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let is_it = Some((Comparison::Is, args.at(2)));
    delete(ctx, args.at(1), (is_it, Error::WrongType))
}

fn delex(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let wanted = match args.len() {
        2 => None,
        4 => {
            let wrong = "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE";
            let comparison = Comparison::named(args, 2).ok_or(Error::text(wrong))?;
            Some((comparison, args.at(3)))
        }
        _ => return Err(Error::Arity("delex".into())),
    };
    let other = Error::text("ERR Key should be of string type if conditions are specified");
    delete(ctx, args.at(1), (wanted, other))
}

/// Deletes a key, if it is what is wanted; an error, if it is of another type than can be.
fn delete(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    (wanted, other): (Option<(Comparison, &[u8])>, Error),
) -> Outcome {
    if let Some((comparison, with)) = wanted {
        comparison.check(with)?;
    }
    let gone = ctx.update_some(key, Reach::Head, |object, now_ms| {
        let Some(present) = types::present(object, now_ms) else {
            return (Edit::Keep, Ok(false));
        };
        if let Some((comparison, with)) = wanted {
            if present.kind != Kind::String {
                return (Edit::Keep, Err(other));
            }
            let shown = string::shown(object, now_ms);
            if !comparison.holds(shown.as_ref().map(|shown| &shown.bytes[..]), with) {
                return (Edit::Keep, Ok(false));
            }
        }
        (Edit::delete(), Ok(true))
    })??;
    ctx.reply.integer(i64::from(gone));
    Ok(())
}

/// The options of MSETEX behind its keys and values.
#[derive(Default)]
struct Options {
    /// Only where none of the keys is there (no), or all are (yes).
    if_there: Option<bool>,
    keeps_end: bool,
    expiry: Option<(Unit, usize)>,
}

impl Options {
    fn parse(args: Args<'_>, from: usize) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut nth = from;
        while nth < args.len() {
            let is_free = options.expiry.is_none() && !options.keeps_end;
            match expiry::unit(args.at(nth)) {
                Some(unit) if is_free && nth + 1 < args.len() => {
                    nth += 1;
                    options.expiry = Some((unit, nth));
                }
                None if is_free && args.is(nth, "KEEPTTL") => options.keeps_end = true,
                None if options.if_there.is_none() && args.is(nth, "NX") => {
                    options.if_there = Some(false);
                }
                None if options.if_there.is_none() && args.is(nth, "XX") => {
                    options.if_there = Some(true);
                }
                _ => return Err(Error::Syntax),
            }
            nth += 1;
        }
        Ok(options)
    }
}

/// All or nothing: the table runs it with every other command kept out.
fn msetex(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let wrong = Error::text("ERR invalid numkeys value");
    let count = args.integer(1).ok().and_then(|n| usize::try_from(n).ok());
    let count = count.filter(|count| *count > 0).ok_or(wrong)?;
    let end = count.checked_mul(2).and_then(|words| words.checked_add(2));
    let end = end.filter(|end| *end <= args.len());
    let end = end.ok_or(Error::text("ERR wrong number of key-value pairs"))?;
    let options = Options::parse(args, end)?;
    let expires = expiry::absolute(args, options.expiry, "msetex")?;
    let pairs = || (2..end).step_by(2).map(|at| (args.at(at), args.at(at + 1)));
    if let Some(wanted) = options.if_there {
        for (key, _) in pairs() {
            if ctx.present(key)?.is_some() != wanted {
                ctx.reply.integer(0);
                return Ok(());
            }
        }
    }
    for (nth, (key, value)) in pairs().enumerate() {
        let put = if options.keeps_end {
            let value = Bytes::copy_from_slice(value);
            ctx.update(key, |object, now_ms| {
                let present = types::present(object, now_ms);
                let kept = present.and_then(|present| present.expires_at_ms);
                (string::put(value, kept), ())
            })
        } else {
            ctx.put(key, value, expires)
        };
        put.map_err(|error| error.after_others(nth > 0))?;
    }
    ctx.reply.integer(1);
    Ok(())
}
