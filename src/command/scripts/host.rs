//! Who runs a script's commands: here and now, or it says where their replies are to come from.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::known::Body;
use crate::base::clock;
use crate::command::context::{After, Ctx, Run};
use crate::command::node::Node;
use crate::command::session::Session;
use crate::command::spec::{Flags, Spec};
use crate::command::tracking;
use crate::error::Error;
use crate::replica::{Uncommitted, Written};
use crate::resp::{Protocol, Reply};
use crate::routing::args::{Args, OwnedArgs};
use crate::routing::shape::Travels;
use crate::routing::{self, Later, Runner, Who};
use crate::script::{Called, Host, Room, Running};

/// How a script comes to its keys.
pub(super) enum Reaches {
    /// All are here: the node is alone.
    Alone(Vec<Bytes>),
    /// These, of a database, are at hand; the others are not.
    Named(u8, Vec<Bytes>),
    /// Each by itself, wherever it is.
    Each,
}

/// What whoever drives a script has of who runs its commands.
pub(super) struct Kept {
    /// How it comes to its keys now.
    pub(super) reaches: Reaches,
    /// What it has written here, and what of others' it has seen.
    pub(super) written: Vec<Written>,
    pub(super) seen: SmallVec<[Uncommitted; 1]>,
    /// The reply that it waits for.
    pub(super) awaited: Option<Later>,
}

impl Kept {
    pub(super) fn new(reaches: Reaches) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            reaches,
            written: Vec::new(),
            seen: SmallVec::new(),
            awaited: None,
        }))
    }
}

/// For which client a script runs, where that is one of this node's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Caller {
    pub(super) id: u64,
    /// Whether it is to be told when what the script reads changes.
    pub(super) notes_reads: bool,
}

/// Who runs the commands of one script.
pub(super) struct ScriptHost {
    node: Arc<Node>,
    session: Session,
    reply: Reply,
    who: Who,
    run: Run,
    kept: Arc<Mutex<Kept>>,
    written: Vec<Written>,
    /// Whether it may change nothing.
    read_only: bool,
    /// Whether nothing could be added when it began, and it has not said that it adds nothing.
    began_full: bool,
    /// Whether nobody else runs: then it may empty databases.
    has_everything: bool,
    caller: Caller,
    body: Arc<Body>,
    running: Arc<Running>,
}

/// What a host is made of.
pub(super) struct HostOptions<'h> {
    pub(super) node: &'h Arc<Node>,
    pub(super) who: Who,
    pub(super) run: Run,
    pub(super) kept: &'h Arc<Mutex<Kept>>,
    pub(super) read_only: bool,
    pub(super) has_everything: bool,
    pub(super) caller: Caller,
    pub(super) body: &'h Arc<Body>,
    pub(super) running: &'h Arc<Running>,
}

impl ScriptHost {
    pub(super) fn new(options: HostOptions<'_>) -> Self {
        let HostOptions {
            node,
            who,
            run,
            kept,
            read_only,
            has_everything,
            caller,
            body,
            running,
        } = options;
        let mut session = Session::new(Arc::clone(&node.inner_client), true);
        session.db = who.db;
        session.own = Arc::clone(&who.own);
        session.quorum = who.quorum;
        session.acts_for = caller.id;
        let began_full = node.eviction.is_full() && body.source.flags.room == Room::Needed;
        // Nothing of it blocks.
        session.executing = true;
        session.in_script = true;
        Self {
            node: Arc::clone(node),
            session,
            reply: Reply::default(),
            who,
            run,
            kept: Arc::clone(kept),
            written: Vec::new(),
            read_only,
            began_full,
            has_everything,
            caller,
            body: Arc::clone(body),
            running: Arc::clone(running),
        }
    }

    /// Whether a command may run; how its keys are reached.
    fn admit(&self, words: Args<'_>) -> Result<&'static Spec, Error> {
        let specs = self.node.specs;
        let wrong_number = "ERR Wrong number of args calling Redis command from script";
        let spec = specs.find(words);
        if spec.is_none() && words.len() == 1 && specs.container(words).is_some() {
            return Err(Error::text(wrong_number));
        }
        let spec = spec.ok_or(Error::text("ERR Unknown Redis command called from script"))?;
        if !spec.takes(words.len()) {
            return Err(Error::text(wrong_number));
        }
        if spec.has(Flags::NOSCRIPT) || spec.shape.is_script() {
            return Err(Error::text(
                "ERR This Redis command is not allowed from script",
            ));
        }
        if spec.shape.travels == Travels::Nowhere && self.is_in_cluster() {
            return Err(Error::NotInCluster(words.text(0).to_ascii_uppercase()));
        }
        if (spec.shape.writes || spec.has(Flags::PUBLISHES)) && self.read_only {
            let why = "ERR Write commands are not allowed from read-only scripts.";
            return Err(Error::text(why));
        }
        // What has begun is not left half done.
        if self.began_full && !self.running.has_written() {
            self.node.eviction.admit(spec)?;
        }
        Ok(spec)
    }

    fn is_in_cluster(&self) -> bool {
        self.node.site.coordinator.is_some()
    }

    /// Whether a command's keys are all at hand.
    fn has_at_hand(&self, reaches: &Reaches, spec: &Spec, words: Args<'_>) -> bool {
        let (db, names) = match reaches {
            Reaches::Each => return false,
            Reaches::Alone(names) => (self.session.db, names),
            Reaches::Named(db, names) => (*db, names),
        };
        let mut keys = spec.keys_of(words);
        let other = spec.shape.other_database(words);
        db == self.session.db
            && other.is_none_or(|other| other == db)
            && keys.all(|key| names.iter().any(|name| **name == *key))
    }

    /// Runs a command; `true`: its reply is to be waited for.
    fn attempt(&mut self, words: Args<'_>) -> Result<bool, Error> {
        let spec = self.admit(words)?;
        if spec.shape.writes && !self.running.note_write() || self.running.is_stopped() {
            let why = "ERR Error running script: Script killed by user with SCRIPT KILL.";
            return Err(Error::text(why));
        }
        if self.caller.notes_reads && spec.has(Flags::READ) {
            for key in spec.keys_of(words) {
                tracking::note_key(&self.node, self.caller.id, key);
            }
        }
        let is_on_keys = spec.shape.is_on_keys() && spec.keys_of(words).next().is_some();
        let (is_alone, is_at_hand) = {
            let reaches = &self.kept.lock().reaches;
            let is_at_hand = !is_on_keys || self.has_at_hand(reaches, spec, words);
            let is_alone = matches!(reaches, Reaches::Alone(_));
            (is_alone, is_at_hand)
        };
        let is_everywhere = spec.shape.travels == Travels::Everywhere;
        if !is_at_hand && !is_alone {
            self.may_cross()?;
            let later = self.begin(spec, words);
            self.kept.lock().awaited = Some(later);
            return Ok(true);
        }
        if is_alone && (!is_at_hand || is_everywhere) {
            self.body.note_wide();
        }
        if is_everywhere && is_alone && !self.has_everything {
            let why = "ERR This script had not been known to look at whole databases; run it again";
            return Err(Error::text(why));
        }
        self.here(spec, words, is_alone)
    }

    /// Whether a script of a cluster may ask for whatever key.
    fn may_cross(&self) -> Result<(), Error> {
        let is_refused = self.node.config.text("script-cross-slot") == "refuse";
        if is_refused && !self.body.source.flags.allow_cross_slot {
            let why = "ERR Script attempted to access a non local key in a cluster node";
            return Err(Error::text(why));
        }
        Ok(())
    }

    fn begin(&self, spec: &'static Spec, words: Args<'_>) -> Later {
        let runner: Arc<dyn Runner> = Arc::clone(&self.node) as Arc<dyn Runner>;
        let who = Who {
            db: self.session.db,
            protocol: self.reply.protocol(),
            ..self.who.clone()
        };
        routing::begin(&runner, who, spec.call(words))
    }

    /// Runs a command with what is at hand.
    fn here(
        &mut self,
        spec: &'static Spec,
        words: Args<'_>,
        is_alone: bool,
    ) -> Result<bool, Error> {
        let now = clock::monotonic();
        let mut ctx = Ctx::new(
            &self.node,
            &mut self.session,
            &mut self.reply,
            &mut self.written,
            (now, self.run),
        );
        ctx.run(spec, words);
        let (seen, after) = (ctx.seen.take(), std::mem::take(&mut ctx.after));
        drop(ctx);
        let mut kept = self.kept.lock();
        kept.written.append(&mut self.written);
        kept.seen.extend(seen);
        match after {
            After::Later(_) | After::Waiting(_) if is_alone => Err(Error::text(
                "ERR This Redis command is not allowed from script",
            )),
            After::Later(later) | After::Waiting(later) => {
                kept.awaited = Some(later);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Host for ScriptHost {
    fn call(&mut self, words: &[&[u8]], resp3: bool) -> Called<'_> {
        self.reply.buffer().clear();
        let protocol = if resp3 {
            Protocol::Resp3
        } else {
            Protocol::Resp2
        };
        self.reply.set_protocol(protocol);
        let owned = OwnedArgs::of(words);
        match self.attempt(owned.as_args()) {
            Ok(true) => return Called::Elsewhere,
            Ok(false) => {}
            Err(error) => self.reply.error(&error.to_string()),
        }
        Called::Replied(self.reply.buffer())
    }

    fn knows(&self, words: &[&[u8]]) -> bool {
        let owned = OwnedArgs::of(words);
        self.node.specs.find(owned.as_args()).is_some()
    }

    fn log(&mut self, level: u8, line: &str) {
        match level {
            0 => tracing::trace!(target: "script", "{line}"),
            1 => tracing::debug!(target: "script", "{line}"),
            2 => tracing::info!(target: "script", "{line}"),
            _ => tracing::warn!(target: "script", "{line}"),
        }
    }
}
