//! XPENDING and XACK: what was delivered and not acknowledged.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::group;
use super::parts::{change, ids, no_group, pending_stretches, reaches, reply_id, state_stretch};
use super::range::{first, last};
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::{ActorId, Kind, Object};
use crate::logic::edit::{Edit, Touch};
use crate::logic::types::stream::{self, Id, Pending};
use crate::replica::Reach;
use crate::routing::args::Args;

pub(super) fn xack(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (key, group) = (args.at(1), args.at(2));
    let named = [stream::group_element(group)];
    let object = ctx.typed_some(key, Kind::Stream, Reach::Named(&named))?;
    if stream::group(&object, group).is_none() {
        ctx.reply.integer(0);
        return Ok(());
    }
    let mut ids = ids(args, 3)?;
    ids.sort_unstable();
    ids.dedup();
    let stretches = pending_stretches(group, &ids);
    let reach = reaches(&stretches);
    let gone = change(ctx, key, Reach::Each(&reach), |object, _| {
        let named = ids.iter().flat_map(|id| {
            let its = stream::pending_at(object, group, *id).into_iter();
            its.map(move |(actor, _)| stream::pending_element(group, *id, actor))
        });
        let removed: Vec<Touch> = named.map(Touch::remove).collect();
        let gone = removed.len();
        Ok((Edit::touch(removed), gone))
    })?;
    ctx.reply.integer(gone as i64);
    Ok(())
}

/// What XPENDING asks for beside the sum.
struct Range<'a> {
    idle_ms: u64,
    from: Id,
    to: Id,
    most: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Range<'a> {
    fn parse(args: Args<'a>) -> Result<Option<Self>, Error> {
        if args.len() == 3 {
            return Ok(None);
        }
        if args.len() < 6 || args.len() > 9 {
            return Err(Error::Syntax);
        }
        let (mut idle_ms, mut nth) = (0, 3);
        if args.is(3, "IDLE") {
            idle_ms = args.integer(4)?.max(0) as u64;
            if args.len() < 8 {
                return Err(Error::Syntax);
            }
            nth += 2;
        } else if args.len() > 7 {
            return Err(Error::Syntax);
        }
        let most = args.integer(nth + 2)?.max(0);
        Ok(Some(Self {
            idle_ms,
            from: first(args.at(nth))?,
            to: last(args.at(nth + 1))?,
            most: usize::try_from(most).unwrap_or(usize::MAX),
            consumer: args.get(nth + 3),
        }))
    }
}

pub(super) fn xpending(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (key, group) = (args.at(1), args.at(2));
    let range = Range::parse(args)?;
    let named = [stream::group_element(group)];
    let (start, end) = stream::pending_between(group);
    let stretch = match &range {
        None => state_stretch(&(start, end), usize::MAX),
        Some(range) => {
            let is_plain = range.consumer.is_none() && range.idle_ms == 0;
            let most = if is_plain { range.most } else { usize::MAX };
            let end = range
                .to
                .next()
                .map_or(end, |to| stream::pending_from(group, to));
            state_stretch(&(stream::pending_from(group, range.from), end), most)
        }
    };
    let reach = [Reach::Named(&named), Reach::Stretch(&stretch)];
    let object = ctx.typed_some(key, Kind::Stream, Reach::Each(&reach))?;
    if stream::group(&object, group).is_none() {
        return Err(no_group(key, group, ""));
    }
    match range {
        None => reply_sum(ctx, &object, group),
        Some(range) => reply_range(ctx, &object, group, &range),
    }
    Ok(())
}

fn reply_sum(ctx: &mut Ctx<'_>, object: &Object, name: &[u8]) {
    let mut by_consumer: BTreeMap<Bytes, usize> = BTreeMap::new();
    let (mut total, mut ends) = (0, None);
    for (id, _, pending) in stream::pending(object, name) {
        *by_consumer.entry(pending.consumer).or_default() += 1;
        ends = Some((ends.map_or(id, |(first, _)| first), id));
        total += 1;
    }
    ctx.reply.array(4);
    ctx.reply.integer(total);
    let Some((first, last)) = ends else {
        ctx.reply.null();
        ctx.reply.null();
        ctx.reply.null_array();
        return;
    };
    reply_id(ctx.reply, first);
    reply_id(ctx.reply, last);
    ctx.reply.array(by_consumer.len());
    for (consumer, count) in &by_consumer {
        group::reply_count(ctx.reply, (consumer, *count));
    }
}

fn reply_range(ctx: &mut Ctx<'_>, object: &Object, group: &[u8], range: &Range<'_>) {
    let now_ms = clock::now_ms();
    let is_in = |(id, _, pending): &(Id, ActorId, Pending)| {
        let idle_ms = now_ms.saturating_sub(pending.delivered_ms);
        range.from <= *id
            && *id <= range.to
            && idle_ms >= range.idle_ms
            && range
                .consumer
                .is_none_or(|consumer| pending.consumer == consumer)
    };
    let found: Vec<_> = stream::pending(object, group)
        .filter(is_in)
        .take(range.most)
        .collect();
    ctx.reply.array(found.len());
    for (id, _, pending) in found {
        ctx.reply.array(4);
        reply_id(ctx.reply, id);
        ctx.reply.bulk(&pending.consumer);
        let idle_ms = now_ms.saturating_sub(pending.delivered_ms);
        ctx.reply.integer(idle_ms as i64);
        ctx.reply.integer(pending.times as i64);
    }
}
