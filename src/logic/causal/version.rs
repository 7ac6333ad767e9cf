//! What an object is made of: elements, and the versions of each.

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
    /// A hash: an element a field.
    Hash = 2,
    /// A set: an element a member, which has no value.
    Set = 3,
    /// A sorted set: an element a member, whose value is its score.
    Zset = 4,
    /// A list: an element a place, whose name orders it.
    List = 5,
    /// A stream: an element an entry, whose name orders it.
    Stream = 6,
    /// What a stream has beside its entries: who has added, groups, consumers, what is pending.
    StreamState = 7,
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
    /// A change of the key's expiry to the value's own: the values whose first expiry it replaces.
    Deadline(Over),
    /// What was here has ended and was reclaimed. A copy that still has it may know that it goes on. Of a
    /// contribution it is still known what it was: a write that overwrites it must say so.
    Gone(Option<Contribution>),
}

/// The values whose first expiry a change of it replaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Over {
    /// These, ascending.
    Dots(Box<[Dot]>),
    /// All that its writer had seen, of a key with too many to be named.
    Seen(Box<Context>),
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reset {
    /// Of which element.
    pub element: Element,
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
    /// follows from the whole object: [`super::Object::ends_at_ms`].
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

/// Elements with their versions, ascending.
pub type Cells = SmallVec<[(Element, Versions); 1]>;

impl Kind {
    /// The type that such elements are shown as.
    pub fn shown(self) -> Kind {
        match self {
            Kind::StreamState => Kind::Stream,
            kind => kind,
        }
    }

    /// Whether the names of such elements are in the order in which they are shown.
    pub fn is_in_order(self) -> bool {
        matches!(self, Kind::List | Kind::Stream | Kind::StreamState)
    }

    /// Whether several versions of such an element are one thing to whoever reads them.
    pub fn is_one_by_itself(self) -> bool {
        matches!(self, Kind::Set | Kind::StreamState)
    }
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

impl Default for Over {
    /// None.
    fn default() -> Self {
        Over::Dots(Box::default())
    }
}

impl Over {
    /// Whether a value is among them.
    pub fn contains(&self, dot: Dot) -> bool {
        match self {
            Over::Dots(dots) => dots.binary_search(&dot).is_ok(),
            Over::Seen(seen) => seen.contains(dot),
        }
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Over::Dots(dots) => 16 * dots.len(),
            Over::Seen(seen) => 16 * seen.actors(),
        }
    }
}

impl Reset {
    /// What it is about; an object has one of each.
    pub(super) fn place(&self) -> (&Element, ActorId) {
        (&self.element, self.actor)
    }
}

impl Version {
    /// Whether it is there: a value, or a contribution to a counter, that was not reclaimed.
    pub fn is_there(&self) -> bool {
        !self.value.payload.is_gone()
    }
}

/// Whether a dot is among some versions of one element.
pub fn holds(versions: &[Version], dot: Dot) -> bool {
    versions
        .binary_search_by_key(&dot, |version| version.dot)
        .is_ok()
}

/// Whether an element can hold such a version.
pub(super) fn fits(element: &Element, version: &Version) -> bool {
    match &version.value.payload {
        Payload::Bytes(_) | Payload::Gone(None) => element.kind != Kind::Expiry,
        Payload::Count(Contribution { chain, .. })
        | Payload::Gone(Some(Contribution { chain, .. })) => {
            element.kind != Kind::Expiry && (1..=version.dot.seq).contains(chain)
        }
        Payload::Deadline(Over::Dots(dots)) => {
            *element == Element::EXPIRY && dots.windows(2).all(|w| w[0] < w[1])
        }
        Payload::Deadline(Over::Seen(_)) => *element == Element::EXPIRY,
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
