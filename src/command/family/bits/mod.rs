//! Bitmaps: strings, bit by bit, the highest of each byte first.

mod bitfield;

use bitfield::bit_at;

use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, RF, Row, WM, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::edit::Edit;
use crate::logic::types::string;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "bitcount",
        -2,
        R,
        keys::READ,
        "bitmap",
        bitcount,
        "How many bits are set.",
    )
    .shows_values(),
    cmd(
        "bitfield",
        -2,
        WM,
        keys::SET,
        "bitmap",
        bitfield::bitfield,
        "Reads and changes integers of any width.",
    )
    .shows_values(),
    cmd(
        "bitfield_ro",
        -2,
        RF,
        keys::READ,
        "bitmap",
        bitfield::bitfield_ro,
        "Reads integers of any width.",
    )
    .shows_values(),
    cmd(
        "bitop",
        -4,
        WM,
        keys::BITS,
        "bitmap",
        bitop,
        "Combines the bits of several strings.",
    )
    .shows_values(),
    cmd(
        "bitpos",
        -3,
        R,
        keys::READ,
        "bitmap",
        bitpos,
        "The place of the first bit that is set, or not.",
    )
    .shows_values(),
    cmd("getbit", 3, RF, keys::READ, "bitmap", getbit, "A bit.").shows_values(),
    cmd(
        "setbit",
        4,
        WM,
        keys::CHANGE,
        "bitmap",
        setbit,
        "Sets or clears a bit.",
    )
    .shows_values(),
];

/// A bit's place, which a string can have.
fn offset(ctx: &Ctx<'_>, args: Args<'_>, nth: usize) -> Result<usize, Error> {
    let wrong = Error::text("ERR bit offset is not an integer or out of range");
    let offset = args.integer(nth).map_err(|_| wrong.clone())?;
    let offset = usize::try_from(offset).map_err(|_| wrong.clone())?;
    if offset / 8 >= ctx.max_string() {
        return Err(wrong);
    }
    Ok(offset)
}

fn getbit(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let offset = offset(ctx, args, 2)?;
    let shown = ctx.shown(args.at(1))?;
    let bytes = shown.as_ref().map_or(&[][..], |shown| &shown.bytes);
    ctx.reply.integer(i64::from(bit_at(bytes, offset)));
    Ok(())
}

fn setbit(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let offset = offset(ctx, args, 2)?;
    let wrong = Error::text("ERR bit is not an integer or out of range");
    let bit = args.integer(3).map_err(|_| wrong.clone())?;
    if !matches!(bit, 0 | 1) {
        return Err(wrong);
    }
    let old = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        let old = string::shown(object, now_ms);
        let (bytes, expires) =
            old.map_or((Vec::new(), None), |s| (s.bytes.to_vec(), s.expires_at_ms));
        let was = bit_at(&bytes, offset);
        if was == (bit == 1) && offset / 8 < bytes.len() {
            return Ok((Edit::Keep, was));
        }
        let mut bytes = bytes;
        bytes.resize(bytes.len().max(offset / 8 + 1), 0);
        let mask = 0x80 >> (offset % 8);
        if bit == 1 {
            bytes[offset / 8] |= mask;
        } else {
            bytes[offset / 8] &= !mask;
        }
        Ok((string::put(bytes.into(), expires), was))
    })?;
    ctx.reply.integer(i64::from(old));
    Ok(())
}

/// Whether a range is in bits.
fn unit(args: Args<'_>, nth: usize) -> Result<bool, Error> {
    match () {
        () if nth >= args.len() => Ok(false),
        () if args.is(nth, "BIT") => Ok(true),
        () if args.is(nth, "BYTE") => Ok(false),
        () => Err(Error::Syntax),
    }
}

/// Both ends of a range of so many places, as Redis cuts them to what there is.
fn cut(start: i64, end: i64, len: usize) -> (i64, i64) {
    let len = len as i64;
    let from_end = |n: i64| {
        if n < 0 {
            n.saturating_add(len).max(0)
        } else {
            n
        }
    };
    (from_end(start), from_end(end).min(len - 1))
}

fn bitcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let shown = ctx.shown(args.at(1))?;
    ctx.count_lookup(shown.is_some());
    let Some(shown) = shown else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let bytes = &shown.bytes;
    let (start, end, in_bits) = match args.len() {
        2 => (0, -1, false),
        4 | 5 => (args.integer(2)?, args.integer(3)?, unit(args, 4)?),
        _ => return Err(Error::Syntax),
    };
    let len = if in_bits {
        bytes.len() * 8
    } else {
        bytes.len()
    };
    let (first, last) = cut(start, end, len);
    if start < 0 && end < 0 && start > end || first > last {
        ctx.reply.integer(0);
        return Ok(());
    }
    let (first, last) = (first as usize, last as usize);
    let count = if in_bits {
        count_bits(bytes, first, last)
    } else {
        bytes[first..=last]
            .iter()
            .map(|byte| i64::from(byte.count_ones()))
            .sum()
    };
    ctx.reply.integer(count);
    Ok(())
}

/// How many bits are set between two, both included.
fn count_bits(bytes: &[u8], first: usize, last: usize) -> i64 {
    let of = |byte: usize| {
        let mut mask = 0xff_u8;
        if byte == first / 8 {
            mask &= 0xff >> (first % 8);
        }
        if byte == last / 8 {
            mask &= 0xff << (7 - last % 8);
        }
        i64::from((bytes[byte] & mask).count_ones())
    };
    (first / 8..=last / 8).map(of).sum()
}

fn bitpos(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let bit = args.integer(2)?;
    if !matches!(bit, 0 | 1) {
        return Err(Error::text("ERR The bit argument must be 1 or 0."));
    }
    let shown = ctx.shown(args.at(1))?;
    ctx.count_lookup(shown.is_some());
    let Some(shown) = shown else {
        ctx.reply.integer(if bit == 1 { -1 } else { 0 });
        return Ok(());
    };
    if args.len() > 6 {
        return Err(Error::Syntax);
    }
    let bytes = &shown.bytes;
    let start = if args.len() > 3 { args.integer(3)? } else { 0 };
    let in_bits = unit(args, 5)?;
    let end = if args.len() > 4 { args.integer(4)? } else { -1 };
    let len = if in_bits {
        bytes.len() * 8
    } else {
        bytes.len()
    };
    let (first, last) = cut(start, end, len);
    if first > last {
        ctx.reply.integer(-1);
        return Ok(());
    }
    let (first, last) = if in_bits {
        (first as usize, last as usize)
    } else {
        (first as usize * 8, last as usize * 8 + 7)
    };
    let wanted = bit == 1;
    // Whole bytes in which it cannot be are passed over.
    let without = if wanted { 0 } else { 0xff };
    let mut at = first;
    while at <= last && bit_at(bytes, at) != wanted {
        let is_whole = at.is_multiple_of(8) && bytes[at / 8] == without;
        at += if is_whole { 8 } else { 1 };
    }
    let found = match () {
        () if at <= last => at as i64,
        // Behind the string are zeros without end, where no end was given.
        () if !wanted && args.len() < 5 => bytes.len() as i64 * 8,
        () => -1,
    };
    ctx.reply.integer(found);
    Ok(())
}

fn bitop(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let combine: fn(u8, u8) -> u8 = match () {
        () if args.is(1, "AND") => |a, b| a & b,
        () if args.is(1, "OR") => |a, b| a | b,
        () if args.is(1, "XOR") => |a, b| a ^ b,
        () if args.is(1, "NOT") => |a, _| !a,
        () => return Err(Error::Syntax),
    };
    if args.is(1, "NOT") && args.len() != 4 {
        return Err(Error::text(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    let mut sources = Vec::new();
    let mut met = std::collections::HashSet::new();
    // With AND and OR a key that is named again changes nothing.
    let repeats = args.is(1, "XOR");
    for key in args.from(3).filter(|key| repeats || met.insert(*key)) {
        sources.push(
            ctx.shown(key)?
                .map_or_else(bytes::Bytes::new, |shown| shown.bytes),
        );
    }
    let len = sources.iter().map(bytes::Bytes::len).max().unwrap_or(0);
    let byte = |source: &[u8], at: usize| source.get(at).copied().unwrap_or(0);
    let (first, others) = sources.split_first().ok_or(Error::Syntax)?;
    let mut out: Vec<u8> = (0..len).map(|at| byte(first, at)).collect();
    if args.is(1, "NOT") {
        for byte in &mut out {
            *byte = combine(*byte, 0);
        }
    }
    for other in others {
        for (at, ours) in out.iter_mut().enumerate() {
            *ours = combine(*ours, byte(other, at));
        }
    }
    if out.is_empty() {
        super::replace(ctx, args.at(2), smallvec::SmallVec::new())?;
    } else {
        ctx.put(args.at(2), &out, None)?;
    }
    ctx.reply.integer(len as i64);
    Ok(())
}
