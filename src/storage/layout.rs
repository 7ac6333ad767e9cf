//! How a shard is laid out in the engine: what writing it and checking its files agree on.

/// Kinds of rows, each of which has a tree of the engine's.
pub(super) const TABLES: usize = 6;
/// The row that says which batch was written last.
pub(super) const BATCH_ROW: &[u8] = b"batch";
/// The row that says which store a shard belongs to.
pub(super) const IDENTITY_ROW: &[u8] = b"store-id";
