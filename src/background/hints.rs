//! Hinted handoff (the paper's §4.6): what was kept for a node while it was away is sent when it is
//! back, and forgotten when it has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::logic::causal::Object;
use crate::logic::placement::NodeId;
use crate::logic::row;
use crate::peer::encode;
use crate::peer::message::{Request, Response, WireKey};
use crate::replica::{DATABASES, Hint, Key, Replica, ReplicaError};

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
    /// Not before.
    next: Instant,
    pause: Duration,
}

/// Hands hints over, at most so many a second to each node, until it is dropped.
pub async fn hand_over_hints(cluster: Arc<Cluster>, replica: Arc<Replica>, a_second: u32) {
    let mut by_node: BTreeMap<NodeId, Progress> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let me = cluster.me();
        for member in cluster.members().into_iter().filter(|m| m.id != me) {
            if !cluster.answers(member.id) {
                by_node.remove(&member.id);
                continue;
            }
            let now = Instant::now();
            let progress = by_node.entry(member.id).or_insert(Progress {
                has_floors: false,
                next: now,
                pause: LOOK_EVERY,
            });
            if progress.next > now {
                continue;
            }
            if !progress.has_floors {
                progress.has_floors = send_floors(&cluster, &replica, member.id).await;
            }
            let all_taken = match hand_over(&cluster, &replica, member.id, a_second).await {
                Ok((sent, all_taken)) => {
                    if sent > 0 {
                        tracing::info!(to = %member.name, sent, "hints handed over");
                    }
                    all_taken
                }
                Err(error) => {
                    tracing::warn!(to = %member.name, %error, "handing hints over waits");
                    false
                }
            };
            progress.pause = if all_taken {
                LOOK_EVERY
            } else {
                (progress.pause * 2).min(LONGEST_PAUSE)
            };
            if !all_taken {
                progress.next = Instant::now() + progress.pause;
            }
        }
    }
}

/// A node that was away may have missed a flush; whether it has all floors now.
async fn send_floors(cluster: &Cluster, replica: &Replica, to: NodeId) -> bool {
    for db in 0..DATABASES {
        let floor = replica.common_floor(db);
        if floor.is_empty() {
            continue;
        }
        let mut context = Vec::new();
        row::put_context(&mut context, &floor);
        let body = encode(&Request::Floor {
            db: Some(db),
            context: context.into(),
        });
        if cluster.peers().call(to, body, WITHIN).await != Ok(Response::Done) {
            return false;
        }
    }
    true
}

/// Sends what is kept for a node; returns how much it took, and whether that was all it was sent.
async fn hand_over(
    cluster: &Cluster,
    replica: &Replica,
    to: NodeId,
    a_second: u32,
) -> Result<(usize, bool), ReplicaError> {
    let mut sent = 0;
    if !replica.hint_counts().iter().any(|(node, _)| *node == to) {
        return Ok((sent, true));
    }
    let mut pass = replica.begin_hints(to);
    loop {
        replica.settled().await;
        let hints = replica.next_hints(to, &mut pass, BATCH)?;
        if hints.is_empty() {
            return Ok((sent, true));
        }
        let begun = Instant::now();
        let taken = join_all(hints.iter().map(|hint| send(cluster, replica, to, hint))).await;
        let mut refused = false;
        for (hint, object) in hints.iter().zip(taken) {
            let Some(object) = object? else {
                refused = true;
                continue;
            };
            let owned = cluster.owns(cluster.route(&hint.name));
            replica.delivered(to, hint, &object, owned)?;
            sent += 1;
        }
        if refused {
            return Ok((sent, false));
        }
        let least = Duration::from_secs(1) * hints.len() as u32 / a_second.max(1);
        tokio::time::sleep_until(begun + least).await;
    }
}

/// Sends one object; `None` when it was not taken.
async fn send(
    cluster: &Cluster,
    replica: &Replica,
    to: NodeId,
    hint: &Hint,
) -> Result<Option<Arc<Object>>, ReplicaError> {
    let object = replica.read(Key {
        db: hint.db,
        name: &hint.name,
    })?;
    let body = encode(&Request::Apply {
        key: WireKey {
            db: hint.db,
            name: Bytes::copy_from_slice(&hint.name),
        },
        object: row::encode(&object).into(),
        hint_for: None,
        only_over_seen: false,
    });
    Ok(match cluster.peers().call(to, body, WITHIN).await {
        Ok(Response::Done) => Some(object),
        Ok(_) => None,
        Err(error) => {
            cluster.failed(to, error);
            None
        }
    })
}
