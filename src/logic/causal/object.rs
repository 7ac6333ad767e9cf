//! The object that every key is: a map from element to dotted versions under one context.
//!
//! Not here: what a Redis type makes of it (see `logic::types`) and how it is written down (see
//! `logic::record`). Invariant: every version's dot is in the context; elements and dots ascend.

use bytes::Bytes;
use smallvec::SmallVec;

use super::context::Context;
use super::dot::{ActorId, Dot};
use super::hlc::Timestamp;
use crate::logic::integer;

/// Which Redis type an element belongs to. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A string or counter: one element with an empty name.
    String = 1,
    /// When the key ends, whatever its type: one element with an empty name, which is no value.
    Expiry = 255,
}

/// The name of one part of a key's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The Redis type.
    pub kind: Kind,
    /// Field, member or position; empty for strings.
    pub name: Bytes,
}

/// What a version holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Opaque bytes.
    Bytes(Bytes),
    /// One actor's contribution to a counter.
    Count(Contribution),
    /// A change of the key's expiry to the value's own: the values whose first expiry it replaces,
    /// ascending.
    Deadline(Box<[Dot]>),
    /// What was here has ended and was reclaimed. A copy that still has it may know that it goes on. Of a
    /// contribution it is still known what it was: a write that overwrites it must say so.
    Gone(Option<Contribution>),
}

/// What one actor has added to a counter since its chain began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contribution {
    /// The sum of the chain's increments.
    pub total: i64,
    /// The sequence of the actor's increment that began the chain. A chain ends when somebody
    /// overwrites the contribution and the actor learns of it.
    pub chain: u64,
}

/// What a write that overwrote a contribution had seen of it. An increment beside that write carries
/// the chain's total on: so much of it is gone. The newest of an actor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reset {
    /// Whose contribution.
    pub actor: ActorId,
    /// The sequence of the contribution that was seen.
    pub seq: u64,
    /// Its total.
    pub total: i64,
}

/// A payload and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    /// The content.
    pub payload: Payload,
    /// The last moment that its writer gave the key, in milliseconds since the epoch. What holds
    /// follows from the whole object: [`Object::ends_at_ms`].
    pub expires_at_ms: Option<u64>,
}

/// One value with the event that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The write.
    pub dot: Dot,
    /// When, for display order only.
    pub at: Timestamp,
    /// What.
    pub value: Value,
}

/// The concurrent versions of one element, by ascending dot.
pub type Versions = SmallVec<[Version; 1]>;

/// A causal context and the versions that live under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    pub(super) context: Context,
    cells: SmallVec<[(Element, Versions); 1]>,
    /// By ascending actor.
    resets: Vec<Reset>,
}

impl Element {
    /// The one element of a string.
    pub const STRING: Element = Element {
        kind: Kind::String,
        name: Bytes::new(),
    };

    /// The element of a key's expiry.
    pub const EXPIRY: Element = Element {
        kind: Kind::Expiry,
        name: Bytes::new(),
    };
}

impl Object {
    /// An object from its parts, or `None` when they break the invariant.
    pub fn from_parts(
        context: Context,
        cells: SmallVec<[(Element, Versions); 1]>,
        resets: Vec<Reset>,
    ) -> Option<Self> {
        let ascending = cells.windows(2).all(|w| w[0].0 < w[1].0)
            && resets.windows(2).all(|w| w[0].actor < w[1].actor);
        let cells_hold = cells.iter().all(|(element, versions)| {
            !versions.is_empty()
                && versions.windows(2).all(|w| w[0].dot < w[1].dot)
                && versions
                    .iter()
                    .all(|v| context.contains(v.dot) && fits(element, v))
        });
        (ascending && cells_hold).then_some(Self {
            context,
            cells,
            resets,
        })
    }

    /// What has been seen.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Elements with their versions, ascending.
    pub fn cells(&self) -> &[(Element, Versions)] {
        &self.cells
    }

    /// Whether nothing was ever written here.
    pub fn is_unknown(&self) -> bool {
        self.context.is_empty()
    }

    /// What was overwritten of contributions, by ascending actor.
    pub fn resets(&self) -> &[Reset] {
        &self.resets
    }

    /// A context without values: deleted, ended and reclaimed, or never written.
    pub fn is_tombstone(&self) -> bool {
        self.values().all(|v| v.value.payload.is_gone())
    }

    /// What is left when the key has ended and its values are reclaimed. It has not overwritten them: where
    /// somebody has heard that the key goes on, they live.
    pub fn reclaim(&mut self) {
        for (element, versions) in &mut self.cells {
            if element.kind != Kind::Expiry {
                for version in versions {
                    let contribution = version.value.payload.contribution();
                    version.value.payload = Payload::Gone(contribution);
                }
            }
        }
    }

    /// Whether something of it has ended and was reclaimed.
    pub fn has_gone(&self) -> bool {
        self.values().any(|v| v.value.payload.is_gone())
    }

    /// Whether the key reads as present at a moment.
    pub fn lives(&self, now_ms: u64) -> bool {
        !self.is_tombstone() && !self.is_expired(now_ms)
    }

    /// Whether some element has several base values that had not seen each other; contributions to a
    /// counter are none.
    pub fn has_siblings(&self) -> bool {
        let bases = |versions: &Versions| {
            let payloads = versions.iter().map(|version| &version.value.payload);
            payloads.filter_map(Payload::base).count()
        };
        self.cells.iter().any(|(_, versions)| bases(versions) > 1)
    }

    /// Of the element with the most of them how many different values a reader meets: base values and,
    /// where none is an integer that they are added to, the sum of contributions.
    pub fn distinct_siblings(&self) -> usize {
        let distinct = |versions: &Versions| {
            let payloads = || versions.iter().map(|version| &version.value.payload);
            let mut bases: Vec<&Bytes> = payloads().filter_map(Payload::base).collect();
            let is_counted = payloads().any(|payload| matches!(payload, Payload::Count(_)));
            let adds = is_counted && bases.iter().all(|base| integer::parse(base).is_none());
            bases.sort_unstable();
            bases.dedup();
            bases.len() + usize::from(adds)
        };
        let of_each = self.cells.iter().map(|(_, versions)| distinct(versions));
        of_each.max().unwrap_or(0)
    }

    /// The versions of one element.
    pub fn versions(&self, element: &Element) -> &[Version] {
        self.cells
            .binary_search_by(|(e, _)| e.cmp(element))
            .map_or(&[], |at| self.cells[at].1.as_slice())
    }

    /// All versions of all elements, the expiry's too.
    pub fn all_versions(&self) -> impl Iterator<Item = &Version> {
        self.cells.iter().flat_map(|(_, versions)| versions.iter())
    }

    /// All versions but the expiry's.
    pub fn values(&self) -> impl Iterator<Item = &Version> {
        let values = |(element, _): &&(Element, Versions)| element.kind != Kind::Expiry;
        let cells = self.cells.iter().filter(values);
        cells.flat_map(|(_, versions)| versions.iter())
    }

    /// The key's last moment, in milliseconds since the epoch; `None` when it never ends, and where
    /// there is no value.
    ///
    /// Every value says when it ends, until an EXPIRE or PERSIST that has seen it says otherwise. Of
    /// concurrent words the latest moment holds, and never is later than any. Increments say nothing.
    pub fn ends_at_ms(&self) -> Option<u64> {
        if let [(_, versions)] = self.cells.as_slice()
            && let [version] = versions.as_slice()
        {
            return version.value.expires_at_ms.filter(|_| !self.is_tombstone());
        }
        if self.is_tombstone() {
            return None;
        }
        let changes = self.versions(&Element::EXPIRY);
        let is_replaced = |dot: &Dot| {
            changes.iter().any(|change| match &change.value.payload {
                Payload::Deadline(over) => over.binary_search(dot).is_ok(),
                Payload::Bytes(_) | Payload::Count(_) | Payload::Gone(_) => false,
            })
        };
        let says = |v: &&Version| match &v.value.payload {
            Payload::Bytes(_) => !is_replaced(&v.dot),
            // What an older build has written says it.
            Payload::Count(_) | Payload::Gone(_) => {
                v.value.expires_at_ms.is_some() && !is_replaced(&v.dot)
            }
            Payload::Deadline(_) => true,
        };
        let mut words = self
            .all_versions()
            .filter(says)
            .map(|v| v.value.expires_at_ms);
        let first = words.next()??;
        words.try_fold(first, |latest, at| at.map(|at| latest.max(at)))
    }

    /// Whether the key reads as absent at `now_ms` because its time is over.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.ends_at_ms().is_some_and(|at| at < now_ms)
    }

    /// What is left of a contribution: its total, less what a write beside it had overwritten.
    pub fn left_of(&self, actor: ActorId, contribution: Contribution) -> i128 {
        let reset = self.reset_of(actor);
        let gone = reset.filter(|reset| contribution.chain <= reset.seq);
        i128::from(contribution.total) - gone.map_or(0, |reset| i128::from(reset.total))
    }

    /// The resets that take something from a contribution that lives.
    pub fn live_resets(&self) -> Vec<Reset> {
        if self.resets.is_empty() {
            return Vec::new();
        }
        let chains = self.chains();
        let live = self.resets.iter().filter(|reset| is_live(&chains, reset));
        live.copied().collect()
    }

    /// Forgets resets of chains that have ended, where the caller knows that all have.
    pub fn forget_resets(&mut self) {
        if !self.resets.is_empty() {
            self.resets = self.live_resets();
        }
    }

    pub(super) fn contributions(&self, but: Option<ActorId>) -> impl Iterator<Item = Reset> {
        let others = self
            .all_versions()
            .filter(move |v| Some(v.dot.actor) != but);
        others.filter_map(|version| {
            let contribution = version.value.payload.contribution()?;
            Some(Reset {
                actor: version.dot.actor,
                seq: version.dot.seq,
                total: contribution.total,
            })
        })
    }

    /// Of every actor that contributes the chain that began first.
    fn chains(&self) -> Vec<(ActorId, u64)> {
        let chain = |version: &Version| {
            let contribution = version.value.payload.contribution()?;
            Some((version.dot.actor, contribution.chain))
        };
        let mut chains: Vec<(ActorId, u64)> = self.all_versions().filter_map(chain).collect();
        chains.sort_unstable();
        chains.dedup_by_key(|(actor, _)| *actor);
        chains
    }

    fn unite_resets(&mut self, others: &[Reset]) {
        if self.resets.is_empty() {
            self.resets = others.to_vec();
            return;
        }
        if others.is_empty() {
            return;
        }
        self.resets.extend_from_slice(others);
        // The newest of an actor comes first.
        self.resets
            .sort_by_key(|reset| (reset.actor, std::cmp::Reverse(reset.seq)));
        self.resets.dedup_by_key(|reset| reset.actor);
    }

    fn reset_of(&self, actor: ActorId) -> Option<&Reset> {
        let at = self.resets.binary_search_by_key(&actor, |r| r.actor);
        at.ok().map(|at| &self.resets[at])
    }

    pub(super) fn reset(&mut self, reset: Reset) {
        match self.resets.binary_search_by_key(&reset.actor, |r| r.actor) {
            Ok(at) if self.resets[at].seq < reset.seq => self.resets[at] = reset,
            Ok(_) => {}
            Err(at) => self.resets.insert(at, reset),
        }
    }

    /// Joins with another state or delta of the same key.
    ///
    /// A version survives when both sides hold it, or when one holds it and the other has not seen
    /// its dot. Contexts are united.
    pub fn join(&mut self, other: Object) {
        for (element, versions) in &mut self.cells {
            versions.retain(|version| other.keeps(element, version));
        }
        if self.has_gone() {
            self.take_back(&other);
        }
        for (element, theirs) in other.cells {
            let unseen = |version: &Version| !self.context.contains(version.dot);
            let fresh: Versions = theirs.into_iter().filter(unseen).collect();
            self.insert_all(element, fresh);
        }
        self.cells.retain(|(_, versions)| !versions.is_empty());
        self.context.join(&other.context);
        self.unite_resets(&other.resets);
    }

    /// The join with a delta, without copying the versions that it overwrites.
    #[must_use]
    pub fn joined(&self, delta: Object) -> Object {
        let surviving = |(element, versions): &(Element, Versions)| {
            let versions = versions.iter().filter(|v| delta.keeps(element, v));
            let versions: Versions = versions.cloned().collect();
            (!versions.is_empty()).then(|| (element.clone(), versions))
        };
        let mut object = Object {
            context: self.context.clone(),
            cells: self.cells.iter().filter_map(surviving).collect(),
            resets: self.resets.clone(),
        };
        object.join(delta);
        object
    }

    /// Whether a version survives a join with this object.
    fn keeps(&self, element: &Element, version: &Version) -> bool {
        !self.context.contains(version.dot) || holds(self.versions(element), version.dot)
    }

    /// Drops every version at or below the floor's sequence for its actor (FLUSHDB, FLUSHALL).
    pub fn sink_below(&mut self, floor: &Context) {
        self.retain_versions(|v| !floor.contains(v.dot));
    }

    /// Keeps some versions; what was seen stays seen.
    pub fn retain_versions(&mut self, mut keep: impl FnMut(&Version) -> bool) {
        for (_, versions) in &mut self.cells {
            versions.retain(|version| keep(version));
        }
        self.cells.retain(|(_, versions)| !versions.is_empty());
    }

    /// Forgets having seen the writes of some actors, but for those that live here.
    pub fn forget_actors(&mut self, is_retired: impl Fn(ActorId) -> bool) {
        let mut living: SmallVec<[ActorId; 4]> = self
            .all_versions()
            .map(|version| version.dot.actor)
            .collect();
        living.sort_unstable();
        let lives = |actor| living.binary_search(&actor).is_ok();
        self.context
            .retain(|actor| !is_retired(actor) || lives(actor));
        if !self.resets.is_empty() {
            let live = self.chains();
            self.resets
                .retain(|reset| !is_retired(reset.actor) || is_live(&live, reset));
        }
    }

    /// Takes over what another knows of overwritten contributions.
    pub fn take_resets(&mut self, other: &Object) {
        self.unite_resets(&other.resets);
    }

    /// Also sees what another has seen: what is not here was overwritten.
    pub fn observe(&mut self, seen: impl IntoIterator<Item = Dot>) {
        let mut dots: SmallVec<[Dot; 4]> = seen.into_iter().collect();
        dots.sort_unstable();
        let mut context = Context::new();
        dots.into_iter().for_each(|dot| context.insert(dot));
        self.context.join(&context);
    }

    /// The same versions, having seen nothing else.
    #[must_use]
    pub fn bare(&self) -> Object {
        let mut context = Context::new();
        for version in self.all_versions() {
            context.insert(version.dot);
        }
        Object {
            context,
            cells: self.cells.clone(),
            resets: self.live_resets(),
        }
    }

    /// What was reclaimed here and another still has is here again.
    fn take_back(&mut self, other: &Object) {
        for (element, versions) in &mut self.cells {
            let theirs = other.versions(element);
            let gone = versions.iter_mut();
            for version in gone.filter(|v| v.value.payload.is_gone()) {
                let at = theirs.binary_search_by_key(&version.dot, |v| v.dot);
                if let Ok(at) = at
                    && theirs[at].value.payload != Payload::Gone(None)
                {
                    version.value = theirs[at].value.clone();
                }
            }
        }
    }

    /// Puts versions that are not there, in the order of their dots, among those of an element.
    fn insert_all(&mut self, element: Element, fresh: Versions) {
        if fresh.is_empty() {
            return;
        }
        match self.cells.binary_search_by(|(e, _)| e.cmp(&element)) {
            Err(at) => self.cells.insert(at, (element, fresh)),
            Ok(at) => {
                let ours = &mut self.cells[at].1;
                if ours.is_empty() {
                    *ours = fresh;
                    return;
                }
                if fresh.len() == 1 {
                    for version in fresh {
                        self.insert(&element, version);
                    }
                    return;
                }
                let mut both: Vec<Version> = ours.drain(..).chain(fresh).collect();
                // Two runs in order: merging them is linear.
                both.sort_by_key(|version| version.dot);
                both.dedup_by_key(|version| version.dot);
                *ours = both.into();
            }
        }
    }

    pub(super) fn insert(&mut self, element: &Element, version: Version) {
        let at = match self.cells.binary_search_by(|(e, _)| e.cmp(element)) {
            Ok(at) => at,
            Err(at) => {
                self.cells.insert(at, (element.clone(), Versions::new()));
                at
            }
        };
        let versions = &mut self.cells[at].1;
        if let Err(place) = versions.binary_search_by_key(&version.dot, |v| v.dot) {
            versions.insert(place, version);
        }
    }
}

fn is_live(chains: &[(ActorId, u64)], reset: &Reset) -> bool {
    let at = chains.binary_search_by_key(&reset.actor, |(actor, _)| *actor);
    at.is_ok_and(|at| chains[at].1 <= reset.seq)
}

/// Whether a dot is among some versions of one element.
pub fn holds(versions: &[Version], dot: Dot) -> bool {
    versions
        .binary_search_by_key(&dot, |version| version.dot)
        .is_ok()
}

/// Whether an element can hold such a version.
fn fits(element: &Element, version: &Version) -> bool {
    match &version.value.payload {
        Payload::Bytes(_) | Payload::Gone(None) => element.kind != Kind::Expiry,
        Payload::Count(Contribution { chain, .. })
        | Payload::Gone(Some(Contribution { chain, .. })) => {
            element.kind != Kind::Expiry && (1..=version.dot.seq).contains(chain)
        }
        Payload::Deadline(over) => {
            *element == Element::EXPIRY && over.windows(2).all(|w| w[0] < w[1])
        }
    }
}

impl Payload {
    /// Whether it has ended and was reclaimed.
    pub fn is_gone(&self) -> bool {
        matches!(self, Payload::Gone(_))
    }

    /// The bytes of a base value; a contribution to a counter is none.
    pub fn base(&self) -> Option<&Bytes> {
        match self {
            Payload::Bytes(bytes) => Some(bytes),
            Payload::Count(_) | Payload::Deadline(_) | Payload::Gone(_) => None,
        }
    }

    /// What it adds, or added, to a counter.
    pub fn contribution(&self) -> Option<Contribution> {
        match self {
            Payload::Count(contribution) => Some(*contribution),
            Payload::Gone(contribution) => *contribution,
            Payload::Bytes(_) | Payload::Deadline(_) => None,
        }
    }
}
