//! Parts of which nobody has a complete copy any more.
//!
//! Whoever sees the last complete copy of a part go, because its holder has lost its disk or was removed,
//! says so in its account, which goes round and is written down. From then on the part is *lost*: what is
//! left of it on some disks is not all of it, and nobody takes it for that by itself. Reads say so. It ends
//! when somebody has a complete copy again, or when a person has accepted the loss through any member:
//! then the owners put together what they have, and that is the part.

use std::sync::atomic::Ordering;

use super::placement::Placement;
use super::{Cluster, Part, State};
use crate::logic::membership::Parts;

impl Cluster {
    /// Follows what has become of parts of which there were copies (`had`).
    pub(super) fn follow_losses(&self, state: &mut State, had: Option<Parts>) {
        let me = state.membership.me();
        let (mut lost, mut accepted) = (me.lost.clone(), me.accepted.clone());
        if let Some(has) = state.placement.copies() {
            if let (Some(mut gone), true) = (had, self.has_joined()) {
                gone.remove(&has);
                lost.add(&gone);
            }
            lost.remove(&has);
            accepted.remove(&has);
        }
        if (&lost, &accepted) != (&me.lost, &me.accepted) {
            state.membership.describe(|me| {
                me.lost = lost;
                me.accepted = accepted;
            });
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

    fn lost_parts_in(&self, placement: &Placement) -> Vec<Part> {
        if placement.lost().is_empty() {
            return Vec::new();
        }
        let mut lost = placement.lost().below(self.options.partitions.count());
        lost.retain(|part| placement.holders(*part).is_lost);
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
        self.refuses_some() && self.holders(part).is_lost
    }

    /// Whether reads of some part are.
    pub fn refuses_some(&self) -> bool {
        self.lost.load(Ordering::Acquire) > 0 && !self.options.reads_lost
    }

    /// Whether what is left of a part that was lost is shown.
    pub(super) fn shows_what_is_left(&self, part: Part) -> bool {
        self.options.reads_lost
            && self.lost.load(Ordering::Acquire) > 0
            && self.holders(part).is_lost
    }

    /// Somebody says that what is left of some partitions that were lost is all there is. Which parts.
    pub fn accept_loss(&self, wanted: impl Fn(u16) -> bool) -> Vec<Part> {
        let parts: Vec<Part> = self.lost_parts();
        let parts: Vec<Part> = parts.into_iter().filter(|part| wanted(part.1)).collect();
        if !parts.is_empty() {
            self.change(|membership| {
                membership.describe(|me| me.accepted.add(&parts.iter().copied().collect()));
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
