//! SORT.

use std::cmp::Ordering;

use bytes::Bytes;

use super::elements;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, Row, WM, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::edit::puts;
use crate::logic::types::list::End;
use crate::logic::types::{self, hash, list, set, string, zset};
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "sort",
        -2,
        WM,
        keys::SORT,
        "generic",
        sort,
        "The elements of a list, set or sorted set in order, or kept in order.",
    ),
    cmd(
        "sort_ro",
        -2,
        R,
        keys::READ,
        "generic",
        sort_ro,
        "The elements of a list, set or sorted set in order.",
    ),
];

/// Values that GET may look up in all.
const MOST_REPLIES: usize = 1 << 24;

#[derive(Default)]
struct Options<'a> {
    descends: bool,
    by_bytes: bool,
    offset: i64,
    limit: Option<i64>,
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(ctx: &Ctx<'_>, args: Args<'a>, may_store: bool) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut nth = 2;
        while nth < args.len() {
            let left = args.len() - nth - 1;
            match () {
                () if args.is(nth, "ASC") => options.descends = false,
                () if args.is(nth, "DESC") => options.descends = true,
                () if args.is(nth, "ALPHA") => options.by_bytes = true,
                () if args.is(nth, "LIMIT") && left >= 2 => {
                    options.offset = args.integer(nth + 1)?;
                    options.limit = Some(args.integer(nth + 2)?);
                    nth += 2;
                }
                () if may_store && args.is(nth, "STORE") && left >= 1 => {
                    options.store = Some(args.at(nth + 1));
                    nth += 1;
                }
                // Where the key is that is written is told by its word.
                () if args.is(nth + 1, "STORE") && (args.is(nth, "BY") || args.is(nth, "GET")) => {
                    return Err(Error::Syntax);
                }
                () if args.is(nth, "BY") && left >= 1 => {
                    options.by = Some(args.at(nth + 1));
                    if args.at(nth + 1).contains(&b'*') && ctx.is_in_cluster() {
                        return Err(Error::text("ERR BY option of SORT denied in cluster mode."));
                    }
                    nth += 1;
                }
                () if args.is(nth, "GET") && left >= 1 => {
                    if args.at(nth + 1) != b"#" && ctx.is_in_cluster() {
                        return Err(Error::text(
                            "ERR GET option of SORT denied in cluster mode.",
                        ));
                    }
                    options.get.push(args.at(nth + 1));
                    nth += 1;
                }
                () => return Err(Error::Syntax),
            }
            nth += 1;
        }
        Ok(options)
    }

    /// Whether the order in which elements come is kept.
    fn keeps_order(&self) -> bool {
        self.by.is_some_and(|by| !by.contains(&b'*'))
    }
}

fn sort(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    run(ctx, args, true)
}

fn sort_ro(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    run(ctx, args, false)
}

fn run(ctx: &mut Ctx<'_>, args: Args<'_>, may_store: bool) -> Outcome {
    let mut options = Options::parse(ctx, args, may_store)?;
    let object = ctx.object(args.at(1))?;
    let kind = types::kind(&object, clock::now_ms());
    ctx.count_lookup(kind.is_some());
    let mut elements: Vec<Bytes> = match kind {
        None => Vec::new(),
        Some(Kind::List) => list::items(&object).map(|(_, value)| value).collect(),
        Some(Kind::Set) => set::members(&object).cloned().collect(),
        Some(Kind::Zset) => {
            let members = zset::by_score(&object);
            members
                .into_iter()
                .map(|(_, member)| member.clone())
                .collect()
        }
        Some(_) => return Err(Error::WrongType),
    };
    let mut sorts = !options.keeps_order();
    if !sorts && kind == Some(Kind::Set) && options.store.is_some() {
        // What is kept does not depend on how a set is stored.
        (sorts, options.by_bytes, options.by) = (true, true, None);
    }
    if sorts {
        elements = in_order(ctx, elements, &options)?;
    } else if kind != Some(Kind::Set) && options.descends {
        elements.reverse();
    }
    let start = options.offset.clamp(0, elements.len() as i64);
    let end = match options.limit {
        None => elements.len() as i64,
        Some(limit) if limit < 0 => elements.len() as i64,
        Some(limit) => start.saturating_add(limit).min(elements.len() as i64),
    };
    let chosen = &elements[start as usize..end as usize];
    if chosen.len().saturating_mul(options.get.len()) > MOST_REPLIES {
        return Err(Error::OutOfRange);
    }
    let mut out: Vec<Option<Bytes>> = Vec::new();
    for element in chosen {
        if options.get.is_empty() {
            out.push(Some(element.clone()));
        }
        for pattern in &options.get {
            out.push(looked_up(ctx, pattern, element)?);
        }
    }
    let lens = out.iter().map(|value| value.as_ref().map_or(0, Bytes::len));
    elements::check_reply(ctx, lens)?;
    if let Some(key) = options.store {
        return store(ctx, key, &out);
    }
    ctx.reply.array(out.len());
    for value in out {
        ctx.reply.bulk_or_null(value.as_deref());
    }
    Ok(())
}

/// What an element is ordered by.
enum Weight {
    Number(f64),
    Bytes(Option<Bytes>),
}

fn in_order(
    ctx: &Ctx<'_>,
    elements: Vec<Bytes>,
    options: &Options<'_>,
) -> Result<Vec<Bytes>, Error> {
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let by = match options.by {
            Some(pattern) => looked_up(ctx, pattern, &element)?,
            None => Some(element.clone()),
        };
        let weight = if options.by_bytes {
            Weight::Bytes(by)
        } else {
            Weight::Number(by.as_deref().map_or(Ok(0.0), number)?)
        };
        weighed.push((weight, element));
    }
    weighed.sort_by(|(a, x), (b, y)| {
        let order = match (a, b) {
            (Weight::Number(a), Weight::Number(b)) => a
                .partial_cmp(b)
                .unwrap_or(Ordering::Equal)
                .then_with(|| x.cmp(y)),
            (Weight::Bytes(a), Weight::Bytes(b)) => a.cmp(b),
            _ => Ordering::Equal,
        };
        if options.descends {
            order.reverse()
        } else {
            order
        }
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

fn number(raw: &[u8]) -> Result<f64, Error> {
    // As in C, it ends at a zero byte.
    let raw = raw.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(raw).ok();
    let number = text.and_then(|text| text.trim_ascii_start().parse::<f64>().ok());
    // Nothing at all is 0.
    let number = if raw.is_empty() { Some(0.0) } else { number };
    let number = number.filter(|number| !number.is_nan());
    number.ok_or(Error::text(
        "ERR One or more scores can't be converted into double",
    ))
}

/// What a pattern means of an element: `#` the element, `key*` a string, `key*->field` a field.
fn looked_up(ctx: &Ctx<'_>, pattern: &[u8], element: &Bytes) -> Result<Option<Bytes>, Error> {
    if pattern == b"#" {
        return Ok(Some(element.clone()));
    }
    let Some(star) = pattern.iter().position(|byte| *byte == b'*') else {
        return Ok(None);
    };
    let (before, behind) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = behind.windows(2).position(|two| two == b"->");
    let field = arrow
        .map(|at| &behind[at + 2..])
        .filter(|field| !field.is_empty());
    let behind = match (field, arrow) {
        (Some(_), Some(at)) => &behind[..at],
        _ => behind,
    };
    let key = [before, element, behind].concat();
    let (object, now_ms) = (ctx.object(&key)?, clock::now_ms());
    Ok(match (types::kind(&object, now_ms), field) {
        (Some(Kind::Hash), Some(field)) => hash::get(&object, field),
        (Some(Kind::String), None) => string::shown(&object, now_ms).map(|shown| shown.bytes),
        _ => None,
    })
}

fn store(ctx: &mut Ctx<'_>, key: &[u8], values: &[Option<Bytes>]) -> Outcome {
    let from = (ctx.node.replica.actor(), clock::now_ms());
    let values = values.iter().map(|value| value.as_deref().unwrap_or(b""));
    let pushed = list::push(
        &crate::logic::causal::Object::default(),
        End::Right,
        from,
        values,
    );
    let len = pushed.len();
    super::replace(ctx, key, puts(pushed))?;
    ctx.reply.integer(len as i64);
    Ok(())
}
