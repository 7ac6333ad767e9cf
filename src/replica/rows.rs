//! Rows of the node's own, beside those of objects.

use super::space::encode_floor;
use crate::logic::causal::{Context, Object};
use crate::storage::{Op, Table};

/// The tombstone of a key that had ended.
pub(super) const ENDED: u8 = 1;

pub(super) const FLOOR_PREFIX: &[u8] = b"floor/";

/// The row of a floor.
pub(super) fn floor_op(partition: u16, db: u8, reclaimed: bool, floor: &Context) -> Op {
    let mut key = FLOOR_PREFIX.to_vec();
    key.extend_from_slice(&partition.to_be_bytes());
    key.push(db);
    Op {
        table: Table::Meta,
        key,
        value: Some(encode_floor(reclaimed, floor)),
    }
}

/// The index row of a tombstone: since when it is one, and whether its values have ended.
pub(super) fn tombstone_row(now_ms: u64, object: &Object) -> Vec<u8> {
    let mut row = now_ms.to_le_bytes().to_vec();
    row.extend(object.has_gone().then_some(ENDED));
    row
}

/// The row of a note.
pub fn note_key(key: &[u8]) -> Vec<u8> {
    [b"note/", key].concat()
}
