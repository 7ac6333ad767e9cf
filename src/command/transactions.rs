//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC runs with every other command on its keys kept out of this node. WATCH remembers what it saw (context,
//! and whether the key was there) and EXEC compares.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use super::args::{Args, OwnedArgs};
use super::distributed::{self, Later, Who};
use super::error::Error;
use super::table::{self, Spec};
use super::{After, Ctx, Node, Outcome};
use crate::base::clock;
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

    /// What was queued.
    pub(super) fn commands(&self) -> impl Iterator<Item = (&'static Spec, &OwnedArgs)> + Clone {
        self.queue.iter().map(|(spec, words)| (*spec, words))
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
    seen: Seen,
}

enum Seen {
    /// Its object on a lone node.
    Here {
        context: Context,
        /// Set when the key was not there.
        absence: Option<Arc<Absence>>,
    },
    /// What its coordinator said of it; the reply comes after WATCH has returned.
    InCluster(Arc<OnceLock<BytesMut>>),
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

/// The gate keeps out who touches one of its keys.
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
    ctx.session.executing = true;
    let mut after = After::Nothing;
    for (spec, args) in transaction.queue {
        super::run(ctx, spec, args.as_args());
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
    for key in args.from(1) {
        let db = ctx.session.db;
        // Since it was watched first.
        if !ctx.session.watches.iter().any(|watch| watch.is_of(db, key)) {
            let watch = Watch::now(ctx, db, key)?;
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

/// The command that says what a watched key is compared by.
pub(super) fn what_is_seen(key: &[u8]) -> (&'static Spec, OwnedArgs) {
    (siblings_spec(), ask_for(key))
}

/// What a watched key is compared by: SIBLINGS says the context, and whether there is a value.
fn ask_for(key: &[u8]) -> OwnedArgs {
    let mut words = OwnedArgs::default();
    words.push(b"siblings");
    words.push(key);
    words
}

fn siblings_spec() -> &'static Spec {
    table::by_name("siblings").expect("the table has SIBLINGS")
}

/// WATCH in a cluster: asks each key's coordinator.
pub(super) fn watch_in_cluster(ctx: &mut Ctx<'_>, who: Who, args: Args<'_>) -> Later {
    let node = Arc::clone(ctx.node);
    if ctx.session.transaction.is_some() {
        let error = Error::text("ERR WATCH inside MULTI is not allowed");
        return Box::pin(async move { distributed::error_reply(&who, &error) });
    }
    let mut asked = Vec::new();
    for key in args.from(1) {
        if ctx
            .session
            .watches
            .iter()
            .any(|watch| watch.is_of(who.db, key))
        {
            continue;
        }
        let seen = Arc::new(OnceLock::new());
        ctx.session.watches.push(Watch {
            db: who.db,
            key: key.to_vec(),
            seen: Seen::InCluster(Arc::clone(&seen)),
        });
        let later = distributed::begin(
            Arc::clone(&node),
            who.clone(),
            siblings_spec(),
            ask_for(key),
        );
        asked.push((seen, later));
    }
    Box::pin(async move {
        for (seen, later) in asked {
            let said = later.await;
            if said.first() == Some(&b'-') {
                return said;
            }
            let _ = seen.set(said);
        }
        BytesMut::from(&b"+OK\r\n"[..])
    })
}

/// A transaction that runs in a cluster: each command at its coordinator, one after the other.
pub struct Exec {
    watches: Vec<Watch>,
    who: Who,
    /// The commands, as they were queued.
    pub steps: Vec<(&'static Spec, OwnedArgs)>,
}

impl Exec {
    /// EXEC's. `None`: what a lone node says will do.
    pub(super) fn of(ctx: &mut Ctx<'_>, who: Who) -> Option<Self> {
        if ctx.session.transaction.as_ref()?.failed {
            return None;
        }
        Some(Self {
            who,
            steps: ctx.session.transaction.take()?.queue,
            watches: std::mem::take(&mut ctx.session.watches),
        })
    }

    /// Its commands in one go, where that is possible: nothing comes between them, nor between them and
    /// the look at the watched keys.
    pub fn as_one(&self, node: &Arc<Node>) -> Option<Later> {
        let seen = |watch: &Watch| match &watch.seen {
            Seen::InCluster(seen) if watch.db == self.who.db => {
                let seen = Bytes::copy_from_slice(seen.get()?);
                Some((Bytes::copy_from_slice(&watch.key), seen))
            }
            _ => None,
        };
        let watches: Option<Vec<_>> = self.watches.iter().map(seen).collect();
        distributed::as_one(node, &self.who, &self.steps, watches?)
    }

    /// Whether no watched key has changed.
    pub async fn may_run(&mut self, node: &Arc<Node>) -> bool {
        for watch in std::mem::take(&mut self.watches) {
            if !watch.still_holds(node, self.who.clone()).await {
                return false;
            }
        }
        true
    }
}

impl Watch {
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    fn is_of(&self, db: u8, key: &[u8]) -> bool {
        self.db == db && self.key == key
    }

    async fn still_holds(&self, node: &Arc<Node>, who: Who) -> bool {
        let Seen::InCluster(seen) = &self.seen else {
            return false;
        };
        let who = Who { db: self.db, ..who };
        let now = distributed::begin(Arc::clone(node), who, siblings_spec(), ask_for(&self.key));
        let now = now.await;
        now.first() != Some(&b'-') && seen.get() == Some(&now)
    }

    fn now(ctx: &Ctx<'_>, db: u8, key: &[u8]) -> Result<Self, Error> {
        let is_there = |object: &Object| string::shown(object, clock::now_ms()).is_some();
        let (object, absence) = ctx.node.replica.watch(ctx.key(db, key)?, is_there)?;
        Ok(Self {
            db,
            key: key.to_vec(),
            seen: Seen::Here {
                context: object.context().clone(),
                absence,
            },
        })
    }

    fn holds(&self, ctx: &Ctx<'_>) -> Result<bool, Error> {
        let Seen::Here { context, absence } = &self.seen else {
            return Ok(false);
        };
        let object = ctx.object_in(self.db, &self.key)?;
        let is_there = string::shown(&object, clock::now_ms()).is_some();
        Ok(match absence {
            Some(absence) => !is_there && !absence.is_over(),
            None => is_there && object.context() == context,
        })
    }
}
