//! Whom a read or a write of a key is sent to.

use std::sync::atomic::Ordering;

use super::options::Route;
use super::{Cluster, Part};
use crate::logic::placement::NodeId;
use crate::logic::quorum::{Holder, Targets};

/// Members that could hold a key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reachable {
    /// How many answer.
    pub answering: usize,
    /// How many of these have room.
    pub with_room: usize,
}

impl Cluster {
    /// Whether those who own a part, this node among them, are those whose copies count, for everybody.
    pub fn is_at_rest(&self, part: Part) -> bool {
        let holders = self.holders(part);
        holders.is_at_rest() && holders.serves(self.me())
    }

    /// Of those that serve a key, one in this node's zone that answers: reads of it stay in the zone.
    pub fn nearest(&self, route: Route) -> Option<NodeId> {
        let placement = self.placement();
        let zone = placement.zone(self.me())?;
        let holders = placement.holders(route.part());
        let near = holders.serving.iter().copied();
        let mut near = near.filter(|id| placement.zone(*id) == Some(zone));
        near.find(|id| self.answers(*id) && self.takes_writes(*id) && !self.seems_empty(*id))
    }

    /// Whom this node asks, when it coordinates.
    pub fn targets(&self, route: Route) -> Targets {
        let placement = self.placement();
        let holders = placement.holders(route.part());
        let me = self.me();
        let all = holders.all().map(|node| Holder {
            node,
            serves: holders.serves(node),
            elsewhere: holders.elsewhere.contains(&node),
            stays: !holders.spare.contains(&node),
        });
        let (here, mut others): (Vec<Holder>, Vec<Holder>) = all.partition(|h| h.node == me);
        let mut fallbacks = Vec::new();
        if !route.rule.strict {
            let rest = holders.fallbacks.iter().copied();
            fallbacks.extend(rest.filter(|id| *id != me));
        }
        let all = fallbacks.len();
        fallbacks.retain(|id| self.answers(*id));
        if self.some_empty.load(Ordering::Acquire) {
            others.sort_by_key(|holder| self.seems_empty(holder.node));
        }
        if placement.has_zones() {
            // Of those that are read the ones in this zone first.
            let zone = placement.zone(me);
            others.sort_by_key(|holder| placement.zone(holder.node) != zone);
        }
        Targets {
            holders: others,
            here: here.into_iter().next(),
            serving: holders.serving.len(),
            elsewhere: holders.elsewhere.len(),
            members: placement.members(),
            others: fallbacks.len() < all,
            fallbacks,
        }
    }

    /// How many members there are that could hold a key.
    pub fn could_hold(&self) -> usize {
        self.placement().members()
    }

    /// How many members that could hold a key answer, and how many of these have room, as far as so many
    /// are wanted.
    pub fn reachable(&self, route: Route, wanted: usize) -> Reachable {
        let holders = self.holders(route.part());
        let fallbacks: &[NodeId] = if route.rule.strict {
            &[]
        } else {
            &holders.fallbacks
        };
        let mut reachable = Reachable::default();
        let mut could = holders.all().chain(fallbacks.iter().copied());
        while let Some(id) = could.next().filter(|_| reachable.with_room < wanted) {
            // Asked once: it may come back at any moment.
            if self.answers(id) {
                reachable.answering += 1;
                reachable.with_room += usize::from(self.takes_writes(id));
            }
        }
        reachable
    }
}
