//! The libraries of functions that all nodes have: a hash in the database that belongs to no client, and what this
//! node has read of it last.
//!
//! A change is told to all members that answer; who was not reached asks again after a while.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::library::{Functions, Library};
use super::shared::ask;
use crate::command::node::Node;
use crate::logic::types::hash;
use crate::peer::message::News;
use crate::replica::{Key, OWN_DATABASE};
use crate::resp::first_bulk;

/// The hash of all libraries, by their names; it begins as [`crate::logic::quorum::OWN_KEYS`].
const LIBRARIES: &[u8] = b"\0ringwood\0functions";
/// What there is, as far as this node knows by itself: all of it, where it is alone.
pub fn here(node: &Node) -> Arc<Functions> {
    let libraries = &node.libraries;
    let is_in_cluster = node.site.coordinator.is_some();
    let known = if is_in_cluster {
        libraries.at_hand()
    } else {
        libraries.unchanged()
    };
    if let Some(known) = known {
        return known;
    }
    let changes = libraries.changes();
    let key = Key {
        db: OWN_DATABASE,
        name: LIBRARIES,
    };
    let Ok(object) = node.replica.read(key) else {
        return libraries.at_hand().unwrap_or_default();
    };
    let codes: Vec<Bytes> = hash::fields(&object).map(|(_, code)| code).collect();
    if is_in_cluster {
        // Nobody was asked yet; this copy need not be the newest.
        return Arc::new(Functions::of(&node.scripts, codes.into_iter()));
    }
    libraries.keep(&node.scripts, codes, changes)
}

/// Asks for all libraries.
///
/// # Errors
/// The reply that says why that failed.
pub async fn all(node: &Arc<Node>) -> Result<Arc<Functions>, BytesMut> {
    let changes = node.libraries.changes();
    let said = ask(node, &[b"HVALS", LIBRARIES]).await;
    if said.first() == Some(&b'-') {
        return Err(said);
    }
    let codes = bulks(&said);
    Ok(node.libraries.keep(&node.scripts, codes, changes))
}

/// The same, unless it is at hand; where it cannot be asked for, what was read last holds.
pub(super) async fn refresh(node: &Arc<Node>) -> Option<BytesMut> {
    if node.libraries.are_fresh() {
        return None;
    }
    match all(node).await {
        Err(failed) if node.libraries.at_hand().is_none() => Some(failed),
        _ => None,
    }
}

/// The bulk strings of an array.
fn bulks(reply: &[u8]) -> Vec<Bytes> {
    let mut found = Vec::new();
    let mut rest = memchr::memchr(b'\n', reply).map_or(&[][..], |end| &reply[end + 1..]);
    while let Some((bulk, behind)) = first_bulk(rest) {
        found.push(Bytes::copy_from_slice(bulk));
        rest = behind;
    }
    found
}

/// Keeps a library for all nodes.
///
/// # Errors
/// The reply that says why that failed.
pub async fn store(node: &Arc<Node>, library: &Library) -> Result<(), BytesMut> {
    let words: [&[u8]; 4] = [b"HSET", LIBRARIES, library.name.as_bytes(), &library.code];
    change(node, &words).await
}

/// Removes one.
///
/// # Errors
/// The reply that says why that failed.
pub async fn remove(node: &Arc<Node>, name: &str) -> Result<(), BytesMut> {
    change(node, &[b"HDEL", LIBRARIES, name.as_bytes()]).await
}

/// Removes all.
///
/// # Errors
/// The reply that says why that failed.
pub async fn remove_all(node: &Arc<Node>) -> Result<(), BytesMut> {
    change(node, &[b"DEL", LIBRARIES]).await
}

async fn change(node: &Arc<Node>, words: &[&[u8]]) -> Result<(), BytesMut> {
    let said = ask(node, words).await;
    node.libraries.forget();
    node.tell(News::ForgetFunctions).await;
    if said.first() == Some(&b'-') {
        return Err(said);
    }
    Ok(())
}
