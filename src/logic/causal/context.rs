//! The set of dots that somebody has seen: for every actor, a set of intervals of sequences.
//!
//! Sequences count an actor's writes over all keys, so the dots of one key have gaps. A write
//! therefore names the actor's previous dot on that key and covers the interval `(previous, seq]`,
//! in which no other dot of the key exists. Intervals that touch melt into one, so a replica that
//! missed nothing holds one interval from zero for each actor: a plain version vector.
//!
//! Invariant: actors ascend; the intervals of an actor ascend, are not empty and do not touch.

use std::cmp::Ordering;

use smallvec::{SmallVec, smallvec};

use super::dot::{ActorId, Dot};

/// `(after, upto]`: the sequences above `after` and up to `upto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Interval {
    pub(crate) after: u64,
    pub(crate) upto: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) actor: ActorId,
    pub(crate) intervals: SmallVec<[Interval; 1]>,
}

/// A causal context: a version vector plus sparse dots beyond it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    seen: SmallVec<[Seen; 1]>,
}

impl Context {
    /// The context that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The context that has seen some dots and nothing else.
    pub fn of_dots(dots: impl IntoIterator<Item = Dot>) -> Self {
        let mut dots: SmallVec<[Dot; 4]> = dots.into_iter().collect();
        // In their order: contexts grow at their ends.
        dots.sort_unstable();
        let mut context = Self::new();
        dots.into_iter().for_each(|dot| context.insert(dot));
        context
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// How many actors have an entry.
    pub fn actors(&self) -> usize {
        self.seen.len()
    }

    /// Who has an entry, ascending.
    pub fn actor_ids(&self) -> impl Iterator<Item = ActorId> {
        self.seen.iter().map(|seen| seen.actor)
    }

    /// Whether `dot` has been seen.
    pub fn contains(&self, dot: Dot) -> bool {
        self.of(dot.actor)
            .is_some_and(|seen| holding(&seen.intervals, dot.seq).is_some())
    }

    /// The highest sequence of `actor` seen, or 0.
    pub fn last(&self, actor: ActorId) -> u64 {
        self.of(actor)
            .and_then(|seen| seen.intervals.last())
            .map_or(0, |i| i.upto)
    }

    /// Adds one dot and nothing around it.
    pub fn insert(&mut self, dot: Dot) {
        self.insert_interval(dot.actor, dot.seq.saturating_sub(1), dot.seq);
    }

    /// Adds `(after, upto]` of `actor`: the caller knows that the key has no other dot in there.
    pub fn insert_interval(&mut self, actor: ActorId, after: u64, upto: u64) {
        if after >= upto {
            return;
        }
        let fresh = Interval { after, upto };
        match self.seen.binary_search_by_key(&actor, |s| s.actor) {
            Ok(at) => insert_into(&mut self.seen[at].intervals, fresh),
            Err(at) => self.seen.insert(
                at,
                Seen {
                    actor,
                    intervals: smallvec![fresh],
                },
            ),
        }
    }

    /// Unites with what another has seen.
    pub fn join(&mut self, other: &Context) {
        if let [seen] = other.seen.as_slice()
            && let [interval] = seen.intervals.as_slice()
        {
            // A write's.
            return self.insert_interval(seen.actor, interval.after, interval.upto);
        }
        let ours = std::mem::take(&mut self.seen);
        let mut united = SmallVec::with_capacity(ours.len().max(other.seen.len()));
        let (mut ours, mut theirs) = (ours.into_iter().peekable(), other.seen.iter().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(a), Some(b)) => a.actor.cmp(&b.actor),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let a = if order.is_le() { ours.next() } else { None };
            let b = if order.is_ge() { theirs.next() } else { None };
            united.extend(match (a, b) {
                (Some(a), Some(b)) => Some(Seen {
                    intervals: unite(&a.intervals, &b.intervals),
                    ..a
                }),
                (a, b) => a.or_else(|| b.cloned()),
            });
        }
        self.seen = united;
    }

    /// Keeps the entries of some actors.
    pub fn retain(&mut self, mut keep: impl FnMut(ActorId) -> bool) {
        self.seen.retain(|seen| keep(seen.actor));
    }

    /// Whether everything that `other` has seen is seen here.
    pub fn covers(&self, other: &Context) -> bool {
        other.seen.iter().all(|theirs| {
            self.of(theirs.actor).is_some_and(|ours| {
                theirs.intervals.iter().all(|t| {
                    let ours = holding(&ours.intervals, t.upto);
                    ours.is_some_and(|o| o.after <= t.after)
                })
            })
        })
    }

    /// The entries in canonical order, for codecs.
    pub(crate) fn entries(&self) -> &[Seen] {
        &self.seen
    }

    fn of(&self, actor: ActorId) -> Option<&Seen> {
        let at = self.seen.binary_search_by_key(&actor, |seen| seen.actor);
        at.ok().map(|at| &self.seen[at])
    }
}

/// The interval that has a sequence.
fn holding(intervals: &[Interval], seq: u64) -> Option<&Interval> {
    let at = intervals.partition_point(|interval| interval.upto < seq);
    intervals.get(at).filter(|interval| interval.after < seq)
}

/// Two sets of intervals as one.
fn unite(a: &[Interval], b: &[Interval]) -> SmallVec<[Interval; 1]> {
    let mut out = SmallVec::<[Interval; 1]>::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let a_is_next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.after <= y.after,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return out,
        };
        let Some(next) = (if a_is_next { a.next() } else { b.next() }) else {
            return out;
        };
        match out.last_mut() {
            Some(last) if next.after <= last.upto => last.upto = last.upto.max(next.upto),
            _ => out.push(*next),
        }
    }
}

/// Inserts into ascending, disjoint intervals and melts what touches.
fn insert_into(intervals: &mut SmallVec<[Interval; 1]>, fresh: Interval) {
    if let Some(last) = intervals.last_mut()
        && last.after <= fresh.after
        && fresh.after <= last.upto
    {
        last.upto = last.upto.max(fresh.upto);
        return;
    }
    let first = intervals.partition_point(|i| i.upto < fresh.after);
    let end = intervals.partition_point(|i| i.after <= fresh.upto);
    if first == end {
        intervals.insert(first, fresh);
        return;
    }
    let melted = Interval {
        after: fresh.after.min(intervals[first].after),
        upto: fresh.upto.max(intervals[end - 1].upto),
    };
    intervals[first] = melted;
    intervals.drain(first + 1..end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_knows_whose_dots_it_has() {
        let mut context = Context::new();
        assert!(context.is_empty());
        assert_eq!(context.actors(), 0);
        for (actor, seq) in [(7, 1), (3, 2), (7, 2)] {
            context.insert(Dot {
                actor: ActorId(actor),
                seq,
            });
        }
        assert!(!context.is_empty());
        assert_eq!(context.actors(), 2);
        let ids: Vec<ActorId> = context.actor_ids().collect();
        assert_eq!(ids, [ActorId(3), ActorId(7)]);
        assert_eq!(context.last(ActorId(7)), 2);
        assert_eq!(context.last(ActorId(5)), 0);
        context.retain(|actor| actor == ActorId(3));
        assert_eq!(context.actors(), 1);
        assert!(!context.contains(Dot {
            actor: ActorId(7),
            seq: 1,
        }));
    }
}
