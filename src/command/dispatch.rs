//! How one command runs: it is looked up, checked, queued, held until its turn, and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::{After, Ctx, Outcome, Run};
use super::exec::Exec;
use super::node::Node;
use super::notify;
use super::queue::{Transaction, Watch};
use super::scripts;
use super::session::Session;
use super::slowlog;
use super::spec::{Flags, Spec};
use super::table;
use super::timing::{Timed, Times};
use super::tracking;
use super::waiting;
use crate::base::blocking::{at_length, off_worker};
use crate::base::clock;
use crate::error::Error;
use crate::logic::policy::OnConflict;
use crate::logic::types::string;
use crate::replica::Written;
use crate::resp::{Protocol, Reply};
use crate::routing::args::{Args, OwnedArgs};
use crate::routing::shape::Travels;
use crate::routing::{self, Turns, Wanted, block};

/// A command of more words (for EXEC: of more commands) may take its time.
const MANY_WORDS: usize = 256;

/// What a command works with that arrived at a time.
pub fn context<'a>(
    node: &'a Arc<Node>,
    session: &'a mut Session,
    reply: &'a mut Reply,
    written: &'a mut Vec<Written>,
    arrived: Instant,
) -> Ctx<'a> {
    Ctx::new(node, session, reply, written, (arrived, run))
}

/// The row of what a client sent.
pub fn find(args: Args<'_>) -> Option<&'static Spec> {
    table::specs().find(args)
}

/// Runs one command as a client sent it, with its row: checks it, queues or runs it.
pub fn execute(ctx: &mut Ctx<'_>, found: Option<&'static Spec>, args: Args<'_>) {
    let Some(spec) = found else {
        if args.is(0, "POST") || args.is(0, "Host:") {
            // Not even what came before is answered.
            ctx.node.warn_of_attack(&ctx.session.client);
            ctx.after = After::Cut;
            return;
        }
        ctx.session.fail_transaction();
        let error = unknown(args);
        return reject(ctx, &error);
    };
    if let Err(error) = admit(ctx, spec, args)
        .and_then(|()| refuse_full(ctx, spec))
        .and_then(|()| refuse_busy(ctx, spec))
    {
        if spec.has(Flags::RUNS_QUEUE) {
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
    let is_shown = !spec.has(Flags::NO_MONITOR) || spec.shape.is_script();
    if is_shown && !spec.has(Flags::ADMIN) {
        ctx.node.monitors.show(ctx.session, spec, args);
    }
    let noted = tracking::note(ctx, spec, args);
    step(ctx, spec, args);
    tracking::follow(ctx, noted);
}

/// Runs an admitted command: here and now, or it is left in `ctx.after`.
pub fn step(ctx: &mut Ctx<'_>, spec: &'static Spec, args: Args<'_>) {
    let has_keys = || spec.keys_of(args).next().is_some();
    let waits = spec
        .shape
        .waits
        .is_some_and(|waits| block::is_asked(args, waits));
    if waits && !ctx.session.executing && has_keys() {
        return match waiting::wait(ctx, spec, args) {
            Ok(later) => ctx.after = After::Waiting(later),
            Err(error) => reject(ctx, &error),
        };
    }
    if ctx.is_in_cluster() {
        if spec.has(Flags::RUNS_QUEUE)
            && let Some(exec) = Exec::of(ctx.session, ctx.who())
        {
            ctx.timed = Some(Timed::now(ctx.times(), spec, args, false));
            ctx.after = After::Exec(exec);
            return;
        }
        let (runner, who) = (ctx.runner(), ctx.who());
        let call = || scripts::called(ctx.node, spec, args);
        let under_way = &mut ctx.session.under_way;
        if let Some(later) = routing::start(&runner, who, under_way, (&spec.shape, call)) {
            ctx.session.client.touch(spec);
            ctx.timed = Some(Timed::now(ctx.times(), spec, args, false));
            ctx.after = After::Later(later);
            return;
        }
        let stays = spec.shape.travels == Travels::Stays && !spec.shape.keys.is_empty();
        if stays || spec.shape.travels == Travels::Everywhere {
            // Nothing of it happens here and now that others must not see the half of.
            return run(ctx, spec, args);
        }
    }
    run_gated(ctx, spec, args);
}

/// Whether a command has to wait for the replies of those before it, and those after it for it.
pub fn is_barrier(
    node: &Node,
    session: &Session,
    found: Option<&'static Spec>,
    args: Args<'_>,
) -> bool {
    // What a script asks for beside its keys is not known before.
    found.is_none_or(|spec| {
        spec.shape.is_script()
            || routing::is_barrier(&node.site, &session.under_way, &spec.shape, args)
    })
}

/// Runs an admitted command here once the others are kept out as far as it needs.
fn run_gated(ctx: &mut Ctx<'_>, spec: &'static Spec, args: Args<'_>) {
    let node = ctx.node;
    let gate = &node.site.gate;
    let wanted = wanted(node, ctx.session, spec, args);
    let may_begin = !wanted.is_for_all() || node.replica.is_counted();
    match may_begin.then(|| gate.at_once(&wanted)).flatten() {
        Some(turns) => enter(ctx, spec, args, turns),
        None => ctx.after = After::Held(spec, wanted),
    }
}

/// What is said while a script has run for too long.
fn busy(node: &Node) -> Error {
    Error::text(scripts::busy(node.scripts.runs_function() == Some(true)))
}

fn busy_threshold(node: &Node) -> Duration {
    Duration::from_millis(node.config.number("busy-reply-threshold") as u64)
}

/// Refuses what would add to more than may be kept.
fn refuse_full(ctx: &Ctx<'_>, spec: &'static Spec) -> Outcome {
    let eviction = &ctx.node.eviction;
    let queue = ctx.session.transaction.as_ref();
    let queue = queue.filter(|_| spec.has(Flags::RUNS_QUEUE)).into_iter();
    let mut queued = queue.flat_map(Transaction::commands);
    eviction.admit(spec)?;
    queued.try_for_each(|(spec, _)| eviction.admit(spec))
}

/// While a script keeps everybody out for too long nothing is served but what ends it.
fn refuse_busy(ctx: &Ctx<'_>, spec: &'static Spec) -> Outcome {
    let is_let_in = ctx.is_in_cluster() || spec.has(Flags::ALLOW_BUSY);
    if is_let_in || !ctx.node.scripts.is_busy(|| busy_threshold(ctx.node)) {
        return Ok(());
    }
    if ctx.node.site.gate.is_closed() {
        return Err(busy(ctx.node));
    }
    Ok(())
}

/// Waits until a command has its turns and may begin; `None`: a script has run for too long meanwhile.
pub async fn turns<'a>(node: &'a Arc<Node>, wanted: &Wanted) -> Option<Turns<'a>> {
    if wanted.is_for_all() {
        // What empties everything has to know which actors have written; nothing waits for that behind the gate.
        let counting = Arc::clone(node);
        off_worker(move || counting.replica.finish_counting()).await;
    }
    let threshold = busy_threshold(node);
    let is_too_long = async {
        // Whoever waits for something else does not wait for so long.
        tokio::time::sleep(threshold).await;
        node.scripts.are_busy(threshold).await;
    };
    tokio::select! {
        biased;
        turns = node.site.gate.enter(wanted) => Some(turns),
        () = is_too_long => None,
    }
}

/// Refuses a command that has waited for too long for a script.
pub fn refuse(ctx: &mut Ctx<'_>, spec: &'static Spec) {
    let error = busy(ctx.node);
    if spec.has(Flags::RUNS_QUEUE) {
        ctx.session.transaction = None;
        ctx.session.watches.clear();
        return reject(ctx, &error.discarding());
    }
    reject(ctx, &error);
}

/// Runs a command that has waited for its turns.
pub fn resume<'a>(ctx: &mut Ctx<'a>, spec: &'static Spec, args: Args<'_>, turns: Turns<'a>) {
    ctx.began = Some(clock::monotonic());
    enter(ctx, spec, args, turns);
}

/// What runs an admitted command whose turn it is.
pub const RUN: Run = run;

fn enter<'a>(ctx: &mut Ctx<'a>, spec: &'static Spec, args: Args<'_>, turns: Turns<'a>) {
    let gathering = (!turns.is_empty() && is_one(ctx, spec, args)).then(|| {
        let queue = ctx.session.transaction.as_ref();
        let queue = queue.filter(|_| spec.has(Flags::RUNS_QUEUE)).into_iter();
        let queued = queue.flat_map(Transaction::commands);
        let queued = queued.flat_map(|(spec, words)| spec.keys_of(words.as_args()));
        ctx.node.replica.gather(spec.keys_of(args).chain(queued))
    });
    ctx.turns = turns;
    ctx.is_gathered = gathering.is_some();
    run(ctx, spec, args);
    drop(gathering);
    ctx.turns.clear();
}

/// Whether what a command writes is one batch of each shard: not where it may wait for a commit itself.
fn is_one(ctx: &Ctx<'_>, spec: &Spec, args: Args<'_>) -> bool {
    // A script that is not known to keep to its keys may empty everything, and wait for that.
    let is_open = |spec: &Spec, args: Args<'_>| {
        spec.shape.is_script() && scripts::wants_everything(ctx.node, spec, args)
    };
    match &ctx.session.transaction {
        Some(queue) if spec.has(Flags::RUNS_QUEUE) => {
            let mut queue = queue.commands();
            let is_apart = |(spec, words): (&Spec, &OwnedArgs)| {
                spec.shape.is_on_keys() && !is_open(spec, words.as_args())
            };
            queue.clone().all(is_apart) && queue.any(|(spec, _)| spec.shape.writes)
        }
        _ => {
            let is_on_several = spec.shape.is_on_keys() && !spec.shape.is_on_one_key();
            is_on_several && spec.shape.writes && !is_open(spec, args)
        }
    }
}

/// What a command of a connection needs for itself.
fn wanted(node: &Node, session: &Session, spec: &Spec, args: Args<'_>) -> Wanted {
    let gate = &node.site.gate;
    match &session.transaction {
        Some(transaction) if spec.has(Flags::RUNS_QUEUE) => {
            let queue = transaction.commands();
            let is_open = |(spec, words): (&Spec, &OwnedArgs)| {
                spec.shape.is_script() && scripts::wants_everything(node, spec, words.as_args())
            };
            if queue.clone().any(|(spec, _)| spec.shape.is_for_all()) {
                return gate.everything();
            }
            if queue.clone().any(is_open) {
                return gate.whole();
            }
            let watched = session.watches.iter().map(Watch::key);
            let keys = queue.flat_map(|(spec, words)| spec.keys_of(words.as_args()));
            gate.of_keys(keys.chain(watched), true)
        }
        _ if spec.shape.is_for_all() => gate.everything(),
        _ if spec.shape.is_script() && scripts::wants_everything(node, spec, args) => gate.whole(),
        _ if spec.shape.reads || spec.shape.writes => {
            let is_script = spec.shape.is_script();
            let changes_several = spec.shape.writes && !spec.shape.is_on_one_key() || is_script;
            gate.of_keys(spec.keys_of(args), changes_several)
        }
        _ => Wanted::default(),
    }
}

/// Runs a command that was admitted, and keeps its statistics.
fn run(ctx: &mut Ctx<'_>, spec: &'static Spec, args: Args<'_>) {
    if !ctx.is_part {
        ctx.session.client.touch(spec);
    }
    if ctx.node.eviction.wants_uses() {
        for key in spec.shape.used(args) {
            ctx.node.eviction.note_use(key);
        }
    }
    let started = if ctx.session.executing {
        clock::monotonic()
    } else {
        ctx.began.unwrap_or(ctx.arrived)
    };
    let queued = ctx.session.transaction.as_ref();
    let words = args.len() + queued.map_or(0, |queue| queue.commands().count());
    let mut handle = || {
        refuse_conflicts(ctx, spec, args)?;
        waiting::timeout(spec, args)?;
        table::handler(spec)(ctx, args)
    };
    let outcome = if words > MANY_WORDS {
        at_length(handle)
    } else {
        handle()
    };
    let failed = outcome.is_err();
    if !ctx.changed.is_empty() {
        notify::tell(ctx, spec, args);
    }
    if spec.has(Flags::RUNS_QUEUE) {
        tracking::tell_rest(ctx);
    }
    if let Err(error) = outcome {
        if !ctx.session.in_script {
            // Of a script its own error counts.
            ctx.node.stats.count_error(&error);
        }
        ctx.reply.error(&error.to_string());
    }
    record(ctx, spec, args, started, failed);
}

/// Where siblings are an error, a command that shows a value or depends on it meets it.
fn refuse_conflicts(ctx: &Ctx<'_>, spec: &'static Spec, args: Args<'_>) -> Outcome {
    let policies = ctx.node.replica.policies();
    if !policies.has(OnConflict::Error) || !spec.shows_values {
        return Ok(());
    }
    for name in spec.keys_of(args) {
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
    if matches!(ctx.after, After::Later(_)) {
        ctx.timed = Some(Timed::now(ctx.times(), spec, args, failed));
        return;
    }
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
    ctx.timed = Some(Timed::now(ctx.times(), spec, args, failed));
}

fn count(ctx: &mut Ctx<'_>, times: Times, spec: &'static Spec, args: Args<'_>, failed: bool) {
    if times.record(ctx.node, ctx.session, spec, failed) {
        times.note_slow(ctx.node, ctx.session, slowlog::shorten(spec, args));
    }
}

fn admit(ctx: &Ctx<'_>, spec: &Spec, args: Args<'_>) -> Outcome {
    if !spec.takes(args.len()) {
        return Err(Error::Arity(spec.full_name().into()));
    }
    if !ctx.session.authenticated && !spec.has(Flags::NO_AUTH) {
        return Err(Error::NoAuth);
    }
    if ctx.session.listens.is_confined()
        && ctx.reply.protocol() == Protocol::Resp2
        && !spec.has(Flags::WHILE_SUBSCRIBED)
    {
        let name = spec.full_name();
        let why = format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
             are allowed in this context"
        );
        return Err(Error::Text(why.into()));
    }
    if ctx.session.transaction.is_some() && spec.has(Flags::NO_MULTI) {
        return Err(Error::text("ERR Command not allowed inside a transaction"));
    }
    Ok(())
}

fn reject(ctx: &mut Ctx<'_>, error: &Error) {
    ctx.node.stats.count_error(error);
    ctx.reply.error(&error.to_string());
}

fn unknown(args: Args<'_>) -> Error {
    match table::specs().container(args) {
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
    let says_something = |spec: &Spec| spec.shape.writes || spec.has(Flags::PUBLISHES);
    find(args).is_some_and(|spec| match &session.transaction {
        // What is queued has not begun.
        Some(queue) if spec.has(Flags::RUNS_QUEUE) => {
            queue.commands().any(|(spec, _)| says_something(spec))
        }
        Some(_) => false,
        None => says_something(spec),
    })
}
