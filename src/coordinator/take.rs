//! Taking another node's copy of a key into this one's.

use smallvec::SmallVec;

use super::Coordinator;
use crate::logic::causal::{Dot, Object};
use crate::logic::digest;
use crate::logic::placement::NodeId;
use crate::logic::record;
use crate::peer::message::WireKey;
use crate::replica::{Join, Key};

/// Objects up to this size, in bytes, are taken in by reads though the disk is nearly full.
const SMALL: usize = 16 << 10;

/// What lives in an object that was taken in.
pub(super) struct Taken {
    pub(super) lives: u64,
    pub(super) dots: SmallVec<[Dot; 1]>,
}

impl Taken {
    pub(super) fn of(key: &WireKey, object: &Object) -> Self {
        Self {
            lives: digest::of_living(&key.name, object),
            dots: object.all_versions().map(|version| version.dot).collect(),
        }
    }
}

impl Coordinator {
    /// Joins another node's object into this node's copy; `None` when it was not taken in.
    pub(super) fn take(
        &self,
        key: &WireKey,
        raw: &[u8],
        stray_for: Option<NodeId>,
    ) -> Option<Taken> {
        let Ok(object) = record::WIRE.decode(raw) else {
            tracing::warn!("a replica's object cannot be read");
            return None;
        };
        let taken = Taken::of(key, &object);
        let key = Key {
            db: key.db,
            name: &key.name,
        };
        let how = Join {
            hint_for: stray_for,
            is_read: raw.len() <= SMALL,
            ..Join::default()
        };
        match self.replica.join(key, object, &how) {
            Ok(written) => {
                self.replica.store().kick(written.shard);
                Some(taken)
            }
            Err(error) => {
                tracing::warn!(%error, "a replica's object was not taken in");
                None
            }
        }
    }
}
