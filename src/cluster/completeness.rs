//! Of what this node's copies are complete. What it owns and has not, because its disk was lost or it
//! owns it since a moment ago, it *lacks*: what is not here says nothing, and its copies do not count for
//! reads until they have been compared with those that do.
//!
//! A copy stays complete as long as its holder gets every write: beyond the time when it owns it, until
//! all new owners have it too.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::fingerprint::{self, changes};
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
        let had = state.placement.copies();
        self.follow_copies(state);
        self.follow_losses(state, had);
    }

    fn follow_copies(&self, state: &mut State) {
        state.placement = Placement::of(&state.membership, &self.options, Some(&state.placement));
        self.note_stopping(state.placement.stopping());
        let me = state.membership.me();
        if me.gone && !self.is_gone.swap(true, Ordering::AcqRel) {
            tracing::warn!("this node is no member any more: it was removed, or has left");
        }
        let Some(complete) = &me.complete else {
            return;
        };
        let count = self.options.partitions.count();
        let (id, complete, proven) = (me.id, complete.below(count), me.proven.below(count));
        let owned = state.placement.owned(id);
        let holders = |part: &Part| state.placement.holders(*part);
        let mut now = complete.clone();
        // What all new owners have needs nobody else.
        now.retain(|part| owned.contains(part) || !holders(part).is_complete);
        let changes = state.placement.changes;
        let mut waiting = proven.clone();
        // What was proven stays so as long as this node gets every write: as an owner, or where it stands in
        // for complete copies that are gone.
        let stands_in = |part: &Part| {
            let is_short = state.placement.complete_copies(*part) < usize::from(part.0);
            is_short && !holders(part).is_complete
        };
        waiting.retain(|part| !now.contains(part) && (owned.contains(part) || stands_in(part)));
        let is_as_of = waiting.is_empty() || me.proven_as_of == changes;
        if now != complete || waiting != proven || !is_as_of {
            state.membership.describe(|me| {
                me.complete = Some(now.iter().copied().collect());
                me.proven = waiting.iter().copied().collect();
                me.proven_as_of = changes;
            });
            state.placement =
                Placement::of(&state.membership, &self.options, Some(&state.placement));
        }
        let serves =
            |part: &&Part| waiting.contains(part) && state.placement.holders(**part).serves(id);
        let lacking = owned.difference(&now).filter(|part| !serves(part)).count() as u64;
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
            membership.describe(|me| {
                me.complete = Some(parts);
                me.proven = Parts::default();
            });
        });
    }

    /// This node may have nothing of what it owns.
    pub fn lack_everything(&self) {
        self.change(|membership| {
            if membership.present().count() > 1 {
                return membership.lose_everything();
            }
            // The operator who has started it so knows that there is nothing more.
            membership.describe(|me| me.losses.restored = me.lose_everything());
        });
    }

    /// This node's copies of some parts were proven equal to those that count, as of everything that was
    /// known then; `false` when it is something else by now.
    pub fn has_proven(&self, parts: &[Part], account: u64) -> bool {
        let count = self.options.partitions.count();
        self.change(|membership| {
            if fingerprint::account(membership.all()) != account {
                return false;
            }
            let as_of = changes(membership.all());
            membership.describe(|me| {
                let before = me.proven.below(count).into_iter();
                me.proven = before.chain(parts.iter().copied()).collect();
                me.proven_as_of = as_of;
            });
            true
        })
    }

    /// These parts have switched, and everybody knows who must: this node's copies are as good as any.
    pub fn has_switched(&self, parts: &[Part]) {
        if parts.is_empty() {
            return;
        }
        let count = self.options.partitions.count();
        self.change(|membership| {
            membership.describe(|me| {
                let proven = me.proven.below(count).into_iter();
                let (done, rest): (Vec<Part>, Vec<Part>) =
                    proven.partition(|part| parts.contains(part));
                let before = me.complete.take().unwrap_or_default().below(count);
                me.complete = Some(before.into_iter().chain(done).collect());
                me.proven = rest.into_iter().collect();
            });
        });
    }

    /// What was proven here, and waits for other owners' copies.
    pub fn proven_parts(&self) -> BTreeSet<Part> {
        let count = self.options.partitions.count();
        self.with_membership(|membership| membership.me().proven.below(count))
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
        if self.lacking() == 0 || self.shows_what_is_left(part) {
            return false;
        }
        if self.is_unsure() {
            return self.holders(part).owners.contains(&self.me());
        }
        let state = self.state.read();
        let me = state.membership.me();
        let complete = me.complete.as_ref();
        let holders = state.placement.holders(part);
        let counts = me.proven.contains(part) && holders.serves(me.id);
        complete.is_some_and(|complete| !complete.contains(part))
            && !counts
            && holders.owners.contains(&me.id)
    }

    /// Whether this node lacks something of what it owns.
    pub fn lacks_something(&self) -> bool {
        let lacks = || {
            let mut owned = self.placement().owned(self.me()).into_iter();
            owned.any(|part| self.lacks_part(part))
        };
        self.lacking() > 0 && (!self.options.reads_lost || lacks())
    }

    /// How many parts of what it owns this node may not have.
    pub fn lacking(&self) -> u64 {
        let lacking = self.lacking.load(Ordering::Acquire);
        lacking.max(self.is_unsure().into())
    }

    /// What this node owns and has not proven to have, and could.
    pub fn lacking_parts(&self) -> Vec<Part> {
        if self.lacking() == 0 {
            return Vec::new();
        }
        let count = self.options.partitions.count();
        let owned = self.placement().owned(self.me());
        let has = self.with_membership(|membership| {
            let me = membership.me();
            let complete = me.complete.as_ref().map(|parts| parts.below(count));
            let mut has = complete.unwrap_or_default();
            has.extend(me.proven.below(count));
            has
        });
        let lacking = owned.difference(&has).copied();
        // Of what was lost nobody has a copy that could be taken.
        lacking
            .filter(|part| !self.holders(*part).is_lost)
            .collect()
    }

    /// Whether some part has fewer complete copies than it should, and could.
    pub fn is_short(&self) -> bool {
        let placement = self.placement();
        let partitions = 0..self.options.partitions.count();
        let sizes = self.options.rules.sizes();
        let mut parts = sizes.iter().flat_map(|owners| {
            partitions
                .clone()
                .map(move |partition| (*owners, partition))
        });
        parts.any(|part| placement.is_short(part) && !placement.holders(part).is_lost)
    }

    /// Whether a member says that its copy of a part is complete, or was proven to be.
    pub fn has_part(&self, id: NodeId, part: Part) -> bool {
        self.with_membership(|membership| {
            let member = membership.member(id);
            member.is_some_and(|member| match &member.complete {
                Some(complete) => complete.contains(part) || member.proven.contains(part),
                None => true,
            })
        })
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

    /// Whether this node has left and holds nothing that others need.
    pub fn is_drained(&self) -> bool {
        self.with_membership(|membership| membership.me().state.is_drained())
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
