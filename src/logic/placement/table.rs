//! Which members own which partition: a pure function of the membership.
//!
//! Members carry the ordinal at which they joined and, when they have left, the one at which they
//! left; in between their weight or zone may have changed. The table is what these events make of
//! it, replayed in order: the newcomer takes its fair share and nothing else moves, or all places of
//! the one that it replaces; a leaver's partitions go to those who are below their share. So
//! every node computes the same table from the same members, loads differ from the fair share by
//! less than one partition, and a join or a leave moves the minimum. Why not from the present
//! members alone: no such function is both balanced and still (docs/adr/0003).
//!
//! Invariant: the owners of a partition are distinct; there are N of them, or all members if those
//! are fewer.

use std::collections::BTreeSet;

use super::shares::{Share, fair_shares};
use super::slot::Partitions;

/// The name of a node: random, given at its first start, kept in its data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A member as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which node.
    pub id: NodeId,
    /// What fails together in the small: owners are on distinct machines where there are enough.
    pub machine: String,
    /// What fails together in the large: owners are in distinct zones where there are enough.
    pub zone: String,
    /// Its share of the data relative to the others', at least 1.
    pub weight: u32,
    /// The event at which it joined; unique but for events that did not know of each other.
    pub joined: u64,
    /// The event at which it left.
    pub left: Option<u64>,
    /// Whose places it took when it joined.
    pub replaces: Option<NodeId>,
    /// What was changed since it joined, by event.
    pub changes: Vec<Place>,
}

/// Where a member stands from an event on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The event.
    pub at: u64,
    /// Its zone.
    pub zone: String,
    /// Its weight.
    pub weight: u32,
}

/// The owners of every partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    members: Vec<NodeId>,
    /// How many partitions each of them is to own.
    shares: Vec<usize>,
    /// By partition: owners by descending score. The first is the coordinator.
    owners: Vec<Vec<NodeId>>,
}

impl Table {
    /// The table of these members, given in any order, with `n` owners a partition.
    pub fn new(members: &[Placed], partitions: Partitions, n: usize) -> Self {
        let mut replay = Replay::new(partitions, n.max(1));
        let mut events = events(members).into_iter().peekable();
        while let Some(event) = events.next() {
            match event {
                Event::Join(member) => replay.join(member),
                Event::Change(id, place) => {
                    // What changed at once settles at once, or copies would move to and fro.
                    let mut changed = vec![(id, place)];
                    while let Some(&Event::Change(id, next)) = events.peek()
                        && next.at == place.at
                    {
                        changed.push((id, next));
                        events.next();
                    }
                    replay.change(&changed);
                }
                Event::Leave(member) => replay.leave(member.id),
            }
            replay.separate();
        }
        replay.finish()
    }

    /// The members that own partitions, ascending.
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// The owners of a partition, the coordinator first.
    pub fn owners(&self, partition: u16) -> &[NodeId] {
        &self.owners[usize::from(partition)]
    }

    /// All members in the order in which they are asked: owners, then fallbacks.
    pub fn preference_list(&self, partition: u16) -> Vec<NodeId> {
        let owners = self.owners(partition);
        let mut rest: Vec<NodeId> = self
            .members
            .iter()
            .copied()
            .filter(|id| !owners.contains(id))
            .collect();
        sort_by_rank(&mut rest, partition);
        [owners, &rest].concat()
    }

    /// How many partitions a node owns.
    pub fn load(&self, id: NodeId) -> usize {
        self.owners
            .iter()
            .filter(|owners| owners.contains(&id))
            .count()
    }

    /// How many it is to own, by its weight and its zone. It owns another number only where the others'
    /// shares leave no choice.
    pub fn share(&self, id: NodeId) -> usize {
        let nth = self.members.iter().position(|member| *member == id);
        nth.map_or(0, |nth| self.shares[nth])
    }

    /// How many ownerships are in this table and not in the one before.
    pub fn moved_from(&self, before: &Table) -> usize {
        let gained = |(now, then): (&Vec<NodeId>, &Vec<NodeId>)| {
            now.iter().filter(|id| !then.contains(id)).count()
        };
        self.owners.iter().zip(&before.owners).map(gained).sum()
    }
}

enum Event<'a> {
    Join(&'a Placed),
    Change(NodeId, &'a Place),
    Leave(&'a Placed),
}

fn events(members: &[Placed]) -> Vec<Event<'_>> {
    let mut events: Vec<((u64, u8, NodeId), Event<'_>)> = Vec::new();
    for member in members {
        let id = member.id;
        events.push(((member.joined, 0, id), Event::Join(member)));
        for place in &member.changes {
            let at = place.at.max(member.joined);
            events.push(((at, 1, id), Event::Change(id, place)));
        }
        if let Some(left) = member.left {
            let at = left.max(member.joined);
            events.push(((at, 2, id), Event::Leave(member)));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}

/// How much a partition likes a node: rendezvous hashing (Thaler and Ravishankar, 1998) by
/// murmur3's finaliser over both numbers.
fn score(id: NodeId, partition: u16) -> u64 {
    mix(id.0 ^ mix(u64::from(partition) + 1))
}

/// Puts nodes into the order in which a partition likes them.
pub fn sort_by_rank(nodes: &mut [NodeId], partition: u16) {
    nodes.sort_by_key(|&id| std::cmp::Reverse(score(id, partition)));
}

fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

struct Holder<'a> {
    member: &'a Placed,
    zone: &'a str,
    weight: u32,
    load: usize,
    target: usize,
}

impl Holder<'_> {
    fn excess(&self) -> usize {
        self.load.saturating_sub(self.target)
    }

    fn room(&self) -> usize {
        self.target.saturating_sub(self.load)
    }
}

/// How strictly owners are kept apart. Each step is tried for all partitions before the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apart {
    ZonesAndMachines,
    Machines,
    Anyhow,
}

/// How often owners are parted after an event: one exchange may make the next one possible.
const MOST_PASSES: usize = 16;
/// Partitions for which nobody to exchange with was found: after so many no more are tried.
const MOST_FAILURES: usize = 64;

/// What became of a partition whose owners may be too near to each other.
enum Parted {
    Already,
    Now,
    Not,
}

const STRICTEST_FIRST: [Apart; 3] = [Apart::ZonesAndMachines, Apart::Machines, Apart::Anyhow];

/// The table while events are replayed. Owners are places in `holders`.
struct Replay<'a> {
    partitions: u16,
    n: usize,
    holders: Vec<Holder<'a>>,
    owners: Vec<Vec<usize>>,
    /// Partitions whose owners may not be as far apart as they should be.
    crowded: BTreeSet<usize>,
    /// How many owners of one partition a zone has to take, and had to when owners were parted last.
    in_a_zone: usize,
    in_a_zone_before: usize,
}

impl<'a> Replay<'a> {
    fn new(partitions: Partitions, n: usize) -> Self {
        let count = partitions.count();
        Self {
            partitions: count,
            n,
            holders: Vec::new(),
            owners: vec![Vec::new(); usize::from(count)],
            crowded: BTreeSet::new(),
            in_a_zone: n,
            in_a_zone_before: n,
        }
    }

    fn join(&mut self, member: &'a Placed) {
        if self.place_of(member.id).is_some() {
            return;
        }
        let before = member.replaces;
        let replaced = before.and_then(|id| self.place_of(id));
        if let Some(replaced) = replaced {
            return self.replace(replaced, member);
        }
        let newcomer = self.holders.len();
        self.holders.push(Holder {
            member,
            zone: &member.zone,
            weight: member.weight,
            load: 0,
            target: 0,
        });
        self.set_targets();
        if newcomer < self.n {
            // Fewer members than owners: everybody owns everything.
            self.owners
                .iter_mut()
                .for_each(|owners| owners.push(newcomer));
            self.holders[newcomer].load = self.owners.len();
            self.crowded.extend(0..self.owners.len());
            return;
        }
        for apart in STRICTEST_FIRST {
            self.take_from_those_above(newcomer, apart);
        }
        if self.holders[newcomer].room() > 0 {
            self.take_from_anybody(newcomer);
        }
        self.level_by_chains();
    }

    /// A zone's first member may have to own what no member above its share gives: another does, which
    /// takes another partition instead.
    fn take_from_anybody(&mut self, newcomer: usize) {
        for partition in 0..self.owners.len() {
            if self.holders[newcomer].room() == 0 {
                break;
            }
            let crowds = |o: &usize| !self.fits(*o, partition, Some(*o), Apart::ZonesAndMachines);
            let donor = self.owners[partition].iter().copied().find(crowds);
            if let Some(donor) =
                donor.filter(|&o| self.fits(newcomer, partition, Some(o), Apart::ZonesAndMachines))
            {
                self.hand_over(partition, donor, newcomer);
            }
        }
        self.level();
    }

    /// A member below its share takes from those above theirs.
    fn level(&mut self) {
        for apart in STRICTEST_FIRST {
            for taker in 0..self.holders.len() {
                self.take_from_those_above(taker, apart);
            }
        }
    }

    /// A member below its share may own already whatever those above theirs do: a third member takes that,
    /// and gives up another partition in turn.
    fn level_by_chains(&mut self) {
        for apart in STRICTEST_FIRST {
            for taker in 0..self.holders.len() {
                while self.holders[taker].room() > 0 && self.takes_by_a_chain(taker, apart) {}
            }
        }
    }

    fn takes_by_a_chain(&mut self, taker: usize, apart: Apart) -> bool {
        let above: Vec<usize> = (0..self.holders.len())
            .filter(|&h| self.holders[h].excess() > 0)
            .collect();
        for donor in above {
            for middle in (0..self.holders.len()).filter(|&h| h != donor && h != taker) {
                let given = |from: usize, to: usize| {
                    let mut all = 0..self.owners.len();
                    all.find(|&p| {
                        self.owners[p].contains(&from) && self.fits(to, p, Some(from), apart)
                    })
                };
                if let (Some(first), Some(second)) = (given(donor, middle), given(middle, taker)) {
                    self.hand_over(first, donor, middle);
                    self.hand_over(second, middle, taker);
                    self.crowded.extend([first, second]);
                    return true;
                }
            }
        }
        false
    }

    fn place_of(&self, id: NodeId) -> Option<usize> {
        self.holders.iter().position(|h| h.member.id == id)
    }

    /// The newcomer owns what the other one did, and nothing else moves but what their weights ask for.
    fn replace(&mut self, nth: usize, member: &'a Placed) {
        let holder = &mut self.holders[nth];
        let differ = (holder.zone, holder.weight, &holder.member.machine)
            != (&*member.zone, member.weight, &member.machine);
        holder.member = member;
        (holder.zone, holder.weight) = (&member.zone, member.weight);
        if differ {
            self.settle(&[nth]);
        }
    }

    fn change(&mut self, changes: &[(NodeId, &'a Place)]) {
        let mut changed = Vec::new();
        for &(id, place) in changes {
            if let Some(nth) = self.place_of(id) {
                let holder = &mut self.holders[nth];
                (holder.zone, holder.weight) = (&place.zone, place.weight);
                changed.push(nth);
            }
        }
        self.settle(&changed);
    }

    /// Members' zones or weights are others: shares follow, and owners are kept apart again.
    fn settle(&mut self, changed: &[usize]) {
        let owns = |p: &usize| self.owners[*p].iter().any(|owner| changed.contains(owner));
        let owned: Vec<usize> = (0..self.owners.len()).filter(owns).collect();
        self.crowded.extend(owned);
        self.set_targets();
        if self.holders.len() <= self.n {
            return;
        }
        self.level();
        for nth in 0..self.holders.len() {
            if self.holders[nth].room() > 0 {
                self.take_from_anybody(nth);
            }
        }
        self.level_by_chains();
    }

    fn leave(&mut self, id: NodeId) {
        let Some(gone) = self.place_of(id) else {
            return;
        };
        self.holders.remove(gone);
        let mut vacant = Vec::new();
        for (partition, owners) in self.owners.iter_mut().enumerate() {
            let before = owners.len();
            owners.retain(|&owner| owner != gone);
            if owners.len() < before {
                vacant.push(partition);
            }
            for owner in owners.iter_mut().filter(|owner| **owner > gone) {
                *owner -= 1;
            }
        }
        self.set_targets();
        if self.holders.len() < self.n {
            return;
        }
        for apart in STRICTEST_FIRST {
            vacant.retain(|&partition| !self.fill(partition, apart));
        }
        for partition in vacant {
            self.fill_by_a_chain(partition);
        }
        self.level_by_chains();
    }

    /// Where the newcomer is liked best comes first; a partition gives one place at most.
    fn take_from_those_above(&mut self, newcomer: usize, apart: Apart) {
        let id = self.holders[newcomer].member.id;
        let mut offered: Vec<usize> = (0..self.owners.len())
            .filter(|&p| self.owners[p].iter().any(|&o| self.holders[o].excess() > 0))
            .filter(|&p| !self.owners[p].contains(&newcomer))
            .collect();
        offered.sort_unstable_by_key(|&p| std::cmp::Reverse(score(id, p as u16)));
        for partition in offered {
            if self.holders[newcomer].room() == 0 {
                return;
            }
            let donors = self.owners[partition].iter().copied();
            let donor = donors
                .filter(|&o| self.holders[o].excess() > 0)
                .filter(|&o| self.fits(newcomer, partition, Some(o), apart))
                .max_by_key(|&o| {
                    let holder = &self.holders[o];
                    // Of two the one who stands too near to another owner.
                    let crowds = !self.fits(o, partition, Some(o), Apart::ZonesAndMachines);
                    let tie = mix(holder.member.id.0 ^ partition as u64);
                    (crowds, holder.excess(), tie)
                });
            if let Some(donor) = donor {
                self.hand_over(partition, donor, newcomer);
                if apart != Apart::ZonesAndMachines {
                    self.crowded.insert(partition);
                }
            }
        }
    }

    fn hand_over(&mut self, partition: usize, from: usize, to: usize) {
        for owner in &mut self.owners[partition] {
            if *owner == from {
                *owner = to;
            }
        }
        self.holders[from].load -= 1;
        self.holders[to].load += 1;
    }

    /// Gives a vacant place to a member below its share.
    fn fill(&mut self, partition: usize, apart: Apart) -> bool {
        let taker = (0..self.holders.len())
            .filter(|&h| self.holders[h].room() > 0)
            .filter(|&h| self.fits(h, partition, None, apart))
            .max_by_key(|&h| {
                let holder = &self.holders[h];
                (holder.room(), score(holder.member.id, partition as u16))
            });
        let Some(taker) = taker else { return false };
        if apart != Apart::ZonesAndMachines {
            self.crowded.insert(partition);
        }
        self.owners[partition].push(taker);
        self.holders[taker].load += 1;
        true
    }

    /// Everybody with room owns the partition already: somebody else takes it and gives up another
    /// one in turn, which is one move more than the minimum.
    fn fill_by_a_chain(&mut self, partition: usize) {
        for middle in 0..self.holders.len() {
            if !self.fits(middle, partition, None, Apart::Anyhow) {
                continue;
            }
            let swap = (0..self.owners.len())
                .filter(|&p| self.owners[p].contains(&middle))
                .find_map(|p| {
                    let taker = (0..self.holders.len())
                        .find(|&h| self.holders[h].room() > 0 && !self.owners[p].contains(&h))?;
                    Some((p, taker))
                });
            if let Some((other, taker)) = swap {
                self.hand_over(other, middle, taker);
                self.crowded.extend([other, partition]);
                self.owners[partition].push(middle);
                self.holders[middle].load += 1;
                return;
            }
        }
    }

    /// Whether a member may own a partition, in the place of `instead_of` if that is given.
    fn fits(&self, who: usize, partition: usize, instead_of: Option<usize>, apart: Apart) -> bool {
        let others = || {
            let owners = self.owners[partition].iter().copied();
            owners.filter(move |&o| Some(o) != instead_of)
        };
        if others().any(|o| o == who) {
            return false;
        }
        let Holder { member, zone, .. } = self.holders[who];
        let same_machine = |o: usize| self.holders[o].member.machine == member.machine;
        let same_zone = |o: &usize| self.holders[*o].zone == zone;
        match apart {
            Apart::Anyhow => true,
            Apart::Machines => !others().any(same_machine),
            Apart::ZonesAndMachines => {
                !others().any(same_machine) && others().filter(same_zone).count() < self.in_a_zone
            }
        }
    }

    /// Where a newcomer makes it possible, owners that had to be together are parted, by exchanges
    /// that leave all loads as they are.
    fn separate(&mut self) {
        let mut machines: Vec<&str> = self
            .holders
            .iter()
            .map(|h| h.member.machine.as_str())
            .collect();
        machines.sort_unstable();
        machines.dedup();
        if machines.len() < self.n {
            return;
        }
        if std::mem::replace(&mut self.in_a_zone_before, self.in_a_zone) > self.in_a_zone {
            // What was apart enough with fewer zones is not any more.
            self.crowded.extend(0..self.owners.len());
        }
        let mut failures = 0;
        for _ in 0..MOST_PASSES {
            let mut exchanged = false;
            for apart in [Apart::ZonesAndMachines, Apart::Machines] {
                let crowded: Vec<usize> = std::mem::take(&mut self.crowded).into_iter().collect();
                for partition in crowded {
                    if failures < MOST_FAILURES {
                        match self.part(partition, apart) {
                            Parted::Already if apart == Apart::ZonesAndMachines => continue,
                            Parted::Already => {}
                            Parted::Not => failures += 1,
                            Parted::Now => exchanged = true,
                        }
                    }
                    self.crowded.insert(partition);
                }
            }
            if !exchanged {
                return;
            }
        }
    }

    /// Parts a partition's owners, by an exchange with another one if need be.
    fn part(&mut self, partition: usize, apart: Apart) -> Parted {
        let owners = self.owners[partition].iter().copied();
        let crowding: Vec<usize> = owners
            .filter(|&o| !self.fits(o, partition, Some(o), apart))
            .collect();
        if crowding.is_empty() {
            return Parted::Already;
        }
        for crowding in crowding {
            let partner = (0..self.owners.len()).find_map(|other| {
                let fits_there = |owner: usize| {
                    self.fits(owner, partition, Some(crowding), apart)
                        && self.fits(crowding, other, Some(owner), apart)
                };
                let mut owners = self.owners[other].iter().copied();
                Some((other, owners.find(|&o| fits_there(o))?))
            });
            if let Some((other, owner)) = partner {
                self.hand_over(other, owner, crowding);
                self.hand_over(partition, crowding, owner);
                return Parted::Now;
            }
        }
        Parted::Not
    }

    fn set_targets(&mut self) {
        let mut zones: Vec<&str> = self.holders.iter().map(|h| h.zone).collect();
        zones.sort_unstable();
        zones.dedup();
        self.in_a_zone = self.n.div_ceil(zones.len().max(1));
        let shares: Vec<Share<'_>> = self
            .holders
            .iter()
            .map(|h| Share {
                zone: h.zone,
                weight: h.weight.max(1),
                load: h.load,
                tie: mix(h.member.id.0),
            })
            .collect();
        let targets = fair_shares(&shares, usize::from(self.partitions), self.n);
        for (holder, target) in self.holders.iter_mut().zip(targets) {
            holder.target = target;
        }
    }

    fn finish(self) -> Table {
        let id = |holder: &usize| self.holders[*holder].member.id;
        let ranked = |(partition, owners): (usize, &Vec<usize>)| {
            let mut owners: Vec<NodeId> = owners.iter().map(id).collect();
            owners.sort_by_key(|&id| std::cmp::Reverse(score(id, partition as u16)));
            owners
        };
        let holders = self.holders.iter();
        let mut members: Vec<_> = holders.map(|h| (h.member.id, h.target)).collect();
        members.sort_unstable();
        let (members, shares) = members.into_iter().unzip();
        Table {
            owners: self.owners.iter().enumerate().map(ranked).collect(),
            members,
            shares,
        }
    }
}
