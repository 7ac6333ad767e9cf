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
/// While enough may live, keys are measured one time in so many.
const MEASURES: u64 = 10;
/// Keys that are looked at together at least.
const PAGE: usize = 16;
/// Keys that go at a time.
const AT_A_TIME: usize = 256;
/// Places that are looked at for them.
const PLACES: usize = 8;
/// So many of them at least: where some have just gone, those that are left are not the worst.
const COMPARED: usize = 3;
/// And when there is no room, and none could be made.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A key that may go.
struct Candidate {
    rank: u64,
    db: u8,
    key: Vec<u8>,
}

/// Looks at keys of a random place; those that may go.
fn look(node: &Node, policy: Policy, keys: usize) -> Result<Vec<Candidate>, ReplicaError> {
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
    for key in replica.random_keys(db, keys)? {
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
    Ok(candidates)
}

/// Looks at keys of several places, until so many may go: the worst of all.
fn look_for(node: &Node, policy: Policy, wanted: usize) -> Result<Vec<Candidate>, ReplicaError> {
    let mut found = Vec::new();
    if !policy.evicts() {
        // It is for what is measured.
        return look(node, policy, PAGE);
    }
    // A place is dear, a key is cheap; and of many keys it may be that few may go.
    let keys = (2 * wanted).clamp(8 * PAGE, 2 * AT_A_TIME);
    for nth in 1..=PLACES {
        found.extend(look(node, policy, keys)?);
        if nth >= COMPARED && found.len() >= wanted {
            break;
        }
    }
    // The same place may have come twice.
    found.sort_unstable_by(|a, b| (b.rank, b.db, &b.key).cmp(&(a.rank, a.db, &a.key)));
    found.dedup_by(|a, b| (a.db, &a.key) == (b.db, &b.key));
    found.truncate(wanted);
    Ok(found)
}

/// Keeps what lives within what may, for ever.
pub async fn keep_within(node: &Arc<Node>) {
    for tick in 0_u64.. {
        tokio::time::sleep(LOOK).await;
        let is_due = tick.is_multiple_of(MEASURES);
        let has_room = too_many(node) == 0 && !node.eviction.is_full();
        if node.eviction.most() == 0 || !is_due && has_room {
            continue;
        }
        let has_room = make_room(node).await;
        node.pause.wait_for_room(false);
        node.eviction.set_room(has_room);
        if !has_room && node.eviction.policy().evicts() {
            // Much was looked at for nothing.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Whether so much more lives than may that those who add wait.
fn is_behind(node: &Node) -> bool {
    let most = node.eviction.most();
    most > 0 && node.eviction.used(&node.replica) > most + most / 8
}

/// How many keys are more than may live; none when that is any number.
fn too_many(node: &Node) -> usize {
    let (used, most) = (node.eviction.used(&node.replica), node.eviction.most());
    if most == 0 || used <= most {
        return 0;
    }
    ((used - most) as f64 / node.eviction.mean_size()).ceil() as usize
}

/// Evicts until what lives is within its bound; whether there is room. What the directives say may change
/// meanwhile.
async fn make_room(node: &Arc<Node>) -> bool {
    loop {
        let (policy, wanted) = (node.eviction.policy(), too_many(node).clamp(1, AT_A_TIME));
        let looking = Arc::clone(node);
        // What is measured is looked at in any case.
        let candidates = off_worker(move || look_for(&looking, policy, wanted)).await;
        let mut candidates = candidates.unwrap_or_else(|error| {
            tracing::debug!(%error, "nothing is evicted now");
            Vec::new()
        });
        let too_many = too_many(node);
        node.pause
            .wait_for_room(is_behind(node) && !candidates.is_empty());
        if too_many == 0 {
            return true;
        }
        if !node.eviction.policy().evicts() || candidates.is_empty() || node.is_stopping() {
            return false;
        }
        candidates.truncate(too_many);
        let going = candidates.iter().map(|Candidate { db, key, .. }| {
            scripts::ask_in(node, *db, &[b"RINGWOOD", b"EVICT", key])
        });
        let replies = join_all(going).await;
        if replies.iter().all(|reply| reply.starts_with(b"-")) {
            // Nothing can be deleted now: nobody is asked over and over.
            return false;
        }
    }
}
