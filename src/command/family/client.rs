//! CLIENT: what a connection says of itself, and what an operator does with connections.

use super::docs;
use crate::base::clock;
use crate::command::context::{After, Ctx, Outcome};
use crate::command::row::{AL, L, NL, NLF, OWN, Row, cmd, sub};
use crate::command::session::{Client, ReplyMode};
use crate::command::spec::Specs;
use crate::coordinator::Asked;
use crate::error::Error;
use crate::pubsub::Tracked;
use crate::routing::args::Args;
use crate::routing::block::Unblocked;

/// The rows of this family.
pub const ROWS: &[Row] = &[
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
        getname,
        "The connection's name.",
    )
    .of("connection"),
    sub("client", "help", 2, L, docs::help, "This text.").of("connection"),
    sub("client", "id", 2, NL, id, "The connection's number.").of("connection"),
    sub("client", "info", 2, NL, info, "This connection.").of("connection"),
    sub("client", "kill", -3, AL, kill, "Closes connections.").of("connection"),
    sub("client", "list", -2, AL, list, "All connections.").of("connection"),
    sub(
        "client",
        "no-evict",
        3,
        AL,
        switch,
        "Accepted: clients are not evicted.",
    )
    .of("connection"),
    sub(
        "client",
        "no-touch",
        3,
        NL,
        switch,
        "Accepted: reads do not touch.",
    )
    .of("connection"),
    sub("client", "pause", -3, AL, pause, "Makes commands wait.").of("connection"),
    sub(
        "client",
        "quorum",
        -2,
        NLF.and(OWN),
        quorum,
        "This connection's quorum: CLIENT QUORUM [R n] [W n].",
    )
    .of("connection"),
    sub(
        "client",
        "reply",
        3,
        NL,
        reply,
        "Whether the client wants replies.",
    )
    .of("connection"),
    sub(
        "client",
        "setinfo",
        4,
        NL,
        setinfo,
        "The client library's name and version.",
    )
    .of("connection"),
    sub("client", "setname", 3, NL, setname, "Names the connection.").of("connection"),
    sub(
        "client",
        "unblock",
        -3,
        AL,
        unblock,
        "Has a client that waits go on.",
    )
    .of("connection"),
    sub("client", "unpause", 2, AL, unpause, "Lets commands go on.").of("connection"),
];

fn id(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.integer(ctx.session.client.id as i64);
    Ok(())
}

fn getname(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let name = ctx.session.client.names.lock().name.clone();
    ctx.reply
        .bulk_or_null((!name.is_empty()).then_some(name.as_bytes()));
    Ok(())
}

fn setname(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    ctx.session.client.names.lock().name = checked_name(args.at(2))?;
    ctx.reply.ok();
    Ok(())
}

fn setinfo(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
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

pub(super) fn checked_name(raw: &[u8]) -> Result<String, Error> {
    if raw.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Ok(String::from_utf8_lossy(raw).into_owned());
    }
    Err(Error::text(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

/// What the line of a connection is made of beside it.
fn shown_by<'a>(ctx: &Ctx<'a>) -> (&'a Specs, &'a Tracked) {
    let node = ctx.node;
    (node.specs, node.listeners.tracked())
}

/// Bytes of a command as clients send it.
fn sent_len(args: Args<'_>) -> usize {
    let of = |len: usize| len.to_string().len() + 3;
    let words = args.from(0).map(|word| of(word.len()) + word.len() + 2);
    of(args.len()) + words.sum::<usize>()
}

fn info(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let own = Some((&*ctx.session, sent_len(args)));
    let line = ctx.session.client.line(shown_by(ctx), own);
    ctx.reply.verbatim(&(line + "\n"));
    Ok(())
}

fn list(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut wanted: Option<Vec<u64>> = None;
    let mut is_of_type: fn(&Client) -> bool = |_| true;
    if args.len() > 2 {
        if args.len() == 4 && args.is(2, "TYPE") {
            match () {
                () if args.is(3, "normal") => is_of_type = |client| !client.is_listening(),
                () if args.is(3, "pubsub") => is_of_type = Client::is_listening,
                () if ["master", "replica", "slave"].iter().any(|t| args.is(3, t)) => {
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
        if wanted.as_ref().is_none_or(|ids| ids.contains(&client.id)) && is_of_type(&client) {
            let is_own = client.id == ctx.session.client.id;
            let own = is_own.then(|| (&*ctx.session, sent_len(args)));
            text.push_str(&client.line(shown_by(ctx), own));
            text.push('\n');
        }
    }
    ctx.reply.verbatim(&text);
    Ok(())
}

fn kill(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
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
                let pubsub = value.eq_ignore_ascii_case("pubsub");
                filters.push(Box::new(move |client| {
                    if client.is_listening() {
                        pubsub
                    } else {
                        normal
                    }
                }));
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

fn pause(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
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
fn quorum(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
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

fn unpause(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.node.pause.end();
    ctx.reply.ok();
    Ok(())
}

fn unblock(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let how = match () {
        () if args.len() == 3 || args.len() == 4 && args.is(3, "TIMEOUT") => Unblocked::TimedOut,
        () if args.len() == 4 && args.is(3, "ERROR") => Unblocked::Error,
        () => {
            return Err(Error::text(
                "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
            ));
        }
    };
    let id = args.integer(2)?;
    let clients = ctx.node.clients.all();
    let client = clients.iter().find(|client| client.id as i64 == id);
    let was_blocked = client.is_some_and(|client| client.unblock(how));
    ctx.reply.integer(i64::from(was_blocked));
    Ok(())
}

fn reply(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
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

fn switch(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if !args.is(2, "ON") && !args.is(2, "OFF") {
        return Err(Error::Syntax);
    }
    ctx.reply.ok();
    Ok(())
}
