//! What is where in a data directory, and the rows that describe a store.

/// Kinds of rows, each of which has a tree of its own.
pub(super) const TABLES: usize = 6;
/// The row that says up to which batch the tables have everything.
pub(super) const BATCH_ROW: &[u8] = b"batch";
/// The row that says which store the tables belong to.
pub(super) const IDENTITY_ROW: &[u8] = b"store-id";
/// The row that says of which format rows are, once all are.
pub const FORMAT_ROW: &[u8] = b"rows";
/// The file that whoever has the directory open holds locked.
pub(super) const LOCK: &str = "ringwood.lock";
/// The folder of the journal.
pub(super) const JOURNAL: &str = "journal";
/// The folder of the tables.
pub(super) const TABLES_DIR: &str = "tables";
/// Whose the node's marks are.
pub(super) const MARKS: &str = "store";
