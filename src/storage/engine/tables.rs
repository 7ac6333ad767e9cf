//! The sorted tables behind the journal: what they are asked for, and a stand-in for tests.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::storage::{StoreError, Table};

/// The tables, to which rows are added in order, many at a time.
pub trait Tables: Send + Sync + 'static {
    /// One row.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Everything as it is now.
    fn snapshot(&self) -> Result<Arc<dyn Sorted>, StoreError>;

    /// Takes the rows that `fill` puts, ascending, all of them or none; they are on the disk afterwards.
    fn ingest(&self, table: Table, fill: &mut Fill<'_>) -> Result<(), StoreError>;

    /// After [`Self::ingest`] has failed: makes them usable again, if they are not.
    fn mend(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Waits until they can take more without becoming slow to read, unless that is to stop.
    fn settle(&self, _is_over: &dyn Fn() -> bool) {}

    /// Gives back what removed rows occupy.
    fn compact(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// About how many rows of data they have.
    fn rows(&self) -> u64 {
        0
    }

    /// Bytes of files.
    fn disk_bytes(&self) -> u64 {
        0
    }
}

/// Puts the rows of an ingestion.
pub type Fill<'a> = dyn FnMut(&mut dyn Sink) -> Result<(), StoreError> + 'a;

/// Takes rows, ascending.
pub trait Sink {
    /// A row, or that one was removed.
    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError>;
}

impl<F: FnMut(&[u8], Option<&[u8]>) -> Result<(), StoreError>> Sink for F {
    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        self(key, value)
    }
}

/// Tables as they were at one time.
pub trait Sorted: Send + Sync + 'static {
    /// Gives rows with `from <= key < to`, ascending, until there is enough.
    fn range(
        &self,
        table: Table,
        range: (&[u8], &[u8]),
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// The same, descending.
    fn range_back(
        &self,
        table: Table,
        range: (&[u8], &[u8]),
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
}

#[cfg(test)]
pub(in crate::storage) mod memory {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;

    use super::*;

    type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

    /// Tables in memory that can be told to fail.
    #[derive(Default)]
    pub(in crate::storage) struct MemoryTables {
        rows: Mutex<Arc<Rows>>,
        pub(in crate::storage) fails: AtomicBool,
    }

    struct Puts(Vec<(Vec<u8>, Option<Vec<u8>>)>);

    impl Sink for Puts {
        fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
            if let Some((last, _)) = self.0.last() {
                assert!(&**last < key, "rows are put in order");
            }
            self.0.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            Ok(())
        }
    }

    impl Tables for MemoryTables {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(self.rows.lock().get(&(table, key.to_vec())).cloned())
        }

        fn snapshot(&self) -> Result<Arc<dyn Sorted>, StoreError> {
            Ok(Arc::new(Snapshot(Arc::clone(&self.rows.lock()))))
        }

        fn ingest(&self, table: Table, fill: &mut Fill<'_>) -> Result<(), StoreError> {
            let mut puts = Puts(Vec::new());
            fill(&mut puts)?;
            if self.fails.load(Ordering::Relaxed) {
                return Err(StoreError::Engine("told to fail".to_owned()));
            }
            let mut rows = self.rows.lock();
            let rows = Arc::make_mut(&mut rows);
            for (key, value) in puts.0 {
                match value {
                    Some(value) => rows.insert((table, key), value),
                    None => rows.remove(&(table, key)),
                };
            }
            Ok(())
        }
    }

    struct Snapshot(Arc<Rows>);

    impl Sorted for Snapshot {
        fn range(
            &self,
            table: Table,
            (from, to): (&[u8], &[u8]),
            each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
        ) -> Result<(), StoreError> {
            let range = (table, from.to_vec())..(table, to.to_vec());
            for ((_, key), value) in self.0.range(range) {
                if each(key, value).is_break() {
                    break;
                }
            }
            Ok(())
        }

        fn range_back(
            &self,
            table: Table,
            (from, to): (&[u8], &[u8]),
            each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
        ) -> Result<(), StoreError> {
            let range = (table, from.to_vec())..(table, to.to_vec());
            for ((_, key), value) in self.0.range(range).rev() {
                if each(key, value).is_break() {
                    break;
                }
            }
            Ok(())
        }
    }
}
