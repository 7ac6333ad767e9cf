//! What all connections of a node share: data, directives, clients, statistics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::events::Events;
use super::eviction::Eviction;
use super::monitor::{Feed, Monitors};
use super::parts::Timings;
use super::pause::Pause;
use super::sayings::Sayings;
use super::scripts::{Libraries, Scripts};
use super::seal::ContextSeal;
use super::session::{Client, Clients};
use super::slowlog::SlowLog;
use super::spec::{Spec, Specs};
use crate::base::clock;
use crate::base::config::Config;
use crate::base::governor::Governor;
use crate::convergence::Convergence;
use crate::coordinator::Coordinator;
use crate::logic::causal::ActorId;
use crate::logic::placement::NodeId;
use crate::peer::encode;
use crate::peer::message::{News, Response};
use crate::pubsub::{Elsewhere, Here};
use crate::replica::Replica;
use crate::routing::Site;
use crate::status::{Found, Source, Stats};

/// It is said no more often that somebody sends HTTP, in milliseconds.
const ATTACK_WARNING_MS: u64 = 60_000;

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
    /// How its copies converge with the other owners'.
    pub convergence: Option<Arc<Convergence>>,
    /// Who shares the machine between clients and background work.
    pub governor: Arc<Governor>,
    /// Where what nobody waits for runs, at a lower priority.
    pub background: Option<Handle>,
    /// What commands are routed over.
    pub site: Site,
    /// What is known of all commands.
    pub specs: &'static Specs,
    /// Stands for the client of a command that runs for another node's client.
    pub inner_client: Arc<Client>,
    /// The directives.
    pub config: Config,
    /// Its name for people.
    pub name: String,
    /// What authenticates contexts.
    pub seal: ContextSeal,
    /// Connections.
    pub clients: Clients,
    /// Counters.
    pub stats: Stats,
    /// Slow commands.
    pub slowlog: SlowLog,
    /// Slow events.
    pub latency: Events,
    /// Where commands spend their time.
    pub timings: Timings,
    /// Who listens to what on this node.
    pub listeners: Arc<Here>,
    /// Who does on other members.
    pub elsewhere: Option<Arc<Elsewhere>>,
    /// What is published of keys that commands have changed.
    pub(super) sayings: Sayings,
    /// Scripts.
    pub scripts: Arc<Scripts>,
    /// Libraries of functions, as they were read last.
    pub libraries: Libraries,
    /// What may live, and what goes when it is more.
    pub eviction: Eviction,
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
    pub(super) fn new(options: NodeOptions, specs: &'static Specs) -> Arc<Self> {
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
        let site = Site::new(Arc::clone(&replica), coordinator);
        let scripts = Arc::new(Scripts::new(
            site.coordinator.is_some(),
            config.number("script-memory-limit") as usize,
        ));
        let listeners = Arc::<Here>::default();
        let elsewhere = site.coordinator.as_ref().map(|coordinator| {
            let cluster = Arc::clone(coordinator.cluster());
            let actor = replica.actor().0;
            let here = Arc::clone(&listeners);
            Arc::new(Elsewhere::new(cluster, here, coordinator.within(), actor))
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let slowlog = SlowLog::default();
        slowlog.configure(&config);
        let latency = Events::default();
        latency.configure(&config);
        let eviction = Eviction::default();
        eviction.configure(&config, &replica);
        let node = Self {
            name: config.text("node-name"),
            run_id: format!("{}{:024x}", replica.actor(), clock::now_us()),
            replica,
            convergence,
            governor,
            background,
            site,
            specs,
            inner_client: Arc::new(Client::new(0, nowhere, nowhere)),
            config,
            seal,
            clients: Clients::default(),
            stats: Stats::new(specs.all().iter().map(Spec::full_name).collect()),
            slowlog,
            latency,
            timings: Timings::default(),
            sayings: Sayings::new(specs),
            listeners,
            elsewhere,
            scripts,
            libraries: Libraries::default(),
            eviction,
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
        let Some(coordinator) = &self.site.coordinator else {
            return self.name.clone();
        };
        let members = coordinator.cluster().members();
        let found = members.into_iter().find(|member| member.actor == actor);
        found.map_or_else(|| actor.to_string(), |member| member.name)
    }

    /// Tells all members that answer, and waits for what each says.
    pub async fn tell(&self, news: News) -> Vec<(NodeId, Response)> {
        let Some(coordinator) = &self.site.coordinator else {
            return Vec::new();
        };
        let (cluster, within) = (coordinator.cluster(), coordinator.within());
        let body = encode(news);
        let others = cluster.members().into_iter().map(|member| member.id);
        let others = others.filter(|id| *id != cluster.me() && cluster.answers(*id));
        let told = others.map(|id| {
            let called = cluster.peers().call(id, body.clone(), within);
            async move { (id, called.await) }
        });
        let said = join_all(told).await.into_iter();
        said.filter_map(|(id, said)| said.ok().map(|said| (id, said)))
            .collect()
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

    /// What facts are read from.
    pub fn source(&self) -> Source<'_> {
        Source {
            name: &self.name,
            run_id: &self.run_id,
            port: self.port,
            started_ms: self.started_ms,
            last_save: self.last_save.load(Ordering::Relaxed),
            clients: self.clients.len(),
            blocked_clients: self.clients.blocked() + self.pause.held(),
            listened: self.listeners.sizes(),
            tracked: self.listeners.tracked().figures(),
            lives_bytes: self.eviction.used(&self.replica),
            evicted: self.eviction.evicted(),
            scripts: self.scripts.figures(),
            config: &self.config,
            replica: &self.replica,
            coordinator: self.site.coordinator.as_deref(),
            convergence: self.convergence.as_deref(),
            governor: &self.governor,
            stats: &self.stats,
            found: Found::default(),
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
