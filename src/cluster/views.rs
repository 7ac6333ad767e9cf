//! Whether two nodes see the same cluster.
//!
//! A request on a key carries its sender's view: a fingerprint of the changes of the membership that the sender
//! knows, and of whose copies of the key count. A receiver that sees something else answers with what it knows.
//! If that is nothing new to the sender, the receiver knows less: it is told, and until it knows more the
//! sender says instead "I know all that you knew when you said so". If the receiver has learned something else
//! since then, it says so again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::fingerprint::{View, account};
use super::options::Route;
use super::{Cluster, Part};
use crate::logic::membership::Member;
use crate::logic::placement::NodeId;
use crate::peer::encode;
use crate::peer::message::{MembershipRequest, UNKNOWN_VIEW};

/// A member that knew less has heard it by then.
const BEHIND_FOR_MS: u64 = 1_000;

/// News that were not taken by then come by gossip.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(1);

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
