//! Deltas of many keys that come in one message: each is taken in by itself, and one answer says which were not.

use std::sync::Arc;

use super::take::{outdated, refusal, take_in};
use crate::command::Node;
use crate::peer::Answer;
use crate::peer::message::{Deltas, OneDelta, Response};
use crate::replica::{Join, Written};
use crate::storage::Ticket;

/// What has become of some of them so far.
#[derive(Default)]
struct Taken {
    /// Those that wait for their commit, by number.
    written: Vec<(u64, usize, Ticket)>,
    /// Those that were not taken.
    exceptions: Vec<(u64, Response)>,
}

impl Taken {
    fn note(&mut self, nth: u64, outcome: Result<Written, Response>) {
        match outcome {
            Ok(Written { shard, ticket, .. }) => self.written.push((nth, shard, ticket)),
            Err(refused) => self.exceptions.push((nth, refused)),
        }
    }
}

/// Takes them in before this returns, but for keys on which a transaction is running; the answer waits until they are
/// committed, for which [`all_started`] gives the sign.
///
/// [`all_started`]: crate::peer::Handler::all_started
pub(super) fn apply_all(
    node: Arc<Node>,
    deltas: Deltas,
    only_over_seen: bool,
    view: u64,
) -> Answer {
    let mut all = deltas.iter();
    if let Some(outdated) = all.find_map(|delta| outdated(&node, delta.name, view)) {
        return Answer::Now(outdated);
    }
    drop(all);
    let how = move |delta: &OneDelta<'_>| Join {
        only_over_seen,
        touched: delta.touched.clone(),
        ..Join::default()
    };
    let mut taken = Taken::default();
    let mut held = Vec::new();
    for (nth, delta) in (0..).zip(deltas.iter()) {
        let wanted = node.site.gate.of_keys(std::iter::once(delta.name), false);
        match node.site.gate.at_once(&wanted) {
            Some(turns) => {
                let key = (delta.db, delta.name);
                taken.note(nth, take_in(&node, key, delta.object, &how(&delta)));
                drop(turns);
            }
            None => held.push(nth),
        }
    }
    Answer::Later(Box::pin(async move {
        for (nth, delta) in (0..).zip(deltas.iter()) {
            if held.contains(&nth) {
                let key = std::iter::once(delta.name);
                let turns = node
                    .site
                    .gate
                    .enter(&node.site.gate.of_keys(key, false))
                    .await;
                let key = (delta.db, delta.name);
                let outcome = take_in(&node, key, delta.object, &how(&delta));
                drop(turns);
                if let Ok(written) = &outcome {
                    node.replica.store().kick(written.shard);
                }
                taken.note(nth, outcome);
            }
        }
        // They may have been stored when the keys had moved already: then others must have them.
        let taken = committed(&node, taken).await;
        let mut all = deltas.iter();
        let outdated = all.find_map(|delta| outdated(&node, delta.name, view));
        outdated.unwrap_or_else(|| {
            if taken.exceptions.is_empty() {
                return Response::Done;
            }
            Response::Each(taken.exceptions)
        })
    }))
}

/// Waits until the fate of all is known.
async fn committed(node: &Node, mut taken: Taken) -> Taken {
    let store = node.replica.store();
    for (nth, shard, ticket) in std::mem::take(&mut taken.written) {
        if let Err(failed) = store.progress(shard).wait_committed(ticket).await {
            taken.exceptions.push((nth, refusal(failed)));
        }
    }
    taken
}
