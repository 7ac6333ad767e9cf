//! When anti-entropy runs, and what follows from it: a round compares this node's copies with every
//! other owner's, then forgets what everybody has seen.
//!
//! What a partition has *seen* is raised in three steps, over two rounds. First all members say what
//! they have written so far (the sample). A round later all of them say that they hold nothing of the
//! partition that an owner might lack: no hints, no strays. Then the exchanges with all its owners come
//! to their end. By then everything below the sample is here or was overwritten: it was stored where it
//! was coordinated before it got its place in the sample; that node is an owner, or has handed it to
//! one. A run that was known at the sample and is nobody's any more has written all that it ever will.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::clock;
use crate::convergence::{Convergence, ExchangeError, Exchanged, from_bitmap, off_worker};
use crate::logic::causal::{ActorId, Context};
use crate::logic::placement::NodeId;
use crate::peer::encode;
use crate::peer::message::{Request, Response};
use crate::replica::{ReplicaError, Tombstones};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After a start, and after a node has come back.
const SOON: Duration = Duration::from_millis(1_500);
/// After a round that broke off.
const AGAIN: Duration = Duration::from_secs(3);
const WITHIN: Duration = Duration::from_secs(5);
/// How old a sample must be: what was on its way has arrived, or never will.
const SETTLED: Duration = Duration::from_secs(4);
/// Tombstones looked at, and strays hinted, at a time.
const SLICE: usize = 256;

/// What all members have said of themselves at one time.
struct Poll {
    at: Instant,
    /// Every member's run, and its last write.
    live: BTreeMap<ActorId, u64>,
    /// Every actor that was known here.
    known: Vec<ActorId>,
    /// By the number of owners: partitions of which somebody may hold what an owner lacks.
    held: BTreeMap<u8, BTreeSet<u16>>,
}

impl Poll {
    /// What had been written by the time of an earlier poll, now that this one shows who still runs.
    fn covers(&self, earlier: &Poll) -> Context {
        let mut context = Context::new();
        for (&actor, &seq) in &earlier.live {
            let upto = if self.live.contains_key(&actor) {
                seq
            } else {
                u64::MAX
            };
            context.insert_interval(actor, 0, upto);
        }
        for &actor in &earlier.known {
            if !self.live.contains_key(&actor) {
                context.insert_interval(actor, 0, u64::MAX);
            }
        }
        context
    }
}

/// Runs a round every `every`, more or less, and soon after a node has come back or somebody asks for
/// it, until it is dropped.
pub async fn anti_entropy(
    convergence: Arc<Convergence>,
    every: Duration,
    mut chance: impl FnMut() -> u64 + Send,
) {
    let mut worker = Worker {
        convergence,
        sample: None,
    };
    let mut answered: BTreeMap<NodeId, ActorId> = BTreeMap::new();
    // Not all at the same moment: what one has mended the next need not.
    let mut soon = move || Instant::now() + SOON * (50 + (chance() % 100) as u32) / 100;
    let mut due = soon();
    loop {
        tokio::select! {
            biased;
            () = worker.convergence.forced() => due = Instant::now(),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let cluster = worker.convergence.cluster();
        let members = cluster.members().into_iter();
        let there = members.filter(|m| m.id != cluster.me() && cluster.answers(m.id));
        let there: BTreeMap<NodeId, ActorId> = there.map(|m| (m.id, m.actor)).collect();
        if there
            .iter()
            .any(|(id, actor)| answered.get(id) != Some(actor))
        {
            due = due.min(soon());
        }
        answered = there;
        if Instant::now() < due || !cluster.has_joined() {
            continue;
        }
        due = match worker.round().await {
            Ok(true) => soon() + every.saturating_sub(SOON),
            Ok(false) => Instant::now() + AGAIN.min(every),
            Err(error) => {
                tracing::warn!(%error, "anti-entropy waits");
                Instant::now() + AGAIN.min(every)
            }
        };
    }
}

struct Worker {
    convergence: Arc<Convergence>,
    sample: Option<Poll>,
}

impl Worker {
    /// Compares with every owner that answers; whether it came to its end.
    async fn round(&mut self) -> Result<bool, ReplicaError> {
        let poll = self.poll().await;
        let convergence = Arc::clone(&self.convergence);
        let covered = self.sample.take_if(|sample| {
            let old = sample.at.elapsed() >= SETTLED;
            old || poll.is_none()
        });
        let covered = match (&poll, covered) {
            (Some(poll), Some(sample)) => Some((poll.covers(&sample), poll.held.clone())),
            _ => None,
        };
        if self.sample.is_none() {
            self.sample = poll;
        }
        let mut is_complete = true;
        for owners in convergence.replica().sizes().to_vec() {
            let complete = self.exchange_all(owners).await;
            is_complete &= complete.is_some();
            let complete = complete.unwrap_or_default();
            if let Some((context, held)) = &covered {
                let clear = |partition: &u16| {
                    held.get(&owners)
                        .is_none_or(|held| !held.contains(partition))
                };
                let seen: Vec<u16> = complete.iter().copied().filter(clear).collect();
                convergence.replica().saw(owners, &seen, context)?;
            }
            self.tidy(owners).await?;
        }
        if is_complete {
            convergence.cluster().be_empty(false);
            if covered.is_some() {
                convergence.note(|standing| standing.complete_ms = Some(clock::now_ms()));
            }
        }
        self.drop_tombstones().await?;
        Ok(is_complete)
    }

    /// What every member says; `None` when one does not, or knows of others than this node does.
    async fn poll(&self) -> Option<Poll> {
        let convergence = &self.convergence;
        let cluster = convergence.cluster();
        let known = convergence.replica().known_actors();
        let at = Instant::now();
        let asked = cluster.members().into_iter().map(|member| async move {
            if member.id == cluster.me() {
                return Some(convergence.written());
            }
            let body = encode(&Request::Written);
            let answer = cluster.peers().call(member.id, body, WITHIN).await;
            answer
                .inspect_err(|error| cluster.failed(member.id, *error))
                .ok()
        });
        let mut poll = Poll {
            at,
            live: BTreeMap::new(),
            known,
            held: BTreeMap::new(),
        };
        let count = convergence.replica().partitions().count();
        for answer in join_all(asked).await {
            let Some(Response::Written {
                actor,
                seq,
                events,
                partitions,
            }) = answer
            else {
                return None;
            };
            if events != cluster.events() {
                return None;
            }
            poll.live.insert(actor, seq);
            for (owners, bits) in partitions {
                let held = poll.held.entry(owners).or_default();
                held.extend(from_bitmap(&bits, count));
            }
        }
        Some(poll)
    }

    /// Exchanges with all other owners that answer; the partitions that are as all their owners have
    /// them, or `None` when an exchange broke off.
    async fn exchange_all(&self, owners: u8) -> Option<Vec<u16>> {
        let convergence = &self.convergence;
        let cluster = convergence.cluster();
        let me = cluster.me();
        let mut with: BTreeMap<u16, BTreeSet<NodeId>> = BTreeMap::new();
        let mut is_complete = true;
        for member in cluster.members().into_iter().filter(|m| m.id != me) {
            if !cluster.answers(member.id) {
                continue;
            }
            let shared = convergence.shared_with(owners, member.id);
            if shared.is_empty() {
                continue;
            }
            let begun = Instant::now();
            let mut exchanged = Exchanged::default();
            let done = convergence
                .exchange(member.id, owners, &shared, &mut exchanged)
                .await;
            let Exchanged {
                received,
                sent,
                complete,
            } = exchanged;
            if received + sent > 0 {
                let took_ms = begun.elapsed().as_millis() as u64;
                tracing::info!(with = %member.name, received, sent, took_ms, "copies mended");
            }
            if let Err(error) = done {
                is_complete = false;
                if !matches!(error, ExchangeError::Yielded | ExchangeError::Counting) {
                    tracing::debug!(with = %member.name, %error, "an exchange broke off");
                }
            }
            for partition in complete {
                with.entry(partition).or_default().insert(member.id);
            }
        }
        if !is_complete {
            return None;
        }
        let complete = |partition: &u16| {
            let all = cluster.first_of(*partition, owners).into_iter();
            let with = with.get(partition);
            all.filter(|id| *id != me)
                .all(|id| with.is_some_and(|with| with.contains(&id)))
        };
        Some(
            convergence
                .owned(owners)
                .into_iter()
                .filter(complete)
                .collect(),
        )
    }

    /// What this node does not own goes to those who do.
    async fn tidy(&self, owners: u8) -> Result<(), ReplicaError> {
        let convergence = &self.convergence;
        let (cluster, replica) = (convergence.cluster(), convergence.replica());
        let owned = convergence.owned(owners);
        let has_hints = !replica.hint_counts().is_empty();
        for partition in 0..replica.partitions().count() {
            if owned.binary_search(&partition).is_ok() {
                continue;
            }
            replica.forget_seen(owners, partition)?;
            let first = cluster.first_of(partition, owners).into_iter();
            let to = first.into_iter().find(|id| cluster.answers(*id));
            if let (Some(to), false) = (to, has_hints || replica.rows(owners, partition) == 0) {
                let (replica, begun) = (Arc::clone(replica), Instant::now());
                replica.settled().await;
                let hint = move || replica.hint_strays(owners, partition, to, SLICE);
                let hinted = off_worker(hint).await?;
                convergence
                    .counters()
                    .strays
                    .fetch_add(hinted, std::sync::atomic::Ordering::Relaxed);
                convergence.governor().rest(begun.elapsed()).await;
            }
        }
        Ok(())
    }

    async fn drop_tombstones(&self) -> Result<(), ReplicaError> {
        let convergence = &self.convergence;
        let mut found = Tombstones::default();
        for partition in 0..convergence.replica().partitions().count() {
            if convergence.replica().tombstones_of(partition) == 0 {
                continue;
            }
            let mut from = Some(Vec::new());
            while let Some(start) = from {
                let (replica, begun) = (Arc::clone(convergence.replica()), Instant::now());
                replica.settled().await;
                let slice = move || {
                    let mut found = Tombstones::default();
                    let next = replica.drop_tombstones(partition, &start, SLICE, &mut found);
                    next.map(|next| (next, found))
                };
                let (next, slice) = off_worker(slice).await?;
                from = next;
                found.add(slice);
                convergence.governor().rest(begun.elapsed()).await;
            }
        }
        convergence.note(|standing| {
            standing.tombstones = found;
            standing.dropped += found.dropped;
        });
        Ok(())
    }
}
