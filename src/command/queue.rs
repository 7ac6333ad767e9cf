//! What a connection keeps between MULTI and EXEC, and of what it watches.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;

use super::spec::Spec;
use crate::logic::causal::Context;
use crate::replica::Absence;
use crate::routing::args::{Args, OwnedArgs};

/// Commands queued since MULTI.
#[derive(Default)]
pub struct Transaction {
    queue: Vec<(&'static Spec, OwnedArgs)>,
    bytes: usize,
    failed: bool,
}

impl Transaction {
    /// Queues a command.
    pub fn push(&mut self, spec: &'static Spec, args: Args<'_>) {
        let owned = args.to_owned();
        self.bytes += owned.bytes();
        self.queue.push((spec, owned));
    }

    /// What was queued.
    pub(super) fn commands(&self) -> impl Iterator<Item = (&'static Spec, &OwnedArgs)> + Clone {
        self.queue.iter().map(|(spec, words)| (*spec, words))
    }

    /// Memory that the queue holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a command could not be queued.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// What was queued, to be run.
    pub(super) fn into_commands(self) -> Vec<(&'static Spec, OwnedArgs)> {
        self.queue
    }

    /// A command could not be queued: EXEC will refuse.
    pub fn fail(&mut self) {
        self.failed = true;
    }
}

/// A watched key as it was.
pub struct Watch {
    db: u8,
    key: Vec<u8>,
    seen: Seen,
}

/// What was seen of a watched key.
pub(super) enum Seen {
    /// Its object on a lone node.
    Here {
        context: Context,
        /// Set when the key was not there.
        absence: Option<Arc<Absence>>,
    },
    /// What its coordinator said of it; the reply comes after WATCH has returned.
    InCluster(Arc<OnceLock<BytesMut>>),
}

impl Watch {
    pub(super) fn new(db: u8, key: &[u8], seen: Seen) -> Self {
        let key = key.to_vec();
        Self { db, key, seen }
    }

    pub(super) fn db(&self) -> u8 {
        self.db
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    pub(super) fn is_of(&self, db: u8, key: &[u8]) -> bool {
        self.db == db && self.key == key
    }
}
