//! Work goes to the node that coordinates its keys, and its reply comes back.
//!
//! What runs there is the same handler that a lone node runs, between the two halves that `coordinator`
//! adds: a read quorum before it, the replication of what it wrote after it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::args::OwnedArgs;
use super::coordinate::coordinate;
use super::own::Own;
use super::reply::{at_once, quorum_reply};
use super::runner::{Call, Later, Runner};
use super::who::{MAX_HOPS, Place, Who};
use super::work::Work;
use crate::base::clock;
use crate::coordinator::{Asked, Coordinator, Forwarded, QuorumError, Repeats};
use crate::error::Error;
use crate::logic::causal::Timestamp;
use crate::logic::placement::NodeId;
use crate::peer::message::Command;
use crate::resp::Protocol;

/// A coordinator with too much to do is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Runs work at the coordinator of its first key.
pub(super) fn single(
    node: Arc<dyn Runner>,
    coordinator: Arc<Coordinator>,
    who: Who,
    work: Work,
) -> Later {
    match elsewhere(&coordinator, &who, &work) {
        None => Box::pin(coordinate(node, coordinator, who, work)),
        Some(to) => Box::pin(hand_on(node, coordinator, who, work, to)),
    }
}

/// Who else is to run it; `None`: this node.
fn elsewhere(coordinator: &Coordinator, who: &Who, work: &Work) -> Option<NodeId> {
    let key = work.first_key();
    let was_forwarded = who.hops < MAX_HOPS;
    if was_forwarded && work.reads_one_key() && coordinator.could_read(key, who.quorum) {
        return None;
    }
    let to = coordinator.coordinator_of(key);
    (to != coordinator.cluster().me() && who.hops > 0).then_some(to)
}

/// Has another node do the work, or this one when it is the one in the end.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn has room for its arguments twice, and there are many of these at a time"
)]
pub(super) fn hand_on(
    node: Arc<dyn Runner>,
    coordinator: Arc<Coordinator>,
    mut who: Who,
    work: Work,
    mut to: NodeId,
) -> impl Future<Output = BytesMut> + Send + use<> {
    async move {
        let begun = node
            .site()
            .replica
            .time()
            .max(Timestamp::from_ms(clock::now_ms()));
        let give_up = Instant::now() + who.patience(coordinator.within() * 2);
        let mut asked = 0;
        while asked <= MAX_HOPS {
            // The other node waits for its own quorum first.
            let patience = who.patience(coordinator.within() * 2);
            if patience.is_zero() {
                let error = too_late(&who);
                return quorum_reply(&*node, &who, error);
            }
            let command = command_for_another(&coordinator, &who, &work, patience);
            // Not behind a later command of the connection on the same keys, which may have run already.
            let place = who.place.clone();
            let again = move || place.is_last();
            let repeats = repeats_of(&work);
            let outcome = if work.writes() || who.place.follows_a_write {
                coordinator.forward(to, command, repeats, again).await
            } else {
                Box::pin(read_somewhere(
                    &coordinator,
                    to,
                    command,
                    again,
                    (&who, &work),
                ))
                .await
            };
            match outcome {
                Ok(Forwarded::Reply { reply, wrote }) => {
                    for write in wrote {
                        who.own.note(write);
                    }
                    if who.since.is_some() && reply.first() == Some(&b'-') {
                        return quorum_reply(&*node, &who, QuorumError::CoordinatorLost);
                    }
                    return BytesMut::from(reply);
                }
                Ok(Forwarded::Elsewhere) => {}
                // It may have run, and must not act on what came later.
                Ok(Forwarded::Perhaps) => who.since = who.since.or(Some(begun)),
                // Nothing was done: it is asked again while somebody waits for it.
                Err(QuorumError::Busy) if who.place.is_last() && !patience.is_zero() => {
                    Box::pin(tokio::time::sleep(ASK_AGAIN)).await;
                    if Instant::now() < give_up {
                        continue;
                    }
                    return quorum_reply(&*node, &who, QuorumError::Busy);
                }
                Err(_) if who.since.is_some() => {
                    return quorum_reply(&*node, &who, QuorumError::CoordinatorLost);
                }
                Err(error) => return quorum_reply(&*node, &who, error),
            }
            asked += 1;
            match elsewhere(&coordinator, &who, &work) {
                Some(next) => to = next,
                None => break,
            }
        }
        Box::pin(run_here_after_all(node, coordinator, who, work)).await
    }
}

fn repeats_of(work: &Work) -> Repeats {
    match () {
        () if !work.writes() => Repeats::Freely,
        () if work.is_blind() => Repeats::AsOfThen,
        () => Repeats::Never,
    }
}

/// What is said when nobody waits any more.
fn too_late(who: &Who) -> QuorumError {
    if who.since.is_some() {
        QuorumError::CoordinatorLost
    } else {
        QuorumError::TooLate
    }
}

/// Nobody else has taken it: it runs here. It may have run elsewhere.
async fn run_here_after_all(
    node: Arc<dyn Runner>,
    coordinator: Arc<Coordinator>,
    who: Who,
    work: Work,
) -> BytesMut {
    let since = who.since;
    let told = (Arc::clone(&node), who.clone());
    let here: Later = Box::pin(coordinate(node, coordinator, who, work));
    let reply = here.await;
    // Whatever became of it here: its first run may stand.
    if since.is_some() && reply.first() == Some(&b'-') {
        return quorum_reply(&*told.0, &told.1, QuorumError::CoordinatorLost);
    }
    reply
}

fn command_for_another(
    coordinator: &Coordinator,
    who: &Who,
    work: &Work,
    patience: Duration,
) -> Command {
    Command {
        events: coordinator.cluster().events(),
        hops: who.hops - 1,
        db: who.db,
        protocol: if who.protocol == Protocol::Resp3 {
            3
        } else {
            2
        },
        r: who.quorum.r.unwrap_or(0),
        w: who.quorum.w.unwrap_or(0),
        patience_ms: patience.as_millis() as u64,
        steps: work.steps.iter().map(|call| call.words.to_wire()).collect(),
        transaction: work.transaction.clone(),
        own: work.own_writes(who),
        since: who.since,
    }
}

/// Has a read run at its coordinator and, when that one takes long, at another node that may read all its
/// keys, too: the first good reply counts. Behind a later command of the connection nobody else is asked, nor
/// believed.
async fn read_somewhere(
    coordinator: &Coordinator,
    to: NodeId,
    command: Command,
    again: impl Fn() -> bool + Clone + Send,
    (who, work): (&Who, &Work),
) -> Result<Forwarded, QuorumError> {
    let patience = Duration::from_millis(command.patience_ms);
    let soon = (coordinator.within() / 5).min(patience / 2);
    let mut first = pin!(coordinator.forward(to, command, Repeats::Freely, again.clone()));
    if let Ok(outcome) = tokio::time::timeout(soon, &mut first).await {
        return outcome;
    }
    let keys = work.keys();
    let may_read = |key: &&[u8]| coordinator.anybody_may_read(key, who.quorum);
    let other = keys
        .first()
        .and_then(|key| coordinator.other_reader(key, to));
    let Some(other) = other.filter(|_| again() && keys.iter().all(may_read)) else {
        return first.await;
    };
    let patience = patience.saturating_sub(soon);
    let elsewhere = Command {
        hops: 0,
        ..command_for_another(coordinator, who, work, patience)
    };
    let second = pin!(coordinator.forward(other, elsewhere, Repeats::Freely, again.clone()));
    let is_good = |outcome: &Result<Forwarded, QuorumError>| match outcome {
        Ok(Forwarded::Reply { reply, .. }) => reply.first() != Some(&b'-'),
        _ => false,
    };
    match select(first, second).await {
        Either::Left((outcome, second)) => {
            if is_good(&outcome) || !again() {
                return outcome;
            }
            let instead = second.await;
            if is_good(&instead) && again() {
                instead
            } else {
                outcome
            }
        }
        Either::Right((outcome, _)) if is_good(&outcome) && again() => outcome,
        Either::Right((_, first)) => first.await,
    }
}

/// Runs a command that another node has sent, and says what it has written; and whether it runs a script, which may
/// take long.
pub fn forwarded(
    node: &Arc<dyn Runner>,
    mut command: Command,
    age: Duration,
) -> (Later, Arc<Own>, bool) {
    let protocol = if command.protocol == 3 {
        Protocol::Resp3
    } else {
        Protocol::Resp2
    };
    let mine = node
        .site()
        .coordinator
        .as_ref()
        .map(|c| c.cluster().events());
    let knows_more = mine.is_some_and(|mine| command.events > mine);
    let own = Arc::new(Own::default());
    for write in std::mem::take(&mut command.own) {
        own.note(write);
    }
    let who = Who {
        db: command.db.min(crate::replica::ALL_DATABASES - 1),
        protocol,
        quorum: Asked {
            r: Some(command.r).filter(|r| *r > 0),
            w: Some(command.w).filter(|w| *w > 0),
        },
        // The node that knows more joins and leaves decides where the key lives.
        hops: if knows_more {
            0
        } else {
            command.hops.min(MAX_HOPS)
        },
        own: Arc::clone(&own),
        place: Place::default(),
        since: command.since,
        until: Some(
            Instant::now() + Duration::from_millis(command.patience_ms).saturating_sub(age),
        ),
    };
    let Command {
        steps, transaction, ..
    } = command;
    let (later, may_take_long) = run_forwarded(node, who, steps, transaction);
    (later, own, may_take_long)
}

fn run_forwarded(
    node: &Arc<dyn Runner>,
    who: Who,
    steps: SmallVec<[Bytes; 1]>,
    transaction: Option<Vec<(Bytes, Bytes)>>,
) -> (Later, bool) {
    let Some(coordinator) = node.site().coordinator.clone() else {
        return (at_once(who, Error::ClusterDown), false);
    };
    let step = |raw: Bytes| {
        let call = node.call(OwnedArgs::from_wire(raw).ok()?)?;
        (call.shape.is_on_keys() && !call.positions().is_empty()).then_some(call)
    };
    let known: Option<SmallVec<[Call; 1]>> = steps.into_iter().map(step).collect();
    match known.filter(|steps| steps.len() == 1 || !steps.is_empty() && transaction.is_some()) {
        Some(steps) => {
            let runs_script = steps.iter().any(|call| call.shape.is_script());
            let work = Work { steps, transaction };
            let later = single(Arc::clone(node), coordinator, who, work);
            (later, runs_script)
        }
        None => (at_once(who, Error::Syntax), false),
    }
}
