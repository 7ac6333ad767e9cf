//! The node as operators and tools see it: directives, durability, logs, stopping.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::docs;
use crate::base::clock;
use crate::base::config::ConfigError;
use crate::command::context::After;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{ADMIN, AL, L, LF, NLF, NO_MULTI, Row, cmd, sub};
use crate::command::spec::{Flags, Hides};
use crate::error::Error;
use crate::logic::glob;
use crate::resp::Reply;
use crate::routing::args::Args;
use crate::routing::wait::{self, Wanted};
use crate::storage::AppendFsync;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "wait",
        3,
        Flags::NOSCRIPT,
        &[],
        "generic",
        wait,
        "How many replicas have this connection's writes.",
    ),
    cmd(
        "waitaof",
        4,
        Flags::NOSCRIPT,
        &[],
        "generic",
        waitaof,
        "How many nodes have this connection's writes on disk.",
    ),
    cmd(
        "bgrewriteaof",
        1,
        ADMIN,
        &[],
        "server",
        bgrewriteaof,
        "Accepted: the journal is trimmed all the time.",
    ),
    cmd(
        "bgsave",
        -1,
        ADMIN,
        &[],
        "server",
        bgsave,
        "Makes everything durable.",
    ),
    cmd("config", -2, AL, &[], "server", docs::help, "Directives."),
    sub(
        "config",
        "get",
        -3,
        AL,
        config_get,
        "The values of directives.",
    ),
    sub("config", "help", 2, L, docs::help, "This text."),
    sub(
        "config",
        "resetstat",
        2,
        AL,
        config_resetstat,
        "Sets the statistics to zero.",
    ),
    sub(
        "config",
        "rewrite",
        2,
        AL,
        config_rewrite,
        "Writes changed directives into the file.",
    ),
    sub("config", "set", -4, AL, config_set, "Changes directives.").hides(Hides::Directives),
    cmd("debug", -2, AL, &[], "server", docs::help, "For tests."),
    sub("debug", "help", 2, L, docs::help, "This text."),
    sub(
        "debug",
        "sleep",
        3,
        AL,
        debug_sleep,
        "Makes this connection wait.",
    ),
    cmd(
        "lastsave",
        1,
        LF,
        &[],
        "server",
        lastsave,
        "When everything was last made durable by SAVE.",
    ),
    cmd(
        "monitor",
        1,
        AL,
        &[],
        "server",
        monitor,
        "Shows every command as it runs.",
    ),
    cmd(
        "role",
        1,
        NLF,
        &[],
        "server",
        role,
        "The role, which is always master.",
    ),
    cmd(
        "save",
        1,
        ADMIN.and(NO_MULTI),
        &[],
        "server",
        save,
        "Makes everything durable.",
    ),
    cmd(
        "shutdown",
        -1,
        AL.and(NO_MULTI).and(Flags::ALLOW_BUSY),
        &[],
        "server",
        shutdown,
        "Stops the node.",
    ),
    cmd(
        "slowlog",
        -2,
        AL,
        &[],
        "server",
        docs::help,
        "The slow log.",
    ),
    sub(
        "slowlog",
        "get",
        -2,
        Flags::ADMIN.and(L),
        slowlog_get,
        "The latest entries.",
    ),
    sub("slowlog", "help", 2, L, docs::help, "This text."),
    sub(
        "slowlog",
        "len",
        2,
        Flags::ADMIN.and(L),
        slowlog_len,
        "How many entries there are.",
    ),
    sub(
        "slowlog",
        "reset",
        2,
        Flags::ADMIN.and(L),
        slowlog_reset,
        "Forgets the entries.",
    ),
    cmd("time", 1, LF, &[], "server", time, "The time of day."),
];

const MAX_SLEEP_SECS: f64 = 3_600.0;

pub(super) fn config_get(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let patterns: Vec<Vec<u8>> = args.from(2).map(<[u8]>::to_ascii_lowercase).collect();
    let wanted = |name: &str| patterns.iter().any(|p| glob::matches(p, name.as_bytes()));
    let found = ctx.node.config.matching(wanted);
    ctx.reply.map(found.len());
    for (name, value) in found {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.bulk(value.as_bytes());
    }
    Ok(())
}

pub(super) fn config_set(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() % 2 == 1 {
        return Err(Error::Arity("config|set".into()));
    }
    let changes: Vec<(String, String)> = (2..args.len())
        .step_by(2)
        .map(|nth| (args.text(nth), args.text(nth + 1)))
        .collect();
    for (name, value) in &changes {
        let wanted: Option<i64> = value.parse().ok();
        if name.eq_ignore_ascii_case("maxclients")
            && wanted.is_some_and(|n| n > ctx.node.most_clients)
        {
            let text = format!(
                "ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating \
                 system is not able to handle the specified number of clients, try with {}",
                ctx.node.most_clients
            );
            return Err(Error::Text(text.into()));
        }
    }
    ctx.node
        .config
        .set(&changes)
        .map_err(|error| config_error(&error))?;
    ctx.node.slowlog.configure(&ctx.node.config);
    ctx.node.latency.configure(&ctx.node.config);
    ctx.node
        .eviction
        .configure(&ctx.node.config, &ctx.node.replica);
    (ctx.node.follow)(&ctx.node.config);
    ctx.reply.ok();
    Ok(())
}

fn config_error(error: &ConfigError) -> Error {
    let text = match error {
        ConfigError::Unknown(name) => {
            format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
        }
        ConfigError::Value { name, expected, .. } => {
            format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {expected}")
        }
        ConfigError::Immutable(name) => format!(
            "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config"
        ),
        other => format!("ERR {other}"),
    };
    Error::Text(text.into())
}

/// The directive's value for the store.
pub fn appendfsync(text: &str) -> AppendFsync {
    match text {
        "always" => AppendFsync::Always,
        "no" => AppendFsync::No,
        _ => AppendFsync::EverySec,
    }
}

pub(super) fn config_resetstat(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.node.stats.reset();
    ctx.node.timings.reset();
    ctx.reply.ok();
    Ok(())
}

pub(super) fn config_rewrite(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.node
        .config
        .rewrite()
        .map_err(|error| Error::Text(format!("ERR {error}").into()))?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn time(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let now_us = clock::now_us();
    ctx.reply.array(2);
    ctx.reply.bulk((now_us / 1_000_000).to_string().as_bytes());
    ctx.reply.bulk((now_us % 1_000_000).to_string().as_bytes());
    Ok(())
}

pub(super) fn lastsave(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply
        .integer(ctx.node.last_save.load(Ordering::Relaxed) as i64);
    Ok(())
}

pub(super) fn save(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    make_durable(ctx)?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn bgsave(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 2 || (args.len() == 2 && !args.is(1, "SCHEDULE")) {
        return Err(Error::Syntax);
    }
    make_durable(ctx)?;
    ctx.reply.simple("Background saving started");
    Ok(())
}

fn make_durable(ctx: &Ctx<'_>) -> Outcome {
    ctx.over_keys(|replica| Ok(replica.store().sync()?))?;
    ctx.node
        .last_save
        .store(clock::now_ms() / 1_000, Ordering::Relaxed);
    Ok(())
}

pub(super) fn bgrewriteaof(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply
        .simple("Background append only file rewriting started");
    Ok(())
}

pub(super) fn role(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.array(3);
    ctx.reply.bulk(b"master");
    ctx.reply.integer(0);
    ctx.reply.array(0);
    Ok(())
}

pub(super) fn shutdown(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let known = ["NOSAVE", "SAVE", "NOW", "FORCE", "ABORT"];
    if (1..args.len()).any(|nth| !known.iter().any(|word| args.is(nth, word))) {
        return Err(Error::Syntax);
    }
    let has = |word| (1..args.len()).any(|nth| args.is(nth, word));
    let stops = ["NOSAVE", "SAVE", "NOW", "FORCE"].into_iter().any(has);
    if has("ABORT") && stops || has("SAVE") && has("NOSAVE") {
        return Err(Error::Syntax);
    }
    if has("ABORT") {
        return Err(Error::text("ERR No shutdown in progress."));
    }
    tracing::info!(client = %ctx.session.client.address, "SHUTDOWN received");
    if has("NOW") {
        ctx.node.stop();
    } else {
        ctx.node.ask_to_stop();
    }
    ctx.after = After::Close;
    Ok(())
}

/// A lone node has no replicas: the number of others that have the write is 0, at once.
pub(super) fn wait(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let wanted = wait_wanted(args)?;
    if !wait_in_cluster(ctx, wanted) {
        ctx.reply.integer(0);
    }
    Ok(())
}

pub(super) fn waitaof(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let wanted = waitaof_wanted(args)?;
    if wait_in_cluster(ctx, wanted) {
        return Ok(());
    }
    if wanted.on_disk == Some(0) {
        reply_to_waitaof(ctx.reply, false);
    } else if ctx.session.executing {
        // Nothing waits in a transaction; what it has written itself is not on the disk yet.
        let store = ctx.node.replica.store();
        let latest = ctx.session.latest.iter().enumerate();
        let mut latest = latest.map(|(shard, ticket)| store.progress(shard).synced() >= *ticket);
        let is_synced = ctx.written.is_empty() && latest.all(|synced| synced);
        reply_to_waitaof(ctx.reply, is_synced);
    } else {
        ctx.after = After::AwaitSync(wanted.timeout);
    }
    Ok(())
}

/// WAITAOF's reply on a lone node.
pub fn reply_to_waitaof(reply: &mut Reply, synced: bool) {
    reply.array(2);
    reply.integer(i64::from(synced));
    reply.integer(0);
}

fn wait_in_cluster(ctx: &mut Ctx<'_>, mut wanted: Wanted) -> bool {
    if ctx.node.site.coordinator.is_none() {
        return false;
    }
    if ctx.session.executing {
        wanted.timeout = Some(Duration::ZERO);
    }
    let client = Arc::clone(&ctx.session.client);
    ctx.after = After::Waiting(wait::begin(
        &ctx.runner(),
        ctx.who(),
        move || client.is_killed(),
        wanted,
    ));
    true
}

fn wait_wanted(args: Args<'_>) -> Result<Wanted, Error> {
    Ok(Wanted {
        replicas: args.integer(1)?.max(0) as u64,
        on_disk: None,
        timeout: timeout(args, 2)?,
    })
}

fn waitaof_wanted(args: Args<'_>) -> Result<Wanted, Error> {
    let local = args.integer(1)?;
    let replicas = args.integer(2)?.max(0) as u64;
    let timeout = timeout(args, 3)?;
    if !(0..=1).contains(&local) {
        return Err(Error::text(
            "ERR value is out of range, must be between 0 and 1",
        ));
    }
    Ok(Wanted {
        replicas,
        on_disk: Some(local as u64),
        timeout,
    })
}

fn timeout(args: Args<'_>, nth: usize) -> Result<Option<Duration>, Error> {
    let ms = args
        .integer(nth)
        .map_err(|_| Error::text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Error::text("ERR timeout is negative"))?;
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

pub(super) fn debug_sleep(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let secs: f64 = args.text(2).parse().map_err(|_| Error::NotFloat)?;
    if !(0.0..=MAX_SLEEP_SECS).contains(&secs) {
        return Err(Error::NotFloat);
    }
    ctx.after = After::Sleep(Duration::from_secs_f64(secs));
    ctx.reply.ok();
    Ok(())
}

pub(super) fn monitor(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    if ctx.session.executing {
        return Err(Error::text(
            "ERR MONITOR isn't allowed for DENY BLOCKING client",
        ));
    }
    ctx.after = After::Monitor;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn slowlog_get(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let count = match args.len() {
        2 => 10,
        3 => match args.integer(2)? {
            -1 => usize::MAX,
            n => usize::try_from(n)
                .map_err(|_| Error::text("ERR count should be greater than or equal to -1"))?,
        },
        _ => return Err(Error::Arity("slowlog|get".into())),
    };
    let entries = ctx.node.slowlog.latest(count);
    ctx.reply.array(entries.len());
    for entry in entries {
        ctx.reply.array(6);
        for number in [entry.id, entry.at_secs, entry.took_us] {
            ctx.reply.integer(number as i64);
        }
        ctx.reply.bulks(&entry.words);
        ctx.reply.bulk(entry.address.as_bytes());
        ctx.reply.bulk(entry.name.as_bytes());
    }
    Ok(())
}

pub(super) fn slowlog_len(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.integer(ctx.node.slowlog.len() as i64);
    Ok(())
}

pub(super) fn slowlog_reset(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.node.slowlog.reset();
    ctx.reply.ok();
    Ok(())
}
