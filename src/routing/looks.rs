//! Commands that wait for their turn on one key share a look at the others' copies: what a quorum had when the look
//! began is all that a command has to see that had come before.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The last look at each lane's keys. Who has a lane alone looks, and notes it.
pub struct Looks {
    lanes: Box<[Mutex<Look>]>,
    clock: AtomicU64,
}

/// A place in the order in which commands come and looks begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// Of what a look tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'k> {
    pub db: u8,
    pub name: &'k [u8],
    /// How many copies it waited for.
    pub r: u8,
    /// What else it rests on.
    pub as_of: (u64, u64),
}

#[derive(Debug, Default)]
struct Look {
    begun: Moment,
    db: u8,
    name: Vec<u8>,
    r: u8,
    as_of: (u64, u64),
}

impl Looks {
    pub(super) fn new(lanes: u16) -> Self {
        Self {
            lanes: (0..lanes).map(|_| Mutex::default()).collect(),
            clock: AtomicU64::new(1),
        }
    }

    /// A command comes, or a look begins.
    pub(super) fn now(&self) -> Moment {
        Moment(self.clock.fetch_add(1, Ordering::AcqRel))
    }

    /// A look that began at a moment has ended, and has seen enough.
    pub(super) fn note(&self, lane: u16, begun: Moment, seen: &Seen<'_>) {
        let mut look = self.lanes[usize::from(lane)].lock();
        look.name.clear();
        look.name.extend_from_slice(seen.name);
        look.name.shrink_to(seen.name.len().max(KEPT));
        (look.begun, look.db, look.r, look.as_of) = (begun, seen.db, seen.r, seen.as_of);
    }

    /// Whether the last look serves a command that came at a moment.
    pub(super) fn serves(&self, lane: u16, came: Moment, seen: &Seen<'_>) -> bool {
        let look = self.lanes[usize::from(lane)].lock();
        look.begun > came
            && look.r >= seen.r
            && (look.db, look.as_of) == (seen.db, seen.as_of)
            && look.name == seen.name
    }
}

/// Room for a name that is kept, in bytes.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_serves_those_who_had_come_before_it_began() {
        let looks = Looks::new(4);
        let seen = Seen {
            db: 0,
            name: b"k",
            r: 2,
            as_of: (7, 0),
        };
        let first = looks.now();
        assert!(!looks.serves(3, first, &seen), "nobody has looked");
        let begun = looks.now();
        let later = looks.now();
        looks.note(3, begun, &seen);
        assert!(looks.serves(3, first, &seen));
        assert!(looks.serves(3, first, &Seen { r: 1, ..seen }));
        assert!(!looks.serves(3, later, &seen));
        let others = [
            Seen { db: 1, ..seen },
            Seen { name: b"l", ..seen },
            Seen { r: 3, ..seen },
            Seen {
                as_of: (8, 0),
                ..seen
            },
            Seen {
                as_of: (7, 1),
                ..seen
            },
        ];
        for other in others {
            assert!(!looks.serves(3, first, &other), "{other:?}");
        }
        assert!(!looks.serves(2, first, &seen));
    }
}
