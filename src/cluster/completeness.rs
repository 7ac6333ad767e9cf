//! Of what this node's copies are complete. What it owns and has not, because its disk was lost or it
//! owns it since a moment ago, it *lacks*: what is not here says nothing, and its copies do not count for
//! reads until they have been compared with those that do.
//!
//! A copy stays complete as long as its holder gets every write: beyond the time when it owns it, until
//! all new owners have it too.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::{Cluster, Part, Placement, Route, Standing, State};
use crate::logic::membership::Parts;
use crate::logic::placement::NodeId;

impl Cluster {
    /// Works out the placement again, where something has changed that it rests on, and what of this
    /// node's copies follows.
    pub(super) fn follow(&self, state: &mut State) {
        if !state.placement.is_of(&state.membership) {
            self.place(state);
        }
    }

    pub(super) fn place(&self, state: &mut State) {
        state.placement = Placement::of(&state.membership, &self.options, Some(&state.placement));
        self.note_stopping(state.placement.stopping());
        let me = state.membership.me();
        let Some(complete) = &me.complete else {
            return;
        };
        let (id, complete) = (me.id, complete.below(self.options.partitions.count()));
        let owned = state.placement.owned(id);
        let mut now = complete.clone();
        // What all new owners have needs nobody else.
        now.retain(|part| owned.contains(part) || !state.placement.holders(*part).is_settled());
        if !self.has_data() {
            now.extend(owned.iter().copied());
        }
        if now != complete {
            let parts: Parts = now.iter().copied().collect();
            state.membership.describe(|me| me.complete = Some(parts));
            state.placement =
                Placement::of(&state.membership, &self.options, Some(&state.placement));
        }
        let lacking = owned.difference(&now).count() as u64;
        let before = self.lacking.swap(lacking, Ordering::AcqRel);
        if lacking > before {
            tracing::info!(parts = lacking - before, "more to own than is here");
        } else if lacking == 0 && before > 0 {
            tracing::info!("filled: all that this node owns is here, compared with the others'");
        }
    }

    /// Sets of what this node's copies are complete, given what it owns.
    pub(super) fn set_complete(&self, of: impl FnOnce(&BTreeSet<Part>) -> Parts) {
        self.change(|membership| {
            let owned = Placement::of(membership, &self.options, None).owned(membership.me().id);
            let parts = of(&owned);
            membership.describe(|me| me.complete = Some(parts));
        });
    }

    /// The cluster holds nothing: whatever this node owns is complete.
    pub(super) fn complete_everything(&self) {
        self.set_complete(|owned| owned.iter().copied().collect());
    }

    /// This node may have nothing of what it owns.
    pub fn lack_everything(&self) {
        self.note_data();
        self.set_complete(|_| Parts::default());
    }

    /// This node has what counts elsewhere, of keys with so many owners.
    pub fn has(&self, parts: &[Part]) {
        if parts.is_empty() {
            return;
        }
        let count = self.options.partitions.count();
        self.change(|membership| {
            membership.describe(|me| {
                let before = me.complete.take().unwrap_or_default().below(count);
                me.complete = Some(before.into_iter().chain(parts.iter().copied()).collect());
            });
        });
    }

    /// Whether this node's copy of a key does not count, though it owns the key.
    pub fn lacks(&self, route: Route) -> bool {
        self.lacks_part(route.part())
    }

    /// Whether this node lacks something of a partition's keys that have no rule of their own.
    pub fn lacks_of(&self, partition: u16) -> bool {
        self.lacks_part((self.options.rules.default().n, partition))
    }

    /// Whether this node lacks something of a part that it owns.
    pub fn lacks_part(&self, part: Part) -> bool {
        if self.lacking() == 0 {
            return false;
        }
        let state = self.state.read();
        let me = state.membership.me();
        let complete = me.complete.as_ref();
        complete.is_some_and(|complete| !complete.contains(part))
            && state.placement.holders(part).owners.contains(&me.id)
    }

    /// How many parts of what it owns this node may not have.
    pub fn lacking(&self) -> u64 {
        self.lacking.load(Ordering::Acquire)
    }

    /// What this node owns and may not have.
    pub fn lacking_parts(&self) -> Vec<Part> {
        if self.lacking() == 0 {
            return Vec::new();
        }
        let count = self.options.partitions.count();
        let owned = self.placement().owned(self.me());
        let complete = self.with_membership(|membership| membership.me().complete.clone());
        let complete = complete.unwrap_or_default().below(count);
        owned.difference(&complete).copied().collect()
    }

    /// Whether a member says that its copy of a part is complete.
    pub fn is_complete(&self, id: NodeId, part: Part) -> bool {
        self.with_membership(|membership| {
            let member = membership.member(id);
            member.is_some_and(|member| match &member.complete {
                Some(complete) => complete.contains(part),
                None => true,
            })
        })
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

    /// Whether this node has left the ring.
    pub fn leaves(&self) -> bool {
        self.with_membership(|membership| !membership.me().is_placed())
    }

    fn note_stopping(&self, stopping: BTreeSet<NodeId>) {
        self.some_stop
            .store(!stopping.is_empty(), Ordering::Release);
        *self.stopping.lock() = stopping;
    }

    /// Whether a member has said that it is about to stop.
    pub fn stops(&self, id: NodeId) -> bool {
        self.some_stop.load(Ordering::Acquire) && self.stopping.lock().contains(&id)
    }

    /// Says that this node is about to stop: others do its work from now on.
    pub fn say_it_stops(&self) {
        self.say(|state| Standing::new(true, state.is_drained()));
    }

    /// Says whether this node has left and holds nothing that others need.
    pub fn say_drained(&self, is_drained: bool) {
        self.say(|state| Standing::new(state.stops(), is_drained));
    }

    fn say(&self, next: impl Fn(Standing) -> Standing) {
        let state = self.with_membership(|membership| membership.me().state);
        if next(state) != state {
            self.change(|membership| membership.describe(|me| me.state = next(me.state)));
        }
    }
}
