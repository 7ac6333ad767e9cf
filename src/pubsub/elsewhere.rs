//! Who listens on other members, as far as they have told; and telling them who does here.
//!
//! Each member numbers the changes of what its clients listen to. Who has missed one refuses the next, and is told
//! everything. Of whom nothing is known everything is sent to: a message too many costs a little, one too few would
//! be missed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::here::Here;
use super::kind::Kind;
use crate::base::clock;
use crate::cluster::Cluster;
use crate::logic::glob;
use crate::logic::placement::NodeId;
use crate::peer::message::{Listening, News, Response};
use crate::peer::{Call, CallError, encode};

/// Who wants to know what changes listens to that: the number of it on the wire, beside those of [`Kind`].
const CHANGES: u8 = 3;
/// How often it is looked whether all members have heard.
const LOOK: Duration = Duration::from_millis(500);
/// Who could not be told is told again after so long, ...
const AGAIN: Duration = Duration::from_secs(1);
/// ... and who does not know of such things yet after so long.
const UNKNOWN_AGAIN: Duration = Duration::from_secs(10);
/// Above are numbers of pieces of everything, below those of changes.
const BETWEEN: u64 = 1 << 63;
/// Bytes of names in one message, about.
const CHUNK: usize = 256 * 1024;

/// What another member's clients listen to.
#[derive(Default)]
struct Interest {
    /// Its run.
    actor: u64,
    /// How many changes of it are known.
    changes: u64,
    names: BTreeMap<Kind, BTreeSet<Bytes>>,
    /// Whether somebody wants to know what changes.
    tracks: bool,
}

impl Interest {
    /// Whether all of it is known, of this run: of everything in pieces the last one has come.
    fn is_whole(&self, actor: u64) -> bool {
        self.actor == actor && self.changes < BETWEEN
    }

    fn has(&self, kind: Kind, name: &[u8]) -> bool {
        self.names
            .get(&kind)
            .is_some_and(|names| names.contains(name))
    }

    fn take(&mut self, change: Listening) {
        if change.kind == CHANGES {
            self.tracks = change.begins;
            return;
        }
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
    /// Whom to tell nothing before a time, unless somebody waits for it.
    not_before: BTreeMap<NodeId, Instant>,
    /// Those of them that do not know of such things.
    unknowing: BTreeSet<NodeId>,
}

/// Whether those who could not be told a moment ago are left alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Some,
    None,
}

/// Those who have not heard what they were told, and why.
type Missed = Arc<Mutex<Vec<(NodeId, Option<CallError>)>>>;

/// Says whether somebody has heard.
type Heard = oneshot::Receiver<bool>;

/// The other members' listeners.
pub struct Elsewhere {
    cluster: Arc<Cluster>,
    here: Arc<Here>,
    within: Duration,
    /// This node's run.
    actor: u64,
    interests: RwLock<BTreeMap<NodeId, Interest>>,
    told: Mutex<Told>,
    missed: Missed,
    /// Who was not told of a change: everything may have changed for them.
    owed: Arc<Mutex<BTreeSet<NodeId>>>,
}

/// That somebody here wants to know what changes; whether that is so is found when it is told.
fn changes() -> Listening {
    Listening {
        kind: CHANGES,
        name: Bytes::new(),
        begins: true,
    }
}

impl Elsewhere {
    /// Those of a cluster's members, each of which answers within a time; and who listens here.
    pub fn new(cluster: Arc<Cluster>, here: Arc<Here>, within: Duration, actor: u64) -> Self {
        Self {
            cluster,
            here,
            within,
            actor,
            interests: RwLock::default(),
            told: Mutex::default(),
            missed: Arc::default(),
            owed: Arc::default(),
        }
    }

    /// The members that can be reached, with their runs. Who is only suspected is one of them.
    fn others(&self) -> Vec<(NodeId, u64)> {
        let me = self.cluster.me();
        let all = self.cluster.with_membership(|membership| {
            let present = membership.present();
            present
                .map(|member| (member.id, member.actor.0))
                .collect::<Vec<_>>()
        });
        let peers = self.cluster.peers();
        let is_there = |(id, _): &(NodeId, u64)| *id != me && peers.is_up(*id);
        all.into_iter().filter(is_there).collect()
    }

    /// What clients here listen to has changed; done when all that answer have heard of it.
    pub fn tell(
        self: &Arc<Self>,
        changes: Vec<Listening>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let heard = self.tell_once(changes, Patience::None);
        let this = Arc::clone(self);
        async move {
            let all = join_all(heard).await;
            if all.contains(&Ok(false)) {
                // Who has missed something before is told everything now.
                join_all(this.tell_once(Vec::new(), Patience::None)).await;
            }
        }
    }

    fn tell_once(&self, mut changes: Vec<Listening>, patience: Patience) -> Vec<Heard> {
        let others = self.others();
        let mut told = self.told.lock();
        // Somebody may have come, or gone, since: whoever tells last tells what is.
        for change in &mut changes {
            change.begins = match Kind::of(change.kind) {
                Some(kind) => self.here.has(kind, &change.name),
                None => self.here.tracked().is_on(),
            };
        }
        let before = told.changes.max(1);
        told.changes = before + changes.len() as u64;
        let now = told.changes;
        self.take_back(&mut told);
        let few = encode(News::Listens {
            actor: self.actor,
            from: before,
            to: now,
            changes,
        });
        let mut whole: Option<Vec<Bytes>> = None;
        let mut heard = Vec::new();
        // Whoever is only suspected is told, and not waited for.
        let mut send = |id: NodeId, body: Bytes| {
            let said = self.send(id, body);
            heard.extend(self.cluster.answers(id).then_some(said));
        };
        for (id, actor) in others {
            let not_before = told.not_before.get(&id);
            let is_early = not_before.is_some_and(|at| *at > clock::monotonic());
            if is_early && (patience == Patience::Some || told.unknowing.contains(&id)) {
                continue;
            }
            if told.members.insert(id, (actor, now)) == Some((actor, before)) {
                send(id, few.clone());
                continue;
            }
            let whole = whole.get_or_insert_with(|| self.everything(now));
            for body in whole {
                send(id, body.clone());
            }
        }
        heard
    }

    /// Those who have missed something do not know what they were told.
    fn take_back(&self, told: &mut Told) {
        for (id, why) in self.missed.lock().drain(..) {
            told.members.remove(&id);
            told.unknowing.remove(&id);
            let after = match why {
                // It answers: it is told everything at once.
                None => continue,
                Some(CallError::Unknown) => {
                    told.unknowing.insert(id);
                    UNKNOWN_AGAIN
                }
                Some(_) => AGAIN,
            };
            told.not_before.insert(id, clock::monotonic() + after);
        }
    }

    fn send(&self, id: NodeId, body: Bytes) -> Heard {
        let (sender, heard) = oneshot::channel();
        let (missed, cluster) = (Arc::clone(&self.missed), Arc::clone(&self.cluster));
        let done = move |said: Result<Response, CallError>| {
            let why = match said {
                Ok(Response::Done) => {
                    let _ = sender.send(true);
                    return;
                }
                Ok(_) => None,
                Err(error) => Some(error),
            };
            missed.lock().push((id, why));
            let _ = sender.send(why.is_some());
            if let Some(error @ CallError::TimedOut) = why {
                cluster.failed(id, error);
            }
        };
        self.cluster
            .peers()
            .ask(id, body, self.within, Box::new(done));
        heard
    }

    /// Everything that clients here listen to, in one message or several.
    fn everything(&self, now: u64) -> Vec<Bytes> {
        let mut chunks: Vec<Vec<Listening>> = vec![Vec::new()];
        let mut bytes = 0;
        if self.here.tracked().is_on() {
            chunks[0].push(changes());
        }
        for (kind, name) in self.here.all() {
            if bytes > CHUNK {
                chunks.push(Vec::new());
                bytes = 0;
            }
            bytes += name.len() + 8;
            let last = chunks.last_mut().expect("there is one");
            last.push(Listening {
                kind: kind.number(),
                name,
                begins: true,
            });
        }
        let count = chunks.len();
        // Numbers that no change has, between those.
        let number = |nth: usize| match nth {
            0 => 0,
            nth if nth == count => now,
            nth => BETWEEN + nth as u64,
        };
        let message = |(nth, changes): (usize, Vec<Listening>)| {
            encode(News::Listens {
                actor: self.actor,
                from: number(nth),
                to: number(nth + 1),
                changes,
            })
        };
        chunks.into_iter().enumerate().map(message).collect()
    }

    /// Somebody here wants to know what changes, or nobody does any more; done when all that answer have heard.
    pub fn tell_of_tracking(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        self.tell(vec![changes()])
    }

    /// Tells the members where somebody wants to know that keys have changed; none: any may have. Who cannot be told
    /// is told later that any may have.
    pub fn tell_changed(&self, keys: &[Bytes]) {
        let me = self.cluster.me();
        let interests = self.interests.read();
        let tracking = interests
            .iter()
            .filter(|(id, one)| one.tracks && **id != me);
        let wanted: Vec<NodeId> = tracking.map(|(id, _)| *id).collect();
        drop(interests);
        if !wanted.is_empty() {
            let body = encode(News::Changed(keys.to_vec()));
            for id in wanted {
                self.send_change(id, body.clone());
            }
        }
    }

    fn send_change(&self, id: NodeId, body: Bytes) {
        if !self.cluster.peers().is_up(id) {
            self.owed.lock().insert(id);
            return;
        }
        let owed = Arc::clone(&self.owed);
        let done = move |said: Result<Response, CallError>| {
            if said != Ok(Response::Done) {
                owed.lock().insert(id);
            }
        };
        let peers = self.cluster.peers();
        peers.ask(id, body, self.within, Box::new(done));
    }

    /// Tells those who have missed a change that any key may have changed.
    fn tell_owed(&self) {
        let owed = std::mem::take(&mut *self.owed.lock());
        let mut tracking = BTreeSet::new();
        {
            let interests = self.interests.read();
            let tracks = |id: &NodeId| interests.get(id).is_some_and(|one| one.tracks);
            tracking.extend(owed.into_iter().filter(tracks));
        }
        let body = encode(News::Changed(Vec::new()));
        for id in tracking {
            self.send_change(id, body.clone());
        }
    }

    /// Tells everything to those who have missed something, for ever.
    pub async fn keep_telling(&self) {
        let mut had_all = true;
        loop {
            let has_all = {
                let others = self.others();
                let mut told = self.told.lock();
                self.take_back(&mut told);
                let now = told.changes;
                let knows =
                    |(id, actor): &(NodeId, u64)| told.members.get(id) == Some(&(*actor, now));
                now > 0 && others.iter().all(knows)
            };
            if has_all && !std::mem::replace(&mut had_all, has_all) {
                // What they have changed before they knew nobody has told.
                self.here.tracked().all_changed();
            }
            had_all = has_all;
            self.here.tracked().tell_due();
            self.tell_owed();
            if !has_all {
                join_all(self.tell_once(Vec::new(), Patience::Some)).await;
            }
            self.forget_those_who_left();
            tokio::time::sleep(LOOK).await;
        }
    }

    fn forget_those_who_left(&self) {
        let is_there = |id: &NodeId| {
            let there = |m: &crate::logic::membership::Membership| m.member(*id).is_some();
            self.cluster.with_membership(there)
        };
        let mut interests = self.interests.write();
        interests.retain(|id, _| is_there(id));
        self.note_tracking(&interests);
        drop(interests);
        let mut told = self.told.lock();
        told.members.retain(|id, _| is_there(id));
        told.not_before.retain(|id, _| is_there(id));
        told.unknowing.retain(is_there);
    }

    /// Another member has told what its clients listen to; whether that could be understood.
    pub fn hear(&self, member: NodeId, news: (u64, u64, u64), changes: Vec<Listening>) -> bool {
        let (actor, from, to) = news;
        let mut interests = self.interests.write();
        let interest = interests.entry(member).or_default();
        if from == 0 {
            if interest.is_whole(actor) && to < interest.changes {
                // It was under way for long.
                return true;
            }
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
        self.note_tracking(&interests);
        true
    }

    fn note_tracking(&self, interests: &BTreeMap<NodeId, Interest>) {
        let tracks = interests.values().any(|interest| interest.tracks);
        self.here.tracked().set_elsewhere(tracks);
    }

    /// Sends a message to the members where somebody may listen; how many do there. It is on its way before this
    /// returns; `None`: it goes nowhere.
    pub fn publish(
        &self,
        sharded: bool,
        channel: &[u8],
        text: &[u8],
    ) -> Option<impl Future<Output = u64> + Send + use<>> {
        let mut wanted = self.others();
        {
            let interests = self.interests.read();
            wanted.retain(|(id, actor)| {
                let interest = interests
                    .get(id)
                    .filter(|interest| interest.actor == *actor);
                interest.is_none_or(|interest| interest.wants(sharded, channel))
            });
        }
        if wanted.is_empty() {
            return None;
        }
        let body = encode(News::Publish {
            sharded,
            channel: Bytes::copy_from_slice(channel),
            message: Bytes::copy_from_slice(text),
        });
        let call = |(id, _): &(NodeId, u64)| {
            let call = self.cluster.peers().call(*id, body.clone(), self.within);
            // Whoever is only suspected is not waited for.
            self.cluster.answers(*id).then_some(call)
        };
        let calls: Vec<Call> = wanted.iter().filter_map(call).collect();
        Some(async move {
            let count = |said| match said {
                Ok(Response::Counts(counts)) => counts.first().copied().unwrap_or(0),
                _ => 0,
            };
            join_all(calls).await.into_iter().map(count).sum()
        })
    }

    /// The names of one kind that somebody listens to on members that can be reached.
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
