//! This node's view of its cluster: the members, the table of owners, and who answers.
//!
//! The member table is a join and is the same everywhere in the end; who answers is this node's own
//! opinion. Not here: gossip's rounds (`background`), and what is done with the view (`coordinator`).

mod lacking;
mod notes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Notify};
use tokio::time::Instant;

use crate::logic::codec::{put_bytes, put_varint};
use crate::logic::membership::{Detector, Digest, Member, Membership};
use crate::logic::placement::{NodeId, Partitions, Placed, Table, key_hash, slot_of};
use crate::logic::quorum::{Rule, Rules, Targets};
use crate::peer::message::{Request, Response};
use crate::peer::{CallError, Identity, Peers};

pub use lacking::Part;
pub use notes::Notes;

use lacking::Lacking;

/// A node that lacks something is asked last for so long after it has said so.
const EMPTY_FOR_MS: u64 = 1_000;

/// What is agreed when a cluster is made, and how patient this node is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The number of partitions (Q).
    pub partitions: Partitions,
    /// Owners a key, and how many of them count.
    pub rules: Rules,
    /// The suspicion from which a member is skipped.
    pub phi_threshold: f64,
    /// What proves the cluster's secret.
    pub key: [u8; 32],
}

/// Where a key belongs, and what holds for it.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Its partition.
    pub partition: u16,
    /// Its rule.
    pub rule: Rule,
}

/// The view.
pub struct Cluster {
    options: Options,
    identity: Arc<RwLock<Identity>>,
    peers: Arc<dyn Peers>,
    state: RwLock<State>,
    detectors: Mutex<BTreeMap<NodeId, Opinion>>,
    started: Instant,
    changed: Notify,
    joining: AsyncMutex<()>,
    lacking: Lacking,
    /// Whether the cluster is known to hold anything.
    has_data: AtomicBool,
    /// Others who lack something, and until when that is believed.
    empty: Mutex<BTreeMap<NodeId, u64>>,
    some_empty: AtomicBool,
}

/// An attempt to join a cluster; what was before is restored when it is given up.
struct Joining<'a> {
    cluster: &'a Cluster,
    before: u64,
    _alone: MutexGuard<'a, ()>,
}

impl Joining<'_> {
    /// The cluster has taken this node in.
    fn succeed(mut self, cluster: u64, members: Vec<Member>, has_data: bool) {
        self.before = 0;
        self.cluster.identity.write().cluster = cluster;
        let mine = self.cluster.with_membership(|m| m.me().clone());
        // Whoever has this node's address is this node before it lost its disk.
        let earlier = members.iter().find(|member| {
            member.is_present()
                && member.id != mine.id
                && member.name == mine.name
                && member.peer_address == mine.peer_address
        });
        if let Some(earlier) = earlier {
            let me = Member {
                id: earlier.id,
                joined: earlier.joined,
                incarnation: earlier.incarnation + 1,
                version: 0,
                ..mine
            };
            tracing::warn!(id = %me.id, "this node was a member before and has lost its disk");
            self.cluster.identity.write().node = me.id;
            self.cluster
                .change(|membership| *membership = Membership::new(me, Vec::new()));
        }
        let was_member = earlier.is_some();
        self.cluster.change(|membership| membership.learn(members));
        if was_member || has_data {
            self.cluster.note_data();
            self.cluster.lack_everything();
        }
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if self.before != 0 {
            self.cluster.found(self.before);
        }
    }
}

/// What this node thinks of another.
struct Opinion {
    detector: Detector,
    /// Until then it is worth asking, whatever time passes in silence.
    trusted_until_ms: u64,
}

impl Opinion {
    fn new(now_ms: u64, phi_threshold: f64) -> Self {
        let detector = Detector::new(now_ms);
        Self {
            trusted_until_ms: detector.suspected_from_ms(phi_threshold),
            detector,
        }
    }

    fn change(&mut self, phi_threshold: f64, change: impl FnOnce(&mut Detector)) {
        change(&mut self.detector);
        self.trusted_until_ms = self.detector.suspected_from_ms(phi_threshold);
    }
}

struct State {
    membership: Membership,
    placement: Arc<Placement>,
}

/// The owners of every partition, with the lists of who comes after them.
struct Placement {
    events: u64,
    placed: Vec<Placed>,
    table: Table,
    lists: Vec<OnceLock<Vec<NodeId>>>,
}

impl Placement {
    fn of(membership: &Membership, options: &Options) -> Arc<Self> {
        let count = usize::from(options.partitions.count());
        let placed = membership.placed();
        let table = Table::new(
            &placed,
            options.partitions,
            usize::from(options.rules.default().n),
        );
        Arc::new(Self {
            events: membership.events(),
            placed,
            table,
            lists: (0..count).map(|_| OnceLock::new()).collect(),
        })
    }

    fn preference_list(&self, partition: u16) -> &[NodeId] {
        self.lists[usize::from(partition)].get_or_init(|| self.table.preference_list(partition))
    }

    /// Where a key is kept, and who comes after.
    fn split(&self, route: Route) -> (&[NodeId], &[NodeId]) {
        let list = self.preference_list(route.partition);
        list.split_at(list.len().min(usize::from(route.rule.n)))
    }
}

impl Cluster {
    /// The view of a node that knows itself and what it has written down.
    ///
    /// `reach` makes what asks the others, given who this node is to them.
    pub fn new(
        me: Member,
        notes: Notes,
        options: Options,
        reach: impl FnOnce(Arc<RwLock<Identity>>) -> Arc<dyn Peers>,
    ) -> Arc<Self> {
        let identity = Arc::new(RwLock::new(Identity {
            node: me.id,
            cluster: notes.cluster,
            partitions: options.partitions.count(),
            n: options.rules.default().n,
            key: options.key,
        }));
        let peers = reach(Arc::clone(&identity));
        let membership = Membership::new(me, notes.members);
        let cluster = Self {
            state: RwLock::new(State {
                placement: Placement::of(&membership, &options),
                membership,
            }),
            options,
            identity,
            peers,
            detectors: Mutex::default(),
            started: Instant::now(),
            changed: Notify::new(),
            joining: AsyncMutex::default(),
            lacking: Lacking::new(notes.lacking),
            // Whoever was a member before may have written something.
            has_data: AtomicBool::new(notes.cluster != 0),
            empty: Mutex::default(),
            some_empty: AtomicBool::new(false),
        };
        cluster.connect();
        Arc::new(cluster)
    }

    /// Who this node is to others.
    pub fn identity(&self) -> Identity {
        *self.identity.read()
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.identity.read().node
    }

    /// Whether this node belongs to a cluster.
    pub fn has_joined(&self) -> bool {
        self.identity.read().cluster != 0
    }

    /// What was agreed.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What asks the others.
    pub fn peers(&self) -> &Arc<dyn Peers> {
        &self.peers
    }

    /// Reads the member table.
    pub fn with_membership<R>(&self, read: impl FnOnce(&Membership) -> R) -> R {
        read(&self.state.read().membership)
    }

    /// The members of the cluster, by id.
    pub fn members(&self) -> Vec<Member> {
        self.with_membership(|membership| membership.present().cloned().collect())
    }

    /// The name of a member, or its id.
    pub fn name_of(&self, id: NodeId) -> String {
        let known = |m: &Membership| m.member(id).map(|member| member.name.clone());
        self.with_membership(known)
            .unwrap_or_else(|| id.to_string())
    }

    /// A fingerprint of everything that decides who owns what and who runs: members' places, their
    /// present runs, the rules.
    pub fn view(&self) -> u64 {
        let mut raw = Vec::new();
        self.with_membership(|membership| {
            for member in membership.all() {
                raw.extend_from_slice(&member.id.0.to_le_bytes());
                raw.extend_from_slice(&member.actor.0.to_le_bytes());
                put_bytes(&mut raw, member.machine().as_bytes());
                put_bytes(&mut raw, member.zone.as_bytes());
                put_varint(&mut raw, u64::from(member.weight));
                put_varint(&mut raw, member.joined);
                put_varint(&mut raw, member.left.map_or(0, |at| at + 1));
            }
        });
        raw.extend_from_slice(&self.rules_fingerprint().to_le_bytes());
        key_hash(&raw)
    }

    /// A fingerprint of how many owners which keys have.
    pub fn rules_fingerprint(&self) -> u64 {
        let mut raw = Vec::new();
        for (prefix, owners) in self.options.rules.sizes_by_prefix() {
            put_bytes(&mut raw, prefix);
            raw.push(owners);
        }
        key_hash(&raw)
    }

    /// How many joins and leaves this node knows.
    pub fn events(&self) -> u64 {
        self.state.read().placement.events
    }

    /// Changes the member table and follows: owners, links, what is written down.
    pub fn change<R>(&self, change: impl FnOnce(&mut Membership) -> R) -> R {
        let result = {
            let mut state = self.state.write();
            let result = change(&mut state.membership);
            if state.membership.placed() != state.placement.placed {
                let before = self.owned_in(&state.placement);
                state.placement = Placement::of(&state.membership, &self.options);
                self.own(&before, &self.owned_in(&state.placement));
            }
            result
        };
        self.connect();
        self.changed.notify_one();
        result
    }

    /// Counts a gossip round.
    pub fn beat(&self) {
        self.state.write().membership.beat();
    }

    /// Takes heartbeats in.
    pub fn hear(&self, digest: &[Digest]) {
        let heard = self.state.write().membership.hear(digest);
        let now_ms = self.now_ms();
        let mut detectors = self.detectors.lock();
        for id in heard {
            let threshold = self.options.phi_threshold;
            let opinion = detectors.entry(id);
            let opinion = opinion.or_insert_with(|| Opinion::new(now_ms, threshold));
            opinion.change(threshold, |detector| detector.heard(now_ms));
        }
    }

    /// Asks the node at an address to take this one into its cluster, and becomes a member. `allowed`
    /// says whether it may give up a cluster that it alone has made.
    ///
    /// # Errors
    /// Why it is no member of that cluster; it is then what it was.
    pub async fn join(&self, address: &str, within: Duration, allowed: bool) -> Result<(), String> {
        let Some(joining) = self.begin_joining(allowed) else {
            return Err("the node is joining a cluster already".to_owned());
        };
        let me = self.with_membership(|membership| membership.me().clone());
        let join = Request::Join(me);
        match self.peers.call_address(address, &join, within).await {
            Ok((
                _,
                Response::Welcome {
                    cluster,
                    members,
                    has_data,
                },
            )) => {
                tracing::info!(%address, members = members.len(), "joined the cluster");
                joining.succeed(cluster, members, has_data);
                Ok(())
            }
            Ok((_, Response::Refused(reason))) => Err(reason),
            Ok(_) => Err("the other node sent something that was not asked for".to_owned()),
            Err(error) => Err(format!("{address}: {error}")),
        }
    }

    /// Becomes the first member of a new cluster.
    pub fn found(&self, cluster: u64) {
        self.identity.write().cluster = cluster;
        self.change(|membership| membership.describe(|me| me.joined = 1));
    }

    /// Begins to join another cluster: gives up the one that this node alone has made, where that is
    /// `allowed`. `None` where it is not, and while another attempt is under way.
    fn begin_joining(&self, allowed: bool) -> Option<Joining<'_>> {
        let alone = self.joining.try_lock().ok()?;
        if self.has_joined() && !allowed {
            return None;
        }
        let before = std::mem::take(&mut self.identity.write().cluster);
        if before != 0 {
            self.change(|membership| membership.describe(|me| me.joined = 0));
        }
        Some(Joining {
            cluster: self,
            before,
            _alone: alone,
        })
    }

    /// Whether this node's copy of a key does not count, though it owns the key.
    pub fn lacks(&self, route: Route) -> bool {
        self.lacking.has((route.rule.n, route.partition))
    }

    /// How many parts of what it owns this node may not have.
    pub fn lacking(&self) -> usize {
        self.lacking.all().len()
    }

    /// This node may have nothing of what it owns.
    pub fn lack_everything(&self) {
        let owned = self.owned_in(&self.placement());
        if self.lacking.change(|parts| parts.extend(owned)) {
            self.changed.notify_one();
        }
    }

    /// This node has what the other owners have, of keys with so many owners.
    pub fn has(&self, owners: u8, partitions: &[u16]) {
        let some = self.lacking.some();
        let had = partitions.iter().map(|partition| (owners, *partition));
        let changed = some
            && self.lacking.change(|parts| {
                for part in had {
                    parts.remove(&part);
                }
            });
        if changed {
            self.changed.notify_one();
            if !self.lacking.some() {
                tracing::info!("filled: every copy has been compared with the other owners'");
            }
        }
    }

    /// The cluster holds something: whoever comes to own a part of it lacks that at first.
    pub fn note_data(&self) {
        if !self.has_data() {
            self.has_data.store(true, Ordering::Release);
        }
    }

    /// Whether the cluster is known to hold anything.
    pub fn has_data(&self) -> bool {
        self.has_data.load(Ordering::Acquire)
    }

    fn owned_in(&self, placement: &Placement) -> BTreeSet<Part> {
        let me = self.me();
        let mut owned = BTreeSet::new();
        for partition in 0..self.options.partitions.count() {
            let list = placement.preference_list(partition);
            if let Some(rank) = list.iter().position(|id| *id == me) {
                let sizes = self.options.rules.sizes().into_iter();
                owned.extend(
                    sizes
                        .filter(|n| rank < usize::from(*n))
                        .map(|n| (n, partition)),
                );
            }
        }
        owned
    }

    /// Follows what this node owns.
    fn own(&self, before: &BTreeSet<Part>, now: &BTreeSet<Part>) {
        let gained = now.difference(before).count();
        self.lacking.change(|parts| {
            parts.retain(|part| now.contains(part));
            if self.has_data() {
                parts.extend(now.difference(before));
            }
        });
        if gained > 0 && self.has_data() {
            tracing::info!(
                partitions = gained,
                "more to own: filled from the other owners"
            );
        }
    }

    /// Another node lacks something: for a while it is asked last.
    pub fn note_empty(&self, id: NodeId) {
        let until_ms = self.now_ms() + EMPTY_FOR_MS;
        self.empty.lock().insert(id, until_ms);
        self.some_empty.store(true, Ordering::Release);
    }

    fn seems_empty(&self, id: NodeId) -> bool {
        let now_ms = self.now_ms();
        let mut empty = self.empty.lock();
        empty.retain(|_, until_ms| now_ms < *until_ms);
        self.some_empty.store(!empty.is_empty(), Ordering::Release);
        empty.contains_key(&id)
    }

    /// Waits until there is something new to write down.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is to be written down.
    pub fn notes(&self) -> Notes {
        let Identity { node, cluster, .. } = self.identity();
        let members = self.with_membership(|membership| membership.all().cloned().collect());
        Notes {
            node,
            cluster,
            members,
            lacking: self.lacking.all(),
        }
    }

    /// Whether a member is worth asking.
    pub fn answers(&self, id: NodeId) -> bool {
        if id == self.me() {
            return true;
        }
        let now_ms = self.now_ms();
        let detectors = self.detectors.lock();
        let suspected = |opinion: &Opinion| now_ms >= opinion.trusted_until_ms;
        !self.peers.is_down(id) && !detectors.get(&id).is_some_and(suspected)
    }

    /// A member did not do what it was asked.
    pub fn failed(&self, id: NodeId, error: CallError) {
        let now_ms = self.now_ms();
        tracing::debug!(node = %self.name_of(id), %error, "did not answer");
        if error == CallError::TooMuch {
            // That is no fault of its own.
            return;
        }
        let threshold = self.options.phi_threshold;
        let mut detectors = self.detectors.lock();
        detectors
            .entry(id)
            .or_insert_with(|| Opinion::new(now_ms, threshold))
            .change(threshold, Detector::failed);
    }

    /// How suspicious a member is, and for how many milliseconds it has been silent.
    pub fn suspicion(&self, id: NodeId) -> (f64, u64) {
        let now_ms = self.now_ms();
        let detectors = self.detectors.lock();
        let found = detectors.get(&id).map(|opinion| &opinion.detector);
        found.map_or((0.0, 0), |d| (d.phi(now_ms), d.silent_ms(now_ms)))
    }

    /// Where a key belongs, and what holds for it.
    pub fn route(&self, name: &[u8]) -> Route {
        Route {
            partition: self.options.partitions.of(slot_of(name)),
            rule: self.options.rules.of(name),
        }
    }

    /// The owners of a partition's keys that have no rule of their own, the coordinator first.
    pub fn owners(&self, partition: u16) -> Vec<NodeId> {
        self.state.read().placement.table.owners(partition).to_vec()
    }

    /// The owners of a partition's keys that have so many, the coordinator first.
    pub fn first_of(&self, partition: u16, owners: u8) -> Vec<NodeId> {
        let placement = self.placement();
        let list = placement.preference_list(partition);
        list[..list.len().min(usize::from(owners))].to_vec()
    }

    /// The owners of a key, and who takes their place, in rank order.
    pub fn owners_and_fallbacks(&self, route: Route) -> (Vec<NodeId>, Vec<NodeId>) {
        let placement = self.placement();
        let (owners, fallbacks) = placement.split(route);
        (owners.to_vec(), fallbacks.to_vec())
    }

    /// Whether this node owns a key.
    pub fn owns(&self, route: Route) -> bool {
        let placement = self.placement();
        placement.split(route).0.contains(&self.me())
    }

    /// How many partitions a member owns.
    pub fn load(&self, id: NodeId) -> usize {
        self.state.read().placement.table.load(id)
    }

    /// Who runs requests on a partition's keys: the first of the list that answers.
    pub fn coordinator(&self, partition: u16) -> NodeId {
        let placement = self.placement();
        let owners = placement.table.owners(partition);
        if let Some(&first) = owners.first()
            && self.answers(first)
        {
            return first;
        }
        let list = placement.preference_list(partition);
        let first = list.iter().copied().find(|id| self.answers(*id));
        first.unwrap_or_else(|| self.me())
    }

    /// Who is asked for all keys of a partition: the first owner that answers and does not lack any.
    pub fn keeper(&self, partition: u16) -> NodeId {
        let owners = self.owners(partition);
        let keeps = |id: &NodeId| {
            let lacks = *id == self.me() && self.lacks_of(partition);
            self.answers(*id) && !lacks && !self.seems_empty(*id)
        };
        let first = owners.into_iter().find(keeps);
        first.unwrap_or_else(|| self.coordinator(partition))
    }

    /// Whether this node lacks something of a partition's keys that have no rule of their own.
    pub fn lacks_of(&self, partition: u16) -> bool {
        let owners = self.options.rules.default().n;
        self.lacking.has((owners, partition))
    }

    /// Whom this node asks, when it coordinates.
    pub fn targets(&self, route: Route) -> Targets {
        let placement = self.placement();
        let (owners, rest) = placement.split(route);
        let me = self.me();
        let others = |list: &[NodeId]| list.iter().copied().filter(|id| *id != me).collect();
        let mut fallbacks: Vec<NodeId> = if route.rule.strict {
            Vec::new()
        } else {
            others(rest)
        };
        let all = fallbacks.len();
        fallbacks.retain(|id| self.answers(*id));
        let mut owners: Vec<NodeId> = others(owners);
        if self.some_empty.load(Ordering::Acquire) {
            owners.sort_by_key(|id| self.seems_empty(*id));
        }
        Targets {
            owners,
            others: fallbacks.len() < all,
            fallbacks,
        }
    }

    /// How many members that could hold a key answer, as far as so many are wanted.
    pub fn reachable(&self, route: Route, wanted: usize) -> usize {
        let placement = self.placement();
        let (owners, fallbacks) = placement.split(route);
        let fallbacks = if route.rule.strict { &[] } else { fallbacks };
        let could = owners.iter().chain(fallbacks);
        let answering = could.filter(|id| self.answers(**id));
        answering.take(wanted).count()
    }

    fn placement(&self) -> Arc<Placement> {
        Arc::clone(&self.state.read().placement)
    }

    fn connect(&self) {
        let me = self.me();
        for member in self.members().iter().filter(|member| member.id != me) {
            self.peers.set_address(member.id, &member.peer_address);
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}
