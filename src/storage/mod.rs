//! The port to the disk: ordered rows, which are read from the moment a write was taken.
//!
//! Not here: what a row means (`replica`). `engine` keeps rows, `fjall_tables` is the only file that names fjall.
//! Invariants: writes of one shard take effect in the order of their tickets; a batch is atomic;
//! a write that was reported committed survives the end of the process.

pub mod archive;
mod check;
mod disk;
mod engine;
mod error;
mod fjall_tables;
mod identity;
mod layout;
mod marks;
mod memory;
pub(crate) mod pages;
mod progress;
mod reserve;
mod room;
mod takeover;
mod threads;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod flips;

use std::sync::Arc;

use smallvec::SmallVec;

pub use disk::{DEFAULT_CACHED_FILES, DiskOptions, DiskStore, RESTORING, is_the_stores_own};
pub use error::{Refused, StoreError};
pub use layout::FORMAT_ROW;
pub use memory::{Copied, MemoryStore};
pub use progress::{Progress, Ticket, WriteFailed};

/// The kinds of rows, each in an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Objects, by `logic::place`.
    Data,
    /// When objects end: `(time, row key)`.
    Expiry,
    /// Which keys have siblings, by row key.
    Conflict,
    /// The node's own notes: floors, counts, databases, members.
    Meta,
    /// What is kept for another node until it has it: `(node, row key)`.
    Hint,
    /// Deleted keys, by row key, with the time since when.
    Tombstone,
}

impl Table {
    /// All of them, by number.
    pub const ALL: [Self; 6] = [
        Self::Data,
        Self::Expiry,
        Self::Conflict,
        Self::Meta,
        Self::Hint,
        Self::Tombstone,
    ];
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Where.
    pub table: Table,
    /// Which row.
    pub key: Vec<u8>,
    /// The new content, or `None` to remove it.
    pub value: Option<Vec<u8>>,
}

/// Changes that are committed together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The changes.
    pub ops: Vec<Op>,
    /// What they need.
    pub need: Need,
    /// The shard's failures ([`Progress::failures`]) before what they rest on was read: after another
    /// one they are refused. `None` where they rest on nothing.
    pub as_of: Option<u64>,
}

/// What becomes of a row that is changed where it lies.
#[derive(Debug, Default)]
pub struct Changing {
    /// The row.
    pub row: Vec<u8>,
    /// What changes with it in other tables than data.
    pub more: SmallVec<[Op; 2]>,
}

/// What a write needs of a disk that is nearly full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// More space than there is to spare.
    Grows,
    /// A little, to free more: it is taken as long as there is any.
    Frees,
}

impl Write {
    /// Changes that rest on nothing and take space.
    pub fn of(ops: Vec<Op>) -> Self {
        Self {
            ops,
            need: Need::Grows,
            as_of: None,
        }
    }

    /// Changes that rest on nothing and free space, or are the node's own small notes.
    pub fn freeing(ops: Vec<Op>) -> Self {
        Self {
            need: Need::Frees,
            ..Self::of(ops)
        }
    }

    /// What they rest on was read after so many failures.
    #[must_use]
    pub fn as_of(self, failures: u64) -> Self {
        Self {
            as_of: Some(failures),
            ..self
        }
    }
}

/// A row that a scan found.
pub type Row = (Vec<u8>, Vec<u8>);

/// When an acknowledged write is on the disk (Redis's names).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFsync {
    /// Before the acknowledgement: one fsync for all the writes that wait.
    Always,
    /// At most a second later.
    EverySec,
    /// When the operating system likes.
    No,
}

/// A shard as it was at one time.
pub trait Frozen: Send + Sync + 'static {
    /// Up to `limit` rows with `from <= key < to`, ascending.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;
}

/// A node's rows, split into shards.
pub trait Store: Send + Sync + 'static {
    /// How many shards there are.
    fn shards(&self) -> usize;

    /// Takes the changes as one atomic part of the shard's next batch. A [`Self::kick`] must follow
    /// before anybody waits: writers that queue together share a batch.
    fn enqueue(&self, shard: usize, write: Write) -> Result<Ticket, Refused>;

    /// Has everything queued committed soon.
    fn kick(&self, shard: usize);

    /// Has nothing committed in a shard until [`Self::gathered`] was called as often: what is queued
    /// meanwhile is one batch. Nobody may wait for a commit in between.
    fn gather(&self, _: usize) {}

    /// What was queued since [`Self::gather`] is complete.
    fn gathered(&self, _: usize) {}

    /// Takes the changes and has them committed soon.
    fn submit(&self, shard: usize, write: Write) -> Result<Ticket, Refused> {
        let ticket = self.enqueue(shard, write)?;
        self.kick(shard);
        Ok(ticket)
    }

    /// How far the shard's writes have come.
    fn progress(&self, shard: usize) -> &Progress;

    /// The last write that was taken.
    fn last(&self, shard: usize) -> Ticket;

    /// The last write of a row, where it is not committed yet; else 0.
    fn pending(&self, shard: usize, table: Table, key: &[u8]) -> Ticket;

    /// One row, with every write that was taken.
    fn load(&self, shard: usize, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Shows a row of data where it lies, if it is at hand and not long: then with the last write of it, where that is
    /// not committed yet, else 0. `None`: only [`Self::load`] tells. What is shown holds up others.
    fn look(&self, shard: usize, key: &[u8], see: &mut dyn FnMut(Option<&[u8]>)) -> Option<Ticket>;

    /// Changes a row of data where it lies, if it is at hand and `change` makes another of it; `None`: nothing
    /// was done. What takes space is asked for; otherwise as [`Self::enqueue`].
    fn change(
        &self,
        shard: usize,
        key: &[u8],
        change: &mut dyn FnMut(Option<&[u8]>, &mut Changing) -> bool,
    ) -> Result<Option<Ticket>, Refused>;

    /// Up to `limit` rows with `from <= key < to`, ascending: each as it was at some time of the call.
    /// [`Self::freeze`] has all as of one time.
    fn scan(
        &self,
        shard: usize,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// Up to `limit` rows of data with `from <= key < to`, descending. What is between the two are elements of
    /// one key.
    fn scan_back(
        &self,
        shard: usize,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// The shard as it is now, for as long as somebody holds it.
    fn freeze(&self, shard: usize) -> Result<Arc<dyn Frozen>, StoreError>;

    /// Whether the last stop was clean.
    fn was_clean(&self) -> bool;

    /// Whether something that was stored is missing, and that was accepted.
    fn is_damaged(&self) -> bool {
        false
    }

    /// What follows from the damage was written down: the next start need not know of it.
    fn forget_damage(&self) {}

    /// Bytes on disk and in memory, and whether writes are refused.
    fn usage(&self) -> Usage;

    /// Whether writes that take space are refused now.
    fn refuses_growth(&self) -> bool {
        self.usage().disk_full
    }

    /// Commits everything taken, flushes, and marks the stop as clean. Later writes are refused.
    fn close(&self);

    /// Gives back what removed rows occupy. Blocks, and costs as much as the rows that are left.
    fn compact(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Makes everything committed so far durable.
    fn sync(&self) -> Result<(), StoreError>;
}

/// What the store occupies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Bytes of files.
    pub disk_bytes: u64,
    /// Bytes in write buffers.
    pub buffer_bytes: u64,
    /// Bytes of all rows in memory.
    pub cached_bytes: u64,
    /// Rows that were found in memory.
    pub hits: u64,
    /// Rows that were looked for in files.
    pub misses: u64,
    /// Whether writes are refused for want of space.
    pub disk_full: bool,
}
