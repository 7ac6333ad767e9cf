//! Hinted handoff (the paper's §4.6): what was kept for a node while it was away is sent when it is
//! back, and forgotten when it has it. A member that has left and does not come back has heirs: those that
//! hold its keys now take what was kept for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::base::governor::Governor;
use crate::cluster::Cluster;
use crate::logic::causal::Object;
use crate::logic::placement::NodeId;
use crate::logic::record;
use crate::peer::encode;
use crate::peer::message::{KeyRequest, KeySpaceRequest, Response, WireKey};
use crate::replica::{DATABASES, Hint, HintPass, Key, Replica, ReplicaError};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A node that did not take what it was sent is left alone for twice as long every time.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
const WITHIN: Duration = Duration::from_secs(5);
/// Hints sent at a time: the next ones go when all of these are answered.
const BATCH: usize = 256;

/// How handing over to one node goes.
#[derive(Debug)]
struct Progress {
    /// Whether it has every floor since it answers.
    has_floors: bool,
    /// How far the pass over its hints has come.
    pass: Option<HintPass>,
    /// How many it took in this pass.
    sent: usize,
    /// Not before.
    next: Instant,
    pause: Duration,
}

impl Progress {
    fn new() -> Self {
        Self {
            has_floors: false,
            pass: None,
            sent: 0,
            next: Instant::now(),
            pause: LOOK_EVERY,
        }
    }
}

/// Hands hints over, at most so many a second to each node, until it is dropped.
pub async fn hand_over_hints(
    cluster: Arc<Cluster>,
    replica: Arc<Replica>,
    governor: Arc<Governor>,
    a_second: u32,
) {
    let mut by_node: BTreeMap<NodeId, Progress> = BTreeMap::new();
    loop {
        let next = by_node.values().filter(|progress| progress.pass.is_some());
        let next = next.map(|progress| progress.next).min();
        let look = Instant::now() + LOOK_EVERY;
        tokio::time::sleep_until(next.map_or(look, |next| next.min(look))).await;
        let me = cluster.me();
        let others = cluster.members().into_iter().filter(|m| m.id != me);
        let (there, away): (Vec<_>, Vec<_>) = others.partition(|m| cluster.answers(m.id));
        let mut heired = away;
        heired.retain(|m| m.is_present() && !m.is_placed());
        // Nodes that are silent, or no members any more.
        by_node.retain(|id, _| there.iter().chain(&heired).any(|member| member.id == *id));
        // Floors first: what was flushed must not come back with the hints of somebody else.
        for member in &there {
            let progress = by_node.entry(member.id).or_insert_with(Progress::new);
            if !progress.has_floors {
                progress.has_floors = send_floors(&cluster, &replica, member.id).await;
            }
        }
        // Then a batch to each, so that one who missed much does not hold up the others.
        let answers = |answer: bool| move |member| (member, answer);
        let answering = there.iter().map(answers(true));
        for (member, answers) in answering.chain(heired.iter().map(answers(false))) {
            let progress = by_node.entry(member.id).or_insert_with(Progress::new);
            if progress.next > Instant::now() {
                continue;
            }
            let begun = Instant::now();
            let to = if answers {
                Recipient::Itself(member.id)
            } else {
                Recipient::Heirs(member.id)
            };
            let handed = hand_over(&cluster, &replica, to, progress).await;
            if progress.pass.is_some() {
                governor.rest(begun.elapsed()).await;
            }
            match handed {
                Ok(true) => {
                    progress.pause = LOOK_EVERY;
                    let least = Duration::from_secs(1) * BATCH as u32 / a_second.max(1);
                    progress.next = begun + least;
                }
                Ok(false) => wait_longer(progress),
                Err(error) => {
                    tracing::warn!(to = %member.name, %error, "handing hints over waits");
                    wait_longer(progress);
                }
            }
            if progress.pass.is_none() && progress.sent > 0 {
                let heirs = !answers;
                tracing::info!(to = %member.name, heirs, sent = progress.sent, "hints handed over");
                progress.sent = 0;
            }
        }
    }
}

/// Who gets what is kept for a node.
#[derive(Clone, Copy, Debug)]
enum Recipient {
    Itself(NodeId),
    /// All that hold the key now.
    Heirs(NodeId),
}

impl Recipient {
    /// For whom it was kept.
    fn node(self) -> NodeId {
        match self {
            Self::Itself(node) | Self::Heirs(node) => node,
        }
    }

    /// Who is sent a key; `None` while somebody of them cannot be.
    fn of(self, cluster: &Cluster, name: &[u8]) -> Option<Vec<NodeId>> {
        let gone = match self {
            Self::Itself(node) => return Some(vec![node]),
            Self::Heirs(gone) => gone,
        };
        let holders = cluster.holders(cluster.route(name).part());
        let others = holders.all().filter(|id| *id != gone);
        let heirs: Vec<NodeId> = others.collect();
        if heirs.is_empty() || !heirs.iter().all(|id| cluster.answers(*id)) {
            return None;
        }
        Some(heirs.into_iter().filter(|id| *id != cluster.me()).collect())
    }
}

fn wait_longer(progress: &mut Progress) {
    progress.pass = None;
    progress.pause = (progress.pause * 2).min(LONGEST_PAUSE);
    progress.next = Instant::now() + progress.pause;
}

/// A node that was away may have missed a flush; whether it has all floors now.
async fn send_floors(cluster: &Cluster, replica: &Replica, to: NodeId) -> bool {
    for db in 0..DATABASES {
        let floor = replica.common_floor(db);
        if floor.is_empty() {
            continue;
        }
        let mut context = Vec::new();
        record::put_context(&mut context, &floor);
        let body = encode(KeySpaceRequest::Floor {
            db: Some(db),
            context: context.into(),
        });
        if cluster.peers().call(to, body, WITHIN).await != Ok(Response::Done) {
            return false;
        }
    }
    true
}

/// Sends a batch of what is kept for a node; whether it took all of it. At the end the pass is over.
async fn hand_over(
    cluster: &Cluster,
    replica: &Replica,
    recipient: Recipient,
    progress: &mut Progress,
) -> Result<bool, ReplicaError> {
    let to = recipient.node();
    if !replica.hint_counts().iter().any(|(node, _)| *node == to) {
        progress.pass = None;
        return Ok(true);
    }
    let mut pass = match progress.pass.take() {
        Some(pass) => pass,
        None => replica.begin_hints(to),
    };
    replica.before_settled(&mut pass);
    replica.settled().await;
    let hints = replica.next_hints(to, &mut pass, BATCH)?;
    if hints.is_empty() {
        return Ok(true);
    }
    let taken = join_all(
        hints
            .iter()
            .map(|hint| send(cluster, replica, recipient, hint)),
    )
    .await;
    let mut all_taken = true;
    for (hint, object) in hints.iter().zip(taken) {
        let object = match object {
            Ok(Some(object)) => object,
            Ok(None) => {
                all_taken = false;
                continue;
            }
            // It is reported where it is read; one damaged row does not hold up all others.
            Err(ReplicaError::Row(_)) => {
                replica.skip_hint(to);
                continue;
            }
            Err(error) => return Err(error),
        };
        let owned = cluster.holds(cluster.route(&hint.name));
        replica.delivered(to, hint, &object, owned)?;
        progress.sent += 1;
    }
    progress.pass = Some(pass);
    Ok(all_taken)
}

/// Sends one object to all that are to have it; `None` when somebody has not taken it.
async fn send(
    cluster: &Cluster,
    replica: &Replica,
    recipient: Recipient,
    hint: &Hint,
) -> Result<Option<Arc<Object>>, ReplicaError> {
    let object = replica.read(Key {
        db: hint.db,
        name: &hint.name,
    })?;
    let Some(all) = recipient.of(cluster, &hint.name) else {
        return Ok(None);
    };
    let raw: Bytes = record::WIRE.encode(&object).into();
    let sent = all
        .into_iter()
        .map(|to| send_to(cluster, to, hint, raw.clone()));
    let all_taken = join_all(sent).await.into_iter().all(|taken| taken);
    Ok(all_taken.then_some(object))
}

async fn send_to(cluster: &Cluster, to: NodeId, hint: &Hint, object: Bytes) -> bool {
    let view = cluster.view(cluster.route(&hint.name)).for_node(to);
    let body = encode(KeyRequest::Apply {
        key: WireKey {
            db: hint.db,
            name: Bytes::copy_from_slice(&hint.name),
        },
        object,
        hint_for: None,
        only_over_seen: false,
        touched: None,
        view,
    });
    match cluster.peers().call(to, body, WITHIN).await {
        Ok(Response::Done) => return true,
        Ok(Response::Outdated(members)) => cluster.learn_from(to, members),
        Ok(_) => {}
        Err(error) => cluster.failed(to, error),
    }
    false
}
