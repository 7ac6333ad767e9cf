//! What a node does by itself on threads of its own: counting, reclaiming, giving room back to the disk; and
//! taking stock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::base::clock;
use crate::command::{Node, tell_of_ends};
use crate::replica::Ended;

/// How often expired and flushed rows are looked for when there were none.
const RECLAIM_EVERY: Duration = Duration::from_millis(100);

/// Rates for INFO, once a second.
pub(super) async fn take_stock(node: &Node) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        node.sample();
    }
}

/// Counts what is there, a partition at a time: after an unclean stop, and when writes have failed.
pub(super) fn count(node: &Node, counting: &AtomicBool) {
    while counting.load(Ordering::Acquire) {
        let started = clock::monotonic();
        let more = node.replica.count_next();
        let took = clock::monotonic().duration_since(started);
        if more {
            std::thread::sleep(node.governor.rest_after(took));
            continue;
        }
        // A command that is in the middle of something queues the rest of it first.
        let alone = node.replica.is_to_recover().then(|| {
            let gate = node.site.gate.alone();
            Handle::current().block_on(gate)
        });
        let recovered = node.replica.recover_from_failures();
        drop(alone);
        if let Err(error) = recovered {
            tracing::debug!(%error, "counting waits");
        }
        std::thread::sleep(RECLAIM_EVERY);
    }
}

/// Reclaims in slices until told to stop, and rests after each as long as the governor says.
pub(super) fn sweep(node: &Node, sweeping: &AtomicBool) {
    let mut ends = Ended::now();
    while sweeping.load(Ordering::Acquire) {
        let started = clock::monotonic();
        let slice = {
            let _passing = node.site.gate.pass_by();
            // Before what has ended is gone.
            let until_ms = tell_of_ends(node, &mut ends);
            node.replica.reclaim_expired(until_ms)
        };
        node.replica.settle();
        let more = slice.and_then(|more| Ok(node.replica.reclaim_flushed()? || more));
        let more = more.and_then(|more| Ok(node.replica.reclaim_elements()? || more));
        let took = clock::monotonic().duration_since(started);
        match more {
            Ok(true) => std::thread::sleep(node.governor.rest_after(took).min(RECLAIM_EVERY)),
            Ok(false) => {
                compact(node);
                std::thread::sleep(RECLAIM_EVERY);
            }
            Err(error) => {
                tracing::debug!(%error, "reclaiming waits");
                std::thread::sleep(RECLAIM_EVERY);
            }
        }
    }
}

fn compact(node: &Node) {
    let started = clock::monotonic();
    match node.replica.compact_when_worth_it() {
        Ok(true) => {
            let took_ms = clock::monotonic().duration_since(started).as_millis() as u64;
            let bytes = node.replica.store().usage().disk_bytes;
            tracing::info!(bytes, took_ms, "removed rows were given back to the disk");
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "removed rows stay on the disk"),
    }
}
