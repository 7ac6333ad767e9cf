//! What a command that waited for its turn has of the looks of those before it.

use super::looks::{Moment, Seen};
use super::runner::Site;
use super::who::Who;
use crate::coordinator::Coordinator;
use crate::logic::causal::Dot;
use crate::replica::Key;

/// When a look began, and what it rests on.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    at: Moment,
    as_of: (u64, u64),
}

impl Begun {
    pub(super) fn now(site: &Site, coordinator: &Coordinator) -> Self {
        Self {
            at: site.looks.now(),
            as_of: as_of(site, coordinator),
        }
    }
}

/// What a look rests on: the membership, and that nothing was lost of what was stored here.
fn as_of(site: &Site, coordinator: &Coordinator) -> (u64, u64) {
    let account = coordinator.cluster().account();
    (account, site.replica.failed_batches())
}

/// The caller has the key's lane alone since before the look began.
pub(super) fn note_look(
    site: &Site,
    coordinator: &Coordinator,
    who: &Who,
    name: &[u8],
    begun: Begun,
) {
    let lane = site.lanes.of(std::iter::once(name))[0];
    let seen = Seen {
        db: who.db,
        name,
        r: coordinator.quorum_of(name, who.quorum).r,
        as_of: begun.as_of,
    };
    site.looks.note(lane, begun.at, &seen);
}

/// Whether a command that came at a moment need not look, since somebody has who had its key's lane before.
pub(super) fn has_been_looked_for(
    site: &Site,
    coordinator: &Coordinator,
    who: &Who,
    (name, own, came): (&[u8], &[Dot], Moment),
) -> bool {
    let lane = site.lanes.of(std::iter::once(name))[0];
    let seen = Seen {
        db: who.db,
        name,
        r: coordinator.quorum_of(name, who.quorum).r,
        as_of: as_of(site, coordinator),
    };
    let key = Key { db: who.db, name };
    // A copy that does not belong here is kept for whoever has looked alone.
    site.looks.serves(lane, came, &seen)
        && coordinator.holds(name)
        && !site.replica.has_damaged()
        && (own.is_empty() || site.replica.has_seen(key, own))
}
