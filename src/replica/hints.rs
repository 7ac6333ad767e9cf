//! Hints: what is kept for a node that was not there, until it has it (the paper's §4.6).
//!
//! A hint is a row of its own beside the object, written in the same atomic part of a batch. Not here:
//! handing them over (`background`). Invariant: counts are never none while there may be a hint.

use std::sync::atomic::{AtomicU64, Ordering};

use super::hint::{Hint, HintPass, HintRow};
use super::{Key, Located, Reach, Replica, ReplicaError};
use crate::base::clock;
use crate::logic::causal::Object;
use crate::logic::place::{self, Position};
use crate::logic::placement::NodeId;
use crate::storage::{Op, Table, Write};

impl Replica {
    /// Notes that a key, whose object is here, belongs to a node that is not there.
    ///
    /// # Errors
    /// [`ReplicaError::HintsFull`] at the limit.
    pub fn keep_hint(&self, key: Key<'_>, node: NodeId) -> Result<(), ReplicaError> {
        self.keep_hint_within(self.hints.limit(), key, node)
    }

    fn keep_hint_within(&self, limit: u64, key: Key<'_>, node: NodeId) -> Result<(), ReplicaError> {
        let located = self.locate(key, Position::of(key.name, self.partitions));
        let _order = self.lock(located.at);
        let object = self.load_some(&located, Reach::Head)?;
        let row = self.hint_row(limit, &located, node, &object)?;
        self.store
            .submit(located.shard, Write::of(vec![row.op.clone()]))?;
        self.hints.add(node, &row);
        Ok(())
    }

    /// The row of a hint. It is written even where one stands, since that one may be on its way out.
    pub(super) fn hint_row(
        &self,
        limit: u64,
        Located { shard, row_key, .. }: &Located<'_>,
        node: NodeId,
        object: &Object,
    ) -> Result<HintRow, ReplicaError> {
        let shard = *shard;
        let key = place::hint_key(node.0, row_key);
        let is_new = self.store.load(shard, Table::Hint, &key)?.is_none();
        let bytes = (row_key.len() + object.size()) as u64;
        if is_new && self.hints.bytes.load(Ordering::Relaxed) + bytes > limit {
            self.hints.refused.fetch_add(1, Ordering::Relaxed);
            return Err(ReplicaError::HintsFull);
        }
        let mut value = clock::now_ms().to_le_bytes().to_vec();
        value.extend_from_slice(&bytes.to_le_bytes());
        let op = Op {
            table: Table::Hint,
            key,
            value: Some(value),
        };
        Ok(HintRow { op, bytes, is_new })
    }

    /// Notes again that copies of a partition belong to other nodes, of keys with so many owners: this
    /// one does not own them, and no hint tells whose they are. To all of them: who had acknowledged a
    /// write is not known any more. Returns how many. Blocks.
    pub fn hint_strays(
        &self,
        owners: u8,
        partition: u16,
        to: &[NodeId],
        limit: u64,
    ) -> Result<u64, ReplicaError> {
        const PAGE: usize = 128;
        let end = place::partition_end(partition);
        let shard = self.shard_of(partition);
        let (mut from, mut hinted) = (partition.to_be_bytes().to_vec(), 0);
        loop {
            let rows = self.store.scan(shard, Table::Data, &from, &end, PAGE)?;
            let Some((last, _)) = rows.last() else {
                return Ok(hinted);
            };
            from = place::behind(last);
            for (row_key, _) in rows {
                let Some((at, db, name)) = place::parse(&row_key) else {
                    continue;
                };
                let located = self.locate(Key { db, name }, at);
                if self.owners_of(name) == owners && !self.has_hint(&located, None)? {
                    // What is here already need not be refused.
                    for node in to {
                        match self.keep_hint_within(u64::MAX, located.key, *node) {
                            Err(ReplicaError::Row(_)) => {}
                            kept => kept?,
                        }
                    }
                    hinted += 1;
                }
            }
            if hinted >= limit {
                return Ok(hinted);
            }
        }
    }

    /// Whether a key's object is still to be handed to somebody else.
    pub(super) fn has_hint(
        &self,
        located: &Located<'_>,
        but_for: Option<NodeId>,
    ) -> Result<bool, ReplicaError> {
        let nodes = self.hint_counts().into_iter();
        for (node, _) in nodes.filter(|(node, _)| Some(*node) != but_for) {
            let key = place::hint_key(node.0, &located.row_key);
            if self.store.load(located.shard, Table::Hint, &key)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// For whom hints are kept here, and about how many: never none while there may be one. The exact
    /// number is known when a pass has found no more.
    pub fn hint_counts(&self) -> Vec<(NodeId, u64)> {
        let counts = self.hints.by_node.iter();
        let mut counts: Vec<_> = counts
            .map(|entry| (*entry.key(), entry.value().count.load(Ordering::Relaxed)))
            .map(|(node, count)| (node, count.max(1)))
            .collect();
        counts.sort_unstable();
        counts
    }

    /// Bytes of hints, and how many were refused because of the limit.
    pub fn hint_usage(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.hints.bytes), load(&self.hints.refused))
    }

    /// Begins a pass over the hints for a node. What is added from now on it may miss.
    pub fn begin_hints(&self, node: NodeId) -> HintPass {
        HintPass {
            added: self.hints.added(node),
            ..HintPass::default()
        }
    }

    /// The caller is about to wait for [`Self::settled`]: what is added from now on may not be seen.
    pub fn before_settled(&self, pass: &mut HintPass) {
        pass.in_all = self.hints.added_in_all();
    }

    /// Up to `limit` more hints for a node; none at the end of the pass. Hints beyond their age are
    /// dropped on the way. The caller has waited for [`Self::settled`].
    pub fn next_hints(
        &self,
        node: NodeId,
        pass: &mut HintPass,
        limit: usize,
    ) -> Result<Vec<Hint>, ReplicaError> {
        let added = pass.added;
        let oldest_ms = clock::now_ms().saturating_sub(self.hints.limits.age_ms);
        let end = node.0.checked_add(1).map(u64::to_be_bytes);
        let end = end.map_or_else(|| vec![0xff; 9], |end| end.to_vec());
        let mut hints = Vec::new();
        while hints.is_empty() && pass.shard < self.store.shards() {
            let from = pass.next.clone().max(node.0.to_be_bytes().to_vec());
            let rows = self
                .store
                .scan(pass.shard, Table::Hint, &from, &end, limit)?;
            let Some((last, _)) = rows.last() else {
                *pass = HintPass {
                    shard: pass.shard + 1,
                    next: Vec::new(),
                    added,
                    in_all: pass.in_all,
                };
                continue;
            };
            pass.next = [last.as_slice(), &[0]].concat();
            for (key, value) in rows {
                match read_hint(pass.shard, &key, &value) {
                    Some((since_ms, hint)) if since_ms < oldest_ms => {
                        self.drop_hint(node, &hint)?;
                    }
                    Some((_, hint)) => hints.push(Hint {
                        added: pass.in_all,
                        ..hint
                    }),
                    None => {}
                }
            }
        }
        if hints.is_empty() {
            self.hints.clear(node, added);
        }
        Ok(hints)
    }

    /// A hint whose object cannot be read now stays for later.
    pub fn skip_hint(&self, node: NodeId) {
        self.hints.keep(node);
    }

    /// Drops all hints for a node that is no member any more; copies that are kept for it alone are
    /// strays then. The caller has waited for [`Self::settled`]. Blocks.
    pub fn forget_hints(&self, node: NodeId) -> Result<(), ReplicaError> {
        const PAGE: usize = 256;
        let mut pass = self.begin_hints(node);
        loop {
            let hints = self.next_hints(node, &mut pass, PAGE)?;
            if hints.is_empty() {
                return Ok(());
            }
            for hint in &hints {
                self.drop_hint(node, hint)?;
            }
        }
    }

    fn drop_hint(&self, node: NodeId, hint: &Hint) -> Result<(), ReplicaError> {
        let op = Op {
            table: Table::Hint,
            key: place::hint_key(node.0, &hint.row_key),
            value: None,
        };
        self.store.enqueue(hint.shard, Write::freeing(vec![op]))?;
        self.hints.remove(node, hint.bytes);
        Ok(())
    }

    /// A node has the object that a hint was kept for: the hint goes, and with it this node's copy if
    /// it was kept for others alone. If the key has changed since, both stay. The caller settles.
    pub fn delivered(
        &self,
        node: NodeId,
        hint: &Hint,
        sent: &Object,
        owned: bool,
    ) -> Result<(), ReplicaError> {
        let Some((at, db, name)) = place::parse(&hint.row_key) else {
            return self.drop_hint(node, hint);
        };
        let located = self.locate(Key { db, name }, at);
        let _order = self.lock(at);
        let object = match self.load(&located) {
            Err(ReplicaError::Row(_)) => {
                self.hints.keep(node);
                return Ok(());
            }
            loaded => loaded?,
        };
        if *object != *sent || !owned && self.is_looked_at(at) {
            self.hints.keep(node);
            return Ok(());
        }
        self.drop_hint(node, hint)?;
        // Somebody else's copy, too, may still be to be handed over, or a hint that says so may be on
        // its way to the store: then a copy that is not ours stays, and goes as a stray if need be.
        let is_settled = self.hints.added_in_all() == hint.added;
        let others = self.hint_counts().iter().any(|(other, _)| *other != node);
        let is_kept = others && (!is_settled || self.has_hint(&located, Some(node))?);
        if !owned && !is_kept {
            // Before what it says is here is not here any more.
            self.forget_seen(self.owners_of(name), at.partition)?;
            self.note_dropped(at.partition, object.context().last(self.actor));
            self.store_object(&located, &object, &Object::default(), None)?;
        }
        Ok(())
    }

    /// Counts the hints that are stored: at the start, and when some of them, or the removal of some, were
    /// not.
    pub(super) fn find_hints(&self) -> Result<(), ReplicaError> {
        const PAGE: usize = 4_096;
        let (mut bytes, mut counts) = (0, std::collections::BTreeMap::new());
        for shard in 0..self.store.shards() {
            let mut from = Vec::new();
            loop {
                let rows = self
                    .store
                    .scan(shard, Table::Hint, &from, &[0xff; 9], PAGE)?;
                let Some((last, _)) = rows.last() else { break };
                from = [last.as_slice(), &[0]].concat();
                for (key, value) in rows {
                    let node = key
                        .first_chunk()
                        .map(|raw| NodeId(u64::from_be_bytes(*raw)));
                    if let (Some(node), Some((_, hint))) = (node, read_hint(shard, &key, &value)) {
                        bytes += hint.bytes;
                        *counts.entry(node).or_insert(0) += 1;
                    }
                }
            }
        }
        self.hints.bytes.store(bytes, Ordering::Relaxed);
        for (node, count) in counts {
            self.hints.recount(node, count);
        }
        Ok(())
    }
}

/// When the hint was made, and the hint; `None` for a row that is none.
fn read_hint(shard: usize, key: &[u8], value: &[u8]) -> Option<(u64, Hint)> {
    let row_key = key.get(8..)?;
    let (_, db, name) = place::parse(row_key)?;
    let (since_ms, bytes) = (value.first_chunk()?, value.last_chunk()?);
    let hint = Hint {
        row_key: row_key.to_vec(),
        db,
        name: name.to_vec(),
        shard,
        bytes: u64::from_le_bytes(*bytes),
        added: 0,
    };
    Some((u64::from_le_bytes(*since_ms), hint))
}
