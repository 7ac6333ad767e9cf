//! Who listens on other members, as far as they have told; and telling them who does here.
//!
//! Each member numbers the changes of what its clients listen to. Who has missed one refuses the next, and is told
//! everything. Of whom nothing is known everything is sent to: a message too many costs a little, one too few would
//! be missed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};

use super::here::Here;
use super::kind::Kind;
use crate::cluster::Cluster;
use crate::logic::glob;
use crate::logic::placement::NodeId;
use crate::peer::message::{Listening, News, Response};
use crate::peer::{Call, encode};

/// How often it is looked whether all members have heard.
const LOOK: Duration = Duration::from_millis(500);

/// What another member's clients listen to.
#[derive(Default)]
struct Interest {
    /// Its run.
    actor: u64,
    /// How many changes of it are known.
    changes: u64,
    names: BTreeMap<Kind, BTreeSet<Bytes>>,
}

impl Interest {
    fn has(&self, kind: Kind, name: &[u8]) -> bool {
        self.names
            .get(&kind)
            .is_some_and(|names| names.contains(name))
    }

    fn take(&mut self, change: Listening) {
        let Some(kind) = Kind::of(change.kind) else {
            return;
        };
        let names = self.names.entry(kind).or_default();
        if change.begins {
            names.insert(change.name);
        } else {
            names.remove(&change.name);
        }
    }

    fn wants(&self, sharded: bool, channel: &[u8]) -> bool {
        if sharded {
            return self.has(Kind::Shard, channel);
        }
        let patterns = self.names.get(&Kind::Pattern);
        self.has(Kind::Channel, channel)
            || patterns.is_some_and(|all| all.iter().any(|p| glob::matches(p, channel)))
    }
}

/// What others were told.
#[derive(Default)]
struct Told {
    /// How many changes there were here.
    changes: u64,
    /// Up to which the others were told, by their runs.
    members: BTreeMap<NodeId, (u64, u64)>,
}

/// The other members' listeners.
pub struct Elsewhere {
    cluster: Arc<Cluster>,
    within: Duration,
    /// This node's run.
    actor: u64,
    interests: RwLock<BTreeMap<NodeId, Interest>>,
    told: Arc<Mutex<Told>>,
}

impl Elsewhere {
    /// Those of a cluster's members; each answers within a time.
    pub fn new(cluster: Arc<Cluster>, within: Duration, actor: u64) -> Self {
        Self {
            cluster,
            within,
            actor,
            interests: RwLock::default(),
            told: Arc::default(),
        }
    }

    /// The members that answer, with their runs.
    fn others(&self) -> Vec<(NodeId, u64)> {
        let me = self.cluster.me();
        let all = self.cluster.with_membership(|membership| {
            let present = membership.present();
            present
                .map(|member| (member.id, member.actor.0))
                .collect::<Vec<_>>()
        });
        let is_there = |(id, _): &(NodeId, u64)| *id != me && self.cluster.answers(*id);
        all.into_iter().filter(is_there).collect()
    }

    /// What clients here listen to has changed; done when all that answer have heard of it.
    pub fn tell(
        &self,
        here: &Here,
        changes: Vec<Listening>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let mut told = self.told.lock();
        let before = told.changes;
        told.changes += changes.len() as u64;
        let now = told.changes;
        let few = News::Listens {
            actor: self.actor,
            from: before,
            to: now,
            changes,
        };
        let few = encode(few);
        let mut whole = None;
        let mut calls = Vec::new();
        for (id, actor) in self.others() {
            let knows = before > 0 && told.members.get(&id) == Some(&(actor, before));
            let body = if knows {
                few.clone()
            } else {
                whole
                    .get_or_insert_with(|| self.everything(here, now))
                    .clone()
            };
            told.members.insert(id, (actor, now));
            calls.push((id, self.cluster.peers().call(id, body, self.within)));
        }
        drop(told);
        heard(Arc::clone(&self.told), calls)
    }

    fn everything(&self, here: &Here, now: u64) -> Bytes {
        let listening = |(kind, name): (Kind, Bytes)| Listening {
            kind: kind.number(),
            name,
            begins: true,
        };
        encode(News::Listens {
            actor: self.actor,
            from: 0,
            to: now,
            changes: here.all().into_iter().map(listening).collect(),
        })
    }

    /// Tells everything to those who have missed something, for ever.
    pub async fn keep_telling(&self, here: &Here) {
        loop {
            let calls: Vec<_> = {
                let mut told = self.told.lock();
                if told.changes == 0 {
                    // Whoever has heard nothing sends everything: nobody listens here.
                    told.changes = 1;
                }
                let now = told.changes;
                let mut others = self.others();
                others.retain(|(id, actor)| told.members.get(id) != Some(&(*actor, now)));
                let call = |(id, actor): (NodeId, u64)| {
                    told.members.insert(id, (actor, now));
                    let body = self.everything(here, now);
                    (id, self.cluster.peers().call(id, body, self.within))
                };
                others.into_iter().map(call).collect()
            };
            heard(Arc::clone(&self.told), calls).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Another member has told what its clients listen to; whether that could be understood.
    pub fn hear(&self, member: NodeId, news: (u64, u64, u64), changes: Vec<Listening>) -> bool {
        let (actor, from, to) = news;
        let mut interests = self.interests.write();
        let interest = interests.entry(member).or_default();
        if from == 0 {
            *interest = Interest {
                actor,
                ..Interest::default()
            };
        } else if (interest.actor, interest.changes) != (actor, from) {
            return false;
        }
        interest.changes = to;
        for change in changes {
            interest.take(change);
        }
        true
    }

    /// Sends a message to the members where somebody may listen; how many do there. It is on its way before this
    /// returns; `None`: it goes nowhere.
    pub fn publish(
        &self,
        sharded: bool,
        channel: &[u8],
        text: &[u8],
    ) -> Option<impl Future<Output = u64> + Send + use<>> {
        let interests = self.interests.read();
        let may_listen = |(id, actor): &(NodeId, u64)| {
            let interest = interests
                .get(id)
                .filter(|interest| interest.actor == *actor);
            interest.is_none_or(|interest| interest.wants(sharded, channel))
        };
        let wanted: Vec<_> = self.others().into_iter().filter(may_listen).collect();
        drop(interests);
        if wanted.is_empty() {
            return None;
        }
        let body = encode(News::Publish {
            sharded,
            channel: Bytes::copy_from_slice(channel),
            message: Bytes::copy_from_slice(text),
        });
        let call =
            |(id, _): &(NodeId, u64)| self.cluster.peers().call(*id, body.clone(), self.within);
        let calls: Vec<Call> = wanted.iter().map(call).collect();
        Some(async move {
            let count = |said| match said {
                Ok(Response::Counts(counts)) => counts.first().copied().unwrap_or(0),
                _ => 0,
            };
            join_all(calls).await.into_iter().map(count).sum()
        })
    }

    /// The names of one kind that somebody listens to on members that answer.
    pub fn names(&self, kind: Kind) -> BTreeSet<Bytes> {
        let others = self.others();
        let interests = self.interests.read();
        let of = |(id, actor): &(NodeId, u64)| {
            let interest = interests
                .get(id)
                .filter(|interest| interest.actor == *actor)?;
            interest.names.get(&kind)
        };
        others.iter().filter_map(of).flatten().cloned().collect()
    }
}

/// Waits until members have heard; who has not is told everything, later.
async fn heard(told: Arc<Mutex<Told>>, calls: Vec<(NodeId, Call)>) {
    let calls = calls
        .into_iter()
        .map(|(id, call)| async move { (id, call.await) });
    for (id, said) in join_all(calls).await {
        if said != Ok(Response::Done) {
            told.lock().members.remove(&id);
        }
    }
}
