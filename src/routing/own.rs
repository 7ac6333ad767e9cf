//! What one connection has written lately: its reads must not show less, and WAIT asks who has it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::base::numbers::NumberMap;
use crate::logic::causal::{Dot, Timestamp};
use crate::logic::placement::key_hash;
use crate::peer::message::Wrote;

/// Keys that are remembered; those that were written longest ago are forgotten beyond.
const MAX_KEYS: usize = 1_024;
/// What was written longer ago is taken for known to everybody who answers.
const REMEMBERED: Duration = Duration::from_mins(1);

/// The writes of one key, the last that each node has coordinated.
pub type OwnWrites = SmallVec<[(Dot, Timestamp); 1]>;

/// The latest writes of one connection.
#[derive(Debug, Default)]
pub struct Own(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    by_key: NumberMap<Key>,
    /// Keys in the order in which they were written, with the number of that write; of one that was written again
    /// later that place counts.
    order: VecDeque<(u64, u64)>,
    /// How many writes were noted.
    count: u64,
}

#[derive(Debug)]
struct Key {
    db: u8,
    name: Bytes,
    noted: Instant,
    /// Its place in the order.
    nth: u64,
    writes: OwnWrites,
}

impl Key {
    fn is(&self, db: u8, name: &[u8]) -> bool {
        self.db == db && self.name == name
    }

    fn is_recent(&self) -> bool {
        self.noted.elapsed() < REMEMBERED
    }
}

impl Latest {
    /// Forgets the keys that were written longest ago, where there are too many; and places that do not count.
    fn tidy(&mut self) {
        while self.by_key.len() > MAX_KEYS
            && let Some((nth, hash)) = self.order.pop_front()
        {
            if self.is_last(nth, hash) {
                self.by_key.remove(&hash);
            }
        }
        if self.order.len() > 2 * MAX_KEYS {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(nth, hash)| self.is_last(*nth, *hash));
            self.order = order;
        }
    }

    /// Whether a key was not written again after one write.
    fn is_last(&self, nth: u64, hash: u64) -> bool {
        self.by_key.get(&hash).is_some_and(|key| key.nth == nth)
    }
}

fn hash(db: u8, name: &[u8]) -> u64 {
    key_hash(name) ^ u64::from(db)
}

impl Own {
    /// A write was acknowledged, or may yet take effect.
    pub fn note(&self, wrote: Wrote) {
        let Wrote { db, name, dot, at } = wrote;
        let mut latest = self.0.lock();
        let noted = Instant::now();
        let hash = hash(db, &name);
        latest.count += 1;
        let nth = latest.count;
        latest.order.push_back((nth, hash));
        if let Some(key) = latest.by_key.get_mut(&hash).filter(|key| key.is(db, &name)) {
            (key.noted, key.nth) = (noted, nth);
            let known = key.writes.iter_mut();
            match known
                .into_iter()
                .find(|(known, _)| known.actor == dot.actor)
            {
                Some(known) if known.0.seq >= dot.seq => {}
                Some(known) => *known = (dot, at),
                None => key.writes.push((dot, at)),
            }
            return latest.tidy();
        }
        let key = Key {
            db,
            name,
            noted,
            nth,
            writes: SmallVec::from_elem((dot, at), 1),
        };
        // Two keys of one hash share a place.
        latest.by_key.insert(hash, key);
        latest.tidy();
    }

    /// A write was not stored anywhere.
    pub fn forget(&self, db: u8, name: &[u8], dot: Dot) {
        let mut latest = self.0.lock();
        let key = latest.by_key.get_mut(&hash(db, name));
        if let Some(key) = key.filter(|key| key.is(db, name)) {
            key.writes.retain(|(known, _)| *known != dot);
        }
    }

    /// The writes that a look at a key must not miss.
    pub fn of(&self, db: u8, name: &[u8]) -> OwnWrites {
        let latest = self.0.lock();
        if latest.by_key.is_empty() {
            return OwnWrites::new();
        }
        let key = latest.by_key.get(&hash(db, name));
        match key.filter(|key| key.is(db, name) && key.is_recent()) {
            Some(key) => key.writes.clone(),
            None => OwnWrites::new(),
        }
    }

    /// Everything that is remembered.
    pub fn all(&self) -> Vec<Wrote> {
        let latest = self.0.lock();
        let mut all = Vec::new();
        let recent = latest.by_key.values().filter(|key| key.is_recent());
        for key in recent {
            all.extend(key.writes.iter().map(|(dot, at)| Wrote {
                db: key.db,
                name: key.name.clone(),
                dot: *dot,
                at: *at,
            }));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::ActorId;

    fn dot(actor: u64, seq: u64) -> Dot {
        Dot {
            actor: ActorId(actor),
            seq,
        }
    }

    fn write(db: u8, name: impl Into<Bytes>, dot: Dot) -> Wrote {
        Wrote {
            db,
            name: name.into(),
            dot,
            at: Timestamp(dot.seq),
        }
    }

    fn dots(own: &Own, name: &str) -> Vec<Dot> {
        let writes = own.of(0, name.as_bytes());
        writes.into_iter().map(|(dot, _)| dot).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_dot_of_every_coordinator_is_remembered_for_a_while() {
        let own = Own::default();
        assert!(dots(&own, "k").is_empty());
        own.note(write(0, "k", dot(1, 5)));
        own.note(write(0, "k", dot(2, 1)));
        own.note(write(0, "k", dot(1, 7)));
        own.note(write(1, "k", dot(1, 9)));
        assert_eq!(dots(&own, "k"), [dot(1, 7), dot(2, 1)]);
        assert_eq!(own.all().len(), 3);
        tokio::time::advance(REMEMBERED).await;
        assert!(dots(&own, "k").is_empty());
        assert!(own.all().is_empty());
    }

    #[tokio::test]
    async fn the_oldest_keys_are_forgotten_beyond_the_limit() {
        let own = Own::default();
        for n in 0..=MAX_KEYS as u64 {
            own.note(write(0, n.to_string(), dot(1, n + 1)));
        }
        assert!(dots(&own, "0").is_empty());
        assert_eq!(dots(&own, "1"), [dot(1, 2)]);
        assert_eq!(own.all().len(), MAX_KEYS);
    }

    #[tokio::test]
    async fn a_key_that_is_written_again_is_not_the_oldest_any_more() {
        let own = Own::default();
        own.note(write(0, "0", dot(1, 1)));
        own.note(write(0, "1", dot(1, 2)));
        own.note(write(0, "0", dot(1, 3)));
        for n in 2..=MAX_KEYS as u64 {
            own.note(write(0, n.to_string(), dot(1, n + 2)));
        }
        assert!(dots(&own, "1").is_empty());
        assert_eq!(dots(&own, "0"), [dot(1, 3)]);
        assert_eq!(dots(&own, &MAX_KEYS.to_string()).len(), 1);
        for n in 0..3 * MAX_KEYS as u64 {
            own.note(write(0, "5", dot(1, 9_000 + n)));
        }
        assert!(own.0.lock().order.len() <= 2 * MAX_KEYS);
        assert_eq!(dots(&own, "0"), [dot(1, 3)]);
        own.forget(0, b"0", dot(1, 3));
        assert!(dots(&own, "0").is_empty());
    }
}
