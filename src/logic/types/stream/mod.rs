//! Streams: an element an entry, whose name begins with its id, and elements for what a stream has beside them
//! (`state.rs`). Two coordinators that do not hear each other may give the same id: who has added an entry stands
//! in its name, too, so that both entries stay.
//!
//! ```text
//! entry    id 16 bytes big endian | actor u64be    its value: n, then n x word (fields and values in turn)
//! ```

mod entry;
mod id;
mod state;
#[cfg(test)]
mod tests;
mod values;

use bytes::Bytes;

pub use entry::{Entry, at, entries, entry_element, remove};
pub use id::{Id, Wanted};
pub use state::{
    adder_element, adders, adders_between, consumer, consumer_element, consumers,
    consumers_between, group, group_element, groups, groups_between, pending, pending_at,
    pending_between, pending_element, pending_from, put_added, put_consumer, put_group,
    put_pending,
};
pub use values::{Added, Consumer, Group, Pending};

use super::elements;
use crate::logic::causal::{ActorId, Kind, Object};
use crate::logic::codec::{put_bytes, put_varint};
use crate::logic::edit::Touch;
use entry::{are_words, named};

/// How much of a stream everything that was added says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// The last id that was given.
    pub last: Id,
    /// The highest that was taken out by XDEL.
    pub deleted: Id,
    /// How many were added.
    pub count: u64,
}

/// What all have added.
pub fn sum(adders: &[(ActorId, Added)]) -> Sum {
    adders.iter().fold(Sum::default(), |sum, (_, added)| Sum {
        last: sum.last.max(added.last),
        deleted: sum.deleted.max(added.deleted),
        count: sum.count.saturating_add(added.count),
    })
}

/// How many entries there are.
pub fn len(object: &Object) -> usize {
    elements::len(object, Kind::Stream)
}

/// An actor adds an entry, whose words are fields and values in turn.
pub fn add<'w>(
    adders: &[(ActorId, Added)],
    actor: ActorId,
    id: Id,
    words: impl ExactSizeIterator<Item = &'w [u8]>,
) -> [Touch; 2] {
    let mut raw = Vec::with_capacity(64);
    put_varint(&mut raw, words.len() as u64);
    words.for_each(|word| put_bytes(&mut raw, word));
    let before = adders.iter().find(|(of, _)| *of == actor);
    let before = before.map(|(_, added)| *added).unwrap_or_default();
    let added = Added {
        // XSETID may have gone back.
        first: match before.first {
            Id::MIN => id,
            first => first.min(id),
        },
        last: id,
        count: before.count.saturating_add(1),
        ..before
    };
    [
        Touch::put(entry_element(id, actor), raw.into()),
        put_added(actor, &added),
    ]
}

/// Whether an element can have such a name, and such a value.
pub(super) fn is_possible(kind: Kind, name: &[u8], value: Option<&Bytes>) -> bool {
    match kind {
        Kind::StreamState => state::is_possible(name, value),
        _ => named(name).is_some() && value.is_none_or(|raw| are_words(raw)),
    }
}
