//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC runs with every other command on its keys kept out of this node. WATCH remembers what it saw (context,
//! and whether the key was there) and EXEC compares.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;

use crate::base::clock;
use crate::command::context::{After, Ctx, Outcome};
use crate::command::queue::{Seen, Transaction, Watch};
use crate::command::row::{NL, NLF, R, Row, TX, cmd};
use crate::command::spec::{Flags, keys};
use crate::error::Error;
use crate::logic::causal::Object;
use crate::logic::types;
use crate::replica::Reach;
use crate::routing;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "discard",
        1,
        TX,
        &[],
        "transactions",
        discard,
        "Forgets the queued commands.",
    ),
    cmd(
        "exec",
        1,
        NL.and(Flags::IN_TRANSACTION).and(Flags::RUNS_QUEUE),
        &[],
        "transactions",
        exec,
        "Runs the queued commands.",
    ),
    cmd(
        "multi",
        1,
        TX,
        &[],
        "transactions",
        multi,
        "Queues the commands that follow.",
    ),
    cmd(
        "unwatch",
        1,
        NLF.and(Flags::ALLOW_BUSY),
        &[],
        "transactions",
        unwatch,
        "Forgets the watched keys.",
    ),
    cmd(
        "watch",
        -2,
        TX.and(R),
        keys::META_ALL,
        "transactions",
        watch,
        "EXEC does nothing if one of the keys changes.",
    )
    .stays(),
];

pub(super) fn multi(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    if ctx.session.transaction.is_some() {
        return Err(Error::text("ERR MULTI calls can not be nested"));
    }
    ctx.session.transaction = Some(Transaction::default());
    ctx.reply.ok();
    Ok(())
}

pub(super) fn discard(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    if ctx.session.transaction.take().is_none() {
        return Err(Error::text("ERR DISCARD without MULTI"));
    }
    ctx.session.watches.clear();
    ctx.reply.ok();
    Ok(())
}

/// The gate keeps out who touches one of its keys.
pub(super) fn exec(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let Some(transaction) = ctx.session.transaction.take() else {
        return Err(Error::text("ERR EXEC without MULTI"));
    };
    let watches = std::mem::take(&mut ctx.session.watches);
    if transaction.has_failed() {
        return Err(Error::ExecAbort);
    }
    for watch in &watches {
        if !holds(ctx, watch)? {
            ctx.reply.null_array();
            return Ok(());
        }
    }
    let queue = transaction.into_commands();
    ctx.reply.array(queue.len());
    ctx.session.executing = true;
    let mut after = After::Nothing;
    for (spec, args) in queue {
        ctx.run(spec, args.as_args());
        after = after.and(std::mem::take(&mut ctx.after));
    }
    ctx.session.executing = false;
    ctx.after = after;
    Ok(())
}

pub(super) fn watch(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if ctx.session.transaction.is_some() {
        return Err(Error::text("ERR WATCH inside MULTI is not allowed"));
    }
    if ctx.is_in_cluster() {
        return watch_in_cluster(ctx, args);
    }
    for key in args.from(1) {
        let db = ctx.session.db;
        // Since it was watched first.
        if !ctx.session.watches.iter().any(|watch| watch.is_of(db, key)) {
            let watch = seen_here(ctx, db, key)?;
            ctx.session.watches.push(watch);
        }
    }
    ctx.reply.ok();
    Ok(())
}

pub(super) fn unwatch(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.session.watches.clear();
    ctx.reply.ok();
    Ok(())
}

/// WATCH in a cluster: asks each key's coordinator.
fn watch_in_cluster(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (runner, who) = (ctx.runner(), ctx.who());
    for key in args.from(1) {
        ctx.key(who.db, key)?;
    }
    let mut asked = Vec::new();
    for key in args.from(1) {
        let watches = &mut ctx.session.watches;
        if watches.iter().any(|watch| watch.is_of(who.db, key)) {
            continue;
        }
        let seen = Arc::new(OnceLock::new());
        watches.push(Watch::new(who.db, key, Seen::InCluster(Arc::clone(&seen))));
        let later = routing::begin(&runner, who.clone(), runner.look_at(key));
        asked.push((seen, later));
    }
    ctx.after = After::Later(Box::pin(async move {
        for (seen, later) in asked {
            let said = later.await;
            if said.first() == Some(&b'-') {
                return said;
            }
            let _ = seen.set(said);
        }
        BytesMut::from(&b"+OK\r\n"[..])
    }));
    Ok(())
}

fn is_there(object: &Object) -> bool {
    types::is_present(object, clock::now_ms())
}

/// A key of this node as it is.
fn seen_here(ctx: &Ctx<'_>, db: u8, key: &[u8]) -> Result<Watch, Error> {
    let (object, absence) = ctx.node.replica.watch(ctx.key(db, key)?, is_there)?;
    let seen = Seen::Here {
        context: object.context().clone(),
        absence,
    };
    Ok(Watch::new(db, key, seen))
}

/// Whether a key of this node is what it was.
fn holds(ctx: &Ctx<'_>, watch: &Watch) -> Result<bool, Error> {
    let Seen::Here { context, absence } = watch.seen() else {
        return Ok(false);
    };
    let object = ctx.some_in(watch.db(), watch.key(), Reach::Head)?;
    let is_there = is_there(&object);
    Ok(match absence {
        Some(absence) => !is_there && !absence.is_over(),
        None => is_there && object.context() == context,
    })
}
