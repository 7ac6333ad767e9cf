//! One connection's state, and the registry of all of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::queue::{Transaction, Watch};
use super::spec::{Spec, Specs};
use super::subscriptions::{Subscriptions, Tracking};
use crate::base::clock;
use crate::coordinator::Asked;
use crate::logic::causal::Timestamp;
use crate::pubsub::{Tracked, Tracker};
use crate::replica::Written;
use crate::routing::block::Unblocked;
use crate::routing::{Own, UnderWay};
use crate::storage::Ticket;

/// Whether the client wants replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// Yes.
    #[default]
    On,
    /// No.
    Off,
    /// Not to the next command.
    SkipNext,
    /// Not to this command.
    Skip,
}

/// What only the connection's own task touches.
pub struct Session {
    /// What others may see.
    pub client: Arc<Client>,
    /// The selected database.
    pub db: u8,
    /// Whether the client has proven who it is, or need not.
    pub authenticated: bool,
    /// Between MULTI and EXEC.
    pub transaction: Option<Transaction>,
    /// Watched keys.
    pub watches: Vec<Watch>,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// CLIENT QUORUM.
    pub quorum: Asked,
    /// What it has written lately, in a cluster.
    pub own: Arc<Own>,
    /// When the command that is run was sent first, where it may have run before.
    pub since: Option<Timestamp>,
    /// Its latest write in each shard, for WAITAOF.
    pub latest: Vec<Ticket>,
    /// Whether EXEC is running: nothing blocks in it.
    pub executing: bool,
    /// Whether a script is running: nobody waits for others.
    pub in_script: bool,
    /// Commands whose replies are still to come.
    pub under_way: UnderWay,
    /// How many of its commands were counted.
    pub counted: u32,
    /// What it listens to.
    pub listens: Subscriptions,
    /// Whether it is told when what it has read changes.
    pub tracking: Option<Tracking>,
    /// The client for which it runs commands: a script's is its caller.
    pub acts_for: u64,
    /// What a transaction has changed, of which nobody was told yet.
    pub changed: Vec<Bytes>,
}

impl Session {
    /// A new connection's.
    pub fn new(client: Arc<Client>, authenticated: bool) -> Self {
        // Of clients of one command some are looked at, too.
        let first = client.id as u32;
        let acts_for = client.id;
        Self {
            client,
            db: 0,
            since: None,
            authenticated,
            transaction: None,
            watches: Vec::new(),
            reply_mode: ReplyMode::On,
            quorum: Asked::default(),
            own: Arc::default(),
            latest: Vec::new(),
            executing: false,
            in_script: false,
            under_way: UnderWay::default(),
            counted: first,
            listens: Subscriptions::default(),
            tracking: None,
            acts_for,
            changed: Vec::new(),
        }
    }

    /// Chooses a database.
    pub fn select(&mut self, db: u8) {
        self.db = db;
        self.client.db.store(db, Ordering::Relaxed);
    }

    /// It has written.
    pub fn note_written(&mut self, written: &Written) {
        if self.latest.len() <= written.shard {
            self.latest.resize(written.shard + 1, 0);
        }
        self.latest[written.shard] = written.ticket;
    }

    /// What it listens to has changed: others may see how much.
    pub(super) fn note_listens(&self) {
        for (shown, count) in self.client.listens.iter().zip(self.listens.counts()) {
            shown.store(count, Ordering::Relaxed);
        }
    }

    pub(super) fn fail_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.fail();
        }
    }
}

/// What CLIENT LIST shows of a connection.
#[derive(Debug)]
pub struct Client {
    /// Its number, from 1.
    pub id: u64,
    /// Where it comes from.
    pub address: SocketAddr,
    /// Where it arrived.
    pub local: SocketAddr,
    /// When, in milliseconds since the epoch.
    pub since_ms: u64,
    /// Names that it gave.
    pub names: Mutex<Names>,
    /// The selected database.
    pub db: AtomicU8,
    /// 2 or 3.
    pub protocol: AtomicU8,
    /// The number of the last command's row, plus one.
    last_command: AtomicUsize,
    last_active_ms: AtomicU64,
    /// How many channels, patterns and shard channels it listens to.
    listens: [AtomicUsize; 3],
    killed: AtomicBool,
    ending: AtomicBool,
    wake: Notify,
    blocked: AtomicBool,
    /// How it is to go on, where it waits.
    unblock: Mutex<Option<Unblocked>>,
    unblocks: Notify,
}

/// Names that a client gave.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub library: String,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: String,
}

impl Client {
    /// A connection that has just begun.
    pub fn new(id: u64, address: SocketAddr, local: SocketAddr) -> Self {
        Self {
            id,
            address,
            local,
            since_ms: clock::now_ms(),
            names: Mutex::default(),
            db: AtomicU8::new(0),
            protocol: AtomicU8::new(2),
            last_command: AtomicUsize::new(0),
            last_active_ms: AtomicU64::new(0),
            listens: Default::default(),
            killed: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            wake: Notify::new(),
            blocked: AtomicBool::new(false),
            unblock: Mutex::default(),
            unblocks: Notify::new(),
        }
    }

    /// It has sent something.
    pub fn note_active(&self) {
        self.last_active_ms
            .store(clock::now_ms(), Ordering::Relaxed);
    }

    /// Notes a command.
    pub fn touch(&self, spec: &'static Spec) {
        self.last_command.store(spec.id() + 1, Ordering::Relaxed);
    }

    /// Asks the connection to close.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether it was asked to close.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Waits until it is asked to close.
    pub async fn killed(&self) {
        while !self.is_killed() {
            self.wake.notified().await;
        }
    }

    /// Asks the connection to close when it has finished what it has begun.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Waits until the connection is to close, in either way.
    pub async fn over(&self) {
        while !self.is_killed() && !self.ending.load(Ordering::Acquire) {
            self.wake.notified().await;
        }
    }

    /// Has a client that waits go on; whether it waited.
    pub fn unblock(&self, how: Unblocked) -> bool {
        let mut unblock = self.unblock.lock();
        let is_blocked = self.blocked.load(Ordering::Acquire);
        if is_blocked {
            *unblock = Some(how);
            self.unblocks.notify_one();
        }
        is_blocked
    }

    /// It waits from now on, until it is made to go on or this is dropped.
    pub async fn unblocked(&self) -> Unblocked {
        *self.unblock.lock() = None;
        self.blocked.store(true, Ordering::Release);
        let _blocked = Blocked(self);
        loop {
            if let Some(how) = self.unblock.lock().take() {
                return how;
            }
            self.unblocks.notified().await;
        }
    }

    /// Seconds since it has sent something.
    pub fn idle_secs(&self) -> u64 {
        let last_ms = self
            .last_active_ms
            .load(Ordering::Relaxed)
            .max(self.since_ms);
        clock::now_ms().saturating_sub(last_ms) / 1_000
    }

    /// Whether it listens to anything.
    pub fn is_listening(&self) -> bool {
        let mut counts = self.listens.iter();
        counts.any(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// One line of CLIENT LIST; of who asks, with the bytes of the question.
    pub fn line(
        &self,
        (specs, tracked): (&Specs, &Tracked),
        own: Option<(&Session, usize)>,
    ) -> String {
        let tracker = tracked.of(self.id);
        let tracker = tracker.as_deref();
        let names = self.names.lock().clone();
        let last = self.last_command.load(Ordering::Relaxed).checked_sub(1);
        let last = last.and_then(|nth| specs.all().get(nth));
        let command = last.map_or_else(|| "NULL".into(), Spec::full_name);
        let listens = |kind: usize| self.listens[kind].load(Ordering::Relaxed);
        let in_transaction = own.is_some_and(|(s, _)| s.transaction.is_some());
        let flags: String = [
            ('P', self.is_listening()),
            ('x', in_transaction),
            ('b', self.blocked.load(Ordering::Acquire)),
            ('t', tracker.is_some()),
            ('R', tracker.is_some_and(Tracker::is_lost)),
            (
                'B',
                tracker.is_some_and(|tracker| tracker.prefixes.is_some()),
            ),
        ]
        .into_iter()
        .filter_map(|(flag, is_so)| is_so.then_some(flag))
        .collect();
        let flags = if flags.is_empty() { "N" } else { &flags };
        let redirect = tracker.map_or(-1, |one| one.redirect.map_or(0, |id| id as i64));
        format!(
            "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} \
             multi={} qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 \
             tot-mem=0 events=r cmd={} user=default redir={} resp={} lib-name={} lib-ver={}",
            self.id,
            self.address,
            self.local,
            names.name,
            clock::now_ms().saturating_sub(self.since_ms) / 1_000,
            self.idle_secs(),
            flags,
            self.db.load(Ordering::Relaxed),
            listens(0),
            listens(1),
            listens(2),
            if in_transaction { 0 } else { -1 },
            own.map_or(0, |(_, asked)| asked),
            command,
            redirect,
            self.protocol.load(Ordering::Relaxed),
            names.library,
            names.library_version,
        )
    }
}

/// A client that waits, as long as it does.
struct Blocked<'a>(&'a Client);

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.blocked.store(false, Ordering::Release);
    }
}

/// All connections.
#[derive(Debug, Default)]
pub struct Clients {
    next_id: AtomicU64,
    by_id: DashMap<u64, Arc<Client>>,
}

impl Clients {
    /// Registers a connection.
    pub fn add(&self, address: SocketAddr, local: SocketAddr) -> Arc<Client> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(id, address, local));
        self.by_id.insert(id, Arc::clone(&client));
        client
    }

    /// Forgets a connection.
    pub fn remove(&self, id: u64) {
        self.by_id.remove(&id);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many wait for a key to get something.
    pub fn blocked(&self) -> usize {
        let clients = self.by_id.iter();
        clients
            .filter(|client| client.blocked.load(Ordering::Acquire))
            .count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All, by number.
    pub fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect();
        all.sort_by_key(|client| client.id);
        all
    }
}
