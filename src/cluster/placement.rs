//! Who holds what, as of one state of the member table.
//!
//! The table of owners is costly and follows joins, changes and leaves; holders also follow what members
//! say they have, which changes often while parts move: they are worked out when somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::fingerprint::{account, changes};
use super::options::Options;
use crate::logic::membership::{Losses, Membership, Part, Parts};
use crate::logic::placement::{Copy, Holders, NodeId, Placed, Table, key_hash};

/// The owners of every partition, with the lists of who comes after them.
struct Owners {
    placed: Vec<Placed>,
    table: Table,
    lists: Vec<OnceLock<Vec<NodeId>>>,
}

/// What a present member says of itself.
#[derive(Debug)]
struct Says {
    zone: String,
    complete: Option<Parts>,
    proven: Parts,
    proven_as_of: u64,
    losses: Losses,
    stops: bool,
    leaves: bool,
}

pub(super) struct Placement {
    /// How many changes of the membership there are; a fingerprint of them; one of all accounts.
    pub(super) events: u64,
    pub(super) changes: u64,
    pub(super) account: u64,
    owners: Arc<Owners>,
    says: BTreeMap<NodeId, Says>,
    leaving: Vec<NodeId>,
    /// What was lost, and nobody has accepted.
    lost: Parts,
    has_zones: bool,
    sizes: Vec<u8>,
    /// By size, then by partition.
    holders: Vec<Vec<OnceLock<Arc<Holders>>>>,
}

impl Placement {
    /// The placement of a membership; `before` is the one that it takes the place of.
    pub(super) fn of(
        membership: &Membership,
        options: &Options,
        before: Option<&Placement>,
    ) -> Arc<Self> {
        let placed = membership.placed();
        let owners = match before {
            Some(before) if before.owners.placed == placed => Arc::clone(&before.owners),
            _ => Arc::new(Owners::of(placed, options)),
        };
        let says = says(membership);
        let leaving = says.iter().filter(|(_, says)| says.leaves);
        let mut zones: Vec<&str> = says.values().map(|says| says.zone.as_str()).collect();
        zones.sort_unstable();
        zones.dedup();
        let sizes = options.rules.sizes();
        let lost = lost(&says, &sizes);
        let count = usize::from(options.partitions.count());
        let nobody = || (0..count).map(|_| OnceLock::new()).collect();
        Arc::new(Self {
            events: membership.events(),
            changes: changes(membership.all()),
            account: account(membership.all()),
            owners,
            leaving: leaving.map(|(id, _)| *id).collect(),
            lost,
            has_zones: zones.len() > 1,
            holders: sizes.iter().map(|_| nobody()).collect(),
            sizes,
            says,
        })
    }

    /// Whether a membership has the same placement.
    pub(super) fn is_of(&self, membership: &Membership) -> bool {
        self.account == account(membership.all())
    }

    pub(super) fn table(&self) -> &Table {
        &self.owners.table
    }

    /// How many members own partitions and have something of them: a newcomer that has not come yet must
    /// not have writes refused.
    pub(super) fn members(&self) -> usize {
        let has_something = |id: &&NodeId| {
            let says = self.says.get(id);
            says.is_some_and(|says| match &says.complete {
                Some(parts) => !parts.is_empty() || !says.proven.is_empty(),
                None => true,
            })
        };
        let members = self.owners.table.members().iter();
        members.filter(has_something).count()
    }

    pub(super) fn has_zones(&self) -> bool {
        self.has_zones
    }

    pub(super) fn zone(&self, id: NodeId) -> Option<&str> {
        self.says.get(&id).map(|says| says.zone.as_str())
    }

    /// Members that have said that they are about to stop.
    pub(super) fn stopping(&self) -> BTreeSet<NodeId> {
        let stopping = self.says.iter().filter(|(_, says)| says.stops);
        stopping.map(|(id, _)| *id).collect()
    }

    pub(super) fn holders(&self, part: Part) -> Arc<Holders> {
        let (owners, partition) = part;
        let Ok(size) = self.sizes.binary_search(&owners) else {
            return Arc::new(self.find(part));
        };
        let found =
            self.holders[size][usize::from(partition)].get_or_init(|| Arc::new(self.find(part)));
        Arc::clone(found)
    }

    /// The parts of which some present member has a complete copy, or one that was proven; `None` while
    /// one does not say what it has, because it is older.
    pub(super) fn copies(&self) -> Option<Parts> {
        let mut copies = Parts::default();
        for says in self.says.values() {
            copies.add(says.complete.as_ref()?);
            copies.add(&says.proven);
        }
        Some(copies)
    }

    /// What was lost, and nobody has accepted.
    pub(super) fn lost(&self) -> &Parts {
        &self.lost
    }

    /// What members know of losses.
    pub(super) fn losses(&self) -> impl Iterator<Item = &Losses> {
        self.says.values().map(|says| &says.losses)
    }

    /// How many members say that their copy of a part is complete.
    pub(super) fn complete_copies(&self, part: Part) -> usize {
        let complete = self.says.values().map(|says| says.complete.as_ref());
        complete
            .filter(|complete| complete.is_some_and(|parts| parts.contains(part)))
            .count()
    }

    /// Whether there are fewer complete copies of a part than it should have, and could.
    pub(super) fn is_short(&self, part: Part) -> bool {
        self.complete_copies(part) < usize::from(part.0).min(self.members())
    }

    /// A fingerprint of the changes and of who serves a part.
    pub(super) fn view(&self, part: Part) -> u64 {
        let seen = [self.changes, self.holders(part).mark];
        key_hash(seen.map(u64::to_le_bytes).as_flattened())
    }

    fn find(&self, part: Part) -> Holders {
        let (n, partition) = (usize::from(part.0), part.1);
        let list = self.owners.list(partition);
        let owned = &list[..n.min(list.len())];
        let copy = |id: NodeId| {
            let Some(says) = self.says.get(&id) else {
                return Copy::Partial;
            };
            let is_complete = match &says.complete {
                Some(parts) => parts.contains(part),
                None => owned.contains(&id),
            };
            match () {
                () if is_complete => Copy::Complete,
                () if !says.proven.contains(part) => Copy::Partial,
                () if says.proven_as_of == self.changes => Copy::Proven,
                () => Copy::ProvenElsewhere,
            }
        };
        let was_seen_lost = self.lost.contains(part);
        Holders::new(partition, (list, n), was_seen_lost, &self.leaving, copy)
    }

    /// What a member is to own.
    pub(super) fn owned(&self, id: NodeId) -> BTreeSet<Part> {
        let mut owned = BTreeSet::new();
        for partition in 0..self.owners.lists.len() as u16 {
            let list = self.owners.list(partition);
            if let Some(rank) = list.iter().position(|member| *member == id) {
                let sizes = self.sizes.iter().filter(|n| rank < usize::from(**n));
                owned.extend(sizes.map(|n| (*n, partition)));
            }
        }
        owned
    }
}

impl Owners {
    fn of(placed: Vec<Placed>, options: &Options) -> Self {
        let n = usize::from(options.rules.default().n);
        let count = usize::from(options.partitions.count());
        Self {
            table: Table::new(&placed, options.partitions, n),
            placed,
            lists: (0..count).map(|_| OnceLock::new()).collect(),
        }
    }

    fn list(&self, partition: u16) -> &[NodeId] {
        self.lists[usize::from(partition)].get_or_init(|| self.table.preference_list(partition))
    }
}

/// The parts of which nobody has a copy that counts though somebody had, without those whose loss was
/// accepted after it was seen, or of which somebody has put back what there was.
fn lost(says: &BTreeMap<NodeId, Says>, sizes: &[u8]) -> Parts {
    let mut all = Parts::default();
    let losses = || says.values().map(|says| &says.losses);
    for seen in losses().filter(|losses| !losses.lost.is_empty()) {
        let mut lost = seen.lost.clone();
        for accepted in losses().filter(|other| other.accepted_at >= seen.lost_at) {
            lost.remove(&accepted.accepted);
        }
        all.add(&lost);
    }
    if all.is_empty() {
        return all;
    }
    losses().for_each(|losses| all.remove(&losses.restored));
    for says in says.values() {
        all.remove(says.complete.as_ref().unwrap_or(&Parts::default()));
        all.remove(&says.proven);
    }
    all.keep_sizes(sizes);
    all
}

fn says(membership: &Membership) -> BTreeMap<NodeId, Says> {
    let of = |member: &crate::logic::membership::Member| {
        let says = Says {
            zone: member.place().0.to_owned(),
            complete: member.complete.clone(),
            proven: member.proven.clone(),
            proven_as_of: member.proven_as_of,
            losses: member.losses.clone(),
            stops: member.state.stops(),
            leaves: !member.is_placed(),
        };
        (member.id, says)
    };
    membership.present().map(of).collect()
}
