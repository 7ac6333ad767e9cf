//! The member table and its gossip: digest, reply, push.
//!
//! Once a second a node sends another its digest. The other replies with what is newer there, what
//! it wants, and its own heartbeats; the first pushes what was wanted. Heartbeats travel in digests
//! alone, so that a quiet cluster exchanges some fifteen bytes a member and no more.

use std::collections::BTreeMap;

use super::member::{Losses, Member};
use super::parts::Parts;
use crate::logic::placement::{NodeId, Place, Placed};

/// What a node knows about one member, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Which node.
    pub id: NodeId,
    /// Its description's incarnation.
    pub incarnation: u64,
    /// Its description's version.
    pub version: u64,
    /// How often it has been seen to beat in this incarnation.
    pub heartbeat: u64,
    /// The event at which it joined, as far as is known.
    pub joined: u64,
    /// Whether it is known to have left.
    pub left: bool,
    /// A fingerprint of all facts about it; none from a node that does not say it.
    pub facts: Option<u32>,
}

impl Digest {
    fn of(known: &Known) -> Self {
        let member = &known.member;
        Self {
            id: member.id,
            incarnation: member.incarnation,
            version: member.version,
            heartbeat: known.heartbeat,
            joined: member.joined,
            left: member.left.is_some(),
            facts: Some(member.facts() as u32),
        }
    }

    /// Whether the facts in both are the same, as far as both say them.
    fn agrees(&self, other: &Digest) -> bool {
        match (self.facts, other.facts) {
            (Some(a), Some(b)) => a == b,
            _ => (self.joined, self.left) == (other.joined, other.left),
        }
    }

    fn is_newer(&self, than: &Digest) -> bool {
        (self.incarnation, self.version) > (than.incarnation, than.version)
    }
}

/// The answer to a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// What the other knows less well.
    pub newer: Vec<Member>,
    /// What it knows better.
    pub wanted: Vec<NodeId>,
    /// This side's digest, for its heartbeats.
    pub digest: Vec<Digest>,
}

#[derive(Clone, Debug)]
struct Known {
    member: Member,
    heartbeat: u64,
}

/// One node's member table.
#[derive(Clone, Debug)]
pub struct Membership {
    me: NodeId,
    known: BTreeMap<NodeId, Known>,
    /// The incarnation that this node's disk knew before this run.
    noted: u64,
    /// Whether others know of a run that it did not know: the disk is an older copy.
    is_old: bool,
}

impl Membership {
    /// The table of a node that knows itself and perhaps others, from its disk.
    ///
    /// Its own incarnation rises above everything that was written down about it.
    pub fn new(me: Member, others: impl IntoIterator<Item = Member>) -> Self {
        let mut membership = Self {
            me: me.id,
            noted: me.incarnation.saturating_sub(1),
            is_old: false,
            known: BTreeMap::from([(
                me.id,
                Known {
                    member: me,
                    heartbeat: 0,
                },
            )]),
        };
        membership.learn(others);
        membership
    }

    /// This node.
    pub fn me(&self) -> &Member {
        &self.known[&self.me].member
    }

    /// Changes this node's description, except for its id and its place in history.
    pub fn describe(&mut self, change: impl FnOnce(&mut Member)) {
        if let Some(known) = self.known.get_mut(&self.me) {
            change(&mut known.member);
            known.member.version += 1;
        }
    }

    /// One member, also one that has left.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.known.get(&id).map(|known| &known.member)
    }

    /// All members that were ever known, by id.
    pub fn all(&self) -> impl Iterator<Item = &Member> {
        self.known.values().map(|known| &known.member)
    }

    /// The members of the cluster, by id.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        self.all().filter(|member| member.is_present())
    }

    /// The number of a loss that is seen now.
    pub fn next_loss(&self) -> u64 {
        let known = self.all().map(|member| &member.losses);
        let latest = known.map(|losses| losses.lost_at.max(losses.accepted_at));
        latest.max().unwrap_or(0).saturating_add(1)
    }

    /// This node's copies are complete no more: what nobody else has is lost.
    pub fn lose_everything(&mut self) {
        let number = self.next_loss();
        self.describe(|me| {
            let had = me.lose_everything();
            if !had.is_empty() {
                me.losses.lost.add(&had);
                me.losses.lost_at = number;
            }
        });
    }

    /// What placement needs.
    pub fn placed(&self) -> Vec<Placed> {
        self.all().map(Member::placed).collect()
    }

    /// How many joins, changes and leaves are known: of two views the one with more is the better.
    pub fn events(&self) -> u64 {
        let of = |m: &Member| {
            let changes = m.places.len().saturating_sub(1) as u64;
            1 + changes + u64::from(m.left.is_some()) + u64::from(m.gone)
        };
        self.all().map(of).sum()
    }

    /// The ordinal of the next join or leave.
    pub fn next_event(&self) -> u64 {
        let latest = self.all().map(|m| {
            let changed = m.places.last().map_or(0, |place| place.at);
            m.joined.max(m.left.unwrap_or(0)).max(changed)
        });
        latest.max().unwrap_or(0).saturating_add(1)
    }

    /// This node is the first member of a new cluster.
    pub fn found(&mut self) {
        self.describe(|me| *me = first_place(me.clone(), 1));
    }

    /// Takes a newcomer in.
    pub fn admit(&mut self, member: Member) {
        let event = self.next_event();
        self.learn([Member {
            left: None,
            gone: false,
            replaces: None,
            // What it had when it was alone is nothing here.
            complete: Some(Parts::default()),
            proven: Parts::default(),
            losses: Losses::default(),
            ..first_place(member, event)
        }]);
    }

    /// Takes a newcomer in that owns from now on what another member did, who leaves.
    pub fn replace(&mut self, old: NodeId, newcomer: Member) {
        let event = self.next_event();
        self.learn([Member {
            left: None,
            gone: false,
            replaces: Some(old),
            complete: Some(Parts::default()),
            proven: Parts::default(),
            losses: Losses::default(),
            ..first_place(newcomer, event)
        }]);
        if let Some(known) = self.known.get_mut(&old) {
            known.member.left = known.member.left.or(Some(event));
        }
    }

    /// A member leaves: it owns nothing any more; `false` when it did not before.
    pub fn leave(&mut self, id: NodeId) -> bool {
        let event = self.next_event();
        match self.known.get_mut(&id) {
            Some(known) if known.member.is_present() && known.member.is_placed() => {
                known.member.left = Some(event);
                true
            }
            _ => false,
        }
    }

    /// A member is gone: removed, or it has left and holds nothing any more; `false` when it is none.
    pub fn remove(&mut self, id: NodeId) -> bool {
        self.leave(id);
        match self.known.get_mut(&id) {
            Some(known) if known.member.is_present() => {
                known.member.gone = true;
                true
            }
            _ => false,
        }
    }

    /// Members have another zone or weight from now on, all at once; `false`, and nothing is changed, when
    /// one of them is none, or had them before.
    pub fn replant(&mut self, places: &[(NodeId, String, u32)]) -> bool {
        let at = self.next_event();
        let can = |(id, zone, weight): &(NodeId, String, u32)| {
            self.member(*id)
                .is_some_and(|m| m.is_placed() && m.place() != (zone, *weight))
        };
        if !places.iter().all(can) {
            return false;
        }
        for (id, zone, weight) in places {
            let Some(known) = self.known.get_mut(id) else {
                continue;
            };
            let member = &mut known.member;
            if member.places.is_empty() {
                *member = first_place(member.clone(), member.joined);
            }
            member.places.push(Place {
                at,
                zone: zone.clone(),
                weight: *weight,
            });
        }
        true
    }

    /// Counts this node's own heartbeat, once a round.
    pub fn beat(&mut self) {
        if let Some(known) = self.known.get_mut(&self.me) {
            known.heartbeat += 1;
        }
    }

    /// What this node knows, in short.
    pub fn digest(&self) -> Vec<Digest> {
        self.known.values().map(Digest::of).collect()
    }

    /// Answers another's digest. Heartbeats in it are taken by [`Self::hear`].
    pub fn answer(&self, digest: &[Digest]) -> Reply {
        let theirs: BTreeMap<NodeId, &Digest> = digest.iter().map(|d| (d.id, d)).collect();
        let newer = |known: &&Known| {
            theirs.get(&known.member.id).is_none_or(|their| {
                let ours = Digest::of(known);
                ours.is_newer(their) || !ours.agrees(their)
            })
        };
        let wanted = |their: &&Digest| {
            self.known.get(&their.id).is_none_or(|known| {
                let ours = Digest::of(known);
                their.is_newer(&ours) || !ours.agrees(their)
            })
        };
        Reply {
            newer: self
                .known
                .values()
                .filter(newer)
                .map(|k| k.member.clone())
                .collect(),
            wanted: digest.iter().filter(wanted).map(|d| d.id).collect(),
            digest: self.digest(),
        }
    }

    /// What another does not know, for the push: all of it, be it wanted or not. A node that
    /// hears something of one member hears all that this one knew when it said so.
    pub fn push(&self, reply: &Reply) -> Vec<Member> {
        self.answer(&reply.digest).newer
    }

    /// Whether a digest tells of a run of this node that it does not know.
    pub fn is_overtaken(&self, digest: &[Digest]) -> bool {
        let known = &self.known[&self.me];
        let mut of_me = digest.iter().filter(|their| their.id == self.me);
        of_me.any(|their| {
            (their.incarnation, their.heartbeat) > (known.member.incarnation, known.heartbeat)
        })
    }

    /// Takes heartbeats in; returns whose advanced.
    pub fn hear(&mut self, digest: &[Digest]) -> Vec<NodeId> {
        let mut heard = Vec::new();
        for their in digest {
            let Some(ours) = self.known.get_mut(&their.id) else {
                continue;
            };
            if their.id == self.me {
                // A run that is not remembered had this incarnation: its heartbeats are not ours.
                if (their.incarnation, their.heartbeat) > (ours.member.incarnation, ours.heartbeat)
                {
                    ours.member.incarnation = their.incarnation.saturating_add(1);
                    ours.heartbeat = 0;
                    self.is_old = true;
                }
                continue;
            }
            if their.incarnation == ours.member.incarnation && their.heartbeat > ours.heartbeat {
                ours.heartbeat = their.heartbeat;
                heard.push(their.id);
            }
        }
        heard
    }

    /// Joins what another knows; returns whose account changed.
    pub fn learn(&mut self, members: impl IntoIterator<Item = Member>) -> Vec<NodeId> {
        let mut changed = Vec::new();
        for member in members {
            let id = member.id;
            if id == self.me {
                if self.correct(&member) {
                    changed.push(id);
                }
                continue;
            }
            let Some(known) = self.known.get_mut(&id) else {
                let heartbeat = 0;
                self.known.insert(id, Known { member, heartbeat });
                changed.push(id);
                continue;
            };
            let incarnation = known.member.incarnation;
            if known.member.join(&member) {
                changed.push(id);
            }
            if known.member.incarnation != incarnation {
                known.heartbeat = 0;
            }
        }
        changed
    }

    /// Hears about itself: its place in history is taken, a wrong description is overruled.
    fn correct(&mut self, heard: &Member) -> bool {
        let Some(known) = self.known.get_mut(&self.me) else {
            return false;
        };
        let mut mine = known.member.clone();
        mine.take_facts(heard);
        let said = (heard.incarnation, heard.version);
        let own = (mine.incarnation, mine.version);
        let differs = Member {
            joined: mine.joined,
            left: mine.left,
            gone: mine.gone,
            replaces: mine.replaces,
            places: mine.places.clone(),
            // An older node passes on what it understands.
            complete: heard.complete.clone().or_else(|| mine.complete.clone()),
            proven: match heard.complete {
                Some(_) => heard.proven.clone(),
                None => mine.proven.clone(),
            },
            proven_as_of: match heard.complete {
                Some(_) => heard.proven_as_of,
                None => mine.proven_as_of,
            },
            losses: mine.losses.clone(),
            ..heard.clone()
        } != mine;
        self.is_old |= heard.incarnation > self.noted && heard.actor != mine.actor;
        if said > own || (said == own && differs) {
            mine.incarnation = heard.incarnation.saturating_add(1);
            known.heartbeat = 0;
        }
        let changed = mine != known.member;
        known.member = mine;
        changed
    }

    /// Whether this node's disk turned out to be older than what others know of it; said once.
    pub fn take_is_old(&mut self) -> bool {
        std::mem::take(&mut self.is_old)
    }

    /// What this node knows, and of itself what its disk did: a member that knows a later run of it says so.
    pub fn digest_as_noted(&self) -> Vec<Digest> {
        let mut digest = self.digest();
        for of_me in digest.iter_mut().filter(|digest| digest.id == self.me) {
            of_me.incarnation = self.noted;
            of_me.version = u64::MAX;
            of_me.heartbeat = 0;
        }
        digest
    }

    /// Whom to gossip with this round: a random member that answers and, now and then, one that
    /// does not, so that both halves of a healed partition find each other.
    pub fn partners(&self, answers: impl Fn(NodeId) -> bool, random: [u64; 3]) -> Vec<NodeId> {
        let others = || self.present().map(|m| m.id).filter(|id| *id != self.me);
        let (alive, silent): (Vec<_>, Vec<_>) = others().partition(|id| answers(*id));
        let pick = |from: &[NodeId], random: u64| {
            let nth = (random % from.len().max(1) as u64) as usize;
            from.get(nth).copied()
        };
        let mut partners: Vec<NodeId> = pick(&alive, random[0]).into_iter().collect();
        let among = (alive.len() + 1) as u64;
        if random[1] % among < silent.len() as u64 {
            partners.extend(pick(&silent, random[2]));
        }
        partners
    }
}

/// A member that stands where it is configured from an event on.
fn first_place(member: Member, event: u64) -> Member {
    Member {
        joined: event,
        places: vec![Place {
            at: event,
            zone: member.zone.clone(),
            weight: member.weight,
        }],
        ..member
    }
}
