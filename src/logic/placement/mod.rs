//! Where a key lives: slot, partition, and the hash that orders keys inside a slot.

mod slot;

pub use slot::{Partitions, SLOTS, Slot, key_hash, slot_of};
