//! Reclaiming what reads already ignore: expired keys by the time-ordered index, and rows below a
//! floor by partition. In slices, so that nothing else waits.

use std::sync::atomic::Ordering;

use super::places::{ExpiryPlace, FlushedPlace};
use super::rows::{floor_op, gone_op};
use super::space::ALL_DATABASES;
use super::{Key, Replica, ReplicaError, Written};
use crate::base::clock;
use crate::logic::causal::Object;
use crate::logic::place;
use crate::logic::spread::{self, Gathered, Stored};
use crate::storage::{Op, Table, Write};

/// Rows of one slice: small, because a slice runs to its end before the sweep rests.
const SLICE: usize = 8;
/// When keys have been due for so long the sweep does not keep up, and takes larger slices.
const LATE_MS: u64 = 60_000;
const LATE_SLICE: usize = 64;
/// Rows of one slice of what was flushed.
const FLUSHED_SLICE: usize = 64;
const START_OVER_MS: u64 = 10_000;
/// Fewer removed rows are left to the engine.
const COMPACT_FROM: u64 = 100_000;

impl Replica {
    /// Empties a database, or all, at once. The caller keeps every other write out. Blocks, on a lone node
    /// until that is stored.
    pub fn flush(&self, db: Option<u8>) -> Result<Written, ReplicaError> {
        let floor = self.everything();
        let flushed = self.raise_floor_when(db, &floor, !self.shared)?;
        if !self.shared {
            self.spare_floors(db);
        }
        Ok(flushed)
    }

    /// Reclaims a slice of the keys that have ended, before an instant; whether there may be more. The caller settles.
    ///
    /// The index is read onwards from where the last slice ended: before that lie the remains of
    /// what was reclaimed, which the engine steps over slowly. Now and then it starts over, for
    /// values that had already ended when they were written.
    pub fn reclaim_expired(&self, before_ms: u64) -> Result<bool, ReplicaError> {
        let Some(now_ms) = self.reclaims_before_ms() else {
            return Ok(false);
        };
        let now_ms = now_ms.min(before_ms);
        let mut more = false;
        for shard in 0..self.store.shards() {
            let to = now_ms.to_be_bytes();
            let mut place = self.expiry_places[shard].lock();
            let slice = if place.late_ms > LATE_MS {
                LATE_SLICE
            } else {
                SLICE
            };
            let due = self
                .store
                .scan(shard, Table::Expiry, &place.next, &to, slice)?;
            more |= due.len() == slice;
            place.late_ms = due.first().map_or(0, |(key, _)| {
                now_ms.saturating_sub(place::expiry_time_ms(key))
            });
            match due.last() {
                Some((last, _)) => place.next = [last.as_slice(), &[0]].concat(),
                // A clock that was set back has left the place in the future.
                None if now_ms.abs_diff(place.started_ms) > START_OVER_MS => {
                    *place = ExpiryPlace {
                        next: Vec::new(),
                        started_ms: now_ms,
                        late_ms: 0,
                    };
                }
                None => {}
            }
            drop(place);
            for (index_key, _) in due {
                self.reclaim_due(shard, index_key, now_ms)?;
            }
        }
        Ok(more)
    }

    /// What ended before may be reclaimed; nothing while it is not known what time it is elsewhere.
    pub fn reclaims_before_ms(&self) -> Option<u64> {
        if !self.shared {
            return Some(clock::now_ms());
        }
        let ahead_ms = self.others_ahead_ms.load(Ordering::Acquire);
        if ahead_ms == i64::MIN {
            return None;
        }
        // A clock that is ahead of most others must not end what they still show.
        let now_ms = clock::now_ms().saturating_add_signed(ahead_ms.min(0));
        Some(now_ms.saturating_sub(self.grace_ms))
    }

    /// The clock in the middle of all members' is so far ahead of this node's.
    pub fn agree_on_time(&self, ahead_ms: i64) {
        self.others_ahead_ms.store(ahead_ms, Ordering::Release);
    }

    fn reclaim_due(
        &self,
        shard: usize,
        index_key: Vec<u8>,
        now_ms: u64,
    ) -> Result<(), ReplicaError> {
        let row_key = index_key.get(8..).unwrap_or_default();
        let Some((at, db, name)) = place::parse(row_key) else {
            return Ok(());
        };
        let located = self.locate(Key { db, name }, at);
        let _order = self.lock(at);
        let object = match self.load(&located) {
            Err(ReplicaError::Row(_)) => return Ok(()),
            loaded => loaded?,
        };
        let ends_at_ms = object.ends_at_ms();
        if ends_at_ms.is_some_and(|end| end < now_ms) {
            let remains = self.remains(&object);
            self.store_object(&located, &object, &remains, None)?;
            self.counters.expired_keys.fetch_add(1, Ordering::Relaxed);
        }
        let is_current = ends_at_ms.is_some_and(|end| end.to_be_bytes() == index_key[..8]);
        if !is_current {
            let op = Op {
                table: Table::Expiry,
                key: index_key,
                value: None,
            };
            self.store.submit(shard, Write::freeing(vec![op]))?;
        }
        Ok(())
    }

    /// Reclaims a slice of a flushed space's rows; whether there may be more. Where one cannot be read,
    /// others have their turn first. Blocks.
    pub fn reclaim_flushed(&self) -> Result<bool, ReplicaError> {
        let mut place = self.flushed_place.lock();
        let Some(partition) = self.next_to_reclaim(place.turn) else {
            return Ok(false);
        };
        self.settle();
        // What is not sure to be flushed must not go.
        if self.has_failed_since_counted() {
            return Ok(false);
        }
        let failures = self.failed_batches();
        let is_under_way = !place.databases.is_empty() && place.failures == failures;
        if place.turn != partition || !is_under_way {
            *place = FlushedPlace {
                turn: partition,
                databases: self.flushed_in(partition),
                failures,
                next: partition.to_be_bytes().to_vec(),
            };
        }
        match self.reclaim_slice_below_floor(&mut place) {
            Ok(true) => Ok(true),
            Ok(false) => {
                let done = std::mem::replace(&mut *place, FlushedPlace::after(partition));
                self.is_reclaimed(&done)
            }
            Err(error) => {
                *place = FlushedPlace::after(partition);
                Err(error)
            }
        }
    }

    fn next_to_reclaim(&self, from: u16) -> Option<u16> {
        let waiting = self.to_reclaim.lock();
        let next = waiting.range((from, 0)..).next().or(waiting.first());
        next.map(|(partition, _)| *partition)
    }

    /// The flushed databases of a partition, each with its flushes.
    fn flushed_in(&self, partition: u16) -> Vec<(u8, u64)> {
        let waiting = self.to_reclaim.lock();
        let databases = waiting.range((partition, 0)..=(partition, u8::MAX));
        let flushes = |db| self.spaces.of(partition, db).epoch();
        databases.map(|&(_, db)| (db, flushes(db))).collect()
    }

    /// Whether there may be more.
    fn reclaim_slice_below_floor(&self, place: &mut FlushedPlace) -> Result<bool, ReplicaError> {
        let (shard, end) = (self.shard_of(place.turn), place::partition_end(place.turn));
        let rows = self
            .store
            .scan(shard, Table::Data, &place.next, &end, FLUSHED_SLICE)?;
        let Some((last, _)) = rows.last() else {
            return Ok(false);
        };
        place.next = place::behind(last);
        for (row_key, _) in rows {
            self.reclaim_row_below_floor(shard, &row_key, &place.databases)?;
        }
        self.settle();
        Ok(true)
    }

    /// Notes that the rows of a partition's databases are reclaimed, but of those that were flushed again,
    /// and unless something was not stored; whether there are more.
    fn is_reclaimed(&self, place: &FlushedPlace) -> Result<bool, ReplicaError> {
        // A flush writes its floor and raises it in one step, which this must not come between.
        let _alone = self.counting.alone();
        let mut waiting = self.to_reclaim.lock();
        if place.failures != self.failed_batches() {
            return Ok(true);
        }
        let mut ops = Vec::new();
        for &(db, epoch) in &place.databases {
            let space = self.spaces.of(place.turn, db);
            if epoch != space.epoch() {
                continue;
            }
            waiting.remove(&(place.turn, db));
            let floor = space.floor();
            ops.extend(floor.map(|floor| floor_op(place.turn, db, true, &floor)));
        }
        if !ops.is_empty() {
            let shard = self.shard_of(place.turn);
            self.store.submit(shard, Write::freeing(ops))?;
        }
        Ok(!waiting.is_empty())
    }

    /// Has the store give back what removed rows occupy, once there are many of them and as many as are
    /// left; whether it did. Blocks.
    pub fn compact_when_worth_it(&self) -> Result<bool, ReplicaError> {
        let removed = &self.counters.removed_rows;
        let count = removed.load(Ordering::Relaxed);
        let left: u64 = (0..ALL_DATABASES).map(|db| self.live_keys_so_far(db)).sum();
        if count < COMPACT_FROM || count < left || !self.is_counted() {
            return Ok(false);
        }
        removed.fetch_sub(count, Ordering::Relaxed);
        self.store.compact()?;
        Ok(true)
    }

    fn reclaim_row_below_floor(
        &self,
        shard: usize,
        row_key: &[u8],
        databases: &[(u8, u64)],
    ) -> Result<(), ReplicaError> {
        let Some((at, db, name)) = place::parse(row_key) else {
            return Ok(());
        };
        // What was flushed again may not be stored yet.
        let epoch = self.spaces.of(at.partition, db).epoch();
        if !databases.contains(&(db, epoch)) {
            return Ok(());
        }
        let _order = self.lock(at);
        // A write since the flush is above the floor.
        let Some(raw) = self.store.load(shard, Table::Data, row_key)? else {
            return Ok(());
        };
        let (stored, generation) = match spread::read(&raw) {
            Ok(Stored::Object(object)) => (object, None),
            Ok(Stored::Head(head)) => {
                let generation = Some(head.generation);
                let Ok(object) = head.with(Gathered::default()) else {
                    self.note_damaged(Key { db, name });
                    return Ok(());
                };
                (object, generation)
            }
            Err(_) => {
                self.note_damaged(Key { db, name });
                return Ok(());
            }
        };
        let mut object = stored.clone();
        self.spaces.of(at.partition, db).sink(&mut object);
        // Dots beyond the floor are all that is worth remembering of a deleted key.
        if !self.forgets(&object) {
            return Ok(());
        }
        let mut ops = vec![Op {
            table: Table::Data,
            key: row_key.to_vec(),
            value: None,
        }];
        ops.extend(generation.map(|generation| gone_op(row_key, generation)));
        super::rows::index_ops(&mut ops, row_key, &stored, &Object::default(), self.shared);
        self.store.submit(shard, Write::freeing(ops))?;
        self.counters.flushed_rows.fetch_add(1, Ordering::Relaxed);
        self.counters.removed_rows.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
