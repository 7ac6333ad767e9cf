//! One world: its nodes, clients, calamities, and the look at what is left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use ringwood::answer::PeerHandler;
use ringwood::base::config::Config;
use ringwood::cluster::{Cluster, Notes};
use ringwood::command::{After, Client, Node, Session, context, execute, find};
use ringwood::convergence::Convergence;
use ringwood::logic::causal::{ActorId, Object};
use ringwood::logic::membership::{Losses, Member, Parts, State};
use ringwood::logic::placement::{self, NodeId, Partitions, Placed};
use ringwood::logic::record;
use ringwood::peer::Peers;
use ringwood::replica::{Key, Replica};
use ringwood::resp::Reply;
use ringwood::routing::Own;
use ringwood::routing::args::OwnedArgs;
use ringwood::server::{Built, Chance, MemberPorts, Ports, build, workers};
use ringwood::storage::{Copied, MemoryStore, Store, Table};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Random;
use super::faulty::{Fault, Faulty};
use super::history::History;
use super::network::{Network, Port};
use super::time::Clock;
use streams::LOG;

mod scripts;
mod streams;

const KEYS: usize = 6;
const CARTS: [&str; 3] = ["cart-set", "cart-hash", "cart-zset"];
const CART_ITEMS: usize = 4;
const BLIND_KEYS: usize = 3;
const CLIENTS: usize = 4;
const WRITES: usize = 16;
const CALAMITIES: usize = 4;
/// Seconds that are waited on where not everything is as it should be.
const LATE_SECS: u64 = 30;
const MAX_DRIFT_MS: u64 = 60_000;
/// Which node may lose its disk.
const VICTIM: usize = 0;
const WITHIN: Duration = Duration::from_millis(400);

/// What happens to a world. In all of them connections break and clocks are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nodes are cut off from each other, or stand still.
    Cut,
    /// Besides, they are killed, and lose what they had not acknowledged.
    Crash,
    /// Besides, one of them loses its disk or finds an old copy of it, any of them its hints; and
    /// anti-entropy alone mends everything.
    Lose,
    /// Besides cuts and kills, disks are full for a while, and batches fail of which nobody knows at
    /// first whether they are there.
    Full,
    /// Besides cuts and kills, nodes join, leave, are replaced and removed, by whomever is asked.
    Grow,
}

impl Kind {
    /// Whether anti-entropy and handing parts over run.
    fn mends(self) -> bool {
        matches!(self, Kind::Lose | Kind::Full | Kind::Grow)
    }
}

/// The cluster that clients write to; each node beyond it is one of its own at first.
const CLUSTER: u64 = 7;
/// Nodes that may join.
const NEWCOMERS: u64 = 3;

struct Running {
    node: Arc<Node>,
    store: Arc<Faulty>,
    replica: Arc<Replica>,
    cluster: Arc<Cluster>,
    died: Arc<Notify>,
    /// What it has written down.
    noted: Arc<Mutex<Notes>>,
    _tasks: JoinSet<()>,
}

struct Place {
    id: NodeId,
    disk: Arc<MemoryStore>,
    clock: Clock,
    notes: Notes,
    runs: u64,
    running: Option<Running>,
    /// An old copy of the disk, with what was written down.
    copied: Option<(Copied, Notes)>,
    /// Whether it was removed while it was down: it is never started again.
    is_removed: bool,
}

fn says_gone<'a>(mut members: impl Iterator<Item = &'a Member>, id: NodeId) -> bool {
    members.any(|member| member.id == id && !member.is_present())
}

/// Which node this is: its number in the world.
fn nth_of(id: NodeId) -> u64 {
    id.0 / 0x1234_5678_9abc
}

impl Place {
    /// Whether it belongs to the clients' cluster, up or not.
    fn is_member(&self) -> bool {
        let cluster = match &self.running {
            Some(running) => &running.cluster.notes(),
            None => &self.notes,
        };
        let me = cluster.members.iter().find(|member| member.id == self.id);
        cluster.cluster == CLUSTER
            && !self.is_removed
            && me.is_some_and(|me| me.is_present() && me.is_placed())
    }

    /// What it knows of itself.
    fn me(&self) -> &Member {
        let mine = self.notes.members.iter().find(|m| m.id == self.id);
        mine.expect("it is a member")
    }

    /// Whether it could join.
    fn is_alone(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.cluster.identity().cluster != CLUSTER)
    }

    /// Whether it runs and has joined: what it holds matters in the end.
    fn counts(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| {
            running.cluster.has_joined() && running.cluster.identity().cluster == CLUSTER
        })
    }

    fn forget_what_it_has(&mut self) {
        let id = self.id;
        let members = self.notes.members.iter_mut();
        for me in members.filter(|member| member.id == id) {
            me.complete = Some(Parts::default());
            me.proven = Parts::default();
        }
    }
}

struct World {
    network: Arc<Network>,
    places: Mutex<Vec<Place>>,
    history: Mutex<History>,
    random: Mutex<Random>,
    fault: Fault,
    kind: Kind,
    seed: u64,
    kills: AtomicU64,
    /// Disks that have no room.
    tasks: Mutex<JoinSet<()>>,
    /// Whether a member was removed.
    removed: AtomicBool,
    /// More than clocks differ.
    grace_ms: u64,
    /// Whether any two quorums have a member in common, and no command runs twice.
    strict: bool,
}

/// A world without a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lived {
    /// How many writes were acknowledged.
    pub acknowledged: u64,
    /// A hash of everything that was sent.
    pub trace: u64,
}

/// Runs a world; the error says what is wrong.
pub fn run(seed: u64, kind: Kind, fault: Fault) -> Result<Lived, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let world = Arc::new(World::new(seed, kind, fault));
        world.live().await;
        let found = world.check().await;
        // The nodes hold the network, which holds the nodes.
        let count = world.places.lock().expect("no panic").len();
        (0..count).for_each(|nth| world.kill(nth));
        found.map(|acknowledged| Lived {
            acknowledged,
            trace: world.network.trace(),
        })
    })
}

/// Restarts nodes one after the other, with writes in between; the most actors that a key's context
/// and a partition's have in the end.
pub fn restart(times: usize) -> (usize, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let world = Arc::new(World::new(1, Kind::Lose, Fault::None));
        let count = world.places.lock().expect("no panic").len();
        for nth in 0..times {
            for key in ["a", "b", "c"] {
                world.call(&[b"INCR", key.as_bytes()]).await;
                world.call(&[b"SET", b"blind", key.as_bytes()]).await;
            }
            world.kill(nth % count);
            sleep(Duration::from_millis(500)).await;
            world.start(nth % count);
            sleep(Duration::from_secs(6)).await;
        }
        sleep(Duration::from_mins(1)).await;
        let mut most = 0;
        for key in ["a", "b", "c", "blind"] {
            world.call(&[b"SET", key.as_bytes(), b"1"]).await;
            sleep(Duration::from_secs(1)).await;
            for place in world.places.lock().expect("no panic").iter() {
                let replica = &place.running.as_ref().expect("all run").replica;
                let name = key.as_bytes();
                let object = replica.read(Key { db: 0, name }).expect("read");
                most = most.max(object.context().actors());
            }
        }
        (0..count).for_each(|nth| world.kill(nth));
        (most, count)
    })
}

fn member(id: u64, joined: u64) -> Member {
    Member {
        id: NodeId(id),
        name: format!("node-{joined}"),
        peer_address: format!("10.0.0.{joined}:1"),
        client_address: format!("10.0.0.{joined}:2"),
        zone: "a".into(),
        weight: 1,
        actor: ActorId(0),
        incarnation: 0,
        version: 0,
        joined,
        left: None,
        gone: false,
        replaces: None,
        places: Vec::new(),
        complete: None,
        proven: Parts::default(),
        proven_as_of: 0,
        losses: Losses::default(),
        state: State::Runs,
    }
}

/// Members that have whatever they own.
fn with_all_they_own(mut members: Vec<Member>) -> Vec<Member> {
    let placed: Vec<Placed> = members.iter().map(Member::placed).collect();
    let partitions = Partitions::new(16).expect("a power of two");
    let table = placement::Table::new(&placed, partitions, 3);
    for member in &mut members {
        let owns = |partition: &u16| table.owners(*partition).contains(&member.id);
        let parts = (0..16).filter(owns).map(|partition| (3, partition));
        member.complete = Some(parts.collect());
    }
    members
}

/// Takes over whatever a node lacks, before anything of it is there.
async fn take_over_unproven(convergence: Arc<Convergence>) {
    loop {
        sleep(Duration::from_millis(1)).await;
        if convergence.cluster().has_joined()
            && let Ok(lacking) = convergence.follow_lacking()
        {
            convergence.take_over(&lacking, convergence.cluster().account());
        }
    }
}

impl World {
    fn new(seed: u64, kind: Kind, fault: Fault) -> Self {
        let mut random = Random::new(seed);
        let first = if kind == Kind::Grow { 2 } else { 3 };
        let count = first + random.below(3) as u64;
        let members: Vec<Member> = (1..=count)
            .map(|n| member(n * 0x1234_5678_9abc, n))
            .collect();
        let members = with_all_they_own(members);
        let newcomers = if kind == Kind::Grow { NEWCOMERS } else { 0 };
        let newcomers = (count + 1..=count + newcomers).map(|n| Member {
            joined: 0,
            ..member(n * 0x1234_5678_9abc, n)
        });
        let all: Vec<Member> = members.iter().cloned().chain(newcomers).collect();
        let wrong: Vec<i64> = all.iter().map(|_| wrong_by_ms(&mut random)).collect();
        let place = |(member, ahead_ms): (&Member, &i64)| Place {
            id: member.id,
            disk: Arc::new(MemoryStore::new(2)),
            clock: Clock::new(*ahead_ms),
            notes: if member.joined > 0 {
                Notes {
                    node: member.id,
                    cluster: CLUSTER,
                    members: members.clone(),
                    lacking: Vec::new(),
                }
            } else {
                Notes {
                    node: member.id,
                    cluster: 0,
                    members: vec![member.clone()],
                    lacking: Vec::new(),
                }
            },
            runs: 0,
            running: None,
            copied: None,
            is_removed: false,
        };
        let network = Network::new(seed);
        let (earliest, latest) = wrong
            .iter()
            .fold((0, 0), |(a, b): (i64, i64), ms| (a.min(*ms), b.max(*ms)));
        let mut history = History::default();
        history.clocks_are_believed = latest - earliest < MAX_DRIFT_MS as i64;
        let world = Self {
            strict: members.len() == 3,
            places: Mutex::new(all.iter().zip(&wrong).map(place).collect()),
            network,
            history: Mutex::new(history),
            random: Mutex::new(random),
            fault,
            kind,
            seed,
            kills: AtomicU64::new(0),
            tasks: Mutex::default(),
            removed: AtomicBool::new(false),
            grace_ms: (latest - earliest) as u64 + 10_000,
        };
        for nth in 0..all.len() {
            world.start(nth);
        }
        world
    }

    fn below(&self, bound: usize) -> usize {
        self.random.lock().expect("no panic").below(bound)
    }

    /// What each of its nodes is told.
    fn config(&self, member: &Member) -> Config {
        let text = format!(
            r#"
            cluster-enabled = true
            partitions = 16
            cache-size = 1048576
            node-name = "{name}"
            zone = "{zone}"
            weight = {weight}
            expired-grace = {grace}
            tombstone-grace = 2
            hint-max-age = 1000000000
            hint-rate = 1000
            max-clock-drift-ms = {MAX_DRIFT_MS}
            request-timeout-ms = {within}
            # In some worlds nothing but a read finds stale copies after a crash.
            read-repair-chance = 100
            background-p99-us = 1000000
            background-slowdown = 100
            anti-entropy-interval = 2
            transfer-parallelism = 2
            # Collections of more than a few elements have a row for each.
            collection-row-size = {row_size}

            [[prefix]]
            prefix = "mine-"
            replicas-per-key = 3
            read-quorum = 1
            write-quorum = 1

            [[prefix]]
            prefix = "strict-"
            quorum = "strict"
            "#,
            name = member.name,
            zone = member.zone,
            weight = member.weight,
            grace = self.grace_ms.div_ceil(1_000),
            row_size = if self.has_large_keys() { 120 } else { 100_000 },
            within = WITHIN.as_millis(),
        );
        Config::from_text(&text).expect("directives")
    }

    /// Through what a node meets this world.
    fn ports(&self, place: &Place, store: Arc<dyn Store>, actor: ActorId) -> Ports {
        let mine = place.me();
        let port = Arc::new(Port {
            network: Arc::clone(&self.network),
            me: place.id,
            clock: place.clock,
            fault: self.fault,
            tasks: Mutex::default(),
        });
        let notes = place.notes.clone();
        Ports {
            store,
            config: self.config(mine),
            actor,
            secret: b"simulated".to_vec(),
            member: Some(MemberPorts {
                peer_address: mine.peer_address.clone(),
                client_address: mine.client_address.clone(),
                reach: Box::new(|_| port as Arc<dyn Peers>),
                notes: Box::new(|_| Ok(notes)),
            }),
            background: None,
            follow: Box::new(|_| {}),
            port: 0,
            most_clients: i64::MAX,
        }
    }

    fn start(&self, nth: usize) {
        let mut places = self.places.lock().expect("no panic");
        let place = &mut places[nth];
        if place.running.is_some() || place.is_removed {
            return;
        }
        place.runs += 1;
        let run = if self.fault == Fault::ReuseDots {
            1
        } else {
            place.runs
        };
        let actor = ActorId((nth as u64 + 1) * 1_000 + run);
        let store = Arc::new(Faulty {
            inner: Arc::clone(&place.disk) as Arc<dyn Store>,
            fault: self.fault,
            writes: 0.into(),
            ended: false.into(),
        });
        let clock = place.clock;
        if self.fault == Fault::DropTombstones {
            let is_tombstone = |row: &[u8]| record::ROW.decode(row).is_ok_and(|o| o.is_tombstone());
            place.disk.lose(Table::Data, is_tombstone);
        }
        let ports = self.ports(place, Arc::clone(&store) as Arc<dyn Store>, actor);
        place.disk.be_lazy(false);
        let Built { node, .. } = clock.during(|| build(ports)).expect("starts");
        let replica = Arc::clone(&node.replica);
        replica.finish_counting();
        place.disk.be_lazy(true);
        let coordinator = node.site.coordinator.as_ref().expect("a member");
        let cluster = Arc::clone(coordinator.cluster());
        let handler = Arc::new(PeerHandler(Arc::clone(&node)));
        self.network
            .start(place.id, &place.me().peer_address, handler, clock);
        let mut tasks = JoinSet::new();
        let mut of_disk = Random::new(self.seed * 37 + nth as u64 + place.runs);
        let from = nth as u64 + place.runs;
        let chance = |worker: &str| -> Chance {
            let mut random = Random::new(self.seed * 31 + from * 7 + worker.len() as u64);
            Box::new(move || random.below(1 << 30) as u64)
        };
        for worker in workers(&node, Vec::new(), chance) {
            if self.kind.mends() || !matches!(worker.name, "handoff" | "anti-entropy") {
                tasks.spawn(clock.rule(worker.work));
            }
        }
        if self.fault == Fault::SwitchBeforeProof {
            let convergence = node.convergence.clone().expect("a member");
            tasks.spawn(clock.rule(take_over_unproven(convergence)));
        }
        let noted = Arc::new(Mutex::new(place.notes.clone()));
        let (noting, written) = (Arc::clone(&cluster), Arc::clone(&noted));
        let mut of_notes = Random::new(self.seed * 43 + nth as u64 + place.runs);
        tasks.spawn(async move {
            loop {
                let revision = noting.revision().get();
                let notes = noting.notes();
                sleep(Duration::from_millis(of_notes.below(20) as u64)).await;
                *written.lock().expect("no panic") = notes;
                noting.has_noted(revision);
                noting.revision().reach(revision + 1).await;
            }
        });
        let disk = Arc::clone(&place.disk);
        tasks.spawn(async move {
            while disk.is_lazy() {
                sleep(Duration::from_millis(of_disk.below(8) as u64)).await;
                disk.commit();
            }
        });
        if self.kind.mends() {
            let reclaiming = Arc::clone(&replica);
            tasks.spawn(clock.rule(async move {
                loop {
                    sleep(Duration::from_millis(500)).await;
                    reclaiming
                        .reclaim_expired(u64::MAX)
                        .expect("memory can be read");
                }
            }));
            if self.kind == Kind::Full {
                let (recovering, its_disk) = (Arc::clone(&replica), Arc::clone(&place.disk));
                tasks.spawn(clock.rule(async move {
                    loop {
                        sleep(Duration::from_millis(100)).await;
                        // It waits for the disk, which must be quick then: it has this thread.
                        if recovering.is_settled() {
                            let is_lazy = its_disk.is_lazy();
                            its_disk.be_lazy(false);
                            let _ = recovering.recover_from_failures();
                            recovering.finish_counting();
                            its_disk.be_lazy(is_lazy);
                        }
                    }
                }));
            }
        }
        place.running = Some(Running {
            node,
            store,
            replica,
            cluster,
            died: Arc::default(),
            noted,
            _tasks: tasks,
        });
    }

    /// The process is killed; what its disk has committed is there after the next start.
    fn kill(&self, nth: usize) {
        self.kills.fetch_add(1, Ordering::Relaxed);
        let mut places = self.places.lock().expect("no panic");
        let Some(running) = places[nth].running.take() else {
            return;
        };
        places[nth].notes = running.noted.lock().expect("no panic").clone();
        running.store.ended.store(true, Ordering::Relaxed);
        places[nth].disk.lose_uncommitted();
        self.network.stop(places[nth].id);
        running.cluster.peers().close();
        running.died.notify_waiters();
    }

    async fn live(self: &Arc<Self>) {
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let world = Arc::clone(self);
            clients.spawn(async move { world.write(client).await });
        }
        if self.kind == Kind::Grow {
            let world = Arc::clone(self);
            clients.spawn(async move { world.change_before_the_end().await });
        }
        for _ in 0..CALAMITIES {
            sleep(Duration::from_millis(self.below(1_500) as u64)).await;
            self.calamity();
            if self.kind == Kind::Grow {
                // Two at a time, of two nodes that may not have heard of each other.
                let changes = 1 + self.below(2);
                for _ in 0..changes {
                    let world = Arc::clone(self);
                    clients.spawn(async move { world.change_members().await });
                }
            }
        }
        while let Some(ended) = clients.join_next().await {
            if ended.is_err() {
                self.network.note_panic();
            }
        }
        if matches!(self.fault, Fault::LoseHints | Fault::HideDifferences) {
            self.lose_hints();
        }
        loop {
            let task = self.tasks.lock().expect("no panic").try_join_next();
            match task {
                Some(_) => {}
                None if self.tasks.lock().expect("no panic").is_empty() => break,
                None => sleep(Duration::from_millis(50)).await,
            }
        }
        self.network.heal();
        self.network.be_reliable();
        let count = self.places.lock().expect("no panic").len();
        (0..count).for_each(|nth| self.start(nth));
        for place in self.places.lock().expect("no panic").iter() {
            place.disk.be_lazy(false);
        }
        self.become_quiet().await;
    }

    /// Waits until nothing more is to be expected.
    async fn become_quiet(&self) {
        let at_most = match self.kind {
            Kind::Cut | Kind::Crash => 20,
            Kind::Lose | Kind::Full | Kind::Grow => 90,
        };
        // One of eight waits on, though everything is as it should be: it has to stay so.
        let can_be_early = self.kind.mends() && !self.seed.is_multiple_of(8);
        let (begun, mut was_well) = (Instant::now(), false);
        loop {
            sleep(Duration::from_secs(5)).await;
            let is_well = self.all_is_as_it_should_be(&self.keys()).is_ok();
            let is_late = begun.elapsed() >= Duration::from_secs(at_most);
            // What ends late leaves something for two rounds more.
            let late = if self.kind.mends() { LATE_SECS } else { 0 };
            let is_over = begun.elapsed() >= Duration::from_secs(at_most + late);
            if is_over || was_well && is_well && (can_be_early || is_late) {
                return;
            }
            was_well = is_well;
        }
    }

    fn lose_hints(&self) {
        for place in self.places.lock().expect("no panic").iter() {
            place.disk.lose(Table::Hint, |_| true);
        }
    }

    fn calamity(&self) {
        let count = self.places.lock().expect("no panic").len();
        let kinds = match self.kind {
            Kind::Cut => 4,
            Kind::Crash | Kind::Grow => 7,
            Kind::Lose => 11,
            Kind::Full => 12,
        };
        if matches!(self.fault, Fault::LoseHints | Fault::HideDifferences) {
            self.lose_hints();
        }
        let nth = match self.below(kinds) {
            7.. if self.kind == Kind::Full => return self.have_no_room(),
            nth => nth,
        };
        match nth {
            0 => self.network.heal(),
            1 => {
                // One side of a line does not hear the other; now and then neither hears.
                let line = 1 + self.below(count - 1);
                let both = self.below(2) == 0;
                let places = self.places.lock().expect("no panic");
                for a in &places[..line] {
                    for b in &places[line..] {
                        self.network.cut(a.id, b.id);
                        if both {
                            self.network.cut(b.id, a.id);
                        }
                    }
                }
            }
            2 => {
                let alone = self.below(count);
                let places = self.places.lock().expect("no panic");
                for other in places.iter().filter(|p| p.id != places[alone].id) {
                    self.network.cut(places[alone].id, other.id);
                    self.network.cut(other.id, places[alone].id);
                }
            }
            3 => {
                let id = self.places.lock().expect("no panic")[self.below(count)].id;
                let duration = Duration::from_millis(200 + self.below(4_000) as u64);
                self.network.pause(id, duration);
            }
            4 | 5 => self.kill(self.below(count)),
            7 => {
                // One node alone: what two of three have acknowledged must not be on two lost disks.
                self.kill(VICTIM);
                let mut places = self.places.lock().expect("no panic");
                places[VICTIM].disk.replace(None);
                places[VICTIM].forget_what_it_has();
            }
            8 => {
                let mut places = self.places.lock().expect("no panic");
                let notes = match &places[VICTIM].running {
                    Some(running) => running.noted.lock().expect("no panic").clone(),
                    None => places[VICTIM].notes.clone(),
                };
                places[VICTIM].copied = Some((places[VICTIM].disk.copy(), notes));
            }
            9 => {
                self.kill(VICTIM);
                let mut places = self.places.lock().expect("no panic");
                let incarnation = |notes: &Notes| {
                    let me = notes.members.iter().find(|m| m.id == notes.node);
                    me.map_or(0, |me| me.incarnation)
                };
                // A copy of the run that has just ended cannot be told from what that one left behind.
                let now = incarnation(&places[VICTIM].notes);
                let copied = places[VICTIM].copied.clone();
                let copied = copied.filter(|(_, notes)| incarnation(notes) < now);
                if let Some((copied, notes)) = copied {
                    places[VICTIM].disk.replace(Some(copied));
                    places[VICTIM].notes = notes;
                } else {
                    places[VICTIM].disk.replace(None);
                    places[VICTIM].forget_what_it_has();
                }
            }
            10 => {
                let nth = self.below(count);
                self.kill(nth);
                let places = self.places.lock().expect("no panic");
                places[nth].disk.lose(Table::Hint, |_| true);
            }
            _ => (0..count).for_each(|nth| self.start(nth)),
        }
    }

    /// A disk has no room for a while, now and then in the middle of a batch.
    fn have_no_room(&self) {
        let places = self.places.lock().expect("no panic");
        let disk = Arc::clone(&places[self.below(places.len())].disk);
        drop(places);
        let lasts = Duration::from_millis(200 + self.below(4_000) as u64);
        let (fails, settles) = (self.below(3) > 0, self.below(2_500) as u64);
        let (landed, told) = (self.below(2) == 0, self.below(3) == 0);
        let lies = self.fault == Fault::LandLate;
        self.tasks.lock().expect("no panic").spawn(async move {
            disk.be_full(true);
            if fails {
                disk.fail();
                if lies {
                    disk.deny();
                } else if told {
                    disk.tell();
                }
                sleep(Duration::from_millis(settles)).await;
                if lies {
                    disk.settle_silently();
                } else {
                    disk.settle(landed);
                }
            }
            sleep(lasts).await;
            disk.be_full(false);
        });
    }

    /// Somebody changes the membership, through any node that answers.
    async fn change_members(&self) {
        let (present, free) = {
            let places = self.places.lock().expect("no panic");
            let joined = |place: &&Place| place.is_member();
            let name = |place: &Place| format!("node-{}", nth_of(place.id));
            let present: Vec<String> = places.iter().filter(joined).map(name).collect();
            let address = |place: &Place| format!("10.0.0.{0}:0@1", nth_of(place.id));
            let free = places.iter().filter(|place| place.is_alone());
            (present, free.map(address).collect::<Vec<String>>())
        };
        let some = |of: &[String]| of.get(self.below(of.len().max(1))).cloned();
        let (member, newcomer) = (some(&present), some(&free));
        let words: Vec<String> = match (self.below(6), member, newcomer) {
            (0 | 1, _, Some(newcomer)) => vec!["JOIN".into(), newcomer],
            (2, Some(member), _) if present.len() > 3 => vec!["LEAVE".into(), member],
            (3, Some(member), Some(newcomer)) => vec!["REPLACE".into(), member, newcomer],
            (4, Some(member), _) => {
                let weight = 1 + self.below(3);
                vec!["WEIGHT".into(), member, weight.to_string()]
            }
            (5, ..) if present.len() > 3 => return self.remove_one().await,
            _ => return,
        };
        self.plan(&words).await;
    }

    /// Now and then the next change comes when reads have switched and the move is not over yet.
    async fn change_before_the_end(&self) {
        for _ in 0..300 {
            sleep(Duration::from_millis(50)).await;
            if self.some_part_is_between() && self.below(3) == 0 {
                self.change_members().await;
            }
        }
    }

    fn some_part_is_between(&self) -> bool {
        let places = self.places.lock().expect("no panic");
        let members = places.iter().filter(|place| place.is_member());
        let mut clusters = members.filter_map(|place| Some(&place.running.as_ref()?.cluster));
        clusters.any(|cluster| {
            let partitions = 0..cluster.options().partitions.count();
            let mut holders = partitions.map(|partition| cluster.holders((3, partition)));
            holders.any(|holders| holders.is_settled && !holders.is_over())
        })
    }

    /// All have left, in changes that did not know of each other: what they have, a newcomer gets; whether
    /// there is one.
    async fn take_a_newcomer_in(&self) -> bool {
        let address = {
            let places = self.places.lock().expect("no panic");
            let free = places.iter().find(|place| place.is_alone());
            free.map(|place| format!("10.0.0.{0}:0@1", nth_of(place.id)))
        };
        let joins = match address {
            Some(address) => self.plan(&["JOIN".into(), address]).await,
            None => false,
        };
        sleep(Duration::from_mins(1)).await;
        joins
    }

    /// Two sides of a partition may each have relied on a member that the other side has relieved: when the
    /// one that had the part for sure is removed then, it counts as lost, and a person has to say that what
    /// is left is all. What was acknowledged is there: two of three had it, and one of them still.
    async fn accept_what_a_removal_left(&self) {
        if !self.removed.load(Ordering::Relaxed) || self.nothing_is_lost().is_ok() {
            return;
        }
        let up = self.members_up();
        let cluster = {
            let places = self.places.lock().expect("no panic");
            let running = up.first().and_then(|nth| places[*nth].running.as_ref());
            running.map(|running| Arc::clone(&running.cluster))
        };
        if let Some(cluster) = cluster {
            // Nothing else may be lost.
            let had = |partition: u16| {
                cluster.with_membership(|membership| {
                    let mut gone = membership.all().filter(|member| member.gone);
                    let part = (3, partition);
                    gone.any(|member| {
                        let complete = member.complete.as_ref();
                        complete.is_some_and(|parts| parts.contains(part))
                            || member.proven.contains(part)
                    })
                })
            };
            cluster.accept_loss(had);
            sleep(Duration::from_mins(1)).await;
        }
    }

    async fn plan(&self, words: &[String]) -> bool {
        let mut plan: Vec<&[u8]> = vec![b"RINGWOOD", b"PLAN"];
        plan.extend(words.iter().map(String::as_bytes));
        let Some(nth) = self.somebody() else {
            return false;
        };
        let own = Arc::default();
        let is_text = |reply: Option<BytesMut>| reply.is_some_and(|r| r.first() == Some(&b'$'));
        is_text(self.call_at(nth, &own, &plan).await) && {
            let commit: [&[u8]; 3] = [b"RINGWOOD", b"PLAN", b"COMMIT"];
            is_text(self.call_at(nth, &own, &commit).await)
        }
    }

    /// One member at most is lost for good: what two of three have acknowledged is on another one.
    async fn remove_one(&self) {
        if self.removed.swap(true, Ordering::Relaxed) {
            return;
        }
        let up = self.members_up();
        let nth = up[self.below(up.len())];
        {
            self.kill(nth);
            self.places.lock().expect("no panic")[nth].is_removed = true;
        }
        sleep(Duration::from_secs(1)).await;
        let id = self.places.lock().expect("no panic")[nth].id;
        let name = format!("node-{}", nth_of(id));
        for _ in 0..40 {
            self.plan(&["REMOVE".into(), name.clone()]).await;
            if self.is_gone(id) {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
        self.places.lock().expect("no panic")[nth].is_removed = false;
    }

    /// Whether somebody knows that a node is no member any more.
    fn is_gone(&self, id: NodeId) -> bool {
        let places = self.places.lock().expect("no panic");
        let knows = |place: &Place| match &place.running {
            Some(running) => running.cluster.with_membership(|m| says_gone(m.all(), id)),
            None => says_gone(place.notes.members.iter(), id),
        };
        places.iter().any(knows)
    }

    fn members_up(&self) -> Vec<usize> {
        let places = self.places.lock().expect("no panic");
        let is_up = |nth: &usize| places[*nth].is_member() && places[*nth].running.is_some();
        (0..places.len()).filter(is_up).collect()
    }

    fn somebody(&self) -> Option<usize> {
        let mut up = self.members_up();
        if up.is_empty() {
            let places = self.places.lock().expect("no panic");
            up.extend((0..places.len()).filter(|nth| places[*nth].counts()));
        }
        up.get(self.below(up.len().max(1))).copied()
    }

    /// A client that does one thing after the other.
    async fn write(&self, client: usize) {
        let own = Arc::new(Own::default());
        for nth in 0..WRITES {
            sleep(Duration::from_millis(self.below(600) as u64)).await;
            let value = format!("c{client}-{nth}");
            let kinds = if self.kind.mends() { 26 } else { 23 };
            match self.below(kinds) {
                23.. => self.write_and_delete(client, nth).await,
                18.. => self.fill_cart(&value).await,
                15.. => self.tally().await,
                13.. => self.retime().await,
                // A quorum of one does not outlive the one's disk.
                10.. if self.kind == Kind::Lose => self.write_and_look(client, nth).await,
                10.. if matches!(self.kind, Kind::Grow | Kind::Full) => {
                    self.write_and_look(client, nth).await;
                }
                10.. => self.write_and_read_back(&own, client, &value).await,
                0..5 => self.resolve(&value).await,
                5 => self.set(&value).await,
                6 => self.write_together(&value).await,
                7 => self.delete().await,
                8 => self.set_for_a_while(&value).await,
                _ => self.count().await,
            }
        }
    }

    /// Reads, and writes over what was read.
    async fn resolve(&self, value: &str) {
        let key = format!("key-{}", self.below(KEYS));
        let Some((context, observed)) = self.siblings(&key).await else {
            return;
        };
        let begun = self.history().begin(&key, value, observed);
        let reply = self
            .call(&[b"RESOLVE", key.as_bytes(), &context, value.as_bytes()])
            .await;
        self.note_refusal(value, reply.as_ref());
        if reply.is_some_and(|reply| reply.first() == Some(&b'*')) {
            self.history().acknowledge(&key, begun);
        }
    }

    /// What is said to be stored nowhere must not come to light.
    fn note_refusal(&self, value: &str, reply: Option<&BytesMut>) {
        let text = reply.map(|reply| String::from_utf8_lossy(reply));
        let said = text.is_some_and(|t| t.starts_with("-MISCONF") && t.contains("was not stored"));
        if said {
            self.history().not_stored.insert(value.to_owned());
        }
    }

    /// Writes without having looked.
    async fn set(&self, value: &str) {
        self.set_at(self.somebody(), value).await;
    }

    /// Several writes at one moment through one node: what of them goes to the same members goes together.
    async fn write_together(&self, value: &str) {
        let nth = self.somebody();
        let values: Vec<String> = (0..5).map(|n| format!("{value}-{n}")).collect();
        let sets = join_all(values.iter().map(|value| self.set_at(nth, value)));
        let counts = join_all((0..4).map(|_| self.count_at(nth)));
        tokio::join!(sets, counts);
    }

    async fn set_at(&self, nth: Option<usize>, value: &str) {
        let key = format!("blind-{}", self.below(BLIND_KEYS));
        let begun = self.history().begin_blind(&key, Some(value));
        let words: &[&[u8]] = &[b"SET", key.as_bytes(), value.as_bytes()];
        let reply = self.call_if(nth, words).await;
        self.note_refusal(value, reply.as_ref());
        if reply.is_some_and(|reply| &reply[..] == b"+OK\r\n") {
            self.history().acknowledge_blind(&key, begun);
        }
    }

    async fn delete(&self) {
        let key = format!("blind-{}", self.below(BLIND_KEYS));
        let begun = self.history().begin_blind(&key, None);
        let reply = self.call(&[b"DEL", key.as_bytes()]).await;
        if reply.is_some_and(|reply| reply.first() == Some(&b':')) {
            self.history().acknowledge_blind(&key, begun);
        }
    }

    /// Writes a key once and deletes it: it must not come back.
    async fn write_and_delete(&self, client: usize, nth: usize) {
        let key = format!("gone-{client}-{nth}");
        let (begun, kills) = (Instant::now(), self.kills.load(Ordering::Relaxed));
        let reply = self.call(&[b"SET", key.as_bytes(), b"v"]).await;
        if reply.is_none_or(|reply| &reply[..] != b"+OK\r\n") {
            return;
        }
        // A coordinator that went away with it may have written it before another did.
        let once = kills == self.kills.load(Ordering::Relaxed) && begun.elapsed() < WITHIN;
        sleep(Duration::from_millis(self.below(1_500) as u64)).await;
        let reply = self.call(&[b"DEL", key.as_bytes()]).await;
        if once && reply.is_some_and(|reply| &reply[..] == b":1\r\n") {
            self.history().deleted.insert(key);
        }
    }

    /// With quorums of one: what one connection reads is never older than what it has written.
    async fn write_and_read_back(&self, own: &Arc<Own>, client: usize, value: &str) {
        let key = format!("mine-{client}");
        let words: [&[u8]; 3] = [b"SET", key.as_bytes(), value.as_bytes()];
        let reply = self.call_as(own, &words).await;
        let acknowledged = reply.is_some_and(|reply| &reply[..] == b"+OK\r\n");
        self.history().wrote_own(&key, value, acknowledged);
        for _ in 0..2 {
            if let Some(reply) = self.call_as(own, &[b"GET", key.as_bytes()]).await
                && reply.first() == Some(&b'$')
            {
                let text = String::from_utf8(reply.to_vec()).expect("text");
                self.history().read_own(&key, text.split("\r\n").nth(1));
            }
            sleep(Duration::from_millis(self.below(300) as u64)).await;
        }
    }

    /// With strict quorums: what was acknowledged is seen by whoever reads later.
    async fn write_and_look(&self, client: usize, nth: usize) {
        if self.below(4) == 0 {
            return self.load_and_run(&format!("c{client}-{nth}")).await;
        }
        let key = format!("strict-{client}-{nth}");
        let reply = self.call(&[b"SET", key.as_bytes(), b"v"]).await;
        if reply.is_none_or(|reply| &reply[..] != b"+OK\r\n") {
            return;
        }
        self.history().strict.insert(key.clone());
        for _ in 0..3 {
            sleep(Duration::from_millis(self.below(2_000) as u64)).await;
            let reply = self.call(&[b"GET", key.as_bytes()]).await;
            if reply.is_some_and(|reply| &reply[..] == b"$-1\r\n") {
                self.history().not_seen(&key);
            }
        }
    }

    /// Of keys that end by themselves the copies alone are compared: clocks are wrong.
    async fn set_for_a_while(&self, value: &str) {
        let ms = (1 + self.below(5_000)).to_string();
        self.call(&[b"SET", b"ending", value.as_bytes(), b"PX", ms.as_bytes()])
            .await;
    }

    /// Adds an item to a cart or takes one out, or writes what else a shop keeps in collections.
    async fn fill_cart(&self, value: &str) {
        match self.below(10) {
            0 => return self.count_in("HINCRBY").await,
            1 => return self.count_in("ZINCRBY").await,
            2 => return self.push(value).await,
            3 | 4 => return self.use_stream(value).await,
            _ => {}
        }
        let cart = CARTS[self.below(CARTS.len())];
        let item = format!("item{}", self.below(CART_ITEMS));
        let item = item.as_bytes();
        let adds = self.below(3) > 0;
        let words: &[&[u8]] = match (cart, adds) {
            ("cart-set", true) => &[b"SADD", b"cart-set", item],
            ("cart-set", false) => &[b"SREM", b"cart-set", item],
            ("cart-hash", true) => &[b"HSET", b"cart-hash", item, value.as_bytes()],
            ("cart-hash", false) => &[b"HDEL", b"cart-hash", item],
            (_, true) => &[b"ZADD", b"cart-zset", b"1", item],
            (_, false) => &[b"ZREM", b"cart-zset", item],
        };
        let place = format!("{cart}/{}", String::from_utf8_lossy(item));
        let begun = self.history().begin_blind(&place, adds.then_some("there"));
        let reply = self.call(words).await;
        if reply.is_some_and(|reply| reply.first() == Some(&b':')) {
            self.history().acknowledge_blind(&place, begun);
        }
    }

    /// Counts in a field or a score.
    async fn count_in(&self, command: &str) {
        let words: &[&[u8]] = match command {
            "HINCRBY" => &[b"HINCRBY", b"count-hash", b"field", b"1"],
            _ => &[b"ZINCRBY", b"count-zset", b"1", b"member"],
        };
        let key = String::from_utf8_lossy(words[1]).into_owned();
        self.history().begin_count(&key);
        let reply = self.call(words).await;
        if reply.is_some_and(|reply| reply.first() != Some(&b'-')) {
            self.history().acknowledge_count(&key);
        }
    }

    /// Pushes to an end of a list, or takes out what was pushed earlier.
    async fn push(&self, value: &str) {
        if self.below(4) == 0 {
            let pushed = self.history().in_list("queue");
            if !pushed.is_empty() {
                return self.take_out(&pushed[self.below(pushed.len())]).await;
            }
        }
        let command: &[u8] = [&b"RPUSH"[..], b"LPUSH"][self.below(2)];
        let place = format!("queue/{value}");
        let begun = self.history().begin_blind(&place, Some("there"));
        let reply = self.call(&[command, b"queue", value.as_bytes()]).await;
        if reply.is_some_and(|reply| reply.first() == Some(&b':')) {
            self.history().acknowledge_blind(&place, begun);
        }
    }

    async fn take_out(&self, value: &str) {
        let place = format!("queue/{value}");
        let begun = self.history().begin_blind(&place, None);
        let reply = self
            .call(&[b"LREM", b"queue", b"0", value.as_bytes()])
            .await;
        if reply.is_some_and(|reply| reply.first() == Some(&b':')) {
            self.history().acknowledge_blind(&place, begun);
        }
    }

    async fn count(&self) {
        self.count_at(self.somebody()).await;
    }

    async fn count_at(&self, nth: Option<usize>) {
        self.history().counted.0 += 1;
        let reply = self.call_if(nth, &[b"INCR", b"counter"]).await;
        if reply.is_some_and(|reply| reply.first() == Some(&b':')) {
            self.history().counted.1 += 1;
        }
    }

    /// Counts beside deletes and values over the count.
    async fn tally(&self) {
        let (words, adds): (&[&[u8]], i64) = match self.below(8) {
            0 => (&[b"DEL", b"tally"], 0),
            1 => (&[b"GETDEL", b"tally"], 0),
            2 => (&[b"SET", b"tally", b"0"], 0),
            3 => (&[b"INCRBY", b"tally", b"2"], 2),
            _ => (&[b"INCR", b"tally"], 1),
        };
        let begun = self.history().begin_tally(adds);
        let reply = self.call(words).await;
        if reply.is_some_and(|reply| reply.first() != Some(&b'-')) {
            self.history().acknowledge_tally(begun);
        }
    }

    /// Another expiry, far away, of any key: its values stay what they are.
    async fn retime(&self) {
        let key = match self.below(4) {
            0 => "counter".to_owned(),
            1 => "tally".to_owned(),
            2 => format!("key-{}", self.below(KEYS)),
            _ => format!("blind-{}", self.below(BLIND_KEYS)),
        };
        let key = key.as_bytes();
        let seconds = (100_000 + self.below(1_000)).to_string();
        let words: &[&[u8]] = match self.below(4) {
            0 => &[b"PERSIST", key],
            1 => &[b"GETEX", key, b"EX", seconds.as_bytes()],
            2 => &[b"GETEX", key, b"PERSIST"],
            _ => &[b"EXPIRE", key, seconds.as_bytes()],
        };
        self.call(words).await;
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().expect("no panic")
    }

    async fn siblings(&self, key: &str) -> Option<(Vec<u8>, Vec<String>)> {
        let reply = self.call(&[b"SIBLINGS", key.as_bytes()]).await?;
        let text = String::from_utf8(reply.to_vec()).expect("text");
        if !text.starts_with("*2") {
            return None;
        }
        let mut bulks = text
            .split("\r\n")
            .filter(|line| !line.starts_with(['*', '$']) && !line.is_empty());
        let context = bulks.next()?.as_bytes().to_vec();
        Some((context, bulks.map(str::to_owned).collect()))
    }

    /// A node may still suspect another for a moment.
    async fn read_in_the_end(&self, key: &str) -> Option<(Vec<u8>, Vec<String>)> {
        for _ in 0..5 {
            if let Some(read) = self.siblings(key).await {
                return Some(read);
            }
            sleep(Duration::from_secs(1)).await;
        }
        None
    }

    /// What a collection shows: of a hash fields with their values, of a sorted set members with their scores.
    async fn elements(&self, key: &str) -> Option<Vec<String>> {
        let name = key.as_bytes();
        let words: &[&[u8]] = match key {
            "cart-set" => &[b"SMEMBERS", name],
            "cart-hash" | "count-hash" => &[b"HGETALL", name],
            "queue" => &[b"LRANGE", name, b"0", b"-1"],
            LOG => &[b"XRANGE", name, b"-", b"+"],
            _ => &[b"ZRANGE", name, b"0", b"-1", b"WITHSCORES"],
        };
        for _ in 0..5 {
            if let Some(reply) = self.call(words).await
                && reply.first() == Some(&b'*')
            {
                let text = String::from_utf8(reply.to_vec()).expect("text");
                let bulks = text.split("\r\n");
                let bulks = bulks.filter(|line| !line.starts_with(['*', '$']) && !line.is_empty());
                return Some(bulks.map(str::to_owned).collect());
            }
            sleep(Duration::from_secs(1)).await;
        }
        None
    }

    /// Asks a random node that is up; `None` when it dies or does not answer.
    async fn call(&self, words: &[&[u8]]) -> Option<BytesMut> {
        self.call_as(&Arc::default(), words).await
    }

    async fn call_if(&self, nth: Option<usize>, words: &[&[u8]]) -> Option<BytesMut> {
        self.call_at(nth?, &Arc::default(), words).await
    }

    async fn call_as(&self, own: &Arc<Own>, words: &[&[u8]]) -> Option<BytesMut> {
        let nth = self.somebody()?;
        self.call_at(nth, own, words).await
    }

    async fn call_at(&self, nth: usize, own: &Arc<Own>, words: &[&[u8]]) -> Option<BytesMut> {
        let (node, died, id, clock) = {
            let places = self.places.lock().expect("no panic");
            let running = places[nth].running.as_ref()?;
            let died = Arc::clone(&running.died);
            (
                Arc::clone(&running.node),
                died,
                places[nth].id,
                places[nth].clock,
            )
        };
        let died = died.notified();
        let words = owned(&self.by_script(words));
        let asked = clock.rule(ask(node, Arc::clone(own), words));
        let asked = async move {
            self.network.awake(id).await;
            asked.await
        };
        tokio::select! {
            biased;
            () = died => None,
            reply = timeout(WITHIN * 10, asked) => reply.ok(),
        }
    }

    /// When all is healed and quiet.
    /// No world loses every copy of something.
    fn nothing_is_lost(&self) -> Result<(), String> {
        if let Some(script) = &self.history().no_script {
            return Err(format!("{script}: was loaded, and is not known"));
        }
        let places = self.places.lock().expect("no panic");
        for place in places.iter().filter(|place| place.counts()) {
            let lost = place
                .running
                .as_ref()
                .map(|running| running.cluster.lost_parts());
            if lost.is_some_and(|lost| !lost.is_empty()) {
                return Err(format!("{}: partitions count as lost", place.id));
            }
        }
        Ok(())
    }

    /// Whether collections have rows for their elements. A read does not repair a copy of such a key that merely
    /// lags: where nothing else does it is only looked at what is shown.
    fn has_large_keys(&self) -> bool {
        self.kind != Kind::Crash || self.seed.is_multiple_of(2)
    }

    /// Every key that somebody has written, and whose copies are to be the same in the end.
    fn keys(&self) -> Vec<String> {
        let resolved = (0..KEYS).map(|n| format!("key-{n}"));
        let blind = (0..BLIND_KEYS).map(|n| format!("blind-{n}"));
        let mine = (0..CLIENTS).map(|n| format!("mine-{n}"));
        let plain = ["ending", "counter", "tally"];
        let collections = ["queue", "count-hash", "count-zset", LOG];
        let collections = collections.iter().chain(&CARTS);
        let lags = self.kind == Kind::Crash && self.has_large_keys();
        let collections = collections.filter(|_| !lags);
        let others = plain.iter().chain(collections);
        let others = others.map(|key| (*key).to_owned());
        let gone: Vec<String> = {
            let history = self.history();
            history
                .deleted
                .iter()
                .chain(&history.strict)
                .cloned()
                .collect()
        };
        let keys = resolved.chain(blind).chain(mine).chain(others).chain(gone);
        keys.collect()
    }

    /// What can be seen of that without asking anybody.
    fn all_is_as_it_should_be(&self, keys: &[String]) -> Result<(), String> {
        if self.kind == Kind::Grow {
            self.all_is_settled()?;
        }
        self.nothing_is_lost()?;
        for key in keys {
            self.copies_agree(key)?;
        }
        if self.kind == Kind::Full {
            self.is_what_is_stored(keys)?;
        }
        if self.kind.mends() {
            self.nothing_is_left()?;
        }
        self.no_hints_are_left()
    }

    fn no_hints_are_left(&self) -> Result<(), String> {
        let places = self.places.lock().expect("no panic");
        for place in places.iter().filter(|place| place.counts()) {
            let replica = &place.running.as_ref().expect("all run").replica;
            let hints = replica.hint_counts();
            if !hints.is_empty() {
                return Err(format!("{}: hints are left: {hints:?}", place.id));
            }
        }
        Ok(())
    }

    async fn check(&self) -> Result<u64, String> {
        if self.network.has_panicked() {
            return Err("a node panicked: one of its own invariants was broken".to_owned());
        }
        let keys = self.keys();
        if self.kind == Kind::Crash {
            // What a coordinator was sending when it died is nobody's to finish but a reader's.
            for key in &keys {
                self.read_in_the_end(key).await;
            }
            sleep(Duration::from_secs(5)).await;
        }
        // Where there is a fallback, the last write may have been nobody's to see; where a command
        // was repeated, its first run may come to light later.
        let strict = self.kind == Kind::Cut && self.strict;
        let nobody_is_left = self.kind == Kind::Grow && self.members_up().is_empty();
        if nobody_is_left && !self.take_a_newcomer_in().await {
            return Ok(self.history().acknowledged());
        }
        self.accept_what_a_removal_left().await;
        self.all_is_as_it_should_be(&keys)?;
        for key in &keys {
            let Some((_, visible)) = self.read_in_the_end(key).await else {
                return Err(format!("{key} cannot be read though all is healed"));
            };
            self.history().check(key, &visible, strict)?;
        }
        let collections = ["queue", "count-hash", "count-zset", LOG];
        for key in CARTS.iter().chain(&collections) {
            let Some(there) = self.elements(key).await else {
                return Err(format!("{key} cannot be read though all is healed"));
            };
            self.history().check_elements(key, &there, strict)?;
        }
        self.no_hints_are_left()?;
        // It writes.
        self.the_group_gets_everything().await?;
        Ok(self.history().acknowledged())
    }

    /// All members see the same, complete placement.
    fn all_is_settled(&self) -> Result<(), String> {
        let places = self.places.lock().expect("no panic");
        let mut tables: BTreeMap<Vec<Vec<NodeId>>, Vec<NodeId>> = BTreeMap::new();
        // A node that was removed while it was cut off from all others may never hear of it.
        let gone = |id| {
            let running = places.iter().filter_map(|place| place.running.as_ref());
            let mut views = running.map(|running| &running.cluster);
            views.any(|view| view.with_membership(|m| says_gone(m.all(), id)))
        };
        let counting = places.iter().filter(|place| place.counts());
        for place in counting.filter(|place| !gone(place.id)) {
            let cluster = &place.running.as_ref().expect("it runs").cluster;
            let mut table = Vec::new();
            for partition in 0..16 {
                let holders = cluster.holders((3, partition));
                if !holders.is_settled {
                    let seed = self.seed;
                    let text = format!("partition {partition}: {holders:?}");
                    let lacking = cluster.lacking_parts();
                    let taking = place.running.as_ref().expect("it runs");
                    let taking = taking
                        .node
                        .convergence
                        .as_ref()
                        .map(|c| c.transfers().taking());
                    return Err(format!(
                        "{}: still moves (world {seed}): {text}, lacks {lacking:?}: {taking:?}",
                        place.id
                    ));
                }
                table.push(holders.serving.clone());
            }
            tables.entry(table).or_default().push(place.id);
        }
        if tables.len() > 1 {
            let who: Vec<_> = tables.values().collect();
            return Err(format!("members see different placements: {who:?}"));
        }
        Ok(())
    }

    /// What every node reads, counts and sums is what its disk has.
    fn is_what_is_stored(&self, keys: &[String]) -> Result<(), String> {
        let places = self.places.lock().expect("no panic");
        for place in places.iter().filter(|place| place.counts()) {
            let replica = &place.running.as_ref().expect("all run").replica;
            let copy = Arc::new(MemoryStore::new(2));
            copy.replace(Some(place.disk.copy()));
            let ports = self.ports(place, copy, ActorId(1));
            let built = place.clock.during(|| build(ports)).expect("starts");
            let stored = Arc::clone(&built.node.replica);
            stored.finish_counting();
            for partition in 0..16 {
                let (ours, theirs) = (replica.root(3, partition, 0), stored.root(3, partition, 0));
                if ours != theirs {
                    return Err(format!("{}: the tree of {partition} is another", place.id));
                }
            }
            for key in keys {
                let name = key.as_bytes();
                let at = Key { db: 0, name };
                let (ours, theirs) = (
                    replica.read(at).expect("read"),
                    stored.read(at).expect("read"),
                );
                if ours != theirs {
                    return Err(format!(
                        "{}: reads {ours:?} of {key}, and its disk has {theirs:?}",
                        place.id
                    ));
                }
            }
            if replica.live_keys(0) != stored.live_keys(0) {
                return Err(format!("{}: counts other keys than its disk has", place.id));
            }
        }
        Ok(())
    }

    /// What was deleted or kept for others leaves nothing behind.
    fn nothing_is_left(&self) -> Result<(), String> {
        let places = self.places.lock().expect("no panic");
        for place in places.iter().filter(|place| place.counts()) {
            let running = place.running.as_ref().expect("all run");
            let replica = &running.replica;
            let tombstones = replica.tombstones();
            if tombstones > 0 {
                let standing = running.node.convergence.as_ref().map(|c| c.standing());
                return Err(format!(
                    "{}: {tombstones} tombstones are left (world {}): {standing:?}",
                    place.id, self.seed
                ));
            }
            for partition in 0..replica.partitions().count() {
                let holders = running.cluster.holders((3, partition));
                let rows = replica.rows(3, partition);
                if rows > 0 && !holders.has(place.id) {
                    return Err(format!("{}: keeps {rows} rows of others", place.id));
                }
            }
        }
        Ok(())
    }

    fn copies_agree(&self, key: &str) -> Result<(), String> {
        let places = self.places.lock().expect("no panic");
        let mut copies: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
        for place in places.iter().filter(|place| place.counts()) {
            let running = place.running.as_ref().expect("all run");
            let route = running.cluster.route(key.as_bytes());
            if !running.cluster.holds(route) {
                continue;
            }
            let at = Key {
                db: 0,
                name: key.as_bytes(),
            };
            let object = running.replica.read(at);
            let mut object = object.map_err(|error| format!("{key}: {error}"))?.bare();
            // By which clock a value has ended is another matter.
            if key == "ending" {
                object = Object::default();
            }
            let hints = running.replica.hint_counts();
            let name = format!("{}: {object:?}, hints kept: {hints:?}", place.id);
            copies
                .entry(record::ROW.encode(&object))
                .or_default()
                .push(name);
        }
        if copies.len() == 1 {
            return Ok(());
        }
        let seed = self.seed;
        Err(format!(
            "{key}: owners hold different objects (world {seed}): {:#?}",
            copies.values()
        ))
    }
}

fn owned(words: &[&[u8]]) -> OwnedArgs {
    let mut owned = OwnedArgs::default();
    for word in words {
        owned.push(word);
    }
    owned
}

/// By how much a node's clock is wrong, in milliseconds; now and then by more than is believed.
fn wrong_by_ms(random: &mut Random) -> i64 {
    let some = random.below(10_000) as i64 - 5_000;
    match random.below(4) {
        0 => some,
        1 => some * 60,
        _ => 0,
    }
}

async fn ask(node: Arc<Node>, own: Arc<Own>, words: OwnedArgs) -> BytesMut {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let mut session = Session::new(Arc::new(Client::new(1, nowhere, nowhere)), true);
    session.own = own;
    let (mut reply, mut written) = (Reply::default(), Vec::new());
    let after = {
        let mut ctx = context(
            &node,
            &mut session,
            &mut reply,
            &mut written,
            ringwood::base::clock::monotonic(),
        );
        let words = words.as_args();
        execute(&mut ctx, find(words), words);
        ctx.after
    };
    match after {
        After::Later(later) | After::Waiting(later) => later.await,
        _ => std::mem::take(reply.buffer()),
    }
}
