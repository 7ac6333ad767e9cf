//! What is asked of every request about a key's copies, and how a delta or a state is taken in.

use bytes::Bytes;

use crate::command::Node;
use crate::logic::place::MAX_KEY_LEN;
use crate::logic::record;
use crate::peer::message::{Response, WhyNot};
use crate::replica::{ALL_DATABASES, Join, Key, ReplicaError, Written};
use crate::storage::{Refused, WriteFailed};

/// A sender that sees another membership, or other holders of a key, may not know that it has moved: it has to
/// learn first.
pub(super) fn outdated(node: &Node, name: &[u8], view: u64) -> Option<Response> {
    let cluster = node.site.coordinator.as_ref()?.cluster();
    let part = cluster.route(name).part();
    let differs = !cluster.sees_the_same(view, part);
    differs.then(|| Response::Outdated(cluster.everybody()))
}

/// A key that can be.
pub(super) fn checked((db, name): (u8, &[u8])) -> Result<Key<'_>, Response> {
    if db >= ALL_DATABASES || name.len() > MAX_KEY_LEN {
        return Err(Response::Refused("no such key is possible".into()));
    }
    Ok(Key { db, name })
}

/// Joins an object into this node's copy.
pub(super) fn take_in(
    node: &Node,
    at: (u8, &[u8]),
    raw: &[u8],
    how: &Join,
) -> Result<Written, Response> {
    let refused = |reason: String| Response::Refused(reason);
    let key = checked(at)?;
    let is_common = how.hint_for.is_none() && how.touched.is_none() && !how.mends;
    // What is read through this node may be this copy.
    let tracked = node.listeners.tracked();
    let tell = || {
        if tracked.is_on() {
            tracked.changed(None, &[Bytes::copy_from_slice(key.name)]);
        }
    };
    if is_common && let Some(written) = node.replica.join_plain(key, raw).map_err(answer_to)? {
        tell();
        return Ok(written);
    }
    let object = record::WIRE
        .decode(raw)
        .map_err(|e| refused(e.to_string()))?;
    let written = node.replica.join(key, object, how).map_err(answer_to)?;
    tell();
    Ok(written)
}

fn answer_to(error: ReplicaError) -> Response {
    match error {
        ReplicaError::Unseen(ours) => Response::Unseen(record::WIRE.encode(&ours).into()),
        ReplicaError::Refused(Refused::DiskFull | Refused::Unsynced) => {
            Response::NotRun(WhyNot::Full)
        }
        error => Response::Refused(error.to_string()),
    }
}

/// What is said of a write that was taken and is not committed.
pub(super) fn refusal(failed: WriteFailed) -> Response {
    match failed {
        WriteFailed::Unknown => Response::InDoubt,
        WriteFailed::NotStored => Response::NotRun(WhyNot::Full),
    }
}
