//! Gossip: a round a second, and joining a cluster through its seeds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::cluster::{ANNOUNCED_WITHIN, Cluster};
use crate::logic::membership::{Member, Membership};
use crate::logic::placement::NodeId;
use crate::peer::encode;
use crate::peer::message::{MembershipRequest, Response};

const ROUND: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(2);
/// Shorter, since it holds up the round.
const ASK_BACK_WITHIN: Duration = Duration::from_millis(300);

/// Joins through the seeds if need be, then gossips until it is dropped. Whom it talks to is chance's,
/// which the caller brings.
pub async fn gossip(
    cluster: Arc<Cluster>,
    seeds: Vec<String>,
    mut chance: impl FnMut() -> u64 + Send,
) {
    join(&cluster, &seeds, chance()).await;
    announce(&cluster).await;
    let mut rounds = tokio::time::interval_at(Instant::now() + ROUND, ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        cluster.beat();
        let random = [chance(), chance(), chance()];
        let partners = cluster.with_membership(|m| m.partners(|id| cluster.answers(id), random));
        // One silent partner must not hold up the round.
        forget_drained(&cluster);
        let exchanges = partners
            .into_iter()
            .map(|partner| exchange(&cluster, partner));
        futures_util::future::join_all(exchanges).await;
    }
}

/// Everybody is to know that this node is there again, before it runs anything.
async fn announce(cluster: &Cluster) {
    cluster.beat();
    let others = cluster.members().into_iter().map(|member| member.id);
    let others = others.filter(|id| *id != cluster.me());
    let told = others.map(|partner| exchange(cluster, partner));
    let told = futures_util::future::join_all(told);
    let _ = tokio::time::timeout(ANNOUNCED_WITHIN, told).await;
    cluster.has_announced();
}

/// A member that has left, holds nothing any more and has stopped is gone.
fn forget_drained(cluster: &Cluster) {
    let me = cluster.me();
    let is_over = |member: &&Member| {
        let is_drained = !member.is_placed() && member.state.is_drained();
        is_drained && member.id != me && !cluster.answers(member.id)
    };
    let members = cluster.members();
    for member in members.iter().filter(is_over) {
        tracing::info!(node = %member.name, "a member that has left is gone");
        cluster.change(|membership| membership.remove(member.id));
    }
}

async fn exchange(cluster: &Cluster, partner: NodeId) {
    let digest = cluster.with_membership(Membership::digest);
    let body = encode(MembershipRequest::Gossip(digest));
    match cluster.peers().call(partner, body, WITHIN).await {
        Ok(Response::Gossip(reply)) => {
            cluster.hear(&reply.digest);
            if !cluster.answers(partner) {
                cluster.heard_from(partner);
            }
            let push = cluster.with_membership(|membership| membership.push(&reply));
            if !reply.newer.is_empty() {
                cluster.change(|membership| membership.learn(reply.newer));
            }
            if !push.is_empty() {
                let body = encode(MembershipRequest::Push(push));
                let _ = cluster.peers().call(partner, body, WITHIN).await;
            }
        }
        Ok(other) => tracing::debug!(%partner, ?other, "no gossip"),
        Err(error) => {
            cluster.failed(partner, error);
            ask_back(cluster, partner).await;
        }
    }
}

/// A member that has lost its disk may believe to be alone: a node at its address that is alone and
/// empty is asked to join.
async fn ask_back(cluster: &Cluster, partner: NodeId) {
    let (me, partner) = cluster.with_membership(|m| (m.me().clone(), m.member(partner).cloned()));
    let Some(partner) = partner.filter(|_| cluster.has_joined()) else {
        return;
    };
    let invite = MembershipRequest::Invite {
        address: me.peer_address,
    };
    let peers = cluster.peers();
    if let Ok((_, Response::Done)) = peers
        .call_address(&partner.peer_address, &invite.into(), ASK_BACK_WITHIN)
        .await
    {
        tracing::warn!(node = %partner.name, "a member that had lost its disk was asked back");
    }
}

/// Asks the seeds until one takes this node in, or it is told again what it knows. The first seed
/// of a list, and a node without seeds, makes the cluster, unless another seed has one: then this
/// node was its member before it lost its disk.
async fn join(cluster: &Cluster, seeds: &[String], chance: u64) {
    let me = cluster.with_membership(|membership| membership.me().clone());
    let is_first = seeds.first().is_none_or(|seed| *seed == me.peer_address);
    let mut complained = is_first;
    while !cluster.has_joined() {
        for seed in seeds.iter().filter(|seed| **seed != me.peer_address) {
            match cluster.join(seed, WITHIN, false).await {
                Ok(()) => return,
                Err(reason) if !complained => {
                    tracing::warn!(%seed, %reason, "a seed did not take this node in, trying again");
                }
                Err(_) => {}
            }
        }
        if is_first {
            cluster.found(chance.max(1));
            tracing::info!(
                cluster = cluster.identity().cluster,
                "a new cluster is made"
            );
            return;
        }
        complained = true;
        tokio::time::sleep(ROUND / 2).await;
    }
}
