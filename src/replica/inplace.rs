//! Keys that hold one value of one write are read and written where their rows lie; nothing is allocated.
//! Whatever is not as simple is left to objects and edits.

use std::sync::atomic::Ordering;

use super::rows::end_ops;
use super::space::{PlainStep, Space};
use super::{Key, Replica, ReplicaError, Uncommitted, Written};
use crate::base::clock;
use crate::logic::causal::{Contribution, Dot};
use crate::logic::place::{self, Position};
use crate::logic::plain::{self, Holds, Plain};

impl Replica {
    /// Shows a key that holds one value, or nothing; with the write that is not committed yet, if it is one's.
    /// `None`: a closer look is needed, or `see` wants one.
    pub fn look<R>(
        &self,
        key: Key<'_>,
        see: impl FnOnce(Option<&Plain<'_>>) -> Option<R>,
    ) -> Option<(R, Option<Uncommitted>)> {
        let at = Position::of(key.name, self.partitions);
        let shard = self.shard_of(at.partition);
        let space = self.spaces.of(at.partition, key.db);
        let row_key = place::row_key(at, key.db, key.name);
        let (mut see, mut seen) = (Some(see), None);
        let ticket = self.store.look(shard, &row_key, &mut |row| {
            if let Ok(row) = as_shown(row, space)
                && let Some(see) = see.take()
            {
                seen = see(row.as_ref());
            }
        })?;
        let uncommitted = (ticket > 0).then_some(Uncommitted { shard, ticket });
        Some((seen?, uncommitted))
    }

    /// Writes bytes over everything seen of a key, if nothing else need know of it. `None`: nothing was done.
    pub fn put_plain(
        &self,
        key: Key<'_>,
        bytes: &[u8],
        expires_at_ms: Option<u64>,
    ) -> Result<Option<Written>, ReplicaError> {
        let changed = self.change_plain(key, |_, _| Some(((), Holds::Bytes(bytes), expires_at_ms)));
        Ok(changed?.map(|((), written)| written))
    }

    /// Adds to a counter that nothing else was added to; with what it is then. `None`: nothing was done.
    pub fn count_plain(
        &self,
        key: Key<'_>,
        amount: i64,
    ) -> Result<Option<(i64, Written)>, ReplicaError> {
        self.change_plain(key, |row, seq| {
            let before = match row {
                None => Contribution {
                    total: 0,
                    chain: seq,
                },
                Some(Plain {
                    holds: Holds::Count(before),
                    dot,
                    expires_at_ms: None,
                    ..
                }) if dot.actor == self.actor => *before,
                Some(_) => return None,
            };
            let total = before.total.checked_add(amount)?;
            Some((total, Holds::Count(Contribution { total, ..before }), None))
        })
    }

    /// Changes a key where its row lies: to what `change` makes of it and of the number of the write.
    fn change_plain<'v, R>(
        &self,
        key: Key<'_>,
        change: impl Fn(Option<&Plain<'_>>, u64) -> Option<(R, Holds<'v>, Option<u64>)>,
    ) -> Result<Option<(R, Written)>, ReplicaError> {
        if self.shared {
            return Ok(None);
        }
        let at = Position::of(key.name, self.partitions);
        let shard = self.shard_of(at.partition);
        let space = self.spaces.of(at.partition, key.db);
        let row_key = place::row_key(at, key.db, key.name);
        let epoch = space.epoch();
        let now_ms = clock::now_ms();
        let _order = self.lock(at);
        let _followed = self.counting.follow();
        let mut changed = None;
        let ticket = self.store.change(shard, &row_key, &mut |row, changing| {
            let Ok(old) = as_shown(row, space) else {
                return false;
            };
            let old = old.as_ref();
            let dot = Dot {
                actor: self.actor,
                seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
            };
            let Some((result, holds, ends)) = change(old, dot.seq) else {
                return false;
            };
            let stamp = (dot, self.tick(now_ms));
            plain::write(&mut changing.row, old, stamp, holds, ends);
            let ended = old.and_then(|old| old.expires_at_ms);
            changing.more.extend(end_ops(&row_key, ended, ends));
            let old = old.map(|old| (old.dot, ended.is_some()));
            let step = PlainStep {
                old,
                new: (dot, ends.is_some()),
                epoch,
            };
            changed = Some((result, step));
            true
        })?;
        let (Some(ticket), Some((result, step))) = (ticket, changed) else {
            return Ok(None);
        };
        space.count_plain(&step);
        self.absences.end(key);
        let written = Written {
            shard,
            ticket,
            delta: None,
        };
        Ok(Some((result, written)))
    }
}

/// A closer look is needed.
struct NotPlain;

/// What a row shows, where that is plain: nothing, or one value that no flush has covered.
fn as_shown<'r>(row: Option<&'r [u8]>, space: &Space) -> Result<Option<Plain<'r>>, NotPlain> {
    let Some(row) = row else { return Ok(None) };
    let row = plain::read(row).ok_or(NotPlain)?;
    if space.covers(row.dot) {
        return Err(NotPlain);
    }
    Ok(Some(row))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::logic::edit::Edit;
    use crate::logic::placement::Partitions;
    use crate::logic::types::string::{self, Shown};
    use crate::replica::Options;
    use crate::storage::{MemoryStore, Store};

    const FAR: u64 = 1 << 50;

    fn start() -> (Arc<MemoryStore>, Replica) {
        let store = Arc::new(MemoryStore::new(1));
        let partitions = Partitions::new(64).expect("a power of two");
        let port = Arc::clone(&store) as Arc<dyn Store>;
        let started = Replica::start(port, Options::alone(partitions));
        (store, started.expect("starts").0)
    }

    /// What a key shows: by way of its row, where that is plain, and by way of its object.
    fn shows(replica: &Replica, key: Key<'_>) -> (Option<String>, Option<u64>) {
        let object = replica.read(key).expect("read");
        let by_object = string::shown(&object, clock::now_ms());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let ends = by_object.as_ref().and_then(|shown| shown.expires_at_ms);
        let by_object = by_object.map(|shown| text(&shown.bytes));
        let by_row = replica.look(key, |row| {
            Some(row.map(|row| match row.holds {
                Holds::Bytes(bytes) => text(bytes),
                Holds::Count(counted) => counted.total.to_string(),
            }))
        });
        if let Some((by_row, uncommitted)) = by_row {
            assert_eq!((&by_row, uncommitted), (&by_object, None));
        }
        (by_object, ends)
    }

    fn count_by_object(replica: &Replica, key: Key<'_>, amount: i64) {
        let counted = replica.update(key, |object, now_ms| {
            let shown = string::shown(object, now_ms);
            let value = shown.as_ref().map_or(Some(0), Shown::integer);
            let adds = value.is_some_and(|value| value.checked_add(amount).is_some());
            (
                if adds {
                    string::count(amount)
                } else {
                    Edit::Keep
                },
                (),
            )
        });
        counted.expect("written");
    }

    #[test]
    fn what_is_written_in_place_is_what_is_written_by_way_of_objects() {
        let (fast_store, fast) = start();
        let (slow_store, slow) = start();
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut in_place = 0;
        for step in 0..3_000 {
            let name = format!("key:{}", random(12)).into_bytes();
            let key = Key {
                db: random(2) as u8,
                name: &name,
            };
            match random(40) {
                0..15 => {
                    let text = step.to_string();
                    let ends = [None, None, Some(FAR), Some(FAR + step)][random(4) as usize];
                    let put = string::put(text.clone().into(), ends);
                    slow.update(key, |_, _| (put.clone(), ())).expect("written");
                    let put_plain = fast.put_plain(key, text.as_bytes(), ends);
                    match put_plain.expect("taken") {
                        Some(_) => in_place += 1,
                        None => drop(fast.update(key, |_, _| (put, ())).expect("written")),
                    }
                }
                15..30 => {
                    let amount = random(100) as i64 - 30;
                    count_by_object(&slow, key, amount);
                    match fast.count_plain(key, amount).expect("taken") {
                        Some((sum, _)) => {
                            in_place += 1;
                            assert_eq!(shows(&fast, key).0, Some(sum.to_string()));
                        }
                        None => count_by_object(&fast, key, amount),
                    }
                }
                30..36 => {
                    for replica in [&fast, &slow] {
                        let deleted = replica.update(key, |_, _| (Edit::delete(), ()));
                        deleted.expect("written");
                    }
                }
                36..39 => {
                    for replica in [&fast, &slow] {
                        let retimed = replica.update(key, |object, now_ms| {
                            let is_there = string::shown(object, now_ms).is_some();
                            let to = Some(FAR - step);
                            (
                                if is_there {
                                    Edit::Retime(to)
                                } else {
                                    Edit::Keep
                                },
                                (),
                            )
                        });
                        retimed.expect("written");
                    }
                }
                _ => {
                    for replica in [&fast, &slow] {
                        replica.flush(Some(key.db)).expect("flushed");
                    }
                }
            }
            assert_eq!(shows(&fast, key), shows(&slow, key), "step {step}");
            let counts = |replica: &Replica| {
                (0..2)
                    .map(|db| (replica.spaces.live(db), replica.spaces.expiring(db)))
                    .collect::<Vec<_>>()
            };
            assert_eq!(counts(&fast), counts(&slow), "step {step}");
        }
        assert!(in_place > 500, "{in_place}");
        // The same keys end, by the index.
        let ends = |store: &MemoryStore| -> Vec<u64> {
            let rows = store.scan(0, crate::storage::Table::Expiry, &[], &[0xff; 8], 999);
            let rows = rows.expect("scan").into_iter();
            rows.map(|(key, _)| place::expiry_time_ms(&key)).collect()
        };
        assert!(!ends(&fast_store).is_empty());
        assert_eq!(ends(&fast_store), ends(&slow_store));
    }
}
