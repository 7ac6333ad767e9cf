//! Taking a part over, and giving one up.
//!
//! A new owner copies a part, piece by piece in the order of rows, from one node that serves it. Each
//! piece is stored, and behind it how far the part has come: whichever side is killed, the copying goes
//! on there. Then the copy is proven: compared, and mended, with those that serve the part. Only then it
//! counts. An old owner drops its copy when all new owners have theirs, and only what it has compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::transfers::{Giving, Taking};
use super::{Convergence, ExchangeError, Exchanged};
use crate::base::blocking::{is_simulated, timed, worked_off};
use crate::logic::handoff::{self, Progress, Proof, Stage, Why};
use crate::logic::membership::{Membership, Part};
use crate::logic::placement::{NodeId, PartitionSet};
use crate::logic::record;
use crate::peer::encode;
use crate::peer::message::{
    KeySpaceRequest, MembershipRequest, Response, TransferRequest, WireKey, Wrote,
};
use crate::replica::{Key, Piece, ReplicaError};

/// Bytes of a piece, and of one of a node that stands back. Dropping costs more than copying.
const PIECE_BYTES: usize = 256 << 10;
const LEAST_BYTES: usize = 64 << 10;
const LEAST_DROPPED_BYTES: usize = 16 << 10;
/// Objects that are sent together to an owner that has not seen them.
const OFFERED: usize = 256;
/// Pieces until others have their turn.
const SLICE: usize = 16;
/// A node that has not said in time how large something is leaves it unknown.
const SIZES_WITHIN: Duration = Duration::from_millis(1_500);
impl Convergence {
    /// Follows what this node lacks: what is new is queued, what it does not own any more is dropped.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn follow_lacking(&self) -> Result<Vec<Part>, ExchangeError> {
        let lacking = self.cluster.lacking_parts();
        let wanted: BTreeSet<Part> = lacking.iter().copied().collect();
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        {
            let mut taking = self.transfers.taking.lock();
            taking.retain(|part, _| {
                let stays = wanted.contains(part);
                if !stays {
                    gone.push(*part);
                }
                stays
            });
            // A part that was refused comes into the queue again.
            for taking in taking.values_mut() {
                if matches!(taking.stage, Stage::Waits(Why::Refused(_)))
                    && !taking.progress.is_whole
                {
                    taking.stage = Stage::Queued;
                }
            }
            new.extend(
                wanted
                    .iter()
                    .copied()
                    .filter(|part| !taking.contains_key(part)),
            );
        }
        for (owners, partition) in gone {
            self.replica.note_handoff(owners, partition, None)?;
        }
        for (owners, partition) in new {
            let progress = self.replica.handoff_progress(owners, partition)?;
            let is_resumed = progress.as_ref().is_some_and(|p| p.rows > 0);
            if is_resumed && let Some(progress) = &progress {
                self.transfers.resumed.fetch_add(1, Ordering::Relaxed);
                let (rows, pieces) = (progress.rows, progress.pieces);
                tracing::info!(
                    partition,
                    rows,
                    pieces,
                    "a transfer goes on where it had stopped"
                );
            }
            let taking = Taking {
                stage: Stage::Queued,
                progress: progress.unwrap_or_default(),
                size: None,
                is_resumed,
                failures: 0,
            };
            self.transfers
                .taking
                .lock()
                .insert((owners, partition), taking);
        }
        Ok(lacking)
    }

    /// Copies some more of a part, beside others; a byte rate of 0 is none.
    ///
    /// # Errors
    /// When the copying broke off here. What was taken in stays.
    pub async fn copy_some(
        &self,
        part: Part,
        rate: u64,
        at_a_time: u32,
    ) -> Result<(), ExchangeError> {
        let Some(taking) = self.transfers.taking().remove(&part) else {
            return Ok(());
        };
        let mut progress = taking.progress;
        for _ in 0..SLICE {
            if progress.is_whole || !self.cluster.lacks_part(part) {
                return Ok(());
            }
            let begun = Instant::now();
            let Some((bytes, took)) = self.copy_piece(part, &mut progress).await? else {
                return Ok(());
            };
            // Several at a time share what the governor gives.
            self.governor.rest(took * at_a_time).await;
            if let Some(micros) = (bytes * 1_000_000).checked_div(rate) {
                let least = Duration::from_micros(micros);
                tokio::time::sleep(least.saturating_sub(begun.elapsed())).await;
            }
        }
        Ok(())
    }

    /// Copies a piece: how many bytes, and how long it took the processor; `None` when nobody gives one.
    async fn copy_piece(
        &self,
        part: Part,
        progress: &mut Progress,
    ) -> Result<Option<(u64, Duration)>, ExchangeError> {
        let (owners, partition) = part;
        let me = self.cluster.me();
        let holders = self.cluster.holders(part);
        let answers = |id| self.cluster.answers(id);
        if holders.is_lost {
            return Ok(None);
        }
        if holders.serves(me) {
            // Nobody has it: there is nothing to copy.
            progress.is_whole = true;
            self.note_copied(part, progress)?;
            return Ok(Some((0, Duration::ZERO)));
        }
        let failed = self.transfers.failed();
        let Some(from) = handoff::source(partition, &holders, me, answers, &failed) else {
            self.waits(part, Why::NoSource);
            return Ok(None);
        };
        self.transfers
            .change(part, |taking| taking.stage = Stage::Copying(from));
        let request = TransferRequest::Chunk {
            owners,
            partition,
            from: progress.next.clone().into(),
            bytes: self.governor.items(PIECE_BYTES).max(LEAST_BYTES) as u64,
        };
        let (objects, next) = match self.call(from, request).await {
            Ok(Response::Chunk { objects, next }) => (objects, next),
            outcome => {
                self.transfers.failed.lock().insert(from, Instant::now());
                let why = match outcome {
                    Err(error) => error.to_string(),
                    Ok(_) => ExchangeError::Unexpected.to_string(),
                };
                self.waits(part, Why::Refused(why));
                return Ok(None);
            }
        };
        let failures = self.replica.failed_batches();
        let goes_on = next.is_empty() || *next > *progress.next;
        let mut bytes = 0;
        let mut taken = objects.iter().map(|(key, raw)| {
            bytes += (key.name.len() + raw.len()) as u64;
            self.take_in(key, raw)
        });
        let (taken, took) = if is_simulated() {
            (taken.try_for_each(|taken| taken), Duration::ZERO)
        } else {
            timed(|| taken.try_for_each(|taken| taken))
        };
        let taken = if goes_on {
            taken
        } else {
            Err(ExchangeError::Unexpected)
        };
        if let Err(error) = taken {
            // Somebody else may have it in order.
            self.transfers.failed.lock().insert(from, Instant::now());
            self.waits(part, Why::Refused(error.to_string()));
            return Ok(None);
        }
        self.replica.settled().await;
        if self.replica.failed_batches() != failures {
            return Err(ExchangeError::NotStored);
        }
        progress.is_whole = next.is_empty();
        if !next.is_empty() {
            progress.next = next.to_vec();
        }
        progress.rows += objects.len() as u64;
        progress.bytes += bytes;
        progress.pieces += 1;
        self.transfers.took(objects.len() as u64, bytes);
        self.note_copied(part, progress)?;
        Ok(Some((bytes, took)))
    }

    fn note_copied(&self, part: Part, progress: &Progress) -> Result<(), ExchangeError> {
        self.replica.note_handoff(part.0, part.1, Some(progress))?;
        self.transfers.change(part, |taking| {
            taking.progress = progress.clone();
            if progress.is_whole {
                taking.stage = Stage::Proving;
            }
        });
        Ok(())
    }

    /// Asks about how large the parts are of which that is not known; of those without rows there is
    /// nothing to copy.
    pub async fn learn_sizes(&self) {
        let unknown = |(part, taking): (&Part, &Taking)| taking.size.is_none().then_some(*part);
        let unknown: Vec<Part> = self
            .transfers
            .taking
            .lock()
            .iter()
            .filter_map(unknown)
            .collect();
        let (me, nobody) = (self.cluster.me(), BTreeSet::new());
        let answers = |id| self.cluster.answers(id);
        let from = |part: Part| {
            let holders = self.cluster.holders(part);
            Some((
                part,
                handoff::source(part.1, &holders, me, answers, &nobody)?,
            ))
        };
        let sizes = self.sizes_of(unknown.into_iter().filter_map(from)).await;
        for (part, size) in sizes {
            self.transfers.change(part, |taking| {
                taking.size = Some(size);
                if size.0 == 0 {
                    // The proof alone finds what there may be.
                    taking.progress.is_whole = true;
                    taking.stage = Stage::Proving;
                }
            });
        }
    }

    /// About how large some parts are, as those say that have them, and answer soon: rows and bytes.
    pub async fn sizes_of(
        &self,
        parts: impl Iterator<Item = (Part, NodeId)>,
    ) -> BTreeMap<Part, (u64, u64)> {
        let mut asked: BTreeMap<(NodeId, u8), Vec<u16>> = BTreeMap::new();
        for ((owners, partition), node) in parts {
            asked.entry((node, owners)).or_default().push(partition);
        }
        let asked = asked.into_iter().map(|((node, owners), mut partitions)| {
            partitions.sort_unstable();
            let set: PartitionSet = partitions.iter().copied().collect();
            let bits: Bytes = set.into_bytes().into();
            async move {
                let request = TransferRequest::Sizes {
                    owners,
                    partitions: bits.clone(),
                };
                let answer = if node == self.cluster.me() {
                    Ok(self.sizes(owners, &bits).await)
                } else {
                    let peers = self.cluster.peers();
                    peers.call(node, encode(request), SIZES_WITHIN).await
                };
                let Ok(Response::Sizes(sizes)) = answer else {
                    return Vec::new();
                };
                let of = |(partition, size)| ((owners, partition), size);
                partitions.into_iter().zip(sizes).map(of).collect()
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn waits(&self, part: Part, why: Why) {
        self.transfers.change(part, |taking| {
            taking.stage = Stage::Waits(why);
            taking.failures += 1;
        });
    }

    /// Proves parts that are copied: compares them with those that serve them. Returns those that were;
    /// they count when all other new owners have theirs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prove(&self, parts: &[Part]) -> Result<Vec<Part>, ExchangeError> {
        let me = self.cluster.me();
        let answers = |id| self.cluster.answers(id);
        let proof = |part: &Part| {
            let w = self.cluster.options().rules.least_w(part.0);
            let holders = self.cluster.holders(*part);
            (*part, Proof::of((*part, w), &holders, me, answers))
        };
        let proofs = || -> BTreeMap<Part, Proof> { parts.iter().map(proof).collect() };
        let with = |proofs: &BTreeMap<Part, Proof>| -> BTreeSet<NodeId> {
            proofs.values().flat_map(|p| p.with.clone()).collect()
        };
        let as_of = self.cluster.changes();
        // A node that is compared with knows of this node's place, so that it gets what is written meanwhile.
        let agreed = with(&proofs());
        for id in &agreed {
            self.agree_with(*id).await?;
        }
        // Others may serve than this node knew before.
        let mut proofs = proofs();
        if self.cluster.changes() != as_of || !with(&proofs).is_subset(&agreed) {
            return Ok(Vec::new());
        }
        // What nobody has any more is not proven by those who have not got it either.
        proofs.retain(|part, _| !self.cluster.holders(*part).is_lost);
        proofs.retain(|part, proof| {
            let can_be = proof.with.len() >= proof.needed;
            if !can_be {
                let (compared, needed) = (proof.with.len(), proof.needed);
                self.waits(*part, Why::Unproven { compared, needed });
            }
            can_be
        });
        let mut wanted: BTreeMap<(NodeId, u8), Vec<u16>> = BTreeMap::new();
        for ((owners, partition), proof) in &proofs {
            for with in &proof.with {
                let partitions = wanted.entry((*with, *owners)).or_default();
                partitions.push(*partition);
            }
        }
        let failed = self.replica.failed_batches();
        let mut compared: BTreeMap<Part, BTreeSet<NodeId>> = BTreeMap::new();
        let mut broke_off = None;
        let mut by_node: BTreeMap<NodeId, Vec<(u8, Vec<u16>)>> = BTreeMap::new();
        for ((with, owners), partitions) in wanted {
            by_node.entry(with).or_default().push((owners, partitions));
        }
        // With one after the other of a node's parts, with all nodes at a time.
        let exchanges = by_node.into_iter().map(|(with, parts)| async move {
            let mut all = Vec::new();
            for (owners, partitions) in parts {
                let mut exchanged = Exchanged::default();
                let done = self
                    .exchange(with, owners, &partitions, &mut exchanged)
                    .await;
                all.push((with, owners, exchanged, done));
            }
            all
        });
        let exchanged = join_all(exchanges).await.into_iter().flatten();
        for (with, owners, exchanged, done) in exchanged {
            for partition in exchanged.mended {
                compared
                    .entry((owners, partition))
                    .or_default()
                    .insert(with);
            }
            match done {
                Err(error @ ExchangeError::Here(_)) => return Err(error),
                Err(error) => broke_off = Some(error.to_string()),
                Ok(()) => {}
            }
        }
        self.replica.settled().await;
        if self.replica.failed_batches() != failed {
            return Err(ExchangeError::NotStored);
        }
        let nobody = BTreeSet::new();
        let mut proven = Vec::new();
        // As of now: a node that serves a part now and did not when this began was not asked.
        let account = self.cluster.account();
        let is_as_of = self.cluster.changes() == as_of;
        for part in proofs.keys().filter(|_| is_as_of) {
            let (_, proof) = proof(part);
            let compared = compared.get(part).unwrap_or(&nobody);
            if proof.is_met(compared) {
                proven.push(*part);
            } else {
                let why = broke_off.clone().map_or(
                    Why::Unproven {
                        compared: compared.len(),
                        needed: proof.needed,
                    },
                    Why::Refused,
                );
                self.waits(*part, why);
            }
        }
        Ok(if self.take_over(&proven, account) {
            proven
        } else {
            Vec::new()
        })
    }

    /// Tells another node what it does not know of the membership, and hears what this one does not.
    async fn agree_with(&self, id: NodeId) -> Result<(), ExchangeError> {
        let digest = self.cluster.with_membership(Membership::digest);
        let Response::Gossip(reply) = self.call(id, MembershipRequest::Gossip(digest)).await?
        else {
            return Err(ExchangeError::Unexpected);
        };
        let push = self.cluster.with_membership(|m| m.push(&reply));
        self.cluster
            .change(|membership| membership.learn(reply.newer));
        if push.is_empty() {
            return Ok(());
        }
        match self.call(id, MembershipRequest::Push(push)).await? {
            Response::Done => Ok(()),
            _ => Err(ExchangeError::Unexpected),
        }
    }

    /// Tells old owners of parts that have switched. Those of which everybody knows who must are as good
    /// here as anywhere from then on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn confirm(&self) -> Result<(), ExchangeError> {
        let me = self.cluster.me();
        let proven = self.cluster.proven_parts();
        let mut old: BTreeMap<Part, BTreeSet<NodeId>> = BTreeMap::new();
        for part in proven {
            let holders = self.cluster.holders(part);
            if holders.is_settled {
                old.insert(part, holders.old().filter(|id| *id != me).collect());
            }
        }
        let all: BTreeSet<NodeId> = old.values().flatten().copied().collect();
        let mut told = BTreeSet::new();
        for id in all.into_iter().filter(|id| self.cluster.answers(*id)) {
            let everybody = MembershipRequest::Push(self.cluster.everybody());
            if let Ok(Response::Done) = self.call(id, everybody).await {
                told.insert(id);
            }
        }
        // Any quorum of a read that does not know yet meets one that does.
        let is_known = |part: &Part| {
            let holders = self.cluster.holders(*part);
            let old: BTreeSet<NodeId> = holders.old().collect();
            let silent = old.iter().filter(|id| **id != me && !told.contains(id));
            let r = usize::from(self.cluster.options().rules.least_r(part.0));
            holders.is_settled && silent.count() < r.min(old.len().max(1))
        };
        let done: Vec<Part> = old.into_keys().filter(is_known).collect();
        self.cluster.has_switched(&done);
        if !done.is_empty() {
            self.cluster.announce();
        }
        // Until now it might have had to be proven again, which needs no copying again.
        for (owners, partition) in done {
            self.replica.note_handoff(owners, partition, None)?;
        }
        Ok(())
    }

    /// These parts' copies were proven, as of an account; whether it is that of now.
    pub fn take_over(&self, parts: &[Part], account: u64) -> bool {
        if parts.is_empty() || !self.cluster.has_proven(parts, account) {
            return false;
        }
        self.cluster.announce();
        for part in parts {
            self.transfers.taking.lock().remove(part);
            self.transfers.completed.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Looks at what this node has and does not own, and says so: the parts that it does not hold any more,
    /// with their rows; and whether it has left and holds nothing that others need.
    ///
    /// # Errors
    /// When the store fails.
    pub fn survey(&self) -> Result<Vec<(Part, u64)>, ExchangeError> {
        let mut strays = Vec::new();
        if !self.cluster.has_joined() || !self.replica.is_counted() {
            return Ok(strays);
        }
        let (me, mut giving) = (self.cluster.me(), Giving::default());
        for &owners in self.replica.sizes() {
            for partition in 0..self.replica.partitions().count() {
                let part = (owners, partition);
                let holders = self.cluster.holders(part);
                if holders.has(me) {
                    giving.waiting += u64::from(!holders.owners.contains(&me));
                    continue;
                }
                self.replica.forget_seen(owners, partition)?;
                let rows = self.replica.rows(owners, partition);
                if rows > 0 {
                    giving.dropping += 1;
                    strays.push((part, rows));
                }
            }
        }
        self.transfers.note_giving(giving);
        let nothing = giving == Giving::default() && self.replica.hint_counts().is_empty();
        self.cluster.say_drained(self.cluster.leaves() && nothing);
        Ok(strays)
    }

    /// Gives up some of a part that this node does not hold any more, from a row on: whatever one of these
    /// owners has not seen is sent to it, then the copies go. Returns where to go on, and the processor's time
    /// that it took here.
    ///
    /// # Errors
    /// When it broke off; the rest stays.
    pub async fn give_up(
        &self,
        part: Part,
        to: &[NodeId],
        from: Vec<u8>,
    ) -> Result<(Option<Vec<u8>>, Duration), ExchangeError> {
        let replica = Arc::clone(&self.replica);
        replica.settled().await;
        replica.note_handoff(part.0, part.1, None)?;
        let bytes = self.governor.items(PIECE_BYTES).max(LEAST_DROPPED_BYTES);
        let (piece, took) = worked_off(move || replica.piece(part, &from, bytes)).await;
        let piece = piece?;
        // What is said to be here is not here any more.
        self.replica.forget_seen(part.0, part.1)?;
        for owner in to {
            self.offer(*owner, &piece).await?;
        }
        if self.cluster.holders(part).has(self.cluster.me()) {
            return Ok((None, took));
        }
        // After a crash this node must not say again that it has them.
        if !self.cluster.noted().await {
            return Err(ExchangeError::NotStored);
        }
        self.replica.settled().await;
        let replica = Arc::clone(&self.replica);
        let (next, objects) = (piece.next, piece.objects);
        let drop_all = move || {
            let mut dropped = 0;
            for (db, name, object) in &objects {
                let key = Key { db: *db, name };
                dropped += u64::from(replica.drop_copy(key, object)?);
            }
            Ok::<u64, ReplicaError>(dropped)
        };
        let (dropped, to_drop) = worked_off(drop_all).await;
        self.transfers
            .dropped
            .fetch_add(dropped?, Ordering::Relaxed);
        Ok((next, took + to_drop))
    }

    /// Sends an owner what it has not seen of a piece.
    async fn offer(&self, owner: NodeId, piece: &Piece) -> Result<(), ExchangeError> {
        let mut writes = Vec::new();
        for (db, name, object) in &piece.objects {
            let name = Bytes::copy_from_slice(name);
            writes.extend(object.all_versions().map(|version| Wrote {
                db: *db,
                name: name.clone(),
                dot: version.dot,
                at: version.at,
            }));
        }
        let asked = KeySpaceRequest::Holds {
            writes,
            synced: false,
        };
        let Response::Counts(held) = self.call(owner, asked).await? else {
            return Err(ExchangeError::Unexpected);
        };
        let mut held = held.into_iter();
        let mut unseen = Vec::new();
        for (db, name, object) in &piece.objects {
            let versions = object.all_versions().count();
            // Nothing tells whether a delete was seen.
            let is_seen =
                versions > 0 && held.by_ref().take(versions).filter(|h| *h > 0).count() == versions;
            if !is_seen {
                let name = Bytes::copy_from_slice(name);
                let object: Bytes = record::WIRE.encode(object).into();
                unseen.push((WireKey { db: *db, name }, object));
            }
        }
        let mut exchanged = Exchanged::default();
        for some in unseen.chunks(OFFERED) {
            self.send(owner, some.to_vec(), &mut exchanged).await?;
        }
        Ok(())
    }
}
