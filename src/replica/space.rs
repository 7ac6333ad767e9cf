//! Spaces: the keys of one database in one partition. How many there are, their sums, their floor.
//!
//! FLUSHDB and FLUSHALL raise a floor, a context whose dots are dead: instant and free per key; the
//! rows are reclaimed behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::logic::causal::{Context, Dot, Object};
use crate::logic::codec::{DecodeError, Reader, put_zigzag};
use crate::logic::digest;
use crate::logic::merkle::{Leaves, Shape};
use crate::logic::record;

use super::tree::{Spot, State, Tree};

/// How many numbered databases there are.
pub const DATABASES: u8 = 16;
/// The database behind them, which no client can select and nothing empties: what belongs to all of them
/// (scripts, functions) is kept there, replicated as every key is.
pub const OWN_DATABASE: u8 = DATABASES;
/// Both.
pub const ALL_DATABASES: u8 = DATABASES + 1;

#[derive(Debug, Default)]
pub(super) struct Space {
    live: AtomicI64,
    /// How many of the live keys have an expiry.
    expiring: AtomicI64,
    epoch: AtomicU64,
    floor: RwLock<Option<Arc<Context>>>,
    /// One for each number of owners that keys have: what owners compare they own all of.
    trees: Vec<Tree>,
}

/// An object's step from one state to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) old: &'a Object,
    pub(super) new: &'a Object,
    /// The space's flushes when the step began.
    pub(super) epoch: u64,
    /// Where its digest counts; nowhere on a lone node.
    pub(super) spot: Option<(Shape, Spot<'a>)>,
}

impl Step<'_> {
    fn is_whole(&self) -> bool {
        self.old.is_whole() && self.new.is_whole()
    }
}

/// The step of a key that holds one value, or nothing before, to holding one: whose it is, and when
/// it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlainStep<'a> {
    pub(super) old: Option<(Dot, Option<u64>)>,
    pub(super) new: (Dot, Option<u64>),
    /// The space's flushes when the step began.
    pub(super) epoch: u64,
    /// Where its digest counts; nowhere on a lone node.
    pub(super) spot: Option<(Shape, Spot<'a>)>,
}

impl Space {
    pub(super) fn live(&self) -> i64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn expiring(&self) -> i64 {
        self.expiring.load(Ordering::Relaxed)
    }

    /// Follows an object from one state to the next, as they were in an epoch: what was flushed
    /// meanwhile counts no more.
    ///
    /// Whether it could be told: not of elements that are not at hand.
    #[must_use]
    pub(super) fn count(&self, step: Step<'_>) -> bool {
        let floor = self.floor.read();
        match &*floor {
            Some(_) if step.epoch != self.epoch() && !step.is_whole() => return false,
            Some(floor) if step.epoch != self.epoch() => {
                let sunk = |object: &Object| {
                    let mut object = object.clone();
                    sink(&mut object, floor);
                    object
                };
                let (old, new) = (&sunk(step.old), &sunk(step.new));
                self.add(Step { old, new, ..step });
            }
            _ => self.add(step),
        }
        true
    }

    /// The same for a plain step.
    pub(super) fn count_plain(&self, step: &PlainStep<'_>) {
        let floor = self.floor.read();
        let floor = floor.as_ref().filter(|_| step.epoch != self.epoch());
        let counts =
            |(dot, _): &(Dot, Option<u64>)| floor.is_none_or(|floor| !floor.contains(*dot));
        let (old, new) = (step.old.filter(counts), Some(step.new).filter(counts));
        let live = i64::from(new.is_some()) - i64::from(old.is_some());
        if live != 0 {
            self.live.fetch_add(live, Ordering::Relaxed);
        }
        let ends =
            |one: Option<(Dot, Option<u64>)>| i64::from(one.is_some_and(|(_, at)| at.is_some()));
        let expiring = ends(new) - ends(old);
        if expiring != 0 {
            self.expiring.fetch_add(expiring, Ordering::Relaxed);
        }
        if let Some((shape, spot)) = step.spot {
            let state = |one: Option<(Dot, Option<u64>)>| {
                one.map_or_else(State::default, |(dot, ends_at_ms)| State {
                    is_row: true,
                    digest: digest::of_plain(spot.row_key, dot),
                    ends_at_ms,
                })
            };
            self.trees[spot.tree].step(shape, spot, [state(old), state(new)]);
        }
    }

    /// Whether the floor covers a write.
    pub(super) fn covers(&self, dot: Dot) -> bool {
        // Nothing was flushed since the start, nor before.
        self.epoch() > 0
            && self
                .floor
                .read()
                .as_ref()
                .is_some_and(|floor| floor.contains(dot))
    }

    fn add(&self, Step { old, new, spot, .. }: Step<'_>) {
        let change = |is: fn(&Object) -> bool| i64::from(is(new)) - i64::from(is(old));
        let live = change(|object| !object.is_tombstone());
        if live != 0 {
            self.live.fetch_add(live, Ordering::Relaxed);
        }
        let expiring = change(|object| object.ends_at_ms().is_some());
        if expiring != 0 {
            self.expiring.fetch_add(expiring, Ordering::Relaxed);
        }
        if let Some((shape, spot)) = spot {
            self.trees[spot.tree].change(shape, spot, old, new);
        }
    }

    pub(super) fn trees(&self) -> &[Tree] {
        &self.trees
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Raises the floor and forgets what it covers.
    pub(super) fn raise_floor(&self, floor: Arc<Context>) {
        let mut here = self.floor.write();
        *here = Some(floor);
        self.live.store(0, Ordering::Relaxed);
        self.expiring.store(0, Ordering::Relaxed);
        self.trees.iter().for_each(Tree::clear);
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn floor(&self) -> Option<Arc<Context>> {
        self.floor.read().clone()
    }

    /// Has another floor, lower it may be.
    pub(super) fn replace_floor(&self, floor: Option<Arc<Context>>) {
        let mut now = self.floor.write();
        if *now != floor {
            *now = floor;
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Drops what the floor covers: a key that was deleted below it was never there, whether its row
    /// has been reclaimed or not.
    pub(super) fn sink(&self, object: &mut Object) {
        if let Some(floor) = &*self.floor.read() {
            sink(object, floor);
        }
    }
}

fn sink(object: &mut Object, floor: &Context) {
    object.sink_below(floor);
    if (object.is_tombstone() || !object.is_whole()) && floor.covers(object.context()) {
        *object = Object::default();
    }
}

/// All spaces of a node.
#[derive(Debug)]
pub(super) struct Spaces {
    spaces: Vec<Space>,
}

impl Spaces {
    pub(super) fn new(partitions: u16, trees: usize) -> Self {
        let count = usize::from(partitions) * usize::from(ALL_DATABASES);
        let space = |_| Space {
            trees: (0..trees).map(|_| Tree::default()).collect(),
            ..Space::default()
        };
        Self {
            spaces: (0..count).map(space).collect(),
        }
    }

    pub(super) fn of(&self, partition: u16, db: u8) -> &Space {
        &self.spaces[Self::place(partition, db)]
    }

    /// The flushes of all.
    pub(super) fn epochs(&self) -> Vec<u64> {
        self.spaces.iter().map(Space::epoch).collect()
    }

    /// Those of one, of [`Self::epochs`].
    pub(super) fn epoch_in(epochs: &[u64], partition: u16, db: u8) -> u64 {
        epochs[Self::place(partition, db)]
    }

    fn place(partition: u16, db: u8) -> usize {
        usize::from(partition) * usize::from(ALL_DATABASES) + usize::from(db)
    }

    /// The live keys of one database in all partitions.
    pub(super) fn live(&self, db: u8) -> i64 {
        self.of_db(db).map(Space::live).sum::<i64>().max(0)
    }

    /// Those of them with an expiry.
    pub(super) fn expiring(&self, db: u8) -> i64 {
        self.of_db(db).map(Space::expiring).sum::<i64>().max(0)
    }

    /// All databases of a partition.
    pub(super) fn of_partition(&self, partition: u16) -> &[Space] {
        let first = usize::from(partition) * usize::from(ALL_DATABASES);
        &self.spaces[first..first + usize::from(ALL_DATABASES)]
    }

    /// The sum of a partition's objects, without what has ended before an instant.
    pub(super) fn root(&self, tree: usize, partition: u16, as_of_ms: u64) -> u64 {
        let roots = self.of_partition(partition).iter();
        let roots = roots.map(|space| space.trees[tree].root(as_of_ms));
        roots.fold(0, u64::wrapping_add)
    }

    /// The sum of some leaves of a partition.
    pub(super) fn sum(&self, tree: usize, partition: u16, leaves: &Leaves) -> u64 {
        let sums = self.of_partition(partition).iter();
        let sums = sums.map(|space| space.trees[tree].sum(leaves.clone()));
        sums.fold(0, u64::wrapping_add)
    }

    fn of_db(&self, db: u8) -> impl Iterator<Item = &Space> {
        self.spaces
            .iter()
            .skip(usize::from(db))
            .step_by(usize::from(ALL_DATABASES))
    }

    /// The counts and sums of a partition, for the next start.
    pub(super) fn encode(&self, partition: u16) -> Vec<u8> {
        let mut out = Vec::new();
        for space in self.of_partition(partition) {
            put_zigzag(&mut out, space.live());
            put_zigzag(&mut out, space.expiring());
            space.trees.iter().for_each(|tree| tree.encode(&mut out));
        }
        out
    }

    /// Takes what [`Self::encode`] wrote.
    pub(super) fn take(&self, partition: u16, raw: &[u8], shape: Shape) -> Result<(), DecodeError> {
        let mut r = Reader(raw);
        for space in self.of_partition(partition) {
            space.live.store(r.zigzag()?, Ordering::Relaxed);
            space.expiring.store(r.zigzag()?, Ordering::Relaxed);
            for tree in &space.trees {
                tree.take(&mut r, shape)?;
            }
        }
        if r.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed)
        }
    }

    /// Forgets all counts and sums.
    pub(super) fn clear(&self) {
        for space in &self.spaces {
            space.live.store(0, Ordering::Relaxed);
            space.expiring.store(0, Ordering::Relaxed);
            space.trees.iter().for_each(Tree::clear);
        }
    }
}

/// A floor's row: whether the rows below it are reclaimed, and the context.
pub(super) fn encode_floor(reclaimed: bool, floor: &Context) -> Vec<u8> {
    let mut out = vec![u8::from(reclaimed)];
    record::put_context(&mut out, floor);
    out
}

pub(super) fn decode_floor(raw: &[u8]) -> Result<(bool, Context), DecodeError> {
    let mut r = Reader(raw);
    let reclaimed = r.u8()? == 1;
    Ok((reclaimed, record::read_context(&mut r)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::{ActorId, Element, Payload, Timestamp, Value};

    fn written(seq: u64) -> Object {
        let mut delta = Object::delta(ActorId(1), 0);
        let value = Value {
            payload: Payload::Bytes("v".into()),
            expires_at_ms: None,
        };
        delta.put(seq, Timestamp(seq), &Element::STRING, value);
        delta.finish()
    }

    #[test]
    fn a_write_that_began_before_a_flush_counts_for_what_the_flush_left_of_it() {
        let (space, empty) = (Space::default(), Object::default());
        let (before, old) = (space.epoch(), written(1));
        let count = |old: &Object, new: &Object| {
            let is_told = space.count(Step {
                old,
                new,
                epoch: before,
                spot: None,
            });
            assert!(is_told);
        };
        count(&empty, &old);
        assert_eq!(space.live(), 1);
        space.raise_floor(Arc::new(old.context().clone()));
        count(&old, &empty);
        assert_eq!(space.live(), 0);
        count(&empty, &old);
        assert_eq!(space.live(), 0);
        count(&old, &old.joined(written(2)));
        assert_eq!(space.live(), 1);
    }
}
