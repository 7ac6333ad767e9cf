//! Parts of which nobody has a complete copy any more.
//!
//! A member that sees the last complete copy of a part go, because its holder has lost its disk or was removed,
//! says so in its account, and a member that hears that says so, too: it outlives each of them. From then on the
//! part is *lost*: what is left of it on some disks is not all of it, and nobody takes it for that by itself.
//! Reads say so. It ends when somebody has a complete copy again, or when a person has accepted the loss
//! through any member: then the owners put together what they have, and that is the part. Losses are
//! numbered, so that nobody's old acceptance is taken for one of a later loss.

use std::sync::atomic::Ordering;

use super::placement::Placement;
use super::{Cluster, Part, State};
use crate::logic::membership::{Losses, Parts};

impl Cluster {
    /// Follows what has become of parts of which there were copies (`had`).
    pub(super) fn follow_losses(&self, state: &mut State, had: Option<Parts>) {
        let me = state.membership.me();
        let number = state.membership.next_loss();
        let losses = self.losses_now(&state.placement, &me.losses, had, number);
        let mut losses = losses.unwrap_or_else(|| me.losses.clone());
        // What was put back is like any other copy once it was compared with the others.
        losses.restored.remove(&me.proven);
        losses
            .restored
            .remove(me.complete.as_ref().unwrap_or(&Parts::default()));
        if losses != me.losses {
            state.membership.describe(|me| me.losses = losses);
            state.placement =
                Placement::of(&state.membership, &self.options, Some(&state.placement));
        }
        let now = self.lost_parts_in(&state.placement).len() as u64;
        let before = self.lost.swap(now, Ordering::AcqRel);
        if now > before {
            tracing::error!(
                parts = now,
                "every complete copy of some partitions was lost: what is left of them is not all of it. \
                 'ringwood cluster accept-loss' says that it is all there is"
            );
        } else if now == 0 && before > 0 {
            tracing::warn!("no partition counts as lost any more");
        }
    }

    /// What this node knows of losses now; `None` while a member does not say what it has.
    fn losses_now(
        &self,
        placement: &Placement,
        before: &Losses,
        had: Option<Parts>,
        number: u64,
    ) -> Option<Losses> {
        let has = placement.copies()?;
        let mut now = before.clone();
        let sizes = self.options.rules.sizes();
        // What others say, so that it stays known though they go.
        for others in placement.losses().filter(|others| !others.lost.is_empty()) {
            let mut lost = others.lost.clone();
            lost.keep(placement.lost());
            lost.remove(&now.lost);
            if !lost.is_empty() {
                now.lost.add(&lost);
                now.lost_at = now.lost_at.max(others.lost_at);
            }
        }
        for others in placement
            .losses()
            .filter(|others| !others.accepted.is_empty())
        {
            let mut accepted = others.accepted.clone();
            accepted.keep(&now.lost);
            accepted.remove(&now.accepted);
            accepted.remove(placement.lost());
            if !accepted.is_empty() {
                now.accepted.add(&accepted);
                now.accepted_at = now.accepted_at.max(others.accepted_at);
            }
        }
        // Of what is lost anew nobody has accepted that.
        now.accepted.remove(placement.lost());
        if let (Some(mut gone), true) = (had, self.has_joined()) {
            gone.remove(&has);
            gone.keep_sizes(&sizes);
            placement
                .losses()
                .for_each(|losses| gone.remove(&losses.restored));
            if !gone.is_empty() {
                now.lost.add(&gone);
                now.lost_at = number;
                now.accepted.remove(&gone);
            }
        }
        for parts in [&mut now.lost, &mut now.accepted] {
            parts.remove(&has);
            parts.keep_sizes(&sizes);
        }
        Some(now)
    }

    fn lost_parts_in(&self, placement: &Placement) -> Vec<Part> {
        if placement.lost().is_empty() {
            return Vec::new();
        }
        let lost = placement.lost().below(self.options.partitions.count());
        lost.into_iter().collect()
    }

    /// The parts of which every complete copy was lost, and nobody has accepted it.
    pub fn lost_parts(&self) -> Vec<Part> {
        if self.lost.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        self.lost_parts_in(&self.placement())
    }

    /// Whether reads of a part are refused, because it was lost.
    pub fn is_lost(&self, part: Part) -> bool {
        self.refuses_some() && self.placement().lost().contains(part)
    }

    /// Whether reads of some part are.
    pub fn refuses_some(&self) -> bool {
        self.lost.load(Ordering::Acquire) > 0 && !self.options.reads_lost
    }

    /// Whether what is left of a part that was lost is shown.
    pub(super) fn shows_what_is_left(&self, part: Part) -> bool {
        self.options.reads_lost
            && self.lost.load(Ordering::Acquire) > 0
            && self.placement().lost().contains(part)
    }

    /// Somebody says that what is left of some partitions that were lost is all there is. Which parts.
    pub fn accept_loss(&self, wanted: impl Fn(u16) -> bool) -> Vec<Part> {
        let parts: Vec<Part> = self.lost_parts();
        let parts: Vec<Part> = parts.into_iter().filter(|part| wanted(part.1)).collect();
        if !parts.is_empty() {
            self.change(|membership| {
                let number = membership.next_loss();
                membership.describe(|me| {
                    me.losses.accepted.add(&parts.iter().copied().collect());
                    me.losses.accepted_at = number;
                });
            });
            tracing::warn!(
                parts = parts.len(),
                "the loss of partitions is accepted: what is left of them is all there is"
            );
            self.announce();
        }
        parts
    }
}
