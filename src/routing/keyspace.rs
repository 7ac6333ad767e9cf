//! Commands over the whole key space, in a cluster: every member is asked for the partitions whose
//! first answering owner it is.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;

use super::args::OwnedArgs;
use super::here;
use super::reply::{at_once, error_reply};
use super::route;
use super::runner::{Later, Runner};
use super::who::Who;
use crate::coordinator::Coordinator;
use crate::error::Error;
use crate::logic::placement::{NodeId, PartitionSet};
use crate::logic::record;
use crate::peer::encode;
use crate::peer::message::{KeySpaceRequest, Response};
use crate::replica::Found;
use crate::resp::Reply;

/// So many keys are looked at at a time.
const AT_ONCE: usize = 128;
/// A member that turns out to lack keys is left out the next time.
const ATTEMPTS: usize = 3;

/// Runs a command over all keys; again, where a member turns out to lack some. Lost keys are no reason not
/// to empty everything.
pub fn begin<F, R>(node: &Arc<dyn Runner>, who: Who, empties: bool, run: F) -> Later
where
    F: Fn(All, Reply) -> R + Send + 'static,
    R: Future<Output = Result<Reply, Error>> + Send,
{
    let node = Arc::clone(node);
    let coordinator = node.site().coordinator.clone();
    let Some(coordinator) = coordinator.filter(|c| c.cluster().has_joined()) else {
        return at_once(who, Error::ClusterDown);
    };
    Box::pin(async move {
        let mut done = Err(Error::Filling);
        for _ in 0..ATTEMPTS {
            let all = All {
                node: Arc::clone(&node),
                coordinator: Arc::clone(&coordinator),
                who: who.clone(),
            };
            let mut reply = Reply::default();
            reply.set_protocol(who.protocol);
            done = if coordinator.cluster().refuses_some() && !empties {
                Err(Error::Lost)
            } else {
                run(all, reply).await
            };
            if !matches!(done, Err(Error::Filling)) {
                break;
            }
        }
        match done {
            Ok(mut reply) => std::mem::take(reply.buffer()),
            Err(error) => {
                node.count_error(&error);
                error_reply(&who, &error)
            }
        }
    })
}

/// All keys of one database of the cluster.
pub struct All {
    node: Arc<dyn Runner>,
    coordinator: Arc<Coordinator>,
    who: Who,
}

impl All {
    /// The members that answer, this node among them.
    fn members(&self) -> Vec<NodeId> {
        let cluster = self.coordinator.cluster();
        let ids = cluster.members().into_iter().map(|member| member.id);
        ids.filter(|id| cluster.answers(*id)).collect()
    }

    /// Whom to ask for which partitions.
    fn parts(&self) -> BTreeMap<NodeId, PartitionSet> {
        let mut parts: BTreeMap<NodeId, PartitionSet> = BTreeMap::new();
        for partition in 0..self.node.site().replica.partitions().count() {
            let node = self.coordinator.cluster().keeper(partition);
            parts.entry(node).or_default().insert(partition);
        }
        parts
    }

    async fn ask(&self, node: NodeId, request: &KeySpaceRequest) -> Result<Response, Error> {
        let cluster = self.coordinator.cluster();
        if node == cluster.me() {
            return match here::answer(&self.node, request.clone()).await {
                Response::Empty(_) => Err(Error::Filling),
                answer => Ok(answer),
            };
        }
        let body = encode(request.clone());
        let answer = cluster
            .peers()
            .call(node, body, self.coordinator.within() * 4)
            .await;
        if let Ok(Response::Empty(_)) = answer {
            cluster.note_empty(node);
            return Err(Error::Filling);
        }
        answer.map_err(|error| {
            cluster.failed(node, error);
            Error::Member(cluster.name_of(node))
        })
    }

    /// Empties a database or all: first everybody says what was written, then all of it is dead.
    pub async fn flush(&self, db: Option<u8>) -> Result<(), Error> {
        let mut floor = self.node.site().replica.everything_written();
        let members = self.members();
        let asked = members
            .iter()
            .map(|node| self.ask(*node, &KeySpaceRequest::Everything));
        for answer in join_all(asked).await {
            match answer? {
                Response::Context(raw) => floor.join(&here::context(&raw)?),
                other => return Err(refused(&other)),
            }
        }
        let mut raw = Vec::new();
        record::put_context(&mut raw, &floor);
        let request = KeySpaceRequest::Floor {
            db,
            context: raw.into(),
        };
        let asked = members.iter().map(|node| self.ask(*node, &request));
        for answer in join_all(asked).await {
            match answer? {
                Response::Done => {}
                other => return Err(refused(&other)),
            }
        }
        Ok(())
    }

    /// How many keys there are.
    pub async fn size(&self) -> Result<u64, Error> {
        let parts = self.parts();
        let request = KeySpaceRequest::Counts { db: self.who.db };
        let asked = parts.keys().map(|node| self.ask(*node, &request));
        let mut total = 0;
        for (answer, part) in join_all(asked).await.into_iter().zip(parts.values()) {
            let Response::Counts(counts) = answer? else {
                return Err(Error::text("ERR a member sent something else than counts"));
            };
            let counts = counts.iter().zip(0..);
            let wanted = counts.filter(|(_, partition)| part.contains(*partition));
            total += wanted.map(|(count, _)| count).sum::<u64>();
        }
        Ok(total)
    }

    /// One page over all members: up to the place that all of them have come to.
    pub async fn page(&self, cursor: u64, count: usize, conflicts: bool) -> Result<Found, Error> {
        let parts = self.parts();
        let request = |part: PartitionSet| KeySpaceRequest::Scan {
            db: self.who.db,
            cursor,
            count: count as u64,
            partitions: part.into_bytes().into(),
            conflicts,
        };
        let parts = parts.into_iter();
        let requests: Vec<(NodeId, KeySpaceRequest)> =
            parts.map(|(node, part)| (node, request(part))).collect();
        let asked = requests
            .iter()
            .map(|(node, request)| self.ask(*node, request));
        let mut found: Vec<(u64, Bytes)> = Vec::new();
        let mut upto = u64::MAX;
        for answer in join_all(asked).await {
            match answer? {
                Response::Keys { next, .. } if next != 0 && next <= cursor => {
                    return Err(Error::text("ERR a member's page does not go on"));
                }
                Response::Keys { next, keys } => {
                    found.extend(keys);
                    if next != 0 {
                        upto = upto.min(next);
                    }
                }
                other => return Err(refused(&other)),
            }
        }
        found.retain(|(place, _)| *place < upto);
        found.sort_unstable();
        Ok(Found {
            cursor: if upto == u64::MAX { 0 } else { upto },
            keys: found.into_iter().map(|(_, key)| key.to_vec()).collect(),
        })
    }

    /// What a command that looks at one key replies of each of some.
    ///
    /// # Errors
    /// The first error that it replies.
    pub async fn of_each(&self, command: &[u8], keys: &[Vec<u8>]) -> Result<Vec<BytesMut>, Error> {
        let ask = |key: &Vec<u8>| {
            let mut words = OwnedArgs::default();
            words.push(command);
            words.push(key);
            let call = self.node.call(words);
            call.map(|call| route::begin(&self.node, self.who.clone(), call))
        };
        let mut replies = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            replies.extend(join_all(some.iter().filter_map(ask)).await);
        }
        if let Some(error) = replies.iter().find(|said| said.starts_with(b"-")) {
            let text = String::from_utf8_lossy(&error[1..]).trim_end().to_owned();
            return Err(Error::Text(text.into()));
        }
        Ok(replies)
    }

    /// One key, if there is any.
    pub async fn random(&self) -> Result<Option<Vec<u8>>, Error> {
        let places = 1 << 52;
        let start = crate::replica::random_u64() % places;
        for cursor in [start, 0] {
            let mut cursor = cursor;
            loop {
                let found = self.page(cursor, 64, false).await?;
                let many = found.keys.len() as u64;
                if many > 0 {
                    let nth = (crate::replica::random_u64() % many) as usize;
                    return Ok(found.keys.into_iter().nth(nth));
                }
                cursor = found.cursor;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(None)
    }
}

fn refused(response: &Response) -> Error {
    match response {
        Response::Refused(reason) => Error::Text(format!("ERR a member refused: {reason}").into()),
        _ => Error::text("ERR a member sent something that was not asked for"),
    }
}
