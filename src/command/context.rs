//! What a handler works with: the node, its connection, and where the reply goes.
//!
//! A handler runs to its end without waiting; what it has to wait for (its commits, a sleep) it leaves
//! here, and the connection waits before the reply leaves.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::at_hand::{at_hand, takes_long};
use super::exec::Exec;
use super::node::Node;
use super::sayings::Event;
use super::session::Session;
use super::spec::Spec;
use super::timing::Timed;
use crate::base::blocking::at_length;
use crate::base::clock;
use crate::coordinator::QuorumError;
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::edit::Edit;
use crate::logic::place::MAX_KEY_LEN;
use crate::logic::plain::Plain;
use crate::logic::types::string::{self, Shown};
use crate::logic::types::{self, Present, conflict};
use crate::replica::{Key, OWN_DATABASE, Reach, Replica, ReplicaError, Uncommitted, Written};
use crate::resp::Reply;
use crate::routing::args::{Args, OwnedArgs};
use crate::routing::{Later, Paused, Runner, Turns, Wanted, Who, error_reply};

/// A handler's end: the reply is written, or it is this error.
pub type Outcome = Result<(), Error>;

/// Whether a key holds a type; not where it holds nothing.
fn is_of(object: &Object, kind: Kind, now_ms: u64) -> Result<bool, Error> {
    match types::kind(object, now_ms) {
        None => Ok(false),
        Some(of) if of == kind => Ok(true),
        Some(_) => Err(Error::WrongType),
    }
}

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
    /// A script has come to a command that runs elsewhere, and goes on when that has.
    Paused(Box<dyn Paused>),
    /// Runs a transaction's commands with `command::step`, each to its end.
    Exec(Exec),
    /// Has not begun: waits for its turns, and begins with `command::resume`.
    Held(&'static Spec, Wanted),
}

impl After {
    /// What comes after two commands of a transaction.
    pub(super) fn and(self, next: Self) -> Self {
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
    /// Whether what it writes is gathered to be one batch: it must not wait for a commit.
    pub is_gathered: bool,
    /// The keys that it has changed, where events of keys are published.
    pub changed: Changed,
    /// What is said of keys that it has changed beside what each such command says.
    pub also: SmallVec<[(Bytes, Event); 1]>,
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
    run: Run,
}

/// Keys with their databases.
pub type Changed = SmallVec<[(u8, Bytes); 1]>;

/// Runs an admitted command whose turn it is.
pub type Run = fn(&mut Ctx<'_>, &'static Spec, Args<'_>);

impl<'a> Ctx<'a> {
    /// A command's, which arrived at a time.
    pub(super) fn new(
        node: &'a Arc<Node>,
        session: &'a mut Session,
        reply: &'a mut Reply,
        written: &'a mut Vec<Written>,
        (arrived, run): (Instant, Run),
    ) -> Self {
        Self {
            node,
            session,
            reply,
            written,
            after: After::Nothing,
            turns: Turns::new(),
            is_gathered: false,
            changed: Changed::new(),
            also: SmallVec::new(),
            arrived,
            began: None,
            timed: None,
            is_part: false,
            seen: RefCell::default(),
            run,
        }
    }
}

impl Ctx<'_> {
    /// A key in a database, as it is stored.
    pub fn key<'k>(&self, db: u8, name: &'k [u8]) -> Result<Key<'k>, Error> {
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
        self.some_of(name, Reach::Whole)
    }

    /// The object of a key in the selected database, with as much of it at hand as a reach says, or more.
    pub fn some_of(&self, name: &[u8], reach: Reach<'_>) -> Result<Arc<Object>, Error> {
        self.some_in(self.session.db, name, reach)
    }

    /// The same of a key in a database.
    pub fn some_in(&self, db: u8, name: &[u8], reach: Reach<'_>) -> Result<Arc<Object>, Error> {
        let key = self.key(db, name)?;
        let replica = &self.node.replica;
        loop {
            let failures = replica.failed_batches();
            let object = at_hand(replica, key, reach)?;
            self.note_read(key);
            // Else it may be what has just turned out not to be stored.
            if replica.failed_batches() == failures {
                return Ok(object);
            }
        }
    }

    /// What was read may not be committed yet.
    pub(super) fn note_read(&self, key: Key<'_>) {
        if let Some(uncommitted) = self.node.replica.uncommitted(key) {
            self.seen.borrow_mut().push(uncommitted);
        }
    }

    /// What there is of a key, whatever its type.
    pub fn present(&self, name: &[u8]) -> Result<Option<Present>, Error> {
        let object = self.some_of(name, Reach::Head)?;
        Ok(types::present(&object, clock::now_ms()))
    }

    /// What a key that holds a string shows.
    pub fn shown(&self, name: &[u8]) -> Result<Option<Shown>, Error> {
        let (object, now_ms) = (self.some_of(name, Reach::Head)?, clock::now_ms());
        if is_of(&object, Kind::String, now_ms)? {
            Ok(string::shown(&self.viewed(name, &object, now_ms), now_ms))
        } else {
            Ok(None)
        }
    }

    /// The object of a key that holds a type; an empty one where there is none.
    pub fn typed(&self, name: &[u8], kind: Kind) -> Result<Arc<Object>, Error> {
        self.typed_some(name, kind, Reach::Whole)
    }

    /// The same with as much of it at hand as a reach says, or more.
    pub fn typed_some(
        &self,
        name: &[u8],
        kind: Kind,
        reach: Reach<'_>,
    ) -> Result<Arc<Object>, Error> {
        let object = self.some_of(name, reach)?;
        self.as_typed(object, kind)
    }

    /// What was read, if it is of a type: the lookup counts.
    pub fn as_typed(&self, object: Arc<Object>, kind: Kind) -> Result<Arc<Object>, Error> {
        let is_there = is_of(&object, kind, clock::now_ms())?;
        self.count_lookup(is_there);
        Ok(if is_there { object } else { Arc::default() })
    }

    /// A key's object as its policy shows it.
    pub fn viewed<'o>(&self, name: &[u8], object: &'o Object, now_ms: u64) -> Cow<'o, Object> {
        conflict::view(object, self.node.replica.policies().of(name), now_ms)
    }

    /// Reads, decides and writes one key that holds a type, or nothing: then the object is empty.
    pub fn change<R>(
        &mut self,
        name: &[u8],
        kind: Kind,
        decide: impl FnOnce(&Object, u64) -> Result<(Edit, R), Error>,
    ) -> Result<R, Error> {
        let reach = match kind {
            Kind::String => Reach::Head,
            _ => Reach::Whole,
        };
        self.change_some(name, kind, reach, decide)
    }

    /// The same with as much of it at hand as a reach says, or more.
    pub fn change_some<R>(
        &mut self,
        name: &[u8],
        kind: Kind,
        reach: Reach<'_>,
        decide: impl FnOnce(&Object, u64) -> Result<(Edit, R), Error>,
    ) -> Result<R, Error> {
        self.update_some(name, reach, |object, now_ms| {
            let decided = is_of(object, kind, now_ms).and_then(|is_there| {
                if is_there {
                    decide(object, now_ms)
                } else {
                    decide(&Object::default(), now_ms)
                }
            });
            match decided {
                Ok((edit, result)) => (edit, Ok(result)),
                Err(error) => (Edit::Keep, Err(error)),
            }
        })?
    }

    /// Reads, decides and writes one key.
    pub fn update<R>(
        &mut self,
        name: &[u8],
        decide: impl FnOnce(&Object, u64) -> (Edit, R),
    ) -> Result<R, Error> {
        self.update_some(name, Reach::Whole, decide)
    }

    /// The same with as much of it at hand as a reach says, or more.
    pub fn update_some<R>(
        &mut self,
        name: &[u8],
        reach: Reach<'_>,
        decide: impl FnOnce(&Object, u64) -> (Edit, R),
    ) -> Result<R, Error> {
        let key = self.key(self.session.db, name)?;
        let reach = if self.session.since.is_some() {
            // What has come since may be any element.
            Reach::Whole
        } else {
            reach
        };
        let policy = self.node.replica.policies().of(name);
        let since = self.session.since;
        let mut is_refused = false;
        let decide = |object: &Object, now_ms| {
            let viewed = conflict::view(object, policy, now_ms);
            let (change, result) = decide(&viewed, now_ms);
            let change = match since {
                Some(since) => change.as_of(object, since).unwrap_or_else(|| {
                    is_refused = true;
                    Edit::Keep
                }),
                None => change,
            };
            (change, result)
        };
        let replica = &self.node.replica;
        let (result, written) = if takes_long(replica, key, reach)? {
            at_length(|| replica.update_some(key, reach, decide))?
        } else {
            replica.update_some(key, reach, decide)?
        };
        if is_refused {
            return Err(QuorumError::CoordinatorLost.into());
        }
        match written {
            Some(written) => {
                self.written.push(written);
                self.note_changed(self.session.db, name);
            }
            None => self.note_read(key),
        }
        Ok(result)
    }

    /// What `see` makes of a key that holds one value, or nothing. `None`: a closer look is needed.
    pub fn look<R>(
        &mut self,
        name: &[u8],
        see: impl FnOnce(Option<&Plain<'_>>, &mut Reply) -> Option<R>,
    ) -> Result<Option<R>, Error> {
        let key = self.key(self.session.db, name)?;
        let reply = &mut *self.reply;
        let Some((seen, uncommitted)) = self.node.replica.look(key, |row| see(row, reply)) else {
            return Ok(None);
        };
        self.seen.get_mut().extend(uncommitted);
        Ok(Some(seen))
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
        counter.add(1);
    }

    /// When it arrived, and when it began.
    pub fn times(&self) -> (Instant, Instant) {
        (self.arrived, self.began.unwrap_or(self.arrived))
    }

    /// Runs another command on what belongs to no client; its reply. On a lone node.
    pub(super) fn run_on_own(&mut self, words: &[&[u8]]) -> BytesMut {
        let words = OwnedArgs::of(words);
        let spec = self
            .node
            .specs
            .find(words.as_args())
            .expect("the table has it");
        let db = std::mem::replace(&mut self.session.db, OWN_DATABASE);
        let (is_part, at) = (std::mem::replace(&mut self.is_part, true), self.reply.len());
        self.run(spec, words.as_args());
        (self.session.db, self.is_part) = (db, is_part);
        self.reply.buffer().split_off(at)
    }

    /// Runs another command as a part of this one.
    pub fn run(&mut self, spec: &'static Spec, args: Args<'_>) {
        (self.run)(self, spec, args);
    }

    /// What runs another command, for who keeps it.
    pub(super) fn run_with(&self) -> Run {
        self.run
    }

    /// Whether the node is a member of a cluster, or is to be one.
    pub fn is_in_cluster(&self) -> bool {
        self.node.site.coordinator.is_some()
    }

    /// For whom it runs, elsewhere.
    pub fn who(&self) -> Who {
        let session = &self.session;
        Who::of(
            session.db,
            self.reply.protocol(),
            session.quorum,
            &session.own,
        )
    }

    /// The node, as routing sees it.
    pub fn runner(&self) -> Arc<dyn Runner> {
        Arc::clone(self.node) as Arc<dyn Runner>
    }

    /// Has a text be the reply, when it is there.
    pub fn reply_later<F, E>(&mut self, found: F)
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Display + 'static,
    {
        let (node, who) = (Arc::clone(self.node), self.who());
        let later: Later = Box::pin(async move {
            match found.await {
                Ok(text) => {
                    let mut reply = Reply::default();
                    reply.set_protocol(who.protocol);
                    reply.verbatim(&text);
                    std::mem::take(reply.buffer())
                }
                Err(error) => {
                    let error = Error::Text(format!("ERR {error}").into());
                    node.stats.count_error(&error);
                    error_reply(&who, &error)
                }
            }
        });
        self.after = After::Later(later);
    }
}
