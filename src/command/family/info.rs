//! INFO: the facts of `status`, in the sections that monitoring tools read.

use std::fmt::Write as _;

use crate::command::context::{Ctx, Outcome};
use crate::command::row::{L, Row, cmd};
use crate::routing::args::Args;
use crate::status::SECTIONS;

/// The rows of this family.
pub const ROWS: &[Row] = &[cmd("info", -1, L, &[], "server", info, "Statistics.")];

pub(super) fn info(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let asked: Vec<String> = (1..args.len())
        .map(|n| args.text(n).to_ascii_lowercase())
        .collect();
    let has = |word: &str| asked.iter().any(|a| a == word);
    let everything = has("all") || has("everything");
    let defaults = asked.is_empty() || has("default");
    let source = ctx.node.source();
    let mut text = String::new();
    for section in SECTIONS {
        if !(everything || defaults && section.by_default || has(section.name)) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let _ = write!(text, "# {}\r\n", section.title());
        for fact in section.facts {
            for (name, value) in fact.lines(&source) {
                let _ = write!(text, "{name}:{value}\r\n");
            }
        }
    }
    ctx.reply.verbatim(&text);
    Ok(())
}
