//! What is known of elements of an object that are not at hand. Of a large collection a command reads and writes the
//! elements that it names, and no others: everything else that it asks of the object follows from these sums.
//!
//! Sums are exact where nothing else is said. What they cannot tell (see [`super::Object::is_plain_about_its_rest`])
//! only all the elements can.

use smallvec::SmallVec;

use super::dot::ActorId;
use super::hlc::Timestamp;
use super::version::{Element, Kind, Version};

/// The kinds that elements of collections have.
pub const KINDS: [Kind; 6] = [
    Kind::Hash,
    Kind::Set,
    Kind::Zset,
    Kind::List,
    Kind::Stream,
    Kind::StreamState,
];

/// Sums over elements of collections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rest {
    /// How many are there, by kind.
    pub(crate) there: [u64; KINDS.len()],
    /// How many there are, those that were reclaimed too.
    pub(crate) elements: u64,
    /// Versions that have ended and were reclaimed.
    pub(crate) gone: u64,
    /// Elements with several base values that had not seen each other.
    pub(crate) conflicted: u64,
    /// Contributions to counters.
    pub(crate) counted: u64,
    /// What is remembered of contributions that were overwritten.
    pub(crate) resets: u64,
    /// Bytes of names and values.
    pub(crate) bytes: u64,
    /// No version is later.
    pub(crate) latest: Timestamp,
    /// The sum of the elements' digests.
    pub(crate) sum: u64,
    /// Who has written them, ascending.
    pub(crate) actors: SmallVec<[Wrote; 2]>,
}

/// What an actor has written of some elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wrote {
    pub(crate) actor: ActorId,
    /// How many versions.
    pub(crate) versions: u64,
    /// None of them has a lower sequence.
    pub(crate) first: u64,
    /// Nor a higher one.
    pub(crate) last: u64,
}

impl Rest {
    /// Of one element, with how many resets it has, and its digest.
    pub fn of(element: &Element, versions: &[Version], resets: usize, digest: u64) -> Self {
        let mut rest = Self {
            sum: digest,
            resets: resets as u64,
            bytes: element.name.len() as u64,
            ..Self::default()
        };
        rest.elements = u64::from(!versions.is_empty());
        let nth = KINDS.iter().position(|kind| *kind == element.kind);
        if let Some(nth) = nth
            && versions.iter().any(Version::is_there)
        {
            rest.there[nth] = 1;
        }
        let mut bases = 0;
        for version in versions {
            let payload = &version.value.payload;
            rest.gone += u64::from(payload.is_gone());
            let base = payload.base();
            bases += u64::from(base.is_some());
            rest.bytes += base.map_or(0, |bytes| bytes.len() as u64);
            rest.counted += u64::from(payload.contribution().is_some());
            rest.latest = rest.latest.max(version.at);
            rest.note(Wrote {
                actor: version.dot.actor,
                versions: 1,
                first: version.dot.seq,
                last: version.dot.seq,
            });
        }
        rest.conflicted = u64::from(!element.kind.is_one_by_itself() && bases > 1);
        rest
    }

    /// How many elements of a kind are there.
    pub fn there(&self, kind: Kind) -> u64 {
        let nth = KINDS.iter().position(|of| *of == kind);
        nth.map_or(0, |nth| self.there[nth])
    }

    /// How many are there.
    pub fn all_there(&self) -> u64 {
        self.there.iter().sum()
    }

    /// How many there are, those that were reclaimed too.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// Bytes of their names and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Which kinds are there, ascending.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        let kinds = KINDS.iter().zip(&self.there);
        kinds
            .filter(|(_, there)| **there > 0)
            .map(|(kind, _)| *kind)
    }

    /// With others.
    pub fn add(&mut self, other: &Rest) {
        for (ours, theirs) in self.there.iter_mut().zip(other.there) {
            *ours += theirs;
        }
        self.elements += other.elements;
        self.gone += other.gone;
        self.conflicted += other.conflicted;
        self.counted += other.counted;
        self.resets += other.resets;
        self.bytes += other.bytes;
        self.latest = self.latest.max(other.latest);
        self.sum = self.sum.wrapping_add(other.sum);
        other.actors.iter().for_each(|wrote| self.note(*wrote));
    }

    /// Without some of them; `None` where those were not among them. The latest and the ends of sequences stay.
    #[must_use]
    pub fn without(mut self, some: &Rest) -> Option<Self> {
        for (ours, theirs) in self.there.iter_mut().zip(some.there) {
            *ours = ours.checked_sub(theirs)?;
        }
        self.elements = self.elements.checked_sub(some.elements)?;
        self.gone = self.gone.checked_sub(some.gone)?;
        self.conflicted = self.conflicted.checked_sub(some.conflicted)?;
        self.counted = self.counted.checked_sub(some.counted)?;
        self.resets = self.resets.checked_sub(some.resets)?;
        self.bytes = self.bytes.checked_sub(some.bytes)?;
        self.sum = self.sum.wrapping_sub(some.sum);
        for theirs in &some.actors {
            let at = self.at(theirs.actor).ok()?;
            let ours = &mut self.actors[at];
            ours.versions = ours.versions.checked_sub(theirs.versions)?;
        }
        self.actors.retain(|wrote| wrote.versions > 0);
        Some(self)
    }

    /// Whether there is something to be remembered of them when they are overwritten.
    pub fn is_counted(&self) -> bool {
        self.counted > 0 || self.resets > 0
    }

    /// Whether an actor has written any of them.
    pub fn has_written(&self, actor: ActorId) -> bool {
        self.at(actor).is_ok()
    }

    /// Who has written them.
    pub(crate) fn actors(&self) -> &[Wrote] {
        &self.actors
    }

    /// Whether they are those of which somebody else has the sums.
    pub fn is_same(&self, other: &Rest) -> bool {
        let versions = |rest: &Rest| rest.actors.iter().map(|wrote| wrote.versions).sum::<u64>();
        self.there == other.there
            && self.elements == other.elements
            && self.gone == other.gone
            && self.conflicted == other.conflicted
            && self.counted == other.counted
            && self.resets == other.resets
            && self.bytes == other.bytes
            && self.sum == other.sum
            && versions(self) == versions(other)
    }

    fn at(&self, actor: ActorId) -> Result<usize, usize> {
        self.actors
            .binary_search_by_key(&actor, |wrote| wrote.actor)
    }

    fn note(&mut self, wrote: Wrote) {
        match self.at(wrote.actor) {
            Err(at) => self.actors.insert(at, wrote),
            Ok(at) => {
                let ours = &mut self.actors[at];
                ours.versions += wrote.versions;
                ours.first = ours.first.min(wrote.first);
                ours.last = ours.last.max(wrote.last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::{Dot, Payload, Value};

    fn rest(kind: Kind, name: &str, dots: &[(u64, u64)]) -> Rest {
        let version = |(actor, seq): &(u64, u64)| Version {
            dot: Dot {
                actor: ActorId(*actor),
                seq: *seq,
            },
            at: Timestamp(*seq),
            value: Value {
                payload: Payload::Bytes("four".into()),
                expires_at_ms: None,
            },
        };
        let versions: Vec<Version> = dots.iter().map(version).collect();
        let element = Element {
            kind,
            name: name.to_owned().into(),
        };
        Rest::of(&element, &versions, 0, seq_sum(dots))
    }

    fn seq_sum(dots: &[(u64, u64)]) -> u64 {
        dots.iter().map(|(actor, seq)| actor * 1_000 + seq).sum()
    }

    #[test]
    fn sums_are_of_what_was_added_and_not_taken_away() {
        let (a, b) = (
            rest(Kind::Hash, "a", &[(1, 7)]),
            rest(Kind::Hash, "bb", &[(1, 3), (2, 9)]),
        );
        let mut both = a.clone();
        both.add(&b);
        assert_eq!((both.there(Kind::Hash), both.elements()), (2, 2));
        assert_eq!((both.conflicted, both.bytes), (1, 15));
        assert!(both.has_written(ActorId(2)));
        let wrote = both.actors()[0];
        assert_eq!((wrote.versions, wrote.first, wrote.last), (2, 3, 7));
        let without = both.clone().without(&b).expect("it is among them");
        assert!(without.is_same(&a) && !without.has_written(ActorId(2)));
        assert_eq!(without.kinds().collect::<Vec<_>>(), [Kind::Hash]);
        assert_eq!(a.clone().without(&b), None);
        let set = rest(Kind::Set, "m", &[(1, 1), (2, 1)]);
        assert_eq!((set.conflicted, set.there(Kind::Set)), (0, 1));
    }
}
