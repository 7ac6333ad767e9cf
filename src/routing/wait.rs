//! WAIT and WAITAOF in a cluster: how many owners hold what this connection has written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::here;
use super::runner::{Later, Runner, Site};
use super::who::Who;
use crate::coordinator::Coordinator;
use crate::logic::placement::NodeId;
use crate::peer::encode;
use crate::peer::message::{KeySpaceRequest, Response, Wrote};
use crate::resp::Reply;

/// The owners are asked again after so long, then after twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A timeout of 0 waits no longer.
const LONGEST: Duration = Duration::from_hours(1);

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Owners beside the first.
    pub replicas: u64,
    /// WAITAOF: what it wants of the first, and that the disk counts.
    pub on_disk: Option<u64>,
    /// How long; `None`: as long as it takes.
    pub timeout: Option<Duration>,
}

/// Waits for that, or for so long, or until the client is gone.
pub fn begin(
    node: &Arc<dyn Runner>,
    who: Who,
    is_gone: impl Fn() -> bool + Send + 'static,
    wanted: Wanted,
) -> Later {
    let node = Arc::clone(node);
    Box::pin(async move {
        let until = Instant::now() + wanted.timeout.unwrap_or(LONGEST);
        let mut pause = FIRST_PAUSE;
        let holders = loop {
            let holders = holders(node.site(), &who, wanted.on_disk.is_some()).await;
            let (first, others) = (holders.min(1), holders.saturating_sub(1));
            let enough = others >= wanted.replicas && first >= wanted.on_disk.unwrap_or(0);
            if enough || Instant::now() >= until || is_gone() {
                break holders;
            }
            tokio::time::sleep_until(until.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let mut reply = Reply::default();
        reply.set_protocol(who.protocol);
        let (first, others) = (holders.min(1), holders.saturating_sub(1));
        if wanted.on_disk.is_some() {
            reply.array(2);
            reply.integer(first as i64);
        }
        reply.integer(others as i64);
        std::mem::take(reply.buffer())
    })
}

/// How many owners hold every one of a connection's writes. Without any: how many could.
async fn holders(site: &Site, who: &Who, synced: bool) -> u64 {
    let Some(coordinator) = &site.coordinator else {
        return 0;
    };
    let cluster = coordinator.cluster();
    let writes = who.own.all();
    if writes.is_empty() {
        let members = cluster.members();
        let answering = members.iter().filter(|member| cluster.answers(member.id));
        return (answering.count() as u64).min(u64::from(cluster.options().rules.default().n));
    }
    let mut by_owner: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (nth, write) in writes.iter().enumerate() {
        let (owners, _) = cluster.owners_and_fallbacks(cluster.route(&write.name));
        for owner in owners.into_iter().filter(|id| cluster.answers(*id)) {
            by_owner.entry(owner).or_default().push(nth);
        }
    }
    let asked = by_owner.iter().map(|(owner, asked)| {
        let writes = asked.iter().map(|nth| writes[*nth].clone()).collect();
        ask(site, coordinator, *owner, writes, synced)
    });
    let mut held = vec![0; writes.len()];
    for (counts, asked) in join_all(asked).await.iter().zip(by_owner.values()) {
        for (nth, count) in asked.iter().zip(counts) {
            held[*nth] += count.min(&1);
        }
    }
    held.into_iter().min().unwrap_or(0)
}

async fn ask(
    site: &Site,
    coordinator: &Coordinator,
    owner: NodeId,
    writes: Vec<Wrote>,
    synced: bool,
) -> Vec<u64> {
    let cluster = coordinator.cluster();
    let within = coordinator.within();
    let answer = if owner == cluster.me() {
        let held = here::holds(site, writes, synced);
        tokio::time::timeout(within, held).await.ok()
    } else {
        let body = encode(KeySpaceRequest::Holds { writes, synced });
        // A node that has not fsynced yet is slow, not gone.
        cluster.peers().call(owner, body, within).await.ok()
    };
    match answer {
        Some(Response::Counts(counts)) => counts,
        _ => Vec::new(),
    }
}
