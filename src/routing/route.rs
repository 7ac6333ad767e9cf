//! Where a command runs: decided once, from its shape and its keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::args::Args;
use super::coordinate::coordinate;
use super::forward::{hand_on, single};
use super::reply::at_once;
use super::runner::{Call, Later, Runner, Site};
use super::scatter::scatter;
use super::shape::{Positions, Shape, Travels};
use super::who::{UnderWay, Who};
use super::work::Work;
use crate::coordinator::Coordinator;
use crate::error::Error;
use crate::logic::place::MAX_KEY_LEN;
use crate::logic::placement::{NodeId, key_hash, slot_of};

/// Begins a command of this node's client that travels. `None`: it stays.
pub fn start(
    node: &Arc<dyn Runner>,
    who: Who,
    under_way: &mut UnderWay,
    (shape, call): (&Shape, impl FnOnce() -> Call),
) -> Option<Later> {
    if matches!(shape.travels, Travels::Stays | Travels::Everywhere) {
        return None;
    }
    let coordinator = node.site().coordinator.as_ref()?;
    if shape.travels == Travels::Nowhere {
        return Some(at_once(who, not_here(&call())));
    }
    if !coordinator.cluster().has_joined() {
        return Some(at_once(who, Error::ClusterDown));
    }
    let call = call();
    if call.positions().is_empty() {
        // Its handler says what is wrong with it, unless it is a script without keys.
        let is_script = shape.is_script();
        return is_script.then(|| Arc::clone(node).spread(who, call));
    }
    if let Some(refused) = refuse_long_keys(node, &who, call.keys()) {
        return Some(refused);
    }
    if shape.reads_one_key() {
        let key = call.keys().next().unwrap_or_default();
        let hash = key_hash(key);
        if !under_way.is_written_elsewhere(hash) {
            if !coordinator.coordinates(key) && coordinator.may_read(key, who.quorum) {
                under_way.read_here.insert(hash);
                let (node, coordinator) = (Arc::clone(node), Arc::clone(coordinator));
                return Some(Box::pin(coordinate(node, coordinator, who, Work::of(call))));
            }
            // Where there are zones, somebody in this one who serves it.
            if let Some(near) = coordinator.near_reader(key, who.quorum) {
                under_way.read_here.insert(hash);
                let (node, coordinator) = (Arc::clone(node), Arc::clone(coordinator));
                let work = Work::of(call);
                return Some(Box::pin(hand_on(node, coordinator, who, work, near)));
            }
        }
    }
    let me = coordinator.cluster().me();
    let placed = call
        .keys()
        .map(|key| (key_hash(key), coordinator.coordinator_of(key)));
    let placed: SmallVec<[(u64, NodeId); 4]> = placed.collect();
    let elsewhere = placed.iter().copied().filter(|(_, node)| *node != me);
    let place = under_way.begin(elsewhere, shape.writes);
    let owners = placed.iter().map(|(_, node)| *node);
    Some(to(node, Who { place, ..who }, call, owners.collect()))
}

/// Runs a command on keys wherever it belongs.
pub fn begin(node: &Arc<dyn Runner>, who: Who, call: Call) -> Later {
    let coordinator = node.site().coordinator.as_ref();
    let Some(coordinator) = coordinator.filter(|c| c.cluster().has_joined()) else {
        return at_once(who, Error::ClusterDown);
    };
    if let Some(refused) = refuse_long_keys(node, &who, call.keys()) {
        return refused;
    }
    let owners = call.keys().map(|key| coordinator.coordinator_of(key));
    let owners = owners.collect();
    to(node, who, call, owners)
}

/// That a command is refused in a cluster.
fn not_here(call: &Call) -> Error {
    Error::NotInCluster(call.args().text(0).to_ascii_uppercase())
}

/// Before anything runs, here or elsewhere: no node can store them.
fn refuse_long_keys<'k>(
    node: &Arc<dyn Runner>,
    who: &Who,
    mut keys: impl Iterator<Item = &'k [u8]>,
) -> Option<Later> {
    let error = Error::KeyTooLong(keys.find(|key| key.len() > MAX_KEY_LEN)?.len());
    node.count_error(&error);
    Some(at_once(who.clone(), error))
}

/// Runs a command whose keys' coordinators are known, in the order of the keys.
fn to(node: &Arc<dyn Runner>, who: Who, call: Call, owners: SmallVec<[NodeId; 4]>) -> Later {
    let Some(coordinator) = node.site().coordinator.clone() else {
        return at_once(who, Error::ClusterDown);
    };
    let node = Arc::clone(node);
    let is_one = owners.windows(2).all(|two| two[0] == two[1]);
    match call.shape.travels {
        Travels::Nowhere => at_once(who, not_here(&call)),
        Travels::Script if !is_one || call.positions().is_empty() => node.spread(who, call),
        Travels::Together if !is_one => at_once(who, Error::CrossSlot),
        Travels::Apart(merge) if !is_one && is_whole(&call) => {
            let mut places: BTreeMap<NodeId, Positions> = BTreeMap::new();
            for (owner, position) in owners.into_iter().zip(call.positions()) {
                places.entry(owner).or_default().push(*position);
            }
            Box::pin(scatter(node, coordinator, who, (call, merge), places))
        }
        _ => single(node, coordinator, who, Work::of(call)),
    }
}

/// Whether the last key has all the words that go with it.
fn is_whole(call: &Call) -> bool {
    let last = call.positions().last().map_or(0, |at| *at as usize);
    last + call.shape.step() <= call.args().len()
}

/// Whether a transaction's commands can run in one go: all keys, and those that it watches, are in one slot,
/// and nothing but keys is concerned.
pub fn is_one<'k>(
    site: &Site,
    mut steps: impl Iterator<Item = (&'static Shape, Args<'k>)> + Clone,
    mut watched: impl Iterator<Item = &'k [u8]>,
) -> bool {
    let has_joined = |c: &Arc<Coordinator>| c.cluster().has_joined();
    let mut first = None;
    let mut is_near = |key: &[u8]| *first.get_or_insert(slot_of(key)) == slot_of(key);
    let mut is_one = |(shape, args): (&Shape, Args<'_>)| {
        let positions = shape.positions(args);
        let is_isolated = shape.is_on_keys() && shape.travels != Travels::Together;
        is_isolated
            && !positions.is_empty()
            && positions.iter().all(|at| is_near(args.at(*at as usize)))
    };
    site.coordinator.as_ref().is_some_and(has_joined)
        && steps.clone().next().is_some()
        && steps.all(&mut is_one)
        && watched.all(is_near)
}

/// Runs a transaction's commands in one go.
pub fn as_one(
    node: &Arc<dyn Runner>,
    who: &Who,
    steps: SmallVec<[Call; 1]>,
    watches: Vec<(Bytes, Bytes)>,
) -> Option<Later> {
    let coordinator = node.site().coordinator.clone()?;
    let watched = watches.iter().map(|(key, _)| &key[..]);
    let keys = steps.iter().flat_map(Call::keys).chain(watched);
    if let Some(refused) = refuse_long_keys(node, who, keys) {
        return Some(refused);
    }
    let work = Work {
        steps,
        transaction: Some(watches),
    };
    Some(single(Arc::clone(node), coordinator, who.clone(), work))
}

/// Whether a command has to wait for the replies of those before it, and those after it for it: it
/// looks at more than its own keys, it runs at one coordinator though others coordinate some of its keys,
/// or it writes what this node is reading by itself.
pub fn is_barrier(site: &Site, under_way: &UnderWay, shape: &Shape, args: Args<'_>) -> bool {
    if !shape.is_on_keys() {
        return true;
    }
    let Some(coordinator) = &site.coordinator else {
        return false;
    };
    let reads_here = shape.writes && !under_way.read_here.is_empty();
    let is_on_one = shape.is_on_one_key() || matches!(shape.travels, Travels::Apart(_));
    if !reads_here && under_way.elsewhere.is_empty() && is_on_one {
        return false;
    }
    let positions = shape.positions(args);
    let mut keys = positions.iter().map(|at| args.at(*at as usize));
    let is_read = |key: &[u8]| under_way.read_here.contains(&key_hash(key));
    if reads_here && keys.clone().any(is_read) {
        return true;
    }
    // Where a key's commands went, the next one goes too, or it waits for them.
    let moved = |key: &[u8]| {
        let before = under_way.elsewhere.get(&key_hash(key));
        before.is_some_and(|before| before.node != coordinator.coordinator_of(key))
    };
    if !under_way.elsewhere.is_empty() && keys.clone().any(moved) {
        return true;
    }
    if is_on_one {
        return false;
    }
    let first = keys.next().map(|key| coordinator.coordinator_of(key));
    keys.any(|key| Some(coordinator.coordinator_of(key)) != first)
}
