//! Rows beside those of objects: the node's own, and of the indexes.

use super::space::encode_floor;
use crate::base::clock;
use crate::logic::causal::{Context, Object};
use crate::logic::place;
use crate::logic::spread;
use crate::storage::{Op, Table};

/// The tombstone of a key that had ended.
pub(super) const ENDED: u8 = 1;

const GONE_PREFIX: &[u8] = b"gone/";
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

/// The note that rows of a generation are to be dropped.
pub(super) fn gone_op(row_key: &[u8], generation: u64) -> Op {
    Op {
        table: Table::Meta,
        key: [GONE_PREFIX, row_key, &spread::start_of(generation)].concat(),
        value: Some(Vec::new()),
    }
}

/// Where such notes begin, and end.
pub(super) fn gone_range() -> (Vec<u8>, Vec<u8>) {
    let end = [GONE_PREFIX, &[u8::MAX]].concat();
    (GONE_PREFIX.to_vec(), end)
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

/// The rows of the indexes that a change of an object brings: of ends, of conflicts and, where other
/// nodes hold the keys too, of tombstones.
pub(super) fn index_ops(
    ops: &mut Vec<Op>,
    row_key: &[u8],
    old: &Object,
    new: &Object,
    shared: bool,
) {
    ops.extend(end_ops(row_key, old.ends_at_ms(), new.ends_at_ms()));
    let (was, is) = (old.has_siblings(), new.has_siblings());
    if was != is {
        let value = is.then(Vec::new);
        ops.push(Op {
            table: Table::Conflict,
            key: row_key.to_vec(),
            value,
        });
    }
    let is_dead = |object: &Object| object.is_tombstone() && !object.is_unknown();
    let (was, is) = (is_dead(old), is_dead(new));
    if shared && was != is {
        ops.push(Op {
            table: Table::Tombstone,
            key: row_key.to_vec(),
            value: is.then(|| tombstone_row(clock::now_ms(), new)),
        });
    }
}

/// The rows of the index of ends that follow when a key ends at another time.
pub(super) fn end_ops(
    row_key: &[u8],
    old: Option<u64>,
    new: Option<u64>,
) -> impl Iterator<Item = Op> {
    let rows = [(old, None), (new, Some(Vec::new()))].into_iter();
    rows.filter(move |_| old != new).filter_map(|(at, value)| {
        Some(Op {
            table: Table::Expiry,
            key: place::expiry_key(at?, row_key),
            value,
        })
    })
}
