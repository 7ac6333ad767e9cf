//! One exchange: what differs between this node and another owner is joined, both ways.
//!
//! Whatever is a difference only because a write is on its way is none a moment later: keys are
//! looked at twice. Where nearly everything differs a node was wiped, and one look is enough.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::compare::{Difference, Found, Side, checked};
use super::{Convergence, ExchangeError};
use crate::base::clock;
use crate::logic::causal::{Dot, Object};
use crate::logic::digest;
use crate::logic::place;
use crate::logic::placement::NodeId;
use crate::logic::record;
use crate::peer::message::{ExchangeRequest, Response, WireKey};
use crate::replica::{Join, Key, ReplicaError};

/// How much later the second look is.
const SECOND_LOOK: Duration = Duration::from_millis(400);
/// Partitions whose differences are looked at together.
const GROUP: usize = 32;
/// Keys of one partition that are looked at twice, at most.
const MOST_AT_FIRST: usize = 16_384;
/// Keys mended at a time.
const BATCH: usize = 256;
/// Bytes of objects sent at a time, beyond the first.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// What came of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Partitions of which this node now has what the other had, and the other way round.
    pub mended: BTreeSet<u16>,
    /// Whether keys were left out that have not ended by this node's clock.
    pub leaves_out: bool,
    /// Objects taken in.
    pub received: u64,
    /// Objects sent.
    pub sent: u64,
}

/// Marks an exchange as under way while it lives.
struct UnderWay<'a>(&'a Convergence, NodeId);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.lock().remove(&self.1);
        self.0.note(|standing| standing.with = None);
    }
}

/// An object that goes to the other node.
struct Push {
    key: WireKey,
    object: Object,
}

impl Convergence {
    /// Mends what differs between this node's copies of some partitions' keys with so many owners and
    /// another owner's.
    ///
    /// # Errors
    /// When it breaks off; `exchanged` says how far it came.
    pub async fn exchange(
        &self,
        with: NodeId,
        owners: u8,
        partitions: &[u16],
        exchanged: &mut Exchanged,
    ) -> Result<(), ExchangeError> {
        if !self.replica.is_counted() {
            return Err(ExchangeError::Counting);
        }
        match self.under_way.lock().entry(with) {
            Entry::Occupied(_) => return Err(ExchangeError::Yielded),
            Entry::Vacant(free) => free.insert(false),
        };
        let _under_way = UnderWay(self, with);
        self.note(|standing| standing.with = Some(with));
        let done = self.mend(with, owners, partitions, exchanged).await;
        let count = match &done {
            Ok(()) => &self.counters.completed,
            Err(_) => &self.counters.aborted,
        };
        count.fetch_add(1, Ordering::Relaxed);
        done
    }

    async fn mend(
        &self,
        with: NodeId,
        owners: u8,
        partitions: &[u16],
        exchanged: &mut Exchanged,
    ) -> Result<(), ExchangeError> {
        let sides = [Side::Here, Side::There(with)];
        let asked = (self.as_of_ms(), true);
        let (as_of_ms, theirs) = self.roots(sides[1], owners, partitions, asked).await?;
        // What ends before the instant is not compared.
        exchanged.leaves_out |= as_of_ms > clock::now_ms();
        let ours = self.own_roots(owners, partitions, as_of_ms).await?;
        let mut differing = Vec::new();
        for (&partition, (&ours, &theirs)) in partitions.iter().zip(ours.iter().zip(&theirs)) {
            if ours == theirs {
                exchanged.mended.insert(partition);
            } else {
                differing.push((partition, ours, theirs));
            }
        }
        let count = |counter: &std::sync::atomic::AtomicU64, by: usize| {
            counter.fetch_add(by as u64, Ordering::Relaxed);
        };
        count(&self.counters.compared, partitions.len());
        count(&self.counters.differed, differing.len());
        // A node that is filled by several others is not to get everything from all of them: they begin in
        // different places, and look again when they come to the next.
        if !differing.is_empty() {
            let begin = (self.cluster.me().0 ^ with.0) as usize % differing.len();
            differing.rotate_left(begin);
        }
        for group in differing.chunks(GROUP) {
            let begun = Instant::now();
            let mut group: Vec<u16> = group.iter().map(|(partition, ..)| *partition).collect();
            group.sort_unstable();
            let asked = (as_of_ms, false);
            let (as_of_ms, theirs) = self.roots(sides[1], owners, &group, asked).await?;
            let ours = self.own_roots(owners, &group, as_of_ms).await?;
            let mut still = Vec::new();
            for (partition, (ours, theirs)) in group.into_iter().zip(ours.into_iter().zip(theirs)) {
                if ours == theirs {
                    exchanged.mended.insert(partition);
                } else {
                    still.push((partition, ours, theirs));
                }
            }
            exchanged.leaves_out |= as_of_ms > clock::now_ms();
            let found = self.walk(sides, owners, &still).await?;
            self.governor.rest(begun.elapsed()).await;
            // What is under way needs no second look where copies are missing: taking it in does no harm.
            let at_once = self.governor.is_short();
            let (bulk, few): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|f| f.is_bulk || at_once);
            let mut mended = self.look_twice(with, &few, as_of_ms, exchanged).await?;
            for found in bulk {
                if self.mend_all(with, &found, as_of_ms, exchanged).await? {
                    mended.push(found.partition);
                }
            }
            exchanged.mended.extend(mended);
        }
        Ok(())
    }

    /// Mends what differs at both of two looks; the partitions of which nothing was left out.
    async fn look_twice(
        &self,
        with: NodeId,
        few: &[Found],
        as_of_ms: u64,
        exchanged: &mut Exchanged,
    ) -> Result<Vec<u16>, ExchangeError> {
        let sides = [Side::Here, Side::There(with)];
        let (mut first, mut partly) = (Vec::new(), BTreeSet::new());
        for found in few {
            let mut comparison = self.comparison(sides, found, as_of_ms);
            let mut count = 0;
            while count < MOST_AT_FIRST {
                let differences = comparison.next(BATCH).await?;
                if differences.is_empty() {
                    break;
                }
                count += differences.len();
                first.extend(differences.into_iter().map(|d| d.row_key));
            }
            if comparison.damaged > 0 || count >= MOST_AT_FIRST {
                partly.insert(found.partition);
            }
        }
        if first.is_empty() {
            let all = few.iter().map(|found| found.partition);
            return Ok(all
                .filter(|partition| !partly.contains(partition))
                .collect());
        }
        let mut mended = Vec::new();
        tokio::time::sleep(SECOND_LOOK).await;
        let first: BTreeSet<Vec<u8>> = first.into_iter().collect();
        for found in few {
            // Only the leaves of keys that differed, which by now may be fewer.
            let again = self.leaves_of(found, &first);
            let mut comparison = self.comparison(sides, &again, as_of_ms);
            let mut left = keys_in(found.partition, &first).count();
            loop {
                self.step_back(with)?;
                let mut differences = comparison.next(BATCH).await?;
                if differences.is_empty() {
                    break;
                }
                differences.retain(|d| first.contains(&d.row_key));
                left = left.saturating_sub(differences.len());
                if !self.mend_some(with, differences, exchanged).await? {
                    partly.insert(found.partition);
                }
            }
            let settled = &self.counters.settled;
            settled.fetch_add(left as u64, Ordering::Relaxed);
            if comparison.damaged == 0 && !partly.contains(&found.partition) {
                mended.push(found.partition);
            }
        }
        Ok(mended)
    }

    fn leaves_of(&self, found: &Found, keys: &BTreeSet<Vec<u8>>) -> Found {
        let shape = self.replica.shape();
        let mut leaves: Vec<u32> = keys_in(found.partition, keys)
            .filter_map(|row_key| place::parse(row_key))
            .map(|(at, ..)| shape.leaf(at.slot.0, at.hash) as u32)
            .collect();
        leaves.dedup();
        Found {
            leaves: leaves.into_iter().map(|leaf| leaf..leaf + 1).collect(),
            ..found.clone()
        }
    }

    async fn mend_all(
        &self,
        with: NodeId,
        found: &Found,
        as_of_ms: u64,
        exchanged: &mut Exchanged,
    ) -> Result<bool, ExchangeError> {
        let sides = [Side::Here, Side::There(with)];
        let mut comparison = self.comparison(sides, found, as_of_ms);
        let mut is_whole = true;
        loop {
            self.step_back(with)?;
            let begun = Instant::now();
            let differences = comparison.next(BATCH).await?;
            if differences.is_empty() {
                break;
            }
            self.governor.rest(begun.elapsed()).await;
            is_whole &= self.mend_some(with, differences, exchanged).await?;
        }
        Ok(is_whole && comparison.damaged == 0)
    }

    /// The node with the lower id goes first.
    fn step_back(&self, with: NodeId) -> Result<(), ExchangeError> {
        let asked = self.under_way.lock().get(&with) == Some(&true);
        if asked {
            Err(ExchangeError::Yielded)
        } else {
            Ok(())
        }
    }

    /// Mends some differences; whether all of them.
    async fn mend_some(
        &self,
        with: NodeId,
        differences: Vec<Difference>,
        exchanged: &mut Exchanged,
    ) -> Result<bool, ExchangeError> {
        let mut is_whole = true;
        let mut rest = differences.as_slice();
        while !rest.is_empty() {
            let (part, later) = rest.split_at(self.governor.items(BATCH).min(rest.len()));
            rest = later;
            let begun = Instant::now();
            let failed = self.replica.failed_batches();
            self.pull(with, part, exchanged).await?;
            is_whole &= self.push(with, part, exchanged).await?;
            // What was taken in counts when it is stored, all of it.
            self.replica.settled().await;
            if self.replica.failed_batches() != failed {
                return Err(ExchangeError::NotStored);
            }
            self.governor.rest(begun.elapsed()).await;
        }
        Ok(is_whole)
    }

    /// Takes in the objects that have something which this node has not seen.
    async fn pull(
        &self,
        with: NodeId,
        differences: &[Difference],
        exchanged: &mut Exchanged,
    ) -> Result<(), ExchangeError> {
        let mut wanted = Vec::new();
        for difference in differences {
            let (Some(key), Some(theirs)) = (difference.key(), &difference.theirs) else {
                continue;
            };
            let at = Key {
                db: key.db,
                name: &key.name,
            };
            let (dead, object) = match self.known(at, &theirs.dots) {
                // What cannot be read here is mended by a read: one other copy is not enough.
                Err(ReplicaError::Row(_)) => continue,
                known => known?,
            };
            let dead: BTreeSet<Dot> = dead.into_iter().collect();
            let known = |dot: &Dot| dead.contains(dot) || object.context().contains(*dot);
            // The same values, less of which is left: what was overwritten of a counter differs.
            let ours = difference.ours.as_ref();
            let same_dots = ours.is_some_and(|ours| ours.dots == theirs.dots);
            if same_dots || !theirs.dots.iter().all(known) {
                wanted.push(key);
            }
        }
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let answer = self
                .call(with, ExchangeRequest::Objects(rest.to_vec()))
                .await?;
            let Response::Objects(objects) = answer else {
                return Err(ExchangeError::Unexpected);
            };
            if objects.is_empty() || objects.len() > rest.len() {
                return Err(ExchangeError::Unexpected);
            }
            rest = &rest[objects.len()..];
            for (key, raw) in objects.into_iter().filter(|(_, raw)| !raw.is_empty()) {
                self.take_in(&key, &raw)?;
                exchanged.received += 1;
                self.counters.received.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// What is dead of some dots, and what is here.
    fn known(&self, at: Key<'_>, dots: &[Dot]) -> Result<(Vec<Dot>, Arc<Object>), ReplicaError> {
        Ok((self.replica.dead_of(at, dots)?, self.replica.read(at)?))
    }

    pub(super) fn take_in(&self, key: &WireKey, raw: &[u8]) -> Result<(), ExchangeError> {
        let bytes = (key.name.len() + raw.len()) as u64;
        self.counters
            .object_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        let object = record::WIRE.decode(raw).map_err(ReplicaError::from)?;
        let at = checked(key).ok_or(ExchangeError::Unexpected)?;
        match self.replica.join(at, object, &Join::default()) {
            Ok(written) => self.replica.store().kick(written.shard),
            // It is reported, and mended by a read.
            Err(ReplicaError::Row(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Sends the objects that still differ from what the other node has; whether all could be read.
    async fn push(
        &self,
        with: NodeId,
        differences: &[Difference],
        exchanged: &mut Exchanged,
    ) -> Result<bool, ExchangeError> {
        let mut objects: Vec<(WireKey, Bytes)> = Vec::new();
        let (mut bytes, mut is_whole) = (0, true);
        for difference in differences {
            let Push { key, object } = match self.news_for_them(difference) {
                Ok(Some(push)) => push,
                Ok(None) => continue,
                Err(ExchangeError::Here(ReplicaError::Row(_))) => {
                    is_whole = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let raw: Bytes = record::WIRE.encode(&object).into();
            bytes += key.name.len() + raw.len();
            objects.push((key, raw));
            if bytes >= BATCH_BYTES {
                bytes = 0;
                self.send(with, std::mem::take(&mut objects), exchanged)
                    .await?;
            }
        }
        self.send(with, objects, exchanged).await?;
        Ok(is_whole)
    }

    /// This node's object, and what of theirs was overwritten.
    fn news_for_them(&self, difference: &Difference) -> Result<Option<Push>, ExchangeError> {
        let Some(key) = difference.key() else {
            return Ok(None);
        };
        let at = Key {
            db: key.db,
            name: &key.name,
        };
        let mut object = (*self.replica.read(at)?).clone();
        let digest = digest::of_living(&difference.row_key, &object);
        let theirs = difference.theirs.as_ref();
        if digest == theirs.map_or(0, |theirs| theirs.digest) {
            return Ok(None);
        }
        if let Some(theirs) = theirs {
            object.observe(self.replica.dead_of(at, &theirs.dots)?);
        }
        if object.is_unknown() {
            return Ok(None);
        }
        Ok(Some(Push { key, object }))
    }

    pub(super) async fn send(
        &self,
        with: NodeId,
        objects: Vec<(WireKey, Bytes)>,
        exchanged: &mut Exchanged,
    ) -> Result<(), ExchangeError> {
        if objects.is_empty() {
            return Ok(());
        }
        let sent = objects.len() as u64;
        let bytes: usize = objects
            .iter()
            .map(|(key, raw)| key.name.len() + raw.len())
            .sum();
        let answer = self.call(with, ExchangeRequest::Merge(objects)).await?;
        let Response::Objects(corrections) = answer else {
            return Err(ExchangeError::Unexpected);
        };
        exchanged.sent += sent;
        self.counters.sent.fetch_add(sent, Ordering::Relaxed);
        self.counters
            .object_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        for (key, raw) in corrections {
            self.take_in(&key, &raw)?;
        }
        Ok(())
    }
}

/// The rows of a partition among others.
fn keys_in(partition: u16, rows: &BTreeSet<Vec<u8>>) -> impl Iterator<Item = &Vec<u8>> {
    let start = partition.to_be_bytes().to_vec();
    rows.range(start..place::partition_end(partition).to_vec())
}
