//! BITFIELD: integers of any width at any place of a string.

use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::edit::Edit;
use crate::logic::types::string;
use crate::routing::args::Args;

/// What happens when a number does not fit.
#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// An integer's form.
#[derive(Clone, Copy)]
struct Form {
    is_signed: bool,
    bits: u32,
}

#[derive(Clone, Copy)]
enum What {
    Get,
    Set(i64),
    Add(i64),
}

/// One step of a command.
#[derive(Clone, Copy)]
struct Step {
    what: What,
    form: Form,
    offset: usize,
    overflow: Overflow,
}

impl Form {
    fn parse(raw: &[u8]) -> Result<Self, Error> {
        let wrong = Error::text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but \
             i64 is.",
        );
        let (kind, bits) = raw.split_first().ok_or(wrong.clone())?;
        let is_signed = match kind {
            b'i' => true,
            b'u' => false,
            _ => return Err(wrong),
        };
        let bits = crate::logic::integer::parse(bits).and_then(|bits| u32::try_from(bits).ok());
        let most = if is_signed { 64 } else { 63 };
        let bits = bits.filter(|bits| (1..=most).contains(bits)).ok_or(wrong)?;
        Ok(Self { is_signed, bits })
    }

    fn range(self) -> (i128, i128) {
        if self.is_signed {
            let half = 1_i128 << (self.bits - 1);
            (-half, half - 1)
        } else {
            (0, (1_i128 << self.bits) - 1)
        }
    }

    fn read(self, bytes: &[u8], offset: usize) -> i128 {
        let at = |bit: u32| bit_at(bytes, offset + bit as usize);
        let raw = (0..self.bits).fold(0_i128, |raw, bit| raw << 1 | i128::from(at(bit)));
        let is_negative = self.is_signed && raw >> (self.bits - 1) & 1 == 1;
        raw - if is_negative { 1 << self.bits } else { 0 }
    }

    fn write(self, bytes: &mut [u8], offset: usize, value: i128) {
        for bit in 0..self.bits {
            let at = offset + bit as usize;
            let mask = 0x80 >> (at % 8);
            if value >> (self.bits - 1 - bit) & 1 == 1 {
                bytes[at / 8] |= mask;
            } else {
                bytes[at / 8] &= !mask;
            }
        }
    }

    /// A number as far as it fits; `None` where that is a failure.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i128> {
        let (min, max) = self.range();
        if (min..=max).contains(&value) {
            return Some(value);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(value.clamp(min, max)),
            Overflow::Wrap => {
                let count = 1_i128 << self.bits;
                Some((value - min).rem_euclid(count) + min)
            }
        }
    }
}

impl Step {
    /// What it replies.
    fn run(self, bytes: &mut [u8]) -> Option<i64> {
        let old = self.form.read(bytes, self.offset);
        let shown = match self.what {
            What::Get => old,
            What::Set(value) => {
                // An unsigned number is what its bits are.
                let value = if self.form.is_signed {
                    i128::from(value)
                } else {
                    i128::from(value as u64)
                };
                let fits = self.form.fit(value, self.overflow)?;
                self.form.write(bytes, self.offset, fits);
                old
            }
            What::Add(amount) => {
                let sum = self.form.fit(old + i128::from(amount), self.overflow)?;
                self.form.write(bytes, self.offset, sum);
                sum
            }
        };
        Some(shown as i64)
    }

    fn end(self) -> usize {
        (self.offset + self.form.bits as usize).div_ceil(8)
    }
}

fn offset(ctx: &Ctx<'_>, raw: &[u8], form: Form) -> Result<usize, Error> {
    let wrong = Error::text("ERR bit offset is not an integer or out of range");
    let (raw, by) = match raw.strip_prefix(b"#") {
        Some(rest) => (rest, form.bits as usize),
        None => (raw, 1),
    };
    let offset = crate::logic::integer::parse(raw).and_then(|n| usize::try_from(n).ok());
    let offset = offset
        .and_then(|n| n.checked_mul(by))
        .ok_or(wrong.clone())?;
    if offset / 8 >= ctx.max_string() {
        return Err(wrong);
    }
    Ok(offset)
}

fn parse(ctx: &Ctx<'_>, args: Args<'_>, may_write: bool) -> Result<Vec<Step>, Error> {
    let (mut steps, mut overflow, mut nth) = (Vec::new(), Overflow::Wrap, 2);
    while nth < args.len() {
        let left = args.len() - nth - 1;
        if args.is(nth, "OVERFLOW") && left >= 1 {
            overflow = match () {
                () if args.is(nth + 1, "WRAP") => Overflow::Wrap,
                () if args.is(nth + 1, "SAT") => Overflow::Saturate,
                () if args.is(nth + 1, "FAIL") => Overflow::Fail,
                () => return Err(Error::text("ERR Invalid OVERFLOW type specified")),
            };
            nth += 2;
            continue;
        }
        let words = match () {
            () if args.is(nth, "GET") && left >= 2 => 3,
            () if args.is(nth, "SET") && left >= 3 => 4,
            () if args.is(nth, "INCRBY") && left >= 3 => 4,
            () => return Err(Error::Syntax),
        };
        let form = Form::parse(args.at(nth + 1))?;
        let offset = offset(ctx, args.at(nth + 2), form)?;
        let what = match () {
            () if words == 3 => What::Get,
            () if !may_write => {
                return Err(Error::text(
                    "ERR BITFIELD_RO only supports the GET subcommand",
                ));
            }
            () if args.is(nth, "SET") => What::Set(args.integer(nth + 3)?),
            () => What::Add(args.integer(nth + 3)?),
        };
        steps.push(Step {
            what,
            form,
            offset,
            overflow,
        });
        nth += words;
    }
    Ok(steps)
}

fn reply(ctx: &mut Ctx<'_>, replies: &[Option<i64>]) {
    ctx.reply.array(replies.len());
    for reply in replies {
        match reply {
            Some(number) => ctx.reply.integer(*number),
            None => ctx.reply.null(),
        }
    }
}

pub(super) fn bitfield(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let steps = parse(ctx, args, true)?;
    let writes = |step: &&Step| !matches!(step.what, What::Get);
    let Some(end) = steps.iter().filter(writes).map(|step| step.end()).max() else {
        return read(ctx, args, &steps);
    };
    let replies = ctx.change(args.at(1), Kind::String, |object, now_ms| {
        let old = string::shown(object, now_ms);
        let (mut bytes, expires) =
            old.map_or((Vec::new(), None), |s| (s.bytes.to_vec(), s.expires_at_ms));
        let before = bytes.clone();
        bytes.resize(bytes.len().max(end), 0);
        let replies: Vec<Option<i64>> = steps.iter().map(|step| step.run(&mut bytes)).collect();
        let edit = if bytes == before {
            Edit::Keep
        } else {
            string::put(bytes.into(), expires)
        };
        Ok((edit, replies))
    })?;
    reply(ctx, &replies);
    Ok(())
}

pub(super) fn bitfield_ro(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let steps = parse(ctx, args, false)?;
    read(ctx, args, &steps)
}

fn read(ctx: &mut Ctx<'_>, args: Args<'_>, steps: &[Step]) -> Outcome {
    let shown = ctx.shown(args.at(1))?;
    ctx.count_lookup(shown.is_some());
    let bytes = shown.as_ref().map_or(&[][..], |shown| &shown.bytes);
    let get = |step: &Step| Some(step.form.read(bytes, step.offset) as i64);
    let replies: Vec<Option<i64>> = steps.iter().map(get).collect();
    reply(ctx, &replies);
    Ok(())
}

/// The bit at a place; behind the end there are zeros.
pub(super) fn bit_at(bytes: &[u8], offset: usize) -> bool {
    let byte = bytes.get(offset / 8).copied().unwrap_or(0);
    byte >> (7 - offset % 8) & 1 == 1
}
