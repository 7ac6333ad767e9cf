//! Keeping what lives within `maxmemory`: which keys go, and that they do.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::eviction::{Policy, size_of};
use super::node::Node;
use super::scripts;
use crate::base::blocking::off_worker;
use crate::base::clock;
use crate::base::random::random_u64;
use crate::logic::types;
use crate::replica::{DATABASES, Key, Reach, ReplicaError};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);
/// Keys that are looked at together, of which one in four may go.
const PAGE: usize = 16;
/// Keys that go at a time.
const AT_A_TIME: usize = 64;
/// After so many pages without a key that may go there is none.
const FRUITLESS: usize = 64;

/// A key that may go.
struct Candidate {
    rank: u64,
    db: u8,
    key: Vec<u8>,
}

/// Looks at keys of a random place; those that may go.
fn look(node: &Node, policy: Policy) -> Result<Vec<Candidate>, ReplicaError> {
    let replica = &node.replica;
    let stored = (0..DATABASES).map(|number| (number, replica.database(number)));
    let mut left = {
        let all: u64 = (0..DATABASES).map(|db| replica.live_keys_so_far(db)).sum();
        random_u64() % all.max(1)
    };
    // Each key is as likely as any other, in whichever database.
    let mut found = stored.clone().find(|(_, db)| {
        let live = replica.live_keys_so_far(*db);
        let is_it = left < live;
        left = left.saturating_sub(live);
        is_it
    });
    let Some((number, db)) = found.take() else {
        return Ok(Vec::new());
    };
    let mut candidates = Vec::new();
    for key in replica.random_keys(db, PAGE)? {
        let object = replica.read_some(Key { db, name: &key }, Reach::Head)?;
        if !types::is_present(&object, clock::now_ms()) {
            continue;
        }
        node.eviction.note_size(size_of(&key, &object));
        let coordinator = node.site.coordinator.as_ref();
        let is_ours = coordinator.is_none_or(|coordinator| coordinator.coordinates(&key));
        let rank = node.eviction.rank(policy, &key, &object);
        candidates.extend(rank.filter(|_| is_ours).map(|rank| Candidate {
            rank,
            db: number,
            key,
        }));
    }
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.rank));
    candidates.truncate(candidates.len().div_ceil(4));
    Ok(candidates)
}

/// Keeps what lives within what may, for ever.
pub async fn keep_within(node: &Arc<Node>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let most = node.eviction.most();
        if most > 0 {
            node.eviction.set_room(make_room(node, most).await);
        }
    }
}

/// Evicts until what lives is within a bound; whether there is room.
async fn make_room(node: &Arc<Node>, most: u64) -> bool {
    let policy = node.eviction.policy();
    let mut fruitless = 0;
    loop {
        let looking = Arc::clone(node);
        let candidates = off_worker(move || look(&looking, policy)).await;
        let candidates = candidates.unwrap_or_else(|error| {
            tracing::debug!(%error, "nothing is evicted now");
            Vec::new()
        });
        let used = node.eviction.used(&node.replica);
        if used <= most {
            return true;
        }
        let mean = node.eviction.mean_size();
        let too_many = ((used - most) as f64 / mean).ceil() as usize;
        if !policy.evicts() || fruitless >= FRUITLESS || node.is_stopping() {
            return false;
        }
        fruitless = if candidates.is_empty() {
            fruitless + 1
        } else {
            0
        };
        let going = candidates.iter().take(too_many.clamp(1, AT_A_TIME));
        let going = going.map(|Candidate { db, key, .. }| {
            scripts::ask_in(node, *db, &[b"RINGWOOD", b"EVICT", key])
        });
        let replies = join_all(going).await;
        if replies.iter().any(|reply| reply.starts_with(b"-")) {
            // It cannot be deleted now: nobody is asked over and over.
            return false;
        }
    }
}
