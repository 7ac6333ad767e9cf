//! While this node does background work it asks the others once a second what share of the time they
//! give it: an exchange loads both its sides, and what is handed over loads who takes it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::base::governor::Governor;
use crate::cluster::Cluster;
use crate::peer::encode;
use crate::peer::message::{MembershipRequest, Response};

const EVERY: Duration = Duration::from_secs(1);

/// Keeps the governor to what the others give, until it is dropped.
pub async fn keep_pace(cluster: Arc<Cluster>, governor: Arc<Governor>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if !governor.works() {
            continue;
        }
        let me = cluster.me();
        let others = cluster.members().into_iter().map(|member| member.id);
        let others = others.filter(|id| *id != me && cluster.answers(*id));
        let asked = others.map(|id| {
            cluster
                .peers()
                .call(id, encode(MembershipRequest::Pace), EVERY)
        });
        let given = join_all(asked)
            .await
            .into_iter()
            .map(|answer| match answer {
                Ok(Response::Counts(share)) => share.first().copied().unwrap_or(0),
                // A member that is too busy to say gives little.
                _ => 0,
            });
        governor.limit(given.min().unwrap_or(u64::MAX));
    }
}
