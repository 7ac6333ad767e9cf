//! What changes a stream's entries: adding, trimming, removing.

use super::parts::{
    INVALID_ID, change, entries_stretch, id, ids, is_there, reaches, reply_id, stretches_of,
};
use crate::base::config::Events;
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::{ActorId, Kind, Object};
use crate::logic::edit::{Edit, Touch};
use crate::logic::types::stream::{self, Added, Entry, Id, Wanted};
use crate::replica::Reach;
use crate::routing::args::Args;

/// In Redis no trim that may leave more takes more than that at once, where it is not said.
const MOST_AT_ONCE: usize = 1_000_000;

const NEEDS_ABOUT: &str = "ERR syntax error, LIMIT cannot be used without the special ~ option";

/// Which of the first entries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trim {
    to: To,
    is_about: bool,
    /// At most so many at once.
    limit: Option<usize>,
    /// About means: so many together (`stream-node-max-entries`).
    a_node: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// So many are left.
    Len(usize),
    /// None before this one is left.
    Id(Id),
}

/// The options of XADD and XTRIM.
#[derive(Debug, Default)]
struct Options {
    trim: Option<Trim>,
    no_make: bool,
    /// Where the first word is that is none of them.
    end: usize,
}

/// Entries that one of Redis's nodes would have.
pub(super) fn a_node(ctx: &Ctx<'_>) -> usize {
    let configured = ctx.node.config.number("stream-node-max-entries");
    let entries = usize::try_from(configured).unwrap_or(0);
    if entries == 0 { 100 } else { entries }
}

impl Options {
    fn parse(ctx: &Ctx<'_>, args: Args<'_>, adds: bool) -> Result<Self, Error> {
        let mut options = Self::default();
        let (mut limit, mut nth) = (None, 2);
        while nth < args.len() {
            let more = args.len() - 1 - nth;
            let is_len = args.is(nth, "MAXLEN");
            if adds && args.at(nth) == b"*" {
                break;
            } else if more > 0 && (is_len || args.is(nth, "MINID")) {
                if options.trim.is_some() {
                    return Err(Error::text(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let mut is_about = false;
                if more >= 2 && matches!(args.at(nth + 1), b"~" | b"=") {
                    is_about = args.at(nth + 1) == b"~";
                    nth += 1;
                }
                let to = if is_len {
                    let len = args.integer(nth + 1)?;
                    let wrong = Error::text("ERR The MAXLEN argument must be >= 0.");
                    To::Len(usize::try_from(len).map_err(|_| wrong)?)
                } else {
                    To::Id(id(args.at(nth + 1))?)
                };
                options.trim = Some(Trim {
                    to,
                    is_about,
                    limit: None,
                    a_node: a_node(ctx),
                });
                nth += 1;
            } else if more > 0 && args.is(nth, "LIMIT") {
                let wrong = Error::text("ERR The LIMIT argument must be >= 0.");
                let most = usize::try_from(args.integer(nth + 1)?).map_err(|_| wrong)?;
                limit = Some(most);
                nth += 1;
            } else if adds && args.is(nth, "NOMKSTREAM") {
                options.no_make = true;
            } else if adds {
                break;
            } else {
                return Err(Error::Syntax);
            }
            nth += 1;
        }
        options.end = nth;
        options.limited(limit)
    }

    /// With what LIMIT says, or does not.
    fn limited(mut self, limit: Option<usize>) -> Result<Self, Error> {
        let trim = self.trim.as_mut();
        match (trim, limit) {
            (None, Some(most)) if most > 0 => {
                return Err(Error::text(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                ));
            }
            (None, Some(_)) => return Err(Error::text(NEEDS_ABOUT)),
            (Some(trim), Some(_)) if !trim.is_about => {
                return Err(Error::text(NEEDS_ABOUT));
            }
            (Some(trim), limit) if trim.is_about => {
                trim.limit = match limit {
                    None => Some((100 * trim.a_node).min(MOST_AT_ONCE)),
                    Some(0) => None,
                    some => some,
                };
            }
            _ => {}
        }
        Ok(self)
    }
}

impl Trim {
    /// How many go of so many that are before its end, and of all.
    fn of(self, beyond: usize, len: usize) -> usize {
        if !self.is_about {
            return beyond;
        }
        let most = self.limit.map_or(beyond, |limit| limit.min(beyond));
        // In Redis the last node is not full.
        if most == len {
            len
        } else {
            most / self.a_node * self.a_node
        }
    }

    /// Which entries go when there are so many; `None` where not all of them are among the first that are at hand.
    fn gone(self, object: &Object, len: usize, at_hand: usize) -> Option<Vec<Entry>> {
        let beyond = match self.to {
            To::Len(most) => len.saturating_sub(most),
            To::Id(first) => stream::entries(object).take_while(|e| e.id < first).count(),
        };
        // What is being added is not there yet.
        let wanted = self.of(beyond, len).min(stream::len(object));
        let gone: Vec<Entry> = stream::entries(object).take(wanted).collect();
        let is_all = wanted <= at_hand && gone.len() == wanted;
        (object.is_whole() || is_all).then_some(gone)
    }
}

/// The last entry, if there is one.
const LAST: Reach<'_> = Reach::Ends(Kind::Stream, 0, 1);

/// Tries with as much as a trim needs of what is there; with everything where more has come meanwhile.
fn trimmed<R>(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    (trim, adds): (Option<Trim>, usize),
    decide: impl Fn(&Object, u64, usize) -> Result<(Edit, Option<R>), Error>,
) -> Result<R, Error> {
    let with = |at_hand: usize| {
        let decide = &decide;
        move |object: &Object, now_ms| decide(object, now_ms, at_hand)
    };
    let found = match trim.map(|trim| (trim, trim.to)) {
        None => change(ctx, key, LAST, with(0))?,
        Some((trim, To::Len(most))) => {
            let stream = ctx.typed_some(key, Kind::Stream, Reach::Head)?;
            let len = stream::len(&stream) + adds;
            let gone = trim.of(len.saturating_sub(most), len);
            change(ctx, key, Reach::Ends(Kind::Stream, gone, adds), with(gone))?
        }
        Some((trim, To::Id(first))) => {
            let most = trim.limit.unwrap_or(usize::MAX);
            let before = first.previous().unwrap_or_default();
            let stretch = entries_stretch(Id::MIN, before, most, false);
            let reach = [Reach::Stretch(&stretch), LAST];
            change(ctx, key, Reach::Each(&reach), with(most))?
        }
    };
    if let Some(found) = found {
        return Ok(found);
    }
    let all = change(ctx, key, Reach::Whole, with(usize::MAX))?;
    all.ok_or(Error::text("ERR the stream changes too fast to be trimmed"))
}

/// What is said of an id that cannot be added.
fn refused(wanted: Wanted, last: Id) -> Error {
    if last == Id::MAX {
        return Error::text(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        );
    }
    debug_assert_ne!(wanted, Wanted::Next, "it has one");
    Error::text("ERR The ID specified in XADD is equal or smaller than the target stream top item")
}

pub(super) fn xadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(ctx, args, true)?;
    let at = options.end;
    let wanted = args.get(at).map(Wanted::parse);
    let wanted = wanted.ok_or(Error::Arity("xadd".into()))?;
    let wanted = wanted.ok_or(INVALID_ID)?;
    let words = args.len() - at - 1;
    if words < 2 || words % 2 == 1 {
        return Err(Error::Arity("xadd".into()));
    }
    if wanted == Wanted::Exactly(Id::MIN) {
        return Err(Error::text(
            "ERR The ID specified in XADD must be greater than 0-0",
        ));
    }
    let (actor, key) = (ctx.node.replica.actor(), args.at(1));
    let added = trimmed(ctx, key, (options.trim, 1), |object, now_ms, at_hand| {
        if options.no_make && !is_there(object) {
            return Ok((Edit::Keep, Some(None)));
        }
        let adders = stream::adders(object);
        let last = stream::sum(&adders).last;
        let id = wanted.behind(last, now_ms);
        let id = id.ok_or_else(|| refused(wanted, last))?;
        let [entry, added] = stream::add(&adders, actor, id, args.from(at + 1));
        let len = stream::len(object) + 1;
        let Some(trim) = options.trim else {
            return Ok((Edit::Touch(vec![entry, added]), Some(Some((id, false)))));
        };
        let Some(gone) = trim.gone(object, len, at_hand) else {
            return Ok((Edit::Keep, None));
        };
        // It may be among those that go.
        let goes = match trim.to {
            To::Len(most) => most == 0 && gone.len() + 1 == len,
            To::Id(first) => !trim.is_about && id < first,
        };
        let trims = goes || !gone.is_empty();
        let removed = gone.iter().map(stream::remove);
        let kept = (!goes).then_some(entry);
        let touched = kept.into_iter().chain([added]).chain(removed);
        Ok((Edit::Touch(touched.collect()), Some(Some((id, trims)))))
    })?;
    match added {
        Some((id, trims)) => {
            reply_id(ctx.reply, id);
            if trims {
                ctx.note_event(key, (Events::STREAM, "xtrim"));
            }
        }
        None => ctx.reply.null(),
    }
    Ok(())
}

pub(super) fn xtrim(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(ctx, args, false)?;
    let Some(trim) = options.trim else {
        return Err(Error::text(
            "ERR syntax error, XTRIM must be called with a trimming strategy",
        ));
    };
    let gone = trimmed(ctx, args.at(1), (options.trim, 0), |object, _, at_hand| {
        let Some(gone) = trim.gone(object, stream::len(object), at_hand) else {
            return Ok((Edit::Keep, None));
        };
        let removed = gone.iter().map(stream::remove).collect();
        Ok((Edit::touch(removed), Some(gone.len())))
    })?;
    ctx.reply.integer(gone as i64);
    Ok(())
}

pub(super) fn xdel(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let stream = ctx.typed_some(args.at(1), Kind::Stream, Reach::Head)?;
    if !is_there(&stream) {
        ctx.reply.integer(0);
        return Ok(());
    }
    let mut ids = ids(args, 2)?;
    ids.sort_unstable();
    ids.dedup();
    let actor = ctx.node.replica.actor();
    let stretches = stretches_of(&ids);
    let reach = reaches(&stretches);
    let gone = change(ctx, args.at(1), Reach::Each(&reach), |object, _| {
        let gone: Vec<Entry> = ids.iter().flat_map(|id| stream::at(object, *id)).collect();
        let Some(highest) = gone.iter().map(|entry| entry.id).max() else {
            return Ok((Edit::Keep, 0));
        };
        let adders = stream::adders(object);
        let mut removed: Vec<Touch> = gone.iter().map(stream::remove).collect();
        if highest > stream::sum(&adders).deleted {
            let added = of(&adders, actor);
            let deleted = Added {
                deleted: highest,
                ..added
            };
            removed.push(stream::put_added(actor, &deleted));
        }
        Ok((Edit::Touch(removed), gone.len()))
    })?;
    ctx.reply.integer(gone as i64);
    Ok(())
}

/// What an actor has added.
fn of(adders: &[(ActorId, Added)], actor: ActorId) -> Added {
    let mut all = adders.iter();
    let found = all.find(|(of, _)| *of == actor);
    found.map(|(_, added)| *added).unwrap_or_default()
}

pub(super) fn xsetid(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let last = id(args.at(2))?;
    let (mut count, mut deleted) = (None, None);
    let mut nth = 3;
    while nth < args.len() {
        let has_more = nth + 1 < args.len();
        if has_more && args.is(nth, "ENTRIESADDED") {
            let wrong = Error::text("ERR entries_added must be positive");
            count = Some(u64::try_from(args.integer(nth + 1)?).map_err(|_| wrong)?);
        } else if has_more && args.is(nth, "MAXDELETEDID") {
            let id = id(args.at(nth + 1))?;
            if last < id {
                return Err(Error::text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            // In Redis none of them says nothing.
            deleted = Some(id).filter(|id| *id > Id::MIN);
        } else {
            return Err(Error::Syntax);
        }
        nth += 2;
    }
    let actor = ctx.node.replica.actor();
    let reach = Reach::Ends(Kind::Stream, 0, 1);
    change(ctx, args.at(1), reach, |object, _| {
        if !is_there(object) {
            return Err(Error::NoSuchKey);
        }
        let adders = stream::adders(object);
        let sum = stream::sum(&adders);
        let top = stream::entries(object).next_back();
        if top.is_some_and(|top| last < top.id) {
            return Err(Error::text(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if stream::len(object) > 0 && count.is_some_and(|count| count < stream::len(object) as u64)
        {
            return Err(Error::text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
        // Here stands all of it; what others have added counts no more.
        let mut touched: Vec<Touch> = adders
            .iter()
            .filter(|(of, _)| *of != actor)
            .map(|(of, added)| {
                let added = Added {
                    first: added.first,
                    last: added.last.min(last),
                    ..Added::default()
                };
                stream::put_added(*of, &added)
            })
            .collect();
        let own = Added {
            first: of(&adders, actor).first,
            last,
            deleted: deleted.unwrap_or(sum.deleted),
            count: count.unwrap_or(sum.count),
        };
        touched.push(stream::put_added(actor, &own));
        Ok((Edit::Touch(touched), ()))
    })?;
    ctx.reply.ok();
    Ok(())
}
