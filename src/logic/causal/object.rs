//! The object that every key is: a map from element to dotted versions under one context.
//!
//! Not here: what a Redis type makes of it (see `logic::types`) and how it is written down (see
//! `logic::row`). Invariant: every version's dot is in the context; elements and dots ascend.

use bytes::Bytes;
use smallvec::SmallVec;

use super::context::Context;
use super::dot::{ActorId, Dot};
use super::hlc::Timestamp;

/// Which Redis type an element belongs to. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A string or counter: one element with an empty name.
    String = 1,
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
    Count(i64),
}

/// A payload and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    /// The content.
    pub payload: Payload,
    /// The value's last moment, in milliseconds since the epoch; after it the value reads as absent.
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
    context: Context,
    cells: SmallVec<[(Element, Versions); 1]>,
}

impl Element {
    /// The one element of a string.
    pub const STRING: Element = Element {
        kind: Kind::String,
        name: Bytes::new(),
    };
}

impl Value {
    /// Whether the value reads as absent at `now_ms`.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at < now_ms)
    }
}

impl Object {
    /// An object from its parts, or `None` when they break the invariant.
    pub fn from_parts(context: Context, cells: SmallVec<[(Element, Versions); 1]>) -> Option<Self> {
        let ascending = cells.windows(2).all(|w| w[0].0 < w[1].0);
        let cells_hold = cells.iter().all(|(_, versions)| {
            !versions.is_empty()
                && versions.windows(2).all(|w| w[0].dot < w[1].dot)
                && versions.iter().all(|v| context.contains(v.dot))
        });
        (ascending && cells_hold).then_some(Self { context, cells })
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

    /// A context without values: deleted, or never written.
    pub fn is_tombstone(&self) -> bool {
        self.cells.is_empty()
    }

    /// The versions of one element.
    pub fn versions(&self, element: &Element) -> &[Version] {
        self.cells
            .binary_search_by(|(e, _)| e.cmp(element))
            .map_or(&[], |at| self.cells[at].1.as_slice())
    }

    /// All versions of all elements.
    pub fn all_versions(&self) -> impl Iterator<Item = &Version> {
        self.cells.iter().flat_map(|(_, versions)| versions.iter())
    }

    /// The last moment of the last version: `None` when one never ends, and where there is none.
    pub fn ends_at_ms(&self) -> Option<u64> {
        if self.is_tombstone() {
            return None;
        }
        self.all_versions()
            .try_fold(0, |last, v| v.value.expires_at_ms.map(|at| last.max(at)))
    }

    /// Joins with another state or delta of the same key.
    ///
    /// A version survives when both sides hold it, or when one holds it and the other has not seen
    /// its dot. Contexts are united.
    pub fn join(&mut self, other: Object) {
        for (element, versions) in &mut self.cells {
            versions.retain(|version| other.keeps(element, version));
        }
        for (element, theirs) in other.cells {
            for version in theirs {
                if !self.context.contains(version.dot) {
                    self.insert(&element, version);
                }
            }
        }
        self.cells.retain(|(_, versions)| !versions.is_empty());
        self.context.join(&other.context);
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
        };
        object.join(delta);
        object
    }

    /// Whether a version survives a join with this object.
    fn keeps(&self, element: &Element, version: &Version) -> bool {
        !self.context.contains(version.dot)
            || self.versions(element).iter().any(|v| v.dot == version.dot)
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
        let cells = &self.cells;
        let lives = |actor| {
            let mut versions = cells.iter().flat_map(|(_, versions)| versions);
            versions.any(|version| version.dot.actor == actor)
        };
        self.context
            .retain(|actor| !is_retired(actor) || lives(actor));
    }

    /// Also sees what another has seen: what is not here was overwritten.
    pub fn observe(&mut self, seen: impl IntoIterator<Item = Dot>) {
        for dot in seen {
            self.context.insert(dot);
        }
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
        }
    }

    fn insert(&mut self, element: &Element, version: Version) {
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

/// Builds the delta of one write step by step.
#[derive(Debug)]
pub struct DeltaBuilder {
    delta: Object,
    actor: ActorId,
    previous: u64,
}

impl Object {
    /// Starts a delta by `actor`, whose previous dot on this key is `previous` (0: none, ever).
    pub fn delta(actor: ActorId, previous: u64) -> DeltaBuilder {
        DeltaBuilder {
            delta: Object::default(),
            actor,
            previous,
        }
    }
}

impl DeltaBuilder {
    /// Marks a dot as observed and overwritten.
    pub fn overwrite(&mut self, dot: Dot) {
        self.delta.context.insert(dot);
    }

    /// Marks everything that a context has seen as observed and overwritten.
    pub fn observe(&mut self, seen: &Context) {
        self.delta.context.join(seen);
    }

    /// Writes a value under the actor's next dot.
    pub fn put(&mut self, seq: u64, at: Timestamp, element: &Element, value: Value) {
        self.cover(seq);
        let dot = Dot {
            actor: self.actor,
            seq,
        };
        self.delta.insert(element, Version { dot, at, value });
    }

    /// Spends a dot without a value, so that a delete is an event of its own.
    pub fn cover(&mut self, seq: u64) {
        debug_assert!(seq > self.previous, "a dot is never issued twice");
        self.delta
            .context
            .insert_interval(self.actor, self.previous, seq);
        self.previous = seq;
    }

    /// The delta.
    pub fn finish(self) -> Object {
        self.delta
    }
}
