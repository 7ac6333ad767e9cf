//! One command, or one transaction, at the coordinator of its keys: in its turn it looks, runs, and
//! sends what it wrote to the other owners.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, join_all, select};
use smallvec::{SmallVec, smallvec};

use super::{Who, error_reply, quorum_reply};
use crate::base::clock;
use crate::command::args::{Args, OwnedArgs};
use crate::command::error::Error;
use crate::command::session::Session;
use crate::command::table::{Flags, Spec};
use crate::command::{self, Ctx, Node, transactions};
use crate::coordinator::{Coordinator, Here, Quorum, QuorumError, Replicating, Wait};
use crate::logic::causal::Dot;
use crate::peer::message::Wrote;
use crate::replica::{Key, Uncommitted, Written};
use crate::resp::Reply;

/// Of the writes that depend on nothing, those whose reply does.
const REPLIES_WHAT_WAS: &[&str] = &["del", "unlink"];

/// What runs at one coordinator in one go.
pub(super) struct Work {
    /// Commands with their words; one, or those of a transaction.
    pub(super) steps: SmallVec<[(&'static Spec, OwnedArgs); 1]>,
    /// For a transaction: its watched keys, with what was seen of them.
    pub(super) transaction: Option<Vec<(Bytes, Bytes)>>,
}

impl Work {
    /// One command.
    pub(super) fn of(spec: &'static Spec, words: OwnedArgs) -> Self {
        Self {
            steps: smallvec![(spec, words)],
            transaction: None,
        }
    }

    /// The keys of all commands.
    pub(super) fn keys(&self) -> SmallVec<[&[u8]; 4]> {
        let mut keys = SmallVec::new();
        for (spec, words) in &self.steps {
            let args = words.as_args();
            let positions = spec.key_positions(args.len());
            keys.extend(positions.into_iter().map(|position| args.at(position)));
        }
        keys
    }

    pub(super) fn writes(&self) -> bool {
        self.steps.iter().any(|(spec, _)| spec.has(Flags::WRITE))
    }

    /// Whether it depends on nothing that was there before.
    fn says_what_shall_be(&self) -> bool {
        match self.steps.as_slice() {
            [(spec, words)] if self.transaction.is_none() => {
                says_what_shall_be(spec, words.as_args())
            }
            _ => false,
        }
    }

    /// Whether it needs not even look, for its reply.
    fn is_blind(&self) -> bool {
        let name = self.steps.first().map_or("", |(spec, _)| spec.name);
        self.says_what_shall_be() && !REPLIES_WHAT_WAS.contains(&name)
    }

    /// Whether it can run again where it may have run, as of when it was sent first.
    pub(super) fn may_repeat(&self) -> bool {
        self.is_blind()
    }

    /// Whether it takes space on the disk.
    pub(super) fn grows(&self) -> bool {
        self.steps.iter().any(|(spec, _)| spec.has(Flags::DENYOOM))
    }

    /// What it must not miss: its connection's own writes of the same keys.
    pub(super) fn own_writes(&self, who: &Who) -> Vec<Wrote> {
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

/// Whether a write depends on nothing that was there before.
fn says_what_shall_be(spec: &Spec, args: Args<'_>) -> bool {
    const ALWAYS: &[&str] = &["setex", "psetex", "mset", "del", "unlink"];
    let depends = |nth: usize| {
        ["NX", "XX", "GET", "KEEPTTL"]
            .iter()
            .any(|word| args.is(nth, word))
    };
    ALWAYS.contains(&spec.name) || spec.name == "set" && !(3..args.len()).any(depends)
}

/// Runs work here: this node coordinates its keys.
pub(super) async fn coordinate(
    node: Arc<Node>,
    coordinator: Arc<Coordinator>,
    who: Who,
    work: Work,
) -> BytesMut {
    let keys = work.keys();
    let quorum_of = |key: &[u8]| coordinator.quorum_of(key, who.quorum);
    let writes = work.writes();
    let lanes = node.lanes.of(keys.iter().copied());
    let turns = node.lanes.enter(&lanes, writes).await;
    for key in &keys {
        let wanted = match quorum_of(key) {
            Quorum { w, .. } if writes => w,
            Quorum { r, .. } if coordinator.is_strict(key) => r,
            _ => continue,
        };
        let grows = work.grows();
        if let Err(error) = coordinator.check_reachable(key, wanted, grows) {
            // It is no fault of the network where all that is missing is room.
            let has_no_room = grows && coordinator.check_reachable(key, wanted, false).is_ok();
            let error = if has_no_room {
                QuorumError::NotStored
            } else {
                error
            };
            return quorum_reply(&node, &who, error);
        }
    }
    // What the look brings here, where it does not belong, must be here when the work begins.
    let kept: SmallVec<[_; 1]> = keys
        .iter()
        .filter(|key| !coordinator.holds(key))
        .map(|key| node.replica.keep(key))
        .collect();
    let blind = match look(&node, &coordinator, &who, &work, &keys).await {
        Ok(blind) => blind,
        Err(error) => return quorum_reply(&node, &who, error),
    };
    let watched = work.transaction.iter().flatten().map(|(key, _)| &key[..]);
    // Nobody who reads sees a part of it.
    let alone = work.transaction.is_some() || writes && keys.len() > 1;
    let wanted = node
        .gate
        .of_keys(keys.iter().copied().chain(watched), alone);
    let passing = node.gate.enter(&wanted).await;
    if who.patience(coordinator.within()).is_zero() {
        return quorum_reply(&node, &who, QuorumError::TooLate);
    }
    let gathering = (alone && writes).then(|| node.replica.gather(keys.iter().copied()));
    let Ran {
        reply,
        written,
        seen,
    } = run_all(&node, &who, &work);
    drop(gathering);
    drop(passing);
    drop(kept);
    let replicate = |written: &Written| {
        written.delta.as_deref().map(|delta| {
            let w = quorum_of(&delta.name).w;
            // Of a key that another coordinates he has to know at once.
            let hoped = if coordinator.coordinates(&delta.name) {
                w
            } else {
                w.max(coordinator.answering_owners(&delta.name))
            };
            coordinator.replicate(delta, Wait { w, hoped }, blind)
        })
    };
    let copies: SmallVec<[_; 1]> = written.iter().map(replicate).collect();
    drop(turns);
    for delta in written.iter().filter_map(|w| w.delta.as_deref()) {
        let actor = node.replica.actor();
        let seq = delta.object.context().last(actor);
        who.own.note(Wrote {
            db: delta.db,
            name: delta.name.clone(),
            dot: Dot { actor, seq },
            at: node.replica.time(),
        });
    }
    if written.is_empty() {
        return match are_committed(&node, &seen).await {
            Ok(()) => reply,
            // It is not stored here; a quorum had it, or is being sent it.
            Err(_) if !writes => reply,
            Err(error) => error_reply(&who, &error),
        };
    }
    let is_refused = work.transaction.is_none() && reply.first() == Some(&b'-');
    let heres: SmallVec<[_; 1]> = copies
        .iter()
        .map(|copy| copy.as_ref().map(Replicating::here))
        .collect();
    match is_kept(&node, &written, copies, &heres).await {
        // It was refused in the middle.
        Ok(()) if is_refused => quorum_reply(&node, &who, QuorumError::Partly),
        Ok(()) if are_committed(&node, &seen).await.is_ok() => reply,
        Ok(()) => error_reply(&who, &Error::InDoubt),
        Err(error) => {
            forget_own(&node, &who, &written, &heres);
            let error =
                if error == Error::MisConf && !heres.iter().flatten().all(|h| h.is_nowhere()) {
                    // Of several writes some are.
                    QuorumError::Partly.into()
                } else {
                    error
                };
            node.stats.count_error(&error);
            error_reply(&who, &error)
        }
    }
}

/// The connection need not wait for what is nowhere.
fn forget_own(node: &Node, who: &Who, written: &[Written], heres: &[Option<Arc<Here>>]) {
    let actor = node.replica.actor();
    let nowhere = |here: &Option<Arc<Here>>| here.as_ref().is_some_and(|here| here.is_nowhere());
    let written = written.iter().zip(heres).filter(|(_, here)| nowhere(here));
    for delta in written.filter_map(|(w, _)| w.delta.as_deref()) {
        let seq = delta.object.context().last(actor);
        who.own.forget(delta.db, &delta.name, Dot { actor, seq });
    }
}

/// Waits until so many have what was written as shall: this node's own copy is one of those that count.
async fn is_kept(
    node: &Arc<Node>,
    written: &[Written],
    copies: SmallVec<[Option<Replicating>; 1]>,
    heres: &[Option<Arc<Here>>],
) -> Result<(), Error> {
    // Others with writes for the same batch queue theirs first.
    tokio::task::yield_now().await;
    for write in written {
        node.replica.store().kick(write.shard);
    }
    let here = pin!(report(node, written, heres));
    let decided = pin!(async {
        let mut again: SmallVec<[Written; 1]> = SmallVec::new();
        for copy in copies.into_iter().flatten() {
            again.extend(copy.decided().await?);
        }
        Ok::<_, QuorumError>(again)
    });
    let again = match select(here, decided).await {
        Either::Left((here, decided)) => {
            here?;
            decided.await?
        }
        Either::Right((decided, here)) => {
            if heres.iter().any(Option::is_none) {
                here.await?;
            }
            decided?
        }
    };
    // What was written instead counts as this node's copy, too; others have it.
    commit(node, &again).await.map_err(|_| {
        Error::from(QuorumError::WriteShort {
            stored: again.len(),
            wanted: again.len() + 1,
        })
    })
}

/// Reports the fates of this node's copies to those who count; an error where nobody does.
async fn report(
    node: &Node,
    written: &[Written],
    heres: &[Option<Arc<Here>>],
) -> Result<(), Error> {
    let store = node.replica.store();
    let fate = |(write, here): (&Written, &Option<Arc<Here>>)| {
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
    let fates = written.iter().zip(heres).map(fate);
    if written.len() == 1 {
        for fate in fates {
            fate.await?;
        }
        return Ok(());
    }
    join_all(fates).await.into_iter().collect()
}

/// Sees to it that this node has seen what the work has to see. Whether it need not look: then it
/// finds out afterwards whether there was something to see.
async fn look(
    node: &Arc<Node>,
    coordinator: &Arc<Coordinator>,
    who: &Who,
    work: &Work,
    keys: &[&[u8]],
) -> Result<bool, QuorumError> {
    // A write that two others could have missed has to look.
    let meets_all = |key: &&[u8]| coordinator.writes_meet(key, who.quorum);
    let mut blind = work.is_blind() && who.since.is_none() && keys.iter().all(meets_all);
    let mut looked_at: SmallVec<[_; 2]> = keys.iter().map(|key| (who.db, *key)).collect();
    for (spec, words) in &work.steps {
        let args = words.as_args();
        let last = spec.key_positions(args.len()).last().map(|at| args.at(*at));
        looked_at.extend(other_database(spec, args).zip(last));
    }
    let watched = work.transaction.iter().flatten();
    looked_at.extend(watched.map(|(key, _)| (who.db, &key[..])));
    let mut begun: SmallVec<[_; 2]> = SmallVec::new();
    for (db, name) in looked_at {
        let writes = who.own.of(db, name);
        if let Some(newest) = writes.iter().map(|(_, at)| *at).max() {
            node.replica.observe(newest);
        }
        let own: SmallVec<[Dot; 2]> = writes.into_iter().map(|(dot, _)| dot).collect();
        // The client's own writes have to be seen before.
        let key = Key { db, name };
        blind &= own.is_empty() || node.replica.has_seen(key, &own);
        // What cannot be read has to be mended before.
        blind &= node.replica.read(key).is_ok();
        begun.push((db, name, own));
    }
    if blind {
        return Ok(true);
    }
    let begun: SmallVec<[_; 2]> = begun
        .iter()
        .map(|(db, key, own)| {
            let r = coordinator.quorum_of(key, who.quorum).r;
            coordinator.refresh(*db, key, r, own)
        })
        .collect();
    for refreshed in begun {
        match refreshed.await {
            // Better a sibling of the client's own last write than no write; but what it replies must
            // not miss that one.
            Err(QuorumError::Behind) if work.is_blind() => {}
            refreshed => refreshed?,
        }
    }
    Ok(false)
}

/// Waits until what was seen is committed.
async fn are_committed(node: &Node, seen: &[Uncommitted]) -> Result<(), Error> {
    let store = node.replica.store();
    for Uncommitted { shard, ticket } in seen {
        store.kick(*shard);
        store.progress(*shard).wait_committed(*ticket).await?;
    }
    Ok(())
}

/// What came of handlers that have run.
struct Ran {
    reply: BytesMut,
    written: Vec<Written>,
    /// Others' writes that they have read.
    seen: SmallVec<[Uncommitted; 1]>,
}

/// Runs the handlers against this node's copies. The caller keeps others out.
fn run_all(node: &Arc<Node>, who: &Who, work: &Work) -> Ran {
    let Some(watches) = &work.transaction else {
        return run_here(node, who, &work.steps[0]);
    };
    if work.steps.len() > command::MANY_WORDS {
        return command::at_length(|| run_transaction(node, who, work, watches));
    }
    run_transaction(node, who, work, watches)
}

fn run_transaction(node: &Arc<Node>, who: &Who, work: &Work, watches: &[(Bytes, Bytes)]) -> Ran {
    let mut seen = SmallVec::new();
    let mut reply = Reply::default();
    reply.set_protocol(who.protocol);
    for (key, was) in watches {
        let look = transactions::what_is_seen(key);
        let ran = run_here(node, who, &look);
        seen.extend(ran.seen);
        if ran.reply != was {
            reply.null_array();
            return Ran {
                reply: std::mem::take(reply.buffer()),
                written: Vec::new(),
                seen,
            };
        }
    }
    reply.array(work.steps.len());
    let mut written = Vec::new();
    for step in &work.steps {
        let ran = run_here(node, who, step);
        reply.buffer().extend_from_slice(&ran.reply);
        written.extend(ran.written);
        seen.extend(ran.seen);
    }
    Ran {
        reply: std::mem::take(reply.buffer()),
        written,
        seen,
    }
}

/// The database in which MOVE and COPY look for their target.
fn other_database(spec: &Spec, args: Args<'_>) -> Option<u8> {
    match spec.name {
        "move" => args.database(2).ok(),
        "copy" => (3..args.len())
            .find(|nth| args.is(*nth, "DB"))
            .and_then(|nth| args.database(nth + 1).ok()),
        _ => None,
    }
}

/// Waits until this node's part of a write is committed.
pub(in crate::command) async fn commit(node: &Node, written: &[Written]) -> Result<(), Error> {
    if written.is_empty() {
        return Ok(());
    }
    let store = node.replica.store();
    // Others with writes for the same batch queue theirs first.
    tokio::task::yield_now().await;
    for write in written {
        store.kick(write.shard);
    }
    for write in written {
        let committed = store
            .progress(write.shard)
            .wait_committed(write.ticket)
            .await;
        committed?;
    }
    Ok(())
}

/// Runs a handler against this node's copies.
fn run_here(node: &Arc<Node>, who: &Who, (spec, words): &(&'static Spec, OwnedArgs)) -> Ran {
    let mut session = Session::new(Arc::clone(&node.inner_client), true);
    session.db = who.db;
    session.since = who.since;
    let mut reply = Reply::default();
    reply.set_protocol(who.protocol);
    let mut written = Vec::new();
    let mut ctx = Ctx::new(
        node,
        &mut session,
        &mut reply,
        &mut written,
        clock::monotonic(),
    );
    // Its client's node counts it.
    ctx.is_part = true;
    command::run(&mut ctx, spec, words.as_args());
    let seen = ctx.seen.take();
    drop(ctx);
    Ran {
        reply: std::mem::take(reply.buffer()),
        written,
        seen,
    }
}
