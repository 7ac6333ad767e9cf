//! Keys that other nodes hold too: taking in their objects, keeping hints for them, common floors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::space::{DATABASES, encode_floor};
use super::start::FLOOR_PREFIX;
use super::{Key, Located, Replica, ReplicaError, Written};
use crate::clock;
use crate::logic::causal::{ActorId, Context, Dot, Object, Observed, Timestamp};
use crate::logic::codec::DecodeError;
use crate::logic::placement::{NodeId, key_hash};
use crate::logic::row;
use crate::storage::keys::{self, Position};
use crate::storage::{Op, Table};

/// Stands for all partitions in the row of a floor.
pub(super) const ALL_PARTITIONS: u16 = u16::MAX;

/// What may be kept for other nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct HintLimits {
    /// Bytes of keys and objects, all nodes together.
    pub bytes: u64,
    /// How long a hint is kept, in milliseconds.
    pub age_ms: u64,
}

/// How an object is taken in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Join {
    /// The owner that was not there, for whom a hint is kept.
    pub hint_for: Option<NodeId>,
    /// Not where it would stand beside something that its writer has not seen.
    pub only_over_seen: bool,
}

/// A note that a key belongs to another node, which was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The key's row.
    pub row_key: Vec<u8>,
    /// The database.
    pub db: u8,
    /// The key.
    pub name: Vec<u8>,
    shard: usize,
    bytes: u64,
    /// How many hints for anybody had ever been added before the store was read.
    added: u64,
}

/// How many hints there are for whom.
#[derive(Debug)]
pub(super) struct Hints {
    limits: HintLimits,
    bytes: AtomicU64,
    refused: AtomicU64,
    added: AtomicU64,
    by_node: DashMap<NodeId, Kept>,
}

/// What is kept for one node.
#[derive(Debug, Default)]
struct Kept {
    count: AtomicU64,
    /// How many were ever added: tells whether one came while all were handed over.
    added: AtomicU64,
}

/// A hint that is about to be written.
struct HintRow {
    op: Op,
    bytes: u64,
    /// Whether none stood there.
    is_new: bool,
}

/// How far a pass over the hints for a node has come. Before that lie the remains of what was handed
/// over, which the engine steps over slowly.
#[derive(Clone, Debug, Default)]
pub struct HintPass {
    shard: usize,
    next: Vec<u8>,
    /// What had been added when the pass began.
    added: u64,
    /// What had been added for anybody when the store was settled last.
    in_all: u64,
}

impl Hints {
    pub(super) fn new(limits: HintLimits) -> Self {
        Self {
            limits,
            bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            added: AtomicU64::new(0),
            by_node: DashMap::new(),
        }
    }

    fn added_in_all(&self) -> u64 {
        self.added.load(Ordering::Acquire)
    }

    fn add(&self, node: NodeId, row: &HintRow) {
        self.added.fetch_add(1, Ordering::AcqRel);
        let kept = self.by_node.entry(node).or_default();
        kept.added.fetch_add(1, Ordering::AcqRel);
        if row.is_new || kept.count.load(Ordering::Relaxed) == 0 {
            self.bytes.fetch_add(row.bytes, Ordering::Relaxed);
            kept.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn found(&self, node: NodeId, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let kept = self.by_node.entry(node).or_default();
        kept.count.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self, node: NodeId, bytes: u64) {
        let less = |by: u64| move |now: u64| Some(now.saturating_sub(by));
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less(bytes));
        if let Some(kept) = self.by_node.get(&node) {
            let _ = kept
                .count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less(1));
        }
    }

    /// A hint stays: the pass that met it must not end in a clean slate.
    fn keep(&self, node: NodeId) {
        if let Some(kept) = self.by_node.get(&node) {
            kept.added.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn added(&self, node: NodeId) -> u64 {
        let kept = self.by_node.get(&node);
        kept.map_or(0, |kept| kept.added.load(Ordering::Acquire))
    }

    /// A whole pass found no more, and none has come since: a key that was written twice before its
    /// first hint was stored had been counted twice.
    fn clear(&self, node: NodeId, added: u64) {
        let unchanged = |_: &NodeId, kept: &Kept| kept.added.load(Ordering::Acquire) == added;
        if self.by_node.remove_if(&node, unchanged).is_some() && self.by_node.is_empty() {
            self.bytes.store(0, Ordering::Relaxed);
        }
    }
}

/// A digest of an object: equal objects have equal digests.
pub fn digest(object: &Object) -> u64 {
    if object.is_unknown() {
        0
    } else {
        key_hash(&row::encode(object))
    }
}

impl Replica {
    /// The digest of this node's copy of a key, without what need not be remembered of it.
    pub fn digest(&self, key: Key<'_>, object: &Object) -> u64 {
        if object.context().actors() <= 1 {
            return digest(object);
        }
        let mut object = object.clone();
        let at = Position::of(key.name, self.partitions);
        self.fold(&key, at.partition, &mut object);
        digest(&object)
    }

    /// Joins another node's object into this one's copy of a key. Where there was nothing to write,
    /// the write that made it so is what the caller waits for.
    ///
    /// # Errors
    /// [`ReplicaError::Unseen`] where siblings are not wanted and there would be some.
    pub fn join(
        &self,
        key: Key<'_>,
        mut object: Object,
        how: Join,
    ) -> Result<Written, ReplicaError> {
        if object.context().last(self.actor) > self.last_seq() {
            // Nobody can have seen what this run has not written yet.
            return Err(DecodeError::Malformed.into());
        }
        let located = self.locate(key, Position::of(key.name, self.partitions));
        self.note_actors(object.context());
        let newest = object.all_versions().map(|v| v.at).max();
        self.observe(newest.unwrap_or_default());
        let _order = self.lock(located.at);
        let current = match self.load(&located, false) {
            // What cannot be read gives way to what another node has.
            Err(ReplicaError::Row(_)) => Arc::clone(&self.empty),
            loaded => loaded?,
        };
        self.drop_dead(key, located.at.partition, &mut object, &current);
        let is_new = object
            .all_versions()
            .any(|version| !current.context().contains(version.dot));
        let mut joined = current.joined(object);
        self.spaces
            .of(located.at.partition, key.db)
            .sink(&mut joined);
        self.fold(&key, located.at.partition, &mut joined);
        self.guard(&key, &current, &mut joined);
        if how.only_over_seen && is_new && joined.all_versions().count() > 1 {
            // Siblings, and increments beside a base that has not seen them.
            return Err(ReplicaError::Unseen(current));
        }
        let hint = match how.hint_for {
            Some(node) => {
                let limit = self.hints.limits.bytes;
                let row = self.hint_row(limit, &located, node, &joined)?;
                Some((node, row))
            }
            None => None,
        };
        let op = hint.as_ref().map(|(_, row)| row.op.clone());
        let written = if joined == *current {
            let ticket = match op {
                Some(op) => self.store.enqueue(located.shard, vec![op])?,
                None => 0,
            };
            let last = self.last_tickets[located.shard].fetch_max(ticket, Ordering::AcqRel);
            Written {
                shard: located.shard,
                ticket: ticket.max(last),
                delta: None,
            }
        } else {
            self.store_object(&located, &current, joined, op)?
        };
        // After it is queued: a pass that counts it also sees it.
        if let Some((node, row)) = hint {
            self.hints.add(node, &row);
        }
        Ok(written)
    }

    /// Whether this node's copy of a key has seen some writes of it, or a flush has covered them.
    pub fn has_seen(&self, key: Key<'_>, dots: &[Dot]) -> bool {
        let at = Position::of(key.name, self.partitions);
        let floor = self.spaces.of(at.partition, key.db).floor();
        let flushed = |dot: Dot| floor.as_ref().is_some_and(|floor| floor.contains(dot));
        let seen_by_all = self.seen(self.owners_of(key.name), at.partition);
        let Ok(object) = self.read(key) else {
            return false;
        };
        let seen = |dot: &Dot| {
            object.context().contains(*dot) || flushed(*dot) || seen_by_all.contains(*dot)
        };
        dots.iter().all(seen)
    }

    /// Notes that a key, whose object is here, belongs to a node that is not there.
    ///
    /// # Errors
    /// [`ReplicaError::HintsFull`] at the limit.
    pub fn keep_hint(&self, key: Key<'_>, node: NodeId) -> Result<(), ReplicaError> {
        self.keep_hint_within(self.hints.limits.bytes, key, node)
    }

    fn keep_hint_within(&self, limit: u64, key: Key<'_>, node: NodeId) -> Result<(), ReplicaError> {
        let located = self.locate(key, Position::of(key.name, self.partitions));
        let _order = self.lock(located.at);
        let object = self.load(&located, true)?;
        let row = self.hint_row(limit, &located, node, &object)?;
        let ticket = self.store.submit(located.shard, vec![row.op.clone()])?;
        self.last_tickets[located.shard].fetch_max(ticket, Ordering::AcqRel);
        self.hints.add(node, &row);
        Ok(())
    }

    /// The row of a hint. It is written even where one stands, since that one may be on its way out.
    fn hint_row(
        &self,
        limit: u64,
        Located { shard, row_key, .. }: &Located<'_>,
        node: NodeId,
        object: &Object,
    ) -> Result<HintRow, ReplicaError> {
        let shard = *shard;
        let key = keys::hint_key(node.0, row_key);
        let is_new = self.store.load(shard, Table::Hint, &key)?.is_none();
        let bytes = (row_key.len() + row::encode(object).len()) as u64;
        if is_new && self.hints.bytes.load(Ordering::Relaxed) + bytes > limit {
            self.hints.refused.fetch_add(1, Ordering::Relaxed);
            return Err(ReplicaError::HintsFull);
        }
        let mut value = clock::now_ms().to_le_bytes().to_vec();
        value.extend_from_slice(&bytes.to_le_bytes());
        let op = Op {
            table: Table::Hint,
            key,
            value: Some(value),
        };
        Ok(HintRow { op, bytes, is_new })
    }

    /// Notes again that copies of a partition belong to another node, of keys with so many owners: this
    /// one does not own them, and no hint tells whose they are. Returns how many. Blocks.
    pub fn hint_strays(
        &self,
        owners: u8,
        partition: u16,
        to: NodeId,
        limit: u64,
    ) -> Result<u64, ReplicaError> {
        const PAGE: usize = 128;
        let end = keys::partition_end(partition);
        let shard = self.shard_of(partition);
        let (mut from, mut hinted) = (partition.to_be_bytes().to_vec(), 0);
        loop {
            let rows = self.store.scan(shard, Table::Data, &from, &end, PAGE)?;
            let Some((last, _)) = rows.last() else {
                return Ok(hinted);
            };
            from = [last.as_slice(), &[0]].concat();
            for (row_key, _) in rows {
                let Some((at, db, name)) = keys::parse(&row_key) else {
                    continue;
                };
                let located = self.locate(Key { db, name }, at);
                if self.owners_of(name) == owners && !self.has_hint(&located, None)? {
                    // What is here already need not be refused.
                    self.keep_hint_within(u64::MAX, located.key, to)?;
                    hinted += 1;
                }
            }
            if hinted >= limit {
                return Ok(hinted);
            }
        }
    }

    /// Whether a key's object is still to be handed to somebody else.
    pub(super) fn has_hint(
        &self,
        located: &Located<'_>,
        but_for: Option<NodeId>,
    ) -> Result<bool, ReplicaError> {
        let nodes = self.hint_counts().into_iter();
        for (node, _) in nodes.filter(|(node, _)| Some(*node) != but_for) {
            let key = keys::hint_key(node.0, &located.row_key);
            if self.store.load(located.shard, Table::Hint, &key)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// For whom hints are kept here, and about how many: never none while there may be one. The exact
    /// number is known when a pass has found no more.
    pub fn hint_counts(&self) -> Vec<(NodeId, u64)> {
        let counts = self.hints.by_node.iter();
        let mut counts: Vec<_> = counts
            .map(|entry| (*entry.key(), entry.value().count.load(Ordering::Relaxed)))
            .map(|(node, count)| (node, count.max(1)))
            .collect();
        counts.sort_unstable();
        counts
    }

    /// Bytes of hints, and how many were refused because of the limit.
    pub fn hint_usage(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.hints.bytes), load(&self.hints.refused))
    }

    /// Begins a pass over the hints for a node. What is added from now on it may miss.
    pub fn begin_hints(&self, node: NodeId) -> HintPass {
        HintPass {
            added: self.hints.added(node),
            ..HintPass::default()
        }
    }

    /// The caller is about to wait for [`Self::settled`]: what is added from now on may not be seen.
    pub fn before_settled(&self, pass: &mut HintPass) {
        pass.in_all = self.hints.added_in_all();
    }

    /// Up to `limit` more hints for a node; none at the end of the pass. Hints beyond their age are
    /// dropped on the way. The caller has waited for [`Self::settled`].
    pub fn next_hints(
        &self,
        node: NodeId,
        pass: &mut HintPass,
        limit: usize,
    ) -> Result<Vec<Hint>, ReplicaError> {
        let added = pass.added;
        let oldest_ms = clock::now_ms().saturating_sub(self.hints.limits.age_ms);
        let end = node.0.checked_add(1).map(u64::to_be_bytes);
        let end = end.map_or_else(|| vec![0xff; 9], |end| end.to_vec());
        let mut hints = Vec::new();
        while hints.is_empty() && pass.shard < self.store.shards() {
            let from = pass.next.clone().max(node.0.to_be_bytes().to_vec());
            let rows = self
                .store
                .scan(pass.shard, Table::Hint, &from, &end, limit)?;
            let Some((last, _)) = rows.last() else {
                *pass = HintPass {
                    shard: pass.shard + 1,
                    next: Vec::new(),
                    added,
                    in_all: pass.in_all,
                };
                continue;
            };
            pass.next = [last.as_slice(), &[0]].concat();
            for (key, value) in rows {
                match read_hint(pass.shard, &key, &value) {
                    Some((since_ms, hint)) if since_ms < oldest_ms => {
                        self.drop_hint(node, &hint)?;
                    }
                    Some((_, hint)) => hints.push(Hint {
                        added: pass.in_all,
                        ..hint
                    }),
                    None => {}
                }
            }
        }
        if hints.is_empty() {
            self.hints.clear(node, added);
        }
        Ok(hints)
    }

    fn drop_hint(&self, node: NodeId, hint: &Hint) -> Result<(), ReplicaError> {
        let op = Op {
            table: Table::Hint,
            key: keys::hint_key(node.0, &hint.row_key),
            value: None,
        };
        let ticket = self.store.enqueue(hint.shard, vec![op])?;
        self.last_tickets[hint.shard].fetch_max(ticket, Ordering::AcqRel);
        self.hints.remove(node, hint.bytes);
        Ok(())
    }

    /// A node has the object that a hint was kept for: the hint goes, and with it this node's copy if
    /// it was kept for others alone. If the key has changed since, both stay. The caller settles.
    pub fn delivered(
        &self,
        node: NodeId,
        hint: &Hint,
        sent: &Object,
        owned: bool,
    ) -> Result<(), ReplicaError> {
        let Some((at, db, name)) = keys::parse(&hint.row_key) else {
            return self.drop_hint(node, hint);
        };
        let located = self.locate(Key { db, name }, at);
        let _order = self.lock(at);
        let object = self.load(&located, false)?;
        if *object != *sent {
            self.hints.keep(node);
            return Ok(());
        }
        self.drop_hint(node, hint)?;
        // Somebody else's copy, too, may still be to be handed over, or a hint that says so may be on
        // its way to the store: then a copy that is not ours stays, and goes as a stray if need be.
        let is_settled = self.hints.added_in_all() == hint.added;
        let others = self.hint_counts().iter().any(|(other, _)| *other != node);
        let is_kept = others && (!is_settled || self.has_hint(&located, Some(node))?);
        if !owned && !is_kept {
            // Before what it says is here is not here any more.
            self.forget_seen(self.owners_of(name), at.partition)?;
            self.store_object(&located, &object, Object::default(), None)?;
        }
        Ok(())
    }

    /// Raises the floor of a database, or of all, in every partition. The caller keeps every other
    /// write out. Where something is above the new floor, everything is counted anew.
    pub fn raise_floor(&self, db: Option<u8>, floor: &Context) -> Result<Written, ReplicaError> {
        let databases = db.map_or(0..DATABASES, |db| db..db + 1);
        // The same floor again, from somebody who was away, changes nothing.
        let higher = |db: &u8| !self.common_floor(*db).covers(floor);
        let databases: Vec<u8> = databases.filter(higher).collect();
        if databases.is_empty() {
            return Ok(Written {
                shard: 0,
                ticket: self.last_tickets[0].load(Ordering::Acquire),
                delta: None,
            });
        }
        let mut ops = Vec::new();
        for &db in &databases {
            let mut key = FLOOR_PREFIX.to_vec();
            key.extend_from_slice(&ALL_PARTITIONS.to_be_bytes());
            key.push(db);
            let mut whole = floor.clone();
            whole.join(&self.common_floor(db));
            let value = Some(encode_floor(false, &whole));
            ops.push(Op {
                table: Table::Meta,
                key,
                value,
            });
        }
        let ticket = self.store.enqueue(0, ops)?;
        self.last_tickets[0].fetch_max(ticket, Ordering::AcqRel);
        let all_below = floor.covers(&self.everything());
        for &db in &databases {
            self.raise_everywhere(db, floor);
        }
        if !all_below {
            self.count_again()?;
        }
        self.note_actors(floor);
        Ok(Written {
            shard: 0,
            ticket,
            delta: None,
        })
    }

    /// The floor that a database has in every partition.
    pub fn common_floor(&self, db: u8) -> Context {
        let floor = self.spaces.of(0, db).floor();
        floor.map_or_else(Context::new, |floor| (*floor).clone())
    }

    pub(super) fn raise_everywhere(&self, db: u8, floor: &Context) {
        let mut whole = floor.clone();
        whole.join(&self.common_floor(db));
        let whole = Arc::new(whole);
        let mut waiting = self.to_reclaim.lock();
        for partition in 0..self.partitions.count() {
            let space = self.spaces.of(partition, db);
            if space.live() != 0 || !self.is_counted_in(partition) {
                waiting.insert((partition, db));
            }
            space.raise_floor(Arc::clone(&whole));
        }
    }

    /// Takes in who has written: a later flush must cover all of it.
    pub(super) fn note_actors(&self, context: &Context) {
        if !self.shared {
            return;
        }
        let mut actors = self.actors.lock();
        for actor in context.actor_ids().filter(|actor| *actor != self.actor) {
            let last = context.last(actor);
            if actors.last(actor) < last {
                actors.insert_interval(actor, 0, last);
            }
        }
    }

    /// Everything that was ever written, as far as this node knows.
    pub fn everything_written(&self) -> Context {
        self.everything()
    }

    /// Every actor that is known to have written, but for this run.
    pub fn known_actors(&self) -> Vec<ActorId> {
        self.actors.lock().actor_ids().collect()
    }

    /// The latest time that this node has given out or heard of.
    pub fn time(&self) -> Timestamp {
        Timestamp(self.time.load(Ordering::Acquire))
    }

    /// Has every later write here be later than a timestamp, as far as that is believable.
    pub fn observe(&self, theirs: Timestamp) {
        let now_ms = clock::now_ms();
        let drift_ms = self.max_clock_drift_ms;
        let next = |last| match Timestamp(last).observe(theirs, now_ms, drift_ms) {
            Observed::Accepted(at) | Observed::Clamped(at) => Some(at.0),
        };
        let last = self
            .time
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let last = Timestamp(last.unwrap_or_default());
        if matches!(last.observe(theirs, now_ms, drift_ms), Observed::Clamped(_)) {
            let before = self.counters.clamped_clocks.fetch_add(1, Ordering::Relaxed);
            if before.is_power_of_two() || before == 0 {
                tracing::warn!(
                    ahead_ms = theirs.ms().saturating_sub(now_ms),
                    times = before + 1,
                    "a node's clock is ahead by more than max-clock-drift-ms"
                );
            }
        }
    }

    pub(super) fn find_hints(&self) -> Result<(), ReplicaError> {
        const PAGE: usize = 4_096;
        for shard in 0..self.store.shards() {
            let mut from = Vec::new();
            loop {
                let rows = self
                    .store
                    .scan(shard, Table::Hint, &from, &[0xff; 9], PAGE)?;
                let Some((last, _)) = rows.last() else { break };
                from = [last.as_slice(), &[0]].concat();
                for (key, value) in rows {
                    let node = key
                        .first_chunk()
                        .map(|raw| NodeId(u64::from_be_bytes(*raw)));
                    if let (Some(node), Some((_, hint))) = (node, read_hint(shard, &key, &value)) {
                        self.hints.found(node, hint.bytes);
                    }
                }
            }
        }
        Ok(())
    }
}

/// When the hint was made, and the hint; `None` for a row that is none.
fn read_hint(shard: usize, key: &[u8], value: &[u8]) -> Option<(u64, Hint)> {
    let row_key = key.get(8..)?;
    let (_, db, name) = keys::parse(row_key)?;
    let (since_ms, bytes) = (value.first_chunk()?, value.last_chunk()?);
    let hint = Hint {
        row_key: row_key.to_vec(),
        db,
        name: name.to_vec(),
        shard,
        bytes: u64::from_le_bytes(*bytes),
        added: 0,
    };
    Some((u64::from_le_bytes(*since_ms), hint))
}
