//! Commands in a cluster: each runs at the coordinator of its keys.
//!
//! This file decides where a command runs and brings its reply back. What runs there is the same
//! handler that a lone node runs, between the two halves that `coordinator` adds: a read quorum
//! before it, the replication of what it wrote after it.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use smallvec::{SmallVec, smallvec};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;

use super::args::{Args, OwnedArgs};
use super::error::Error;
use super::own::Own;
use super::session::Session;
use super::table::{self, Flags, Spec};
use super::{After, Ctx, Node, everywhere};
use crate::coordinator::{Asked, Coordinator, Forwarded, QuorumError};
use crate::logic::causal::Dot;
use crate::logic::placement::{NodeId, key_hash};
use crate::net::resp::{Protocol, Reply};
use crate::peer::message::{Command, Wrote};
use crate::replica::{Key, Written};

/// A command's reply, when it is there.
pub type Later = Pin<Box<dyn Future<Output = BytesMut> + Send>>;

/// How often a command is handed on before somebody has to run it.
pub(super) const MAX_HOPS: u8 = 3;
const LANES: usize = 1_024;
/// Commands that are taken apart by coordinator and put together again.
const SPLIT: &[&str] = &["del", "exists", "mget", "mset", "touch", "unlink"];

/// Of the writes that depend on nothing, those whose reply does.
const REPLIES_WHAT_WAS: &[&str] = &["del", "unlink"];

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
        }
    }
}

impl Who {
    /// How long he still waits, at most so long.
    fn patience(&self, most: Duration) -> Duration {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.until.map_or(most, |until| left(until).min(most))
    }
}

/// The keys of a connection's commands that have begun, as far as these do not take turns in the
/// lanes of one node: an owner reads by itself what another coordinates.
#[derive(Debug, Default)]
pub struct UnderWay {
    read_here: HashSet<u64>,
    written_elsewhere: HashSet<u64>,
}

impl UnderWay {
    /// All replies are there.
    pub fn clear(&mut self) {
        self.read_here.clear();
        self.written_elsewhere.clear();
    }
}

/// Commands on one key take turns at its coordinator: from the read quorum before the command to its
/// local step. Those that only read share a turn. Fair, so that a connection's commands keep their
/// order.
pub struct Lanes {
    lanes: Box<[RwLock<()>]>,
    /// Held while a command queues in several lanes, so that all such commands have one order.
    queueing: parking_lot::Mutex<()>,
}

/// A command's turn in one lane.
enum Turn<'a> {
    Shared(#[expect(dead_code)] RwLockReadGuard<'a, ()>),
    Alone(#[expect(dead_code)] RwLockWriteGuard<'a, ()>),
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            lanes: (0..LANES).map(|_| RwLock::new(())).collect(),
            queueing: parking_lot::Mutex::default(),
        }
    }
}

impl Lanes {
    /// Queues in the lanes of all keys at the first poll, and waits for all of them. Whoever queues
    /// later comes later, on every one of these keys.
    async fn enter(&self, keys: &[&[u8]], alone: bool) -> SmallVec<[Turn<'_>; 1]> {
        let lane = |key: &&[u8]| &self.lanes[key_hash(key) as usize % LANES];
        if let [key] = keys
            && let Some(turn) = Turn::at_once(lane(key), alone)
        {
            return smallvec![turn];
        }
        let mut wanted: Vec<&RwLock<()>> = keys.iter().map(lane).collect();
        wanted.sort_unstable_by_key(|lane| std::ptr::from_ref(*lane));
        wanted.dedup_by_key(|lane| std::ptr::from_ref(*lane));
        let mut queues: Vec<_> = wanted
            .into_iter()
            .map(|lane| Box::pin(Turn::wait(lane, alone)))
            .collect();
        let mut turns: Vec<Option<Turn<'_>>> = queues.iter().map(|_| None).collect();
        let mut queued = false;
        // The scheduler's budget must not make a lane's turn look taken.
        let all = tokio::task::unconstrained(std::future::poll_fn(|cx| {
            let _atomically = (!queued).then(|| self.queueing.lock());
            queued = true;
            for (queue, turn) in queues
                .iter_mut()
                .zip(&mut turns)
                .filter(|(_, turn)| turn.is_none())
            {
                if let Poll::Ready(taken) = queue.as_mut().poll(cx) {
                    *turn = Some(taken);
                }
            }
            if turns.iter().all(Option::is_some) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        all.await;
        turns.into_iter().flatten().collect()
    }
}

impl<'a> Turn<'a> {
    /// A turn for which nobody has to wait.
    fn at_once(lane: &'a RwLock<()>, alone: bool) -> Option<Self> {
        if alone {
            lane.try_write().ok().map(Turn::Alone)
        } else {
            lane.try_read().ok().map(Turn::Shared)
        }
    }

    async fn wait(lane: &'a RwLock<()>, alone: bool) -> Self {
        if alone {
            Turn::Alone(lane.write().await)
        } else {
            Turn::Shared(lane.read().await)
        }
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
    if spec.has(Flags::WRITE) {
        for position in spec.key_positions(args.len()) {
            let elsewhere = |key: &&[u8]| !coordinator.coordinates(key);
            if let Some(key) = args.get(position).filter(elsewhere) {
                under_way.written_elsewhere.insert(key_hash(key));
            }
        }
    } else if spec.reads_one_key() {
        let (key, hash) = (
            args.at(spec.keys.0 as usize),
            key_hash(args.at(spec.keys.0 as usize)),
        );
        if !under_way.written_elsewhere.contains(&hash)
            && !coordinator.coordinates(key)
            && coordinator.may_read(key, who.quorum)
        {
            under_way.read_here.insert(hash);
            let (coordinator, words) = (Arc::clone(coordinator), args.to_owned());
            return Some(Box::pin(coordinate(node, coordinator, who, spec, words)));
        }
    }
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
        return single(node, coordinator, who, spec, words);
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
    single(node, coordinator, who, spec, words)
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
    if spec.keys.1 == 1 || SPLIT.contains(&spec.name) {
        return false;
    }
    let first = keys.next().map(|key| coordinator.coordinator_of(key));
    keys.any(|key| Some(coordinator.coordinator_of(key)) != first)
}

fn well_formed(spec: &Spec, args: Args<'_>) -> bool {
    spec.name != "mset" || args.len() % 2 == 1
}

/// Runs a command at the coordinator of its first key.
fn single(
    node: Arc<Node>,
    coordinator: Arc<Coordinator>,
    who: Who,
    spec: &'static Spec,
    words: OwnedArgs,
) -> Later {
    match coordinator_elsewhere(&coordinator, &who, spec, words.as_args()) {
        None => Box::pin(coordinate(node, coordinator, who, spec, words)),
        Some(to) => Box::pin(hand_on(node, coordinator, who, spec, words, to)),
    }
}

fn coordinator_elsewhere(
    coordinator: &Coordinator,
    who: &Who,
    spec: &Spec,
    args: Args<'_>,
) -> Option<NodeId> {
    let first = spec.key_positions(args.len())[0];
    let to = coordinator.coordinator_of(args.at(first));
    (to != coordinator.cluster().me() && who.hops > 0).then_some(to)
}

/// Has another node run a command, or this one when it is the one in the end.
async fn hand_on(
    node: Arc<Node>,
    coordinator: Arc<Coordinator>,
    who: Who,
    spec: &'static Spec,
    words: OwnedArgs,
    mut to: NodeId,
) -> BytesMut {
    for _ in 0..=MAX_HOPS {
        // The other node waits for its own quorum first.
        let patience = who.patience(coordinator.within() * 2);
        if patience.is_zero() {
            return quorum_reply(&node, &who, QuorumError::TooLate);
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
            words: words.to_wire(),
            own: own_writes(&who, spec, words.as_args()),
        };
        let again = may_repeat(spec, words.as_args());
        match coordinator.forward(to, command, again).await {
            Ok(Forwarded::Reply { reply, wrote }) => {
                for write in wrote {
                    who.own.note(write);
                }
                return BytesMut::from(reply);
            }
            Ok(Forwarded::Elsewhere) => {}
            Err(error) => return quorum_reply(&node, &who, error),
        }
        match coordinator_elsewhere(&coordinator, &who, spec, words.as_args()) {
            Some(next) => to = next,
            None => break,
        }
    }
    let here: Later = Box::pin(coordinate(node, coordinator, who, spec, words));
    here.await
}

/// What a command must not miss: its connection's own writes of the same keys.
fn own_writes(who: &Who, spec: &Spec, args: Args<'_>) -> Vec<Wrote> {
    let mut own = Vec::new();
    for key in key_words(spec, args) {
        let writes = who.own.of(who.db, key);
        own.extend(writes.into_iter().map(|(dot, at)| Wrote {
            db: who.db,
            name: Bytes::copy_from_slice(key),
            dot,
            at,
        }));
    }
    own
}

/// Whether a command that may have run can run again.
fn may_repeat(spec: &Spec, args: Args<'_>) -> bool {
    !spec.has(Flags::WRITE) || says_what_shall_be(spec, args)
}

/// Whether a write depends on nothing that was there before.
fn says_what_shall_be(spec: &Spec, args: Args<'_>) -> bool {
    const ALWAYS: &[&str] = &["setex", "psetex", "mset", "del", "unlink"];
    let depends = |nth: usize| {
        ["NX", "XX", "GET", "KEEPTTL"]
            .iter()
            .any(|word| args.is(nth, word))
    };
    ALWAYS.contains(&spec.name) || spec.name == "set" && !(3..args.len()).any(depends)
}

/// Runs a command here: this node coordinates its keys.
async fn coordinate(
    node: Arc<Node>,
    coordinator: Arc<Coordinator>,
    who: Who,
    spec: &'static Spec,
    words: OwnedArgs,
) -> BytesMut {
    let args = words.as_args();
    let keys = key_words(spec, args);
    let quorum_of = |key: &[u8]| coordinator.quorum_of(key, who.quorum);
    let writes = spec.has(Flags::WRITE);
    let turns = node.lanes.enter(&keys, writes).await;
    if writes {
        for key in &keys {
            if let Err(error) = coordinator.check_reachable(key, quorum_of(key).w) {
                return quorum_reply(&node, &who, error);
            }
        }
    }
    // A write that need not look finds out afterwards whether there was something to see; but the
    // client's own writes it has to see before.
    let mut blind = says_what_shall_be(spec, args) && !REPLIES_WHAT_WAS.contains(&spec.name);
    let other = other_database(spec, args).zip(keys.last());
    let looked_at = keys.iter().map(|key| (who.db, key)).chain(other);
    let mut begun: SmallVec<[_; 2]> = SmallVec::new();
    for (db, name) in looked_at {
        let writes = who.own.of(db, name);
        if let Some(newest) = writes.iter().map(|(_, at)| *at).max() {
            node.replica.observe(newest);
        }
        let own: SmallVec<[Dot; 2]> = writes.into_iter().map(|(dot, _)| dot).collect();
        blind &= own.is_empty() || node.replica.has_seen(Key { db, name }, &own);
        begun.push((db, *name, own));
    }
    if !blind {
        let begun: SmallVec<[_; 2]> = begun
            .iter()
            .map(|(db, key, own)| coordinator.refresh(*db, key, quorum_of(key).r, own))
            .collect();
        for refreshed in begun {
            match refreshed.await {
                // Better a sibling of the client's own last write than no write.
                Err(QuorumError::Behind) if writes => {}
                Err(error) => return quorum_reply(&node, &who, error),
                Ok(()) => {}
            }
        }
    }
    if who.patience(coordinator.within()).is_zero() {
        return quorum_reply(&node, &who, QuorumError::TooLate);
    }
    let (reply, mut written) = run_here(&node, &who, spec, args);
    let deltas = written.iter().filter_map(|w| w.delta.as_deref());
    let copies: SmallVec<[_; 2]> = deltas
        .map(|delta| {
            let w = quorum_of(&delta.name).w;
            // Of a key that another coordinates he has to know at once.
            let hoped = if coordinator.coordinates(&delta.name) {
                w
            } else {
                w.max(coordinator.answering_owners(&delta.name))
            };
            (w, coordinator.replicate(delta, hoped, blind))
        })
        .collect();
    drop(turns);
    for delta in written.iter().filter_map(|w| w.delta.as_deref()) {
        let actor = node.replica.actor();
        let seq = delta.object.context().last(actor);
        who.own.note(Wrote {
            db: delta.db,
            name: delta.name.clone(),
            dot: Dot { actor, seq },
            at: node.replica.time(),
        });
    }
    if written.is_empty() {
        return reply;
    }
    if let Err(error) = commit(&node, &written).await {
        return error_reply(&who, &error);
    }
    written.clear();
    for (w, copy) in copies {
        match copy.await {
            Ok(again) => written.extend(again),
            Err(QuorumError::WriteShort { stored, .. }) if stored >= usize::from(w) => {}
            Err(error) => return quorum_reply(&node, &who, error),
        }
    }
    match commit(&node, &written).await {
        Ok(()) => reply,
        Err(error) => error_reply(&who, &error),
    }
}

/// The database in which MOVE and COPY look for their target.
fn other_database(spec: &Spec, args: Args<'_>) -> Option<u8> {
    match spec.name {
        "move" => args.database(2).ok(),
        "copy" => (3..args.len())
            .find(|nth| args.is(*nth, "DB"))
            .and_then(|nth| args.database(nth + 1).ok()),
        _ => None,
    }
}

fn key_words<'a>(spec: &Spec, args: Args<'a>) -> SmallVec<[&'a [u8]; 4]> {
    let positions = spec.key_positions(args.len());
    positions
        .into_iter()
        .map(|position| args.at(position))
        .collect()
}

/// Waits until this node's part of a write is committed.
pub(super) async fn commit(node: &Node, written: &[Written]) -> Result<(), Error> {
    if written.is_empty() {
        return Ok(());
    }
    let store = node.replica.store();
    // Others with writes for the same batch queue theirs first.
    tokio::task::yield_now().await;
    for write in written {
        store.kick(write.shard);
    }
    for write in written {
        let committed = store
            .progress(write.shard)
            .wait_committed(write.ticket)
            .await;
        committed.map_err(|_| Error::MisConf)?;
    }
    Ok(())
}

/// Runs a handler against this node's copies.
pub(super) fn run_here(
    node: &Arc<Node>,
    who: &Who,
    spec: &'static Spec,
    args: Args<'_>,
) -> (BytesMut, Vec<Written>) {
    let mut session = Session::new(Arc::clone(&node.inner_client), true);
    session.db = who.db;
    let mut reply = Reply::default();
    reply.set_protocol(who.protocol);
    let mut written = Vec::new();
    let mut ctx = Ctx {
        node,
        session: &mut session,
        reply: &mut reply,
        written: &mut written,
        after: After::Nothing,
    };
    super::run_gated(&mut ctx, spec, args);
    (std::mem::take(reply.buffer()), written)
}

/// Runs each coordinator's part and puts the replies together.
async fn split(
    node: Arc<Node>,
    coordinator: Arc<Coordinator>,
    who: Who,
    spec: &'static Spec,
    words: OwnedArgs,
    places: BTreeMap<NodeId, Vec<usize>>,
) -> BytesMut {
    let args = words.as_args();
    let parts: Vec<Vec<usize>> = places.into_values().collect();
    let run = |positions: &Vec<usize>| {
        let mut part = OwnedArgs::default();
        part.push(args.at(0));
        for &position in positions {
            part.push(args.at(position));
            if spec.name == "mset" {
                part.push(args.at(position + 1));
            }
        }
        let (node, coordinator) = (Arc::clone(&node), Arc::clone(&coordinator));
        single(node, coordinator, who.clone(), spec, part)
    };
    let replies = join_all(parts.iter().map(run)).await;
    let failed = |reply: &&BytesMut| reply.first() == Some(&b'-');
    if let Some(error) = replies.iter().find(failed) {
        let none_done = replies.iter().filter(failed).count() == replies.len();
        if none_done || !spec.has(Flags::WRITE) {
            return error.clone();
        }
        return quorum_reply(&node, &who, QuorumError::Partly);
    }
    let mut out = Reply::default();
    out.set_protocol(who.protocol);
    match spec.name {
        "mset" => out.ok(),
        "mget" => {
            let mut values: BTreeMap<usize, &[u8]> = BTreeMap::new();
            for (positions, reply) in parts.iter().zip(&replies) {
                let elements = elements(reply);
                values.extend(positions.iter().copied().zip(elements));
            }
            out.array(values.len());
            for value in values.values() {
                out.buffer().extend_from_slice(value);
            }
        }
        _ => out.integer(replies.iter().map(|reply| integer(reply)).sum()),
    }
    std::mem::take(out.buffer())
}

/// The number in `:n\r\n`.
fn integer(reply: &[u8]) -> i64 {
    let text = reply
        .strip_prefix(b":")
        .and_then(|rest| rest.strip_suffix(b"\r\n"));
    let text = text.and_then(|digits| std::str::from_utf8(digits).ok());
    text.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The elements of an array of bulks and nils, each as it stands in the reply; fewer when it is cut.
fn elements(reply: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    let mut rest = after_line(reply).1;
    while !rest.is_empty() {
        let (line, behind) = after_line(rest);
        let len = line
            .strip_prefix(b"$")
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let len = len.and_then(|digits| digits.trim_end().parse::<usize>().ok());
        let body = len.map_or(0, |len| len.saturating_add(2).min(behind.len()));
        let (element, next) = rest.split_at(rest.len() - behind.len() + body);
        out.push(element);
        rest = next;
    }
    out
}

/// The first line, and what comes after it.
fn after_line(reply: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', reply).map_or(reply.len(), |at| at + 1);
    reply.split_at(end)
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
pub(super) fn forwarded(node: &Arc<Node>, command: Command, age: Duration) -> (Later, Arc<Own>) {
    let protocol = if command.protocol == 3 {
        Protocol::Resp3
    } else {
        Protocol::Resp2
    };
    let own = Arc::new(Own::default());
    for write in command.own {
        own.note(write);
    }
    let who = Who {
        db: command.db.min(crate::replica::DATABASES - 1),
        protocol,
        quorum: Asked {
            r: Some(command.r).filter(|r| *r > 0),
            w: Some(command.w).filter(|w| *w > 0),
        },
        hops: command.hops.min(MAX_HOPS),
        own: Arc::clone(&own),
        until: Some(
            Instant::now() + Duration::from_millis(command.patience_ms).saturating_sub(age),
        ),
    };
    (run_forwarded(node, who, command.words), own)
}

fn run_forwarded(node: &Arc<Node>, who: Who, words: Bytes) -> Later {
    let Some(coordinator) = node.coordinator.clone() else {
        return at_once(who, Error::ClusterDown);
    };
    let Ok(words) = OwnedArgs::from_wire(words) else {
        return at_once(who, Error::Syntax);
    };
    let spec = table::find(words.as_args());
    match spec.filter(|spec| spec.keys.0 != 0 && !words.as_args().is_empty()) {
        Some(spec) if super::arity_fits(spec, words.as_args()) => {
            single(Arc::clone(node), coordinator, who, spec, words)
        }
        _ => at_once(who, Error::Syntax),
    }
}
