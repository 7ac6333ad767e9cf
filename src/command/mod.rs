//! Commands: from words to changes of objects, and from results to replies.
//!
//! Reading order: `table` (THE table), this file (how one command runs), then a file a family.
//! A handler runs to its end without waiting; what it has to wait for (its commits, a sleep) it
//! leaves in [`Ctx`], and the connection waits before the reply leaves.

pub mod args;
mod causal;
mod cluster;
mod connection;
mod converge;
mod distributed;
mod docs;
pub mod error;
mod everywhere;
mod expiry;
mod float;
mod gate;
mod info;
mod keys;
mod lanes;
mod latency;
mod meet;
mod monitor;
mod node;
mod operator;
pub mod own;
mod peer;
mod plan;
mod secrets;
mod server;
mod session;
mod snapshot;
mod strings;
mod table;
mod timing;
mod transactions;
mod transfers;
mod wait;

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

pub use causal::ContextSeal;
pub use distributed::{Later, UnderWay};
pub use gate::Wanted;
pub use lanes::Turns;
pub use monitor::Feed;
pub use node::{Node, NodeOptions, Pause};
pub use peer::PeerHandler;
pub use server::{appendfsync, reply_to_waitaof};
pub use session::{Client, Clients, ReplyMode, Session};
pub use table::{Flags, Spec, all as all_commands};
pub use timing::Timed;
pub use transactions::{Exec, Transaction};

use crate::base::clock;
use crate::convergence::{is_simulated, off_worker};
use crate::coordinator::QuorumError;
use crate::logic::causal::Object;
use crate::logic::types::conflict::{self, OnConflict};
use crate::logic::types::string::{self, Change, Shown};
use crate::replica::{Key, Replica, ReplicaError, Uncommitted, Written};
use crate::resp::Reply;
use crate::storage::keys::MAX_KEY_LEN;
use args::Args;
use error::Error;
use timing::Times;

/// A command of more words (for EXEC: of more commands) may take its time.
const MANY_WORDS: usize = 256;

/// A handler's end: the reply is written, or it is this error.
pub type Outcome = Result<(), Error>;

/// What the connection does after a command.
#[derive(Default)]
pub enum After {
    /// Goes on.
    #[default]
    Nothing,
    /// Sends the reply and closes.
    Close,
    /// Closes without a word: a browser may have been made to send this.
    Cut,
    /// Waits, then goes on.
    Sleep(Duration),
    /// Waits until this connection's writes are on the disk, at most so long, then replies
    /// `[fsynced here, replicas]`.
    AwaitSync(Option<Duration>),
    /// Becomes a monitor.
    Monitor,
    /// Is a monitor no more.
    EndMonitor,
    /// The reply is the future's; later commands may begin before it is there.
    Later(Later),
    /// The reply is the future's, which may take long: not longer than the client is there.
    Waiting(Later),
    /// Runs a transaction's commands with [`step`], each to its end.
    Exec(Exec),
    /// Has not begun: waits for its turns, and begins with [`resume`].
    Held(&'static Spec, Wanted),
}

impl After {
    /// What comes after two commands of a transaction.
    fn and(self, next: Self) -> Self {
        match (self, next) {
            (After::Cut, _) | (_, After::Cut) => After::Cut,
            (After::Close, _) | (_, After::Close) => After::Close,
            (After::Sleep(first), After::Sleep(second)) => After::Sleep(first + second),
            (first, After::Nothing) => first,
            (_, next) => next,
        }
    }
}

/// What a handler works with.
pub struct Ctx<'a> {
    /// The node.
    pub node: &'a Arc<Node>,
    /// The connection's state.
    pub session: &'a mut Session,
    /// Where the reply goes.
    pub reply: &'a mut Reply,
    /// Writes whose commit the reply waits for.
    pub written: &'a mut Vec<Written>,
    /// What comes after the reply.
    pub after: After,
    /// Its turns, as long as it needs them.
    pub turns: Turns<'a>,
    /// When it arrived.
    pub arrived: Instant,
    /// When it began, if it had to wait.
    pub began: Option<Instant>,
    /// Its times, where its reply waits for something; counted when that is there.
    pub timed: Option<Timed>,
    /// Whether it is nobody's but another command's part, and counted with that.
    pub is_part: bool,
    /// Others' writes that it has read: the reply waits for their commit too.
    pub seen: RefCell<SmallVec<[Uncommitted; 1]>>,
}

impl<'a> Ctx<'a> {
    /// A command's.
    pub fn new(
        node: &'a Arc<Node>,
        session: &'a mut Session,
        reply: &'a mut Reply,
        written: &'a mut Vec<Written>,
        arrived: Instant,
    ) -> Self {
        Self {
            node,
            session,
            reply,
            written,
            after: After::Nothing,
            turns: Turns::new(),
            arrived,
            began: None,
            timed: None,
            is_part: false,
            seen: RefCell::default(),
        }
    }
}

impl Ctx<'_> {
    fn key<'k>(&self, db: u8, name: &'k [u8]) -> Result<Key<'k>, Error> {
        if name.len() > MAX_KEY_LEN {
            return Err(Error::KeyTooLong(name.len()));
        }
        Ok(Key {
            db: self.node.replica.database(db),
            name,
        })
    }

    /// The object of a key in the selected database.
    pub fn object(&self, name: &[u8]) -> Result<Arc<Object>, Error> {
        self.object_in(self.session.db, name)
    }

    /// The object of a key.
    pub fn object_in(&self, db: u8, name: &[u8]) -> Result<Arc<Object>, Error> {
        let key = self.key(db, name)?;
        let replica = &self.node.replica;
        loop {
            let failures = replica.failed_batches();
            let object = replica.read(key)?;
            self.note_read(key);
            // Else it may be what has just turned out not to be stored.
            if replica.failed_batches() == failures {
                return Ok(object);
            }
        }
    }

    /// What was read may not be committed yet.
    fn note_read(&self, key: Key<'_>) {
        if let Some(uncommitted) = self.node.replica.uncommitted(key) {
            self.seen.borrow_mut().push(uncommitted);
        }
    }

    /// What a key shows.
    pub fn shown(&self, name: &[u8]) -> Result<Option<Shown>, Error> {
        let (object, now_ms) = (self.object(name)?, clock::now_ms());
        Ok(string::shown(&self.viewed(name, &object, now_ms), now_ms))
    }

    /// A key's object as its policy shows it.
    pub fn viewed<'o>(&self, name: &[u8], object: &'o Object, now_ms: u64) -> Cow<'o, Object> {
        conflict::view(object, self.node.replica.policies().of(name), now_ms)
    }

    /// Reads, decides and writes one key.
    pub fn update<R>(
        &mut self,
        name: &[u8],
        decide: impl FnOnce(&Object, u64) -> (Change, R),
    ) -> Result<R, Error> {
        let key = self.key(self.session.db, name)?;
        let policy = self.node.replica.policies().of(name);
        let since = self.session.since;
        let mut is_refused = false;
        let decide = |object: &Object, now_ms| {
            let viewed = conflict::view(object, policy, now_ms);
            let (change, result) = decide(&viewed, now_ms);
            let change = match since {
                Some(since) => string::as_of(object, change, since).unwrap_or_else(|| {
                    is_refused = true;
                    Change::Keep
                }),
                None => change,
            };
            (change, result)
        };
        let (result, written) = self.node.replica.update(key, decide)?;
        if is_refused {
            return Err(QuorumError::CoordinatorLost.into());
        }
        if written.is_none() {
            self.note_read(key);
        }
        self.written.extend(written);
        Ok(result)
    }

    /// Reads, decides and writes two keys.
    pub fn update_two<R>(
        &mut self,
        first: (u8, &[u8]),
        second: (u8, &[u8]),
        decide: impl FnOnce(&Object, &Object, u64) -> ([Change; 2], R),
    ) -> Result<R, Error> {
        let (first, second) = (self.key(first.0, first.1)?, self.key(second.0, second.1)?);
        let policy = |key: Key<'_>| self.node.replica.policies().of(key.name);
        let policies = (policy(first), policy(second));
        let decide = |a: &Object, b: &Object, now_ms| {
            let a = conflict::view(a, policies.0, now_ms);
            let b = conflict::view(b, policies.1, now_ms);
            decide(&a, &b, now_ms)
        };
        match self.node.replica.update_two(first, second, decide) {
            Ok((result, written)) => {
                for (key, written) in [first, second].into_iter().zip(written) {
                    match written {
                        Some(written) => self.written.push(written),
                        None => self.note_read(key),
                    }
                }
                Ok(result)
            }
            Err(ReplicaError::Half(written)) => {
                self.written.push(*written);
                Err(QuorumError::Partly.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes one value over everything seen.
    pub fn put(&mut self, name: &[u8], bytes: &[u8], expires_at_ms: Option<u64>) -> Outcome {
        let bytes = Bytes::copy_from_slice(bytes);
        self.update(name, |_, _| (strings::put(bytes, expires_at_ms), ()))
    }

    /// Reads over many keys: sees every write ordered so far, and may take its time.
    pub fn over_keys<R>(
        &self,
        read: impl FnOnce(&Replica) -> Result<R, ReplicaError>,
    ) -> Result<R, Error> {
        let replica = &self.node.replica;
        let read = || {
            replica.settle();
            read(replica)
        };
        Ok(at_length(read)?)
    }

    /// The longest string.
    pub fn max_string(&self) -> usize {
        self.node.config.max_bulk_len() as usize
    }

    /// Counts a read for INFO.
    pub fn count_lookup(&self, hit: bool) {
        let stats = &self.node.stats;
        let counter = if hit {
            &stats.keyspace_hits
        } else {
            &stats.keyspace_misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs one command as a client sent it: looks it up, checks it, queues or runs it.
pub fn execute(ctx: &mut Ctx<'_>, args: Args<'_>) {
    if args.is(0, "POST") || args.is(0, "Host:") {
        // Not even what came before is answered.
        ctx.node.warn_of_attack(&ctx.session.client);
        ctx.after = After::Cut;
        return;
    }
    let Some(spec) = table::find(args) else {
        ctx.session.fail_transaction();
        let error = unknown(args);
        return reject(ctx, &error);
    };
    if let Err(error) = admit(ctx, spec, args) {
        if spec.name == "exec" {
            ctx.session.transaction = None;
            ctx.session.watches.clear();
            return reject(ctx, &error.discarding());
        }
        ctx.session.fail_transaction();
        return reject(ctx, &error);
    }
    if ctx.session.transaction.is_some() && !spec.has(Flags::IN_TRANSACTION) {
        if let Some(transaction) = &mut ctx.session.transaction {
            transaction.push(spec, args);
        }
        return ctx.reply.simple("QUEUED");
    }
    if !spec.has(Flags::NO_MONITOR) && !spec.has(Flags::ADMIN) {
        ctx.node.monitors.show(ctx.session, spec, args);
    }
    step(ctx, spec, args);
}

/// Runs an admitted command: here and now, or it is left in `ctx.after`.
pub fn step(ctx: &mut Ctx<'_>, spec: &'static Spec, args: Args<'_>) {
    let node = Arc::clone(ctx.node);
    if let Some(coordinator) = &node.coordinator {
        let who = distributed::Who::of(ctx);
        if spec.name == "exec"
            && let Some(exec) = Exec::of(ctx, who)
        {
            ctx.timed = Some(Timed::now(ctx, spec, args, false));
            ctx.after = After::Exec(exec);
            return;
        }
        if let Some(later) = distributed::start(ctx, coordinator, spec, args) {
            ctx.session.client.touch(spec);
            ctx.timed = Some(Timed::now(ctx, spec, args, false));
            ctx.after = After::Later(later);
            return;
        }
    }
    run_gated(ctx, spec, args);
}

/// Whether a command has to wait for the replies of those before it, and those after it for it: it
/// looks at more than its own keys, at keys of several coordinators from one place, or it writes what
/// is being read.
pub fn is_barrier(node: &Node, session: &Session, args: Args<'_>) -> bool {
    let Some(spec) = table::find(args) else {
        return true;
    };
    spec.keys.0 == 0
        || spec.parent == "ringwood"
        || spec.name == "watch"
        || distributed::waits_for_others(node, session, spec, args)
}

/// Runs an admitted command here once the others are kept out as far as it needs.
fn run_gated(ctx: &mut Ctx<'_>, spec: &'static Spec, args: Args<'_>) {
    let node = ctx.node;
    let wanted = node.gate.wanted(ctx.session, spec, args);
    let may_begin = !wanted.is_for_all || node.replica.is_counted();
    match may_begin.then(|| node.gate.at_once(&wanted)).flatten() {
        Some(turns) => enter(ctx, spec, args, turns),
        None => ctx.after = After::Held(spec, wanted),
    }
}

/// Waits until a command has its turns and may begin.
pub async fn turns<'a>(node: &'a Arc<Node>, wanted: &Wanted) -> Turns<'a> {
    if wanted.is_for_all {
        // Who empties everything has to know who has written; nobody waits for that behind the gate.
        let counting = Arc::clone(node);
        off_worker(move || counting.replica.finish_counting()).await;
    }
    node.gate.enter(wanted).await
}

/// Runs a command that has waited for its turns.
pub fn resume<'a>(ctx: &mut Ctx<'a>, spec: &'static Spec, args: Args<'_>, turns: Turns<'a>) {
    ctx.began = Some(clock::monotonic());
    enter(ctx, spec, args, turns);
}

fn enter<'a>(ctx: &mut Ctx<'a>, spec: &'static Spec, args: Args<'_>, turns: Turns<'a>) {
    let node = ctx.node;
    let gathering = (!turns.is_empty() && is_one(ctx, spec)).then(|| {
        let queue = ctx.session.transaction.as_ref();
        let queue = queue.filter(|_| spec.name == "exec").into_iter();
        let queued = queue.flat_map(Transaction::commands);
        let queued = queued.flat_map(|(spec, words)| gate::keys_of(spec, words.as_args()));
        node.replica.gather(gate::keys_of(spec, args).chain(queued))
    });
    ctx.turns = turns;
    run(ctx, spec, args);
    drop(gathering);
    ctx.turns.clear();
}

/// Whether what a command writes is one batch of each shard: not where it may wait for a commit itself.
fn is_one(ctx: &Ctx<'_>, spec: &Spec) -> bool {
    let on_keys = |spec: &Spec| spec.keys.0 != 0 && spec.parent != "ringwood";
    match &ctx.session.transaction {
        Some(queue) if spec.name == "exec" => {
            let writes = |(spec, _): (&Spec, _)| spec.has(Flags::WRITE);
            queue.commands().all(|(spec, _)| on_keys(spec)) && queue.commands().any(writes)
        }
        _ => on_keys(spec) && spec.has(Flags::WRITE) && spec.keys.1 != spec.keys.0,
    }
}

/// Does what may take its time, without others of this thread waiting for it.
fn at_length<R>(does: impl FnOnce() -> R) -> R {
    if is_simulated() {
        return does();
    }
    tokio::task::block_in_place(does)
}

/// Runs a command that was admitted, and keeps its statistics.
fn run(ctx: &mut Ctx<'_>, spec: &'static Spec, args: Args<'_>) {
    let started = if ctx.session.executing {
        clock::monotonic()
    } else {
        ctx.began.unwrap_or(ctx.arrived)
    };
    let queued = ctx.session.transaction.as_ref();
    let words = args.len() + queued.map_or(0, |queue| queue.commands().count());
    let mut handle = || refuse_conflicts(ctx, spec, args).and_then(|()| (spec.handler)(ctx, args));
    let outcome = if words > MANY_WORDS {
        at_length(handle)
    } else {
        handle()
    };
    let failed = outcome.is_err();
    if let Err(error) = outcome {
        ctx.node.stats.count_error(&error);
        ctx.reply.error(&error.to_string());
    }
    record(ctx, spec, args, started, failed);
}

/// Where siblings are an error, a command that shows a value or depends on it meets it.
fn refuse_conflicts(ctx: &Ctx<'_>, spec: &'static Spec, args: Args<'_>) -> Outcome {
    let policies = ctx.node.replica.policies();
    if !policies.has(OnConflict::Error) || !spec.shows_values() {
        return Ok(());
    }
    for name in spec
        .key_positions(args.len())
        .into_iter()
        .filter_map(|at| args.get(at))
    {
        if policies.of(name) == OnConflict::Error {
            let siblings = string::siblings(&*ctx.object(name)?, clock::now_ms()).len();
            if siblings > 1 {
                return Err(Error::Conflict(siblings));
            }
        }
    }
    Ok(())
}

/// Counts a command, or leaves that for when its reply is there.
fn record(ctx: &mut Ctx<'_>, spec: &'static Spec, args: Args<'_>, started: Instant, failed: bool) {
    if ctx.is_part {
        return;
    }
    ctx.session.client.touch(spec);
    if ctx.session.executing {
        let now = clock::monotonic();
        let times = Times {
            arrived: started,
            began: started,
            ran: now,
            replied: now,
        };
        return count(ctx, times, spec, args, failed);
    }
    if ctx.written.is_empty() && ctx.seen.get_mut().is_empty() {
        let now = clock::monotonic();
        let times = Times {
            arrived: ctx.arrived,
            began: started,
            ran: now,
            replied: now,
        };
        return count(ctx, times, spec, args, failed);
    }
    ctx.timed = Some(Timed::now(ctx, spec, args, failed));
}

fn count(ctx: &mut Ctx<'_>, times: Times, spec: &'static Spec, args: Args<'_>, failed: bool) {
    if times.record(ctx.node, ctx.session, spec, failed) {
        times.note_slow(ctx.node, ctx.session, (spec, args));
    }
}

fn admit(ctx: &Ctx<'_>, spec: &Spec, args: Args<'_>) -> Outcome {
    if !arity_fits(spec, args) {
        return Err(Error::Arity(spec.full_name().into()));
    }
    if !ctx.session.authenticated && !spec.has(Flags::NO_AUTH) {
        return Err(Error::NoAuth);
    }
    if ctx.session.transaction.is_some() && spec.has(Flags::NO_MULTI) {
        return Err(Error::text("ERR Command not allowed inside a transaction"));
    }
    Ok(())
}

fn arity_fits(spec: &Spec, args: Args<'_>) -> bool {
    let len = args.len() as i64;
    if spec.arity >= 0 {
        len == i64::from(spec.arity)
    } else {
        len >= -i64::from(spec.arity)
    }
}

fn reject(ctx: &mut Ctx<'_>, error: &Error) {
    ctx.node.stats.count_error(error);
    ctx.reply.error(&error.to_string());
}

fn unknown(args: Args<'_>) -> Error {
    match table::container(args) {
        Some(container) if args.len() > 1 => Error::UnknownSubcommand(
            args.text(1).chars().take(128).collect(),
            container.name.to_ascii_uppercase(),
        ),
        Some(container) => Error::Arity(container.name.into()),
        None => Error::unknown_command(args.from(0)),
    }
}

/// Whether a command may change keys, for CLIENT PAUSE WRITE.
pub fn may_write(session: &Session, args: Args<'_>) -> bool {
    let executes = args.is(0, "exec") && session.transaction.is_some();
    executes || table::find(args).is_some_and(|spec| spec.has(Flags::WRITE))
}
