//! XREAD and XREADGROUP. Whoever runs them sees to the waiting: here they say what there is.

use bytes::Bytes;

use super::counted::Counted;
use super::parts::{
    INVALID_ID, MOST_OF_AN_ID, adders_stretch, change, entries_stretch, no_group, reply_entries,
    reply_entry, reply_id, state_stretch, whole_ids,
};
use crate::base::config::Events;
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::{ActorId, Element, Kind, Object};
use crate::logic::edit::Edit;
use crate::logic::types::stream::{self, Consumer, Entry, Group, Id, Pending};
use crate::replica::Reach;
use crate::resp::{Protocol, Reply};
use crate::routing::args::Args;
use crate::routing::block::is_asked;
use crate::routing::shape::Waits;

/// A group is tried to be read so often before all of the stream is.
const TRIES: usize = 4;

/// Where reading a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// Behind an entry.
    Behind(Id),
    /// Behind what is there (`$`).
    End,
    /// Behind what the group has got (`>`).
    New,
}

impl Begins {
    fn parse(word: &[u8], of_group: bool) -> Result<Self, Error> {
        match word {
            b"$" if of_group => Err(Error::text(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                 consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just \
                 return an empty result set.",
            )),
            b"$" => Ok(Self::End),
            b">" if of_group => Ok(Self::New),
            // Which is how Redis writes it down.
            word if of_group && Id::parse(word, 0) == Some(Id::MAX) => Ok(Self::New),
            b">" => Err(Error::text(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> \
                 option.",
            )),
            word => Id::parse(word, 0).map(Self::Behind).ok_or(INVALID_ID),
        }
    }
}

/// Who reads for a group.
#[derive(Clone, Copy)]
struct Reader<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    no_ack: bool,
}

/// What XREAD and XREADGROUP say.
struct Asked<'a> {
    most: usize,
    reader: Option<Reader<'a>>,
    /// Keys, and where to go on in each.
    streams: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Asked<'a> {
    fn parse(args: Args<'a>, of_group: bool) -> Result<Self, Error> {
        let (mut most, mut group, mut no_ack) = (0, None, false);
        let mut nth = 1;
        let first = loop {
            if nth >= args.len() {
                return Err(Error::Syntax);
            }
            let more = args.len() - 1 - nth;
            if more > 0 && args.is(nth, "BLOCK") {
                // Looked at by whoever waits.
                crate::routing::block::milliseconds(args, nth + 1)?;
                nth += 1;
            } else if more > 0 && args.is(nth, "COUNT") {
                most = args.integer(nth + 1)?.max(0);
                nth += 1;
            } else if more > 0 && args.is(nth, "STREAMS") {
                break nth + 1;
            } else if more >= 2 && args.is(nth, "GROUP") {
                if !of_group {
                    return Err(Error::text(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                group = Some((args.at(nth + 1), args.at(nth + 2)));
                nth += 2;
            } else if args.is(nth, "NOACK") {
                if !of_group {
                    return Err(Error::text(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                no_ack = true;
            } else {
                return Err(Error::Syntax);
            }
            nth += 1;
        };
        let words = args.len() - first;
        if words % 2 == 1 {
            return Err(Error::text(
                "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
            ));
        }
        if of_group && group.is_none() {
            return Err(Error::text("ERR Missing GROUP option for XREADGROUP"));
        }
        let streams = first..first + words / 2;
        let streams = streams.map(|at| (args.at(at), args.at(at + words / 2)));
        let reader = group.map(|(group, consumer)| Reader {
            group,
            consumer,
            no_ack,
        });
        Ok(Self {
            most: usize::try_from(most)
                .ok()
                .filter(|most| *most > 0)
                .unwrap_or(usize::MAX),
            reader,
            streams: streams.collect(),
        })
    }
}

/// What was found in a stream.
enum Found {
    Entries(Vec<Entry>),
    /// What is pending of a consumer; `None` where an entry was removed.
    Pending(Vec<(Id, Option<Entry>)>),
}

/// Nobody waits in a script.
fn refuse_waiting(ctx: &Ctx<'_>, args: Args<'_>) -> Outcome {
    if ctx.session.in_script && is_asked(args, Waits::Block) {
        let name = args.text(0).to_ascii_lowercase();
        let why = format!("ERR {name} command is not allowed with BLOCK option from scripts");
        return Err(Error::Text(why.into()));
    }
    Ok(())
}

pub(super) fn xread(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    refuse_waiting(ctx, args)?;
    let asked = Asked::parse(args, false)?;
    let mut places = Vec::new();
    for (key, word) in &asked.streams {
        let from = Begins::parse(word, false)?;
        // Nothing is behind the end. That the key is a stream is looked at all the same.
        ctx.typed_some(key, Kind::Stream, Reach::Head)?;
        places.push((*key, from));
    }
    let mut found = Vec::new();
    for (key, from) in places {
        let Begins::Behind(id) = from else { continue };
        let Some(first) = id.next() else { continue };
        let read = asked.most.saturating_add(MOST_OF_AN_ID);
        let stretch = entries_stretch(first, Id::MAX, read, false);
        let object = ctx.typed_some(key, Kind::Stream, Reach::Stretch(&stretch))?;
        let entries = stream::entries(&object).filter(|entry| entry.id >= first);
        let entries = whole_ids(entries, asked.most, |entry| entry.id);
        if !entries.is_empty() {
            found.push((key, Found::Entries(entries)));
        }
    }
    reply_found(ctx.reply, &found);
    Ok(())
}

pub(super) fn xreadgroup(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    refuse_waiting(ctx, args)?;
    let asked = Asked::parse(args, true)?;
    let Some(reader) = asked.reader else {
        return Err(Error::Syntax);
    };
    // All of them must be there before anything is done to one.
    let mut places = Vec::new();
    for (key, word) in &asked.streams {
        let named = [stream::group_element(reader.group)];
        let object = ctx.typed_some(key, Kind::Stream, Reach::Named(&named))?;
        group_of(&object, key, reader)?;
        places.push((*key, Begins::parse(word, true)?));
    }
    let (mut found, mut is_partly_done) = (Vec::new(), false);
    for (key, from) in places {
        let one = match from {
            Begins::Behind(id) => history(ctx, key, reader, (id, asked.most)).map(Some),
            Begins::New | Begins::End => new(ctx, key, reader, asked.most),
        };
        let one = one.map_err(|error| error.after_others(is_partly_done))?;
        found.extend(one.map(|one| (key, one)));
        is_partly_done = !found.is_empty();
    }
    reply_found(ctx.reply, &found);
    Ok(())
}

fn group_of(object: &Object, key: &[u8], reader: Reader<'_>) -> Result<Group, Error> {
    let group = stream::group(object, reader.group);
    let behind = " in XREADGROUP with GROUP option";
    group.ok_or_else(|| no_group(key, reader.group, behind))
}

fn reply_found(reply: &mut Reply, found: &[(&[u8], Found)]) {
    if found.is_empty() {
        reply.null_array();
        return;
    }
    let is_map = reply.protocol() == Protocol::Resp3;
    if is_map {
        reply.map(found.len());
    } else {
        reply.array(found.len());
    }
    for (key, found) in found {
        if !is_map {
            reply.array(2);
        }
        reply.bulk(key);
        match found {
            Found::Entries(entries) => reply_entries(reply, entries),
            Found::Pending(entries) => {
                reply.array(entries.len());
                for (id, entry) in entries {
                    if let Some(entry) = entry {
                        reply_entry(reply, entry);
                    } else {
                        reply.array(2);
                        reply_id(reply, *id);
                        reply.null_array();
                    }
                }
            }
        }
    }
}

/// Says that there is a consumer from now on, if there was none.
fn tell_of_consumer(ctx: &mut Ctx<'_>, key: &[u8], is_new: bool) {
    if is_new {
        ctx.note_event(key, (Events::STREAM, "xgroup-createconsumer"));
    }
}

/// What was delivered to a consumer.
struct Delivered {
    entries: Vec<Entry>,
    is_new_consumer: bool,
}

/// The entries that the group has not got.
fn new(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    reader: Reader<'_>,
    most: usize,
) -> Result<Option<Found>, Error> {
    let group = stream::group_element(reader.group);
    let consumer = stream::consumer_element(reader.group, reader.consumer);
    let named = [group, consumer];
    let mut read = most.saturating_add(MOST_OF_AN_ID);
    for _ in 0..TRIES {
        let adders = adders_stretch();
        let reach = [
            Reach::Stretch(&adders),
            Reach::Named(&named),
            Reach::Ends(Kind::Stream, 1, 1),
        ];
        let object = ctx.typed_some(key, Kind::Stream, Reach::Each(&reach))?;
        let position = group_of(&object, key, reader)?;
        let behind = position.next_behind(&stream::adders(&object));
        let Some(first) = behind.and_then(Id::next) else {
            return Ok(None);
        };
        let stretch = entries_stretch(first, Id::MAX, read, false);
        let next = ctx.typed_some(key, Kind::Stream, Reach::Stretch(&stretch))?;
        // Some may be pending: a group that was set back gets them again.
        let pending: Vec<Element> = stream::entries(&next)
            .filter(|entry| entry.id >= first && !reader.no_ack)
            .map(|entry| stream::pending_element(reader.group, entry.id, entry.actor))
            .collect();
        let reach = [
            Reach::Named(&named),
            Reach::Named(&pending),
            Reach::Ends(Kind::Stream, 1, 1),
            Reach::Stretch(&stretch),
        ];
        let delivered = change(ctx, key, Reach::Each(&reach), |object, now_ms| {
            deliver(object, (key, reader), (first, read, most), &pending, now_ms)
        })?;
        if let Some(delivered) = delivered {
            return Ok(told(ctx, key, delivered));
        }
        // What others have got meanwhile, and what has come, may lie elsewhere.
        read = read.saturating_mul(2);
    }
    let delivered = change(ctx, key, Reach::Whole, |object, now_ms| {
        deliver(
            object,
            (key, reader),
            (Id::MIN, usize::MAX, most),
            &[],
            now_ms,
        )
    })?;
    Ok(delivered.and_then(|delivered| told(ctx, key, delivered)))
}

/// What was delivered, and that there is a consumer from now on, if there was none.
fn told(ctx: &mut Ctx<'_>, key: &[u8], delivered: Delivered) -> Option<Found> {
    tell_of_consumer(ctx, key, delivered.is_new_consumer);
    let entries = Some(delivered.entries).filter(|entries| !entries.is_empty());
    entries.map(Found::Entries)
}

/// Delivers up to so many entries; `None` where not all that may be among them are at hand, from one id on so many, or
/// where it was not looked whether one is pending.
fn deliver(
    object: &Object,
    (key, reader): (&[u8], Reader<'_>),
    (first, read, most): (Id, usize, usize),
    looked_for: &[Element],
    now_ms: u64,
) -> Result<(Edit, Option<Delivered>), Error> {
    let mut group = group_of(object, key, reader)?;
    let adders = stream::adders(object);
    let behind = group.next_behind(&adders);
    let is_new = |entry: &Entry| entry.id > group.position(entry.actor);
    let new = stream::entries(object).filter(is_new);
    let mut new = new.filter(|_| behind.is_some());
    let entries: Vec<Entry> = new.by_ref().take(most).collect();
    // Of those with the same id as the last that is delivered others are left.
    let last = entries.last().map(|entry| entry.id);
    let left = new.take_while(|entry| Some(entry.id) == last);
    let left: Vec<ActorId> = left.map(|entry| entry.actor).collect();
    if !object.is_whole() && behind.is_some() {
        let at_hand = || stream::entries(object).filter(|entry| entry.id >= first);
        let rows = at_hand().count();
        let upto = at_hand().filter(|entry| Some(entry.id) <= last).count();
        let is_all = rows < read || entries.len() == most && upto + MOST_OF_AN_ID <= rows;
        let was_looked_for = |entry: &Entry| {
            let pending = stream::pending_element(reader.group, entry.id, entry.actor);
            reader.no_ack || looked_for.binary_search(&pending).is_ok()
        };
        if !is_all
            || !entries.iter().all(was_looked_for)
            || behind.and_then(Id::next).is_some_and(|next| next < first)
        {
            return Ok((Edit::Keep, None));
        }
    }
    let (name, consumer) = (reader.group, reader.consumer);
    let mut touched = Vec::with_capacity(entries.len() + 2);
    if let Some(to) = entries.last().map(|entry| entry.id) {
        group.read = read_after(object, &adders, &group, &entries);
        group.advance(&adders, to, &left);
        touched.push(stream::put_group(name, &group));
        if !reader.no_ack {
            let pending = Pending {
                delivered_ms: now_ms,
                times: 1,
                consumer: Bytes::copy_from_slice(consumer),
            };
            let pending = entries
                .iter()
                .map(|entry| stream::put_pending(name, (entry.id, entry.actor), &pending));
            touched.extend(pending);
        }
    }
    let shown = group.last();
    if entries.is_empty() && behind.is_some_and(|behind| behind < shown) {
        // What came late is gone by now: it is not looked for again.
        group.advance(&adders, shown, &[]);
        touched.push(stream::put_group(name, &group));
    }
    let is_new_consumer = !entries.is_empty() && stream::consumer(object, name, consumer).is_none();
    if !entries.is_empty() {
        touched.push(stream::put_consumer(
            name,
            consumer,
            &Consumer { seen_ms: now_ms },
        ));
    }
    let delivered = Delivered {
        entries,
        is_new_consumer,
    };
    Ok((Edit::touch(touched), Some(delivered)))
}

/// How many entries a group has read when it has got some more.
fn read_after(
    object: &Object,
    adders: &[(ActorId, stream::Added)],
    group: &Group,
    entries: &[Entry],
) -> Option<u64> {
    let counted = Counted::of(object, adders);
    entries.iter().fold(group.read, |read, entry| match read {
        Some(read) if !counted.has_holes_from(entry.id) => Some(read + 1),
        read if counted.sum.count == 0 => read,
        _ => counted.before_and(entry.id),
    })
}

/// What is pending of a consumer behind an id: it is delivered once more.
fn history(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    reader: Reader<'_>,
    (behind, most): (Id, usize),
) -> Result<Found, Error> {
    let (name, consumer) = (reader.group, reader.consumer);
    let (_, end) = stream::pending_between(name);
    let from = stream::pending_from(name, behind);
    let stretch = state_stretch(&(from, end), usize::MAX);
    let object = ctx.typed_some(key, Kind::Stream, Reach::Stretch(&stretch))?;
    let pending = stream::pending(&object, name);
    let its = pending.filter(|(id, _, pending)| *id > behind && pending.consumer == consumer);
    let its = whole_ids(its, most, |(id, ..)| *id);
    let elements = its.iter().flat_map(|(id, actor, _)| {
        [
            stream::pending_element(name, *id, *actor),
            stream::entry_element(*id, *actor),
        ]
    });
    let own = [
        stream::group_element(name),
        stream::consumer_element(name, consumer),
    ];
    let named: Vec<Element> = elements.chain(own).collect();
    let (found, is_new) = change(ctx, key, Reach::Named(&named), |object, now_ms| {
        group_of(object, key, reader)?;
        let (mut touched, mut found) = (Vec::new(), Vec::new());
        for (id, actor, _) in its {
            // It may have gone to somebody else meanwhile, or be done.
            let pending = stream::pending_at(object, name, id).into_iter();
            let pending =
                pending.filter(|(of, pending)| *of == actor && pending.consumer == consumer);
            let Some((_, pending)) = pending.last() else {
                continue;
            };
            let entry = stream::at(object, id).find(|entry| entry.actor == actor);
            if entry.is_some() {
                let again = Pending {
                    delivered_ms: now_ms,
                    times: pending.times.saturating_add(1),
                    ..pending
                };
                touched.push(stream::put_pending(name, (id, actor), &again));
            }
            found.push((id, entry));
        }
        let is_new = stream::consumer(object, name, consumer).is_none();
        touched.push(stream::put_consumer(
            name,
            consumer,
            &Consumer { seen_ms: now_ms },
        ));
        Ok((Edit::touch(touched), (found, is_new)))
    })?;
    tell_of_consumer(ctx, key, is_new);
    Ok(Found::Pending(found))
}
