//! SUBSCRIBE and its like, PUBLISH, PUBSUB.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::command::context::{After, Ctx, Outcome};
use crate::command::node::Node;
use crate::command::row::{L, LF, Row, cmd, sub};
use crate::command::session::{ReplyMode, Session};
use crate::command::spec::{Flags, keys};
use crate::command::tracking;
use crate::error::Error;
use crate::logic::glob;
use crate::logic::place::MAX_KEY_LEN;
use crate::peer::message::{Listening, News, Response};
use crate::pubsub::Kind;
use crate::resp::Reply;
use crate::routing::args::Args;

const LISTENS: Flags = Flags::PUBSUB
    .and(Flags::NOSCRIPT)
    .and(L)
    .and(Flags::WHILE_SUBSCRIBED);
const ASKS: Flags = Flags::PUBSUB.and(L);

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "publish",
        3,
        Flags::PUBSUB.and(LF).and(Flags::PUBLISHES),
        &[],
        "pubsub",
        publish,
        "Sends a message to whoever listens to a channel, on any node.",
    ),
    cmd(
        "spublish",
        3,
        Flags::PUBSUB.and(LF).and(Flags::PUBLISHES),
        keys::CHANNEL,
        "pubsub",
        spublish,
        "Sends a message to whoever listens to a shard channel.",
    )
    .stays(),
    cmd(
        "subscribe",
        -2,
        LISTENS,
        &[],
        "pubsub",
        subscribe,
        "Listens to channels.",
    ),
    cmd(
        "psubscribe",
        -2,
        LISTENS,
        &[],
        "pubsub",
        psubscribe,
        "Listens to channels whose names match patterns.",
    ),
    cmd(
        "ssubscribe",
        -2,
        LISTENS,
        keys::CHANNELS,
        "pubsub",
        ssubscribe,
        "Listens to shard channels.",
    )
    .stays(),
    cmd(
        "unsubscribe",
        -1,
        LISTENS,
        &[],
        "pubsub",
        unsubscribe,
        "Listens to channels no more.",
    ),
    cmd(
        "punsubscribe",
        -1,
        LISTENS,
        &[],
        "pubsub",
        punsubscribe,
        "Listens to patterns no more.",
    ),
    cmd(
        "sunsubscribe",
        -1,
        LISTENS,
        keys::CHANNELS,
        "pubsub",
        sunsubscribe,
        "Listens to shard channels no more.",
    )
    .stays(),
    cmd(
        "pubsub",
        -2,
        Flags(0),
        &[],
        "pubsub",
        help,
        "Who listens to what.",
    ),
    sub(
        "pubsub",
        "channels",
        -2,
        ASKS,
        channels,
        "The channels that somebody listens to, on any node.",
    ),
    sub("pubsub", "help", 2, L, help, "What there is of PUBSUB."),
    sub(
        "pubsub",
        "numpat",
        2,
        ASKS,
        numpat,
        "How many patterns somebody listens to, on any node.",
    ),
    sub(
        "pubsub",
        "numsub",
        -2,
        ASKS,
        numsub,
        "How many clients listen to channels, on all nodes.",
    ),
    sub(
        "pubsub",
        "shardchannels",
        -2,
        ASKS,
        shardchannels,
        "The shard channels that somebody listens to, on any node.",
    ),
    sub(
        "pubsub",
        "shardnumsub",
        -2,
        ASKS,
        shardnumsub,
        "How many clients listen to shard channels, on all nodes.",
    ),
];

fn subscribe(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    listen(ctx, args, ("subscribe", Kind::Channel))
}

fn psubscribe(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    listen(ctx, args, ("psubscribe", Kind::Pattern))
}

fn ssubscribe(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    listen(ctx, args, ("ssubscribe", Kind::Shard))
}

fn unsubscribe(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    leave(ctx, args, ("unsubscribe", Kind::Channel))
}

fn punsubscribe(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    leave(ctx, args, ("punsubscribe", Kind::Pattern))
}

fn sunsubscribe(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    leave(ctx, args, ("sunsubscribe", Kind::Shard))
}

fn confirm(ctx: &mut Ctx<'_>, said: &str, kind: Kind, name: Option<&[u8]>) {
    let count = ctx.session.listens.count(kind);
    confirm_count(ctx, said, name, count);
}

fn confirm_count(ctx: &mut Ctx<'_>, said: &str, name: Option<&[u8]>, count: usize) {
    ctx.reply.push(3);
    ctx.reply.bulk(said.as_bytes());
    ctx.reply.bulk_or_null(name);
    ctx.reply.integer(count as i64);
}

/// The reply leaves when all members that answer know of it: what is published anywhere after it comes.
fn listen(ctx: &mut Ctx<'_>, args: Args<'_>, (said, kind): (&str, Kind)) -> Outcome {
    if ctx.is_in_cluster()
        && let Some(name) = args.from(1).find(|name| name.len() > MAX_KEY_LEN)
    {
        // All members keep it.
        return Err(Error::KeyTooLong(name.len()));
    }
    let (id, limit) = (ctx.session.client.id, ctx.node.config.pubsub_limit());
    let how = (limit, ctx.reply.protocol());
    let mut changes = Vec::new();
    for name in args.from(1) {
        let here = (&*ctx.node.listeners, id);
        changes.extend(ctx.session.listens.add(here, how, (kind, name)));
        confirm(ctx, said, kind, Some(name));
    }
    ctx.session.note_listens();
    if let Some(elsewhere) = &ctx.node.elsewhere {
        // Another client may have been first, and the others may not have heard of that yet.
        let heard = elsewhere.tell(changes);
        ctx.after = After::Later(Box::pin(async move {
            heard.await;
            BytesMut::new()
        }));
    }
    Ok(())
}

fn leave(ctx: &mut Ctx<'_>, args: Args<'_>, (said, kind): (&str, Kind)) -> Outcome {
    let names: Vec<Bytes> = if args.len() > 1 {
        args.from(1).map(Bytes::copy_from_slice).collect()
    } else {
        ctx.session.listens.names(kind)
    };
    let mut changes = Vec::new();
    let mut left = Vec::new();
    for name in names {
        let here = (&*ctx.node.listeners, ctx.session.client.id);
        changes.extend(ctx.session.listens.remove(here, kind, &name));
        left.push((name, ctx.session.listens.count(kind)));
    }
    // What has come by now comes before.
    take_messages(ctx);
    if left.is_empty() {
        confirm(ctx, said, kind, None);
    }
    for (name, count) in left {
        confirm_count(ctx, said, Some(&name), count);
    }
    ctx.session.note_listens();
    tell(ctx.node, changes);
    Ok(())
}

/// Puts the messages that wait before a reply; not within the array that a transaction replies.
pub(super) fn take_messages(ctx: &mut Ctx<'_>) {
    let inbox = ctx.session.listens.inbox();
    if let Some(inbox) =
        inbox.filter(|_| !ctx.session.executing && ctx.session.reply_mode == ReplyMode::On)
    {
        inbox.take(ctx.reply.buffer(), usize::MAX);
    }
}

/// A connection has gone.
pub fn gone(node: &Node, session: &mut Session) {
    node.listeners.tracked().lose(session.client.id);
    end(node, session);
}

/// A connection listens to nothing any more, and is tracked no more.
pub(super) fn end(node: &Node, session: &mut Session) {
    tracking::end(node, session);
    let here = (&*node.listeners, session.client.id);
    let changes = session.listens.end(here);
    session.note_listens();
    tell(node, changes);
}

/// The other members are told; nobody waits for it.
fn tell(node: &Node, changes: Vec<Listening>) {
    if let Some(elsewhere) = node.elsewhere.as_ref().filter(|_| !changes.is_empty()) {
        drop(elsewhere.tell(changes));
    }
}

fn publish(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    send(ctx, false, (args.at(1), args.at(2)))
}

fn spublish(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    send(ctx, true, (args.at(1), args.at(2)))
}

/// Replies how many clients a message has come to; in a script those of this node.
fn send(ctx: &mut Ctx<'_>, sharded: bool, (channel, text): (&[u8], &[u8])) -> Outcome {
    let node = ctx.node;
    let here = node.listeners.deliver(sharded, channel, text);
    let elsewhere = node.elsewhere.as_ref();
    let others = elsewhere.and_then(|others| others.publish(sharded, channel, text));
    match others {
        Some(others) if !ctx.session.in_script => {
            ctx.after = After::Later(Box::pin(async move {
                let mut reply = Reply::default();
                reply.integer((here + others.await) as i64);
                std::mem::take(reply.buffer())
            }));
        }
        _ => ctx.reply.integer(here as i64),
    }
    Ok(())
}

fn names(node: &Node, kind: Kind) -> BTreeSet<Bytes> {
    let mut names: BTreeSet<Bytes> = node.listeners.names(kind).into_iter().collect();
    if let Some(elsewhere) = &node.elsewhere {
        names.extend(elsewhere.names(kind));
    }
    names
}

fn list(ctx: &mut Ctx<'_>, args: Args<'_>, kind: Kind) -> Outcome {
    if args.len() > 3 {
        return Err(unknown(args));
    }
    let mut names = names(ctx.node, kind);
    if let Some(pattern) = args.get(2) {
        names.retain(|name| glob::matches(pattern, name));
    }
    let names: Vec<Bytes> = names.into_iter().collect();
    ctx.reply.bulks(&names);
    Ok(())
}

/// Redis's words where PUBSUB has too many of them.
fn unknown(args: Args<'_>) -> Error {
    Error::WrongWords(args.text(1), "PUBSUB".into())
}

fn channels(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    list(ctx, args, Kind::Channel)
}

fn shardchannels(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    list(ctx, args, Kind::Shard)
}

fn numpat(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let count = names(ctx.node, Kind::Pattern).len();
    ctx.reply.integer(count as i64);
    Ok(())
}

fn numsub(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    count(ctx, args, Kind::Channel)
}

fn shardnumsub(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    count(ctx, args, Kind::Shard)
}

fn count(ctx: &mut Ctx<'_>, args: Args<'_>, kind: Kind) -> Outcome {
    let asked: Vec<Bytes> = args.from(2).map(Bytes::copy_from_slice).collect();
    let mut counts = ctx.node.listeners.counts(kind, &asked);
    let write = move |counts: &[u64], reply: &mut Reply| {
        reply.array(2 * asked.len());
        for (name, count) in asked.iter().zip(counts) {
            reply.bulk(name);
            reply.integer(*count as i64);
        }
    };
    if ctx.node.elsewhere.is_none() || ctx.session.in_script || args.len() == 2 {
        write(&counts, ctx.reply);
        return Ok(());
    }
    let news = News::Count {
        sharded: kind == Kind::Shard,
        channels: args.from(2).map(Bytes::copy_from_slice).collect(),
    };
    let node = Arc::clone(ctx.node);
    ctx.after = After::Later(Box::pin(async move {
        for (_, said) in node.tell(news).await {
            if let Response::Counts(there) = said {
                let pairs = counts.iter_mut().zip(there);
                pairs.for_each(|(count, there)| *count += there);
            }
        }
        let mut reply = Reply::default();
        write(&counts, &mut reply);
        std::mem::take(reply.buffer())
    }));
    Ok(())
}

fn help(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.bulks(&[
        "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CHANNELS [<pattern>]",
        "    The channels that somebody listens to, on any node.",
        "NUMPAT",
        "    How many patterns somebody listens to.",
        "NUMSUB [<channel> ...]",
        "    How many clients listen to channels, patterns aside.",
        "SHARDCHANNELS [<pattern>]",
        "    The shard channels that somebody listens to.",
        "SHARDNUMSUB [<shardchannel> ...]",
        "    How many clients listen to shard channels.",
        "HELP",
        "    Prints this help.",
    ]);
    Ok(())
}
