//! The composition root: builds every part from the directives, runs them, stops them in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::RwLock;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::answer::PeerHandler;
use crate::background;
use crate::base::clock;
use crate::base::config::{Config, Prefix};
use crate::base::governor::{self, Governor};
use crate::cluster::{self, Cluster};
use crate::command::{self, ContextSeal, Node, NodeOptions, appendfsync};
use crate::convergence::Convergence;
use crate::coordinator::{self, Coordinator};
use crate::logic;
use crate::logic::causal::ActorId;
use crate::logic::membership::{Losses, Parts};
use crate::logic::placement::{NodeId, Partitions};
use crate::logic::quorum::{Rule, Rules};
use crate::logic::types::conflict::{OnConflict, Policies};
use crate::logic::types::guard;
use crate::net;
use crate::peer::message::NEWEST;
use crate::peer::{Identity, Links, PeerListener};
use crate::replica::{HintLimits, Options as ReplicaOptions, Replica, ReplicaError, random_u64};
use crate::storage::{DEFAULT_CACHED_FILES, DiskOptions, DiskStore, Store, StoreError};

/// After a note that could not be written.
const NOTE_AGAIN: Duration = Duration::from_millis(200);
/// How often expired and flushed rows are looked for when there were none.
const RECLAIM_EVERY: Duration = Duration::from_millis(100);

/// Why the server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data in it.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A socket.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A directive that only shows now.
    #[error("partitions must be a power of two up to 16384, not {0}")]
    Partitions(i64),
    /// The secret's file.
    #[error("{path}: {source}", path = path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Too few descriptors.
    #[error("at most {limit} files can be open, and the node needs {least}: raise 'ulimit -n'")]
    Files {
        /// The limit.
        limit: u64,
        /// What would do.
        least: u64,
    },
    /// Numbers of copies that do not go together.
    #[error("{0}")]
    Quorum(String),
    /// The runtime.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// Taken for the machine's memory where it cannot be told.
const DEFAULT_MEMORY: u64 = 1 << 30;

/// How long the others may take to hear that this node stops, and how long what they have sent until
/// then may be on its way.
const TOLD_WITHIN: Duration = Duration::from_millis(500);
const LAST_REQUESTS: Duration = Duration::from_millis(300);

/// How far background work stands back (see nice(1)).
const BACKGROUND_NICE: i32 = 10;

/// Descriptors that the node keeps for itself beside its clients' sockets, where there are enough.
const OWN_FILES: u64 = 2_048;
/// What it cannot do without: sockets of its own, and the files of each shard.
const LEAST_FILES: u64 = 64;
const LEAST_FILES_OF_A_SHARD: u64 = 24;
/// Files that the engine keeps open at least, for each shard.
const LEAST_CACHED_FILES: u64 = 10;

/// How much is logged from now on, in the words of `loglevel`.
pub type SetLogLevel = Box<dyn Fn(&str) + Send + Sync>;

/// Runs a node until it is asked to stop.
pub fn run(config: Config, set_log_level: SetLogLevel) -> Result<(), StartError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let threads @ 1.. = config.number("io-threads") {
        runtime.worker_threads(threads as usize);
    }
    let runtime = runtime.enable_all().build().map_err(StartError::Runtime)?;
    let mut background = tokio::runtime::Builder::new_multi_thread();
    let background = background
        .worker_threads(1)
        .thread_name("background")
        .on_thread_start(give_way)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let served = runtime.block_on(serve(config, set_log_level, background.handle().clone()));
    background.shutdown_background();
    served
}

/// What nobody waits for leaves the processors to what somebody does.
fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, BACKGROUND_NICE) {
        tracing::debug!(%error, "background work has the same priority");
    }
}

async fn serve(
    config: Config,
    set_log_level: SetLogLevel,
    background: Handle,
) -> Result<(), StartError> {
    let started = clock::monotonic();
    let files = share_files(&config)?;
    let partitions = config.number("partitions");
    let partitions = u16::try_from(partitions)
        .ok()
        .and_then(Partitions::new)
        .ok_or(StartError::Partitions(partitions))?;
    // The port first: a second server in the same place must not touch the data.
    let (address, port) = (config.text("bind"), config.number("port") as u16);
    let listener =
        net::bind(&address, port, config.number("tcp-backlog") as i32).map_err(|source| {
            StartError::Listen {
                address: format!("{address}:{port}"),
                source,
            }
        })?;
    let store = Arc::new(open_store(&config, files.of_a_shard)?);
    let secret = match config.text("cluster-secret") {
        empty if empty.is_empty() => load_secret(Path::new(&config.text("dir")))?,
        secret => secret.into_bytes(),
    };
    let (replica, recovery) = Replica::start(
        Arc::clone(&store) as Arc<dyn Store>,
        replica_options(&config, partitions, rules(&config)?),
    )?;
    let replica = Arc::new(replica);
    tracing::info!(
        keys = recovery
            .keys
            .map_or("to be counted".to_owned(), |keys| keys.to_string()),
        clean_stop = recovery.clean,
        took_ms = clock::monotonic().duration_since(started).as_millis() as u64,
        "data recovered"
    );
    let port = listener.port();
    let member = if config.is_on("cluster-enabled") {
        Some(Member::start(&config, port, &replica, &secret).await?)
    } else {
        None
    };
    let governor = Arc::new(Governor::new(governor::Limits {
        fixed: Duration::from_micros(config.number("background-p99-us") as u64),
        percent: config.number("background-slowdown") as u64,
    }));
    let convergence = member.as_ref().map(|member| {
        Arc::new(Convergence::new(
            Arc::clone(member.coordinator.cluster()),
            Arc::clone(&replica),
            Arc::clone(&governor),
        ))
    });
    let follow = Box::new(move |config: &Config| {
        store.set_appendfsync(appendfsync(&config.text("appendfsync")));
        set_log_level(&config.text("loglevel"));
    });
    let node = command::node(NodeOptions {
        replica,
        coordinator: member.as_ref().map(|m| Arc::clone(&m.coordinator)),
        convergence,
        governor,
        background: Some(background.clone()),
        config,
        seal: ContextSeal::new(&secret),
        follow,
        port,
        most_clients: files.clients as i64,
    });
    tracing::info!(%address, port, node = %node.name, pid = std::process::id(), "ready");
    run_parts(node, listener, member, background).await;
    Ok(())
}

async fn run_parts(
    node: Arc<Node>,
    listener: net::Listener,
    member: Option<Member>,
    background: Handle,
) {
    let sweeping = Arc::new(AtomicBool::new(true));
    let sweeper = {
        let (node, sweeping) = (Arc::clone(&node), Arc::clone(&sweeping));
        background.spawn_blocking(move || sweep(&node, &sweeping))
    };
    let counter = {
        let (node, counting) = (Arc::clone(&node), Arc::clone(&sweeping));
        background.spawn_blocking(move || count(&node, &counting))
    };
    let coordinator = node.site.coordinator.clone();
    // However this ends: nobody would end the sweeper otherwise, and the process would wait for it.
    let sweeping = EndsWhenDropped(sweeping);
    tokio::select! {
        () = listener.serve(Arc::clone(&node)) => {}
        () = stop_on_signal(&node) => {}
        () = take_stock(&node) => {}
        () = node.governor.govern() => {}
        () = be_member(&node, member, &background) => {}
    }
    if let Some(coordinator) = coordinator {
        coordinator.cluster().peers().close();
    }
    drop(sweeping);
    let _ = sweeper.await;
    let _ = counter.await;
    let stopping = clock::monotonic();
    // What runs ends; nothing begins any more.
    let _alone = node.site.gate.alone().await;
    let replica = Arc::clone(&node.replica);
    let _ = tokio::task::spawn_blocking(move || replica.stop()).await;
    let took_ms = clock::monotonic().duration_since(stopping).as_millis() as u64;
    tracing::info!(took_ms, "stopped cleanly");
}

/// Tells threads to end.
struct EndsWhenDropped(Arc<AtomicBool>);

impl Drop for EndsWhenDropped {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What makes a node a member of a cluster.
struct Member {
    coordinator: Arc<Coordinator>,
    listener: PeerListener,
    seeds: Vec<String>,
}

/// The note under which a node keeps what it knows about its cluster.
pub(crate) const CLUSTER_NOTE: &[u8] = b"cluster";

impl Member {
    async fn start(
        config: &Config,
        client_port: u16,
        replica: &Arc<Replica>,
        secret: &[u8],
    ) -> Result<Self, StartError> {
        let host = config.text("peer-bind");
        let peer_port = match config.number("peer-port") as u16 {
            0 => client_port.checked_add(10_000).unwrap_or(0),
            port => port,
        };
        let listener = PeerListener::bind(&host, peer_port)
            .await
            .map_err(|source| {
                let address = format!("{host}:{peer_port}");
                StartError::Listen { address, source }
            })?;
        let notes = match replica.note(CLUSTER_NOTE)? {
            Some(raw) => cluster::Notes::decode(&raw).map_err(ReplicaError::from)?,
            None => cluster::Notes {
                node: NodeId(random_u64()),
                cluster: 0,
                members: Vec::new(),
                lacking: Vec::new(),
            },
        };
        let before = notes.members.iter().find(|member| member.id == notes.node);
        let client_host = config.text("bind");
        let client_host = client_host.split_whitespace().next().unwrap_or("127.0.0.1");
        let me = logic::membership::Member {
            id: notes.node,
            name: config.text("node-name"),
            peer_address: format!("{host}:{}", listener.port()),
            client_address: format!("{client_host}:{client_port}"),
            zone: config.text("zone"),
            weight: config.number("weight") as u32,
            actor: replica.actor(),
            incarnation: before.map_or(1, |member| member.incarnation + 1),
            version: 0,
            joined: before.map_or(0, |member| member.joined),
            left: before.and_then(|member| member.left),
            gone: before.is_some_and(|member| member.gone),
            replaces: before.and_then(|member| member.replaces),
            places: before.map_or_else(Vec::new, |member| member.places.clone()),
            complete: before.and_then(|member| member.complete.clone()),
            proven: before.map_or_else(Parts::default, |member| member.proven.clone()),
            proven_as_of: before.map_or(0, |member| member.proven_as_of),
            losses: before.map_or_else(Losses::default, |member| member.losses.clone()),
            state: logic::membership::State::Runs,
        };
        let seeds = config.text("seeds");
        let seeds = seeds.split_whitespace().map(str::to_owned).collect();
        let options = cluster::Options {
            partitions: replica.partitions(),
            rules: rules(config)?,
            phi_threshold: config.number("phi-threshold") as f64,
            key: Identity::key_of(secret),
            reads_lost: config.text("lost-partitions") == "empty",
            wire: match config.number("peer-wire-version") {
                0 => NEWEST,
                version => version as u16,
            },
        };
        let reach =
            |identity: Arc<RwLock<Identity>>| Arc::new(Links::new(move || *identity.read()));
        let cluster = Cluster::new(me, notes, options, |identity| reach(identity));
        if replica.store().is_damaged() {
            cluster.lack_everything();
        }
        // This run's incarnation must never be another run's.
        let written = cluster.notes().encode();
        let noting = Arc::clone(replica);
        let id = cluster.identity().cluster;
        let note = move || {
            noting.put_note(CLUSTER_NOTE, Some(written));
            if !noting.sees_under(id)? {
                noting.forget_all_seen()?;
                noting.settle();
                noting.see_under(id)?;
            }
            noting.settle();
            noting.store().sync()?;
            noting.store().forget_damage();
            Ok::<(), ReplicaError>(())
        };
        tokio::task::spawn_blocking(note)
            .await
            .map_err(|e| StartError::Runtime(e.into()))??;
        let options = coordinator::Options {
            within: Duration::from_millis(config.number("request-timeout-ms") as u64),
            read_repair_chance: config.number("read-repair-chance") as u8,
        };
        let coordinator = Coordinator::new(cluster, Arc::clone(replica), options);
        Ok(Self {
            coordinator: Arc::new(coordinator),
            listener,
            seeds,
        })
    }
}

/// How many copies keys have and how many count, for all and by prefix.
fn rules(config: &Config) -> Result<Rules, StartError> {
    let rule = |prefix: Option<&Prefix>| -> Result<Rule, StartError> {
        let number = |name| config.text_for(prefix, name).parse().unwrap_or(0);
        let rule = Rule {
            n: number("replicas-per-key"),
            r: number("read-quorum"),
            w: number("write-quorum"),
            strict: config.text_for(prefix, "quorum") == "strict",
        };
        let of = prefix.map_or(String::new(), |p| format!("[[prefix]] '{}': ", p.prefix));
        let checked = rule.check();
        checked.map_err(|reason| StartError::Quorum(of + &reason))?;
        Ok(rule)
    };
    let of_prefix = |prefix: &Prefix| Ok((prefix.prefix.clone().into_bytes(), rule(Some(prefix))?));
    let by_prefix: Result<_, StartError> = config.prefixes().iter().map(of_prefix).collect();
    Ok(Rules::new(rule(None)?, by_prefix?))
}

/// What is shown of keys with siblings, for all and by prefix.
fn policies(config: &Config) -> Policies {
    let policy = |prefix: Option<&Prefix>| {
        let named = OnConflict::named(&config.text_for(prefix, "on-conflict"));
        named.unwrap_or_default()
    };
    let of_prefix = |prefix: &Prefix| (prefix.prefix.clone().into_bytes(), policy(Some(prefix)));
    Policies::new(
        policy(None),
        config.prefixes().iter().map(of_prefix).collect(),
    )
}

/// The workers of a member; a lone node has none.
async fn be_member(node: &Arc<Node>, member: Option<Member>, low: &Handle) {
    let Some(Member {
        coordinator,
        listener,
        seeds,
    }) = member
    else {
        return std::future::pending().await;
    };
    let cluster = coordinator.cluster();
    let hints_a_second = node.config.number("hint-rate") as u32;
    let every = Duration::from_secs(node.config.number("anti-entropy-interval") as u64);
    let Some(convergence) = node.convergence.clone() else {
        return std::future::pending().await;
    };
    tracing::info!(id = %cluster.me(), peer_port = listener.port(), "a member of a cluster");
    let (replica, governor) = (Arc::clone(&node.replica), Arc::clone(&node.governor));
    let handing =
        background::hand_over_hints(Arc::clone(cluster), replica, governor, hints_a_second);
    // They end when this is dropped.
    let mut workers = JoinSet::new();
    workers.spawn_on(handing, low);
    let handing_off = background::HandoffOptions {
        parallelism: node.config.number("transfer-parallelism") as usize,
        rate: {
            let node = Arc::clone(node);
            Box::new(move || node.config.number("transfer-rate") as u64)
        },
        trusts_unproven: false,
    };
    let handing_off = background::hand_off(Arc::clone(&convergence), handing_off);
    workers.spawn_on(handing_off, low);
    workers.spawn_on(
        background::anti_entropy(convergence, every, random_u64),
        low,
    );
    tokio::join!(
        listener.serve(Arc::new(PeerHandler(Arc::clone(node)))),
        background::gossip(Arc::clone(cluster), seeds, random_u64),
        coordinator.hedge_reads(),
        cluster.make_sure(),
        Arc::clone(&coordinator).mend_rows(),
        background::keep_pace(Arc::clone(cluster), Arc::clone(&node.governor)),
        write_notes(Arc::clone(cluster), Arc::clone(&node.replica)),
    );
}

/// Writes down what is known about the cluster whenever it changes, and tries again while it cannot.
async fn write_notes(cluster: Arc<Cluster>, replica: Arc<Replica>) {
    let mut last = Vec::new();
    loop {
        let revision = cluster.revision().get();
        let notes = cluster.notes().encode();
        if notes != last {
            let (replica, written) = (Arc::clone(&replica), notes.clone());
            let write = move || replica.put_note(CLUSTER_NOTE, Some(written));
            if !matches!(tokio::task::spawn_blocking(write).await, Ok(true)) {
                tokio::time::sleep(NOTE_AGAIN).await;
                continue;
            }
            last = notes;
        }
        cluster.has_noted(revision);
        cluster.revision().reach(revision + 1).await;
    }
}

fn expired_grace_ms(config: &Config) -> u64 {
    (config.number("expired-grace") as u64).saturating_mul(1_000)
}

fn replica_options(config: &Config, partitions: Partitions, rules: Rules) -> ReplicaOptions {
    ReplicaOptions {
        rules: Arc::new(rules),
        policies: Arc::new(policies(config)),
        tree_skips: 0,
        limits: guard::Limits {
            warn: config.number("sibling-warning") as usize,
            siblings: config.number("sibling-limit") as usize,
            bytes: config.number("sibling-bytes-limit") as u64,
        },
        actor: ActorId(random_u64()),
        partitions,
        cache_bytes: cache_bytes(config),
        shared: config.is_on("cluster-enabled"),
        grace_ms: expired_grace_ms(config),
        tombstone_grace_ms: (config.number("tombstone-grace") as u64).saturating_mul(1_000),
        hints: HintLimits {
            bytes: config.number("hint-limit") as u64,
            age_ms: (config.number("hint-max-age") as u64).saturating_mul(1_000),
        },
        max_clock_drift_ms: config.number("max-clock-drift-ms") as u64,
    }
}

/// Raises the limit of open files, as far as the system lets us.
fn allow_files(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let possible = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let raised = Rlimit {
        current: Some(possible),
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(
            "Server can't set maximum open files to {wanted} because of OS error: {error}."
        );
    }
}

/// What the limit of open files leaves to whom.
struct Files {
    /// For clients.
    clients: u64,
    /// That the engine of one shard keeps open.
    of_a_shard: usize,
}

/// Raises the limit as far as it goes. Where that is less than is wanted, fewer clients are taken in: the
/// node's own files come first.
fn share_files(config: &Config) -> Result<Files, StartError> {
    use rustix::process::{Resource, getrlimit};
    let wanted = config.number("maxclients") as u64;
    let shards = disk_options(config).shards as u64;
    allow_files(wanted + OWN_FILES);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let own = OWN_FILES.min(limit / 2);
    let least = LEAST_FILES + LEAST_FILES_OF_A_SHARD * shards;
    if own < least {
        return Err(StartError::Files {
            limit,
            least: 2 * least,
        });
    }
    let clients = limit - own;
    if clients < wanted {
        tracing::warn!(
            "You requested maxclients of {wanted} requiring at least {} max file descriptors.",
            wanted + own
        );
        tracing::warn!(
            "Current maximum open files is {limit}. maxclients has been reduced to {clients} to \
             compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
        );
        let reduced = [("maxclients".to_owned(), clients.to_string())];
        let set = config.set(&reduced);
        debug_assert!(set.is_ok(), "it is a number in its bounds");
    }
    Ok(Files {
        clients,
        of_a_shard: (own / 2 / shards).max(LEAST_CACHED_FILES) as usize,
    })
}

/// Rates for INFO, once a second.
async fn take_stock(node: &Node) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        node.sample();
    }
}

/// SIGTERM and SIGINT ask the node to stop; the listener then drains and returns.
async fn stop_on_signal(node: &Node) {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    if let (Ok(mut terminate), Ok(mut interrupt)) = signals {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = node.was_asked_to_stop() => {}
        }
        tracing::info!("asked to stop: finishing what has begun");
        hand_over(node).await;
        node.stop();
    }
    std::future::pending::<()>().await;
}

/// Tells the other members that this one stops, so that they send it nothing more, and gives what is on
/// its way the time to come.
async fn hand_over(node: &Node) {
    let Some(coordinator) = node.site.coordinator.as_ref() else {
        return;
    };
    let cluster = coordinator.cluster();
    if !cluster.has_joined() {
        return;
    }
    // Who has left and holds nothing any more is gone when it stops.
    if let Some(Err(error)) = node.convergence.as_ref().map(|c| c.survey()) {
        tracing::debug!(%error, "what this node holds is not known");
    }
    cluster.say_it_stops();
    let push = cluster.news();
    let others = cluster.members().into_iter().map(|member| member.id);
    let others = others.filter(|id| *id != cluster.me() && cluster.answers(*id));
    let told = others.map(|id| cluster.peers().call(id, push.clone(), TOLD_WITHIN));
    let told = join_all(told).await;
    if told.iter().any(Result::is_ok) {
        tokio::time::sleep(LAST_REQUESTS).await;
    }
}

/// Counts what is there, a partition at a time: after an unclean stop, and when writes have failed.
fn count(node: &Node, counting: &AtomicBool) {
    while counting.load(Ordering::Acquire) {
        let started = clock::monotonic();
        let more = node.replica.count_next();
        let took = clock::monotonic().duration_since(started);
        if more {
            std::thread::sleep(node.governor.rest_after(took));
            continue;
        }
        // Who is in the middle of something queues the rest of it first.
        let alone = node.replica.is_to_recover().then(|| {
            let gate = node.site.gate.alone();
            Handle::current().block_on(gate)
        });
        let recovered = node.replica.recover_from_failures();
        drop(alone);
        if let Err(error) = recovered {
            tracing::debug!(%error, "counting waits");
        }
        std::thread::sleep(RECLAIM_EVERY);
    }
}

/// Reclaims in slices until told to stop, and rests after each as long as the governor says.
fn sweep(node: &Node, sweeping: &AtomicBool) {
    while sweeping.load(Ordering::Acquire) {
        let started = clock::monotonic();
        let slice = {
            let _passing = node.site.gate.pass_by();
            node.replica.reclaim_expired()
        };
        node.replica.settle();
        let more = slice.and_then(|more| Ok(node.replica.reclaim_flushed()? || more));
        let took = clock::monotonic().duration_since(started);
        match more {
            Ok(true) => std::thread::sleep(node.governor.rest_after(took).min(RECLAIM_EVERY)),
            Ok(false) => {
                compact(node);
                std::thread::sleep(RECLAIM_EVERY);
            }
            Err(error) => {
                tracing::debug!(%error, "reclaiming waits");
                std::thread::sleep(RECLAIM_EVERY);
            }
        }
    }
}

fn compact(node: &Node) {
    let started = clock::monotonic();
    match node.replica.compact_when_worth_it() {
        Ok(true) => {
            let took_ms = clock::monotonic().duration_since(started).as_millis() as u64;
            let bytes = node.replica.store().usage().disk_bytes;
            tracing::info!(bytes, took_ms, "removed rows were given back to the disk");
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "removed rows stay on the disk"),
    }
}

fn cache_bytes(config: &Config) -> u64 {
    match config.number("cache-size") {
        0 => memory_bytes() / 4,
        bytes => bytes as u64,
    }
}

/// The memory that this process may use: the machine's, or less if its control group says so.
fn memory_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse::<u64>().ok());
    let machine = total_kib.map_or(DEFAULT_MEMORY, |kib| kib * 1_024);
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limit = limits
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.min(limit.unwrap_or(u64::MAX))
}

/// Opens the store. A lone node with a damaged one does not start; a member of a cluster keeps what is
/// readable and gets the rest from the other owners.
fn open_store(config: &Config, cached_files: usize) -> Result<DiskStore, StoreError> {
    let options = DiskOptions {
        cached_files,
        ..disk_options(config)
    };
    match DiskStore::open(options.clone()) {
        Err(error @ StoreError::Damaged { .. }) if config.is_on("cluster-enabled") => {
            tracing::error!(%error, "what is missing is fetched from the other owners");
            DiskStore::open(DiskOptions {
                accept_damage: true,
                ..options
            })
        }
        opened => opened,
    }
}

fn disk_options(config: &Config) -> DiskOptions {
    let shards = match config.number("storage-shards") {
        0 => std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(64),
        shards => shards as usize,
    };
    DiskOptions {
        dir: config.text("dir").into(),
        shards: shards.min(config.number("partitions") as usize),
        appendfsync: appendfsync(&config.text("appendfsync")),
        write_buffer_bytes: config.number("write-buffer-size") as u64,
        block_cache_bytes: config.number("block-cache-size") as u64,
        min_free_bytes: config.number("min-free-disk") as u64,
        accept_damage: config.is_on("accept-damaged-store"),
        cached_files: DEFAULT_CACHED_FILES,
    }
}

/// The secret that authenticates contexts; made at the first start, readable by the owner alone.
fn load_secret(dir: &Path) -> Result<Vec<u8>, StartError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join("ringwood.secret");
    let fail = |source| StartError::Secret {
        path: path.clone(),
        source,
    };
    match std::fs::read(&path) {
        Ok(secret) if !secret.is_empty() => return Ok(secret),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let mut secret = vec![0; 32];
    getrandom::fill(&mut secret).expect("the operating system has randomness");
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    let mut file = file.map_err(fail)?;
    file.write_all(&secret)
        .and_then(|()| file.sync_all())
        .map_err(fail)?;
    Ok(secret)
}
