//! One command, or one transaction, at the coordinator of its keys: in its turn it looks, runs, and
//! sends what it wrote to the other owners.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, join_all, select};
use smallvec::SmallVec;

use super::lanes::{Lanes, Turns};
use super::looks::Moment;
use super::reply::{error_reply, quorum_reply, refusal};
use super::runner::{Call, Doing, Ran, Runner, Site};
use super::script::drive;
use super::share::{Begun, has_been_looked_for, note_look};
use super::who::Who;
use super::work::Work;
use crate::base::blocking::at_length;
use crate::coordinator::{Coordinator, Here, Quorum, QuorumError, Replicating, Wait};
use crate::error::Error;
use crate::logic::causal::Dot;
use crate::peer::message::Wrote;
use crate::replica::{Key, Reach, Uncommitted, Written};
use crate::resp::Reply;

/// A transaction of more commands may take its time.
const MANY_STEPS: usize = 256;

/// The keys of some work.
type Keys<'k> = [&'k [u8]];

/// Runs work here: this node coordinates its keys.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn has room for its arguments twice, and there are many of these at a time"
)]
pub(super) fn coordinate(
    node: Arc<dyn Runner>,
    coordinator: Arc<Coordinator>,
    who: Who,
    work: Work,
) -> impl Future<Output = BytesMut> + Send + use<> {
    async move {
        let site = node.site();
        let keys = work.keys();
        if let Some(len) = work.key_too_long() {
            return refusal(&*node, &who, &Error::KeyTooLong(len));
        }
        if let Some(failed) = missing_script(&node, &work).await {
            return failed;
        }
        let writes = work.writes();
        let came = site.looks.now();
        let lanes = site.lanes.of(keys.iter().copied());
        let turns = turns_in(&site.lanes, &lanes, writes).await;
        if !coordinator.cluster().is_announced() {
            Box::pin(coordinator.cluster().announced()).await;
        }
        if let Err(error) = check_reachable(&coordinator, &who, &work, &keys) {
            return quorum_reply(&*node, &who, error);
        }
        // What the look finds must be here when the work begins, though the key moves away meanwhile.
        let kept = keys.iter().map(|key| site.replica.keep(key));
        let kept: SmallVec<[_; 1]> = kept.collect();
        let looked = look(site, &coordinator, &who, &work, (&keys, came));
        let blind = matches!(looked, Looked::Blind);
        let seen = match looked {
            Looked::Blind | Looked::Shared => Ok(()),
            Looked::One(refreshed, begun) => {
                let seen = refreshed.await;
                if seen.is_ok() && writes {
                    note_look(site, &coordinator, &who, keys[0], begun);
                }
                bearable(&work, seen)
            }
            Looked::Several(refreshed) => Box::pin(all_of(&work, refreshed)).await,
        };
        if let Err(error) = seen {
            return quorum_reply(&*node, &who, error);
        }
        let watched = work.transaction.iter().flatten().map(|(key, _)| &key[..]);
        // Nobody who reads sees a part of it.
        let alone = work.transaction.is_some() || work.is_script() || writes && keys.len() > 1;
        let wanted = site
            .gate
            .of_keys(keys.iter().copied().chain(watched), alone);
        let passing = (!alone).then(|| site.gate.at_once(&wanted)).flatten();
        let passing = match passing {
            Some(passing) => passing,
            None => Box::pin(site.gate.enter(&wanted)).await,
        };
        if who.patience(coordinator.within()).is_zero() {
            return quorum_reply(&*node, &who, QuorumError::TooLate);
        }
        let gathering = (alone && writes).then(|| site.replica.gather(keys.iter().copied()));
        let mut ran = run_all(&node, &who, &work);
        drop(gathering);
        drop(passing);
        drop(kept);
        let mut copies = replicate(&coordinator, &who, &ran.written, blind);
        drop(turns);
        note_own(site, &who, &ran.written);
        let reply = answer(&*node, &who, &work, &mut ran, &mut copies).await;
        match ran.paused.take() {
            Some(paused) if reply.is_empty() => Box::pin(drive(paused)).await,
            // What a script has written may not be stored as it should be: then it must not build on that.
            _ => reply,
        }
    }
}

/// Finds the scripts that some work runs; the reply, where it cannot be known whether there is one.
async fn missing_script(node: &Arc<dyn Runner>, work: &Work) -> Option<BytesMut> {
    find_scripts(node, work)?.await
}

/// Finds the scripts that some work runs, as far as they are not at hand.
fn find_scripts(node: &Arc<dyn Runner>, work: &Work) -> Option<Doing> {
    let scripts = work.steps.iter().filter(|call| call.shape.is_script());
    let finding = scripts.filter_map(|call| Arc::clone(node).fetch(call));
    let mut finding = finding.collect::<SmallVec<[Doing; 1]>>().into_iter();
    let first = finding.next()?;
    Some(Box::pin(async move {
        let mut failed = first.await;
        for next in finding {
            failed = failed.or(next.await);
        }
        failed
    }))
}

/// Waits for turns. What is hardly ever waited for takes no room in a command's future: there are many at a time.
async fn turns_in<'s>(lanes: &'s Lanes, places: &[u16], alone: bool) -> Turns<'s> {
    if let [_] = places
        && let Some(turns) = lanes.at_once(places, alone)
    {
        return turns;
    }
    Box::pin(lanes.enter(places, alone)).await
}

/// Whether as many owners can be reached as the work needs.
fn check_reachable(
    coordinator: &Coordinator,
    who: &Who,
    work: &Work,
    keys: &Keys<'_>,
) -> Result<(), QuorumError> {
    let writes = work.writes();
    for key in keys {
        let wanted = match coordinator.quorum_of(key, who.quorum) {
            Quorum { w, .. } if writes => w,
            Quorum { r, .. } if coordinator.is_strict(key) => r,
            _ => continue,
        };
        coordinator.check_reachable(key, wanted, work.grows())?;
    }
    Ok(())
}

/// Sends what was written to the other owners.
fn replicate(
    coordinator: &Arc<Coordinator>,
    who: &Who,
    written: &[Written],
    blind: bool,
) -> SmallVec<[Option<Replicating>; 1]> {
    let replicate = |written: &Written| {
        written.delta.as_deref().map(|delta| {
            let w = coordinator.quorum_of(&delta.name, who.quorum).w;
            // Of a key that another coordinates it has to know at once.
            let hoped = if coordinator.coordinates(&delta.name) {
                w
            } else {
                w.max(coordinator.answering_owners(&delta.name))
            };
            let Written { shard, ticket, .. } = *written;
            let at = Uncommitted { shard, ticket };
            coordinator.replicate((delta, at), Wait { w, hoped }, blind)
        })
    };
    written.iter().map(replicate).collect()
}

/// The connection must not miss what it has written.
fn note_own(site: &Site, who: &Who, written: &[Written]) {
    for delta in written.iter().filter_map(|w| w.delta.as_deref()) {
        who.own.note(Wrote {
            db: delta.db,
            name: delta.name.clone(),
            dot: delta.last,
            at: site.replica.time(),
        });
    }
}

/// The reply, when as many have what was written as shall, and what was seen is committed.
async fn answer(
    node: &dyn Runner,
    who: &Who,
    work: &Work,
    ran: &mut Ran,
    copies: &mut [Option<Replicating>],
) -> BytesMut {
    let site = node.site();
    let Ran {
        reply,
        written,
        seen,
        ..
    } = ran;
    let reply = std::mem::take(reply);
    if written.is_empty() {
        return match site.are_committed(seen).await {
            Ok(()) => reply,
            // It is not stored here; a quorum had it, or is being sent it.
            Err(_) if !work.writes() => reply,
            Err(error) => error_reply(who, &error),
        };
    }
    // A script may well fail behind what it has written.
    let is_whole = work.transaction.is_none() && !work.is_script();
    let is_refused = is_whole && reply.first() == Some(&b'-');
    match is_kept(site, written, copies).await {
        // It was refused in the middle.
        Ok(()) if is_refused => quorum_reply(node, who, QuorumError::Partly),
        Ok(()) if site.are_committed(seen).await.is_ok() => reply,
        Ok(()) => error_reply(who, &Error::InDoubt),
        Err(error) => {
            forget_own(who, written, copies);
            let is_somewhere = !copies.iter().flatten().all(Replicating::is_nowhere);
            let error = if error == Error::MisConf && is_somewhere {
                // Of several writes some are.
                QuorumError::Partly.into()
            } else {
                error
            };
            node.count_error(&error);
            error_reply(who, &error)
        }
    }
}

/// The connection need not wait for what is nowhere.
fn forget_own(who: &Who, written: &[Written], copies: &[Option<Replicating>]) {
    let nowhere = |copy: &Option<Replicating>| copy.as_ref().is_some_and(Replicating::is_nowhere);
    let written = written.iter().zip(copies).filter(|(_, copy)| nowhere(copy));
    for delta in written.filter_map(|(w, _)| w.delta.as_deref()) {
        who.own.forget(delta.db, &delta.name, delta.last);
    }
}

/// Waits until so many have what was written as shall: this node's own copy is one of those that count.
async fn is_kept(
    site: &Site,
    written: &[Written],
    copies: &mut [Option<Replicating>],
) -> Result<(), Error> {
    if let [Some(copy)] = copies
        && !copy.is_alone()
    {
        return match copy.decided().await? {
            None => Ok(()),
            Some(again) => Box::pin(are_committed_instead(site, &[again])).await,
        };
    }
    Box::pin(are_kept(site, written, copies)).await
}

/// The same of what was not sent as one of a group, or is more than one.
async fn are_kept(
    site: &Site,
    written: &[Written],
    copies: &mut [Option<Replicating>],
) -> Result<(), Error> {
    if let Some(coordinator) = &site.coordinator {
        coordinator.end_turn_soon();
    }
    // Those of a group see to their own copies themselves.
    let by_itself = |copy: &Option<Replicating>| copy.as_ref().is_none_or(Replicating::is_alone);
    let reported: SmallVec<[Reported<'_>; 1]> = written
        .iter()
        .zip(&*copies)
        .filter(|(_, copy)| by_itself(copy))
        .map(|(write, copy)| (write, copy.as_ref().and_then(Replicating::here)))
        .collect();
    let counts_alone = reported.iter().any(|(_, here)| here.is_none());
    let here = pin!(report(site, &reported));
    let decided = pin!(async {
        let all = join_all(copies.iter_mut().flatten().map(Replicating::decided)).await;
        let again: Result<Vec<Option<Written>>, QuorumError> = all.into_iter().collect();
        Ok::<_, QuorumError>(again?.into_iter().flatten().collect::<Vec<_>>())
    });
    let again = match select(here, decided).await {
        Either::Left((here, decided)) => {
            here?;
            decided.await?
        }
        Either::Right((decided, here)) => {
            if counts_alone {
                here.await?;
            }
            decided?
        }
    };
    are_committed_instead(site, &again).await
}

/// What was written instead counts as this node's copy, too; others have it.
async fn are_committed_instead(site: &Site, again: &[Written]) -> Result<(), Error> {
    site.commit(again).await.map_err(|_| {
        Error::from(QuorumError::WriteShort {
            stored: again.len(),
            wanted: again.len() + 1,
        })
    })
}

/// A write, and where what became of this node's copy is reported; nowhere, where nobody counts.
type Reported<'w> = (&'w Written, Option<Arc<Here>>);

/// Reports the fates of this node's copies to those who count; an error where nobody does.
async fn report(site: &Site, all: &[Reported<'_>]) -> Result<(), Error> {
    let store = site.replica.store();
    let fate = |(write, here): &Reported<'_>| {
        let (shard, ticket, here) = (write.shard, write.ticket, here.clone());
        async move {
            let fate = store.progress(shard).wait_committed(ticket).await;
            match here {
                Some(here) => {
                    here.report(fate);
                    Ok(())
                }
                None => fate.map_err(Error::from),
            }
        }
    };
    join_all(all.iter().map(fate)).await.into_iter().collect()
}

/// What is done so that this node has seen what some work has to see.
enum Looked<F> {
    /// It need not look: it finds out afterwards whether there was something to see.
    Blind,
    /// Somebody has looked for it, while it waited for its turn.
    Shared,
    /// A quorum is read of a key, or of several.
    One(F, Begun),
    Several(Vec<F>),
}

/// Begins to see to it that this node has seen what the work has to see.
fn look(
    site: &Site,
    coordinator: &Arc<Coordinator>,
    who: &Who,
    work: &Work,
    (keys, came): (&[&[u8]], Moment),
) -> Looked<impl Future<Output = Result<(), QuorumError>> + Send + use<>> {
    // A write that two others could have missed has to look.
    let meets_all = |key: &&[u8]| coordinator.writes_meet(key, who.quorum);
    let mut blind = work.is_blind() && who.since.is_none() && keys.iter().all(meets_all);
    let mut looked_at: SmallVec<[_; 2]> = keys.iter().map(|key| (who.db, *key)).collect();
    for call in &work.steps {
        let other = call.shape.other_database(call.args());
        looked_at.extend(other.zip(call.keys().last()));
    }
    let watched = work.transaction.iter().flatten();
    looked_at.extend(watched.map(|(key, _)| (who.db, &key[..])));
    let mut begun: SmallVec<[_; 2]> = SmallVec::new();
    for (db, name) in looked_at {
        let writes = who.own.of(db, name);
        if let Some(newest) = writes.iter().map(|(_, at)| *at).max() {
            site.replica.observe(newest);
        }
        let own: SmallVec<[Dot; 2]> = writes.into_iter().map(|(dot, _)| dot).collect();
        // The client's own writes have to be seen before.
        let key = Key { db, name };
        blind = blind && (own.is_empty() || site.replica.has_seen(key, &own));
        // What cannot be read has to be mended before.
        blind = blind && !site.replica.has_damaged() && is_readable(site, key);
        begun.push((db, name, own));
    }
    if blind {
        return Looked::Blind;
    }
    if let [(_, name, own)] = begun.as_slice()
        && work.transaction.is_none()
        && work.writes()
        && has_been_looked_for(site, coordinator, who, (name, own, came))
    {
        let shared = &coordinator.counters().looks_shared;
        shared.fetch_add(1, Ordering::Relaxed);
        return Looked::Shared;
    }
    let now = Begun::now(site, coordinator);
    let mut begun = begun.iter().map(|(db, key, own)| {
        let r = coordinator.quorum_of(key, who.quorum).r;
        coordinator.refresh(*db, key, r, own)
    });
    match (begun.next(), begun.len()) {
        (Some(first), 0) => Looked::One(first, now),
        (first, _) => Looked::Several(first.into_iter().chain(begun).collect()),
    }
}

/// Better a sibling of the client's own last write than no write; but what it replies must not miss that one.
fn bearable(work: &Work, seen: Result<(), QuorumError>) -> Result<(), QuorumError> {
    match seen {
        Err(QuorumError::Behind) if work.is_blind() => Ok(()),
        seen => seen,
    }
}

async fn all_of(
    work: &Work,
    refreshed: Vec<impl Future<Output = Result<(), QuorumError>>>,
) -> Result<(), QuorumError> {
    for refreshed in refreshed {
        bearable(work, refreshed.await)?;
    }
    Ok(())
}

fn is_readable(site: &Site, key: Key<'_>) -> bool {
    let is_plain = site.replica.look(key, |_| Some(()));
    is_plain.is_some() || site.replica.read_some(key, Reach::Head).is_ok()
}

/// Runs the handlers against this node's copies. The caller keeps others out.
fn run_all(node: &Arc<dyn Runner>, who: &Who, work: &Work) -> Ran {
    let run = |call: &Call| Arc::clone(node).run(who, call);
    let Some(watches) = &work.transaction else {
        return run(&work.steps[0]);
    };
    let look_at = |key: &[u8]| run(&node.look_at(key));
    let transaction = || run_transaction(who, (&work.steps, &run), (watches, &look_at));
    if work.steps.len() > MANY_STEPS {
        return at_length(transaction);
    }
    transaction()
}

fn run_transaction(
    who: &Who,
    (steps, run): (&[Call], &dyn Fn(&Call) -> Ran),
    (watches, look_at): (&[(Bytes, Bytes)], &dyn Fn(&[u8]) -> Ran),
) -> Ran {
    let mut reply = Reply::default();
    reply.set_protocol(who.protocol);
    let mut all = Ran::default();
    for (key, was) in watches {
        let ran = look_at(key);
        all.seen.extend(ran.seen);
        if ran.reply != was {
            reply.null_array();
            all.reply = std::mem::take(reply.buffer());
            return all;
        }
    }
    reply.array(steps.len());
    for step in steps {
        let mut ran = run(step);
        if ran.paused.take().is_some() {
            let why =
                "ERR Script attempted to access a key that it does not declare, in a transaction";
            ran.reply = error_reply(who, &Error::text(why));
        }
        reply.buffer().extend_from_slice(&ran.reply);
        all.written.extend(ran.written);
        all.seen.extend(ran.seen);
    }
    all.reply = std::mem::take(reply.buffer());
    all
}
