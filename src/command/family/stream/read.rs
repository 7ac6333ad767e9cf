//! XREAD and XREADGROUP. Whoever runs them sees to the waiting: here they say what there is.

use bytes::Bytes;

use super::parts::{
    INVALID_ID, adders, adders_stretch, change, entries_stretch, entry_elements, no_group,
    reply_entries, reply_entry, reply_id, state_stretch,
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

/// Where to go on in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// Behind an entry.
    Behind(Id),
    /// Behind what is there (`$`).
    End,
    /// Behind what the group has got (`>`).
    New,
}

impl From {
    fn parse(word: &[u8], of_group: bool) -> Result<Self, Error> {
        match word {
            b"$" if of_group => Err(Error::text(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                 consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just \
                 return an empty result set.",
            )),
            b"$" => Ok(Self::End),
            b">" if of_group => Ok(Self::New),
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

pub(super) fn xread(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let asked = Asked::parse(args, false)?;
    let mut places = Vec::new();
    for (key, word) in &asked.streams {
        let from = From::parse(word, false)?;
        // Nothing is behind the end. That the key is a stream is looked at all the same.
        ctx.typed_some(key, Kind::Stream, Reach::Head)?;
        places.push((*key, from));
    }
    let mut found = Vec::new();
    for (key, from) in places {
        let From::Behind(id) = from else { continue };
        let Some(first) = id.next() else { continue };
        let stretch = entries_stretch(first, Id::MAX, asked.most, false);
        let object = ctx.typed_some(key, Kind::Stream, Reach::Stretch(&stretch))?;
        let entries = stream::entries(&object).filter(|entry| entry.id >= first);
        let entries: Vec<Entry> = entries.take(asked.most).collect();
        if !entries.is_empty() {
            found.push((key, Found::Entries(entries)));
        }
    }
    reply_found(ctx.reply, &found);
    Ok(())
}

pub(super) fn xreadgroup(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
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
        places.push((*key, From::parse(word, true)?));
    }
    let (mut found, mut is_partly_done) = (Vec::new(), false);
    for (key, from) in places {
        let one = match from {
            From::Behind(id) => history(ctx, key, reader, (id, asked.most)).map(Some),
            From::New | From::End => new(ctx, key, reader, asked.most),
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
    // What others have got meanwhile, and what has come, may lie elsewhere.
    let mut read = most;
    let delivered = loop {
        let adders = adders_stretch();
        let reach = [Reach::Stretch(&adders), Reach::Named(&named)];
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
            Reach::Ends(Kind::Stream, 1, 0),
            Reach::Stretch(&stretch),
        ];
        let delivered = change(ctx, key, Reach::Each(&reach), |object, now_ms| {
            deliver(object, (key, reader), (first, read, most), &pending, now_ms)
        })?;
        match delivered {
            Some(delivered) => break delivered,
            None => read = read.saturating_mul(2),
        }
    };
    tell_of_consumer(ctx, key, delivered.is_new_consumer);
    let entries = Some(delivered.entries).filter(|entries| !entries.is_empty());
    Ok(entries.map(Found::Entries))
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
    let entries: Vec<Entry> = match behind {
        None => Vec::new(),
        Some(_) => new.take(most).collect(),
    };
    if !object.is_whole() && behind.is_some() {
        let at_hand = stream::entries(object).filter(|entry| entry.id >= first);
        let is_all = entries.len() == most || at_hand.count() < read;
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
        group.advance(&adders, to);
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

/// What tells how many entries there have been up to one.
pub(super) struct Counted {
    pub(super) sum: stream::Sum,
    pub(super) len: u64,
    pub(super) first: Id,
}

impl Counted {
    /// Of a stream whose first entry is at hand.
    pub(super) fn of(object: &Object, adders: &[(ActorId, stream::Added)]) -> Self {
        Self {
            sum: stream::sum(adders),
            len: stream::len(object) as u64,
            first: stream::entries(object)
                .next()
                .map_or(Id::MIN, |entry| entry.id),
        }
    }

    /// Whether entries from an id on may have been removed from between others.
    pub(super) fn has_holes_from(&self, id: Id) -> bool {
        self.len > 0 && self.first <= self.sum.deleted && id <= self.sum.deleted
    }

    /// How many entries there have been up to one, where that can be told.
    pub(super) fn before_and(&self, id: Id) -> Option<u64> {
        let Self { sum, len, first } = self;
        if sum.count == 0 {
            return Some(0);
        }
        if *len == 0 && id <= sum.last {
            return Some(sum.count);
        }
        if id == sum.last {
            return Some(sum.count);
        }
        if id > sum.last {
            return None;
        }
        if sum.deleted == Id::MIN || sum.deleted < *first {
            let before = sum.count.saturating_sub(*len);
            match id.cmp(first) {
                std::cmp::Ordering::Less => return Some(before),
                std::cmp::Ordering::Equal => return Some(before + 1),
                std::cmp::Ordering::Greater => {}
            }
        }
        None
    }
}

/// What is pending of a consumer behind an id: it is delivered once more.
fn history(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    reader: Reader<'_>,
    (behind, most): (Id, usize),
) -> Result<Found, Error> {
    let (name, consumer) = (reader.group, reader.consumer);
    let its = |object: &Object| -> Vec<(Id, ActorId, Pending)> {
        let pending = stream::pending(object, name);
        let pending =
            pending.filter(|(id, _, pending)| *id > behind && pending.consumer == consumer);
        pending.take(most).collect()
    };
    let (_, end) = stream::pending_between(name);
    let from = stream::pending_from(name, behind);
    let pending = state_stretch(&(from, end), usize::MAX);
    let object = ctx.typed_some(key, Kind::Stream, Reach::Stretch(&pending))?;
    let ids: Vec<Id> = its(&object).iter().map(|(id, ..)| *id).collect();
    let entries = entry_elements(&ids, &adders(ctx, key)?);
    let named = [
        stream::group_element(name),
        stream::consumer_element(name, consumer),
    ];
    let reach = [
        Reach::Named(&named),
        Reach::Named(&entries),
        Reach::Stretch(&pending),
    ];
    let (found, is_new) = change(ctx, key, Reach::Each(&reach), |object, now_ms| {
        group_of(object, key, reader)?;
        let (mut touched, mut found) = (Vec::new(), Vec::new());
        for (id, actor, pending) in its(object) {
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
