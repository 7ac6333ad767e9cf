//! How much room the disk has, for whom.

use super::reserve::{Reserve, Space};

/// Of the space that must be free, what frees more may use all but this part.
const LAST_PART: u64 = 8;

/// What the disk has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Nothing.
    None,
    /// What frees space.
    Tight,
    /// Everything.
    #[default]
    Plenty,
}

/// Looks how much room there is, when there was so much before; takes what is reserved, or gives it up.
pub(super) fn look(reserve: &Reserve, before: Room) -> Room {
    let Some(space) = reserve.space() else {
        return Room::Plenty;
    };
    let least = reserve.least(space);
    // A store that has refused does not take it back at the first byte.
    let wanted = if before == Room::Plenty {
        least
    } else {
        least + least / 4
    };
    if space.free >= wanted {
        reserve.take();
        return Room::Plenty;
    }
    let is_tight = |space: Space| space.free >= least / LAST_PART + least / 100;
    let more = || reserve.give_up().then(|| reserve.space())?;
    if is_tight(space) || more().is_some_and(is_tight) {
        Room::Tight
    } else {
        Room::None
    }
}
