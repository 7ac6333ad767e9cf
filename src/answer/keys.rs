//! One key's copies: what this node takes in, and what it gives.

use std::sync::Arc;

use bytes::Bytes;

use super::deltas::apply_all;
use super::take::{checked, outdated, refusal, take_in};
use crate::command::Node;
use crate::coordinator::Coordinator;
use crate::logic::causal::{Context, Dot};
use crate::logic::record;
use crate::peer::Answer;
use crate::peer::message::{KeyRequest, Response, WireKey};
use crate::replica::{Join, Key, Reach, Replica, ReplicaError, Uncommitted, Written};

/// Begins to answer.
pub(super) fn start(node: Arc<Node>, request: KeyRequest) -> Answer {
    match request {
        KeyRequest::Apply {
            key,
            object,
            hint_for,
            only_over_seen,
            touched,
            view,
        } => {
            if let Some(outdated) = outdated(&node, &key.name, view) {
                return Answer::Now(outdated);
            }
            let how = Join {
                hint_for,
                only_over_seen,
                touched,
                ..Join::default()
            };
            apply(node, key, object, how, view)
        }
        KeyRequest::ApplyAll { deltas, view } => apply_all(node, deltas, view),
        KeyRequest::Fetch {
            key,
            digest,
            dots,
            seen,
            view,
        } => {
            if let Some(outdated) = outdated(&node, &key.name, view) {
                return Answer::Now(outdated);
            }
            let asked = Asked { digest, dots, seen };
            let failures = node.replica.failed_batches();
            let mut fetched = fetch(&node, &key, &asked);
            let waits_for = uncommitted(&node, &key);
            if node.replica.failed_batches() != failures {
                // It may be what has just turned out not to be stored.
                fetched = fetch(&node, &key, &asked);
            }
            match waits_for {
                None => Answer::Now(fetched),
                // What nobody may see again is shown to nobody.
                Some(Uncommitted { shard, ticket }) => Answer::Later(Box::pin(async move {
                    node.replica.store().kick(shard);
                    let progress = node.replica.store().progress(shard);
                    match progress.wait_committed(ticket).await {
                        Ok(()) => fetched,
                        Err(_) => fetch(&node, &key, &asked),
                    }
                })),
            }
        }
    }
}

/// The write is ordered before this returns, where no transaction on the key is running; the answer
/// waits until it is committed, for which [`Handler::all_started`] gives the sign.
fn apply(node: Arc<Node>, at: WireKey, raw: Bytes, how: Join, view: u64) -> Answer {
    let wanted = node.site.gate.of_keys(std::iter::once(&at.name[..]), false);
    let Some(turns) = node.site.gate.at_once(&wanted) else {
        return Answer::Later(Box::pin(async move {
            let turns = node.site.gate.enter(&wanted).await;
            let written = take_in(&node, (at.db, &at.name), &raw, &how);
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
    let written = take_in(&node, (at.db, &at.name), &raw, &how);
    drop(turns);
    match written {
        Ok(written) => Answer::Later(Box::pin(async move {
            taken_in(&node, &at, view, &written).await
        })),
        Err(refused) => Answer::Now(refused),
    }
}

async fn taken_in(node: &Node, at: &WireKey, view: u64, written: &Written) -> Response {
    let progress = node.replica.store().progress(written.shard);
    match progress.wait_committed(written.ticket).await {
        // It may have been stored when the key had moved already: then others must have it.
        Ok(()) => outdated(node, &at.name, view).unwrap_or(Response::Done),
        Err(failed) => refusal(failed),
    }
}

fn uncommitted(node: &Node, key: &WireKey) -> Option<Uncommitted> {
    node.replica.uncommitted(checked((key.db, &key.name)).ok()?)
}

/// What who asks for a copy has.
struct Asked {
    digest: u64,
    dots: Vec<Dot>,
    seen: Option<Context>,
}

fn fetch(node: &Node, key: &WireKey, asked: &Asked) -> Response {
    let key = match checked((key.db, &key.name)) {
        Ok(key) => key,
        Err(refused) => return refused,
    };
    // Who reads asks one owner or another.
    node.eviction.note_use(key.name);
    let lacks = |c: &Arc<Coordinator>| {
        let (cluster, part) = (c.cluster(), c.cluster().route(key.name).part());
        // A node that asks for a proven copy knows that it counts.
        cluster.is_unsure() && cluster.lacks_part(part)
            || cluster.lacks_part(part) && !cluster.has_part(cluster.me(), part)
    };
    let lacks = node.site.coordinator.as_ref().is_some_and(lacks);
    let fetched = fetch_from(&node.replica, key, asked, lacks);
    fetched.unwrap_or_else(|error| Response::Refused(error.to_string()))
}

fn fetch_from(
    replica: &Replica,
    key: Key<'_>,
    Asked { digest, dots, seen }: &Asked,
    lacks: bool,
) -> Result<Response, ReplicaError> {
    if !lacks
        && replica
            .sight(key)
            .is_some_and(|sight| sight.known == *digest)
    {
        return Ok(Response::Same);
    }
    let head = replica.read_some(key, Reach::Head)?;
    if !lacks && replica.digest(key, &head) == *digest {
        return Ok(Response::Same);
    }
    // The asker's copy is large: it does not say one by one what lives there.
    let is_news = match seen {
        Some(seen) => !replica.knows_all(key, &head, seen),
        None => false,
    };
    if let Some(seen) = seen
        && is_news
        && !lacks
        && seen.covers(head.context())
    {
        // Whatever is here the other has, or knows to be overwritten: something is on its way here.
        return Ok(Response::Same);
    }
    let known = head.context().clone();
    // After what the partition knows: what came in between is here too.
    let object = if head.is_whole() && seen.is_none() {
        head
    } else {
        replica.read(key)?
    };
    // It may have been given up in between: then it knows nothing.
    let is_news = is_news || !object.context().covers(&known);
    if lacks {
        let left = (!object.is_unknown()).then(|| record::WIRE.encode(&object));
        return Ok(Response::Empty(left.unwrap_or_default().into()));
    }
    let mut object = Arc::unwrap_or_clone(object);
    match seen {
        // What it has and this copy has not was overwritten, by whomever: all that it has seen is known here.
        Some(seen) if !is_news => object.observe_all(seen),
        // What the other still has and everybody has seen overwritten must not come back.
        _ => object.observe(replica.dead_of(key, dots)?),
    }
    Ok(Response::Object(record::WIRE.encode(&object).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::{ActorId, Kind};
    use crate::logic::edit::{Edit, Touch};
    use crate::logic::placement::Partitions;
    use crate::logic::types::{self, element};
    use crate::replica::Options;
    use crate::storage::{MemoryStore, Store};

    const KEY: Key<'_> = Key { db: 0, name: b"k" };

    /// A node that keeps every collection as a row an element.
    fn node(actor: u64) -> Replica {
        let options = Options {
            actor: ActorId(actor),
            shared: true,
            most_in_one_row: 1,
            ..Options::alone(Partitions::new(4).expect("a power of two"))
        };
        let store = Arc::new(MemoryStore::new(1)) as Arc<dyn Store>;
        Replica::start(store, options).expect("starts").0
    }

    fn write(replica: &Replica, edit: Edit) {
        let written = replica.update_some(KEY, Reach::Head, |_, _| (edit, ()));
        written.expect("written");
    }

    fn fields(range: std::ops::Range<u32>) -> Edit {
        let put = |n| {
            Touch::put(
                element(Kind::Hash, format!("field-{n}").as_bytes()),
                "v".into(),
            )
        };
        Edit::Touch(range.map(put).collect())
    }

    fn copy(from: &Replica, to: &Replica) {
        let object = (*from.read(KEY).expect("read")).clone();
        to.join(KEY, object, &Join::default()).expect("taken");
    }

    /// What one answers to another that has a large copy, and what that makes of it.
    fn ask(asker: &Replica, answerer: &Replica) -> (bool, usize) {
        let head = asker.read_some(KEY, Reach::Head).expect("read");
        assert!(!head.is_whole());
        let asked = Asked {
            digest: asker.digest(KEY, &head),
            dots: head.all_versions().map(|version| version.dot).collect(),
            seen: Some(head.context().clone()),
        };
        let answer = fetch_from(answerer, KEY, &asked, false).expect("read");
        let is_same = answer == Response::Same;
        if let Response::Object(raw) = answer {
            let object = record::WIRE.decode(&raw).expect("an object");
            asker.join(KEY, object, &Join::default()).expect("taken");
        }
        let left = asker.read(KEY).expect("read");
        (is_same, types::len(&left, Kind::Hash))
    }

    #[test]
    fn who_has_a_large_copy_is_sent_what_it_does_not_know_and_learns_what_is_gone() {
        let (writer, asker, answerer) = (node(1), node(2), node(3));
        write(&writer, fields(0..30));
        for replica in [&asker, &answerer] {
            copy(&writer, replica);
        }
        assert_eq!(ask(&asker, &answerer), (true, 30));
        // What is on its way to the other is no news.
        write(&asker, fields(30..32));
        assert_eq!(ask(&asker, &answerer), (true, 32));
        copy(&asker, &answerer);
        write(&answerer, fields(40..50));
        assert_eq!(ask(&asker, &answerer), (false, 42));
        // All is deleted beside the asker, and who had written it is gone and forgotten.
        write(&answerer, Edit::delete());
        let everything = [1, 2, 3].map(|actor| (ActorId(actor), u64::MAX));
        let mut seen = Context::new();
        for (actor, last) in everything {
            seen.insert_interval(actor, 0, last);
        }
        let all: Vec<u16> = (0..4).collect();
        answerer.saw(1, &all, &seen).expect("seen");
        let folded = answerer.read(KEY).expect("read");
        answerer
            .join(KEY, (*folded).clone(), &Join::default())
            .expect("folded");
        assert_eq!(ask(&asker, &answerer), (false, 0));
    }
}
