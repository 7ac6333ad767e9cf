//! What all connections of a node share: data, directives, clients, statistics.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::args::Args;
use super::causal::ContextSeal;
use super::error::Error;
use super::gate::Gate;
use super::lanes::Lanes;
use super::monitor::{Feed, Monitors};
use super::secrets::Secrets;
use super::session::{Client, Clients, Session};
use super::table::Spec;
use super::timing::Timings;
use super::{info, latency, table};
use crate::base::clock;
use crate::base::config::Config;
use crate::base::governor::Governor;
use crate::base::histogram::Histogram;
use crate::convergence::Convergence;
use crate::coordinator::Coordinator;
use crate::logic::causal::ActorId;
use crate::replica::Replica;

/// It is said no more often that somebody sends HTTP, in milliseconds.
const ATTACK_WARNING_MS: u64 = 60_000;
/// Lanes of a coordinator.
const LANES: u16 = 1_024;
/// Words of a slow log entry, and bytes of a word.
const SLOWLOG_WORDS: usize = 32;
const SLOWLOG_WORD_LEN: usize = 128;
const MAX_ERROR_KINDS: usize = 128;

/// What a node is made of.
pub struct NodeOptions {
    /// The data.
    pub replica: Arc<Replica>,
    /// What makes it a member of a cluster.
    pub coordinator: Option<Arc<Coordinator>>,
    /// How its copies converge with the other owners'.
    pub convergence: Option<Arc<Convergence>>,
    /// Who shares the machine between clients and background work.
    pub governor: Arc<Governor>,
    /// Where what nobody waits for runs, at a lower priority.
    pub background: Option<Handle>,
    /// The directives.
    pub config: Config,
    /// What authenticates contexts.
    pub seal: ContextSeal,
    /// Follows directives that were changed, where somebody else than the node heeds them.
    pub follow: Box<dyn Fn(&Config) + Send + Sync>,
    /// The port that was bound.
    pub port: u16,
    /// As many clients as descriptors are left for.
    pub most_clients: i64,
}

/// The node.
pub struct Node {
    /// The data.
    pub replica: Arc<Replica>,
    /// What makes it a member of a cluster.
    pub coordinator: Option<Arc<Coordinator>>,
    /// How its copies converge with the other owners'.
    pub convergence: Option<Arc<Convergence>>,
    /// Who shares the machine between clients and background work.
    pub governor: Arc<Governor>,
    /// Where what nobody waits for runs, at a lower priority.
    pub background: Option<Handle>,
    /// Commands on one key take turns at its coordinator, from the read quorum before a command to its
    /// local step.
    pub lanes: Lanes,
    /// Stands for the client of a command that runs for another node's client.
    pub inner_client: Arc<Client>,
    /// The directives.
    pub config: Config,
    /// Its name for people.
    pub name: String,
    /// What authenticates contexts.
    pub seal: ContextSeal,
    /// Which commands keep each other out.
    pub gate: Gate,
    /// Connections.
    pub clients: Clients,
    /// Counters.
    pub stats: Stats,
    /// Slow commands.
    pub slowlog: SlowLog,
    /// Slow events.
    pub latency: latency::Monitor,
    /// Where commands spend their time.
    pub timings: Timings,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// When the node started, in milliseconds since the epoch.
    pub started_ms: u64,
    /// Seconds since the epoch of the last SAVE.
    pub last_save: AtomicU64,
    /// The port that was bound.
    pub port: u16,
    /// A random name of this run.
    pub run_id: String,
    pub(super) follow: Box<dyn Fn(&Config) + Send + Sync>,
    shutdown: Notify,
    asked_to_stop: Notify,
    stopping: AtomicBool,
    pub(super) monitors: Monitors,
    /// When it was said last that somebody sends HTTP, in milliseconds since the epoch.
    attack_warned_ms: AtomicU64,
    /// As many clients as descriptors are left for.
    pub(super) most_clients: i64,
}

impl Node {
    /// A node that has started.
    pub fn new(options: NodeOptions) -> Arc<Self> {
        let NodeOptions {
            replica,
            coordinator,
            convergence,
            governor,
            background,
            config,
            seal,
            follow,
            port,
            most_clients,
        } = options;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let slowlog = SlowLog::default();
        slowlog.configure(&config);
        let latency = latency::Monitor::default();
        latency.configure(&config);
        let node = Self {
            name: config.text("node-name"),
            run_id: format!("{}{:024x}", replica.actor(), clock::now_us()),
            replica,
            coordinator,
            convergence,
            governor,
            background,
            lanes: Lanes::new(LANES),
            inner_client: Arc::new(Client::new(0, nowhere, nowhere)),
            config,
            seal,
            gate: Gate::default(),
            clients: Clients::default(),
            stats: Stats::new(),
            slowlog,
            latency,
            timings: Timings::default(),
            pause: Pause::default(),
            started_ms: clock::now_ms(),
            last_save: AtomicU64::new(clock::now_ms() / 1_000),
            port,
            follow,
            shutdown: Notify::new(),
            asked_to_stop: Notify::new(),
            stopping: AtomicBool::new(false),
            monitors: Monitors::default(),
            attack_warned_ms: AtomicU64::new(0),
            most_clients,
        };
        Arc::new(node)
    }

    /// The name of the node that an actor is a run of; of a run that has ended, the actor itself. A
    /// lone node is all of them.
    pub fn name_of(&self, actor: ActorId) -> String {
        let Some(coordinator) = &self.coordinator else {
            return self.name.clone();
        };
        let members = coordinator.cluster().members();
        let found = members.into_iter().find(|member| member.actor == actor);
        found.map_or_else(|| actor.to_string(), |member| member.name)
    }

    /// Asks the node to hand over what it does for others, and to stop.
    pub fn ask_to_stop(&self) {
        self.asked_to_stop.notify_one();
    }

    /// Waits until somebody has asked for that.
    pub async fn was_asked_to_stop(&self) {
        self.asked_to_stop.notified().await;
    }

    /// Stops: no new command begins.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.shutdown.notify_waiters();
        self.shutdown.notify_one();
        self.clients.all().iter().for_each(|client| client.end());
    }

    /// Whether the node was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until the node is asked to stop.
    pub async fn stopped(&self) {
        while !self.is_stopping() {
            self.shutdown.notified().await;
        }
    }

    /// Takes stock, once a second.
    pub fn sample(&self) {
        self.stats.sample();
    }

    /// A new monitor's feed.
    pub fn add_monitor(&self) -> Feed {
        self.monitors.add()
    }

    /// Somebody sends HTTP: a browser may have been made to.
    pub(super) fn warn_of_attack(&self, client: &Client) {
        let now_ms = clock::now_ms();
        let last = self.attack_warned_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last) >= ATTACK_WARNING_MS {
            self.attack_warned_ms.store(now_ms, Ordering::Relaxed);
            tracing::warn!(client = %client.address, "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands. This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise this server. Connection aborted.");
        }
    }
}

/// Counters for INFO.
#[derive(Debug)]
pub struct Stats {
    /// Reads that found their key.
    pub keyspace_hits: AtomicU64,
    /// Reads that did not.
    pub keyspace_misses: AtomicU64,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections refused for `maxclients` or protected mode.
    pub rejected: AtomicU64,
    /// Bytes received.
    pub input_bytes: AtomicU64,
    /// Bytes sent.
    pub output_bytes: AtomicU64,
    /// By the command's number.
    pub commands: Vec<CommandStats>,
    /// What happened in the last second.
    pub rates: Rates,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// What happened in the last second; [`Node::sample`] keeps it.
#[derive(Debug, Default)]
pub struct Rates {
    /// Commands.
    pub commands: AtomicU64,
    /// Bytes received.
    pub input_bytes: AtomicU64,
    /// Bytes sent.
    pub output_bytes: AtomicU64,
    /// The most memory that was resident at any sample, in bytes.
    pub peak_memory: AtomicU64,
    totals: Mutex<[u64; 3]>,
}

/// One command's counters.
#[derive(Debug, Default)]
pub struct CommandStats {
    /// Runs.
    pub calls: AtomicU64,
    /// Runs that ended in an error.
    pub failed: AtomicU64,
    /// Time in all.
    pub nanos: AtomicU64,
    /// How long runs took.
    pub latency: Histogram,
}

impl CommandStats {
    pub(super) fn record(&self, took: Duration, failed: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanos
            .fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.latency.record(took);
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Stats {
    fn new() -> Self {
        Self {
            keyspace_hits: AtomicU64::new(0),
            keyspace_misses: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            input_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
            commands: table::all()
                .iter()
                .map(|_| CommandStats::default())
                .collect(),
            rates: Rates::default(),
            errors: Mutex::default(),
        }
    }

    fn sample(&self) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let totals = [
            self.total_commands(),
            load(&self.input_bytes),
            load(&self.output_bytes),
        ];
        let before = std::mem::replace(&mut *self.rates.totals.lock(), totals);
        let rates = [
            &self.rates.commands,
            &self.rates.input_bytes,
            &self.rates.output_bytes,
        ];
        for (nth, rate) in rates.into_iter().enumerate() {
            // CONFIG RESETSTAT sets totals back.
            let since = totals[nth].checked_sub(before[nth]).unwrap_or(totals[nth]);
            rate.store(since, Ordering::Relaxed);
        }
        let peak = &self.rates.peak_memory;
        peak.fetch_max(info::resident_bytes(), Ordering::Relaxed);
    }

    /// Counts an error reply by its first word.
    pub fn count_error(&self, error: &Error) {
        let mut errors = self.errors.lock();
        let prefix = error.prefix();
        if errors.len() < MAX_ERROR_KINDS || errors.contains_key(&prefix) {
            *errors.entry(prefix).or_default() += 1;
        }
    }

    /// Error replies by their first word.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// Commands run.
    pub fn total_commands(&self) -> u64 {
        self.commands
            .iter()
            .map(|c| c.calls.load(Ordering::Relaxed))
            .sum()
    }

    /// Sets everything to zero.
    pub fn reset(&self) {
        for counter in [
            &self.keyspace_hits,
            &self.keyspace_misses,
            &self.connections,
            &self.rejected,
            &self.input_bytes,
            &self.output_bytes,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        for command in &self.commands {
            command.calls.store(0, Ordering::Relaxed);
            command.failed.store(0, Ordering::Relaxed);
            command.nanos.store(0, Ordering::Relaxed);
            command.latency.reset();
        }
        self.errors.lock().clear();
    }
}

/// CLIENT PAUSE: until when, and whether reads wait too.
#[derive(Debug, Default)]
pub struct Pause {
    until_ms: AtomicU64,
    all: AtomicBool,
    ended: Notify,
}

impl Pause {
    /// Pauses until a time.
    pub fn begin(&self, until_ms: u64, all: bool) {
        self.until_ms.fetch_max(until_ms, Ordering::AcqRel);
        self.all.store(all, Ordering::Release);
    }

    /// Ends the pause.
    pub fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Whether there is a pause that a command must wait for. One load when there is none.
    pub fn holds(&self, may_write: impl FnOnce() -> bool) -> bool {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        until_ms != 0
            && until_ms > clock::now_ms()
            && (self.all.load(Ordering::Acquire) || may_write())
    }

    /// Waits until the pause is over.
    pub async fn over(&self) {
        loop {
            let ended = self.ended.notified();
            let now_ms = clock::now_ms();
            let until_ms = self.until_ms.load(Ordering::Acquire);
            if until_ms <= now_ms {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(until_ms - now_ms), ended).await;
        }
    }
}

/// The slow log.
#[derive(Debug, Default)]
pub struct SlowLog {
    threshold_us: AtomicI64,
    entries: Mutex<(u64, usize, VecDeque<SlowEntry>)>,
}

/// One slow command.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    /// Its number.
    pub id: u64,
    /// When, in seconds since the epoch.
    pub at_secs: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Its words, shortened.
    pub words: Vec<Vec<u8>>,
    /// Who sent it.
    pub address: String,
    /// The connection's name.
    pub name: String,
}

impl SlowLog {
    /// Microseconds from which a command is slow; negative for never.
    pub fn threshold_us(&self) -> i64 {
        self.threshold_us.load(Ordering::Relaxed)
    }

    pub(super) fn configure(&self, config: &Config) {
        let threshold = config.number("slowlog-log-slower-than");
        self.threshold_us.store(threshold, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        entries.1 = config.number("slowlog-max-len") as usize;
        let keep = entries.1;
        entries.2.truncate(keep);
    }

    pub(super) fn push(&self, session: &Session, spec: &Spec, args: Args<'_>, took: Duration) {
        let entry = SlowEntry {
            id: 0,
            at_secs: clock::now_ms() / 1_000,
            took_us: took.as_micros() as u64,
            words: shorten(spec, args),
            address: session.client.address.to_string(),
            name: session.client.names.lock().name.clone(),
        };
        let mut entries = self.entries.lock();
        let id = entries.0;
        entries.0 += 1;
        entries.2.push_front(SlowEntry { id, ..entry });
        let keep = entries.1;
        entries.2.truncate(keep);
    }

    /// The latest entries first.
    pub fn latest(&self, count: usize) -> Vec<SlowEntry> {
        self.entries.lock().2.iter().take(count).cloned().collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.lock().2.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the entries.
    pub fn reset(&self) {
        self.entries.lock().2.clear();
    }
}

fn shorten(spec: &Spec, args: Args<'_>) -> Vec<Vec<u8>> {
    let secrets = Secrets::of(spec, args);
    let mut words: Vec<Vec<u8>> = (0..args.len().min(SLOWLOG_WORDS))
        .map(|nth| secrets.show(args, nth))
        .map(|word| {
            if word.len() <= SLOWLOG_WORD_LEN {
                return word.to_vec();
            }
            let more = format!("... ({} more bytes)", word.len() - SLOWLOG_WORD_LEN);
            [&word[..SLOWLOG_WORD_LEN], more.as_bytes()].concat()
        })
        .collect();
    if args.len() > SLOWLOG_WORDS {
        let more = args.len() - SLOWLOG_WORDS + 1;
        words[SLOWLOG_WORDS - 1] = format!("... ({more} more arguments)").into_bytes();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_kinds_of_errors_are_counted_and_no_more() {
        let stats = Stats::new();
        for nth in 0..MAX_ERROR_KINDS + 10 {
            stats.count_error(&Error::Text(format!("KIND{nth} and a reason").into()));
        }
        assert_eq!(stats.errors().len(), MAX_ERROR_KINDS);
        stats.count_error(&Error::Text("KIND0 for another reason".into()));
        assert_eq!(stats.errors()["KIND0"], 2);
    }
}
