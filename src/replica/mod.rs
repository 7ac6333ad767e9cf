//! This node's objects: the order of writes per key, and the only writer of the store.
//!
//! A write locks its key's stripe, reads, decides, joins its delta, and puts the row into the store,
//! which shows it from then on; the caller waits for the commit where it must. Reads see a write from
//! the moment it is ordered. Not here: quorums, RESP, what a command means.

mod absence;
mod arrivals;
mod compare;
mod count;
mod counting;
mod delta;
mod ended;
mod ending;
mod ends;
mod handoff;
mod hint;
mod hints;
mod inplace;
mod key;
mod keyspace;
mod large;
mod locate;
mod places;
mod ranked;
mod reclaim;
mod rewrite;
mod round;
mod rows;
mod seen;
mod shared;
mod space;
mod start;
#[cfg(test)]
mod tests;
mod tree;
mod watching;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use smallvec::SmallVec;
use thiserror::Error;

use crate::base::clock;
use crate::logic::causal::{ActorId, Context, Object, Timestamp};
use crate::logic::codec::DecodeError;
use crate::logic::edit::{Edit, Stamp};
use crate::logic::guard;
use crate::logic::merkle::Shape;
use crate::logic::place::{self, Position};
use crate::logic::placement::Partitions;
use crate::logic::policy::Policies;
use crate::logic::quorum::Rules;
use crate::storage::{Need, Op, Refused, Store, StoreError, Table, Ticket, Write};

pub use crate::base::random::random_u64;
pub use crate::storage::WriteFailed;
pub use absence::Absence;
pub use arrivals::Awaited;
pub use compare::{Listed, Page};
pub use delta::Delta;
pub use ended::Ended;
pub use handoff::Piece;
pub use hint::{Hint, HintLimits, HintPass};
pub use inplace::Sight;
pub use key::Key;
pub use keyspace::Found;
pub use large::Reach;
pub use round::Tombstones;
pub use rows::note_key;
pub use shared::Join;
pub use space::{ALL_DATABASES, DATABASES, OWN_DATABASE};
pub use start::{Options, Recovery};
pub use tree::ENDING_MS;

use absence::Absences;
use arrivals::Arrivals;
use counting::Counting;
use ending::Ends;
use key::Located;
use round::Seen;
use space::{Space, Spaces, Step};
use tree::Spot;

/// Damaged rows that are remembered by name; more are found when they are read again.
const MAX_DAMAGED: usize = 1_024;
/// Key locks; two keys share one now and then, which costs time and nothing else.
const STRIPES: usize = 4_096;

/// A write on its way to the disk. A caller that waits for it kicks its shard first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The shard that holds it.
    pub shard: usize,
    /// Its place there.
    pub ticket: Ticket,
    /// What other nodes must hear, where others hold the key too.
    pub delta: Option<Box<Delta>>,
}

/// Why the replica could not do its part. Nothing was changed, where nothing else is said.
#[derive(Debug, Error)]
pub enum ReplicaError {
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The write was not taken.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nothing more is kept for nodes that are not there.
    #[error("no more hints are kept: hint-limit is reached")]
    HintsFull,
    /// The copy here holds what the writer has not seen.
    #[error("the copy here holds what the writer has not seen")]
    Unseen(Arc<Object>),
    /// A row is not what was written.
    #[error("a stored row is damaged: {0}")]
    Row(#[from] DecodeError),
    /// An object from elsewhere cannot be.
    #[error("an object that nobody can have written")]
    Impossible,
    /// Of two keys one was written, the other could not be.
    #[error("one of two keys was written, the other could not be")]
    Half(Box<Written>),
    /// It was taken, and is not stored, or nobody knows.
    #[error(transparent)]
    Failed(#[from] WriteFailed),
}

/// Counters for INFO.
#[derive(Debug, Default)]
pub struct Counters {
    /// Keys whose expiry was reclaimed.
    pub expired_keys: AtomicU64,
    /// Rows below a floor that were reclaimed.
    pub flushed_rows: AtomicU64,
    /// Timestamps of other nodes that were too far ahead.
    pub clamped_clocks: AtomicU64,
    /// Keys that came to have many siblings.
    pub many_siblings: AtomicU64,
    /// Siblings that were merged because a key had too many.
    pub merged_siblings: AtomicU64,
    /// Rows that went since the store was compacted.
    pub removed_rows: AtomicU64,
    /// Values that came in though everybody had seen them overwritten, or written by a run that had
    /// ended.
    pub dead_values: AtomicU64,
    /// Rows that could not be read while trees were compared.
    pub damaged_rows: AtomicU64,
}

/// The node's part of every request.
pub struct Replica {
    store: Arc<dyn Store>,
    partitions: Partitions,
    actor: ActorId,
    seq: AtomicU64,
    time: AtomicU64,
    stripes: Box<[Mutex<()>]>,
    /// By stripe, how many are about to look at copies that are kept for others.
    looked_at: Box<[AtomicU32]>,
    spaces: Spaces,
    /// All actors that ever wrote here, with their last dots as far as they are gone.
    actors: Mutex<Context>,
    databases: RwLock<[u8; DATABASES as usize]>,
    absences: Absences,
    arrivals: Arc<Arrivals>,
    ranks: ranked::AllRanks,
    to_reclaim: Mutex<BTreeSet<(u16, u8)>>,
    /// Held while floors of whole databases are raised.
    raising: Mutex<()>,
    flushed_place: Mutex<places::FlushedPlace>,
    expiry_places: Vec<Mutex<places::ExpiryPlace>>,
    counters: Counters,
    counting: Counting,
    ends: Ends,
    empty: Arc<Object>,
    /// Whether other nodes hold the keys too: then what is deleted is remembered.
    shared: bool,
    /// How long expired keys are kept, in milliseconds.
    grace_ms: u64,
    /// By how much the clock in the middle of all members' is ahead; the least number while unknown.
    others_ahead_ms: AtomicI64,
    /// How long tombstones are kept at least, in milliseconds.
    tombstone_grace_ms: u64,
    hints: hint::Hints,
    max_clock_drift_ms: u64,
    shape: Shape,
    rules: Arc<Rules>,
    limits: guard::Limits,
    policies: Arc<Policies>,
    /// Keys whose row cannot be read, until they are mended from others' copies.
    damaged: Mutex<BTreeSet<(u8, Vec<u8>)>>,
    /// This run's last dot when a copy of a key in a partition was dropped: a copy that comes back
    /// from another node does not tell which of this run's dots it had.
    dropped_upto: Box<[AtomicU64]>,
    /// Up to which failures of each shard that was done.
    failures_noted: Box<[AtomicU64]>,
    /// Every number of owners that some key has, ascending: a tree for each.
    sizes: Vec<u8>,
    /// A longer record of a collection is written as a row an element.
    most_in_one_row: usize,
    seen: Seen,
}

/// A write that somebody has seen before it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncommitted {
    /// The shard that holds it.
    pub shard: usize,
    /// Its place there.
    pub ticket: Ticket,
}

/// Has what is written committed together.
pub struct Gathering<'a> {
    store: &'a dyn Store,
    shards: SmallVec<[usize; 4]>,
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.shards
            .iter()
            .for_each(|shard| self.store.gathered(*shard));
    }
}

/// Keeps a copy for a while.
pub struct Kept {
    replica: Arc<Replica>,
    stripe: usize,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.replica.looked_at[self.stripe].fetch_sub(1, Ordering::AcqRel);
    }
}

impl Replica {
    /// This run's actor.
    pub fn actor(&self) -> ActorId {
        self.actor
    }

    /// The partitioning of slots.
    pub fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What is shown of keys with siblings.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// How many siblings a key may have.
    pub fn sibling_limit(&self) -> usize {
        self.limits.siblings
    }

    /// Counters for INFO.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The node's last write event.
    pub fn last_seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    /// The object of a key, or an empty one.
    pub fn read(&self, key: Key<'_>) -> Result<Arc<Object>, ReplicaError> {
        self.read_some(key, Reach::Whole)
    }

    /// What is written to some keys while it is held is committed as one batch of each of their shards.
    /// Nobody may wait for a commit meanwhile.
    pub fn gather<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Gathering<'_> {
        let mut shards: SmallVec<[usize; 4]> = SmallVec::new();
        for key in keys {
            let shard = self.shard_of(Position::of(key, self.partitions).partition);
            if !shards.contains(&shard) {
                shards.push(shard);
                self.store.gather(shard);
            }
        }
        Gathering {
            store: &*self.store,
            shards,
        }
    }

    /// The last write of a key that is not committed yet: a read of the key may have seen it.
    pub fn uncommitted(&self, key: Key<'_>) -> Option<Uncommitted> {
        if self.is_settled() {
            return None;
        }
        let at = Position::of(key.name, self.partitions);
        let shard = self.shard_of(at.partition);
        let row_key = place::row_key(at, key.db, key.name);
        let ticket = self.store.pending(shard, Table::Data, &row_key);
        (ticket > 0).then_some(Uncommitted { shard, ticket })
    }

    /// As long as it is held, a copy of a key that is kept for others stays, though they have it by now.
    pub fn keep(self: &Arc<Self>, name: &[u8]) -> Kept {
        let stripe = stripe(Position::of(name, self.partitions));
        self.looked_at[stripe].fetch_add(1, Ordering::AcqRel);
        Kept {
            replica: Arc::clone(self),
            stripe,
        }
    }

    /// The caller holds the key's lock.
    fn is_looked_at(&self, at: Position) -> bool {
        self.looked_at[stripe(at)].load(Ordering::Acquire) > 0
    }

    /// Reads, decides and writes under the key's lock.
    pub fn update<R>(
        &self,
        key: Key<'_>,
        decide: impl FnOnce(&Object, u64) -> (Edit, R),
    ) -> Result<(R, Option<Written>), ReplicaError> {
        self.update_some(key, Reach::Whole, decide)
    }

    /// The same with as much of it at hand as a reach says, or more. An edit touches what is at hand, and
    /// what was never there.
    pub fn update_some<R>(
        &self,
        key: Key<'_>,
        reach: Reach<'_>,
        decide: impl FnOnce(&Object, u64) -> (Edit, R),
    ) -> Result<(R, Option<Written>), ReplicaError> {
        let located = self.locate(key, Position::of(key.name, self.partitions));
        let _order = self.lock(located.at);
        let current = self.load_some(&located, reach)?;
        let now_ms = clock::now_ms();
        let (edit, result) = decide(&current, now_ms);
        let written = self.apply(&located, current, &edit, now_ms)?;
        Ok((result, written))
    }

    /// Reads, decides and writes two keys under both locks: all of the first is at hand, and the second's head.
    pub fn update_two<R>(
        &self,
        first: Key<'_>,
        second: Key<'_>,
        decide: impl FnOnce(&Object, &Object, u64) -> ([Edit; 2], R),
    ) -> Result<(R, [Option<Written>; 2]), ReplicaError> {
        let a = self.locate(first, Position::of(first.name, self.partitions));
        let b = self.locate(second, Position::of(second.name, self.partitions));
        let _order = self.lock_two(a.at, b.at);
        let (first, second) = (self.load(&a)?, self.load_some(&b, Reach::Head)?);
        let now_ms = clock::now_ms();
        let ([edit_a, edit_b], result) = decide(&first, &second, now_ms);
        // The new key before the old one goes: a crash in between leaves two, never none.
        let written_b = self.apply(&b, second, &edit_b, now_ms)?;
        match (self.apply(&a, first, &edit_a, now_ms), written_b) {
            (Ok(written_a), written_b) => Ok((result, [written_a, written_b])),
            (Err(_), Some(written_b)) => Err(ReplicaError::Half(Box::new(written_b))),
            (Err(error), None) => Err(error),
        }
    }

    fn lock(&self, at: Position) -> MutexGuard<'_, ()> {
        self.stripes[stripe(at)].lock()
    }

    fn lock_two(
        &self,
        a: Position,
        b: Position,
    ) -> (MutexGuard<'_, ()>, Option<MutexGuard<'_, ()>>) {
        let (low, high) = (stripe(a).min(stripe(b)), stripe(a).max(stripe(b)));
        let first = self.stripes[low].lock();
        (first, (low != high).then(|| self.stripes[high].lock()))
    }

    /// The current object. Who writes it holds the key's lock.
    fn load(&self, located: &Located<'_>) -> Result<Arc<Object>, ReplicaError> {
        self.load_some(located, Reach::Whole)
    }

    /// A key's row cannot be read.
    fn note_damaged(&self, key: Key<'_>) {
        self.counters.damaged_rows.fetch_add(1, Ordering::Relaxed);
        let mut damaged = self.damaged.lock();
        if damaged.len() < MAX_DAMAGED && damaged.insert((key.db, key.name.to_vec())) {
            let (db, name) = (key.db, key.name.escape_ascii().to_string());
            tracing::error!(db, key = name, "a stored row is damaged");
        }
    }

    /// Whether there are keys whose row is known not to be readable.
    pub fn has_damaged(&self) -> bool {
        self.counters.damaged_rows.load(Ordering::Relaxed) > 0 && !self.damaged.lock().is_empty()
    }

    /// A key's row can be read again, or is gone, if that is so.
    pub fn forget_damaged(&self, db: u8, name: &[u8]) {
        if self.read(Key { db, name }).is_ok() {
            self.damaged.lock().remove(&(db, name.to_vec()));
        }
    }

    /// A key whose row cannot be read, from one on.
    pub fn next_damaged(&self, from: &(u8, Vec<u8>)) -> Option<(u8, Vec<u8>)> {
        let damaged = self.damaged.lock();
        damaged.range(from.clone()..).next().cloned()
    }

    /// Applies an edit; the caller holds the key's lock and has just loaded `current`.
    fn apply(
        &self,
        located: &Located<'_>,
        mut current: Arc<Object>,
        edit: &Edit,
        now_ms: u64,
    ) -> Result<Option<Written>, ReplicaError> {
        let dots = edit.dots();
        if dots == 0 {
            return Ok(None);
        }
        if edit.needs_all_of(&current, now_ms) {
            current = self.load(located)?;
        }
        self.note_failures(located.shard, located.as_of);
        let first_seq = self.seq.fetch_add(dots, Ordering::Relaxed) + 1;
        let before = current.context().last(self.actor);
        let previous = self.previous(located.at.partition, before, first_seq);
        let at = self.tick(now_ms);
        let stamp = Stamp {
            actor: self.actor,
            previous,
            first_seq,
            at,
            now_ms,
        };
        let mut delta = edit.delta(&current, stamp);
        if !self.shared {
            // Nobody increments beside the only owner.
            delta.forget_resets();
        }
        let heard = self.shared.then(|| {
            let key = (located.key.db, Bytes::copy_from_slice(located.key.name));
            Box::new(Delta {
                touched: edit.touched(&current, now_ms),
                ..Delta::of(key, &delta, self.actor)
            })
        });
        let mut object = self.joined(located, &mut current, delta)?;
        self.fold(&located.key, located.at.partition, &mut object);
        self.guard(&located.key, &current, &mut object);
        let mut written = self.store_object(located, &current, &object, None)?;
        written.delta = heard;
        Ok(Some(written))
    }

    /// The only owner may forget a key at once: nobody can bring back what it has deleted.
    fn forgets(&self, object: &Object) -> bool {
        if self.shared {
            object.is_unknown()
        } else {
            object.is_tombstone()
        }
    }

    /// Keeps a key within its limits.
    fn guard(&self, key: &Key<'_>, old: &Object, new: &mut Object) {
        if !new.has_siblings() {
            return;
        }
        let merged = guard::merge_oldest(new, self.limits, self.policies.of(key.name));
        let (before, now) = (guard::siblings(old), guard::siblings(new));
        let key = || key.name.escape_ascii().to_string();
        if before < self.limits.warn && now >= self.limits.warn {
            self.counters.many_siblings.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(key = key(), siblings = now, "a key has many siblings");
        }
        if merged > 0 {
            let count = &self.counters.merged_siblings;
            let before = count.fetch_add(merged as u64, Ordering::Relaxed);
            // Each key's first, and of those that go on some.
            let is_first = guard::siblings(old) < self.limits.siblings;
            if is_first || (before + merged as u64).ilog2() > before.max(1).ilog2() {
                tracing::warn!(
                    key = key(),
                    merged,
                    merged_in_all = before + merged as u64,
                    "a key has too many siblings, the oldest are merged"
                );
            }
        }
    }

    /// Replaces a key's object, with its index rows, in one atomic part of a batch.
    fn store_object(
        &self,
        located: &Located<'_>,
        old: &Object,
        new: &Object,
        hint: Option<Op>,
    ) -> Result<Written, ReplicaError> {
        self.store_object_as(Need::Grows, located, old, new, hint)
    }

    fn store_object_as(
        &self,
        need: Need,
        located: &Located<'_>,
        old: &Object,
        new: &Object,
        hint: Option<Op>,
    ) -> Result<Written, ReplicaError> {
        let (gone, forgotten) = (new.is_tombstone(), self.forgets(new));
        let mut ops = Vec::with_capacity(2);
        let moved = self.data_ops(&mut ops, located, (old, new), forgotten);
        ops.extend(hint);
        rows::index_ops(&mut ops, &located.row_key, old, new, self.shared);
        // What is deleted, or dropped, gives space back.
        let need = if gone { Need::Frees } else { need };
        let write = Write {
            ops,
            need,
            as_of: Some(located.as_of),
        };
        let ticket = {
            let _followed = self.counting.follow();
            let ticket = self.store.enqueue(located.shard, write)?;
            self.ranks.follow(located, moved);
            if forgotten {
                self.counters.removed_rows.fetch_add(1, Ordering::Relaxed);
            }
            let space = self.spaces.of(located.at.partition, located.key.db);
            self.count(space, located, old, new);
            ticket
        };
        if !gone {
            self.absences.end(located.key);
            self.arrivals.tell(located.key);
        }
        Ok(Written {
            shard: located.shard,
            ticket,
            delta: None,
        })
    }

    /// Where a key's digest counts.
    fn spot<'r>(&self, name: &[u8], at: Position, row_key: &'r [u8]) -> Option<(Shape, Spot<'r>)> {
        let spot = || Spot {
            tree: self.tree_of(name),
            leaf: self.shape.leaf(at.slot.0, at.hash),
            row_key,
            ends_before_ms: self.ends.followed_ms(),
        };
        self.shared.then(|| (self.shape, spot()))
    }

    fn count(&self, space: &Space, located: &Located<'_>, old: &Object, new: &Object) {
        let is_told = space.count(Step {
            old,
            new,
            epoch: located.epoch,
            spot: self.spot(located.key.name, located.at, &located.row_key),
        });
        if !is_told {
            self.counting.begin_anew();
        }
    }

    fn tick(&self, now_ms: u64) -> Timestamp {
        let next = |last| Some(Timestamp(last).tick(now_ms).0);
        let last = self
            .time
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        Timestamp(last.unwrap_or_default()).tick(now_ms)
    }
}

fn stripe(at: Position) -> usize {
    at.hash as usize % STRIPES
}
