//! Where a key lives: slot, partition, and the hash that orders keys inside a slot.

mod holders;
mod set;
mod shares;
mod slot;
mod table;

pub use holders::{Copy, Holders};
pub use set::PartitionSet;
pub use slot::{Partitions, SLOTS, Slot, key_hash, slot_of};
pub use table::{NodeId, Place, Placed, Table, sort_by_rank};
