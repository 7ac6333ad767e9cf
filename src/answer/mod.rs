//! What this node answers to others: the asked side of `coordinator` and `routing`.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::cluster::Cluster;
use crate::command::{Node, answered, described, invited};
use crate::coordinator::Coordinator;
use crate::logic::causal::Dot;
use crate::logic::membership::Member;
use crate::logic::placement::NodeId;
use crate::logic::row;
use crate::peer::message::{Command, Request, Response, WhyNot, WireKey};
use crate::peer::{Answer, Handler, Identity, LONGEST_REPLY};
use crate::replica::{DATABASES, Join, Key, ReplicaError, Uncommitted, Written};
use crate::routing::args::OwnedArgs;
use crate::routing::{self, Runner};
use crate::storage::keys::MAX_KEY_LEN;
use crate::storage::{Refused, WriteFailed};

/// How long news of a node wait for the link to it, and how often that is looked at.
const REACHED_WITHIN: Duration = Duration::from_millis(50);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The handler of a node in a cluster.
pub struct PeerHandler(pub Arc<Node>);

impl Handler for PeerHandler {
    fn identity(&self) -> Identity {
        let coordinator = self.0.site.coordinator.as_ref();
        coordinator
            .expect("only a node in a cluster listens")
            .cluster()
            .identity()
    }

    fn start(&self, from: NodeId, request: Request, age: Duration) -> Answer {
        let node = Arc::clone(&self.0);
        if let Some(coordinator) = &node.site.coordinator {
            let members = coordinator.cluster();
            let known = members.with_membership(|m| m.member(from).is_some_and(Member::is_present));
            let stranger = matches!(
                request,
                Request::Join(_)
                    | Request::Gossip(_)
                    | Request::Push(_)
                    | Request::Invite { .. }
                    | Request::Describe
            );
            let gossips = matches!(request, Request::Gossip(_) | Request::Push(_));
            if gossips && members.identity().cluster == 0 {
                // It may be what it was again in a moment.
                return refuse("this node is joining a cluster");
            }
            if gossips && !known && members.members().len() == 1 {
                // It has taken nobody in: the other takes it for a member of a cluster that it has not
                // come to, and must ask it again.
                return refuse("this node has a cluster of its own");
            }
            if !known && !stranger {
                // Who does not know that he is gone must hear it.
                let was = members.with_membership(|m| m.member(from).is_some());
                let on_keys = matches!(request, Request::Apply { .. } | Request::Fetch { .. });
                return if was && on_keys {
                    Answer::Now(Response::Outdated(members.everybody()))
                } else if matches!(request, Request::Forward(_)) {
                    Answer::Now(Response::NotRun(WhyNot::NotHere))
                } else {
                    refuse("the asker is not a member")
                };
            }
        }
        match request {
            Request::Apply {
                key,
                object,
                hint_for,
                only_over_seen,
                view,
            } => {
                if let Some(outdated) = outdated(&node, &key, view) {
                    return Answer::Now(outdated);
                }
                let how = Join {
                    hint_for,
                    only_over_seen,
                    ..Join::default()
                };
                apply(node, key, object, how, view)
            }
            Request::Fetch {
                key,
                digest,
                dots,
                view,
            } => {
                if let Some(outdated) = outdated(&node, &key, view) {
                    return Answer::Now(outdated);
                }
                let failures = node.replica.failed_batches();
                let mut fetched = fetch(&node, &key, digest, &dots);
                let waits_for = uncommitted(&node, &key);
                if node.replica.failed_batches() != failures {
                    // It may be what has just turned out not to be stored.
                    fetched = fetch(&node, &key, digest, &dots);
                }
                match waits_for {
                    None => Answer::Now(fetched),
                    // What nobody may see again is shown to nobody.
                    Some(Uncommitted { shard, ticket }) => Answer::Later(Box::pin(async move {
                        node.replica.store().kick(shard);
                        let progress = node.replica.store().progress(shard);
                        match progress.wait_committed(ticket).await {
                            Ok(()) => fetched,
                            Err(_) => fetch(&node, &key, digest, &dots),
                        }
                    })),
                }
            }
            Request::Forward(command) => {
                if node.replica.store().refuses_growth() && leaves_to_others(&node, &command) {
                    return Answer::Now(Response::NotRun(WhyNot::Full));
                }
                // The first poll puts it into the lanes of its keys, in the order of arrival.
                let known = command.own.clone();
                let runner: Arc<dyn Runner> = node;
                let (mut later, own) = routing::forwarded(&runner, command, age);
                let said = move |reply: BytesMut| {
                    let mut wrote = own.all();
                    wrote.retain(|write| !known.contains(write));
                    let reply = fitting(reply, LONGEST_REPLY).freeze();
                    Response::Reply { reply, wrote }
                };
                match later.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(reply) => Answer::Now(said(reply)),
                    Poll::Pending => Answer::Later(Box::pin(async move { said(later.await) })),
                }
            }
            Request::Written
            | Request::Roots { .. }
            | Request::Sums { .. }
            | Request::List { .. }
            | Request::Objects(_)
            | Request::Merge(_)
            | Request::Chunk { .. }
            | Request::Sizes { .. }
            | Request::Repair { .. } => {
                let Some(convergence) = node.convergence.clone() else {
                    return refuse("not in a cluster");
                };
                let answer = async move { convergence.answer(from, request).await };
                let Some(background) = &node.background else {
                    return Answer::Later(Box::pin(answer));
                };
                let answer = background.spawn(answer);
                let lost = || Response::Refused("the answer was lost".into());
                Answer::Later(Box::pin(
                    async move { answer.await.unwrap_or_else(|_| lost()) },
                ))
            }
            request => Answer::Later(Box::pin(answer(node, from, request))),
        }
    }

    fn all_started(&self) {
        let store = self.0.replica.store();
        (0..store.shards()).for_each(|shard| store.kick(shard));
    }
}

/// Whoever sees another membership, or others serve a key, may not know that it has moved: he has to
/// learn first.
fn outdated(node: &Node, key: &WireKey, view: u64) -> Option<Response> {
    let cluster = node.site.coordinator.as_ref()?.cluster();
    let part = cluster.route(&key.name).part();
    let differs = !cluster.sees_the_same(view, part);
    differs.then(|| Response::Outdated(cluster.everybody()))
}

/// Whether this node, whose disk is full, is not to run a command that writes: somebody else is, and all
/// have to send it there, so that one node alone coordinates its keys.
fn leaves_to_others(node: &Node, command: &Command) -> bool {
    let Some(coordinator) = node.site.coordinator.as_ref().filter(|_| command.hops > 0) else {
        return false;
    };
    let steps = command
        .steps
        .iter()
        .map(|raw| OwnedArgs::from_wire(raw.clone()));
    let calls = steps.filter_map(|words| node.call(words.ok()?));
    let mut writes = calls.filter(|call| call.shape.writes);
    writes.any(|call| {
        let key = call.keys().next();
        key.is_some_and(|key| !coordinator.coordinates(key))
    })
}

/// A reply that can be passed on: the command has run, and is not to run again because of it.
fn fitting(reply: BytesMut, longest: usize) -> BytesMut {
    if reply.len() <= longest {
        return reply;
    }
    BytesMut::from(&b"-ERR the command has run, and its reply is too long to be passed on\r\n"[..])
}

fn refuse(reason: &str) -> Answer {
    Answer::Now(Response::Refused(reason.to_owned()))
}

fn checked(key: &WireKey) -> Result<Key<'_>, Response> {
    if key.db >= DATABASES || key.name.len() > MAX_KEY_LEN {
        return Err(Response::Refused("no such key is possible".into()));
    }
    Ok(Key {
        db: key.db,
        name: &key.name,
    })
}

/// The write is ordered before this returns, where no transaction on the key is running; the answer
/// waits until it is committed, for which [`Handler::all_started`] gives the sign.
fn apply(node: Arc<Node>, at: WireKey, raw: Bytes, how: Join, view: u64) -> Answer {
    let wanted = node.site.gate.of_keys(std::iter::once(&at.name[..]), false);
    let Some(turns) = node.site.gate.at_once(&wanted) else {
        return Answer::Later(Box::pin(async move {
            let turns = node.site.gate.enter(&wanted).await;
            let written = take_in(&node, &at, &raw, how);
            drop(turns);
            match written {
                Ok(written) => {
                    node.replica.store().kick(written.shard);
                    taken_in(&node, &at, view, &written).await
                }
                Err(refused) => refused,
            }
        }));
    };
    let written = take_in(&node, &at, &raw, how);
    drop(turns);
    match written {
        Ok(written) => Answer::Later(Box::pin(async move {
            taken_in(&node, &at, view, &written).await
        })),
        Err(refused) => Answer::Now(refused),
    }
}

fn take_in(node: &Node, at: &WireKey, raw: &[u8], how: Join) -> Result<Written, Response> {
    let refused = |reason: String| Response::Refused(reason);
    let key = checked(at)?;
    let object = row::decode(raw).map_err(|e| refused(e.to_string()))?;
    node.replica.join(key, object, how).map_err(|e| match e {
        ReplicaError::Unseen(ours) => Response::Unseen(row::encode(&ours).into()),
        ReplicaError::Refused(Refused::DiskFull | Refused::Unsynced) => {
            Response::NotRun(WhyNot::Full)
        }
        error => refused(error.to_string()),
    })
}

async fn taken_in(node: &Node, at: &WireKey, view: u64, written: &Written) -> Response {
    let progress = node.replica.store().progress(written.shard);
    match progress.wait_committed(written.ticket).await {
        // It may have been stored when the key had moved already: then others must have it.
        Ok(()) => outdated(node, at, view).unwrap_or(Response::Done),
        Err(WriteFailed::Unknown) => Response::InDoubt,
        Err(WriteFailed::NotStored) => Response::NotRun(WhyNot::Full),
    }
}

/// Whoever says that he has something is to be reached before this node counts on him.
async fn be_reached(cluster: &Cluster, from: NodeId) {
    let reached = async {
        while cluster.peers().is_down(from) {
            cluster.peers().heard_from(from);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let _ = tokio::time::timeout(REACHED_WITHIN, reached).await;
}

/// Answers what has no order to keep.
async fn answer(node: Arc<Node>, from: NodeId, request: Request) -> Response {
    match request {
        Request::Gossip(digest) => {
            let Some(coordinator) = &node.site.coordinator else {
                return Response::Refused("not in a cluster".into());
            };
            let cluster = coordinator.cluster();
            let reply = cluster.with_membership(|membership| membership.answer(&digest));
            cluster.hear(&digest);
            Response::Gossip(reply)
        }
        Request::Push(members) => {
            if let Some(coordinator) = &node.site.coordinator {
                let cluster = coordinator.cluster();
                be_reached(cluster, from).await;
                cluster.change(|membership| membership.learn(members));
                // Whoever has told this rests on it.
                if !cluster.noted().await {
                    return Response::Refused("it could not be written down".into());
                }
            }
            Response::Done
        }
        Request::Join(member) => join(&node, *member),
        Request::Describe => described(&node),
        Request::Transfers => match &node.convergence {
            Some(convergence) => answered(convergence),
            None => Response::Refused("not in a cluster".into()),
        },
        Request::Invite { address } => invited(&node, &address).await,
        request @ (Request::Everything
        | Request::Floor { .. }
        | Request::Holds { .. }
        | Request::Counts { .. }
        | Request::Scan { .. }) => {
            let runner: Arc<dyn Runner> = node;
            routing::answer(&runner, request).await
        }
        Request::Pace => {
            node.governor.others_work();
            Response::Counts(vec![node.governor.own_share()])
        }
        _ => Response::Refused("this request is answered elsewhere".into()),
    }
}

fn uncommitted(node: &Node, key: &WireKey) -> Option<Uncommitted> {
    node.replica.uncommitted(checked(key).ok()?)
}

fn fetch(node: &Node, key: &WireKey, theirs: u64, dots: &[Dot]) -> Response {
    let key = match checked(key) {
        Ok(key) => key,
        Err(refused) => return refused,
    };
    let fetched = node.replica.read(key).and_then(|object| {
        let lacks = |c: &Arc<Coordinator>| {
            let (cluster, part) = (c.cluster(), c.cluster().route(key.name).part());
            // Who asks for a proven copy knows that it counts.
            cluster.is_unsure() && cluster.lacks_part(part)
                || cluster.lacks_part(part) && !cluster.has_part(cluster.me(), part)
        };
        let lacks = node.site.coordinator.as_ref().is_some_and(lacks);
        if !lacks && node.replica.digest(key, &object) == theirs {
            return Ok(Response::Same);
        }
        if lacks {
            let left = (!object.is_unknown()).then(|| row::encode(&object));
            return Ok(Response::Empty(left.unwrap_or_default().into()));
        }
        // What the other still has and everybody has seen overwritten must not come back.
        let dead = node.replica.dead_of(key, dots)?;
        if dead.is_empty() {
            return Ok(Response::Object(row::encode(&object).into()));
        }
        let mut object = (*object).clone();
        object.observe(dead);
        Ok(Response::Object(row::encode(&object).into()))
    });
    fetched.unwrap_or_else(|error| Response::Refused(error.to_string()))
}

fn join(node: &Node, member: Member) -> Response {
    let Some(coordinator) = node
        .site
        .coordinator
        .as_ref()
        .filter(|c| c.cluster().has_joined())
    else {
        return Response::Refused("this node has no cluster yet".into());
    };
    let cluster = coordinator.cluster();
    let known = cluster.with_membership(|m| m.member(member.id).cloned());
    if known.as_ref().is_some_and(|member| !member.is_present()) {
        return Response::Refused(
            "this node has left the cluster; give it a new data directory".into(),
        );
    }
    let before = cluster.with_membership(|m| {
        let mut present = m.present();
        present
            .find(|m| m.peer_address == member.peer_address)
            .cloned()
    });
    if let (None, Some(before)) = (&known, &before) {
        // It would take the place of that member, which must be gone for that.
        if before.id == cluster.me() || before.name != member.name || cluster.answers(before.id) {
            return Response::Refused(format!(
                "{} is the address of the member {}; only a node with its name takes its place, \
                 when that one does not answer any more",
                member.peer_address, before.name
            ));
        }
    }
    tracing::info!(node = %member.name, address = %member.peer_address, "a node joins");
    cluster.change(|membership| match known {
        // It was a member before it lost its disk, and finds itself among them.
        None if before.is_some() => {}
        None => membership.admit(member),
        Some(known) => {
            let joined = known.joined;
            membership.learn([Member { joined, ..member }]);
        }
    });
    Response::Welcome {
        cluster: cluster.identity().cluster,
        members: cluster.with_membership(|m| m.all().cloned().collect()),
    }
}
