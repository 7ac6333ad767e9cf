//! The connection itself: protocol, identity, database, and CLIENT.

use std::sync::atomic::Ordering;

use super::{client, pubsub};
use crate::command::context::After;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{LF, OPEN, Row, cmd};
use crate::command::session::ReplyMode;
use crate::command::spec::{Flags, Hides};
use crate::coordinator::Asked;
use crate::error::Error;
use crate::resp::Protocol;
use crate::routing::args::Args;
use crate::status::REDIS_VERSION;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "asking",
        1,
        Flags::FAST,
        &[],
        "cluster",
        ok,
        "Accepted: every node takes every command.",
    ),
    cmd(
        "auth",
        -2,
        OPEN,
        &[],
        "connection",
        auth,
        "Proves who the client is.",
    )
    .hides(Hides::Words),
    cmd(
        "echo",
        2,
        LF,
        &[],
        "connection",
        echo,
        "Replies its argument.",
    ),
    cmd(
        "hello",
        -1,
        OPEN,
        &[],
        "connection",
        hello,
        "Chooses the protocol.",
    )
    .hides(Hides::Auths),
    cmd(
        "ping",
        -1,
        LF.and(Flags::WHILE_SUBSCRIBED),
        &[],
        "connection",
        ping,
        "Replies PONG.",
    ),
    cmd(
        "quit",
        -1,
        OPEN.and(Flags::IN_TRANSACTION).and(Flags::WHILE_SUBSCRIBED),
        &[],
        "connection",
        quit,
        "Closes the connection.",
    ),
    cmd(
        "readonly",
        1,
        LF,
        &[],
        "cluster",
        ok,
        "Accepted: every node takes reads.",
    ),
    cmd(
        "readwrite",
        1,
        LF,
        &[],
        "cluster",
        ok,
        "Accepted: every node takes writes.",
    ),
    cmd(
        "reset",
        1,
        OPEN.and(Flags::IN_TRANSACTION).and(Flags::WHILE_SUBSCRIBED),
        &[],
        "connection",
        reset,
        "Makes the connection like new.",
    ),
    cmd(
        "select",
        2,
        LF,
        &[],
        "connection",
        select,
        "Chooses the database.",
    ),
];

pub(super) fn ok(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.ok();
    Ok(())
}

pub(super) fn ping(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let is_confined = ctx.session.listens.is_confined();
    if is_confined && ctx.reply.protocol() == Protocol::Resp2 && args.len() <= 2 {
        ctx.reply.bulks(&[b"pong", args.get(1).unwrap_or_default()]);
        return Ok(());
    }
    match args.len() {
        1 => ctx.reply.simple("PONG"),
        2 => ctx.reply.bulk(args.at(1)),
        _ => return Err(Error::Arity("ping".into())),
    }
    Ok(())
}

pub(super) fn echo(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    ctx.reply.bulk(args.at(1));
    Ok(())
}

pub(super) fn quit(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.ok();
    ctx.after = After::Close;
    Ok(())
}

pub(super) fn reset(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.session.transaction = None;
    ctx.session.watches.clear();
    ctx.session.select(0);
    ctx.session.reply_mode = ReplyMode::On;
    pubsub::end(ctx.node, ctx.session);
    ctx.session.quorum = Asked::default();
    ctx.after = After::EndMonitor;
    ctx.session.authenticated = ctx.node.config.text("requirepass").is_empty();
    ctx.session.client.names.lock().name.clear();
    speak(ctx, Protocol::Resp2);
    ctx.reply.simple("RESET");
    Ok(())
}

pub(super) fn select(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let db = args.database(1)?;
    ctx.session.select(db);
    ctx.reply.ok();
    Ok(())
}

pub(super) fn auth(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    match args.len() {
        2 if ctx.node.config.text("requirepass").is_empty() => {
            return Err(Error::text(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        2 => authenticate(ctx, b"default", args.at(1))?,
        3 => authenticate(ctx, args.at(1), args.at(2))?,
        _ => return Err(Error::Syntax),
    }
    ctx.reply.ok();
    Ok(())
}

fn authenticate(ctx: &mut Ctx<'_>, user: &[u8], password: &[u8]) -> Outcome {
    let wanted = ctx.node.config.text("requirepass");
    // Hashes compare in constant time.
    let same = blake3::hash(password) == blake3::hash(wanted.as_bytes());
    if user != b"default" || !(same || wanted.is_empty()) {
        return Err(Error::WrongPass);
    }
    ctx.session.authenticated = true;
    Ok(())
}

pub(super) fn hello(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut protocol = None;
    if args.len() > 1 {
        let version = args
            .integer(1)
            .map_err(|_| Error::text("ERR Protocol version is not an integer or out of range"))?;
        protocol = Some(match version {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(Error::NoProto),
        });
    }
    let (mut credentials, mut name) = (None, None);
    let mut nth = 2;
    while nth < args.len() {
        let left = args.len() - nth - 1;
        if args.is(nth, "AUTH") && left >= 2 {
            credentials = Some((args.at(nth + 1), args.at(nth + 2)));
            nth += 3;
        } else if args.is(nth, "SETNAME") && left >= 1 {
            name = Some(client::checked_name(args.at(nth + 1))?);
            nth += 2;
        } else {
            let text = format!("ERR Syntax error in HELLO option '{}'", args.text(nth));
            return Err(Error::Text(text.into()));
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(ctx, user, password)?;
    }
    if !ctx.session.authenticated {
        return Err(Error::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        ctx.session.client.names.lock().name = name;
    }
    if let Some(protocol) = protocol {
        speak(ctx, protocol);
    }
    greet(ctx);
    Ok(())
}

fn speak(ctx: &mut Ctx<'_>, protocol: Protocol) {
    // What has come by now was written for the protocol before.
    pubsub::take_messages(ctx);
    let number = if protocol == Protocol::Resp3 { 3 } else { 2 };
    ctx.session.client.protocol.store(number, Ordering::Relaxed);
    ctx.reply.set_protocol(protocol);
    if let Some(inbox) = ctx.session.listens.inbox() {
        inbox.set_protocol(protocol);
    }
}

fn greet(ctx: &mut Ctx<'_>) {
    let protocol = i64::from(ctx.session.client.protocol.load(Ordering::Relaxed));
    let reply = &mut *ctx.reply;
    reply.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    for (name, value) in [("proto", protocol), ("id", ctx.session.client.id as i64)] {
        reply.bulk(name.as_bytes());
        reply.integer(value);
    }
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}
