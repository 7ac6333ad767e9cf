//! This node's view of its cluster: the members, the table of owners, and who answers.
//!
//! The member table is a join and is the same everywhere in the end; who answers is this node's own
//! opinion. Not here: gossip's rounds (`background`), and what is done with the view (`coordinator`).

mod completeness;
mod fingerprint;
mod growing;
mod liveness;
mod losses;
mod notes;
mod opinion;
mod options;
mod placement;
mod plan;
mod staged;
mod targets;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};
use tokio::time::Instant;

use crate::logic::digest;
use crate::logic::membership::{Member, Membership, Parts, State as Standing};
use crate::logic::placement::{NodeId, key_hash, slot_of};
use crate::peer::message::{MembershipRequest, Response};
use crate::peer::{Identity, Peers, encode};

pub use crate::logic::membership::Part;
pub use crate::logic::placement::Holders;
pub use fingerprint::View;
pub use growing::Growing;
pub use notes::{CLUSTER_NOTE, Notes};
pub use options::{Options, Route};
pub use plan::{Load, Move, Plan, PlanError, Step};

use fingerprint::Behind;
use opinion::Opinion;
use placement::Placement;

/// A node that lacks something is asked last for so long after it has said so.
const EMPTY_FOR_MS: u64 = 1_000;

/// What could not be written down by then cannot be for now: the disk is full, or broken.
const NOTED_WITHIN: Duration = Duration::from_secs(2);
/// A node that starts waits so long for members that do not answer.
pub const ANNOUNCED_WITHIN: Duration = Duration::from_secs(1);

/// Others are asked so long, and after so long again, what they know of this node.
const ASKED_WITHIN: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// For so long it is believed that a member has no room.
const FULL_MS: u64 = 5_000;

/// The view.
pub struct Cluster {
    options: Options,
    identity: Arc<RwLock<Identity>>,
    peers: Arc<dyn Peers>,
    state: RwLock<State>,
    detectors: Mutex<BTreeMap<NodeId, Opinion>>,
    started: Instant,
    /// How often something has changed, and how much of that is written down.
    revision: Growing,
    noted: Growing,
    /// 1 when this node has told the members that it is there.
    announced: Growing,
    joining: AsyncMutex<()>,
    /// How many parts this node owns and may not have.
    lacking: AtomicU64,
    /// How many parts are lost.
    lost: AtomicU64,
    /// Members that are about to stop.
    stopping: Mutex<BTreeSet<NodeId>>,
    some_stop: AtomicBool,
    /// Whether this node was a member and is none any more.
    is_gone: AtomicBool,
    /// What is to be done when somebody says so.
    staged: Mutex<Option<Plan>>,
    /// Others who lack something, and until when that is believed.
    empty: Mutex<BTreeMap<NodeId, u64>>,
    some_empty: AtomicBool,
    /// Whether nobody has said yet that this node's disk is not an older copy.
    unsure: AtomicBool,
    /// Who has no room on the disk, until when that is believed; and whether there is anybody.
    full: Mutex<BTreeMap<NodeId, u64>>,
    some_full: AtomicBool,
    is_full_here: AtomicBool,
    /// Others who knew less than this node.
    behind: Mutex<Option<Arc<Behind>>>,
}

/// An attempt to join a cluster; what was before is restored when it is given up.
struct Joining<'a> {
    cluster: &'a Cluster,
    before: u64,
    _alone: MutexGuard<'a, ()>,
}

impl Joining<'_> {
    /// The cluster has taken this node in.
    fn succeed(mut self, cluster: u64, members: Vec<Member>) {
        self.before = 0;
        self.cluster.identity.write().cluster = cluster;
        let mine = self.cluster.with_membership(|m| m.me().clone());
        // A member with this node's address is this node before it lost its disk.
        let earlier = members.iter().find(|member| {
            member.is_present()
                && member.id != mine.id
                && member.name == mine.name
                && member.peer_address == mine.peer_address
        });
        self.cluster.lack_everything();
        if let Some(earlier) = earlier {
            let mut me = Member {
                id: earlier.id,
                joined: earlier.joined,
                left: earlier.left,
                replaces: earlier.replaces,
                places: earlier.places.clone(),
                incarnation: earlier.incarnation + 1,
                version: 0,
                complete: earlier.complete.clone(),
                proven: earlier.proven.clone(),
                ..mine
            };
            let had = me.lose_everything();
            me.losses = earlier.losses.clone();
            me.losses.lost.add(&had);
            me.losses.lost_at = Membership::new(me.clone(), members.clone()).next_loss();
            tracing::warn!(id = %me.id, "this node was a member before and has lost its disk");
            self.cluster.identity.write().node = me.id;
            // Alone for no moment: what the others have is not lost.
            self.cluster
                .change(|membership| *membership = Membership::new(me, members));
            return;
        }
        self.cluster.change(|membership| membership.learn(members));
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if self.before != 0 {
            self.cluster.found(self.before);
        }
    }
}

struct State {
    membership: Membership,
    placement: Arc<Placement>,
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
            wire: options.wire,
        }));
        let peers = reach(Arc::clone(&identity));
        let says_what_it_has = me.complete.is_some();
        let me_id = me.id;
        let membership = Membership::new(me, notes.members);
        let has_others = membership.present().any(|member| member.id != me_id);
        let cluster = Self {
            unsure: AtomicBool::new(notes.cluster != 0 && has_others),
            state: RwLock::new(State {
                placement: Placement::of(&membership, &options, None),
                membership,
            }),
            options,
            identity,
            peers,
            detectors: Mutex::default(),
            started: Instant::now(),
            revision: Growing::default(),
            noted: Growing::default(),
            announced: Growing::default(),
            joining: AsyncMutex::default(),
            lacking: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            stopping: Mutex::default(),
            some_stop: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            staged: Mutex::default(),
            empty: Mutex::default(),
            some_empty: AtomicBool::new(false),
            full: Mutex::default(),
            some_full: AtomicBool::new(false),
            is_full_here: AtomicBool::new(false),
            behind: Mutex::default(),
        };
        if !says_what_it_has {
            // Written down by an older program, or a node that has no cluster yet.
            let lacking: Parts = notes.lacking.into_iter().collect();
            let is_there = |part: &Part| notes.cluster != 0 && !lacking.contains(*part);
            cluster.set_complete(|owned| owned.iter().copied().filter(is_there).collect());
        }
        cluster.place(&mut cluster.state.write());
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

    /// Whether this node belongs to a cluster, and is not gone from it.
    pub fn has_joined(&self) -> bool {
        self.identity.read().cluster != 0 && !self.is_gone.load(Ordering::Acquire)
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

    /// Everybody that was ever known, for those who know less.
    pub fn everybody(&self) -> Vec<Member> {
        self.with_membership(|membership| membership.all().cloned().collect())
    }

    /// The name of a member, or its id.
    pub fn name_of(&self, id: NodeId) -> String {
        let known = |m: &Membership| m.member(id).map(|member| member.name.clone());
        self.with_membership(known)
            .unwrap_or_else(|| id.to_string())
    }

    /// A fingerprint of everything that decides who owns what and who runs: the changes, what members
    /// say, their present runs, the rules.
    pub fn fingerprint(&self) -> u64 {
        let mut raw = Vec::new();
        let account = self.with_membership(|membership| {
            for member in membership.all() {
                raw.extend_from_slice(&member.actor.0.to_le_bytes());
            }
            fingerprint::account(membership.all())
        });
        for number in [account, fingerprint::rules(&self.options.rules)] {
            raw.extend_from_slice(&number.to_le_bytes());
        }
        key_hash(&raw)
    }

    /// A fingerprint of what trees are of: which keys have how many owners, and how digests are made.
    pub fn trees_fingerprint(&self) -> u64 {
        fingerprint::rules(&self.options.rules) ^ digest::VERSION
    }

    /// How many changes of the membership this node knows.
    pub fn events(&self) -> u64 {
        self.state.read().placement.events
    }

    /// Changes the member table and follows: holders, links, what is written down.
    pub fn change<R>(&self, change: impl FnOnce(&mut Membership) -> R) -> R {
        let (result, has_changed) = {
            let mut state = self.state.write();
            let before = fingerprint::stamp(&state.membership);
            let result = change(&mut state.membership);
            if state.membership.take_is_old() {
                tracing::warn!(
                    "this node's disk is older than what others know of it: it is filled again"
                );
                state.membership.lose_everything();
            }
            let has_changed = fingerprint::stamp(&state.membership) != before;
            if has_changed {
                self.follow(&mut state);
                self.revision.grow();
            }
            (result, has_changed)
        };
        if has_changed {
            self.connect();
        }
        result
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
        let join = MembershipRequest::Join(Box::new(me));
        match self.peers.call_address(address, &join.into(), within).await {
            Ok((_, Response::Welcome { cluster, members })) => {
                tracing::info!(%address, members = members.len(), "joined the cluster");
                joining.succeed(cluster, members);
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
        self.change(Membership::found);
        // Nobody else has anything.
        self.set_complete(|owned| owned.iter().copied().collect());
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
            self.change(|membership| {
                membership.describe(|me| {
                    me.joined = 0;
                    me.places.clear();
                    me.complete = Some(Parts::default());
                    me.proven = Parts::default();
                });
            });
        }
        Some(Joining {
            cluster: self,
            before,
            _alone: alone,
        })
    }

    /// Another node lacks something: for a while it is asked last.
    pub fn note_empty(&self, id: NodeId) {
        let until_ms = self.now_ms() + EMPTY_FOR_MS;
        self.empty.lock().insert(id, until_ms);
        self.some_empty.store(true, Ordering::Release);
    }

    /// A member has no room on its disk. It is asked again after a while.
    pub fn note_full(&self, id: NodeId) {
        let until_ms = self.now_ms() + FULL_MS;
        if self.full.lock().insert(id, until_ms).is_none() {
            tracing::warn!(node = %self.name_of(id), "has no room on its disk: others take its writes");
        }
        self.some_full.store(true, Ordering::Release);
    }

    /// Whether this node's own disk has no room.
    pub fn note_full_here(&self, is_full: bool) {
        // It hardly ever changes, and every command looks at it.
        if self.is_full_here.load(Ordering::Relaxed) != is_full {
            self.is_full_here.store(is_full, Ordering::Release);
        }
    }

    /// Whether a member has room for writes, as far as is known.
    pub fn takes_writes(&self, id: NodeId) -> bool {
        if id == self.me() {
            return !self.is_full_here.load(Ordering::Acquire);
        }
        if !self.some_full.load(Ordering::Acquire) {
            return true;
        }
        let now_ms = self.now_ms();
        let mut full = self.full.lock();
        full.retain(|_, until_ms| now_ms < *until_ms);
        self.some_full.store(!full.is_empty(), Ordering::Release);
        !full.contains_key(&id)
    }

    /// Whether a member has turned out lately to lack what it was asked for.
    pub fn seems_empty(&self, id: NodeId) -> bool {
        let now_ms = self.now_ms();
        let mut empty = self.empty.lock();
        empty.retain(|_, until_ms| now_ms < *until_ms);
        self.some_empty.store(!empty.is_empty(), Ordering::Release);
        empty.contains_key(&id)
    }

    /// How often something has changed, for who follows.
    pub fn revision(&self) -> &Growing {
        &self.revision
    }

    /// What was known at a revision is written down.
    pub fn has_noted(&self, revision: u64) {
        self.noted.raise(revision);
    }

    /// Waits until what this node knows now is written down: others rest on it. `false` when it cannot be.
    pub async fn noted(&self) -> bool {
        let noted = self.noted.reach(self.revision.get());
        tokio::time::timeout(NOTED_WITHIN, noted).await.is_ok()
    }

    /// What this node knows, to be written down.
    pub fn notes(&self) -> Notes {
        let Identity { node, cluster, .. } = self.identity();
        Notes {
            node,
            cluster,
            members: self.everybody(),
            lacking: Vec::new(),
        }
    }

    /// Where a key belongs, and what holds for it.
    pub fn route(&self, name: &[u8]) -> Route {
        Route {
            partition: self.options.partitions.of(slot_of(name)),
            rule: self.options.rules.of(name),
        }
    }

    /// Who serves a partition's keys that have no rule of their own, the coordinator first.
    pub fn owners(&self, partition: u16) -> Vec<NodeId> {
        let n = self.options.rules.default().n;
        self.holders((n, partition)).serving.clone()
    }

    /// Who holds a part, and whose copies count.
    pub fn holders(&self, part: Part) -> Arc<Holders> {
        self.placement().holders(part)
    }

    /// How many parts are on their way to new owners.
    pub fn unsettled(&self) -> usize {
        let partitions = 0..self.options.partitions.count();
        let sizes = self.options.rules.sizes().into_iter();
        let parts = sizes.flat_map(|n| partitions.clone().map(move |p| (n, p)));
        parts.filter(|part| !self.holders(*part).is_settled).count()
    }

    /// Who serves a key, and who takes their place, in rank order.
    pub fn owners_and_fallbacks(&self, route: Route) -> (Vec<NodeId>, Vec<NodeId>) {
        let holders = self.holders(route.part());
        (holders.serving.clone(), holders.fallbacks.clone())
    }

    /// Whether this node holds a key: it gets every write of it.
    pub fn holds(&self, route: Route) -> bool {
        self.holders(route.part()).has(self.me())
    }

    /// Whether this node's copy of a key counts for reads.
    pub fn serves(&self, route: Route) -> bool {
        self.holders(route.part()).serves(self.me()) && !self.lacks(route)
    }

    /// Whether this node's disk may be an older copy of what it was: others have not been asked yet.
    pub fn is_unsure(&self) -> bool {
        self.unsure.load(Ordering::Acquire)
    }

    /// Asks the others what they know of this node. Until each of them has answered or cannot be reached,
    /// and one has answered, its copies do not count for reads.
    pub async fn make_sure(&self) {
        let mut asked: BTreeMap<NodeId, bool> = BTreeMap::new();
        while self.is_unsure() {
            let others: Vec<NodeId> = self.with_membership(|membership| {
                let others = membership.present().map(|member| member.id);
                others.filter(|id| *id != self.me()).collect()
            });
            let open = others.iter().filter(|id| !asked.contains_key(*id));
            let open: Vec<NodeId> = open.copied().collect();
            if open.is_empty() && (others.is_empty() || asked.values().any(|answered| *answered)) {
                self.unsure.store(false, Ordering::Release);
                return;
            }
            let again: Vec<NodeId> = if open.is_empty() { others } else { open };
            let answers = again.iter().map(|id| self.ask_of_this_node(*id));
            let answers = futures_util::future::join_all(answers).await;
            asked.extend(again.into_iter().zip(answers));
            if !asked.values().any(|answered| *answered) {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }

    /// Asks a member what it knows of this node; whether it answered.
    async fn ask_of_this_node(&self, id: NodeId) -> bool {
        let digest = self.with_membership(Membership::digest_as_noted);
        let body = encode(MembershipRequest::Gossip(digest));
        match self.peers.call(id, body, ASKED_WITHIN).await {
            Ok(Response::Gossip(reply)) => {
                self.change(|membership| membership.learn(reply.newer));
                true
            }
            _ => false,
        }
    }

    /// How many partitions a member is to own.
    pub fn load(&self, id: NodeId) -> usize {
        self.state.read().placement.table().load(id)
    }

    /// Who runs requests on a partition's keys: the first of those that serve it that answers.
    pub fn coordinator(&self, partition: u16) -> NodeId {
        let n = self.options.rules.default().n;
        let holders = self.holders((n, partition));
        let Holders {
            serving,
            filling,
            spare,
            fallbacks,
            ..
        } = &*holders;
        let all = serving.iter().chain(spare).chain(filling).chain(fallbacks);
        // A member without room does not coordinate, where another can.
        let runs = |id: &NodeId| self.answers(*id) && self.takes_writes(*id);
        let first = all.clone().copied().find(runs);
        let first = first.or_else(|| all.copied().find(|id| self.answers(*id)));
        first.unwrap_or_else(|| self.me())
    }

    /// Who is asked for all keys of a partition: the first that serves it and answers.
    pub fn keeper(&self, partition: u16) -> NodeId {
        let keeps = |id: &NodeId| {
            let lacks = *id == self.me() && self.lacks_of(partition);
            self.answers(*id) && !lacks && !self.seems_empty(*id)
        };
        let first = self.owners(partition).into_iter().find(keeps);
        first.unwrap_or_else(|| self.coordinator(partition))
    }

    /// Whether members stand in several zones.
    pub fn has_zones(&self) -> bool {
        self.state.read().placement.has_zones()
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
