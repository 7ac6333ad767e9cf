//! Counts and trees after an unclean stop: found again from the store as it was at the start, one
//! partition at a time, while the node serves.
//!
//! Writes since the start have been followed from the first on, so that what they changed and what
//! was there at the start add up to what is there. A caller that needs the whole count helps to finish it.
//! Meanwhile a partition that is not counted yet passes for one that may hold anything.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::counting::Rest;
use super::{ALL_DATABASES, Key, Replica, ReplicaError, random_u64};
use crate::base::clock;
use crate::logic::place;
use crate::storage::pages::Pages;
use crate::storage::{Frozen, Table};

/// Rows read at a time, of about so many bytes.
const PAGE: usize = 512;
const PAGE_BYTES: usize = 256 << 10;
/// Partitions whose counts are looked at after a clean stop, where they have no more keys.
const SAMPLE: usize = 4;
const SAMPLE_KEYS: i64 = 8_192;
const SAMPLE_BYTES: usize = 8 << 20;
/// A start waits no longer for what is to be counted.
const AT_ONCE: Duration = Duration::from_millis(500);

impl Replica {
    /// Whether [`Self::recover_from_failures`] has something to do.
    pub fn is_to_recover(&self) -> bool {
        self.has_failed_since_counted()
    }

    /// When writes were not stored: everything in memory that had followed them is taken from the store
    /// again, and counting begins anew. Blocks.
    pub fn recover_from_failures(&self) -> Result<(), ReplicaError> {
        if !self.has_failed_since_counted() {
            return Ok(());
        }
        tracing::info!("counting again, since writes were not stored");
        let _alone = self.counting.alone();
        // A partition says what it has seen only while that is sure.
        self.forget_all_seen()?;
        self.find_floors()?;
        self.find_hints()?;
        self.begin_counting()
    }

    /// Begins to count anew. Blocks.
    pub(super) fn count_again(&self) -> Result<(), ReplicaError> {
        let _alone = self.counting.alone();
        self.begin_counting()
    }

    pub(super) fn has_failed_since_counted(&self) -> bool {
        self.failed_batches() != self.counting.failures.load(Ordering::Acquire)
    }

    /// How many batches were not stored since the start: what was queued before may be missing.
    pub fn failed_batches(&self) -> u64 {
        let shards = 0..self.store.shards();
        shards
            .map(|shard| self.store.progress(shard).failures())
            .sum()
    }

    /// How often counting has begun: what was read of counts before is not what they are now.
    pub fn counts_begun(&self) -> u64 {
        self.counting.nth()
    }

    /// Whether everything is counted, and all of it is stored.
    pub fn is_counted(&self) -> bool {
        self.counting.is_over.load(Ordering::Acquire) && !self.has_failed_since_counted()
    }

    pub(super) fn is_counted_in(&self, partition: u16) -> bool {
        if self.has_failed_since_counted() {
            return false;
        }
        self.is_counted() || u64::from(partition) < self.counting.next.load(Ordering::Acquire)
    }

    /// The counts of a clean stop hold.
    pub(super) fn need_not_count(&self) {
        let failures = self.failed_batches();
        self.counting.failures.store(failures, Ordering::Release);
        self.counting.is_over.store(true, Ordering::Release);
    }

    /// From now on changes are followed; what is there is counted later. Nobody writes, and everything
    /// is stored.
    pub(super) fn begin_counting(&self) -> Result<(), ReplicaError> {
        let failures = self.failed_batches();
        let shards = 0..self.store.shards();
        let frozen: Result<_, _> = shards.map(|shard| self.store.freeze(shard)).collect();
        let shards = frozen?;
        let mut rest = self.counting.rest.lock();
        self.counting.is_over.store(false, Ordering::Release);
        self.counting.next.store(0, Ordering::Release);
        self.counting.failures.store(failures, Ordering::Release);
        self.counting.nth.fetch_add(1, Ordering::AcqRel);
        self.begin_ends();
        self.spaces.clear();
        *rest = Some(Rest { shards, counted: 0 });
        Ok(())
    }

    /// What is quickly counted is counted when clients come.
    pub(super) fn count_at_once(&self) {
        let begun = clock::monotonic();
        while clock::monotonic().duration_since(begun) < AT_ONCE && self.count_next() {}
    }

    /// Counts one partition; whether there are more. Where it cannot, counting has to begin anew. Blocks.
    pub fn count_next(&self) -> bool {
        if self.counting.is_over.load(Ordering::Acquire) {
            return false;
        }
        let mut rest = self.counting.rest.lock();
        let Some(Rest { shards, counted }) = &mut *rest else {
            return false;
        };
        let partition = self.counting.next.load(Ordering::Acquire) as u16;
        if partition < self.partitions.count() {
            let frozen = &shards[self.shard_of(partition)];
            match self.count_partition(&**frozen, partition) {
                Ok(_) if self.has_failed_since_counted() => *rest = None,
                Ok(keys) => {
                    *counted += keys;
                    let next = u64::from(partition) + 1;
                    self.counting.next.store(next, Ordering::Release);
                    return true;
                }
                Err(error) => {
                    tracing::error!(partition, %error, "a partition cannot be counted yet");
                    self.counting.failures.store(u64::MAX, Ordering::Release);
                    *rest = None;
                }
            }
            return false;
        }
        tracing::info!(keys = *counted, "everything is counted");
        *rest = None;
        self.counting.is_over.store(true, Ordering::Release);
        false
    }

    /// Counts what is left. Blocks.
    pub fn finish_counting(&self) {
        while self.count_next() {}
    }

    /// Whether the counts of some partitions, taken at random, are those of their rows. The others' are
    /// believed then.
    pub(super) fn is_as_counted(&self) -> Result<bool, ReplicaError> {
        for _ in 0..SAMPLE {
            let partition = (random_u64() % u64::from(self.partitions.count())) as u16;
            let spaces = self.spaces.of_partition(partition);
            let counted: Vec<_> = spaces.iter().map(|s| (s.live(), s.expiring())).collect();
            if counted.iter().map(|(live, _)| live).sum::<i64>() > SAMPLE_KEYS {
                continue;
            }
            let Some(found) = self.count_sample(partition)? else {
                continue;
            };
            if found != counted {
                tracing::warn!(
                    partition,
                    "what the last stop has counted is not what is there: everything is counted again"
                );
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many keys of each database a partition has, and how many of them end; nothing where it has
    /// too many rows, or one that cannot be read.
    fn count_sample(&self, partition: u16) -> Result<Option<Vec<(i64, i64)>>, ReplicaError> {
        let mut found = vec![(0, 0); usize::from(ALL_DATABASES)];
        let (mut from, end) = (
            partition.to_be_bytes().to_vec(),
            place::partition_end(partition),
        );
        let shard = self.shard_of(partition);
        let mut pages = Pages::of(PAGE_BYTES, PAGE);
        let (mut rows_left, mut bytes_left) = (2 * SAMPLE_KEYS as usize, SAMPLE_BYTES);
        loop {
            let rows = self
                .store
                .scan(shard, Table::Data, &from, &end, pages.rows())?;
            let Some((last, _)) = rows.last() else {
                return Ok(Some(found));
            };
            from = place::behind(last);
            rows_left = rows_left.saturating_sub(rows.len());
            bytes_left = bytes_left.saturating_sub(pages.read(&rows));
            if rows_left == 0 || bytes_left == 0 {
                return Ok(None);
            }
            for (row_key, raw) in rows {
                let Some(of) = place::parse(&row_key) else {
                    continue;
                };
                let (located, db) = (self.found(&row_key, of), of.1);
                let scan = |from: &[u8], to: &[u8], limit| {
                    self.store.scan(shard, Table::Data, from, to, limit)
                };
                let Ok(object) = self.decode(&located, &raw, &scan) else {
                    return Ok(None);
                };
                let Some((live, expiring)) = found.get_mut(usize::from(db)) else {
                    continue;
                };
                *live += i64::from(!object.is_tombstone());
                *expiring += i64::from(object.ends_at_ms().is_some());
            }
        }
    }

    fn count_partition(&self, frozen: &dyn Frozen, partition: u16) -> Result<u64, ReplicaError> {
        let mut counted = 0;
        let mut from = partition.to_be_bytes().to_vec();
        let end = place::partition_end(partition);
        let mut pages = Pages::of(PAGE_BYTES, PAGE);
        loop {
            let rows = frozen.scan(Table::Data, &from, &end, pages.rows())?;
            let Some((last, _)) = rows.last() else {
                return Ok(counted);
            };
            pages.read(&rows);
            from = place::behind(last);
            for (row_key, raw) in rows {
                counted += u64::from(self.count_row(frozen, &row_key, &raw));
            }
        }
    }

    /// Counts one row; whether a key lives there.
    fn count_row(&self, frozen: &dyn Frozen, row_key: &[u8], raw: &[u8]) -> bool {
        let Some((at, db, name)) = place::parse(row_key) else {
            return false;
        };
        let located = self.found(row_key, (at, db, name));
        let scan = |from: &[u8], to: &[u8], limit| frozen.scan(Table::Data, from, to, limit);
        let Ok(object) = self.decode(&located, raw, &scan) else {
            self.note_damaged(Key { db, name });
            return false;
        };
        self.note_actors(object.context());
        let space = self.spaces.of(at.partition, db);
        self.count(space, &located, &self.empty, &object);
        !object.is_tombstone()
    }
}
