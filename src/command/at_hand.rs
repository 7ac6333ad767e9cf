//! Reading as much of a key as a command needs: what takes its time does not hold up others of the thread.

use std::sync::Arc;

use crate::base::blocking::at_length;
use crate::logic::causal::Object;
use crate::replica::{Key, Reach, Replica, ReplicaError};

/// To read more elements takes its time.
pub(super) const MANY: u64 = 8_192;
/// Or more that are looked for one by one.
const MANY_NAMED: usize = 256;

/// Whether so much of a key is read that others of this thread should not wait for it.
pub(super) fn takes_long(
    replica: &Replica,
    key: Key<'_>,
    reach: Reach<'_>,
) -> Result<bool, ReplicaError> {
    if !is_long(reach) {
        return Ok(false);
    }
    let head = replica.read_some(key, Reach::Head)?;
    Ok(is_long_of(replica, key, reach, &head))
}

/// Whether a reach may be one to many elements.
fn is_long(reach: Reach<'_>) -> bool {
    match reach {
        Reach::Head => false,
        Reach::Named(named) => named.len() > MANY_NAMED,
        Reach::Ends(_, first, last) => first.saturating_add(last) > MANY as usize,
        Reach::Whole => true,
        Reach::Places(_, first, last) => reach.counts() || !is_short(first, last),
        Reach::Stretch(stretch) => stretch.most > MANY as usize,
        Reach::Each(all) => all.iter().any(|reach| is_long(*reach)),
    }
}

/// Whether so few places are read from an end on.
fn is_short(first: i64, last: i64) -> bool {
    let few = 0..MANY as i64;
    few.contains(&first) && few.contains(&last) || few.contains(&!first) && few.contains(&!last)
}

/// Whether a reach that may be long is, of what a key has. A place that was counted is found at once.
fn is_long_of(replica: &Replica, key: Key<'_>, reach: Reach<'_>, head: &Object) -> bool {
    let has_many = head.rest().is_some_and(|rest| rest.elements() > MANY);
    has_many
        && match reach {
            Reach::Places(_, first, last) if reach.counts() => {
                let is_one_sided = (first < 0) == (last < 0);
                let is_short = is_one_sided && last.saturating_sub(first) < MANY as i64;
                !(is_short && replica.has_ranks(key, MANY as usize))
            }
            _ => true,
        }
}

/// A key's object with as much of it at hand as a reach says.
pub(super) fn at_hand(
    replica: &Replica,
    key: Key<'_>,
    reach: Reach<'_>,
) -> Result<Arc<Object>, ReplicaError> {
    if !is_long(reach) {
        return replica.read_some(key, reach);
    }
    let head = replica.read_some(key, Reach::Head)?;
    match () {
        () if head.is_whole() => Ok(head),
        () if is_long_of(replica, key, reach, &head) => at_length(|| replica.read_some(key, reach)),
        () => replica.read_some(key, reach),
    }
}
