//! Reading over keys: SCAN, KEYS, DBSIZE, RANDOMKEY, CONFLICTS.
//!
//! A cursor is a place in the order of rows, `slot << 38 | hash >> 26`, so it needs no state on the
//! server, stays below 2^53, and a key that is there throughout is never skipped.

use super::{DATABASES, Key, Replica, ReplicaError};
use crate::base::clock;
use crate::base::random::random_u64;
use crate::logic::place::{self, Position};
use crate::logic::placement::{SLOTS, Slot};
use crate::storage::pages::Pages;
use crate::storage::{Row, Table, Ticket, WriteFailed};

const HASH_BITS: u32 = 38;
const HASH_SHIFT: u32 = 64 - HASH_BITS;
const PAGE: usize = 512;
/// Bytes of a page, and of all rows that one call looks at.
const PAGE_BYTES: usize = 256 << 10;
const MOST_BYTES: usize = 4 << 20;

/// Keys after a random place of which one is a random key.
const FOLLOWERS: usize = 64;
/// Rows of other databases that one call looks at beside.
const MOST_ROWS: usize = 16_384;

/// What one call may still look at.
struct Budget {
    /// Rows of the database.
    rows: usize,
    /// Rows of all.
    all_rows: usize,
    bytes: usize,
}

impl Budget {
    fn is_used_up(&self) -> bool {
        self.rows == 0 || self.all_rows == 0 || self.bytes == 0
    }
}

/// A page of keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where to go on; 0 when everything was seen.
    pub cursor: u64,
    /// Keys.
    pub keys: Vec<Vec<u8>>,
}

impl Replica {
    /// Which stored database a numbered one is.
    pub fn database(&self, number: u8) -> u8 {
        let databases = self.databases.read();
        let stored = databases.get(usize::from(number));
        *stored.unwrap_or(&number)
    }

    /// How many keys a database has; expired ones count until they are reclaimed, as in Redis.
    /// Blocks while they are still being counted after an unclean stop.
    pub fn live_keys(&self, db: u8) -> u64 {
        self.finish_counting();
        self.live_keys_so_far(db)
    }

    /// Whether any key lives in the store, in whatever database. Blocks.
    pub fn has_keys(&self) -> Result<bool, ReplicaError> {
        if self.is_counted() && (0..DATABASES).any(|db| self.live_keys_so_far(db) > 0) {
            return Ok(true);
        }
        for db in 0..DATABASES {
            let mut cursor = 0;
            loop {
                let found = self.scan(db, cursor, PAGE)?;
                if !found.keys.is_empty() {
                    return Ok(true);
                }
                cursor = found.cursor;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(false)
    }

    /// How many of them have been counted.
    pub fn live_keys_so_far(&self, db: u8) -> u64 {
        self.spaces.live(db) as u64
    }

    /// How many of them end by themselves.
    pub fn expiring_keys(&self, db: u8) -> u64 {
        self.spaces.expiring(db) as u64
    }

    /// Waits until every write ordered so far is in the store. Blocks.
    pub fn settle(&self) {
        for (shard, ticket) in self.last_tickets() {
            self.store.kick(shard);
            self.store.progress(shard).block_until_committed(ticket);
        }
    }

    /// Whether every write ordered so far is in the store.
    pub fn is_settled(&self) -> bool {
        let mut last = self.last_tickets();
        last.all(|(shard, ticket)| self.store.progress(shard).committed() >= ticket)
    }

    /// Each shard's last write.
    fn last_tickets(&self) -> impl Iterator<Item = (usize, Ticket)> + '_ {
        (0..self.store.shards()).map(|shard| (shard, self.store.last(shard)))
    }

    /// Waits, without blocking, until every write ordered so far is in the store.
    pub async fn settled(&self) {
        // A write that failed is none that a scan could miss.
        let _ = self.committed().await;
    }

    /// Waits until every write ordered so far is in the store.
    ///
    /// # Errors
    /// When the last one was not stored. (Whether an earlier one was not, [`Self::failed_batches`] tells.)
    pub async fn committed(&self) -> Result<(), WriteFailed> {
        let mut all = Ok(());
        for (shard, ticket) in self.last_tickets() {
            self.store.kick(shard);
            let one = self.store.progress(shard).wait_committed(ticket).await;
            all = all.and(one);
        }
        all
    }

    /// Waits until every write ordered so far is on the disk.
    ///
    /// # Errors
    /// When one of them was not stored.
    pub async fn synced(&self) -> Result<(), WriteFailed> {
        self.committed().await?;
        for (shard, ticket) in self.last_tickets() {
            self.store.progress(shard).wait_synced(ticket).await?;
        }
        Ok(())
    }

    /// The live keys from `cursor` on, after looking at about `count` rows, or fewer where they are large.
    /// Blocks.
    pub fn scan(&self, db: u8, cursor: u64, count: usize) -> Result<Found, ReplicaError> {
        self.scan_table(Table::Data, db, cursor, count)
    }

    /// How many keys of a database each partition has.
    pub fn live_by_partition(&self, db: u8) -> Vec<u64> {
        self.finish_counting();
        let live = |partition| self.spaces.of(partition, db).live().max(0) as u64;
        (0..self.partitions.count()).map(live).collect()
    }

    /// Live keys (or those with siblings) of some partitions from `cursor` on, each with its place
    /// in the order of cursors, and where to go on. Blocks.
    pub fn scan_parts(
        &self,
        db: u8,
        cursor: u64,
        count: usize,
        conflicts: bool,
        wanted: &dyn Fn(u16) -> bool,
    ) -> Result<(u64, Vec<(u64, Vec<u8>)>), ReplicaError> {
        let found = if conflicts {
            self.conflicts(db, cursor, count)?
        } else {
            self.scan(db, cursor, count)?
        };
        let placed = |key: Vec<u8>| {
            let at = Position::of(&key, self.partitions);
            wanted(at.partition).then(|| (place(at), key))
        };
        Ok((
            found.cursor,
            found.keys.into_iter().filter_map(placed).collect(),
        ))
    }

    /// Up to `limit` live keys of one slot. Blocks.
    pub fn keys_in_slot(
        &self,
        db: u8,
        slot: u16,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, ReplicaError> {
        let end = u64::from(slot + 1) << HASH_BITS;
        let (mut keys, mut cursor) = (Vec::new(), u64::from(slot) << HASH_BITS);
        loop {
            let found = self.scan(db, cursor, PAGE)?;
            let inside = |key: &Vec<u8>| Position::of(key, self.partitions).slot.0 == slot;
            keys.extend(found.keys.into_iter().filter(inside));
            cursor = found.cursor;
            if cursor == 0 || cursor >= end || keys.len() >= limit {
                keys.truncate(limit);
                return Ok(keys);
            }
        }
    }

    /// The keys with siblings from `cursor` on. Blocks.
    pub fn conflicts(&self, db: u8, cursor: u64, count: usize) -> Result<Found, ReplicaError> {
        let mut found = self.scan_table(Table::Conflict, db, cursor, count)?;
        let now_ms = clock::now_ms();
        let mut kept = Vec::new();
        for key in found.keys {
            let Ok(object) = self.read(Key { db, name: &key }) else {
                continue;
            };
            if object.lives(now_ms) && object.distinct_siblings() > 1 {
                kept.push(key);
            }
        }
        found.keys = kept;
        Ok(found)
    }

    /// A live key, each about as likely as any other: one of those that follow a random place. Blocks.
    pub fn random_key(&self, db: u8) -> Result<Option<Vec<u8>>, ReplicaError> {
        let mut keys = self.random_keys(db, FOLLOWERS)?;
        if keys.is_empty() {
            return Ok(None);
        }
        let nth = random_u64() as usize % keys.len();
        Ok(Some(keys.swap_remove(nth)))
    }

    /// Live keys that follow a random place, about so many. Blocks.
    pub fn random_keys(&self, db: u8, count: usize) -> Result<Vec<Vec<u8>>, ReplicaError> {
        // Keys lie where their hashes are.
        let place = random_u64() % (u64::from(SLOTS) << HASH_BITS);
        let mut keys = Vec::new();
        for (mut cursor, end) in [(place, u64::MAX), (0, place)] {
            while keys.len() < count && cursor < end {
                let found = self.scan(db, cursor, count)?;
                keys.extend(found.keys);
                cursor = found.cursor;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(keys)
    }

    fn scan_table(
        &self,
        table: Table,
        db: u8,
        cursor: u64,
        count: usize,
    ) -> Result<Found, ReplicaError> {
        let mut found = Found::default();
        let slot = Slot((cursor >> HASH_BITS).min(u64::from(SLOTS)) as u16);
        if slot.0 >= SLOTS {
            return Ok(found);
        }
        let start = self.partitions.of(slot);
        let mut from = place::range_start(start, slot, cursor << HASH_SHIFT).to_vec();
        let mut budget = Budget {
            rows: count.max(1),
            all_rows: count.max(MOST_ROWS),
            bytes: MOST_BYTES,
        };
        for shard in self.shard_of(start)..self.store.shards() {
            let partitions = self.partitions_of(shard);
            from = from.max(partitions.start.to_be_bytes().to_vec());
            let range = (from.clone(), place::partition_end(partitions.end - 1));
            if let Some(last) =
                self.scan_shard((table, db), shard, range, &mut budget, &mut found)?
            {
                found.cursor = next_cursor(last);
                return Ok(found);
            }
        }
        Ok(found)
    }

    /// Reads up to `left` rows, and no more than one call may look at; the last one's position when that
    /// was not the whole range.
    fn scan_shard(
        &self,
        (table, db): (Table, u8),
        shard: usize,
        (mut from, end): (Vec<u8>, [u8; 4]),
        budget: &mut Budget,
        found: &mut Found,
    ) -> Result<Option<Position>, ReplicaError> {
        let mut pages = Pages::of(PAGE_BYTES, PAGE);
        let mut is_among_others = false;
        loop {
            let page = if is_among_others {
                pages.rows()
            } else {
                pages.rows().min(budget.rows.max(1))
            };
            let rows = self.store.scan(shard, table, &from, &end, page)?;
            let full = rows.len() == page;
            let Some((last, _)) = rows.last() else {
                return Ok(None);
            };
            let last = last.clone();
            budget.all_rows = budget.all_rows.saturating_sub(rows.len());
            budget.bytes = budget.bytes.saturating_sub(pages.read(&rows));
            let rows = self.keep_live((table, db), rows, found);
            budget.rows = budget.rows.saturating_sub(rows);
            is_among_others = rows == 0;
            if !full {
                return Ok(None);
            }
            from = place::behind(&last);
            if budget.is_used_up() {
                let Some((at, ..)) = place::parse(&last) else {
                    continue;
                };
                let rest = self
                    .store
                    .scan(shard, table, &from, &place_end(at), usize::MAX)?;
                self.keep_live((table, db), rest, found);
                return Ok(Some(at));
            }
        }
    }

    /// Keeps those of a database; how many rows it has among them.
    fn keep_live(&self, (table, db): (Table, u8), rows: Vec<Row>, found: &mut Found) -> usize {
        let (now_ms, mut seen) = (clock::now_ms(), 0);
        for (row_key, raw) in rows {
            let Some((at, row_db, key)) = place::parse(&row_key) else {
                continue;
            };
            if row_db != db {
                continue;
            }
            seen += 1;
            let live = if table == Table::Data {
                self.lives(&row_key, (at, db, key), &raw, now_ms)
            } else {
                true
            };
            if live {
                found.keys.push(key.to_vec());
            }
        }
        seen
    }
}

impl Replica {
    fn lives(
        &self,
        row_key: &[u8],
        (at, db, name): (Position, u8, &[u8]),
        raw: &[u8],
        now_ms: u64,
    ) -> bool {
        let located = self.found(row_key, (at, db, name));
        let scan = |from: &[u8], to: &[u8], limit| {
            let shard = located.shard;
            self.store.scan(shard, Table::Data, from, to, limit)
        };
        if let Ok(object) = self.decode(&located, raw, &scan) {
            return object.lives(now_ms);
        }
        // It may have been written meanwhile. If not, a client that asks for it learns what is wrong.
        let again = self.read(Key { db, name });
        again.map_or(true, |object| object.lives(now_ms))
    }
}

/// Where the keys end that share a position's cursor: a cursor cannot split them.
fn place_end(at: Position) -> [u8; place::POSITION_LEN] {
    let beyond = (at.hash >> HASH_SHIFT) + 1;
    if beyond >> HASH_BITS == 0 {
        place::range_start(at.partition, at.slot, beyond << HASH_SHIFT)
    } else {
        place::range_start(at.partition, Slot(at.slot.0 + 1), 0)
    }
}

fn place(at: Position) -> u64 {
    u64::from(at.slot.0) << HASH_BITS | at.hash >> HASH_SHIFT
}

fn next_cursor(last: Position) -> u64 {
    let next = place(last) + 1;
    if next >> HASH_BITS >= u64::from(SLOTS) {
        0
    } else {
        next
    }
}
