//! Fingerprints of what is known of the membership, to be compared with others'.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::logic::codec::put_bytes;
use crate::logic::membership::{Member, Membership};
use crate::logic::placement::{NodeId, key_hash};
use crate::logic::quorum::Rules;

/// Others who knew less than this node: what they knew, and until when that is believed.
pub(super) type Behind = BTreeMap<NodeId, (u64, u64)>;

/// How this node saw who holds a part at one moment, to be said along with what rests on it.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) of_part: u64,
    pub(super) behind: Option<Arc<Behind>>,
}

impl View {
    /// Whether it is one of which this was said to everybody.
    pub fn is(&self, common: u64) -> bool {
        self.of_part == common
    }

    /// What is said to everybody; `None` where that depends on to whom.
    pub fn common(&self) -> Option<u64> {
        self.behind.is_none().then_some(self.of_part)
    }

    /// What is said to a node.
    pub fn for_node(&self, id: NodeId) -> u64 {
        let behind = self.behind.as_ref().and_then(|behind| behind.get(&id));
        behind.map_or(self.of_part, |(account, _)| *account)
    }
}

/// A fingerprint of all that is known, down to the version of each account.
pub(super) fn stamp(membership: &Membership) -> u64 {
    let mut raw = Vec::new();
    for member in membership.all() {
        for number in [
            member.id.0,
            member.incarnation,
            member.version,
            member.facts(),
        ] {
            raw.extend_from_slice(&number.to_le_bytes());
        }
    }
    key_hash(&raw)
}

/// A fingerprint of all changes of a membership: which members joined, where they stand, which left.
pub(super) fn changes<'a>(members: impl IntoIterator<Item = &'a Member>) -> u64 {
    let mut raw = Vec::new();
    for member in members {
        raw.extend_from_slice(&member.id.0.to_le_bytes());
        raw.extend_from_slice(&member.facts().to_le_bytes());
    }
    key_hash(&raw)
}

/// A fingerprint of all that decides who holds what: the changes, and what members say they have.
pub(super) fn account<'a>(members: impl IntoIterator<Item = &'a Member>) -> u64 {
    let mut raw = Vec::new();
    for member in members {
        raw.extend_from_slice(&member.id.0.to_le_bytes());
        raw.extend_from_slice(&member.facts().to_le_bytes());
        raw.extend_from_slice(&key_hash(member.machine().as_bytes()).to_le_bytes());
        raw.extend_from_slice(&key_hash(member.place().0.as_bytes()).to_le_bytes());
        raw.push(member.state.as_u8());
        if let Some(complete) = &member.complete {
            complete.encode(&mut raw);
            member.proven.encode(&mut raw);
            raw.extend_from_slice(&member.proven_as_of.to_le_bytes());
        }
        // A member that knows nothing of losses has the same fingerprint as long as there are none.
        if !member.losses.is_empty() {
            member.losses.encode(&mut raw);
        }
    }
    key_hash(&raw)
}

/// A fingerprint of how many owners which keys have.
pub(super) fn rules(rules: &Rules) -> u64 {
    let mut raw = Vec::new();
    for (prefix, owners) in rules.sizes_by_prefix() {
        put_bytes(&mut raw, prefix);
        raw.push(owners);
    }
    key_hash(&raw)
}
