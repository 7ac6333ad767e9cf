//! Lists: the rows, and the commands on one list.

mod pop;

use bytes::Bytes;

use crate::command::context::{Ctx, Outcome};
use crate::command::family::elements;
use crate::command::row::{R, RF, Row, W, WF, WM, WMF, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::edit::Edit;
use crate::logic::types;
use crate::logic::types::list::{self, End};
use crate::replica::Reach;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "blmove",
        6,
        WM,
        keys::MOVE,
        "list",
        pop::blmove,
        "Moves an element to another list, waiting for one.",
    )
    .waits(-1),
    cmd(
        "blmpop",
        -5,
        W,
        keys::TAKE_COUNTED_SECOND,
        "list",
        pop::blmpop,
        "Elements of the first list that has some, which are removed, waiting for one.",
    )
    .waits(1),
    cmd(
        "blpop",
        -3,
        W,
        keys::TAKE_ALL_BUT_LAST,
        "list",
        pop::blpop,
        "The first element of the first list that has some, which is removed, waiting for one.",
    )
    .waits(-1),
    cmd(
        "brpop",
        -3,
        W,
        keys::TAKE_ALL_BUT_LAST,
        "list",
        pop::brpop,
        "The last element of the first list that has some, which is removed, waiting for one.",
    )
    .waits(-1),
    cmd(
        "brpoplpush",
        4,
        WM,
        keys::MOVE,
        "list",
        pop::brpoplpush,
        "Moves the last element to the head of another list, waiting for one.",
    )
    .waits(-1),
    cmd(
        "lindex",
        3,
        R,
        keys::READ,
        "list",
        lindex,
        "The element at a place.",
    ),
    cmd(
        "linsert",
        5,
        WM,
        keys::INSERT,
        "list",
        linsert,
        "Inserts an element next to another one.",
    ),
    cmd(
        "llen",
        2,
        RF,
        keys::META,
        "list",
        llen,
        "How many elements there are.",
    ),
    cmd(
        "lmove",
        5,
        WM,
        keys::MOVE,
        "list",
        pop::lmove,
        "Moves an element to another list.",
    ),
    cmd(
        "lmpop",
        -4,
        W,
        keys::TAKE_COUNTED,
        "list",
        pop::lmpop,
        "Elements of the first list that has some, which are removed.",
    ),
    cmd(
        "lpop",
        -2,
        WF,
        keys::TAKE,
        "list",
        pop::lpop,
        "The first elements, which are removed.",
    ),
    cmd(
        "lpos",
        -3,
        R,
        keys::READ,
        "list",
        lpos,
        "The places of an element.",
    ),
    cmd(
        "lpush",
        -3,
        WMF,
        keys::INSERT,
        "list",
        lpush,
        "Puts elements at the head.",
    ),
    cmd(
        "lpushx",
        -3,
        WMF,
        keys::INSERT,
        "list",
        lpushx,
        "Puts elements at the head of a list that is there.",
    ),
    cmd(
        "lrange",
        4,
        R,
        keys::READ,
        "list",
        lrange,
        "The elements in a range of places.",
    ),
    cmd(
        "lrem",
        4,
        W,
        keys::REMOVE,
        "list",
        lrem,
        "Removes elements that are equal to one.",
    ),
    cmd(
        "lset",
        4,
        WM,
        keys::UPDATE,
        "list",
        lset,
        "Puts another element at a place.",
    ),
    cmd(
        "ltrim",
        4,
        W,
        keys::REMOVE,
        "list",
        ltrim,
        "Removes the elements that are not in a range of places.",
    ),
    cmd(
        "rpop",
        -2,
        WF,
        keys::TAKE,
        "list",
        pop::rpop,
        "The last elements, which are removed.",
    ),
    cmd(
        "rpoplpush",
        3,
        WM,
        keys::MOVE,
        "list",
        pop::rpoplpush,
        "Moves the last element to the head of another list.",
    ),
    cmd(
        "rpush",
        -3,
        WMF,
        keys::INSERT,
        "list",
        rpush,
        "Puts elements at the tail.",
    ),
    cmd(
        "rpushx",
        -3,
        WMF,
        keys::INSERT,
        "list",
        rpushx,
        "Puts elements at the tail of a list that is there.",
    ),
];

fn lpush(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    push(ctx, args, End::Left, false)
}

fn rpush(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    push(ctx, args, End::Right, false)
}

fn lpushx(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    push(ctx, args, End::Left, true)
}

fn rpushx(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    push(ctx, args, End::Right, true)
}

fn push(ctx: &mut Ctx<'_>, args: Args<'_>, end: End, only_if_there: bool) -> Outcome {
    let actor = ctx.node.replica.actor();
    let reach = pop::reach_of(end, 1);
    let len = ctx.change_some(args.at(1), Kind::List, reach, |list, now_ms| {
        let len = list::len(list);
        if only_if_there && len == 0 {
            return Ok((Edit::Keep, 0));
        }
        let pushed = list::push(list, end, (actor, now_ms), args.from(2));
        let len = len + pushed.len();
        Ok((Edit::Touch(pushed), len))
    })?;
    ctx.reply.integer(len as i64);
    Ok(())
}

fn llen(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let list = ctx.typed_some(args.at(1), Kind::List, Reach::Head)?;
    ctx.reply.integer(list::len(&list) as i64);
    Ok(())
}

/// As much of a list as has a place.
fn reach_of_place<'e>(at: &Result<i64, Error>) -> Reach<'e> {
    match at {
        Ok(at) => Reach::Places(Kind::List, *at, *at),
        Err(_) => Reach::Head,
    }
}

/// What is at a place, of a list that has it at hand.
fn item_at(list: &Object, at: i64) -> Option<(&Bytes, Bytes)> {
    let places = elements::places_at_hand(list, (at, at), list::items(list).count());
    list::items(list).take(places.end).nth(places.start)
}

fn lindex(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let at = args.integer(2);
    let list = ctx.typed_some(args.at(1), Kind::List, reach_of_place(&at))?;
    if list::len(&list) == 0 {
        ctx.reply.null();
        return Ok(());
    }
    let item = item_at(&list, at?);
    ctx.reply.bulk_or_null(item.as_ref().map(|(_, v)| &v[..]));
    Ok(())
}

fn lrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (first, last) = (args.integer(2)?, args.integer(3)?);
    let reach = Reach::Places(Kind::List, first, last);
    let list = ctx.typed_some(args.at(1), Kind::List, reach)?;
    let places = elements::places_at_hand(&list, (first, last), list::items(&list).count());
    ctx.reply.array(places.len());
    let items = list::items(&list).skip(places.start).take(places.len());
    items.for_each(|(_, value)| ctx.reply.bulk(&value));
    Ok(())
}

fn lset(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (at, value) = (args.integer(2), args.at(3));
    let reach = reach_of_place(&at);
    ctx.change_some(args.at(1), Kind::List, reach, |list, _| {
        if list::len(list) == 0 {
            return Err(Error::NoSuchKey);
        }
        let found = item_at(list, at?);
        let (place, _) = found.ok_or(Error::text("ERR index out of range"))?;
        Ok((Edit::Touch(vec![list::put(place, value)]), ()))
    })?;
    ctx.reply.ok();
    Ok(())
}

fn linsert(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let is_before = args.is(2, "BEFORE");
    if !is_before && !args.is(2, "AFTER") {
        return Err(Error::Syntax);
    }
    let (pivot, value, actor) = (args.at(3), args.at(4), ctx.node.replica.actor());
    let len = ctx.change(args.at(1), Kind::List, |list, now_ms| {
        let items: Vec<(&Bytes, Bytes)> = list::items(list).collect();
        if items.is_empty() {
            return Ok((Edit::Keep, 0));
        }
        let Some(at) = items.iter().position(|(_, value)| value == pivot) else {
            return Ok((Edit::Keep, -1));
        };
        let upper = if is_before { at } else { at + 1 };
        let lower = upper.checked_sub(1).and_then(|lower| items.get(lower));
        let end = |end| list::push(list, end, (actor, now_ms), std::iter::once(value));
        let inserted = match (lower, items.get(upper)) {
            (Some((lower, _)), Some((upper, _))) => {
                vec![list::insert(lower, upper, actor, value)]
            }
            (None, _) => end(End::Left),
            (_, None) => end(End::Right),
        };
        Ok((Edit::Touch(inserted), items.len() as i64 + 1))
    })?;
    ctx.reply.integer(len);
    Ok(())
}

fn lrem(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (count, value) = (args.integer(2)?, args.at(3));
    let most = if count == 0 {
        usize::MAX
    } else {
        usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX)
    };
    let gone = ctx.change(args.at(1), Kind::List, |list, _| {
        let equal = list::items(list).filter(|(_, item)| item == value);
        let removed: Vec<_> = if count < 0 {
            equal
                .rev()
                .take(most)
                .map(|(p, _)| list::remove(p))
                .collect()
        } else {
            equal.take(most).map(|(p, _)| list::remove(p)).collect()
        };
        let gone = removed.len();
        Ok((Edit::touch(removed), gone))
    })?;
    ctx.reply.integer(gone as i64);
    Ok(())
}

fn ltrim(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (first, last) = (args.integer(2)?, args.integer(3)?);
    // How many go at each end.
    let beyond = |len: usize| {
        let kept = types::places(first, last, len);
        if kept.is_empty() {
            (len, 0)
        } else {
            (kept.start, len - kept.end)
        }
    };
    let list = ctx.typed_some(args.at(1), Kind::List, Reach::Head)?;
    let ends = beyond(list::len(&list));
    let trim = |list: &Object, _| {
        let (left, right) = beyond(list::len(list));
        if !list.is_whole() && (left > ends.0 || right > ends.1) {
            // Something came meanwhile: that is not what is at hand.
            return Ok((Edit::Keep, false));
        }
        let items: Vec<&Bytes> = list::items(list).map(|(place, _)| place).collect();
        let gone = items[..left].iter().chain(&items[items.len() - right..]);
        let removed = gone.map(|place| list::remove(place)).collect();
        Ok((Edit::touch(removed), true))
    };
    let reach = Reach::Ends(Kind::List, ends.0, ends.1);
    if !ctx.change_some(args.at(1), Kind::List, reach, trim)? {
        ctx.change(args.at(1), Kind::List, trim)?;
    }
    ctx.reply.ok();
    Ok(())
}

/// The options of LPOS.
struct Search {
    rank: i64,
    count: Option<usize>,
    most: usize,
}

impl Search {
    fn parse(args: Args<'_>) -> Result<Self, Error> {
        let mut search = Self {
            rank: 1,
            count: None,
            most: 0,
        };
        let positive = |nth, text| {
            let number = args.integer(nth).map_err(|_| Error::text(text))?;
            usize::try_from(number).map_err(|_| Error::text(text))
        };
        let mut nth = 3;
        while nth < args.len() {
            match () {
                () if nth + 1 == args.len() => return Err(Error::Syntax),
                () if args.is(nth, "RANK") => {
                    search.rank = args.integer(nth + 1)?;
                    if search.rank == 0 {
                        return Err(Error::text(
                            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the \
                             second ... or use negative to start from the end of the list",
                        ));
                    }
                }
                () if args.is(nth, "COUNT") => {
                    search.count = Some(positive(nth + 1, "ERR COUNT can't be negative")?);
                }
                () if args.is(nth, "MAXLEN") => {
                    search.most = positive(nth + 1, "ERR MAXLEN can't be negative")?;
                }
                () => return Err(Error::Syntax),
            }
            nth += 2;
        }
        Ok(search)
    }
}

fn lpos(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let search = Search::parse(args)?;
    let list = ctx.typed(args.at(1), Kind::List)?;
    let values: Vec<Bytes> = list::items(&list).map(|(_, value)| value).collect();
    let most = if search.most == 0 {
        values.len()
    } else {
        search.most.min(values.len())
    };
    // The least number has no opposite: in Redis it stands for -1.
    let rank = search.rank.checked_abs().unwrap_or(1);
    let skipped = usize::try_from(rank - 1).unwrap_or(usize::MAX);
    let count = match search.count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let place = |nth: usize| {
        if search.rank < 0 {
            values.len() - 1 - nth
        } else {
            nth
        }
    };
    let equal = (0..most).map(place).filter(|at| values[*at] == args.at(2));
    let found: Vec<usize> = equal.skip(skipped).take(count).collect();
    if search.count.is_some() {
        ctx.reply.array(found.len());
        for at in found {
            ctx.reply.integer(at as i64);
        }
        return Ok(());
    }
    match found.first() {
        Some(at) => ctx.reply.integer(*at as i64),
        None => ctx.reply.null(),
    }
    Ok(())
}
