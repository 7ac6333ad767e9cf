//! What runs at one coordinator in one go: a command, or a transaction.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::runner::Call;
use super::who::Who;
use crate::logic::place::MAX_KEY_LEN;
use crate::peer::message::Wrote;

/// What runs at one coordinator in one go.
pub struct Work {
    /// One command, or those of a transaction.
    pub(super) steps: SmallVec<[Call; 1]>,
    /// For a transaction: its watched keys, with what was seen of them.
    pub(super) transaction: Option<Vec<(Bytes, Bytes)>>,
}

impl Work {
    /// One command.
    pub(super) fn of(call: Call) -> Self {
        Self {
            steps: smallvec![call],
            transaction: None,
        }
    }

    /// The keys of all commands.
    pub(super) fn keys(&self) -> SmallVec<[&[u8]; 4]> {
        self.steps.iter().flat_map(Call::keys).collect()
    }

    /// The length of a key that no node can store.
    pub(super) fn key_too_long(&self) -> Option<usize> {
        let keys = self.steps.iter().flat_map(Call::keys);
        let watched = self.transaction.iter().flatten().map(|(key, _)| &key[..]);
        let mut lengths = keys.chain(watched).map(<[u8]>::len);
        lengths.find(|len| *len > MAX_KEY_LEN)
    }

    /// The key whose coordinator it goes to.
    pub(super) fn first_key(&self) -> &[u8] {
        self.steps[0].keys().next().unwrap_or_default()
    }

    pub(super) fn writes(&self) -> bool {
        self.steps.iter().any(|call| call.shape.writes)
    }

    /// Whether it is a script by itself.
    pub(super) fn is_script(&self) -> bool {
        self.transaction.is_none() && self.steps[0].shape.is_script()
    }

    /// Whether it does nothing but look at one key.
    pub(super) fn reads_one_key(&self) -> bool {
        self.transaction.is_none() && self.steps[0].shape.reads_one_key()
    }

    /// Whether it takes space on the disk.
    pub(super) fn grows(&self) -> bool {
        self.steps.iter().any(|call| call.shape.grows)
    }

    /// Whether it depends on nothing that was there before, and need not even look for its reply: then it can
    /// run again, too, as of when it was sent first.
    pub(super) fn is_blind(&self) -> bool {
        match self.steps.as_slice() {
            [call] if self.transaction.is_none() => call.shape.is_blind(call.args()),
            _ => false,
        }
    }

    /// What it must not miss: its connection's own writes of the same keys.
    pub(super) fn own_writes(&self, who: &Who) -> Vec<Wrote> {
        if self.steps.iter().any(|call| call.shape.is_script()) {
            // What a script asks for is not known before.
            return who.own.all();
        }
        let mut own = Vec::new();
        for key in self.keys() {
            let writes = who.own.of(who.db, key);
            own.extend(writes.into_iter().map(|(dot, at)| Wrote {
                db: who.db,
                name: Bytes::copy_from_slice(key),
                dot,
                at,
            }));
        }
        own
    }
}
