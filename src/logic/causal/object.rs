//! The object that every key is: a map from element to dotted versions under one context.
//!
//! Not here: what a Redis type makes of it (see `logic::types`) and how it is written down (see
//! `logic::record`). Invariant: every version's dot is in the context; elements and dots ascend.

use bytes::Bytes;
use smallvec::SmallVec;

use super::context::Context;
use super::dot::{ActorId, Dot};
use super::rest::Rest;
use super::version::{
    Cells, Contribution, Element, Kind, Payload, Reset, Version, Versions, fits, holds,
};
use crate::logic::integer;

/// So many elements are put among others one by one.
const FEW: usize = 4;

/// A causal context and the versions that live under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    pub(super) context: Context,
    pub(super) cells: Cells,
    /// By ascending element and actor.
    resets: Vec<Reset>,
    /// What is known of elements that are not at hand; none where all are.
    pub(super) rest: Option<Box<Rest>>,
}

impl Object {
    /// An object from its parts, or `None` when they break the invariant.
    pub fn from_parts(context: Context, cells: Cells, resets: Vec<Reset>) -> Option<Self> {
        let ascending = cells.windows(2).all(|w| w[0].0 < w[1].0)
            && resets.windows(2).all(|w| w[0].place() < w[1].place());
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
            rest: None,
        })
    }

    /// What has been seen.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Elements that are at hand with their versions, ascending.
    pub fn cells(&self) -> &[(Element, Versions)] {
        &self.cells
    }

    /// The elements of a kind with their versions, ascending.
    pub fn cells_of(&self, kind: Kind) -> &[(Element, Versions)] {
        let start = self.cells.partition_point(|(e, _)| e.kind < kind);
        let end = self.cells.partition_point(|(e, _)| e.kind <= kind);
        &self.cells[start..end]
    }

    /// Whether nothing was ever written here.
    pub fn is_unknown(&self) -> bool {
        self.context.is_empty()
    }

    /// What was overwritten of contributions, by ascending element and actor.
    pub fn resets(&self) -> &[Reset] {
        &self.resets
    }

    /// A context without values: deleted, ended and reclaimed, or never written.
    pub fn is_tombstone(&self) -> bool {
        self.rest().is_none_or(|rest| rest.all_there() == 0)
            && self.values().all(|v| v.value.payload.is_gone())
    }

    /// What is left when the key has ended and its values are reclaimed. It has not overwritten them: where
    /// somebody has heard that the key goes on, they live.
    pub fn reclaim(&mut self) {
        debug_assert!(self.is_whole(), "all of it ends");
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
        self.rest().is_some_and(|rest| rest.gone > 0)
            || self.values().any(|v| v.value.payload.is_gone())
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
        let mut cells = self.cells.iter();
        self.rest().is_some_and(|rest| rest.conflicted > 0)
            || cells.any(|(e, versions)| !e.kind.is_one_by_itself() && bases(versions) > 1)
            || self.has_several_kinds()
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
        debug_assert!(self.is_whole(), "any of them may have the most");
        let has_values = |(e, _): &&(Element, Versions)| !e.kind.is_one_by_itself();
        let cells = self.cells.iter().filter(has_values);
        cells
            .map(|(_, versions)| distinct(versions))
            .max()
            .unwrap_or(0)
    }

    /// The versions of one element, where it is at hand.
    pub fn versions(&self, element: &Element) -> &[Version] {
        self.cells
            .binary_search_by(|(e, _)| e.cmp(element))
            .map_or(&[], |at| self.cells[at].1.as_slice())
    }

    /// All versions of all elements that are at hand, the expiry's too.
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
    /// Every string says when it ends, until an EXPIRE or PERSIST that has seen it says otherwise. Of
    /// concurrent words the latest moment holds, and never is later than any. Increments say nothing, nor
    /// do elements of collections.
    pub fn ends_at_ms(&self) -> Option<u64> {
        if let [(element, versions)] = self.cells.as_slice()
            && let [version] = versions.as_slice()
            && self.is_whole()
        {
            let says = element.kind == Kind::String && !self.is_tombstone();
            return version.value.expires_at_ms.filter(|_| says);
        }
        let changes = self.versions(&Element::EXPIRY);
        let strings = self.versions(&Element::STRING);
        // What a string says of itself is no word on elements that have not met it.
        let no_word = changes.is_empty() && (strings.is_empty() || self.has_several_kinds());
        if no_word || self.is_tombstone() {
            return None;
        }
        let is_replaced = |dot: &Dot| {
            changes.iter().any(|change| match &change.value.payload {
                Payload::Deadline(over) => over.contains(*dot),
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
        let mut words = strings
            .iter()
            .chain(changes)
            .filter(says)
            .map(|v| v.value.expires_at_ms);
        let first = words.next()??;
        let end = words.try_fold(first, |latest, at| at.map(|at| latest.max(at)))?;
        (!self.outlives(end, is_replaced)).then_some(end)
    }

    /// Whether an element of a collection was written when the key had ended, by somebody who had not heard of
    /// that: then it goes on. (None that is not at hand was: see [`Self::is_plain_about_its_rest`].)
    fn outlives(&self, end_ms: u64, is_named: impl Fn(&Dot) -> bool) -> bool {
        let is_of_collection = |kind| !matches!(kind, Kind::String | Kind::Expiry);
        let cells = self.cells.iter();
        let mut versions = cells
            .filter(|(element, _)| is_of_collection(element.kind))
            .flat_map(|(_, versions)| versions.iter());
        versions.any(|v| v.is_there() && v.at.ms() > end_ms && !is_named(&v.dot))
    }

    /// Whether the key reads as absent at `now_ms` because its time is over.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.ends_at_ms().is_some_and(|at| at < now_ms)
    }

    /// What is left of a contribution: its total, less what a write beside it had overwritten.
    pub fn left_of(&self, element: &Element, actor: ActorId, contribution: Contribution) -> i128 {
        let reset = self.reset_of(element, actor);
        let gone = reset.filter(|reset| contribution.chain <= reset.seq);
        i128::from(contribution.total) - gone.map_or(0, |reset| i128::from(reset.total))
    }

    /// The resets that take something from a contribution that lives.
    pub fn live_resets(&self) -> Vec<Reset> {
        let live = self.resets.iter().filter(|reset| self.is_live(reset));
        live.cloned().collect()
    }

    /// Forgets resets of chains that have ended, where the caller knows that all have.
    pub fn forget_resets(&mut self) {
        if !self.resets.is_empty() {
            self.resets = self.live_resets();
        }
    }

    /// What the contributions to an element are, as a write that overwrites them would note it.
    pub(super) fn contributions<'o>(
        element: &'o Element,
        versions: &'o [Version],
    ) -> impl Iterator<Item = Reset> + 'o {
        versions.iter().filter_map(move |version| {
            let contribution = version.value.payload.contribution()?;
            Some(Reset {
                element: element.clone(),
                actor: version.dot.actor,
                seq: version.dot.seq,
                total: contribution.total,
            })
        })
    }

    /// Whether a reset takes something from a contribution that lives.
    pub fn is_live(&self, reset: &Reset) -> bool {
        self.versions(&reset.element).iter().any(|version| {
            let contribution = version.value.payload.contribution();
            version.dot.actor == reset.actor && contribution.is_some_and(|c| c.chain <= reset.seq)
        })
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
        // The newest of an element and actor comes first.
        self.resets
            .sort_by(|a, b| a.place().cmp(&b.place()).then(b.seq.cmp(&a.seq)));
        self.resets.dedup_by(|a, b| a.place() == b.place());
    }

    fn reset_of(&self, element: &Element, actor: ActorId) -> Option<&Reset> {
        let at = self
            .resets
            .binary_search_by(|r| r.place().cmp(&(element, actor)));
        at.ok().map(|at| &self.resets[at])
    }

    pub(super) fn reset(&mut self, reset: Reset) {
        let at = self
            .resets
            .binary_search_by(|r| r.place().cmp(&reset.place()));
        match at {
            Ok(at) if self.resets[at].seq < reset.seq => self.resets[at] = reset,
            Ok(_) => {}
            Err(at) => self.resets.insert(at, reset),
        }
    }

    /// Joins with another state or delta of the same key.
    ///
    /// A version survives when both sides hold it, or when one holds it and the other has not seen
    /// its dot. Contexts are united.
    ///
    /// Of an object with elements that are not at hand the other must have seen nothing, or all, and have none.
    pub fn join(&mut self, other: Object) {
        debug_assert!(other.is_whole(), "what comes in is whole");
        if !self.is_whole() && other.is_over(self) {
            self.rest = None;
        }
        for (element, versions) in &mut self.cells {
            versions.retain(|version| other.keeps(element, version));
        }
        if self.has_gone() {
            self.take_back(&other);
        }
        let unseen = |version: &Version| !self.context.contains(version.dot);
        let fresh = other.cells.into_iter().filter_map(|(element, theirs)| {
            let fresh: Versions = theirs.into_iter().filter(unseen).collect();
            (!fresh.is_empty()).then_some((element, fresh))
        });
        let mut fresh: Cells = fresh.collect();
        if fresh.len() > FEW {
            let ours = std::mem::take(&mut self.cells);
            (self.cells, fresh) = merge(ours, fresh);
        }
        for (element, fresh) in fresh {
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
            rest: self.rest.clone(),
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
        let rest = self.rest.take();
        let lives = |actor| {
            living.binary_search(&actor).is_ok()
                || rest.as_ref().is_some_and(|rest| rest.has_written(actor))
        };
        self.context
            .retain(|actor| !is_retired(actor) || lives(actor));
        if !self.resets.is_empty() {
            let mut resets = std::mem::take(&mut self.resets);
            resets.retain(|reset| !is_retired(reset.actor) || self.is_live(reset));
            self.resets = resets;
        }
        self.rest = rest;
    }

    /// Takes over what another knows of overwritten contributions.
    pub fn take_resets(&mut self, other: &Object) {
        self.unite_resets(&other.resets);
    }

    /// Also sees what another has seen: what is not here was overwritten.
    pub fn observe(&mut self, seen: impl IntoIterator<Item = Dot>) {
        self.context.join(&Context::of_dots(seen));
    }

    /// Also sees all that somebody else has seen.
    pub fn observe_all(&mut self, seen: &Context) {
        self.context.join(seen);
    }

    /// The versions that are at hand, having seen nothing else.
    #[must_use]
    pub fn bare(&self) -> Object {
        Object {
            context: Context::of_dots(self.all_versions().map(|version| version.dot)),
            cells: self.cells.clone(),
            resets: self.live_resets(),
            rest: None,
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

/// The elements of two, and the second's versions of those that both have.
fn merge(ours: Cells, theirs: Cells) -> (Cells, Cells) {
    let (mut all, mut both) = (
        Cells::with_capacity(ours.len() + theirs.len()),
        Cells::new(),
    );
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        match (ours.peek(), theirs.peek()) {
            (Some((a, _)), Some((b, _))) if a == b => {
                all.extend(ours.next());
                both.extend(theirs.next());
            }
            (Some((a, _)), Some((b, _))) if b < a => all.extend(theirs.next()),
            (Some(_), _) => all.extend(ours.next()),
            (None, Some(_)) => all.extend(theirs.next()),
            (None, None) => return (all, both),
        }
    }
}
