//! CLUSTER MEET: a node that is alone and empty becomes a member of another's cluster.
//!
//! Two clusters never merge: a node that has other members, or keys, stays what it is.

use std::sync::Arc;
use std::time::Duration;

use crate::base::blocking::at_length;
use crate::cluster::Cluster;
use crate::command::context::After;
use crate::command::context::{Ctx, Outcome};
use crate::command::node::Node;
use crate::command::row::{NL, NO_MULTI, Row, sub};
use crate::error::Error;
use crate::peer::message::{MembershipRequest, Response};
use crate::resp::Reply;
use crate::routing::args::Args;
use crate::routing::{Later, Who, at_once};

/// The rows of this family.
pub const ROWS: &[Row] = &[sub(
    "cluster",
    "meet",
    -4,
    NL.and(NO_MULTI),
    meet,
    "Joins the cluster of another node, or has that one join: CLUSTER MEET host port [peer-port].",
)];

const WITHIN: Duration = Duration::from_secs(5);
/// Between a node's port for clients and the one for other nodes, where nothing else is said.
const PEER_PORT_OFFSET: u16 = 10_000;

/// CLUSTER MEET host port [peer-port].
pub(super) fn meet(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let Some(coordinator) = &ctx.node.site.coordinator else {
        return Err(Error::text(
            "ERR This instance has cluster support disabled",
        ));
    };
    let mut address = format!("{}:{}", args.text(2), args.text(3));
    if args.get(4).is_some() {
        address = format!("{address}@{}", args.text(4));
    }
    let peer = peer_address(&address);
    let address = peer.map_err(|reason| Error::Text(format!("ERR {reason}").into()))?;
    let (node, cluster) = (Arc::clone(ctx.node), Arc::clone(coordinator.cluster()));
    let who = ctx.who();
    ctx.after = After::Later(begin(node, cluster, who, address));
    Ok(())
}

/// Where other nodes reach the one that clients reach at `host:port`, or at `host:port@peer-port`.
pub fn peer_address(address: &str) -> Result<String, String> {
    let (client, peer) = match address.split_once('@') {
        Some((client, peer)) => (client, Some(peer)),
        None => (address, None),
    };
    let found = client.rsplit_once(':').and_then(|(host, port)| {
        let port: u16 = port.parse().ok()?;
        let peer = match peer {
            Some(peer) => peer.parse().ok()?,
            None => port.checked_add(PEER_PORT_OFFSET)?,
        };
        (!host.is_empty()).then(|| format!("{host}:{peer}"))
    });
    found.ok_or_else(|| format!("Invalid node address specified: {address}"))
}

fn begin(node: Arc<Node>, cluster: Arc<Cluster>, who: Who, address: String) -> Later {
    Box::pin(async move {
        let met = if may_join(&node, &cluster).is_ok() {
            cluster.join(&address, WITHIN, true).await
        } else {
            invite(&cluster, &address).await
        };
        match met {
            Ok(()) => {
                let mut reply = Reply::default();
                reply.ok();
                std::mem::take(reply.buffer())
            }
            Err(reason) => at_once(who, Error::Text(format!("ERR {reason}").into())).await,
        }
    })
}

/// Whether this node may become a member of another cluster.
pub(super) fn may_join(node: &Node, cluster: &Cluster) -> Result<(), String> {
    let others = cluster.members().len().saturating_sub(1);
    if others > 0 {
        return Err(format!("the node's cluster has {others} other members"));
    }
    if !node.replica.is_settled() {
        return Err("the node is still writing".to_owned());
    }
    match at_length(|| node.replica.has_keys()) {
        Ok(false) => Ok(()),
        Ok(true) => Err("the node holds keys of its own".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks a node that is alone to join this one's cluster.
pub(super) async fn invite(cluster: &Cluster, address: &str) -> Result<(), String> {
    let to = cluster.with_membership(|membership| membership.me().peer_address.clone());
    let asked = MembershipRequest::Invite { address: to };
    match cluster
        .peers()
        .call_address(address, &asked.into(), WITHIN * 2)
        .await
    {
        Ok((_, Response::Done)) => Ok(()),
        Ok((_, Response::Refused(reason))) => Err(reason),
        Ok(_) => Err("the other node sent something that was not asked for".to_owned()),
        Err(error) => Err(format!("{address}: {error}")),
    }
}

/// Another node asks this one to join its cluster.
/// Answers who asks this node to join its cluster.
pub async fn invited(node: &Node, address: &str) -> Response {
    let Some(coordinator) = &node.site.coordinator else {
        return Response::Refused("not in a cluster".into());
    };
    let cluster = coordinator.cluster();
    let joined = match may_join(node, cluster) {
        Ok(()) => cluster.join(address, WITHIN, true).await,
        Err(reason) => Err(reason),
    };
    match joined {
        Ok(()) => Response::Done,
        Err(reason) => Response::Refused(reason),
    }
}
