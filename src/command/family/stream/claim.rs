//! XCLAIM and XAUTOCLAIM: what is pending of one consumer goes over to another.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::parts::{
    MOST_OF_AN_ID, change, id, no_group, pending_stretches, reaches, reply_entries, reply_id,
    state_stretch, stretches_of,
};
use super::range::first;
use crate::base::config::Events;
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::{ActorId, Kind, Object};
use crate::logic::edit::{Edit, Touch};
use crate::logic::types::stream::{self, Consumer, Entry, Id, Pending};
use crate::replica::Reach;
use crate::routing::args::Args;

/// XAUTOCLAIM looks at so many for each one that it may take.
const LOOKS: usize = 10;

/// When what is taken over is said to have been delivered.
#[derive(Clone, Copy)]
enum Delivered {
    /// So many milliseconds ago.
    Ago(i64),
    /// At this moment, in milliseconds since the epoch.
    At(i64),
}

/// What XCLAIM says.
struct Asked {
    min_idle_ms: u64,
    ids: Vec<Id>,
    delivered: Option<Delivered>,
    times: Option<u64>,
    force: bool,
    just_ids: bool,
    last: Option<Id>,
}

impl Asked {
    fn parse(args: Args<'_>) -> Result<Self, Error> {
        let idle = Error::text("ERR Invalid min-idle-time argument for XCLAIM");
        let min_idle = args.integer(4).map_err(|_| idle)?;
        let mut asked = Self {
            min_idle_ms: min_idle.max(0) as u64,
            ids: Vec::new(),
            delivered: None,
            times: None,
            force: false,
            just_ids: false,
            last: None,
        };
        let mut nth = 5;
        while nth < args.len() {
            match Id::parse(args.at(nth), 0) {
                Some(id) => asked.ids.push(id),
                None => break,
            }
            nth += 1;
        }
        let number = |at: usize, text| args.integer(at).map_err(|_| Error::text(text));
        while nth < args.len() {
            let has_more = nth + 1 < args.len();
            if args.is(nth, "FORCE") {
                asked.force = true;
            } else if args.is(nth, "JUSTID") {
                asked.just_ids = true;
            } else if has_more && args.is(nth, "IDLE") {
                nth += 1;
                let text = "ERR Invalid IDLE option argument for XCLAIM";
                asked.delivered = Some(Delivered::Ago(number(nth, text)?));
            } else if has_more && args.is(nth, "TIME") {
                nth += 1;
                let text = "ERR Invalid TIME option argument for XCLAIM";
                asked.delivered = Some(Delivered::At(number(nth, text)?));
            } else if has_more && args.is(nth, "RETRYCOUNT") {
                nth += 1;
                let text = "ERR Invalid RETRYCOUNT option argument for XCLAIM";
                asked.times = u64::try_from(number(nth, text)?).ok();
            } else if has_more && args.is(nth, "LASTID") {
                nth += 1;
                asked.last = Some(id(args.at(nth))?);
            } else {
                let word = args.text(nth);
                return Err(Error::Text(
                    format!("ERR Unrecognized XCLAIM option '{word}'").into(),
                ));
            }
            nth += 1;
        }
        Ok(asked)
    }

    /// When what is taken over was delivered, as it is said to be.
    fn delivered(&self, now_ms: u64) -> u64 {
        let at_ms = self.delivered.and_then(|delivered| match delivered {
            Delivered::Ago(idle_ms) => (now_ms as i64).checked_sub(idle_ms),
            Delivered::At(at_ms) => Some(at_ms),
        });
        let at_ms = at_ms.and_then(|at_ms| u64::try_from(at_ms).ok());
        at_ms.filter(|at_ms| *at_ms <= now_ms).unwrap_or(now_ms)
    }
}

/// What was taken over.
#[derive(Default)]
struct Claimed {
    entries: Vec<Entry>,
    /// These were removed from the stream, and are pending no more.
    gone: Vec<Id>,
    is_new_consumer: bool,
    /// Where XAUTOCLAIM is to go on.
    next: Id,
}

/// An entry that is pending.
type Place = (Id, ActorId);

/// What changes, as it is gathered.
struct Taking<'a> {
    object: &'a Object,
    group: &'a [u8],
    consumer: &'a [u8],
    /// What is pending from now on, and what no more.
    changed: BTreeMap<Place, Option<Pending>>,
    claimed: Claimed,
}

impl<'a> Taking<'a> {
    fn new(object: &'a Object, (group, consumer): (&'a [u8], &'a [u8])) -> Self {
        Self {
            object,
            group,
            consumer,
            changed: BTreeMap::new(),
            claimed: Claimed::default(),
        }
    }

    /// An entry goes over, unless it was delivered too lately; or is forgotten where it was removed from the stream.
    /// Whether it was there for that.
    fn take(
        &mut self,
        (id, actor): Place,
        pending: Pending,
        (now_ms, min_idle_ms): (u64, u64),
        change: impl Fn(Pending) -> Pending,
    ) -> bool {
        let entry = stream::at(self.object, id).find(|entry| entry.actor == actor);
        let Some(entry) = entry else {
            self.changed.insert((id, actor), None);
            self.claimed.gone.push(id);
            return true;
        };
        if now_ms.saturating_sub(pending.delivered_ms) < min_idle_ms {
            return false;
        }
        let pending = Pending {
            consumer: Bytes::copy_from_slice(self.consumer),
            ..change(pending)
        };
        self.changed.insert((id, actor), Some(pending));
        self.claimed.entries.push(entry);
        true
    }

    fn done(mut self, now_ms: u64) -> (Vec<Touch>, Claimed) {
        let (group, consumer) = (self.group, self.consumer);
        let changed = self.changed.into_iter();
        let mut touched: Vec<Touch> = changed
            .map(|((id, actor), pending)| match pending {
                Some(pending) => stream::put_pending(group, (id, actor), &pending),
                None => Touch::remove(stream::pending_element(group, id, actor)),
            })
            .collect();
        if !self.claimed.entries.is_empty() {
            let before = stream::consumer(self.object, group, consumer);
            self.claimed.is_new_consumer = before.is_none();
            let seen = Consumer { seen_ms: now_ms };
            touched.push(stream::put_consumer(group, consumer, &seen));
        }
        (touched, self.claimed)
    }
}

fn known(object: &Object, key: &[u8], group: &[u8]) -> Result<stream::Group, Error> {
    stream::group(object, group).ok_or_else(|| no_group(key, group, ""))
}

pub(super) fn xclaim(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (key, group, consumer) = (args.at(1), args.at(2), args.at(3));
    let named = [stream::group_element(group)];
    let object = ctx.typed_some(key, Kind::Stream, Reach::Named(&named))?;
    known(&object, key, group)?;
    let asked = Asked::parse(args)?;
    let named = [
        stream::group_element(group),
        stream::consumer_element(group, consumer),
    ];
    let stretches = [
        pending_stretches(group, &asked.ids),
        stretches_of(&asked.ids),
    ]
    .concat();
    let mut reach = reaches(&stretches);
    reach.push(Reach::Named(&named));
    let claimed = change(ctx, key, Reach::Each(&reach), |object, now_ms| {
        claim(object, (key, group, consumer), &asked, now_ms)
    })?;
    if claimed.is_new_consumer {
        ctx.note_event(key, (Events::STREAM, "xgroup-createconsumer"));
    }
    reply_claimed(ctx, &claimed.entries, asked.just_ids);
    Ok(())
}

fn claim(
    object: &Object,
    (key, group, consumer): (&[u8], &[u8], &[u8]),
    asked: &Asked,
    now_ms: u64,
) -> Result<(Edit, Claimed), Error> {
    let mut position = known(object, key, group)?;
    let mut taking = Taking::new(object, (group, consumer));
    let change = |pending: Pending| Pending {
        delivered_ms: asked.delivered(now_ms),
        times: match asked.times {
            Some(times) => times,
            None if asked.just_ids => pending.times,
            None => pending.times.saturating_add(1),
        },
        ..pending
    };
    for id in &asked.ids {
        for (actor, pending) in its(&taking, *id, asked.force) {
            let idle = (now_ms, asked.min_idle_ms);
            taking.take((*id, actor), pending, idle, change);
        }
    }
    let (mut touched, claimed) = taking.done(now_ms);
    if let Some(last) = asked.last.filter(|last| *last > position.last()) {
        position.advance(&stream::adders(object), last, &[]);
        position.start = position.start.max(last);
        touched.push(stream::put_group(group, &position));
    }
    Ok((Edit::touch(touched), claimed))
}

/// What is pending with an id, as it is by now; where nothing is, what is made so by force.
fn its(taking: &Taking<'_>, id: Id, force: bool) -> Vec<(ActorId, Pending)> {
    let as_changed = |(actor, pending)| match taking.changed.get(&(id, actor)) {
        None => Some((actor, pending)),
        Some(changed) => Some((actor, changed.clone()?)),
    };
    let its = stream::pending_at(taking.object, taking.group, id).into_iter();
    let its: Vec<_> = its.filter_map(as_changed).collect();
    if !its.is_empty() || !force {
        return its;
    }
    let forced = Pending {
        delivered_ms: 0,
        times: 1,
        consumer: Bytes::new(),
    };
    let there = stream::at(taking.object, id);
    there
        .filter_map(|entry| as_changed((entry.actor, forced.clone())))
        .collect()
}

fn reply_claimed(ctx: &mut Ctx<'_>, entries: &[Entry], just_ids: bool) {
    if !just_ids {
        reply_entries(ctx.reply, entries);
        return;
    }
    ctx.reply.array(entries.len());
    for entry in entries {
        reply_id(ctx.reply, entry.id);
    }
}

/// How many entries XAUTOCLAIM takes over at most, and whether it replies their ids alone.
fn page(args: Args<'_>) -> Result<(usize, bool), Error> {
    let (mut count, mut just_ids, mut nth) = (100, false, 6);
    while nth < args.len() {
        if nth + 1 < args.len() && args.is(nth, "COUNT") {
            nth += 1;
            let number = args.integer(nth).ok();
            let number = number.filter(|number| (1..=i64::MAX / 64).contains(number));
            count = number.ok_or(Error::text("ERR COUNT must be > 0"))? as usize;
        } else if args.is(nth, "JUSTID") {
            just_ids = true;
        } else {
            return Err(Error::Syntax);
        }
        nth += 1;
    }
    Ok((count, just_ids))
}

pub(super) fn xautoclaim(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (key, group, consumer) = (args.at(1), args.at(2), args.at(3));
    let idle = Error::text("ERR Invalid min-idle-time argument for XAUTOCLAIM");
    let min_idle_ms = args.integer(4).map_err(|_| idle)?.max(0) as u64;
    let start = first(args.at(5))?;
    let (count, just_ids) = page(args)?;
    let looks = count.saturating_mul(LOOKS);
    let (_, end) = stream::pending_between(group);
    let stretch = state_stretch(
        &(stream::pending_from(group, start), end),
        looks + MOST_OF_AN_ID,
    );
    let named = [
        stream::group_element(group),
        stream::consumer_element(group, consumer),
    ];
    let reach = [Reach::Named(&named), Reach::Stretch(&stretch)];
    let object = ctx.typed_some(key, Kind::Stream, Reach::Each(&reach))?;
    known(&object, key, group)?;
    let pending = stream::pending(&object, group).skip_while(|(id, ..)| *id < start);
    let entries: Vec<_> = pending
        .take(looks + MOST_OF_AN_ID - 1)
        .map(|(id, actor, _)| stream::entry_element(id, actor))
        .collect();
    let reach = [
        Reach::Named(&named),
        Reach::Stretch(&stretch),
        Reach::Named(&entries),
    ];
    let claimed = change(ctx, key, Reach::Each(&reach), |object, now_ms| {
        known(object, key, group)?;
        let mut taking = Taking::new(object, (group, consumer));
        let pending = stream::pending(object, group).skip_while(|(id, ..)| *id < start);
        let (mut looks, mut count, mut last) = (looks, count, None);
        let change = |pending: Pending| Pending {
            delivered_ms: now_ms,
            times: pending.times.saturating_add(u64::from(!just_ids)),
            ..pending
        };
        for (id, actor, pending) in pending {
            // Who goes on from an id must not come to what was taken, nor pass something over.
            let is_next = last != Some(id);
            if is_next && (looks == 0 || count == 0) || !is_at_hand(object, &entries, (id, actor)) {
                taking.claimed.next = id;
                break;
            }
            last = Some(id);
            looks = looks.saturating_sub(1);
            let was_taken = taking.take((id, actor), pending, (now_ms, min_idle_ms), change);
            count = count.saturating_sub(usize::from(was_taken));
        }
        let (touched, claimed) = taking.done(now_ms);
        Ok((Edit::touch(touched), claimed))
    })?;
    if claimed.is_new_consumer {
        ctx.note_event(key, (Events::STREAM, "xgroup-createconsumer"));
    }
    ctx.reply.array(3);
    reply_id(ctx.reply, claimed.next);
    reply_claimed(ctx, &claimed.entries, just_ids);
    ctx.reply.array(claimed.gone.len());
    for id in &claimed.gone {
        reply_id(ctx.reply, *id);
    }
    Ok(())
}

/// Whether an entry was looked for: what has become pending meanwhile was not.
fn is_at_hand(
    object: &Object,
    named: &[crate::logic::causal::Element],
    (id, actor): (Id, ActorId),
) -> bool {
    object.is_whole()
        || named
            .binary_search(&stream::entry_element(id, actor))
            .is_ok()
}
