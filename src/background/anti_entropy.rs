//! When anti-entropy runs, and what follows from it: a round compares this node's copies with every
//! other owner's, then forgets what everybody has seen.
//!
//! What a partition has *seen* is raised in three steps, over two rounds. First all members say what
//! they have written so far (the sample). A round later all of them say that they hold nothing of the
//! partition that an owner might lack: no copies of what they do not own. Then the exchanges with all its owners come
//! to their end. By then everything below the sample is here or was overwritten: it was stored where it
//! was coordinated before it got its place in the sample; that node is an owner, or has handed it to
//! one. A run that was known at the sample and is nobody's any more has written all that it ever will.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::base::blocking::off_worker;
use crate::base::clock;
use crate::convergence::{Convergence, ExchangeError, Exchanged};
use crate::logic::causal::{ActorId, Context};
use crate::logic::membership::{Member, Membership};
use crate::logic::placement::{NodeId, PartitionSet};
use crate::peer::encode;
use crate::peer::message::{ExchangeRequest, Response};
use crate::replica::{ReplicaError, Tombstones};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After a start, and after a node has come back.
const SOON: Duration = Duration::from_millis(1_500);
/// After a round that broke off.
const AGAIN: Duration = Duration::from_secs(3);
const WITHIN: Duration = Duration::from_secs(5);
/// How old a sample must be. (That nothing is missed does not rest on it: what a node has written stands
/// in its own store, or has a hint or shows as a stray.)
const SETTLED: Duration = Duration::from_secs(4);
/// Tombstones looked at at a time.
const SLICE: usize = 256;

/// What all members have said of themselves at one time.
struct Poll {
    at: Instant,
    /// Who owned what and who ran; all members agreed on it.
    view: u64,
    /// Batches that had not been stored here.
    failed: u64,
    /// Every member's run, and its last write.
    live: BTreeMap<ActorId, u64>,
    /// Every actor that was known here.
    known: Vec<ActorId>,
    /// The runs of all members, as the member table has them.
    running: BTreeSet<ActorId>,
}

impl Poll {
    /// What had been written by the time of an earlier poll, now that this one shows who still runs.
    fn covers(&self, earlier: &Poll) -> Context {
        let mut context = Context::new();
        let runs = |actor| self.live.contains_key(&actor) || self.running.contains(&actor);
        for (&actor, &seq) in &earlier.live {
            let upto = if runs(actor) { seq } else { u64::MAX };
            context.insert_interval(actor, 0, upto);
        }
        for &actor in earlier.known.iter().filter(|actor| !runs(**actor)) {
            context.insert_interval(actor, 0, u64::MAX);
        }
        context
    }
}

/// Runs a round every `every`, more or less, and soon after a node has come back, until it is dropped.
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
        tokio::time::sleep(LOOK_EVERY).await;
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
        if Instant::now() < due || !cluster.has_joined() || cluster.is_unsure() {
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

/// What the members say that answer.
struct Answers {
    /// `None` when one does not, or sees the cluster differently.
    poll: Option<Poll>,
    /// By the number of owners: partitions of which one of them keeps what it does not own.
    held: BTreeMap<u8, BTreeSet<u16>>,
}

/// What came of the exchanges with all other owners.
struct All {
    /// The partitions that are as all their owners have them.
    mended: Vec<u16>,
    /// Whether no exchange broke off.
    is_complete: bool,
    /// Whether keys were left out that have not ended.
    leaves_out: bool,
}

struct Worker {
    convergence: Arc<Convergence>,
    sample: Option<Poll>,
}

impl Worker {
    /// Compares with every owner that answers; whether it came to its end.
    async fn round(&mut self) -> Result<bool, ReplicaError> {
        let convergence = Arc::clone(&self.convergence);
        let (cluster, replica) = (convergence.cluster(), convergence.replica());
        let id = cluster.identity().cluster;
        if !replica.sees_under(id)? {
            replica.settled().await;
            replica.forget_all_seen()?;
            replica.settled().await;
            replica.see_under(id)?;
            self.sample = None;
        }
        let Answers { poll, held } = self.poll().await;
        let covered = match (self.sample.take(), &poll) {
            (Some(sample), Some(poll)) if sample.at.elapsed() < SETTLED => {
                self.sample = Some(sample).filter(|sample| sample.view == poll.view);
                None
            }
            (Some(sample), Some(poll)) if sample.failed == poll.failed => {
                Some((poll.covers(&sample), poll.view, poll.failed))
            }
            _ => None,
        };
        self.sample = self.sample.take().or(poll);
        self.forget_gone().await?;
        let mut is_complete = true;
        for owners in replica.sizes().to_vec() {
            let All {
                mended,
                is_complete: all_came_to_their_end,
                leaves_out,
            } = self.exchange_all(owners).await;
            is_complete &= all_came_to_their_end;
            // What a member keeps that does not hold it may be what is missing here.
            let nobody_keeps = |partition: &u16| {
                let held = held.get(&owners);
                held.is_some_and(|held| !held.contains(partition))
            };
            // Nor may an old owner hold anything that it has not given up.
            let stays = |partition: &u16| cluster.holders((owners, *partition)).is_over();
            let mended = mended.into_iter().filter(stays);
            let whole: Vec<u16> = mended.filter(nobody_keeps).collect();
            if let Some((context, view, failed)) = &covered {
                // What was taken in, here or from hints, is stored; and all is as it was.
                replica.settled().await;
                let unchanged =
                    replica.failed_batches() == *failed && cluster.fingerprint() == *view;
                if unchanged && !leaves_out && replica.is_counted() {
                    replica.saw(owners, &whole, context)?;
                }
            }
        }
        if is_complete && covered.is_some() {
            convergence.note(|standing| standing.complete_ms = Some(clock::now_ms()));
        }
        self.drop_tombstones().await?;
        Ok(is_complete)
    }

    /// What every member says.
    async fn poll(&self) -> Answers {
        let convergence = &self.convergence;
        let (cluster, replica) = (convergence.cluster(), convergence.replica());
        let members = cluster.members();
        let mut poll = Poll {
            at: Instant::now(),
            view: cluster.fingerprint(),
            failed: replica.failed_batches(),
            live: BTreeMap::new(),
            known: replica.known_actors(),
            running: members.iter().map(|member| member.actor).collect(),
        };
        let mut held: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::new();
        let count = members.len();
        let asked = members.into_iter().map(|member| async move {
            if member.id == cluster.me() {
                return Some(convergence.written());
            }
            let body = encode(ExchangeRequest::Written);
            let answer = cluster.peers().call(member.id, body, WITHIN).await;
            answer
                .inspect_err(|error| cluster.failed(member.id, *error))
                .ok()
        });
        let partitions_count = replica.partitions().count();
        let (mut agree, mut ahead_ms) = (true, Vec::new());
        for answer in join_all(asked).await {
            let Some(Response::Written {
                actor,
                seq,
                now_ms,
                view,
                partitions,
            }) = answer
            else {
                agree = false;
                continue;
            };
            agree &= view == poll.view;
            ahead_ms.push(now_ms as i64 - clock::now_ms() as i64);
            poll.live.insert(actor, seq);
            for (owners, bits) in partitions {
                let of_tree = held.entry(owners).or_default();
                of_tree.extend(PartitionSet::from_bytes(&bits).below(partitions_count));
            }
        }
        if ahead_ms.len() * 2 > count {
            ahead_ms.sort_unstable();
            // Of two clocks the slower one.
            replica.agree_on_time(ahead_ms[(ahead_ms.len() - 1) / 2]);
        }
        Answers {
            held,
            poll: agree.then_some(poll),
        }
    }

    /// Exchanges with all other owners that answer.
    async fn exchange_all(&self, owners: u8) -> All {
        let convergence = &self.convergence;
        let cluster = convergence.cluster();
        let me = cluster.me();
        let mut with: BTreeMap<u16, BTreeSet<NodeId>> = BTreeMap::new();
        let (mut is_complete, mut leaves_out) = (true, false);
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
            let Exchanged { received, sent, .. } = exchanged;
            leaves_out |= exchanged.leaves_out;
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
            for partition in exchanged.mended {
                with.entry(partition).or_default().insert(member.id);
            }
        }
        let with_all = |partition: &u16| {
            let all = cluster.holders((owners, *partition));
            let with = with.get(partition);
            let mut others = all.serving.iter().filter(|id| **id != me);
            others.all(|id| with.is_some_and(|with| with.contains(id)))
        };
        let held = convergence.held(owners).into_iter();
        let served = held.filter(|p| cluster.holders((owners, *p)).serves(me));
        All {
            mended: served.filter(with_all).collect(),
            is_complete,
            leaves_out,
        }
    }

    /// Nobody is left to whom these hints could be handed.
    async fn forget_gone(&self) -> Result<(), ReplicaError> {
        let (cluster, replica) = (self.convergence.cluster(), self.convergence.replica());
        for (node, _) in replica.hint_counts() {
            let is_member = |m: &Membership| m.member(node).is_none_or(Member::is_present);
            if !cluster.with_membership(is_member) {
                replica.settled().await;
                let replica = Arc::clone(replica);
                off_worker(move || replica.forget_hints(node)).await?;
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
