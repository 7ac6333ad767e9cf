//! How a handler changes keys, beside reading, deciding and writing one: two at once, a counter, one value over all.

use bytes::Bytes;

use super::context::{Ctx, Outcome};
use super::sayings::Event;
use crate::coordinator::QuorumError;
use crate::error::Error;
use crate::logic::causal::Object;
use crate::logic::edit::Edit;
use crate::logic::types::{conflict, string};
use crate::replica::{DATABASES, Key, Reach, ReplicaError};

impl Ctx<'_> {
    /// Reads, decides and writes two keys.
    pub fn update_two<R>(
        &mut self,
        first: (u8, &[u8]),
        second: (u8, &[u8]),
        decide: impl FnOnce(&Object, &Object, u64) -> ([Edit; 2], R),
    ) -> Result<R, Error> {
        let named = [first, second];
        let (first, second) = (self.key(first.0, first.1)?, self.key(second.0, second.1)?);
        let policy = |key: Key<'_>| self.node.replica.policies().of(key.name);
        let policies = (policy(first), policy(second));
        let decide = |a: &Object, b: &Object, now_ms| {
            let a = conflict::view(a, policies.0, now_ms);
            let b = conflict::view(b, policies.1, now_ms);
            decide(&a, &b, now_ms)
        };
        match self.node.replica.update_two(first, second, decide) {
            Ok((result, written)) => {
                let keys = [first, second].into_iter().zip(named);
                for ((key, (db, name)), written) in keys.zip(written) {
                    match written {
                        Some(written) => {
                            self.written.push(written);
                            self.note_changed(db, name);
                        }
                        None => self.note_read(key),
                    }
                }
                Ok(result)
            }
            Err(ReplicaError::Half(written)) => {
                self.written.push(*written);
                for (db, name) in named {
                    self.note_changed(db, name);
                }
                Err(QuorumError::Partly.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Adds to a counter that nothing else was added to; what it is then. `None`: nothing was done.
    pub fn count(&mut self, name: &[u8], amount: i64) -> Result<Option<i64>, Error> {
        let key = self.key(self.session.db, name)?;
        if self.session.since.is_some() {
            return Ok(None);
        }
        let counted = self.node.replica.count_plain(key, amount)?;
        Ok(counted.map(|(sum, written)| {
            self.written.push(written);
            self.note_changed(self.session.db, name);
            sum
        }))
    }

    /// Writes one value over everything seen.
    pub fn put(&mut self, name: &[u8], bytes: &[u8], expires_at_ms: Option<u64>) -> Outcome {
        let key = self.key(self.session.db, name)?;
        if self.session.since.is_none()
            && let Some(written) = self.node.replica.put_plain(key, bytes, expires_at_ms)?
        {
            self.written.push(written);
            self.note_changed(self.session.db, name);
            return Ok(());
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let put = |_: &Object, _| (string::put(bytes, expires_at_ms), ());
        self.update_some(name, Reach::Head, put)
    }

    /// Something more has happened to a key that it has changed.
    pub fn note_event(&mut self, name: &[u8], event: Event) {
        if self.node.config.events().are_published() {
            self.also.push((Bytes::copy_from_slice(name), event));
        }
    }

    /// A key has changed: whoever listens may want to know.
    pub(super) fn note_changed(&mut self, db: u8, name: &[u8]) {
        if db < DATABASES
            && (self.node.config.events().are_published()
                || self.node.listeners.tracked().is_wanted())
        {
            self.changed.push((db, Bytes::copy_from_slice(name)));
        }
    }
}
