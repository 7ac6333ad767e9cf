//! Membership: who is one, and what each says of itself.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{ANNOUNCED_WITHIN, Cluster};
use crate::command::{Node, described, invited};
use crate::logic::membership::{Digest, Member};
use crate::logic::placement::NodeId;
use crate::peer::message::{MembershipRequest, Response};
use crate::status::NodeTransfers;

/// How long news of a node wait for the link to it, and how often that is looked at.
const REACHED_WITHIN: Duration = Duration::from_millis(50);
/// A member that is back waits so long at most for commands that this node runs in its place.
const PASSED_WITHIN: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Why a request is not answered now: the node is between two clusters, or the two are of different ones.
pub(super) fn refusal(
    cluster: &Cluster,
    request: &MembershipRequest,
    is_known: bool,
) -> Option<&'static str> {
    use MembershipRequest::{Gossip, Push};
    if !matches!(request, Gossip(_) | Push(_)) {
        return None;
    }
    if cluster.identity().cluster == 0 {
        // It may be what it was again in a moment.
        return Some("this node is joining a cluster");
    }
    // It has taken nobody in: the other takes it for a member of a cluster that it has not come to, and
    // must ask it again.
    // (One that has removed all others is a member still, and who has not heard of that has to hear it here.)
    let is_alone = !is_known && cluster.with_membership(|membership| membership.all().count() == 1);
    is_alone.then_some("this node has a cluster of its own")
}

/// Whether somebody who is not a member may ask for it.
pub(super) fn is_open(request: &MembershipRequest) -> bool {
    match request {
        MembershipRequest::Join(_)
        | MembershipRequest::Gossip(_)
        | MembershipRequest::Push(_)
        | MembershipRequest::Invite { .. }
        | MembershipRequest::Describe => true,
        MembershipRequest::Transfers | MembershipRequest::Pace => false,
    }
}

/// Answers.
pub(super) async fn answer(node: Arc<Node>, from: NodeId, request: MembershipRequest) -> Response {
    match request {
        MembershipRequest::Gossip(digest) => {
            let Some(coordinator) = &node.site.coordinator else {
                return Response::Refused("not in a cluster".into());
            };
            let cluster = coordinator.cluster();
            let was_away = !cluster.answers(from) || is_new_run(cluster, from, &digest);
            let reply = cluster.with_membership(|membership| membership.answer(&digest));
            cluster.hear(&digest);
            if was_away {
                // One that was started again counts its heartbeats anew, from what is not known here yet.
                cluster.heard_from(from);
                be_reached(cluster, from, ANNOUNCED_WITHIN / 2).await;
                let_pass(&node).await;
            }
            Response::Gossip(reply)
        }
        MembershipRequest::Push(members) => {
            if let Some(coordinator) = &node.site.coordinator {
                let cluster = coordinator.cluster();
                be_reached(cluster, from, REACHED_WITHIN).await;
                // One that has stopped says so until it tells that it runs again.
                let was_away = !cluster.answers(from);
                cluster.change(|membership| membership.learn(members));
                if was_away {
                    let_pass(&node).await;
                }
                // The member that has told this rests on it.
                if !cluster.noted().await {
                    return Response::Refused("it could not be written down".into());
                }
            }
            Response::Done
        }
        MembershipRequest::Join(member) => join(&node, *member),
        MembershipRequest::Describe => described(&node),
        MembershipRequest::Transfers => match &node.convergence {
            Some(convergence) => NodeTransfers::answer(convergence),
            None => Response::Refused("not in a cluster".into()),
        },
        MembershipRequest::Invite { address } => invited(&node, &address).await,
        MembershipRequest::Pace => {
            node.governor.others_work();
            Response::Counts(vec![node.governor.own_share()])
        }
    }
}

/// Whether a member has been started again since this node heard of it.
fn is_new_run(cluster: &Cluster, from: NodeId, digest: &[Digest]) -> bool {
    let known = cluster.with_membership(|membership| {
        let known = membership.member(from);
        known.map(|member| member.incarnation)
    });
    let said = digest.iter().find(|of| of.id == from);
    known.is_some_and(|known| said.is_some_and(|said| said.incarnation > known))
}

/// From here on the commands of a member that is back go to it; it runs them when those that this node has begun
/// in its place are done.
async fn let_pass(node: &Node) {
    let done = node.site.lanes.pass();
    let _ = tokio::time::timeout(PASSED_WITHIN, done).await;
}

/// A member that says that it has something is to be reached before this node counts on it.
async fn be_reached(cluster: &Cluster, from: NodeId, within: Duration) {
    let reached = async {
        while cluster.peers().is_down(from) {
            cluster.peers().heard_from(from);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let _ = tokio::time::timeout(within, reached).await;
}

fn join(node: &Node, member: Member) -> Response {
    let Some(coordinator) = node
        .site
        .coordinator
        .as_ref()
        .filter(|c| c.cluster().has_joined())
    else {
        return Response::Refused("this node has no cluster yet".into());
    };
    let cluster = coordinator.cluster();
    let known = cluster.with_membership(|m| m.member(member.id).cloned());
    if known.as_ref().is_some_and(|member| !member.is_present()) {
        return Response::Refused(
            "this node has left the cluster; give it a new data directory".into(),
        );
    }
    let before = cluster.with_membership(|m| {
        let mut present = m.present();
        present
            .find(|m| m.peer_address == member.peer_address)
            .cloned()
    });
    if let (None, Some(before)) = (&known, &before) {
        // It would take the place of that member, which must be gone for that.
        if before.id == cluster.me() || before.name != member.name || cluster.answers(before.id) {
            return Response::Refused(format!(
                "{} is the address of the member {}; only a node with its name takes its place, \
                 when that one does not answer any more",
                member.peer_address, before.name
            ));
        }
    }
    tracing::info!(node = %member.name, address = %member.peer_address, "a node joins");
    cluster.change(|membership| match known {
        // It was a member before it lost its disk, and finds itself among them.
        None if before.is_some() => {}
        None => membership.admit(member),
        Some(known) => {
            let joined = known.joined;
            membership.learn([Member { joined, ..member }]);
        }
    });
    Response::Welcome {
        cluster: cluster.identity().cluster,
        members: cluster.with_membership(|m| m.all().cloned().collect()),
    }
}
