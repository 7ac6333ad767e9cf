//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC runs with every other command of this node kept out. WATCH remembers what it saw (context,
//! and whether the key was there) and EXEC compares.

use std::sync::Arc;

use super::args::{Args, OwnedArgs};
use super::error::Error;
use super::table::Spec;
use super::{Ctx, Outcome};
use crate::clock;
use crate::logic::causal::{Context, Object};
use crate::logic::types::string;
use crate::replica::Absence;

/// Commands queued since MULTI.
#[derive(Default)]
pub struct Transaction {
    queue: Vec<(&'static Spec, OwnedArgs)>,
    bytes: usize,
    failed: bool,
}

impl Transaction {
    /// Queues a command.
    pub fn push(&mut self, spec: &'static Spec, args: Args<'_>) {
        let owned = args.to_owned();
        self.bytes += owned.bytes();
        self.queue.push((spec, owned));
    }

    /// Memory that the queue holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A command could not be queued: EXEC will refuse.
    pub fn fail(&mut self) {
        self.failed = true;
    }
}

/// A watched key as it was.
pub struct Watch {
    db: u8,
    key: Vec<u8>,
    context: Context,
    /// Set when the key was not there.
    absence: Option<Arc<Absence>>,
}

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

/// The table runs it with every other command kept out.
pub(super) fn exec(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let Some(transaction) = ctx.session.transaction.take() else {
        return Err(Error::text("ERR EXEC without MULTI"));
    };
    let watches = std::mem::take(&mut ctx.session.watches);
    if transaction.failed {
        return Err(Error::ExecAbort);
    }
    for watch in &watches {
        if !watch.holds(ctx)? {
            ctx.reply.null_array();
            return Ok(());
        }
    }
    ctx.reply.array(transaction.queue.len());
    for (spec, args) in transaction.queue {
        super::run(ctx, spec, args.as_args());
    }
    Ok(())
}

pub(super) fn watch(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if ctx.session.transaction.is_some() {
        return Err(Error::text("ERR WATCH inside MULTI is not allowed"));
    }
    for key in args.from(1) {
        let watch = Watch::now(ctx, ctx.session.db, key)?;
        ctx.session.watches.push(watch);
    }
    ctx.reply.ok();
    Ok(())
}

pub(super) fn unwatch(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.session.watches.clear();
    ctx.reply.ok();
    Ok(())
}

impl Watch {
    fn now(ctx: &Ctx<'_>, db: u8, key: &[u8]) -> Result<Self, Error> {
        let is_there = |object: &Object| string::shown(object, clock::now_ms()).is_some();
        let (object, absence) = ctx.node.replica.watch(ctx.key(db, key)?, is_there)?;
        Ok(Self {
            db,
            key: key.to_vec(),
            context: object.context().clone(),
            absence,
        })
    }

    fn holds(&self, ctx: &Ctx<'_>) -> Result<bool, Error> {
        let object = ctx.object_in(self.db, &self.key)?;
        let is_there = string::shown(&object, clock::now_ms()).is_some();
        Ok(match &self.absence {
            Some(absence) => !is_there && !absence.is_over(),
            None => is_there && *object.context() == self.context,
        })
    }
}
