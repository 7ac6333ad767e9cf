//! Looking at a key from now on: that it is still not there (WATCH), that it gets something (BLPOP).

use std::sync::Arc;

use super::absence::Absence;
use super::arrivals::Awaited;
use super::{Key, Reach, Replica, ReplicaError};
use crate::logic::causal::Object;
use crate::logic::place::Position;

impl Replica {
    /// The object of a key and, when `is_there` says no, its absence from now on.
    pub fn watch(
        &self,
        key: Key<'_>,
        is_there: impl FnOnce(&Object) -> bool,
    ) -> Result<(Arc<Object>, Option<Arc<Absence>>), ReplicaError> {
        let located = self.locate(key, Position::of(key.name, self.partitions));
        let _order = self.lock(located.at);
        let object = self.load_some(&located, Reach::Head)?;
        let absence = (!is_there(&object)).then(|| self.absences.watch(key));
        Ok((object, absence))
    }

    /// Waits for some keys of a database, as stored, from now on.
    pub fn await_keys<'k>(&self, db: u8, names: impl Iterator<Item = &'k [u8]>) -> Awaited {
        Awaited::new(&self.arrivals, db, names)
    }
}
