//! What one connection listens to, and whether it is told when what it has read changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::config::OutputLimit;
use crate::peer::message::Listening;
use crate::pubsub::{Here, Inbox, Kind, Limits, Tracker};
use crate::resp::Protocol;

/// What one connection listens to.
#[derive(Default)]
pub struct Subscriptions {
    names: [BTreeSet<Bytes>; 3],
    inbox: Option<Arc<Inbox>>,
}

/// Which reads are noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notes {
    /// All.
    #[default]
    All,
    /// Those before which the client says so.
    OptIn,
    /// Those before which it does not say otherwise.
    OptOut,
}

/// What a connection has asked for.
pub struct Tracking {
    pub(super) tracker: Arc<Tracker>,
    pub(super) notes: Notes,
    /// What CLIENT CACHING has said of the next command.
    pub(super) caching: Option<bool>,
    /// Whether what the script reads that is about to run is noted when it does.
    pub(super) notes_script: bool,
}

impl Tracking {
    /// Whether what the next command reads is noted.
    pub(super) fn notes_next(&self) -> bool {
        self.tracker.prefixes.is_none()
            && match self.notes {
                Notes::All => true,
                Notes::OptIn => self.caching == Some(true),
                Notes::OptOut => self.caching != Some(false),
            }
    }
}

fn place(kind: Kind) -> usize {
    usize::from(kind.number())
}

fn limits(limit: OutputLimit) -> Limits {
    Limits {
        hard_bytes: limit.hard_bytes as usize,
        soft_bytes: limit.soft_bytes as usize,
        soft_for: Duration::from_secs(limit.soft_secs as u64),
    }
}

impl Subscriptions {
    /// Whether an old client may do nothing else.
    pub fn is_confined(&self) -> bool {
        self.names.iter().any(|names| !names.is_empty())
    }

    /// Where its messages come, once it has listened.
    pub fn inbox(&self) -> Option<&Arc<Inbox>> {
        self.inbox.as_ref()
    }

    /// Where its messages come from now on.
    pub(super) fn open(
        &mut self,
        (here, id): (&Here, u64),
        (limit, protocol): (OutputLimit, Protocol),
    ) -> Arc<Inbox> {
        let open = || here.open_inbox(id, limits(limit), protocol);
        Arc::clone(self.inbox.get_or_insert_with(open))
    }

    /// How many it listens to, as is said of a kind: shard channels count by themselves.
    pub(super) fn count(&self, kind: Kind) -> usize {
        let len = |kind: Kind| self.names[place(kind)].len();
        match kind {
            Kind::Shard => len(Kind::Shard),
            Kind::Channel | Kind::Pattern => len(Kind::Channel) + len(Kind::Pattern),
        }
    }

    /// The names of a kind.
    pub(super) fn names(&self, kind: Kind) -> Vec<Bytes> {
        self.names[place(kind)].iter().cloned().collect()
    }

    /// It listens; what others have to know.
    pub(super) fn add(
        &mut self,
        (here, id): (&Here, u64),
        (limit, protocol): (OutputLimit, Protocol),
        (kind, name): (Kind, &[u8]),
    ) -> Option<Listening> {
        let name = Bytes::copy_from_slice(name);
        if !self.names[place(kind)].insert(name.clone()) {
            return None;
        }
        let inbox = self.open((here, id), (limit, protocol));
        inbox.set_listens(true);
        let is_first = here.add(kind, &name, (id, &inbox));
        is_first.then(|| Listening {
            kind: kind.number(),
            name,
            begins: true,
        })
    }

    /// It listens no more; what others have to know.
    pub(super) fn remove(
        &mut self,
        (here, id): (&Here, u64),
        kind: Kind,
        name: &[u8],
    ) -> Option<Listening> {
        let name = self.names[place(kind)].take(name)?;
        if let Some(inbox) = &self.inbox {
            inbox.set_listens(self.is_confined());
        }
        let was_last = here.remove(kind, &name, id);
        was_last.then(|| Listening {
            kind: kind.number(),
            name,
            begins: false,
        })
    }

    /// How many there are of each kind.
    pub(super) fn counts(&self) -> [usize; 3] {
        self.names.each_ref().map(BTreeSet::len)
    }

    /// It listens to nothing any more; what others have to know.
    pub(super) fn end(&mut self, (here, id): (&Here, u64)) -> Vec<Listening> {
        let mut changes = Vec::new();
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in self.names(kind) {
                changes.extend(self.remove((here, id), kind, &name));
            }
        }
        if self.inbox.take().is_some() {
            here.close_inbox(id);
        }
        changes
    }
}
