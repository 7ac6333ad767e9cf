//! Which commands keep each other out on this node, while a handler runs.
//!
//! A command on one key shares its key's lane with the others. One that changes several (MSET, EXEC,
//! RENAME) has their lanes alone: nobody who reads several keys sees half of it. FLUSHALL and its like
//! have all lanes. A turn lasts as long as a handler, never across a wait; and nobody waits for it on a
//! thread that serves connections.

use super::lanes::{Lanes, Places, Turns};

const LANES: u16 = 256;

/// What a command needs for itself.
#[derive(Default)]
pub struct Wanted {
    places: Places,
    alone: bool,
    /// Whether it changes whole databases.
    is_for_all: bool,
}

impl Wanted {
    /// Whether it changes whole databases.
    pub fn is_for_all(&self) -> bool {
        self.is_for_all
    }
}

/// The gate of a node.
pub struct Gate {
    lanes: Lanes,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            lanes: Lanes::new(LANES),
        }
    }
}

impl Gate {
    /// What a command or a transaction on some keys needs.
    pub fn of_keys<'k>(&self, keys: impl Iterator<Item = &'k [u8]>, alone: bool) -> Wanted {
        Wanted {
            places: self.lanes.of(keys),
            alone,
            is_for_all: false,
        }
    }

    /// What a command needs that may touch any key.
    pub fn whole(&self) -> Wanted {
        Wanted {
            places: self.lanes.all(),
            alone: true,
            is_for_all: false,
        }
    }

    /// What a command needs that changes whole databases.
    pub fn everything(&self) -> Wanted {
        Wanted {
            places: self.lanes.all(),
            alone: true,
            is_for_all: true,
        }
    }

    /// Whether some turns keep everybody out.
    pub fn is_whole(&self, turns: &Turns<'_>) -> bool {
        turns.len() == usize::from(LANES)
    }

    /// Whether somebody keeps everybody out, as far as some of the lanes say.
    pub fn is_closed(&self) -> bool {
        let mut some = [0, LANES / 2, LANES - 1].into_iter();
        some.all(|lane| self.lanes.at_once(&[lane], false).is_none())
    }

    /// Turns for which nobody has to wait.
    pub fn at_once(&self, wanted: &Wanted) -> Option<Turns<'_>> {
        self.lanes.at_once(&wanted.places, wanted.alone)
    }

    /// Waits for its turns.
    pub async fn enter(&self, wanted: &Wanted) -> Turns<'_> {
        self.lanes.enter(&wanted.places, wanted.alone).await
    }

    /// Keeps everybody out.
    pub async fn alone(&self) -> Turns<'_> {
        self.enter(&self.everything()).await
    }

    /// Keeps out who wants everybody out. Blocks: for threads that serve nobody.
    pub fn pass_by(&self) -> impl Drop + '_ {
        self.lanes.share_blocking(0)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::task::Poll;

    use super::*;

    const A: &[u8] = b"a";
    const B: &[u8] = b"b";

    #[test]
    fn who_has_several_keys_alone_keeps_out_who_touches_one_of_them_and_nobody_else() {
        let gate = Gate::default();
        let both = gate.of_keys([A, B].into_iter(), true);
        let (one, other) = (
            gate.of_keys([A].into_iter(), false),
            gate.of_keys([&b"other"[..]].into_iter(), true),
        );
        assert_ne!(one.places, other.places, "the test needs keys of two lanes");
        let turns = gate.at_once(&both).expect("nobody is there");
        assert!(gate.at_once(&one).is_none());
        assert!(gate.at_once(&other).is_some());
        drop(turns);
        let turns = gate.at_once(&one).expect("nobody is there");
        assert!(gate.at_once(&one).is_some());
        assert!(gate.at_once(&both).is_none());
        drop(turns);
        assert!(gate.at_once(&both).is_some());
    }

    #[tokio::test]
    async fn whoever_wants_all_lanes_gets_them_though_others_keep_coming() {
        let gate = Gate::default();
        let one = gate.of_keys([A].into_iter(), false);
        let turns = gate.at_once(&one).expect("nobody is there");
        let alone = gate.alone();
        tokio::pin!(alone);
        let waits = poll_fn(|cx| Poll::Ready(alone.as_mut().poll(cx).is_pending()));
        assert!(waits.await);
        assert!(gate.at_once(&one).is_none(), "it is before those that come");
        drop(turns);
        let all = alone.await;
        assert!(gate.at_once(&one).is_none());
        drop(all);
        assert!(gate.at_once(&one).is_some());
    }
}
