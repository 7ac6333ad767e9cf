//! Commands in a cluster: each runs at the coordinator of its keys.
//!
//! This file decides where a command runs and brings its reply back. What runs there is the same
//! handler that a lone node runs, between the two halves that `coordinator` adds: a read quorum
//! before it, the replication of what it wrote after it.

mod coordinate;
mod split;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::args::{Args, OwnedArgs};
use super::error::Error;
use super::own::Own;
use super::session::Session;
use super::table::{self, Flags, Spec};
use super::{Ctx, Node, everywhere};
use crate::base::clock;
use crate::coordinator::{Asked, Coordinator, Forwarded, QuorumError, Repeats};
use crate::logic::causal::Timestamp;
use crate::logic::placement::{NodeId, key_hash, slot_of};
use crate::peer::message::Command;
use crate::resp::{Protocol, Reply};

pub(super) use coordinate::commit;

use coordinate::{Work, coordinate};
use split::split;

/// A command's reply, when it is there.
pub type Later = Pin<Box<dyn Future<Output = BytesMut> + Send>>;

/// How often a command is handed on before somebody has to run it.
pub(super) const MAX_HOPS: u8 = 3;
/// A coordinator with too much to do is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// Commands that are taken apart by coordinator and put together again.
const SPLIT: &[&str] = &["del", "exists", "mget", "mset", "touch", "unlink"];

/// For whom a command runs.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) db: u8,
    pub(super) protocol: Protocol,
    /// What the client asked for with CLIENT QUORUM; else what holds for the key.
    pub(super) quorum: Asked,
    pub(super) hops: u8,
    /// What his connection has written lately.
    pub(super) own: Arc<Own>,
    /// When the node that sent his command gives up: then it must not run any more.
    pub(super) until: Option<Instant>,
    pub(super) place: Place,
    /// When the command was sent first, where it may have run then.
    pub(super) since: Option<Timestamp>,
}

impl Who {
    pub(super) fn of(ctx: &Ctx<'_>) -> Self {
        Self {
            db: ctx.session.db,
            protocol: ctx.reply.protocol(),
            quorum: ctx.session.quorum,
            hops: MAX_HOPS,
            own: Arc::clone(&ctx.session.own),
            until: None,
            place: Place::default(),
            since: None,
        }
    }

    /// How long he still waits, at most so long.
    fn patience(&self, most: Duration) -> Duration {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.until.map_or(most, |until| left(until).min(most))
    }
}

/// The keys of a connection's commands that have begun, as far as these do not take turns in the
/// lanes of this node.
#[derive(Debug, Default)]
pub struct UnderWay {
    /// Keys that this node reads by itself though another coordinates them.
    read_here: HashSet<u64>,
    /// Keys whose commands went to another node.
    elsewhere: HashMap<u64, Elsewhere>,
    begun: u64,
}

#[derive(Debug)]
struct Elsewhere {
    node: NodeId,
    written: bool,
    /// The latest of these commands: an earlier one must not be repeated.
    latest: Arc<AtomicU64>,
}

/// A command's place among those of its connection on the same keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Whether a write of one of the keys is under way before it.
    follows_a_write: bool,
    nth: u64,
    latest: SmallVec<[Arc<AtomicU64>; 1]>,
}

impl Place {
    /// Whether no later command on one of the keys has begun.
    fn is_last(&self) -> bool {
        let latest = |of: &Arc<AtomicU64>| of.load(Ordering::Relaxed);
        self.latest.iter().all(|of| latest(of) == self.nth)
    }
}

impl UnderWay {
    /// All replies are there.
    pub fn clear(&mut self) {
        self.read_here.clear();
        self.elsewhere.clear();
    }

    /// A command begins of which others than this node coordinate some keys.
    fn begin(&mut self, keys: impl Iterator<Item = (u64, NodeId)>, written: bool) -> Place {
        self.begun += 1;
        let mut place = Place {
            follows_a_write: false,
            nth: self.begun,
            latest: SmallVec::new(),
        };
        for (hash, node) in keys {
            let elsewhere = self.elsewhere.entry(hash).or_insert_with(|| Elsewhere {
                node,
                written: false,
                latest: Arc::default(),
            });
            place.follows_a_write |= elsewhere.written;
            elsewhere.written |= written;
            elsewhere.latest.store(self.begun, Ordering::Relaxed);
            place.latest.push(Arc::clone(&elsewhere.latest));
        }
        place
    }
}

/// Begins a command that does not run here and at once. `None`: it does.
pub(super) fn start(
    ctx: &mut Ctx<'_>,
    coordinator: &Arc<Coordinator>,
    spec: &'static Spec,
    args: Args<'_>,
) -> Option<Later> {
    let who = Who::of(ctx);
    let node = Arc::clone(ctx.node);
    match spec.name {
        "explain" if spec.parent == "ringwood" => {
            return Some(super::operator::explain_in_cluster(ctx, &who, args.at(2)));
        }
        "watch" => return Some(super::transactions::watch_in_cluster(ctx, who, args)),
        _ => {}
    }
    if !needs_cluster(spec) {
        return None;
    }
    if !coordinator.cluster().has_joined() {
        return Some(at_once(who, Error::ClusterDown));
    }
    let under_way = &mut ctx.session.under_way;
    if spec.reads_one_key() {
        let (key, hash) = (
            args.at(spec.keys.0 as usize),
            key_hash(args.at(spec.keys.0 as usize)),
        );
        let written = |elsewhere: &Elsewhere| elsewhere.written;
        if !under_way.elsewhere.get(&hash).is_some_and(written)
            && !coordinator.coordinates(key)
            && coordinator.may_read(key, who.quorum)
        {
            under_way.read_here.insert(hash);
            let (coordinator, work) = (Arc::clone(coordinator), Work::of(spec, args.to_owned()));
            return Some(Box::pin(coordinate(node, coordinator, who, work)));
        }
        // Where there are zones, somebody in this one who serves it.
        if !under_way.elsewhere.get(&hash).is_some_and(written)
            && let Some(near) = coordinator.near_reader(key, who.quorum)
        {
            under_way.read_here.insert(hash);
            let (coordinator, work) = (Arc::clone(coordinator), Work::of(spec, args.to_owned()));
            return Some(Box::pin(hand_on(node, coordinator, who, work, near)));
        }
    }
    let me = coordinator.cluster().me();
    let positions = spec.key_positions(args.len());
    let keys = positions.into_iter().filter_map(|at| args.get(at));
    let placed = keys.map(|key| (key_hash(key), coordinator.coordinator_of(key)));
    let place = under_way.begin(
        placed.filter(|(_, node)| *node != me),
        spec.has(Flags::WRITE),
    );
    let who = Who { place, ..who };
    Some(begin(node, who, spec, args.to_owned()))
}

/// Whether a command is more than this node's own business.
pub(super) fn needs_cluster(spec: &Spec) -> bool {
    let on_keys = spec.has(Flags::READ) || spec.has(Flags::WRITE);
    on_keys && (spec.keys.0 != 0 || everywhere::is(spec)) && spec.parent != "ringwood"
        || spec.name == "swapdb"
        || everywhere::is(spec)
}

pub(super) fn at_once(who: Who, error: Error) -> Later {
    Box::pin(async move { error_reply(&who, &error) })
}

/// Runs a command wherever it belongs.
pub(super) fn begin(node: Arc<Node>, who: Who, spec: &'static Spec, words: OwnedArgs) -> Later {
    if spec.name == "swapdb" {
        return at_once(
            who,
            Error::text("ERR SWAPDB is not allowed in cluster mode"),
        );
    }
    if everywhere::is(spec) {
        return everywhere::begin(node, who, spec, words);
    }
    let Some(coordinator) = node.coordinator.clone() else {
        return at_once(who, Error::ClusterDown);
    };
    let args = words.as_args();
    if spec.keys.0 == spec.keys.1 {
        return single(node, coordinator, who, Work::of(spec, words));
    }
    let mut places: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for position in spec.key_positions(args.len()) {
        let Some(key) = args.get(position) else {
            return at_once(who, Error::Arity(spec.full_name().into()));
        };
        places
            .entry(coordinator.coordinator_of(key))
            .or_default()
            .push(position);
    }
    if places.len() > 1 && spec.name == "msetnx" {
        return at_once(who, Error::CrossSlot);
    }
    if places.len() > 1 && SPLIT.contains(&spec.name) && well_formed(spec, args) {
        return Box::pin(split(node, coordinator, who, spec, words, places));
    }
    single(node, coordinator, who, Work::of(spec, words))
}

/// Whether a command must not begin before the others have ended: it runs at one coordinator though
/// others coordinate some of its keys, or it writes what this node is reading by itself.
pub(super) fn waits_for_others(
    node: &Node,
    session: &Session,
    spec: &Spec,
    args: Args<'_>,
) -> bool {
    let Some(coordinator) = &node.coordinator else {
        return false;
    };
    let positions = spec.key_positions(args.len());
    let mut keys = positions.iter().filter_map(|at| args.get(*at));
    let read_here = &session.under_way.read_here;
    if spec.has(Flags::WRITE)
        && !read_here.is_empty()
        && keys.clone().any(|key| read_here.contains(&key_hash(key)))
    {
        return true;
    }
    // Where a key's commands went, the next one goes too, or it waits for them.
    let elsewhere = &session.under_way.elsewhere;
    let moved = |key: &[u8]| {
        let before = elsewhere.get(&key_hash(key));
        before.is_some_and(|before| before.node != coordinator.coordinator_of(key))
    };
    if !elsewhere.is_empty() && keys.clone().any(moved) {
        return true;
    }
    if spec.keys.1 == 1 || SPLIT.contains(&spec.name) {
        return false;
    }
    let first = keys.next().map(|key| coordinator.coordinator_of(key));
    keys.any(|key| Some(coordinator.coordinator_of(key)) != first)
}

fn well_formed(spec: &Spec, args: Args<'_>) -> bool {
    spec.name != "mset" || args.len() % 2 == 1
}

/// Runs a transaction's commands in one go, where all its keys are in one slot and nothing but keys is
/// concerned.
pub(super) fn as_one(
    node: &Arc<Node>,
    who: &Who,
    steps: &[(&'static Spec, OwnedArgs)],
    watches: Vec<(Bytes, Bytes)>,
) -> Option<Later> {
    let coordinator = node.coordinator.clone()?;
    let on_keys = |(spec, _): &(&Spec, OwnedArgs)| {
        spec.keys.0 != 0 && needs_cluster(spec) && spec.name != "msetnx"
    };
    if steps.is_empty() || !steps.iter().all(on_keys) || !coordinator.cluster().has_joined() {
        return None;
    }
    let work = Work {
        steps: steps.iter().cloned().collect(),
        transaction: Some(watches),
    };
    let watched = work.transaction.iter().flatten().map(|(key, _)| &key[..]);
    let mut slots = work.keys().into_iter().chain(watched).map(slot_of);
    let first = slots.next();
    let together = slots.all(|slot| Some(slot) == first);
    drop(slots);
    together.then(|| single(Arc::clone(node), coordinator, who.clone(), work))
}

/// Runs work at the coordinator of its first key.
fn single(node: Arc<Node>, coordinator: Arc<Coordinator>, who: Who, work: Work) -> Later {
    match coordinator_elsewhere(&coordinator, &who, &work) {
        None => Box::pin(coordinate(node, coordinator, who, work)),
        Some(to) => Box::pin(hand_on(node, coordinator, who, work, to)),
    }
}

fn coordinator_elsewhere(coordinator: &Coordinator, who: &Who, work: &Work) -> Option<NodeId> {
    let (spec, words) = &work.steps[0];
    let args = words.as_args();
    let first = spec.key_positions(args.len())[0];
    let was_forwarded = who.hops < MAX_HOPS;
    let reads = work.transaction.is_none() && spec.reads_one_key();
    if was_forwarded && reads && coordinator.could_read(args.at(first), who.quorum) {
        return None;
    }
    let to = coordinator.coordinator_of(args.at(first));
    (to != coordinator.cluster().me() && who.hops > 0).then_some(to)
}

/// Has another node do the work, or this one when it is the one in the end.
async fn hand_on(
    node: Arc<Node>,
    coordinator: Arc<Coordinator>,
    mut who: Who,
    work: Work,
    mut to: NodeId,
) -> BytesMut {
    let begun = node.replica.time().max(Timestamp::from_ms(clock::now_ms()));
    let give_up = Instant::now() + who.patience(coordinator.within() * 2);
    let mut asked = 0;
    while asked <= MAX_HOPS {
        // The other node waits for its own quorum first.
        let patience = who.patience(coordinator.within() * 2);
        if patience.is_zero() {
            let error = if who.since.is_some() {
                QuorumError::CoordinatorLost
            } else {
                QuorumError::TooLate
            };
            return quorum_reply(&node, &who, error);
        }
        let command = Command {
            events: coordinator.cluster().events(),
            hops: who.hops - 1,
            db: who.db,
            protocol: if who.protocol == Protocol::Resp3 {
                3
            } else {
                2
            },
            r: who.quorum.r.unwrap_or(0),
            w: who.quorum.w.unwrap_or(0),
            patience_ms: patience.as_millis() as u64,
            steps: work
                .steps
                .iter()
                .map(|(_, words)| words.to_wire())
                .collect(),
            transaction: work.transaction.clone(),
            own: work.own_writes(&who),
            since: who.since,
        };
        // Not behind a later command of the connection on the same keys, which may have run already.
        let place = who.place.clone();
        let again = move || place.is_last();
        let repeats = match () {
            () if !work.writes() => Repeats::Freely,
            () if work.may_repeat() => Repeats::AsOfThen,
            () => Repeats::Never,
        };
        let outcome = if work.writes() || who.place.follows_a_write {
            coordinator.forward(to, command, repeats, again).await
        } else {
            read_somewhere(&coordinator, to, command, again, (&who, &work)).await
        };
        match outcome {
            Ok(Forwarded::Reply { reply, wrote }) => {
                for write in wrote {
                    who.own.note(write);
                }
                if who.since.is_some() && reply.first() == Some(&b'-') {
                    return quorum_reply(&node, &who, QuorumError::CoordinatorLost);
                }
                return BytesMut::from(reply);
            }
            Ok(Forwarded::Elsewhere) => {}
            // It may have run, and must not act on what came later.
            Ok(Forwarded::Perhaps) => who.since = who.since.or(Some(begun)),
            // Nothing was done: it is asked again while somebody waits for it.
            Err(QuorumError::Busy) if who.place.is_last() && !patience.is_zero() => {
                tokio::time::sleep(ASK_AGAIN).await;
                if Instant::now() < give_up {
                    continue;
                }
                return quorum_reply(&node, &who, QuorumError::Busy);
            }
            Err(_) if who.since.is_some() => {
                return quorum_reply(&node, &who, QuorumError::CoordinatorLost);
            }
            Err(error) => return quorum_reply(&node, &who, error),
        }
        asked += 1;
        match coordinator_elsewhere(&coordinator, &who, &work) {
            Some(next) => to = next,
            None => break,
        }
    }
    let since = who.since;
    let told = (Arc::clone(&node), who.clone());
    let here: Later = Box::pin(coordinate(node, coordinator, who, work));
    let reply = here.await;
    // Whatever became of it here: its first run may stand.
    if since.is_some() && reply.first() == Some(&b'-') {
        return quorum_reply(&told.0, &told.1, QuorumError::CoordinatorLost);
    }
    reply
}

/// Has a read run at its coordinator and, when that one takes long, at another node that may read all its
/// keys, too: the first good reply counts. Behind a later command of the connection nobody else is asked, nor
/// believed.
async fn read_somewhere(
    coordinator: &Coordinator,
    to: NodeId,
    command: Command,
    again: impl Fn() -> bool + Clone + Send,
    (who, work): (&Who, &Work),
) -> Result<Forwarded, QuorumError> {
    let patience = Duration::from_millis(command.patience_ms);
    let soon = (coordinator.within() / 5).min(patience / 2);
    let elsewhere = Command {
        hops: 0,
        patience_ms: patience.saturating_sub(soon).as_millis() as u64,
        ..command.clone()
    };
    let mut first = pin!(coordinator.forward(to, command, Repeats::Freely, again.clone()));
    if let Ok(outcome) = tokio::time::timeout(soon, &mut first).await {
        return outcome;
    }
    let keys = work.keys();
    let may_read = |key: &&[u8]| coordinator.anybody_may_read(key, who.quorum);
    let other = keys
        .first()
        .and_then(|key| coordinator.other_reader(key, to));
    let Some(other) = other.filter(|_| again() && keys.iter().all(may_read)) else {
        return first.await;
    };
    let second = pin!(coordinator.forward(other, elsewhere, Repeats::Freely, again.clone()));
    let is_good = |outcome: &Result<Forwarded, QuorumError>| match outcome {
        Ok(Forwarded::Reply { reply, .. }) => reply.first() != Some(&b'-'),
        _ => false,
    };
    match select(first, second).await {
        Either::Left((outcome, second)) => {
            if is_good(&outcome) || !again() {
                return outcome;
            }
            let instead = second.await;
            if is_good(&instead) && again() {
                instead
            } else {
                outcome
            }
        }
        Either::Right((outcome, _)) if is_good(&outcome) && again() => outcome,
        Either::Right((_, first)) => first.await,
    }
}

pub(super) fn error_reply(who: &Who, error: &Error) -> BytesMut {
    let mut reply = Reply::default();
    reply.set_protocol(who.protocol);
    reply.error(&error.to_string());
    std::mem::take(reply.buffer())
}

fn quorum_reply(node: &Node, who: &Who, error: QuorumError) -> BytesMut {
    let error = Error::from(error);
    node.stats.count_error(&error);
    error_reply(who, &error)
}

/// Runs a command that another node has sent, and says what it has written.
pub(super) fn forwarded(
    node: &Arc<Node>,
    mut command: Command,
    age: Duration,
) -> (Later, Arc<Own>) {
    let protocol = if command.protocol == 3 {
        Protocol::Resp3
    } else {
        Protocol::Resp2
    };
    let mine = node.coordinator.as_ref().map(|c| c.cluster().events());
    let knows_more = mine.is_some_and(|mine| command.events > mine);
    let own = Arc::new(Own::default());
    for write in std::mem::take(&mut command.own) {
        own.note(write);
    }
    let who = Who {
        db: command.db.min(crate::replica::DATABASES - 1),
        protocol,
        quorum: Asked {
            r: Some(command.r).filter(|r| *r > 0),
            w: Some(command.w).filter(|w| *w > 0),
        },
        // Who knows more joins and leaves decides where the key lives.
        hops: if knows_more {
            0
        } else {
            command.hops.min(MAX_HOPS)
        },
        own: Arc::clone(&own),
        place: Place::default(),
        since: command.since,
        until: Some(
            Instant::now() + Duration::from_millis(command.patience_ms).saturating_sub(age),
        ),
    };
    let Command {
        steps, transaction, ..
    } = command;
    (run_forwarded(node, who, steps, transaction), own)
}

fn run_forwarded(
    node: &Arc<Node>,
    who: Who,
    steps: SmallVec<[Bytes; 1]>,
    transaction: Option<Vec<(Bytes, Bytes)>>,
) -> Later {
    let Some(coordinator) = node.coordinator.clone() else {
        return at_once(who, Error::ClusterDown);
    };
    let step = |raw: Bytes| {
        let words = OwnedArgs::from_wire(raw).ok()?;
        let args = words.as_args();
        let spec = table::find(args)?;
        let fits = spec.keys.0 != 0 && super::arity_fits(spec, args);
        fits.then_some((spec, words))
    };
    let known: Option<SmallVec<_>> = steps.into_iter().map(step).collect();
    match known.filter(|steps| steps.len() == 1 || !steps.is_empty() && transaction.is_some()) {
        Some(steps) => {
            let work = Work { steps, transaction };
            single(Arc::clone(node), coordinator, who, work)
        }
        None => at_once(who, Error::Syntax),
    }
}
