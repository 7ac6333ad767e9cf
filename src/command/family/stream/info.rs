//! XINFO: what there is of a stream.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::counted::Counted;
use super::group;
use super::parts::{
    adders_stretch, is_there, no_group_of, reply_entries, reply_entry, reply_id, state_stretch,
};
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::types::stream::{self, Entry, Group, Id};
use crate::replica::Reach;
use crate::routing::args::Args;

/// XINFO STREAM FULL shows so many entries, where it is not said how many.
const SHOWN: usize = 10;

pub(super) fn stream(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let key = args.at(2);
    let full = args.len() > 3;
    let mut most = SHOWN;
    if full {
        let has_count = args.len() == 6 && args.is(4, "COUNT");
        if !args.is(3, "FULL") || !(args.len() == 4 || has_count) {
            return Err(group::wrong_words(args));
        }
        if has_count {
            most = match usize::try_from(args.integer(5)?) {
                Ok(0) => usize::MAX,
                Ok(most) => most,
                Err(_) => SHOWN,
            };
        }
        return reply_full(ctx, key, most);
    }
    let object = group::of(ctx, key)?;
    there(&object)?;
    ctx.reply.map(10);
    reply_head(ctx, &object);
    ctx.reply.bulk(b"groups");
    ctx.reply.integer(stream::groups(&object).count() as i64);
    let mut entries = stream::entries(&object);
    let first = entries.next();
    let last = entries.next_back().or(first.clone());
    for (name, entry) in [("first-entry", first), ("last-entry", last)] {
        ctx.reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => reply_entry(ctx.reply, &entry),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

fn there(object: &Object) -> Result<(), Error> {
    if is_there(object) {
        Ok(())
    } else {
        Err(Error::NoSuchKey)
    }
}

/// What both forms of XINFO STREAM begin with: seven pairs.
fn reply_head(ctx: &mut Ctx<'_>, object: &Object) {
    let sum = stream::sum(&stream::adders(object));
    let len = stream::len(object);
    let nodes = len.div_ceil(super::add::a_node(ctx));
    let numbers = [
        ("length", len),
        ("radix-tree-keys", nodes),
        ("radix-tree-nodes", nodes + 1),
    ];
    for (name, number) in numbers {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.integer(number as i64);
    }
    ctx.reply.bulk(b"last-generated-id");
    reply_id(ctx.reply, sum.last);
    ctx.reply.bulk(b"max-deleted-entry-id");
    reply_id(ctx.reply, sum.deleted);
    ctx.reply.bulk(b"entries-added");
    ctx.reply.integer(sum.count as i64);
    ctx.reply.bulk(b"recorded-first-entry-id");
    let first = stream::entries(object).next();
    reply_id(ctx.reply, first.map_or(Id::MIN, |entry| entry.id));
}

/// Up to where a group has read, how much that was and how much is left.
fn reply_progress(ctx: &mut Ctx<'_>, object: &Object, group: &Group) {
    ctx.reply.bulk(b"last-delivered-id");
    reply_id(ctx.reply, group.last());
    ctx.reply.bulk(b"entries-read");
    match group.read {
        Some(read) => ctx.reply.integer(read as i64),
        None => ctx.reply.null(),
    }
    ctx.reply.bulk(b"lag");
    let counted = Counted::of(object, &stream::adders(object));
    let read = match group.read {
        _ if counted.sum.count == 0 => Some(0),
        Some(read) if !counted.has_holes_from(group.last()) => Some(read),
        _ => counted.before_and(group.last()),
    };
    match read {
        Some(read) => ctx
            .reply
            .integer((counted.sum.count as i64).saturating_sub(read as i64)),
        None => ctx.reply.null(),
    }
}

/// How many entries are pending of each consumer of a group.
fn counts(object: &Object, group: &[u8]) -> BTreeMap<Bytes, usize> {
    let mut counts = BTreeMap::new();
    for (.., pending) in stream::pending(object, group) {
        *counts.entry(pending.consumer).or_default() += 1;
    }
    counts
}

pub(super) fn groups(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let key = args.at(2);
    let object = group::of(ctx, key)?;
    there(&object)?;
    let groups: Vec<(&[u8], Group)> = stream::groups(&object).collect();
    ctx.reply.array(groups.len());
    for (name, group) in groups {
        let consumers = state_stretch(&stream::consumers_between(name), usize::MAX);
        let pending = state_stretch(&stream::pending_between(name), usize::MAX);
        let reach = [Reach::Stretch(&consumers), Reach::Stretch(&pending)];
        let its = ctx.typed_some(key, Kind::Stream, Reach::Each(&reach))?;
        ctx.reply.map(6);
        ctx.reply.bulk(b"name");
        ctx.reply.bulk(name);
        ctx.reply.bulk(b"consumers");
        ctx.reply
            .integer(stream::consumers(&its, name).count() as i64);
        ctx.reply.bulk(b"pending");
        ctx.reply
            .integer(stream::pending(&its, name).count() as i64);
        reply_progress(ctx, &object, &group);
    }
    Ok(())
}

pub(super) fn consumers(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (key, name) = (args.at(2), args.at(3));
    let named = [stream::group_element(name)];
    let consumers = state_stretch(&stream::consumers_between(name), usize::MAX);
    let pending = state_stretch(&stream::pending_between(name), usize::MAX);
    let reach = [
        Reach::Named(&named),
        Reach::Stretch(&consumers),
        Reach::Stretch(&pending),
    ];
    let object = ctx.typed_some(key, Kind::Stream, Reach::Each(&reach))?;
    there(&object)?;
    if stream::group(&object, name).is_none() {
        return Err(no_group_of(key, name));
    }
    let counts = counts(&object, name);
    let now_ms = clock::now_ms();
    let all: Vec<_> = stream::consumers(&object, name).collect();
    ctx.reply.array(all.len());
    for (consumer, state) in all {
        ctx.reply.map(3);
        ctx.reply.bulk(b"name");
        ctx.reply.bulk(consumer);
        ctx.reply.bulk(b"pending");
        let count = counts.get(consumer).copied().unwrap_or(0);
        ctx.reply.integer(count as i64);
        ctx.reply.bulk(b"idle");
        ctx.reply
            .integer(now_ms.saturating_sub(state.seen_ms) as i64);
    }
    Ok(())
}

fn reply_full(ctx: &mut Ctx<'_>, key: &[u8], most: usize) -> Outcome {
    let (from, _) = stream::groups_between();
    let all = (from.to_vec(), vec![u8::MAX]);
    let state = state_stretch(&all, usize::MAX);
    let adders = adders_stretch();
    let reach = [
        Reach::Stretch(&adders),
        Reach::Stretch(&state),
        Reach::Ends(Kind::Stream, most, 0),
    ];
    let object = ctx.typed_some(key, Kind::Stream, Reach::Each(&reach))?;
    there(&object)?;
    ctx.reply.map(9);
    reply_head(ctx, &object);
    ctx.reply.bulk(b"entries");
    let entries: Vec<Entry> = stream::entries(&object).take(most).collect();
    reply_entries(ctx.reply, &entries);
    ctx.reply.bulk(b"groups");
    let groups: Vec<(&[u8], Group)> = stream::groups(&object).collect();
    ctx.reply.array(groups.len());
    for (name, group) in groups {
        reply_full_group(ctx, &object, (name, &group), most);
    }
    Ok(())
}

fn reply_full_group(
    ctx: &mut Ctx<'_>,
    object: &Object,
    (name, group): (&[u8], &Group),
    most: usize,
) {
    let pending: Vec<_> = stream::pending(object, name).collect();
    ctx.reply.map(7);
    ctx.reply.bulk(b"name");
    ctx.reply.bulk(name);
    reply_progress(ctx, object, group);
    ctx.reply.bulk(b"pel-count");
    ctx.reply.integer(pending.len() as i64);
    ctx.reply.bulk(b"pending");
    ctx.reply.array(pending.len().min(most));
    for (id, _, pending) in pending.iter().take(most) {
        ctx.reply.array(4);
        reply_id(ctx.reply, *id);
        ctx.reply.bulk(&pending.consumer);
        ctx.reply.integer(pending.delivered_ms as i64);
        ctx.reply.integer(pending.times as i64);
    }
    ctx.reply.bulk(b"consumers");
    let consumers: Vec<_> = stream::consumers(object, name).collect();
    ctx.reply.array(consumers.len());
    for (consumer, state) in consumers {
        let its = || {
            pending
                .iter()
                .filter(|(.., pending)| pending.consumer == consumer)
        };
        ctx.reply.map(4);
        ctx.reply.bulk(b"name");
        ctx.reply.bulk(consumer);
        ctx.reply.bulk(b"seen-time");
        ctx.reply.integer(state.seen_ms as i64);
        ctx.reply.bulk(b"pel-count");
        ctx.reply.integer(its().count() as i64);
        ctx.reply.bulk(b"pending");
        ctx.reply.array(its().count().min(most));
        for (id, _, pending) in its().take(most) {
            ctx.reply.array(3);
            reply_id(ctx.reply, *id);
            ctx.reply.integer(pending.delivered_ms as i64);
            ctx.reply.integer(pending.times as i64);
        }
    }
}
