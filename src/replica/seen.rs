//! What this node's copy of a whole partition has seen, and what can be forgotten because of it.
//!
//! A partition's context says of a dot: whatever it wrote is here, or was overwritten. It holds for
//! every key of the partition, as if it were part of each object's own context (after Gonçalves et
//! al., "`DottedDB`", 2017). So a deleted key whose dots are all in it needs no tombstone: a copy that
//! comes back, from a hint, an old disk or a node that was away for long, is known to be dead. And
//! what objects have seen of actors that write no more need not be remembered one by one.
//!
//! Invariant: it is raised only when everything below it has been taken in and handed to the same
//! shard's queue before (see `background::anti_entropy` for how that is known); its row stands in
//! the shard of its partition, so that a disk that loses one loses the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::round::Tombstones;
use super::rows::ENDED;
use super::{Key, Located, Replica, ReplicaError};
use crate::base::clock;
use crate::logic::causal::{Context, Dot, Element, Object, Over, Payload, Version};
use crate::logic::codec::Reader;
use crate::logic::place;
use crate::logic::record;
use crate::storage::{Op, Table, Write};

const SEEN_PREFIX: &[u8] = b"seen/";
/// The layout of what says under which rules something was seen.
const UNDER_VERSION: u8 = 2;
/// Under which cluster and rules.
const UNDER_ROW: &[u8] = b"seen-under";

impl Replica {
    /// What this node's copy of a partition has seen as a whole, of keys with so many owners.
    pub fn seen(&self, owners: u8, partition: u16) -> Arc<Context> {
        let tree = self.tree(owners);
        tree.map_or_else(Arc::default, |tree| self.seen.of(tree, partition))
    }

    /// This node's copies of some partitions have taken in everything that a context covers, of keys
    /// with so many owners.
    ///
    /// # Errors
    /// When it cannot be written down; then it does not hold.
    pub fn saw(
        &self,
        owners: u8,
        partitions: &[u16],
        context: &Context,
    ) -> Result<(), ReplicaError> {
        let Some(tree) = self.tree(owners) else {
            return Ok(());
        };
        // Most partitions have seen the same: they share one context. (A context that stands in this map
        // is not freed meanwhile, so its place in memory is a name for it.)
        let mut joined: HashMap<*const Context, (Arc<Context>, Arc<Context>)> = HashMap::new();
        for &partition in partitions {
            let before = self.seen.of(tree, partition);
            if before.covers(context) {
                self.seen.raise(tree, partition, before);
                continue;
            }
            let (_, after) = joined.entry(Arc::as_ptr(&before)).or_insert_with(|| {
                let mut after = (*before).clone();
                after.join(context);
                (Arc::clone(&before), Arc::new(after))
            });
            let mut raw = Vec::new();
            record::put_context(&mut raw, after);
            self.put_seen(owners, partition, Some(raw))?;
            self.seen.raise(tree, partition, Arc::clone(after));
        }
        Ok(())
    }

    /// This node owns a partition no more: what it has of it says nothing about the rest.
    pub fn forget_seen(&self, owners: u8, partition: u16) -> Result<(), ReplicaError> {
        if let Some(tree) = self.tree(owners)
            && !self.seen.of(tree, partition).is_empty()
        {
            self.put_seen(owners, partition, None)?;
            self.seen.set(tree, partition, Arc::default());
        }
        Ok(())
    }

    fn put_seen(
        &self,
        owners: u8,
        partition: u16,
        value: Option<Vec<u8>>,
    ) -> Result<(), ReplicaError> {
        let op = Op {
            table: Table::Meta,
            key: seen_key(owners, partition),
            value,
        };
        let shard = self.shard_of(partition);
        self.store.submit(shard, Write::freeing(vec![op]))?;
        Ok(())
    }

    /// Whether what was seen holds for this cluster, and for this way to tell how many owners a key
    /// has.
    pub fn sees_under(&self, cluster: u64) -> Result<bool, ReplicaError> {
        let stored = self.store.load(0, Table::Meta, UNDER_ROW)?;
        Ok(stored == Some(self.under(cluster)))
    }

    /// Forgets everything that was seen. The caller settles, then calls [`Self::see_under`].
    pub fn forget_all_seen(&self) -> Result<(), ReplicaError> {
        for shard in 0..self.store.shards() {
            let end = [SEEN_PREFIX, &[0xff; 4]].concat();
            let rows = self
                .store
                .scan(shard, Table::Meta, SEEN_PREFIX, &end, usize::MAX)?;
            let gone = rows.into_iter().map(|(key, _)| Op {
                table: Table::Meta,
                key,
                value: None,
            });
            let gone: Vec<Op> = gone.collect();
            if gone.is_empty() {
                continue;
            }
            self.store.submit(shard, Write::freeing(gone))?;
        }
        self.seen.clear();
        Ok(())
    }

    /// What is seen from now on holds for this cluster and these rules.
    pub fn see_under(&self, cluster: u64) -> Result<(), ReplicaError> {
        let op = Op {
            table: Table::Meta,
            key: UNDER_ROW.to_vec(),
            value: Some(self.under(cluster)),
        };
        self.store.submit(0, Write::freeing(vec![op]))?;
        Ok(())
    }

    fn under(&self, cluster: u64) -> Vec<u8> {
        let mut under = cluster.to_le_bytes().to_vec();
        under.extend(self.rules_as_of(UNDER_VERSION));
        under
    }

    /// Finds the contexts again. Of a store that has lost something they may claim too much.
    pub(super) fn find_seen(&self) -> Result<(), ReplicaError> {
        let mut same: HashMap<Vec<u8>, Arc<Context>> = HashMap::new();
        let partitions = 0..self.partitions.count();
        let trees = self.sizes.iter().enumerate();
        let all =
            trees.flat_map(|(tree, owners)| partitions.clone().map(move |p| (tree, *owners, p)));
        for (tree, owners, partition) in all {
            let key = seen_key(owners, partition);
            let shard = self.shard_of(partition);
            let Some(raw) = self.store.load(shard, Table::Meta, &key)? else {
                continue;
            };
            if self.store.is_damaged() {
                self.put_seen(owners, partition, None)?;
                continue;
            }
            let seen = if let Some(seen) = same.get(&raw) {
                Arc::clone(seen)
            } else {
                let seen = Arc::new(record::read_context(&mut Reader(&raw))?);
                same.insert(raw, Arc::clone(&seen));
                seen
            };
            self.seen.set(tree, partition, seen);
        }
        Ok(())
    }

    /// Drops what is known to be dead from an object that comes in.
    pub(super) fn drop_dead(
        &self,
        key: Key<'_>,
        partition: u16,
        object: &mut Object,
        current: &Object,
    ) {
        let seen = self.seen.of(self.tree_of(key.name), partition);
        if !seen.is_empty() {
            let mut dead = 0;
            let news = news_of_ends(object, &seen, current);
            let held = dots_of(current);
            object.retain_versions(|version| {
                let lives = !seen.contains(version.dot)
                    || held.binary_search(&version.dot).is_ok()
                    || is_named(&news, current, version.dot);
                dead += u64::from(!lives);
                lives
            });
            self.counters.dead_values.fetch_add(dead, Ordering::Relaxed);
        }
    }

    /// Forgets what an object has seen of actors of whom the whole partition has seen everything, and
    /// resets of chains that have ended.
    pub(super) fn fold(&self, key: &Key<'_>, partition: u16, object: &mut Object) {
        if !object.resets().is_empty() {
            let settled = self.seen.settled(self.tree_of(key.name), partition);
            if settled.covers(object.context()) {
                object.forget_resets();
            }
        }
        if self.shared && object.context().actors() > usize::from(!object.is_tombstone()) {
            let seen = self.seen.of(self.tree_of(key.name), partition);
            if !seen.is_empty() {
                object.forget_actors(|actor| seen.last(actor) == u64::MAX);
            }
        }
    }

    /// Whether this node's copy of a key knows what became of all that somebody has seen of it: by itself, by its
    /// partition, by a flush.
    pub fn knows_all(&self, key: Key<'_>, object: &Object, seen: &Context) -> bool {
        let at = place::Position::of(key.name, self.partitions);
        let mut known = (*self.seen.of(self.tree_of(key.name), at.partition)).clone();
        known.join(object.context());
        if let Some(floor) = self.spaces.of(at.partition, key.db).floor() {
            known.join(&floor);
        }
        known.covers(seen)
    }

    /// Of some dots of a key those that were overwritten, as far as this node's copy knows.
    pub fn dead_of(&self, key: Key<'_>, dots: &[Dot]) -> Result<Vec<Dot>, ReplicaError> {
        if dots.is_empty() {
            return Ok(Vec::new());
        }
        let at = place::Position::of(key.name, self.partitions);
        // Before the object: what is seen later may be in a later one.
        let seen = self.seen.of(self.tree_of(key.name), at.partition);
        let object = self.read(key)?;
        let floor = self.spaces.of(at.partition, key.db).floor();
        let flushed = |dot| floor.as_ref().is_some_and(|floor| floor.contains(dot));
        let overwritten = |dot| object.context().contains(dot) || flushed(dot);
        // What has ended here may go on where there is news of it.
        let has_news = dots
            .iter()
            .any(|dot| !overwritten(*dot) && !seen.contains(*dot));
        let held = dots_of(&object);
        let dead = |dot: &&Dot| {
            let known = overwritten(**dot) || !has_news && seen.contains(**dot);
            known && held.binary_search(dot).is_err()
        };
        Ok(dots.iter().filter(dead).copied().collect())
    }

    /// Whether a copy could forget having seen a key: nothing that comes can bring it back.
    fn is_seen_by_all(&self, located: &Located<'_>, object: &Object) -> bool {
        let tree = self.tree_of(located.key.name);
        let seen = if object.resets().is_empty() && !object.has_gone() {
            self.seen.of(tree, located.at.partition)
        } else {
            self.seen.settled(tree, located.at.partition)
        };
        let space = self.spaces.of(located.at.partition, located.key.db);
        match space.floor() {
            None => seen.covers(object.context()),
            Some(floor) => {
                let mut seen = (*seen).clone();
                seen.join(&floor);
                seen.covers(object.context())
            }
        }
    }

    /// What is left of an expired object, until it is sure that nobody had made it go on. That was here
    /// before is not enough: somebody who was cut off may have heard of a later end.
    pub(super) fn remains(&self, expired: &Object) -> Object {
        if !self.shared {
            return Object::default();
        }
        let mut remains = expired.clone();
        remains.reclaim();
        remains
    }

    /// Looks at up to `limit` tombstones of a partition from a row on, and drops those that are old
    /// enough and seen by all; where to go on. Blocks.
    pub fn drop_tombstones(
        &self,
        partition: u16,
        from: &[u8],
        limit: usize,
        found: &mut Tombstones,
    ) -> Result<Option<Vec<u8>>, ReplicaError> {
        let shard = self.shard_of(partition);
        let start = partition.to_be_bytes();
        let from = from.max(&start[..]);
        let end = place::partition_end(partition);
        let rows = self
            .store
            .scan(shard, Table::Tombstone, from, &end, limit)?;
        let next = (rows.len() == limit).then(|| {
            let last = rows.last().map_or(&[][..], |(key, _)| key);
            [last, &[0]].concat()
        });
        for (row_key, since) in rows {
            self.drop_tombstone(shard, &row_key, &since, found)?;
        }
        Ok(next)
    }

    fn drop_tombstone(
        &self,
        shard: usize,
        row_key: &[u8],
        since: &[u8],
        found: &mut Tombstones,
    ) -> Result<(), ReplicaError> {
        let Some((at, db, name)) = place::parse(row_key) else {
            return Ok(());
        };
        let since_ms = since
            .first_chunk()
            .map_or(0, |raw| u64::from_le_bytes(*raw));
        let is_young = if since.get(8) == Some(&ENDED) {
            let tree = self.tree_of(name);
            !self.seen.has_all_since(tree, at.partition, since_ms)
        } else {
            clock::now_ms().saturating_sub(since_ms) < self.tombstone_grace_ms
        };
        if is_young {
            found.young += 1;
            found.stays(since_ms);
            return Ok(());
        }
        let located = self.locate(Key { db, name }, at);
        let _order = self.lock(at);
        let object = match self.load(&located) {
            // It is reported, and stays.
            Err(ReplicaError::Row(_)) => return Ok(()),
            loaded => loaded?,
        };
        if !object.is_tombstone() || object.is_unknown() {
            // Its index row is on its way out, or a flush has covered it.
            let op = Op {
                table: Table::Tombstone,
                key: row_key.to_vec(),
                value: None,
            };
            self.store.submit(shard, Write::freeing(vec![op]))?;
            return Ok(());
        }
        if !self.is_seen_by_all(&located, &object) {
            found.unproven += 1;
            found.stays(since_ms);
            return Ok(());
        }
        if self.has_hint(&located, None)? {
            found.hinted += 1;
            found.stays(since_ms);
            return Ok(());
        }
        self.store_object(&located, &object, &Object::default(), None)?;
        found.dropped += 1;
        Ok(())
    }
}

/// Which values changes of the expiry name of which nothing is known here.
fn news_of_ends(object: &Object, seen: &Context, current: &Object) -> Vec<Over> {
    let is_news = |v: &&Version| !seen.contains(v.dot) && !current.context().contains(v.dot);
    let news = object.versions(&Element::EXPIRY).iter().filter(is_news);
    let over = |version: &Version| match &version.value.payload {
        Payload::Deadline(over) => Some(over.clone()),
        _ => None,
    };
    news.filter_map(over).collect()
}

/// Whether one is named of which nothing is known here: what is known is that it has ended, not that it was
/// overwritten.
fn is_named(news: &[Over], current: &Object, dot: Dot) -> bool {
    news.iter().any(|over| over.contains(dot)) && !current.context().contains(dot)
}

fn seen_key(owners: u8, partition: u16) -> Vec<u8> {
    [SEEN_PREFIX, &[owners], &partition.to_be_bytes()].concat()
}

/// The dots of all versions, ascending.
fn dots_of(object: &Object) -> Vec<Dot> {
    let mut dots: Vec<Dot> = object.all_versions().map(|version| version.dot).collect();
    dots.sort_unstable();
    dots
}
