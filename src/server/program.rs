//! The program: a node with a disk, sockets, threads and signals.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::build::{Built, MemberPorts, Ports, build};
use super::error::StartError;
use super::workers::{Runs, workers};
use super::{chores, host, options, stop};
use crate::answer::PeerHandler;
use crate::base;
use crate::base::clock;
use crate::base::config::Config;
use crate::cluster::{CLUSTER_NOTE, Cluster, Notes};
use crate::command::{Node, appendfsync, keep_within};
use crate::logic::causal::ActorId;
use crate::logic::placement::NodeId;
use crate::net;
use crate::peer::{Links, PeerListener, Reserved};
use crate::replica::{Replica, ReplicaError, random_u64};
use crate::storage::{DiskOptions, DiskStore, Store, StoreError};

/// After a note that could not be written.
const NOTE_AGAIN: Duration = Duration::from_millis(200);

/// Bytes of a thread's stack, of which only what is used takes memory.
const STACK: usize = 16 << 20;
/// How long a stop waits for what runs.
const RUNS_OUT: Duration = Duration::from_secs(10);

/// How much is logged from now on, in the words of `loglevel`.
pub type SetLogLevel = Box<dyn Fn(&str) + Send + Sync>;

/// Runs a node until it is asked to stop.
pub fn run(config: Config, set_log_level: SetLogLevel) -> Result<(), StartError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let threads @ 1.. = config.number("io-threads") {
        runtime.worker_threads(threads as usize);
    }
    // Scripts go deep on the stack, within bounds that are made for this.
    runtime.thread_stack_size(STACK);
    let runtime = runtime.enable_all().build().map_err(StartError::Runtime)?;
    let mut background = tokio::runtime::Builder::new_multi_thread();
    let background = background
        .worker_threads(1)
        .thread_name("background")
        .on_thread_start(base::give_way)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let served = runtime.block_on(serve(config, set_log_level, background.handle().clone()));
    background.shutdown_background();
    // A script that was cut still has its thread: nobody waits for that.
    runtime.shutdown_background();
    served
}

async fn serve(
    config: Config,
    set_log_level: SetLogLevel,
    background: Handle,
) -> Result<(), StartError> {
    let started = clock::monotonic();
    let files = host::share_files(&config)?;
    options::partitions(&config)?;
    // The ports first: a second server in the same place must not touch the data.
    let (address, port) = (config.text("bind"), config.number("port") as u16);
    let backlog = config.number("tcp-backlog") as i32;
    let listener = net::bind(&address, port, backlog).map_err(|source| StartError::Listen {
        address: format!("{address}:{port}"),
        source,
    })?;
    let port = listener.port();
    let store = Arc::new(open_store(&config, files.of_tables)?);
    let secret = match config.text("cluster-secret") {
        empty if empty.is_empty() => host::load_secret(Path::new(&config.text("dir")))?,
        secret => secret.into_bytes(),
    };
    let peers = if config.is_on("cluster-enabled") {
        Some(reserve_for_peers(&config, port).await?)
    } else {
        None
    };
    let member = peers
        .as_ref()
        .map(|peers| member_ports(&config, peers, port));
    let synced = Arc::clone(&store);
    let follow = Box::new(move |config: &Config| {
        synced.set_appendfsync(appendfsync(&config.text("appendfsync")));
        set_log_level(&config.text("loglevel"));
    });
    let Built { node, recovery } = build(Ports {
        store: store as Arc<dyn Store>,
        config,
        actor: ActorId(random_u64()),
        secret,
        member,
        background: Some(background.clone()),
        follow,
        port,
        most_clients: files.clients as i64,
    })?;
    tracing::info!(
        keys = recovery
            .keys
            .map_or("to be counted".to_owned(), |keys| keys.to_string()),
        clean_stop = recovery.clean,
        took_ms = clock::monotonic().duration_since(started).as_millis() as u64,
        "data recovered"
    );
    write_down_the_run(&node).await?;
    let listen = |peers: Reserved| {
        let address = format!("{}:{}", node.config.text("peer-bind"), peers.port());
        let listening = peers.listen();
        listening.map_err(|source| StartError::Listen { address, source })
    };
    let peers = peers.map(listen).transpose()?;
    tracing::info!(%address, port, node = %node.name, pid = std::process::id(), "ready");
    run_parts(node, listener, peers, background).await;
    Ok(())
}

async fn reserve_for_peers(config: &Config, client_port: u16) -> Result<Reserved, StartError> {
    let host = config.text("peer-bind");
    let port = match config.number("peer-port") as u16 {
        0 => client_port.checked_add(10_000).unwrap_or(0),
        port => port,
    };
    let bound = PeerListener::reserve(&host, port).await;
    bound.map_err(|source| StartError::Listen {
        address: format!("{host}:{port}"),
        source,
    })
}

fn member_ports(config: &Config, peers: &Reserved, client_port: u16) -> MemberPorts {
    let bound = config.text("bind");
    let announced = config.text("cluster-announce-ip");
    let or_announced = |bound: &str| match &*announced {
        "" => bound.to_owned(),
        announced => announced.to_owned(),
    };
    let port = |announced, bound| match config.number(announced) as u16 {
        0 => bound,
        announced => announced,
    };
    let client_host = or_announced(bound.split_whitespace().next().unwrap_or("127.0.0.1"));
    let client_port = port("cluster-announce-port", client_port);
    let peer_host = or_announced(&config.text("peer-bind"));
    let peer_port = port("cluster-announce-bus-port", peers.port());
    MemberPorts {
        peer_address: format!("{peer_host}:{peer_port}"),
        client_address: format!("{client_host}:{client_port}"),
        reach: Box::new(|identity| Arc::new(Links::new(move || *identity.read()))),
        notes: Box::new(written_down),
    }
}

/// What was known of the cluster when it was written down last.
fn written_down(replica: &Replica) -> Result<Notes, StartError> {
    Ok(match replica.note(CLUSTER_NOTE)? {
        Some(raw) => Notes::decode(&raw).map_err(ReplicaError::from)?,
        None => Notes {
            node: NodeId(random_u64()),
            cluster: 0,
            members: Vec::new(),
            lacking: Vec::new(),
        },
    })
}

/// This run's incarnation must never be another run's.
async fn write_down_the_run(node: &Node) -> Result<(), StartError> {
    let Some(coordinator) = &node.site.coordinator else {
        return Ok(());
    };
    let cluster = coordinator.cluster();
    let written = cluster.notes().encode();
    let noting = Arc::clone(&node.replica);
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
        // What follows from the damage may still be in doubt: then it is noted for the next start, too.
        if noting.is_settled() {
            noting.store().forget_damage();
        }
        Ok::<(), ReplicaError>(())
    };
    let noted = tokio::task::spawn_blocking(note).await;
    Ok(noted.map_err(|e| StartError::Runtime(e.into()))??)
}

async fn run_parts(
    node: Arc<Node>,
    listener: net::Listener,
    peers: Option<PeerListener>,
    background: Handle,
) {
    let sweeping = Arc::new(AtomicBool::new(true));
    let sweeper = {
        let (node, sweeping) = (Arc::clone(&node), Arc::clone(&sweeping));
        background.spawn_blocking(move || chores::sweep(&node, &sweeping))
    };
    let counter = {
        let (node, counting) = (Arc::clone(&node), Arc::clone(&sweeping));
        background.spawn_blocking(move || chores::count(&node, &counting))
    };
    let coordinator = node.site.coordinator.clone();
    // However this ends: nobody would end the sweeper otherwise, and the process would wait for it.
    let sweeping = EndsWhenDropped(sweeping);
    tokio::select! {
        () = listener.serve(Arc::clone(&node)) => {}
        () = stop::stop_on_signal(&node) => {}
        () = chores::take_stock(&node) => {}
        () = keep_within(&node) => {}
        () = node.governor.govern() => {}
        () = be_member(&node, peers, &background) => {}
    }
    if let Some(coordinator) = coordinator {
        coordinator.cluster().peers().close();
    }
    drop(sweeping);
    // What has changed nothing is no loss; whoever keeps the gate keeps the sweeper out.
    node.scripts.stop_all();
    let until = tokio::time::Instant::now() + RUNS_OUT;
    let _ = tokio::time::timeout_at(until, sweeper).await;
    let _ = tokio::time::timeout_at(until, counter).await;
    let stopping = clock::monotonic();
    // What runs ends; nothing begins any more.
    let alone = tokio::time::timeout_at(until, node.site.gate.alone()).await;
    if alone.is_err() {
        tracing::warn!("a script does not end, and is cut");
    }
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

/// A member's workers, and what answers the others; a lone node has none.
async fn be_member(node: &Arc<Node>, peers: Option<PeerListener>, low: &Handle) {
    let (Some(coordinator), Some(peers)) = (&node.site.coordinator, peers) else {
        return std::future::pending().await;
    };
    let cluster = coordinator.cluster();
    tracing::info!(id = %cluster.me(), peer_port = peers.port(), "a member of a cluster");
    let seeds = node.config.text("seeds");
    let seeds = seeds.split_whitespace().map(str::to_owned).collect();
    // They end when this is dropped.
    let mut working = JoinSet::new();
    let mut beside = Vec::new();
    for worker in workers(node, seeds, |_| Box::new(random_u64)) {
        match worker.runs {
            Runs::GivingWay => drop(working.spawn_on(worker.work, low)),
            Runs::Serving => drop(working.spawn(worker.work)),
            Runs::Beside => beside.push(worker.work),
        }
    }
    tokio::join!(
        join_all(beside),
        end_with(working),
        peers.serve(Arc::new(PeerHandler(Arc::clone(node)))),
        write_notes(Arc::clone(cluster), Arc::clone(&node.replica)),
    );
}

/// A worker that panics takes the process with it: a member without it would be none.
async fn end_with(mut workers: JoinSet<()>) {
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
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

/// Opens the store. A lone node with a damaged one does not start; a member of a cluster keeps what is
/// readable and gets the rest from the other owners.
fn open_store(config: &Config, cached_files: usize) -> Result<DiskStore, StoreError> {
    let options = DiskOptions {
        cached_files,
        ..options::disk(config)
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
