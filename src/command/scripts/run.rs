//! How EVAL and its like find their script, and run it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::functions;
use super::host::{Caller, HostOptions, Kept, Reaches, ScriptHost};
use super::known::{Begun, Body, not_lua};
use super::paused::Suspended;
use super::shared;
use crate::base::blocking::at_length;
use crate::base::clock;
use crate::command::context::{After, Ctx, Outcome, Run};
use crate::command::node::Node;
use crate::command::spec::{ScriptBy, Spec};
use crate::error::Error;
use crate::resp::Protocol;
use crate::routing::args::{Args, OwnedArgs};
use crate::routing::{self, Call, Doing, Later, Paused, Who, error_reply};
use crate::script::{Machine, Room, Step, Task};

/// The script that a command names, if it is at hand.
fn at_hand(node: &Node, spec: &Spec, args: Args<'_>) -> Option<Arc<Body>> {
    let named = args.get(1)?;
    match spec.script_by {
        ScriptBy::Text => node.scripts.find_text(named),
        ScriptBy::Sha => node.scripts.find(named),
        // Not one that has been replaced.
        ScriptBy::Function => node.libraries.unchanged()?.find(named),
    }
}

/// Whether a script has to have everything to itself: it is not known to keep to the keys that it names.
pub fn wants_everything(node: &Node, spec: &Spec, args: Args<'_>) -> bool {
    at_hand(node, spec, args).is_none_or(|body| body.is_new() || body.is_wide())
}

/// The command as it travels: a script that only this node is known to have goes along.
pub fn called(node: &Node, spec: &'static Spec, args: Args<'_>) -> Call {
    let is_named = spec.script_by == ScriptBy::Sha;
    let body = is_named.then(|| at_hand(node, spec, args)).flatten();
    let Some(body) = body.filter(|body| !body.is_kept()) else {
        return spec.call(args);
    };
    let by_text = if spec.shape.writes { "eval" } else { "eval_ro" };
    let by_text = node.specs.by_name(by_text).expect("the table has it");
    let mut words = OwnedArgs::default();
    words.push(by_text.name.as_bytes());
    words.push(&body.source.text);
    args.from(2).for_each(|word| words.push(word));
    by_text.call(words.as_args())
}

/// Finds the script that a command names, where it is not at hand.
pub fn fetch(node: Arc<Node>, call: &Call) -> Option<Doing> {
    let spec = &node.specs.all()[call.row];
    if spec.script_by == ScriptBy::Function {
        let is_fresh = node.libraries.are_fresh();
        return (!is_fresh)
            .then(|| -> Doing { Box::pin(async move { functions::refresh(&node).await }) });
    }
    if spec.script_by == ScriptBy::Text || at_hand(&node, spec, call.args()).is_some() {
        return None;
    }
    let name = Bytes::copy_from_slice(call.args().get(1)?);
    Some(Box::pin(async move { shared::find(&node, &name).await }))
}

/// How many keys a script is called with.
fn count_keys(spec: &Spec, args: Args<'_>) -> Result<usize, Error> {
    let wrong = || Error::text("ERR Bad number of keys provided");
    let count = match args.integer(2) {
        Err(_) if spec.script_by == ScriptBy::Function => return Err(wrong()),
        count => count?,
    };
    if count > args.len() as i64 - 3 {
        let why = "ERR Number of keys can't be greater than number of args";
        return Err(Error::text(why));
    }
    usize::try_from(count).map_err(|_| Error::text("ERR Number of keys can't be negative"))
}

/// The script that a command names.
fn body_of(node: &Arc<Node>, spec: &Spec, args: Args<'_>) -> Result<Arc<Body>, Error> {
    let named = args.at(1);
    match spec.script_by {
        ScriptBy::Text => return node.scripts.add(named),
        ScriptBy::Function => {
            let all = functions::here(node);
            return all.find(named).ok_or(Error::text("ERR Function not found"));
        }
        ScriptBy::Sha => {}
    }
    let found = node.scripts.find(named);
    let found = found.or_else(|| shared::find_here(node, named));
    found.ok_or(Error::text("NOSCRIPT No matching script. Please use EVAL."))
}

/// A script that is ready to run.
struct Ready {
    node: Arc<Node>,
    machine: Machine,
    body: Arc<Body>,
    begun: Begun,
    kept: Arc<Mutex<Kept>>,
}

/// How a script is run.
struct How {
    who: Who,
    run: Run,
    reaches: Reaches,
    has_everything: bool,
    caller: Caller,
}

impl Ready {
    /// Finds a machine for a script, and compiles it there.
    fn new(
        node: &Arc<Node>,
        (body, call): (Arc<Body>, Args<'_>),
        reaches: Reaches,
    ) -> Result<Self, Error> {
        let mut machine = node.scripts.machine();
        if let Err(why) = machine.compile(&body.source) {
            node.scripts.give_back(machine);
            node.scripts.remove(&body.source.sha);
            return Err(not_lua(&why));
        }
        Ok(Self {
            node: Arc::clone(node),
            machine,
            begun: node.scripts.begin(&body.source, call),
            body,
            kept: Kept::new(reaches),
        })
    }

    /// Runs it to its end, or to a command that runs elsewhere.
    fn start(&mut self, (args, keys): (Args<'_>, usize), host: ScriptHost, to: Protocol) -> Step {
        let started = clock::monotonic();
        let (machine, body) = (&mut self.machine, &self.body);
        let task = Task {
            source: &body.source,
            keys: args.from(3).take(keys).collect(),
            argv: args.from(3 + keys).collect(),
            host: Box::new(host),
            running: Arc::clone(&self.begun.running),
            protocol: to,
        };
        let beside = body.is_new() || body.is_slow() || self.node.scripts.has_long_one();
        let step = if beside {
            at_length(|| machine.start(task))
        } else {
            machine.start(task)
        };
        body.note_run(clock::monotonic() - started, &self.begun.running);
        step
    }

    /// Its reply; or it waits.
    fn ended(mut self, step: Step) -> Result<BytesMut, Box<dyn Paused>> {
        let Step::Done(reply) = step else {
            self.node.scripts.ran_wide.fetch_add(1, Ordering::Relaxed);
            return Err(Box::new(Suspended {
                node: self.node,
                machine: self.machine,
                body: self.body,
                begun: self.begun,
                kept: self.kept,
                is_first: true,
            }));
        };
        self.machine.end();
        self.node.scripts.give_back(self.machine);
        Ok(reply)
    }
}

/// Runs the script of a command as far as it comes.
fn run(
    node: &Arc<Node>,
    (spec, args): (&Spec, Args<'_>),
    how: How,
) -> Result<(Ready, Step), Error> {
    let found = (spec.script_by == ScriptBy::Function).then(|| body_of(node, spec, args));
    let found = found.transpose()?;
    let count = count_keys(spec, args)?;
    let body = found.map_or_else(|| body_of(node, spec, args), Ok)?;
    let flags = body.source.flags;
    if !spec.shape.writes && flags.is_declared && !flags.no_writes {
        let why = "ERR Can not execute a script with write flag using *_ro command.";
        return Err(Error::text(why));
    }
    if flags.is_declared
        && flags.room == Room::Needed
        && !flags.no_writes
        && node.eviction.is_full()
    {
        let why = "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'";
        return Err(Error::text(why));
    }
    let protocol = how.who.protocol;
    let mut ready = Ready::new(node, (body, args), how.reaches)?;
    let host = ScriptHost::new(HostOptions {
        node,
        who: how.who,
        run: how.run,
        kept: &ready.kept,
        read_only: !spec.shape.writes || flags.no_writes,
        has_everything: how.has_everything,
        caller: how.caller,
        body: &ready.body,
        running: &ready.begun.running,
    });
    let step = ready.start((args, count), host, protocol);
    Ok((ready, step))
}

/// Runs a script at the coordinator of its keys, or on a lone node.
pub fn run_here(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let node = ctx.node;
    let spec = node.specs.find(args).expect("it was found before");
    let keys = args.from(3).take(count_keys(spec, args)?);
    let keys = keys.map(Bytes::copy_from_slice).collect();
    let how = How {
        who: ctx.who(),
        run: ctx.run_with(),
        reaches: if ctx.is_in_cluster() {
            Reaches::Named(ctx.session.db, keys)
        } else {
            Reaches::Alone(keys)
        },
        has_everything: !ctx.is_gathered && node.site.gate.is_whole(&ctx.turns),
        caller: Caller {
            id: ctx.session.acts_for,
            notes_reads: {
                let tracking = ctx.session.tracking.as_ref();
                tracking.is_some_and(|tracking| tracking.notes_script)
            },
        },
    };
    let (ready, step) = run(node, (spec, args), how)?;
    {
        let mut kept = ready.kept.lock();
        ctx.written.append(&mut kept.written);
        ctx.seen.get_mut().extend(kept.seen.drain(..));
    }
    let reply = match ready.ended(step) {
        Ok(reply) => reply,
        Err(paused) => {
            ctx.after = After::Paused(paused);
            return Ok(());
        }
    };
    if let Some(error) = reply.strip_prefix(b"-") {
        let error = String::from_utf8_lossy(error.strip_suffix(b"\r\n").unwrap_or(error));
        return Err(Error::Text(error.into_owned().into()));
    }
    ctx.reply.buffer().extend_from_slice(&reply);
    Ok(())
}

/// Runs a script whose commands all run wherever their keys are.
pub fn spread(node: Arc<Node>, who: Who, call: Call, with: Run) -> Later {
    Box::pin(async move {
        if let Some(fetching) = fetch(Arc::clone(&node), &call)
            && let Some(failed) = fetching.await
        {
            return failed;
        }
        let how = How {
            who: who.clone(),
            run: with,
            reaches: Reaches::Each,
            has_everything: false,
            caller: Caller::default(),
        };
        let spec = &node.specs.all()[call.row];
        let begun = run(&node, (spec, call.args()), how);
        match begun.map(|(ready, step)| ready.ended(step)) {
            Ok(Ok(reply)) => reply,
            Ok(Err(paused)) => routing::drive(paused).await,
            Err(error) => {
                node.stats.count_error(&error);
                error_reply(&who, &error)
            }
        }
    })
}
