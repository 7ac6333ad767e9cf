//! Whether two nodes see the same cluster.
//!
//! A request on a key carries its sender's view: a fingerprint of the changes of the membership that he
//! knows, and of whose copies of the key count. Whoever sees something else answers with what he knows. If
//! that is nothing new to the sender, the other one knows less: he is told, and until he knows more the
//! sender says instead "I know all that you knew when you said so". Should he have learned something else
//! since then, he says so again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Cluster, Part, Route};
use crate::logic::membership::{Member, Membership};
use crate::logic::placement::{NodeId, key_hash};
use crate::peer::encode;
use crate::peer::message::{MembershipRequest, UNKNOWN_VIEW};

/// Whoever knew less of the membership has heard it by then.
const BEHIND_FOR_MS: u64 = 1_000;

/// News that were not taken by then come by gossip.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(1);

/// Others who knew less than this node: what they knew, and until when that is believed.
pub(super) type Behind = BTreeMap<NodeId, (u64, u64)>;

/// How this node saw who holds a part at one moment, to be said along with what rests on it.
#[derive(Clone, Debug)]
pub struct View {
    of_part: u64,
    behind: Option<Arc<Behind>>,
}

impl View {
    /// What is said to a node.
    pub fn for_node(&self, id: NodeId) -> u64 {
        let behind = self.behind.as_ref().and_then(|behind| behind.get(&id));
        behind.map_or(self.of_part, |(account, _)| *account)
    }
}

impl Cluster {
    /// How this node sees who holds a key. Whatever rests on it is read after it.
    pub fn view(&self, route: Route) -> View {
        let of_part = self.placement().view(route.part());
        let mut behind = self.behind.lock();
        if let Some(some) = &mut *behind {
            let now_ms = self.now_ms();
            if some.values().any(|(_, until_ms)| *until_ms <= now_ms) {
                Arc::make_mut(some).retain(|_, (_, until_ms)| now_ms < *until_ms);
            }
        }
        behind.take_if(|some| some.is_empty());
        View {
            of_part,
            behind: behind.clone(),
        }
    }

    /// Whether a sender's view of a part is this node's, or the sender knows all that this node knows.
    pub fn sees_the_same(&self, view: u64, part: Part) -> bool {
        let placement = self.placement();
        [placement.view(part), placement.account, UNKNOWN_VIEW].contains(&view)
    }

    /// A node that sees the cluster differently says how.
    pub fn learn_from(&self, id: NodeId, members: Vec<Member>) {
        let theirs = account(&members);
        let learned = self.change(|membership| membership.learn(members));
        if !learned.is_empty() {
            return;
        }
        let knows_less = theirs != self.account();
        let (now_ms, mut behind) = (self.now_ms(), self.behind.lock());
        let some = Arc::make_mut(behind.get_or_insert_default());
        let before = some.insert(id, (theirs, now_ms + BEHIND_FOR_MS));
        drop(behind);
        if knows_less && before.is_none_or(|(_, until_ms)| until_ms <= now_ms) {
            let within = Duration::from_millis(BEHIND_FOR_MS);
            self.peers.ask(id, self.news(), within, Box::new(|_| {}));
        }
    }

    /// A fingerprint of the membership's changes, as far as this node knows them.
    pub fn changes(&self) -> u64 {
        self.placement().changes
    }

    /// A fingerprint of those, and of all that members say that decides who holds what.
    pub fn account(&self) -> u64 {
        self.placement().account
    }

    /// All that this node knows, for others.
    pub fn news(&self) -> Bytes {
        encode(MembershipRequest::Push(self.everybody()))
    }

    /// Tells all others, without waiting for gossip.
    pub fn announce(&self) {
        let news = self.news();
        let others = self.members().into_iter().map(|member| member.id);
        for id in others.filter(|id| *id != self.me() && self.answers(*id)) {
            self.peers
                .ask(id, news.clone(), ANNOUNCED_WITHIN, Box::new(|_| {}));
        }
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

/// A fingerprint of all changes of a membership: who joined, where he stands, who left.
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
        // Who knows nothing of losses has the same fingerprint as long as there are none.
        if !member.losses.is_empty() {
            member.losses.encode(&mut raw);
        }
    }
    key_hash(&raw)
}
