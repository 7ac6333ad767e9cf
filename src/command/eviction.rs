//! `maxmemory`: how much of what this node keeps may live, and which keys go when it is more.
//!
//! What lives is estimated: the keys, of which the node knows how many there are, by the mean size of those that it
//! has looked at lately. Each key's coordinator evicts it, as a delete that all owners follow; so every node evicts
//! of its own keys only. Which are used least is told by what this node has run on them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::spec::{Flags, Spec};
use crate::base::clock;
use crate::base::config::Config;
use crate::base::random::random_u64;
use crate::error::Error;
use crate::logic::causal::Object;
use crate::logic::place::PREFIX_LEN;
use crate::logic::placement::key_hash;
use crate::logic::{record, types};
use crate::replica::{DATABASES, Replica};

/// What an empty server counts for, as Redis does: the same limit keeps about as much.
const EMPTY: u64 = 1 << 20;
/// Sizes of so many keys make the mean.
const REMEMBERED: u64 = 2_048;
/// A key counts for so many times the mean at most, ...
const MOST_TIMES_MEAN: f64 = 256.0;
/// ... once so many keys have been looked at.
const MEASURED_FIRST: u64 = 64;
/// Bytes of an element of a collection that is kept as a row an element.
const AN_ELEMENT: u64 = 128;
/// How many keys the uses of are told apart; others share.
const TOLD_APART: usize = 1 << 21;
/// The count of a new key, as in Redis.
const FIRST_COUNT: u32 = 5;
/// The higher the slower a count grows, as in Redis.
const LOG_FACTOR: u64 = 10;

/// Which keys go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    None,
    /// Those that were used longest ago.
    Lru,
    /// Those that are used least.
    Lfu,
    Random,
    /// Those that end soonest.
    Ttl,
}

/// A policy by Redis's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    order: Order,
    /// Only keys that end by themselves.
    volatile: bool,
}

impl Policy {
    /// Whether any key may go.
    pub(super) fn evicts(self) -> bool {
        self.order != Order::None
    }

    fn of(name: &str) -> Self {
        let (which, order) = name.split_once('-').unwrap_or_default();
        let order = match order {
            "lru" => Order::Lru,
            "lfu" => Order::Lfu,
            "random" => Order::Random,
            "ttl" => Order::Ttl,
            _ => Order::None,
        };
        Self {
            order,
            volatile: which == "volatile",
        }
    }
}

/// What is kept at most, and what is known of it.
#[derive(Default)]
pub struct Eviction {
    /// Bytes that may live; 0: any.
    most: AtomicU64,
    policy: Mutex<Policy>,
    /// Whether nothing may be added.
    is_full: AtomicBool,
    /// The mean size of a key with what it holds, in bytes, and of how many it is.
    mean: Mutex<(f64, u64)>,
    /// Keys of this node's that went.
    evicted: AtomicU64,
    uses: Uses,
}

/// When keys were used last, or how much they are.
#[derive(Default)]
struct Uses {
    /// 0: nobody wants to know; 1: when; 2: how much.
    what: AtomicU8,
    slots: OnceLock<Box<[AtomicU32]>>,
    since_secs: AtomicI64,
}

fn now_secs() -> u32 {
    (clock::now_ms() / 1_000) as u32
}

/// A count as it is after the minutes that have passed: minutes above, count below.
fn decayed(slot: u32, now_minutes: u16) -> u32 {
    let passed = now_minutes.wrapping_sub((slot >> 16) as u16);
    (slot & 0xff).saturating_sub(u32::from(passed))
}

fn minutes() -> u16 {
    (clock::now_ms() / 60_000) as u16
}

impl Uses {
    fn want(&self, order: Order) {
        let what = match order {
            Order::Lru => 1,
            Order::Lfu => 2,
            _ => 0,
        };
        if self.what.swap(what, Ordering::Relaxed) == what {
            return;
        }
        if what != 0 {
            let slots = self
                .slots
                .get_or_init(|| (0..TOLD_APART).map(|_| AtomicU32::new(0)).collect());
            for slot in slots {
                slot.store(0, Ordering::Relaxed);
            }
            let now = i64::from(now_secs());
            self.since_secs.store(now, Ordering::Relaxed);
        }
    }

    fn slot(&self, key: &[u8]) -> Option<&AtomicU32> {
        let slots = self.slots.get()?;
        Some(&slots[key_hash(key) as usize % TOLD_APART])
    }

    fn note(&self, key: &[u8]) {
        let what = self.what.load(Ordering::Relaxed);
        let Some(slot) = self.slot(key).filter(|_| what != 0) else {
            return;
        };
        if what == 1 {
            return slot.store(now_secs(), Ordering::Relaxed);
        }
        let (was, now) = (slot.load(Ordering::Relaxed), minutes());
        let mut count = if was == 0 {
            FIRST_COUNT
        } else {
            decayed(was, now)
        };
        let above = u64::from(count.saturating_sub(FIRST_COUNT));
        if count < 255 && random_u64().is_multiple_of(above * LOG_FACTOR + 1) {
            count += 1;
        }
        slot.store(u32::from(now) << 16 | count, Ordering::Relaxed);
    }

    /// Seconds since a key was used, as far as that is known.
    fn idle_secs(&self, key: &[u8]) -> u32 {
        let last = self
            .slot(key)
            .map_or(0, |slot| slot.load(Ordering::Relaxed));
        let since = self.since_secs.load(Ordering::Relaxed) as u32;
        now_secs().saturating_sub(if last == 0 { since } else { last })
    }

    fn count(&self, key: &[u8]) -> u32 {
        let slot = self
            .slot(key)
            .map_or(0, |slot| slot.load(Ordering::Relaxed));
        if slot == 0 {
            0
        } else {
            decayed(slot, minutes())
        }
    }
}

impl Eviction {
    /// Follows the directives.
    pub(super) fn configure(&self, config: &Config, replica: &Replica) {
        let most = u64::try_from(config.number("maxmemory")).unwrap_or(0);
        let policy = Policy::of(&config.text("maxmemory-policy"));
        *self.policy.lock() = policy;
        self.uses.want(policy.order);
        self.most.store(most, Ordering::Relaxed);
        let is_over = most > 0 && self.used(replica) > most;
        let is_full = is_over && policy.order == Order::None;
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    /// Whether nothing may be added.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed) && self.most() > 0
    }

    /// Refuses what would add something while nothing may be.
    pub(super) fn admit(&self, spec: &Spec) -> Result<(), Error> {
        if spec.has(Flags::DENYOOM) && self.is_full() {
            return Err(Error::text(
                "OOM command not allowed when used memory > 'maxmemory'.",
            ));
        }
        Ok(())
    }

    /// A key is used.
    pub fn note_use(&self, key: &[u8]) {
        self.uses.note(key);
    }

    /// A key is as if it had been used so long ago, or so much.
    pub(super) fn set_use(&self, key: &[u8], idle_secs: Option<u32>, count: Option<u8>) {
        let what = self.uses.what.load(Ordering::Relaxed);
        let said = match what {
            1 => idle_secs.map(|idle| now_secs().saturating_sub(idle)),
            2 => count.map(|count| u32::from(minutes()) << 16 | u32::from(count)),
            _ => None,
        };
        if let (Some(slot), Some(said)) = (self.uses.slot(key), said) {
            slot.store(said, Ordering::Relaxed);
        }
    }

    /// Seconds since a key was used; `None`: it is counted instead. 0 where nobody wants to know.
    pub(super) fn idle_secs(&self, key: &[u8]) -> Option<u32> {
        match self.uses.what.load(Ordering::Relaxed) {
            0 => Some(0),
            1 => Some(self.uses.idle_secs(key)),
            _ => None,
        }
    }

    /// How much a key is used, where that is counted.
    pub(super) fn count(&self, key: &[u8]) -> Option<u32> {
        let is_counted = self.uses.what.load(Ordering::Relaxed) == 2;
        is_counted.then(|| self.uses.count(key))
    }

    /// Bytes of what lives on this node, about.
    pub fn used(&self, replica: &Replica) -> u64 {
        let keys: u64 = (0..DATABASES).map(|db| replica.live_keys_so_far(db)).sum();
        EMPTY + (keys as f64 * self.mean.lock().0) as u64
    }

    /// Keys that went because others came.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(super) fn note_evicted(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes that may live; 0: any.
    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    pub(super) fn policy(&self) -> Policy {
        *self.policy.lock()
    }

    /// Whether there is room for more.
    pub(super) fn set_room(&self, is_there: bool) {
        self.is_full.store(!is_there, Ordering::Relaxed);
    }

    /// Whether it matters which keys are used.
    pub(super) fn wants_uses(&self) -> bool {
        self.uses.what.load(Ordering::Relaxed) != 0
    }

    /// Bytes of a key with what it holds, on average; at least one.
    pub(super) fn mean_size(&self) -> f64 {
        self.mean.lock().0.max(1.0)
    }

    /// A key with what it holds has so many bytes.
    pub(super) fn note_size(&self, size: u64) {
        let mut mean = self.mean.lock();
        // One that is much larger than all others counts as one that is: it is not what goes.
        let most = if mean.1 < MEASURED_FIRST {
            f64::MAX
        } else {
            mean.0 * MOST_TIMES_MEAN
        };
        let size = (size as f64).min(most);
        mean.1 = (mean.1 + 1).min(REMEMBERED);
        mean.0 += (size - mean.0) / mean.1 as f64;
    }

    /// The greater, the sooner a key goes; `None`: it may not.
    pub(super) fn rank(&self, policy: Policy, key: &[u8], object: &Object) -> Option<u64> {
        let ends_at_ms = object.ends_at_ms();
        if policy.volatile && ends_at_ms.is_none() {
            return None;
        }
        Some(match policy.order {
            Order::None => return None,
            Order::Lru => u64::from(self.uses.idle_secs(key)),
            Order::Lfu => 255 - u64::from(self.uses.count(key)),
            Order::Random => random_u64(),
            Order::Ttl => u64::MAX - ends_at_ms.unwrap_or(u64::MAX),
        })
    }
}

/// Bytes of a key with what it holds, about.
pub(super) fn size_of(key: &[u8], object: &Object) -> u64 {
    let beside = (key.len() + PREFIX_LEN) as u64;
    if object.is_whole() {
        return beside + record::ROW.encode(object).len() as u64;
    }
    let kind = types::kind(object, clock::now_ms());
    let len = kind.map_or(0, |kind| types::len(object, kind));
    beside + len as u64 * AN_ELEMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_named_as_in_redis() {
        let policy = Policy::of("volatile-ttl");
        assert_eq!((policy.order, policy.volatile), (Order::Ttl, true));
        let policy = Policy::of("allkeys-lru");
        assert_eq!((policy.order, policy.volatile), (Order::Lru, false));
        assert_eq!(Policy::of("noeviction").order, Order::None);
    }

    #[test]
    fn what_is_used_more_counts_more_and_less_as_time_passes() {
        let uses = Uses::default();
        uses.want(Order::Lfu);
        uses.note(b"once");
        for _ in 0..10_000 {
            uses.note(b"often");
        }
        assert!(uses.count(b"often") > uses.count(b"once") + 10);
        assert_eq!(uses.count(b"never"), 0);
        let (slot, now) = ((u32::from(7_u16) << 16) + 20, 7_u16);
        assert_eq!(decayed(slot, now), 20);
        assert_eq!(decayed(slot, now.wrapping_add(5)), 15);
        assert_eq!(decayed(slot, now.wrapping_add(500)), 0);
    }

    #[test]
    fn what_was_not_used_is_as_old_as_the_wish_to_know() {
        let uses = Uses::default();
        uses.want(Order::Lru);
        uses.since_secs.fetch_sub(100, Ordering::Relaxed);
        uses.note(b"a");
        assert!(uses.idle_secs(b"a") < 50 && uses.idle_secs(b"b") >= 100);
    }
}
