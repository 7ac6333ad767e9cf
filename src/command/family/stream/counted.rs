//! How many entries a group has read, as far as that can be told: Redis's rules.

use std::cmp::Ordering;

use crate::logic::causal::{ActorId, Object};
use crate::logic::types::stream::{self, Added, Id, Sum};

/// What tells how many entries there have been up to one.
pub(super) struct Counted {
    pub(super) sum: Sum,
    pub(super) len: u64,
    pub(super) first: Id,
}

impl Counted {
    /// Of a stream whose first entry is at hand.
    pub(super) fn of(object: &Object, adders: &[(ActorId, Added)]) -> Self {
        let mut sum = stream::sum(adders);
        sum.count = sum.count.max(stream::len(object) as u64);
        Self {
            sum,
            len: stream::len(object) as u64,
            first: stream::entries(object)
                .next()
                .map_or(Id::MIN, |entry| entry.id),
        }
    }

    /// Whether entries from an id on may have been removed from between others.
    pub(super) fn has_holes_from(&self, id: Id) -> bool {
        self.len > 0 && self.first <= self.sum.deleted && id <= self.sum.deleted
    }

    /// How many entries there have been up to one, where that can be told.
    pub(super) fn before_and(&self, id: Id) -> Option<u64> {
        let Self { sum, len, first } = self;
        if sum.count == 0 {
            return Some(0);
        }
        if *len == 0 && id <= sum.last {
            return Some(sum.count);
        }
        if id == sum.last {
            return Some(sum.count);
        }
        if id > sum.last {
            return None;
        }
        if sum.deleted == Id::MIN || sum.deleted < *first {
            let before = sum.count.saturating_sub(*len);
            match id.cmp(first) {
                Ordering::Less => return Some(before),
                Ordering::Equal => return Some(before + 1),
                Ordering::Greater => {}
            }
        }
        None
    }
}
