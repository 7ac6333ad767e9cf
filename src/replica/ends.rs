//! When objects end, as far as trees have to know it.
//!
//! Roots as of an instant leave out what has ended before it, so trees sum what ends once more by when it
//! does ([`super::tree`]). They do so for what ends soon alone, else a million sessions of a month each
//! would have an entry each in memory. When somebody asks for a root beyond that, the ends of the next
//! stretch are read from the index of ends, as it was when trees began to follow them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ending::{Found, next_stretch};
use super::space::Spaces;
use super::tree::Ending;
use super::{Replica, ReplicaError};
use crate::base::clock;
use crate::logic::digest;
use crate::logic::place;
use crate::storage::{Frozen, StoreError, Table};

/// Rows of the index read at a time.
const PAGE: usize = 512;

impl Replica {
    /// From where on trees that are made anew follow ends.
    pub(super) fn begin_ends(&self) {
        let followed = self.ends.followed_ms();
        self.ends.begin(followed.max(next_stretch(clock::now_ms())));
    }

    /// Whether roots as of an instant can be told.
    pub fn knows_ends(&self, as_of_ms: u64) -> bool {
        !self.shared || self.ends.known_ms() >= as_of_ms
    }

    /// Has trees know what ends before an instant; whether they do: not while there is something to be
    /// counted or stored. The caller settles before. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read; everything is to be counted anew then.
    pub fn learn_ends(&self, as_of_ms: u64) -> Result<bool, ReplicaError> {
        let _one = self.ends.one_at_a_time.lock();
        if self.knows_ends(as_of_ms) {
            return Ok(true);
        }
        let to = next_stretch(as_of_ms);
        let (from, shards, epochs, count) = {
            let _alone = self.counting.alone();
            if !self.is_counted() {
                return Ok(false);
            }
            let shards = 0..self.store.shards();
            let frozen: Result<Vec<Arc<dyn Frozen>>, _> =
                shards.map(|shard| self.store.freeze(shard)).collect();
            let frozen = match frozen {
                // Somebody is writing what belongs together, and waits for this.
                Err(StoreError::Busy) => return Ok(false),
                frozen => frozen?,
            };
            let from = self.ends.followed_ms.swap(to, Ordering::AcqRel);
            (from, frozen, self.spaces.epochs(), self.counting.nth())
        };
        let found = self.ends_between(&shards, from, to).inspect_err(|_| {
            self.counting.begin_anew();
        })?;
        let _alone = self.counting.alone();
        if count != self.counting.nth() {
            return Ok(false);
        }
        for ((partition, db, tree), endings) in found {
            let space = self.spaces.of(partition, db);
            if Spaces::epoch_in(&epochs, partition, db) == space.epoch() {
                space.trees()[tree].learn(endings);
            }
        }
        self.ends.known_ms.store(to, Ordering::Release);
        Ok(self.is_counted())
    }

    fn ends_between(
        &self,
        shards: &[Arc<dyn Frozen>],
        from: u64,
        to: u64,
    ) -> Result<Found, ReplicaError> {
        let mut found = Found::new();
        for frozen in shards {
            let mut next = from.to_be_bytes().to_vec();
            let end = to.to_be_bytes();
            loop {
                let rows = frozen.scan(Table::Expiry, &next, &end, PAGE)?;
                let Some((last, _)) = rows.last() else { break };
                next = [last.as_slice(), &[0]].concat();
                for (index_key, _) in rows {
                    self.find_end(&**frozen, &index_key, &mut found)?;
                }
            }
        }
        Ok(found)
    }

    fn find_end(
        &self,
        frozen: &dyn Frozen,
        index_key: &[u8],
        found: &mut Found,
    ) -> Result<(), ReplicaError> {
        let row_key = index_key.get(8..).unwrap_or_default();
        let Some((at, db, name)) = place::parse(row_key) else {
            return Ok(());
        };
        let behind = [row_key, &[0]].concat();
        let scan = |from: &[u8], to: &[u8], limit| frozen.scan(Table::Data, from, to, limit);
        let rows = scan(row_key, &behind, 1)?;
        let located = self.found(row_key, (at, db, name));
        let first = rows.first();
        // A row that cannot be read is in no tree.
        let Some(Ok(object)) = first.map(|(_, raw)| self.decode(&located, raw, &scan)) else {
            return Ok(());
        };
        let (end, digest) = (
            place::expiry_time_ms(index_key),
            digest::of_living(row_key, &object),
        );
        if object.ends_at_ms() == Some(end) && digest != 0 {
            let tree = found.entry((at.partition, db, self.tree_of(name)));
            Ending::add(tree.or_default(), end, digest, 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::{Element, Payload, Value};
    use crate::logic::edit::Edit;
    use crate::logic::placement::Partitions;
    use crate::replica::space::Space;
    use crate::replica::{Key, Options};
    use crate::storage::{MemoryStore, Store};

    const PARTITIONS: u16 = 16;
    const HOUR_MS: u64 = 3_600_000;

    fn start(store: &Arc<MemoryStore>) -> Replica {
        let partitions = Partitions::new(PARTITIONS).expect("a power of two");
        let options = Options {
            shared: true,
            ..Options::alone(partitions)
        };
        let store = Arc::clone(store) as Arc<dyn Store>;
        Replica::start(store, options).expect("starts").0
    }

    fn write(replica: &Replica, n: u64, end_ms: Option<u64>) {
        let name = format!("key-{}", n % 800);
        let value = Value {
            payload: Payload::Bytes(format!("{n}").into()),
            expires_at_ms: end_ms,
        };
        let change = if n.is_multiple_of(11) {
            Edit::delete()
        } else {
            Edit::put(Element::STRING, value)
        };
        let key = Key {
            db: (n % 2) as u8,
            name: name.as_bytes(),
        };
        replica.update(key, |_, _| (change, ())).expect("written");
    }

    fn roots(replica: &Replica, as_of_ms: u64) -> Vec<u64> {
        assert!(replica.learn_ends(as_of_ms).expect("read"));
        let root = |partition| replica.root(1, partition, as_of_ms);
        (0..PARTITIONS).map(root).collect()
    }

    fn endings(replica: &Replica) -> usize {
        let partitions = (0..PARTITIONS).flat_map(|p| replica.spaces.of_partition(p));
        let trees = partitions.flat_map(Space::trees);
        trees.map(super::super::tree::Tree::endings).sum()
    }

    #[test]
    fn trees_know_soon_ends_alone_and_learn_the_others_when_asked() {
        let store = Arc::new(MemoryStore::new(2));
        let replica = start(&store);
        replica.finish_counting();
        let now_ms = clock::now_ms();
        let end = |n: u64| (!n.is_multiple_of(7)).then(|| now_ms + n * 977_143 % (720 * HOUR_MS));
        for round in 0..6 {
            (round * 700..(round + 1) * 700).for_each(|n| write(&replica, n, end(n)));
            if round == 3 {
                // Some are flushed in between.
                let floor = replica.everything_written();
                replica.raise_floor(Some(1), &floor).expect("raised");
            }
            let as_of_ms = now_ms + round * HOUR_MS;
            assert!(replica.learn_ends(as_of_ms).expect("read"));
        }
        assert!(endings(&replica) < 60, "{}", endings(&replica));
        let again = start(&store);
        again.finish_counting();
        for hours in [0, 5, 20, 100, 400, 720] {
            let as_of_ms = now_ms + hours * HOUR_MS;
            assert_eq!(
                roots(&replica, as_of_ms),
                roots(&again, as_of_ms),
                "{hours}"
            );
        }
        let all_gone = roots(&again, now_ms + 720 * HOUR_MS);
        assert_ne!(all_gone, roots(&again, now_ms));
        // What is followed is found again after a stop.
        let all = roots(&again, now_ms + 100 * HOUR_MS);
        again.stop();
        let stopped = start(&store);
        assert!(stopped.knows_ends(now_ms + 100 * HOUR_MS));
        assert_eq!(roots(&stopped, now_ms + 100 * HOUR_MS), all);
    }
}
