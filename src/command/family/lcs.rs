//! LCS: the longest common subsequence of two strings.

use bytes::Bytes;

use crate::base::blocking::at_length;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, Row, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::types::string::Shown;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[cmd(
    "lcs",
    -3,
    R,
    keys::READ_TWO,
    "string",
    lcs,
    "The longest common subsequence of two strings.",
)
.shows_values()];

/// The table of LCS may not take more than this many cells.
const MAX_LCS_CELLS: usize = 128 << 20;

#[derive(Default)]
struct LcsOptions {
    len: bool,
    index: bool,
    with_lengths: bool,
    min_len: usize,
}

pub(super) fn lcs(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut options = LcsOptions::default();
    let mut nth = 3;
    while nth < args.len() {
        if args.is(nth, "IDX") {
            options.index = true;
        } else if args.is(nth, "LEN") {
            options.len = true;
        } else if args.is(nth, "WITHMATCHLEN") {
            options.with_lengths = true;
        } else if args.is(nth, "MINMATCHLEN") && nth + 1 < args.len() {
            options.min_len = args.integer(nth + 1)?.max(0) as usize;
            nth += 1;
        } else {
            return Err(Error::Syntax);
        }
        nth += 1;
    }
    if options.index && options.len {
        return Err(Error::text(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    let bytes = |shown: Option<Shown>| shown.map_or_else(Bytes::new, |s| s.bytes);
    let shown = |at| match ctx.shown(args.at(at)) {
        Err(Error::WrongType) => Err(Error::text(
            "ERR The specified keys must contain string values",
        )),
        shown => shown,
    };
    let (a, b) = (bytes(shown(1)?), bytes(shown(2)?));
    if (a.len() + 1).saturating_mul(b.len() + 1) > MAX_LCS_CELLS {
        return Err(Error::text(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    if !ctx.session.executing {
        // It has read what it wanted.
        ctx.turns.clear();
    }
    let lcs = at_length(|| Lcs::of(&a, &b));
    if options.index {
        reply_matches(ctx, &lcs, &options);
    } else if options.len {
        ctx.reply.integer(lcs.common.len() as i64);
    } else {
        ctx.reply.bulk(&lcs.common);
    }
    Ok(())
}

fn reply_matches(ctx: &mut Ctx<'_>, lcs: &Lcs, options: &LcsOptions) {
    let long: Vec<_> = lcs
        .runs
        .iter()
        .filter(|run| run.2 >= options.min_len)
        .collect();
    ctx.reply.map(2);
    ctx.reply.bulk(b"matches");
    ctx.reply.array(long.len());
    for &&(a, b, len) in &long {
        ctx.reply.array(2 + usize::from(options.with_lengths));
        for start in [a, b] {
            ctx.reply.array(2);
            ctx.reply.integer(start as i64);
            ctx.reply.integer((start + len - 1) as i64);
        }
        if options.with_lengths {
            ctx.reply.integer(len as i64);
        }
    }
    ctx.reply.bulk(b"len");
    ctx.reply.integer(lcs.common.len() as i64);
}

/// The longest common subsequence and its runs `(start in a, start in b, length)`, last first.
struct Lcs {
    common: Vec<u8>,
    runs: Vec<(usize, usize, usize)>,
}

impl Lcs {
    fn of(a: &[u8], b: &[u8]) -> Self {
        let width = b.len() + 1;
        let mut table = vec![0u32; (a.len() + 1) * width];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i * width + j] = if a[i - 1] == b[j - 1] {
                    table[(i - 1) * width + j - 1] + 1
                } else {
                    table[(i - 1) * width + j].max(table[i * width + j - 1])
                };
            }
        }
        let (mut common, mut runs) = (Vec::new(), Vec::new());
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                common.push(a[i - 1]);
                match runs.last_mut() {
                    Some((x, y, len)) if *x == i && *y == j => {
                        (*x, *y, *len) = (i - 1, j - 1, *len + 1);
                    }
                    _ => runs.push((i - 1, j - 1, 1)),
                }
                (i, j) = (i - 1, j - 1);
            } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        common.reverse();
        Self { common, runs }
    }
}
