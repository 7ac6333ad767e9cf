//! The connection itself: protocol, identity, database, and CLIENT.

use std::sync::atomic::Ordering;

use super::docs;
use crate::base::clock;
use crate::command::context::After;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{AL, L, LF, NL, NLF, OPEN, OWN, Row, cmd, sub};
use crate::command::session::{Client, ReplyMode};
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
        "client",
        -2,
        NL,
        &[],
        "connection",
        docs::help,
        "Connections.",
    ),
    sub(
        "client",
        "getname",
        2,
        NL,
        client_getname,
        "The connection's name.",
    ),
    sub("client", "help", 2, L, docs::help, "This text."),
    sub("client", "id", 2, NL, client_id, "The connection's number."),
    sub("client", "info", 2, NL, client_info, "This connection."),
    sub("client", "kill", -3, AL, client_kill, "Closes connections."),
    sub("client", "list", -2, AL, client_list, "All connections."),
    sub(
        "client",
        "no-evict",
        3,
        AL,
        client_switch,
        "Accepted: clients are not evicted.",
    ),
    sub(
        "client",
        "no-touch",
        3,
        NL,
        client_switch,
        "Accepted: reads do not touch.",
    ),
    sub(
        "client",
        "pause",
        -3,
        AL,
        client_pause,
        "Makes commands wait.",
    ),
    sub(
        "client",
        "quorum",
        -2,
        NLF.and(OWN),
        client_quorum,
        "This connection's quorum: CLIENT QUORUM [R n] [W n].",
    ),
    sub(
        "client",
        "reply",
        3,
        NL,
        client_reply,
        "Whether the client wants replies.",
    ),
    sub(
        "client",
        "setinfo",
        4,
        NL,
        client_setinfo,
        "The client library's name and version.",
    ),
    sub(
        "client",
        "setname",
        3,
        NL,
        client_setname,
        "Names the connection.",
    ),
    sub(
        "client",
        "trackinginfo",
        2,
        NL,
        client_trackinginfo,
        "Tracking, which is off.",
    ),
    sub(
        "client",
        "unpause",
        2,
        AL,
        client_unpause,
        "Lets commands go on.",
    ),
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
    cmd("ping", -1, LF, &[], "connection", ping, "Replies PONG."),
    cmd(
        "quit",
        -1,
        OPEN.and(Flags::IN_TRANSACTION),
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
        OPEN.and(Flags::IN_TRANSACTION),
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
            name = Some(checked_name(args.at(nth + 1))?);
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
    let number = if protocol == Protocol::Resp3 { 3 } else { 2 };
    ctx.session.client.protocol.store(number, Ordering::Relaxed);
    ctx.reply.set_protocol(protocol);
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

pub(super) fn client_id(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.integer(ctx.session.client.id as i64);
    Ok(())
}

pub(super) fn client_getname(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let name = ctx.session.client.names.lock().name.clone();
    ctx.reply
        .bulk_or_null((!name.is_empty()).then_some(name.as_bytes()));
    Ok(())
}

pub(super) fn client_setname(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    ctx.session.client.names.lock().name = checked_name(args.at(2))?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn client_setinfo(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let value = checked_name(args.at(3)).map_err(|_| {
        Error::text(
            "ERR lib-name and lib-ver cannot contain spaces, newlines or special characters.",
        )
    })?;
    let mut names = ctx.session.client.names.lock();
    match () {
        () if args.is(2, "LIB-NAME") => names.library = value,
        () if args.is(2, "LIB-VER") => names.library_version = value,
        () => {
            let text = format!("ERR Unrecognized option '{}'", args.text(2));
            return Err(Error::Text(text.into()));
        }
    }
    drop(names);
    ctx.reply.ok();
    Ok(())
}

fn checked_name(raw: &[u8]) -> Result<String, Error> {
    if raw.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Ok(String::from_utf8_lossy(raw).into_owned());
    }
    Err(Error::text(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

pub(super) fn client_info(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let line = ctx.session.client.line(ctx.node.specs, Some(ctx.session));
    ctx.reply.verbatim(&(line + "\n"));
    Ok(())
}

pub(super) fn client_list(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut wanted: Option<Vec<u64>> = None;
    if args.len() > 2 {
        if args.len() == 4 && args.is(2, "TYPE") {
            match () {
                () if args.is(3, "normal") => {}
                () if ["master", "replica", "slave", "pubsub"]
                    .iter()
                    .any(|t| args.is(3, t)) =>
                {
                    wanted = Some(Vec::new());
                }
                () => {
                    let text = format!("ERR Unknown client type '{}'", args.text(3));
                    return Err(Error::Text(text.into()));
                }
            }
        } else if args.len() > 3 && args.is(2, "ID") {
            let ids: Result<Vec<u64>, Error> = (3..args.len())
                .map(|nth| {
                    let id = args.integer(nth).ok().and_then(|id| u64::try_from(id).ok());
                    id.filter(|&id| id > 0)
                        .ok_or(Error::text("ERR Invalid client ID"))
                })
                .collect();
            wanted = Some(ids?);
        } else {
            return Err(Error::Syntax);
        }
    }
    let mut text = String::new();
    for client in ctx.node.clients.all() {
        if wanted.as_ref().is_none_or(|ids| ids.contains(&client.id)) {
            let own = (client.id == ctx.session.client.id).then_some(&*ctx.session);
            text.push_str(&client.line(ctx.node.specs, own));
            text.push('\n');
        }
    }
    ctx.reply.verbatim(&text);
    Ok(())
}

pub(super) fn client_kill(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let own = ctx.session.client.id;
    if args.len() == 3 {
        let address = args.text(2);
        let found = ctx.node.clients.all();
        let found = found.iter().find(|c| c.address.to_string() == address);
        let client = found.ok_or(Error::text("ERR No such client"))?;
        close(ctx, client, own);
        ctx.reply.ok();
        return Ok(());
    }
    if args.len() % 2 == 1 {
        return Err(Error::Syntax);
    }
    let mut filters: Vec<Box<dyn Fn(&Client) -> bool>> = Vec::new();
    let mut skip_me = true;
    for nth in (2..args.len()).step_by(2) {
        let value = args.text(nth + 1);
        match () {
            () if args.is(nth, "ID") => {
                let id = value.parse::<u64>().ok().filter(|&id| id > 0);
                let id = id.ok_or(Error::text("ERR client-id should be greater than 0"))?;
                filters.push(Box::new(move |c| c.id == id));
            }
            () if args.is(nth, "ADDR") => {
                filters.push(Box::new(move |c| c.address.to_string() == value));
            }
            () if args.is(nth, "LADDR") => {
                filters.push(Box::new(move |c| c.local.to_string() == value));
            }
            () if args.is(nth, "USER") => {
                if value != "default" {
                    let text = format!("ERR No such user '{value}'");
                    return Err(Error::Text(text.into()));
                }
            }
            () if args.is(nth, "TYPE") => {
                let normal = value.eq_ignore_ascii_case("normal");
                let known = ["master", "replica", "slave", "pubsub"];
                if !normal && !known.iter().any(|t| t.eq_ignore_ascii_case(&value)) {
                    let text = format!("ERR Unknown client type '{value}'");
                    return Err(Error::Text(text.into()));
                }
                filters.push(Box::new(move |_| normal));
            }
            () if args.is(nth, "SKIPME") && value.eq_ignore_ascii_case("yes") => skip_me = true,
            () if args.is(nth, "SKIPME") && value.eq_ignore_ascii_case("no") => skip_me = false,
            () => return Err(Error::Syntax),
        }
    }
    let mut killed = 0;
    for client in ctx.node.clients.all() {
        if filters.iter().all(|f| f(&client)) && !(skip_me && client.id == own) {
            close(ctx, &client, own);
            killed += 1;
        }
    }
    ctx.reply.integer(killed);
    Ok(())
}

fn close(ctx: &mut Ctx<'_>, client: &Client, own: u64) {
    if client.id == own {
        ctx.after = After::Close;
    } else {
        client.kill();
    }
}

pub(super) fn client_pause(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let all = match args.len() {
        3 => true,
        4 if args.is(3, "ALL") => true,
        4 if args.is(3, "WRITE") => false,
        4 => {
            return Err(Error::text("ERR CLIENT PAUSE mode must be WRITE or ALL"));
        }
        _ => return Err(Error::Syntax),
    };
    let timeout = args
        .integer(2)
        .map_err(|_| Error::text("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| Error::text("ERR timeout is negative"))?;
    ctx.node
        .pause
        .begin(clock::now_ms().saturating_add(timeout), all);
    ctx.reply.ok();
    Ok(())
}

/// CLIENT QUORUM [R n] [W n]: this connection's; without arguments what holds for each key again.
pub(super) fn client_quorum(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let Some(coordinator) = &ctx.node.site.coordinator else {
        return Err(Error::text(
            "ERR This instance has cluster support disabled",
        ));
    };
    let mut quorum = Asked::default();
    let n = i64::from(coordinator.cluster().options().rules.default().n);
    for nth in (2..args.len()).step_by(2) {
        let count = args.integer(nth + 1)?;
        let count = u8::try_from(count)
            .ok()
            .filter(|c| (1..=n).contains(&i64::from(*c)));
        let count = count.ok_or(Error::text(
            "ERR a quorum is between 1 and replicas-per-key",
        ))?;
        match () {
            () if args.is(nth, "R") => quorum.r = Some(count),
            () if args.is(nth, "W") => quorum.w = Some(count),
            () => return Err(Error::Syntax),
        }
    }
    ctx.session.quorum = quorum;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn client_unpause(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.node.pause.end();
    ctx.reply.ok();
    Ok(())
}

pub(super) fn client_reply(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    match () {
        () if args.is(2, "ON") => {
            ctx.session.reply_mode = ReplyMode::On;
            ctx.reply.ok();
        }
        () if args.is(2, "OFF") => ctx.session.reply_mode = ReplyMode::Off,
        () if args.is(2, "SKIP") => {
            if ctx.session.reply_mode != ReplyMode::Off {
                ctx.session.reply_mode = ReplyMode::SkipNext;
            }
        }
        () => return Err(Error::Syntax),
    }
    Ok(())
}

pub(super) fn client_switch(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if !args.is(2, "ON") && !args.is(2, "OFF") {
        return Err(Error::Syntax);
    }
    ctx.reply.ok();
    Ok(())
}

pub(super) fn client_trackinginfo(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.map(3);
    ctx.reply.bulk(b"flags");
    ctx.reply.set(1);
    ctx.reply.bulk(b"off");
    ctx.reply.bulk(b"redirect");
    ctx.reply.integer(-1);
    ctx.reply.bulk(b"prefixes");
    ctx.reply.array(0);
    Ok(())
}
