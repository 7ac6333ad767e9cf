//! Commands over the whole key space: SCAN and KEYS, DBSIZE, RANDOMKEY, FLUSHALL and its like.

use std::future::Future;
use std::sync::Arc;

use crate::base::blocking::at_length;
use crate::base::clock;
use crate::command::context::{After, Ctx, Outcome};
use crate::command::row::{OWN, R, RF, Row, W, WF, cmd};
use crate::command::tracking;
use crate::error::Error;
use crate::logic::glob;
use crate::logic::types;
use crate::replica::{Found, Key, Reach, Replica, ReplicaError};
use crate::resp::{Listing, Reply};
use crate::routing::args::Args;
use crate::routing::{self, All};

/// Keys asked for at a time, where all are wanted.
const KEYS_PAGE: usize = 4_096;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "keys",
        2,
        R,
        &[],
        "generic",
        keys,
        "All keys that match a pattern.",
    )
    .everywhere(),
    cmd("randomkey", 1, R, &[], "generic", randomkey, "Some key.").everywhere(),
    cmd("scan", -2, R, &[], "generic", scan, "A page of the keys.").everywhere(),
    cmd(
        "conflicts",
        -2,
        R.and(OWN),
        &[],
        "causal",
        conflicts,
        "A page of the keys that have siblings: CONFLICTS cursor [MATCH p] [COUNT n].",
    )
    .everywhere(),
    cmd(
        "dbsize",
        1,
        RF,
        &[],
        "server",
        dbsize,
        "How many keys the database has.",
    )
    .everywhere(),
    cmd(
        "flushall",
        -1,
        W,
        &[],
        "server",
        flushall,
        "Empties all databases.",
    )
    .everywhere(),
    cmd(
        "flushdb",
        -1,
        W,
        &[],
        "server",
        flushdb,
        "Empties the database.",
    )
    .everywhere(),
    cmd(
        "swapdb",
        3,
        WF,
        &[],
        "server",
        swapdb,
        "Exchanges two databases.",
    )
    .nowhere(),
];

/// Asks all members of the cluster.
fn over_all<F, R>(ctx: &mut Ctx<'_>, empties: bool, run: F) -> Outcome
where
    F: Fn(All, Reply) -> R + Send + 'static,
    R: Future<Output = Result<Reply, Error>> + Send + 'static,
{
    let later = routing::over_all(&ctx.runner(), ctx.who(), empties, run);
    ctx.after = After::Later(later);
    Ok(())
}

pub(super) fn randomkey(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    if ctx.is_in_cluster() {
        return over_all(ctx, false, async |all, mut reply| {
            reply.bulk_or_null(all.random().await?.as_deref());
            Ok(reply)
        });
    }
    let db = ctx.node.replica.database(ctx.session.db);
    let key = ctx.over_keys(|replica| replica.random_key(db))?;
    ctx.reply.bulk_or_null(key.as_deref());
    Ok(())
}

pub(super) fn dbsize(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    if ctx.is_in_cluster() {
        return over_all(ctx, false, async |all, mut reply| {
            reply.integer(all.size().await? as i64);
            Ok(reply)
        });
    }
    let db = ctx.node.replica.database(ctx.session.db);
    let replica = &ctx.node.replica;
    let keys = if replica.is_counted() {
        replica.live_keys_so_far(db)
    } else {
        ctx.over_keys(|replica| Ok(replica.live_keys(db)))?
    };
    ctx.reply.integer(keys as i64);
    Ok(())
}

pub(super) fn keys(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if ctx.is_in_cluster() {
        let pattern = args.at(1).to_vec();
        return over_all(ctx, false, move |all, mut reply| {
            let pattern = pattern.clone();
            async move {
                reply.list(matching(&all, &pattern).await?);
                Ok(reply)
            }
        });
    }
    let db = ctx.node.replica.database(ctx.session.db);
    let pattern = args.at(1);
    let mut listed = Listing::default();
    ctx.over_keys(|replica| {
        let mut cursor = 0;
        loop {
            let found = replica.scan(db, cursor, KEYS_PAGE)?;
            let wanted = found.keys.iter().filter(|key| glob::matches(pattern, key));
            wanted.for_each(|key| listed.bulk(key));
            cursor = found.cursor;
            if cursor == 0 {
                return Ok(());
            }
        }
    })?;
    ctx.reply.list(listed);
    Ok(())
}

async fn matching(all: &All, pattern: &[u8]) -> Result<Listing, Error> {
    let (mut listed, mut cursor) = (Listing::default(), 0);
    loop {
        let found = all.page(cursor, KEYS_PAGE, false).await?;
        let wanted = found.keys.iter().filter(|key| glob::matches(pattern, key));
        wanted.for_each(|key| listed.bulk(key));
        cursor = found.cursor;
        if cursor == 0 {
            return Ok(listed);
        }
    }
}

/// The options that SCAN and CONFLICTS share.
#[derive(Clone)]
struct ScanOptions {
    cursor: u64,
    count: usize,
    pattern: Option<Vec<u8>>,
    kind: Option<Vec<u8>>,
    conflicts: bool,
}

impl ScanOptions {
    fn parse(args: Args<'_>, conflicts: bool) -> Result<Self, Error> {
        let cursor = std::str::from_utf8(args.at(1))
            .ok()
            .and_then(|text| text.parse().ok());
        let cursor = cursor.ok_or(Error::text("ERR invalid cursor"))?;
        let mut options = Self {
            cursor,
            count: 10,
            pattern: None,
            kind: None,
            conflicts,
        };
        let mut nth = 2;
        while nth < args.len() {
            if nth + 1 == args.len() {
                return Err(Error::Syntax);
            }
            match () {
                () if args.is(nth, "COUNT") => {
                    let count = args.integer(nth + 1)?;
                    options.count = usize::try_from(count)
                        .ok()
                        .filter(|&c| c > 0)
                        .ok_or(Error::Syntax)?;
                }
                () if args.is(nth, "MATCH") => options.pattern = Some(args.at(nth + 1).to_vec()),
                () if !conflicts && args.is(nth, "TYPE") => {
                    options.kind = Some(args.at(nth + 1).to_vec());
                }
                () => return Err(Error::Syntax),
            }
            nth += 2;
        }
        Ok(options)
    }

    fn matches(&self, key: &[u8]) -> bool {
        let pattern = self.pattern.as_deref();
        pattern.is_none_or(|pattern| glob::matches(pattern, key))
    }
}

pub(super) fn scan(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let options = ScanOptions::parse(args, false)?;
    page(ctx, options, Replica::scan)
}

pub(super) fn conflicts(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let options = ScanOptions::parse(args, true)?;
    page(ctx, options, Replica::conflicts)
}

fn page(
    ctx: &mut Ctx<'_>,
    options: ScanOptions,
    look: fn(&Replica, u8, u64, usize) -> Result<Found, ReplicaError>,
) -> Outcome {
    let ScanOptions {
        cursor,
        count,
        conflicts,
        ..
    } = options;
    if ctx.is_in_cluster() {
        return over_all(ctx, false, move |all, mut reply| {
            let options = options.clone();
            async move {
                let mut found = all.page(cursor, count, conflicts).await?;
                found.keys.retain(|key| options.matches(key));
                if let Some(kind) = &options.kind {
                    let is_of = [b"+", kind.to_ascii_lowercase().as_slice(), b"\r\n"].concat();
                    let kinds = all.of_each(b"type", &found.keys).await?;
                    let mut kinds = kinds.into_iter().map(|said| said == is_of);
                    found.keys.retain(|_| kinds.next().unwrap_or(false));
                }
                reply_page(&mut reply, &found);
                Ok(reply)
            }
        });
    }
    let db = ctx.node.replica.database(ctx.session.db);
    let mut reply = Reply::default();
    reply.set_protocol(ctx.reply.protocol());
    ctx.over_keys(|replica| {
        let mut found = look(replica, db, cursor, count)?;
        found.keys.retain(|key| options.matches(key));
        if let Some(kind) = &options.kind {
            let mut kept = Vec::new();
            for name in std::mem::take(&mut found.keys) {
                let object = replica.read_some(Key { db, name: &name }, Reach::Head)?;
                let shown = types::kind(&object, clock::now_ms()).map_or("none", types::name);
                if kind.eq_ignore_ascii_case(shown.as_bytes()) {
                    kept.push(name);
                }
            }
            found.keys = kept;
        }
        reply_page(&mut reply, &found);
        Ok(())
    })?;
    ctx.reply.buffer().extend_from_slice(reply.buffer());
    Ok(())
}

fn reply_page(reply: &mut Reply, found: &Found) {
    reply.array(2);
    reply.bulk(found.cursor.to_string().as_bytes());
    reply.bulks(&found.keys);
}

pub(super) fn flushdb(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    flush(ctx, args, Some(ctx.session.db))
}

pub(super) fn flushall(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    flush(ctx, args, None)
}

/// FLUSHALL and FLUSHDB take ASYNC or SYNC, which are the same here.
fn check_flush(args: Args<'_>) -> Outcome {
    let plain = args.len() == 1 || (args.len() == 2 && (args.is(1, "ASYNC") || args.is(1, "SYNC")));
    if plain { Ok(()) } else { Err(Error::Syntax) }
}

/// The gate keeps every other command out.
fn flush(ctx: &mut Ctx<'_>, args: Args<'_>, db: Option<u8>) -> Outcome {
    check_flush(args)?;
    if ctx.is_in_cluster() {
        let node = Arc::clone(ctx.node);
        return over_all(ctx, true, move |all, mut reply| {
            let node = Arc::clone(&node);
            async move {
                let flushed = all.flush(db).await;
                // Some may have, whatever came of it.
                tracking::tell_all(&node);
                flushed?;
                reply.ok();
                Ok(reply)
            }
        });
    }
    let stored = db.map(|db| ctx.node.replica.database(db));
    let replica = &ctx.node.replica;
    let written = at_length(|| replica.flush(stored))?;
    ctx.written.push(written);
    tracking::tell_all(ctx.node);
    ctx.reply.ok();
    Ok(())
}

pub(super) fn swapdb(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let index = |nth, error| match args.database(nth) {
        Err(Error::NotInteger) => Err(Error::text(error)),
        other => other,
    };
    let a = index(1, "ERR invalid first DB index")?;
    let b = index(2, "ERR invalid second DB index")?;
    if a != b {
        let written = ctx.node.replica.swap_databases(a, b)?;
        ctx.written.push(written);
        tracking::tell_all(ctx.node);
    }
    ctx.reply.ok();
    Ok(())
}
