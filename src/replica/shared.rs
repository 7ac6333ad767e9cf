//! Keys that other nodes hold too: taking in their objects, common floors, common time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::rows::floor_op;
use super::space::DATABASES;
use super::{Key, Located, Reach, Replica, ReplicaError, Written};
use crate::base::clock;
use crate::logic::causal::{ActorId, Context, Dot, Element, Object, Observed, Timestamp};
use crate::logic::digest;
use crate::logic::guard;
use crate::logic::place::Position;
use crate::logic::placement::NodeId;
use crate::logic::types;
use crate::storage::{Need, Refused, Write};

/// Stands for all partitions in the row of a floor.
pub(super) const ALL_PARTITIONS: u16 = u16::MAX;

/// The newest dot, and the latest time.
fn newest_of(object: &Object) -> (Option<Dot>, Timestamp) {
    let newest = object.all_versions().map(|version| version.at).max();
    let dots = object.all_versions().map(|version| version.dot);
    (dots.max(), newest.unwrap_or_default())
}

/// Whether an object holds what the writer of a dot had not seen then: anything beside it but what that writer itself
/// has written later, which may come first.
fn has_unseen(object: &Object, dot: Option<Dot>) -> bool {
    let is_later = |of: Dot| dot.is_some_and(|dot| of.actor == dot.actor && of.seq >= dot.seq);
    let mut versions = object.all_versions();
    object.all_versions().count() > 1 && versions.any(|version| !is_later(version.dot))
}

/// More elements are not looked for one by one.
const MOST_TOUCHED: usize = 4_096;

/// How an object is taken in.
#[derive(Clone, Debug, Default)]
pub struct Join {
    /// The owner that was not there, for whom a hint is kept.
    pub hint_for: Option<NodeId>,
    /// Not where it would stand beside something that its writer has not seen.
    pub only_over_seen: bool,
    /// Whether a read is about to show it: where the disk is nearly full it may use what is reserved.
    pub is_read: bool,
    /// Whether it takes the place of a row that cannot be read: it has what a quorum of others has.
    pub mends: bool,
    /// The elements that it changes or removes, where what it has seen is of no others.
    pub touched: Option<Vec<Element>>,
}

impl Replica {
    /// The digest of this node's copy of a key, without what need not be remembered of it.
    pub fn digest(&self, key: Key<'_>, object: &Object) -> u64 {
        if object.context().actors() <= 1 {
            return digest::of_known(object);
        }
        let mut object = object.clone();
        let at = Position::of(key.name, self.partitions);
        self.fold(&key, at.partition, &mut object);
        digest::of_known(&object)
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
        how: &Join,
    ) -> Result<Written, ReplicaError> {
        if object.context().last(self.actor) > self.last_seq() {
            // Nobody can have seen what this run has not written yet.
            return Err(ReplicaError::Impossible);
        }
        if !types::is_possible(&object) || guard::siblings(&object) > guard::MOST_SIBLINGS {
            return Err(ReplicaError::Impossible);
        }
        let located = self.locate(key, Position::of(key.name, self.partitions));
        self.note_actors(object.context());
        let (newest_dot, newest) = newest_of(&object);
        self.observe(newest);
        let _order = self.lock(located.at);
        let (mut current, is_damaged) = match self.load_for(&located, &object, how) {
            Err(ReplicaError::Row(_)) if how.mends => (Arc::clone(&self.empty), true),
            loaded => (loaded?, false),
        };
        if is_damaged {
            // What this partition has seen of the key may be what is lost: it tells nothing of what
            // others still have. Nor are this run's own dots on it known.
            self.note_dropped(located.at.partition, self.last_seq());
        } else {
            self.drop_dead(key, located.at.partition, &mut object, &current);
        }
        let is_new = object
            .all_versions()
            .any(|version| !current.context().contains(version.dot));
        let mut joined = self.joined(&located, &mut current, object)?;
        self.spaces
            .of(located.at.partition, key.db)
            .sink(&mut joined);
        self.fold(&key, located.at.partition, &mut joined);
        self.guard(&key, &current, &mut joined);
        if how.only_over_seen && is_new && has_unseen(&joined, newest_dot) {
            // Siblings, and increments beside a base that has not seen them.
            return Err(ReplicaError::Unseen(current));
        }
        let hint = match how.hint_for {
            Some(node) => {
                let row = self.hint_row(self.hints.limit(), &located, node, &joined)?;
                Some((node, row))
            }
            None => None,
        };
        let op = hint.as_ref().map(|(_, row)| row.op.clone());
        let written = if joined == *current && !is_damaged {
            let ticket = match op {
                Some(op) => {
                    let write = Write::of(vec![op]).as_of(located.as_of);
                    self.store.enqueue(located.shard, write)?
                }
                None => 0,
            };
            let last = self.store.last(located.shard);
            if self.store.progress(located.shard).failures() != located.as_of {
                // What was here may not be stored.
                return Err(Refused::Changed.into());
            }
            Written {
                shard: located.shard,
                ticket: ticket.max(last),
                delta: None,
            }
        } else {
            let need = if how.is_read {
                Need::Frees
            } else {
                Need::Grows
            };
            self.store_object_as(need, &located, &current, &joined, op)?
        };
        if is_damaged {
            // What the row counted for is not known.
            self.counting.begin_anew();
        }
        if how.mends {
            self.damaged.lock().remove(&(key.db, key.name.to_vec()));
        }
        // After it is queued: a pass that counts it also sees it.
        if let Some((node, row)) = hint {
            self.hints.add(node, &row);
        }
        Ok(written)
    }

    /// An object with what comes in; with all of it where some does not tell.
    pub(super) fn joined(
        &self,
        located: &Located<'_>,
        current: &mut Arc<Object>,
        object: Object,
    ) -> Result<Object, ReplicaError> {
        if current.is_whole() {
            return Ok(current.joined(object));
        }
        let joined = current.joined(object.clone());
        if joined.is_plain_about_its_rest() && located.has_room_for_all(&joined) {
            return Ok(joined);
        }
        *current = self.load(located)?;
        Ok(current.joined(object))
    }

    /// As much of a key's object as what comes in is about.
    fn load_for(
        &self,
        located: &Located<'_>,
        object: &Object,
        how: &Join,
    ) -> Result<Arc<Object>, ReplicaError> {
        if how.only_over_seen {
            return self.load(located);
        }
        let touched = how.touched.as_ref();
        let Some(touched) = touched.filter(|all| all.len() <= MOST_TOUCHED) else {
            let head = self.load_some(located, Reach::Head)?;
            return if head.is_whole() || object.is_over(&head) {
                Ok(head)
            } else {
                self.load(located)
            };
        };
        let mut touched = touched.clone();
        touched.extend(object.cells().iter().map(|(element, _)| element.clone()));
        touched.extend(object.resets().iter().map(|reset| reset.element.clone()));
        self.load_some(located, Reach::Named(&touched))
    }

    /// Whether this node's copy of a key has seen some writes of it, or a flush has covered them.
    pub fn has_seen(&self, key: Key<'_>, dots: &[Dot]) -> bool {
        let at = Position::of(key.name, self.partitions);
        let floor = self.spaces.of(at.partition, key.db).floor();
        let flushed = |dot: Dot| floor.as_ref().is_some_and(|floor| floor.contains(dot));
        let seen_by_all = self.seen(self.owners_of(key.name), at.partition);
        let Ok(object) = self.read_some(key, Reach::Head) else {
            return false;
        };
        let seen = |dot: &Dot| {
            object.context().contains(*dot) || flushed(*dot) || seen_by_all.contains(*dot)
        };
        dots.iter().all(seen)
    }

    /// Raises the floor of a database, or of all, in every partition. The caller keeps every other
    /// write out. Where something is above the new floor, everything is counted anew.
    pub fn raise_floor(&self, db: Option<u8>, floor: &Context) -> Result<Written, ReplicaError> {
        self.raise_floor_when(db, floor, false)
    }

    /// The same; with `stored` once it is, and blocks until then.
    pub(super) fn raise_floor_when(
        &self,
        db: Option<u8>,
        floor: &Context,
        stored: bool,
    ) -> Result<Written, ReplicaError> {
        let _one_at_a_time = self.raising.lock();
        let databases = db.map_or(0..DATABASES, |db| db..db + 1);
        // The same floor again, from somebody who was away, changes nothing.
        let higher = |db: &u8| !self.common_floor(*db).covers(floor);
        let databases: Vec<u8> = databases.filter(higher).collect();
        if databases.is_empty() {
            return Ok(Written {
                shard: 0,
                ticket: self.store.last(0),
                delta: None,
            });
        }
        let mut ops = Vec::new();
        for &db in &databases {
            let mut whole = floor.clone();
            whole.join(&self.common_floor(db));
            ops.push(floor_op(ALL_PARTITIONS, db, false, &whole));
        }
        let ticket = {
            let _followed = self.counting.follow();
            let ticket = self.store.submit(0, Write::freeing(ops))?;
            if stored {
                // A write behind it must not outlive it, were it not stored.
                self.store.progress(0).block_until_committed(ticket);
                self.store.progress(0).fate(ticket)?;
            }
            for &db in &databases {
                self.raise_everywhere(db, floor);
            }
            ticket
        };
        let all_below = floor.covers(&self.everything());
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

    /// Has the other shards keep the floor of a database, or those of all, too, which are stored.
    pub fn spare_floors(&self, db: Option<u8>) {
        let floors = db
            .map_or(0..DATABASES, |db| db..db + 1)
            .map(|db| (db, self.common_floor(db)));
        let floors = floors.filter(|(_, floor)| !floor.is_empty());
        let ops = floors.map(|(db, floor)| floor_op(ALL_PARTITIONS, db, false, &floor));
        self.spare(&ops.collect::<Vec<_>>());
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

    /// The dot behind which a write of this run covers its dots on a key, of which a copy has seen them up to one.
    pub(super) fn previous(&self, partition: u16, before: u64, first_seq: u64) -> u64 {
        match before {
            // A copy that is gone may have held dots of this run: cover no more than this one.
            0 if self.shared => first_seq - 1,
            before => {
                let dropped = &self.dropped_upto[usize::from(partition)];
                before.max(dropped.load(Ordering::Acquire).min(first_seq - 1))
            }
        }
    }

    /// A copy goes, and with it the memory of this run's dots on it, up to one.
    pub(super) fn note_dropped(&self, partition: u16, upto: u64) {
        if self.shared {
            let dropped = &self.dropped_upto[usize::from(partition)];
            dropped.fetch_max(upto, Ordering::AcqRel);
        }
    }

    /// What was not stored here others may have: this run's dots of it are not known any more.
    pub(super) fn note_failures(&self, shard: usize, as_of: u64) {
        let noted = &self.failures_noted[shard];
        if noted.load(Ordering::Acquire) == as_of {
            return;
        }
        let upto = self.last_seq();
        for partition in self.partitions_of(shard) {
            self.note_dropped(partition, upto);
        }
        noted.store(as_of, Ordering::Release);
    }
}
