//! Starting and stopping: what the node notes about itself, and finds again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::absence::Absences;
use super::counting::Counting;
use super::ending::Ends;
use super::hint::{HintLimits, Hints};
use super::ranked::AllRanks;
use super::round::Seen;
use super::rows::{FLOOR_PREFIX, floor_op, note_key};
use super::shared::ALL_PARTITIONS;
use super::space::{ALL_DATABASES, DATABASES, Spaces, decode_floor, encode_floor};
use super::{Counters, Replica, ReplicaError, STRIPES};
use crate::base::random::random_u64;
use crate::logic::causal::{ActorId, Context, Object};
use crate::logic::codec::{Reader, put_bytes};
use crate::logic::guard;
use crate::logic::merkle::Shape;
use crate::logic::placement::Partitions;
use crate::logic::policy::Policies;
use crate::logic::quorum::{Rule, Rules};
use crate::logic::record;
use crate::storage::{Frozen, Op, Store, StoreError, Table, Write};

/// How a replica is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// This run: random, never used by another run of any node.
    pub actor: ActorId,
    /// The partitioning of slots.
    pub partitions: Partitions,
    /// Whether other nodes hold the keys too.
    pub shared: bool,
    /// How long expired keys are kept where other nodes hold them too, in milliseconds.
    pub grace_ms: u64,
    /// How long tombstones are kept at least, in milliseconds.
    pub tombstone_grace_ms: u64,
    /// What may be kept for other nodes.
    pub hints: HintLimits,
    /// How far another node's clock may be ahead, in milliseconds.
    pub max_clock_drift_ms: u64,
    /// How many owners keys have.
    pub rules: Arc<Rules>,
    /// How much one key may hold.
    pub limits: guard::Limits,
    /// What is shown of keys with siblings.
    pub policies: Arc<Policies>,
    /// Bytes of a collection's record from which it is written as a row an element.
    pub most_in_one_row: usize,
}

impl Options {
    /// A lone node's.
    pub fn alone(partitions: Partitions) -> Self {
        Self {
            actor: ActorId(random_u64()),
            partitions,
            shared: false,
            grace_ms: 0,
            tombstone_grace_ms: 0,
            hints: HintLimits::default(),
            max_clock_drift_ms: 0,
            rules: Arc::new(Rules::new(ALONE, Vec::new())),
            limits: guard::Limits {
                warn: 25,
                siblings: 100,
                bytes: 16 << 20,
            },
            policies: Arc::default(),
            most_in_one_row: 2_048,
        }
    }
}

/// What holds where nobody else holds anything.
const ALONE: Rule = Rule {
    n: 1,
    r: 1,
    w: 1,
    strict: false,
};

const ACTORS_ROW: &[u8] = b"actors";
/// There when the rows of counts are those of the last stop.
const COUNTED_ROW: &[u8] = b"counted";
const COUNTS_VERSION: u8 = 6;
const COUNTS_PREFIX: &[u8] = b"counts/";
const DATABASES_ROW: &[u8] = b"databases";
const PARTITIONS_ROW: &[u8] = b"partitions";

/// Which stored database each number stands for.
type Databases = [u8; DATABASES as usize];

/// What a start found.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// Whether the last stop was clean.
    pub clean: bool,
    /// Live keys; after an unclean stop they are still to be counted.
    pub keys: Option<u64>,
}

impl Replica {
    /// Opens the node's objects in `store`.
    ///
    /// # Errors
    /// When the store cannot be read or was made with another number of partitions.
    pub fn start(
        store: Arc<dyn Store>,
        options: Options,
    ) -> Result<(Self, Recovery), ReplicaError> {
        let (partitions, shards) = (options.partitions, store.shards());
        let sizes = options.rules.sizes();
        let failures = |shard| AtomicU64::new(store.progress(shard).failures());
        let replica = Self {
            partitions,
            actor: options.actor,
            seq: AtomicU64::new(0),
            time: AtomicU64::new(0),
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            looked_at: (0..STRIPES).map(|_| AtomicU32::new(0)).collect(),
            absences: Absences::default(),
            arrivals: Arc::default(),
            ranks: AllRanks::default(),
            spaces: Spaces::new(partitions.count(), sizes.len()),
            actors: Mutex::new(Context::new()),
            databases: RwLock::new(std::array::from_fn(|nth| nth as u8)),
            to_reclaim: Mutex::new(BTreeSet::new()),
            raising: Mutex::default(),
            flushed_place: Mutex::default(),
            expiry_places: (0..shards).map(|_| Mutex::default()).collect(),
            counters: Counters::default(),
            counting: Counting::default(),
            ends: Ends::default(),
            empty: Arc::new(Object::default()),
            shared: options.shared,
            grace_ms: if options.shared { options.grace_ms } else { 0 },
            others_ahead_ms: AtomicI64::new(i64::MIN),
            tombstone_grace_ms: options.tombstone_grace_ms,
            hints: Hints::new(options.hints),
            max_clock_drift_ms: options.max_clock_drift_ms,
            shape: Shape::of(partitions),
            seen: Seen::new(sizes.len(), partitions.count()),
            rules: options.rules,
            limits: options.limits,
            policies: options.policies,
            damaged: Mutex::default(),
            failures_noted: (0..shards).map(failures).collect(),
            dropped_upto: (0..partitions.count()).map(|_| AtomicU64::new(0)).collect(),
            sizes,
            most_in_one_row: options.most_in_one_row,
            store,
        };
        replica.find_notes()?;
        let is_counted = replica.find_counts()?;
        if is_counted {
            replica.need_not_count();
        } else {
            replica.begin_counting()?;
            replica.count_at_once();
        }
        replica.find_hints()?;
        replica.note_start();
        if !replica.shared && replica.store.is_damaged() {
            // Nobody else has what is missing.
            replica.store.sync()?;
            replica.store.forget_damage();
        }
        let live = |db| replica.live_keys_so_far(db);
        let keys = (0..ALL_DATABASES).map(live).sum();
        let recovery = Recovery {
            clean: replica.store.was_clean(),
            keys: is_counted.then_some(keys),
        };
        Ok((replica, recovery))
    }

    fn find_notes(&self) -> Result<(), ReplicaError> {
        self.find_spares()?;
        self.check_partitions()?;
        self.rewrite_rows()?;
        self.find_floors()?;
        self.find_databases()?;
        self.find_actors()?;
        self.find_seen()
    }

    /// Writes down what makes the next start quick, and closes the store.
    pub fn stop(&self) {
        let partitions = 0..self.partitions.count();
        let _nothing_is_learned = self.ends.one_at_a_time();
        // Counts are those of what is stored: who comes later finds the store closed.
        let _nothing_is_written = self.counting.alone();
        let ends = self.ends.settled_ms();
        let is_counted = self.is_counted() && !self.has_failed_since_counted() && ends.is_some();
        for partition in partitions.filter(|_| is_counted) {
            let op = Op {
                table: Table::Meta,
                key: [COUNTS_PREFIX, &partition.to_be_bytes()].concat(),
                value: Some(self.spaces.encode(partition)),
            };
            let submitted = self
                .store
                .submit(self.shard_of(partition), Write::freeing(vec![op]));
            if let Err(error) = submitted {
                tracing::warn!(%error, "the next start has to count");
                return self.store.close();
            }
        }
        if is_counted && !self.has_failed_since_counted() {
            let mut counted = self.counted();
            counted.extend_from_slice(&ends.unwrap_or_default().to_le_bytes());
            self.put_meta(COUNTED_ROW, Some(counted));
        }
        let mut noted = self.actors.lock().clone();
        noted.insert_interval(self.actor, 0, u64::MAX);
        self.put_actors(&noted);
        self.store.close();
    }

    /// Exchanges two databases and writes that down.
    pub fn swap_databases(&self, a: u8, b: u8) -> Result<super::Written, ReplicaError> {
        let mut databases = *self.databases.read();
        databases.swap(usize::from(a), usize::from(b));
        let nth = self.stored_databases(0)?.map_or(0, |(nth, _)| nth) + 1;
        let op = Op {
            table: Table::Meta,
            key: DATABASES_ROW.to_vec(),
            value: Some([&databases[..], &nth.to_le_bytes()].concat()),
        };
        let ticket = self.store.submit(0, Write::freeing(vec![op.clone()]))?;
        // Nobody may write to the wrong one after a start that does not know of it.
        self.store.progress(0).block_until_committed(ticket);
        self.store.progress(0).fate(ticket)?;
        self.spare(&[op]);
        *self.databases.write() = databases;
        Ok(super::Written {
            shard: 0,
            ticket,
            delta: None,
        })
    }

    /// One of the notes that layers above keep beside the data.
    pub fn note(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReplicaError> {
        Ok(self.store.load(0, Table::Meta, &note_key(key))?)
    }

    /// All shards as they are now, with everything that was written. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn freeze(&self) -> Result<Vec<Arc<dyn Frozen>>, StoreError> {
        self.settle();
        let shards = 0..self.store.shards();
        shards.map(|shard| self.store.freeze(shard)).collect()
    }

    /// Writes such a note, or removes it. Blocks until it is stored; whether it was.
    pub fn put_note(&self, key: &[u8], value: Option<Vec<u8>>) -> bool {
        let failed = self.failed_batches();
        self.put_meta(&note_key(key), value) && self.failed_batches() == failed
    }

    fn put_meta(&self, key: &[u8], value: Option<Vec<u8>>) -> bool {
        let op = meta_op(key, value);
        match self.store.submit(0, Write::freeing(vec![op])) {
            Ok(ticket) => {
                self.store.progress(0).block_until_committed(ticket);
                self.store.progress(0).fate(ticket).is_ok()
            }
            Err(error) => {
                tracing::warn!(%error, "a note of the node was not written");
                false
            }
        }
    }

    /// Has the other shards keep rows of the first one, which cannot be done without: should that one be
    /// lost, they are found there.
    pub(super) fn spare(&self, ops: &[Op]) {
        for shard in 1..self.store.shards() {
            if let Err(error) = self.store.submit(shard, Write::freeing(ops.to_vec())) {
                tracing::debug!(shard, %error, "a row has no spare here");
            }
        }
    }

    /// After a loss that was accepted: what the first shard has lost is found in the others.
    fn find_spares(&self) -> Result<(), ReplicaError> {
        if !self.store.is_damaged() {
            return Ok(());
        }
        let mut found: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut databases: Option<(u64, Databases)> = None;
        for shard in 0..self.store.shards() {
            if let Some(row) = self.store.load(shard, Table::Meta, PARTITIONS_ROW)? {
                found.entry(PARTITIONS_ROW.to_vec()).or_insert(row);
            }
            if let Some((nth, names)) = self.stored_databases(shard)?
                && databases.is_none_or(|(before, _)| before < nth)
            {
                databases = Some((nth, names));
                let row = [&names[..], &nth.to_le_bytes()].concat();
                found.insert(DATABASES_ROW.to_vec(), row);
            }
            if let Some(row) = self.store.load(shard, Table::Meta, ACTORS_ROW)? {
                let mut actors = record::read_context(&mut Reader(&row))?;
                if let Some(before) = found.get(ACTORS_ROW) {
                    actors.join(&record::read_context(&mut Reader(before))?);
                }
                let mut joined = Vec::new();
                record::put_context(&mut joined, &actors);
                found.insert(ACTORS_ROW.to_vec(), joined);
            }
            for db in 0..DATABASES {
                let Op { key, .. } = floor_op(ALL_PARTITIONS, db, false, &Context::new());
                let Some(row) = self.store.load(shard, Table::Meta, &key)? else {
                    continue;
                };
                let (_, mut floor) = decode_floor(&row)?;
                if let Some(before) = found.get(&key) {
                    floor.join(&decode_floor(before)?.1);
                }
                found.insert(key, encode_floor(false, &floor));
            }
        }
        let op = |(key, row)| Op {
            table: Table::Meta,
            key,
            value: Some(row),
        };
        let ops = found.into_iter().map(op).collect();
        let ticket = self.store.submit(0, Write::freeing(ops))?;
        self.store.progress(0).block_until_committed(ticket);
        Ok(self.store.progress(0).fate(ticket)?)
    }

    fn check_partitions(&self) -> Result<(), ReplicaError> {
        let ours = self.partitions.count().to_le_bytes();
        match self.store.load(0, Table::Meta, PARTITIONS_ROW)? {
            Some(stored) if stored != ours => Err(StoreError::Damaged {
                path: "partitions".into(),
                reason: "the store was made with another number of partitions; set the directive \
                         back, it cannot be changed later"
                    .to_owned(),
            }
            .into()),
            Some(_) => Ok(()),
            None => {
                self.put_meta(PARTITIONS_ROW, Some(ours.to_vec()));
                self.spare(&[meta_op(PARTITIONS_ROW, Some(ours.to_vec()))]);
                Ok(())
            }
        }
    }

    /// Earlier runs of this node can write no more: all their dots belong below a later floor.
    fn note_start(&self) {
        let mut noted = self.actors.lock().clone();
        noted.insert_interval(self.actor, 0, u64::MAX);
        self.put_actors(&noted);
        self.put_meta(COUNTED_ROW, None);
    }

    fn find_actors(&self) -> Result<(), ReplicaError> {
        if let Some(raw) = self.store.load(0, Table::Meta, ACTORS_ROW)? {
            *self.actors.lock() = record::read_context(&mut Reader(&raw))?;
        }
        Ok(())
    }

    fn put_actors(&self, actors: &Context) {
        let mut raw = Vec::new();
        record::put_context(&mut raw, actors);
        self.put_meta(ACTORS_ROW, Some(raw.clone()));
        self.spare(&[meta_op(ACTORS_ROW, Some(raw))]);
    }

    fn find_databases(&self) -> Result<(), ReplicaError> {
        if let Some((_, databases)) = self.stored_databases(0)? {
            *self.databases.write() = databases;
        }
        Ok(())
    }

    /// The names of databases, as a shard has them, and how often they had been exchanged.
    fn stored_databases(&self, shard: usize) -> Result<Option<(u64, Databases)>, ReplicaError> {
        let row = self.store.load(shard, Table::Meta, DATABASES_ROW)?;
        let Some((databases, nth)) = row.as_deref().unwrap_or_default().split_first_chunk() else {
            return Ok(None);
        };
        let nth = nth.try_into().map_or(0, u64::from_le_bytes);
        let is_valid = databases.iter().all(|&db| db < DATABASES);
        Ok(is_valid.then_some((nth, *databases)))
    }

    /// Takes the floors that are stored, and no others.
    pub(super) fn find_floors(&self) -> Result<(), ReplicaError> {
        let (mut floors, mut everywhere) = (BTreeMap::new(), Vec::new());
        for shard in 0..self.store.shards() {
            let end = [FLOOR_PREFIX, &[0xff; 4]].concat();
            for (key, raw) in self
                .store
                .scan(shard, Table::Meta, FLOOR_PREFIX, &end, usize::MAX)?
            {
                let Some(&[high, low, db]) = key.get(FLOOR_PREFIX.len()..) else {
                    continue;
                };
                let (reclaimed, floor) = decode_floor(&raw)?;
                let partition = u16::from_be_bytes([high, low]);
                if partition == ALL_PARTITIONS {
                    // The others have spares.
                    if shard == 0 {
                        everywhere.push((db, floor));
                    }
                } else {
                    floors.insert((partition, db), (reclaimed, floor));
                }
            }
        }
        for (db, floor) in everywhere {
            for partition in 0..self.partitions.count() {
                match floors.get_mut(&(partition, db)) {
                    // What was reclaimed below the same floor is reclaimed.
                    Some((_, before)) if before.covers(&floor) => {}
                    Some((reclaimed, before)) => {
                        before.join(&floor);
                        *reclaimed = false;
                    }
                    None => {
                        floors.insert((partition, db), (false, floor.clone()));
                    }
                }
            }
        }
        let mut to_reclaim = self.to_reclaim.lock();
        to_reclaim.clear();
        for partition in 0..self.partitions.count() {
            for db in 0..ALL_DATABASES {
                let found = floors.remove(&(partition, db));
                if let Some((false, _)) = found {
                    to_reclaim.insert((partition, db));
                }
                let floor = found.map(|(_, floor)| Arc::new(floor));
                self.spaces.of(partition, db).replace_floor(floor);
            }
        }
        Ok(())
    }

    /// Takes the counts of a clean stop; whether there were any.
    fn find_counts(&self) -> Result<bool, ReplicaError> {
        let counted = self.store.load(0, Table::Meta, COUNTED_ROW)?;
        let counted = counted.unwrap_or_default();
        let Some((how, ends)) = counted.split_last_chunk() else {
            return Ok(false);
        };
        let is_counted = self.store.was_clean()
            && how == self.counted()
            && self.take_counts()?
            && self.is_as_counted()?;
        if is_counted {
            self.ends.begin(u64::from_le_bytes(*ends));
        }
        Ok(is_counted)
    }

    /// How counts are written down: a lone node keeps no trees, others one for each number of owners.
    pub(super) fn counted(&self) -> Vec<u8> {
        self.rules_as_of(COUNTS_VERSION)
    }

    /// How many owners which keys have, below a version.
    pub(super) fn rules_as_of(&self, version: u8) -> Vec<u8> {
        let mut counted = vec![version, u8::from(self.shared)];
        for (prefix, owners) in self.rules.sizes_by_prefix() {
            put_bytes(&mut counted, prefix);
            counted.push(owners);
        }
        counted
    }

    fn take_counts(&self) -> Result<bool, ReplicaError> {
        for partition in 0..self.partitions.count() {
            let key = [COUNTS_PREFIX, &partition.to_be_bytes()].concat();
            let shard = self.shard_of(partition);
            let raw = self.store.load(shard, Table::Meta, &key)?;
            let taken = raw.map(|raw| self.spaces.take(partition, &raw, self.shape));
            if !matches!(taken, Some(Ok(()))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything that was ever written, as far as this node knows: the store must have been read.
    pub(super) fn everything(&self) -> Context {
        self.finish_counting();
        let mut everything = self.actors.lock().clone();
        everything.insert_interval(self.actor, 0, self.seq.load(Ordering::Acquire));
        everything
    }
}

fn meta_op(key: &[u8], value: Option<Vec<u8>>) -> Op {
    Op {
        table: Table::Meta,
        key: key.to_vec(),
        value,
    }
}
