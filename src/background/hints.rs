//! Hinted handoff (the paper's §4.6): what was kept for a node while it was away is sent when it is
//! back, and forgotten when it has it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::cluster::Cluster;
use crate::logic::causal::Object;
use crate::logic::placement::NodeId;
use crate::logic::row;
use crate::peer::encode;
use crate::peer::message::{Request, Response, WireKey};
use crate::replica::{DATABASES, Hint, Key, Replica, ReplicaError};

const LOOK_EVERY: Duration = Duration::from_millis(500);
const WITHIN: Duration = Duration::from_secs(5);
/// Hints sent at a time: the next ones go when all of these are answered.
const BATCH: usize = 256;

/// Hands hints over until it is dropped.
pub async fn hand_over_hints(cluster: Arc<Cluster>, replica: Arc<Replica>) {
    let mut answering: BTreeSet<NodeId> = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let me = cluster.me();
        for member in cluster.members().into_iter().filter(|m| m.id != me) {
            if !cluster.answers(member.id) {
                answering.remove(&member.id);
                continue;
            }
            if !answering.contains(&member.id) && send_floors(&cluster, &replica, member.id).await {
                answering.insert(member.id);
            }
            match hand_over(&cluster, &replica, member.id).await {
                Ok(0) => {}
                Ok(sent) => tracing::info!(to = %member.name, sent, "hints handed over"),
                Err(error) => tracing::warn!(to = %member.name, %error, "handing hints over waits"),
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

/// Sends what is kept for a node; returns how much it took.
async fn hand_over(
    cluster: &Cluster,
    replica: &Replica,
    to: NodeId,
) -> Result<usize, ReplicaError> {
    let mut sent = 0;
    if !replica.hint_counts().iter().any(|(node, _)| *node == to) {
        return Ok(sent);
    }
    let mut pass = replica.begin_hints(to);
    loop {
        replica.settled().await;
        let hints = replica.next_hints(to, &mut pass, BATCH)?;
        if hints.is_empty() {
            return Ok(sent);
        }
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
            return Ok(sent);
        }
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
