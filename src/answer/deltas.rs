//! Deltas of many keys that come in one message: each is taken in by itself, and one answer says which were not.

use std::sync::Arc;

use super::take::{outdated, refusal, take_in};
use crate::command::Node;
use crate::peer::Answer;
use crate::peer::message::{Deltas, OneDelta, Response, WhyNot};
use crate::replica::{Join, Written};
use crate::storage::Ticket;

/// Bytes of copies in one answer, about, at most.
const MOST_BYTES: usize = 4 << 20;

/// What has become of some of them so far.
#[derive(Default)]
struct Taken {
    /// Those that wait for their commit, by number.
    written: Vec<(u64, usize, Ticket)>,
    /// Those that were not taken.
    exceptions: Vec<(u64, Response)>,
    /// The bytes of copies in them.
    bytes: usize,
}

impl Taken {
    fn note(&mut self, nth: u64, outcome: Result<Written, Response>) {
        match outcome {
            Ok(Written { shard, ticket, .. }) => self.written.push((nth, shard, ticket)),
            Err(Response::Unseen(ours)) => {
                let fits = self.bytes + ours.len() <= MOST_BYTES;
                let refused = if fits {
                    self.bytes += ours.len();
                    Response::Unseen(ours)
                } else {
                    // Nothing was stored: its sender asks again, by itself.
                    Response::NotRun(WhyNot::Busy)
                };
                self.exceptions.push((nth, refused));
            }
            Err(refused) => self.exceptions.push((nth, refused)),
        }
    }
}

/// Takes them in before this returns, but for keys on which a transaction is running; the answer waits until they are
/// committed, for which [`all_started`] gives the sign.
///
/// [`all_started`]: crate::peer::Handler::all_started
pub(super) fn apply_all(node: Arc<Node>, deltas: Deltas, view: u64) -> Answer {
    if let Some(outdated) = any_outdated(&node, &deltas, view) {
        return Answer::Now(outdated);
    }
    let how = |delta: &OneDelta<'_>| Join {
        only_over_seen: delta.only_over_seen,
        touched: delta.touched.clone(),
        ..Join::default()
    };
    let mut taken = Taken::default();
    let mut held = Vec::new();
    for (nth, (place, delta)) in (0..).zip(deltas.iter()) {
        let gate = &node.site.gate;
        let wanted = gate.of_keys(std::iter::once(delta.name), false);
        match gate.at_once(&wanted) {
            Some(turns) => {
                let key = (delta.db, delta.name);
                taken.note(nth, take_in(&node, key, delta.object, &how(&delta)));
                drop(turns);
            }
            None => held.push((nth, place)),
        }
    }
    Answer::Later(Box::pin(async move {
        for (nth, place) in held {
            let Some(delta) = deltas.at(place) else {
                continue;
            };
            let gate = &node.site.gate;
            let wanted = gate.of_keys(std::iter::once(delta.name), false);
            let turns = gate.enter(&wanted).await;
            let key = (delta.db, delta.name);
            let outcome = take_in(&node, key, delta.object, &how(&delta));
            drop(turns);
            if let Ok(written) = &outcome {
                node.replica.store().kick(written.shard);
            }
            taken.note(nth, outcome);
        }
        // They may have been stored when the keys had moved already: then others must have them.
        let taken = committed(&node, taken).await;
        any_outdated(&node, &deltas, view).unwrap_or_else(|| {
            if taken.exceptions.is_empty() {
                return Response::Done;
            }
            Response::Each(taken.exceptions)
        })
    }))
}

fn any_outdated(node: &Node, deltas: &Deltas, view: u64) -> Option<Response> {
    deltas
        .iter()
        .find_map(|(_, delta)| outdated(node, delta.name, view))
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
