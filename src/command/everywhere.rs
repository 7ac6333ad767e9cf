//! Commands over the whole key space, in a cluster: every member is asked for the partitions whose
//! first answering owner it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::Node;
use super::args::OwnedArgs;
use super::distributed::{Later, Who, commit, error_reply};
use super::error::Error;
use super::keys::ScanOptions;
use super::table::Spec;
use crate::convergence::off_worker;
use crate::coordinator::Coordinator;
use crate::logic::causal::Context;
use crate::logic::codec::Reader;
use crate::logic::glob;
use crate::logic::placement::{NodeId, PartitionSet};
use crate::logic::row;
use crate::peer::encode;
use crate::peer::message::{Request, Response};
use crate::replica::Found;
use crate::resp::{Listing, Reply};

/// Who turns out to lack keys is left out the next time.
const ATTEMPTS: usize = 3;

/// Keys asked for at a time, where all are wanted.
const PAGE: usize = 4_096;

const COMMANDS: &[&str] = &[
    "conflicts",
    "dbsize",
    "flushall",
    "flushdb",
    "keys",
    "randomkey",
    "scan",
];

pub(super) fn is(spec: &Spec) -> bool {
    spec.parent.is_empty() && COMMANDS.contains(&spec.name)
}

pub(super) fn begin(node: Arc<Node>, who: Who, spec: &'static Spec, words: OwnedArgs) -> Later {
    Box::pin(async move {
        let mut reply = Reply::default();
        reply.set_protocol(who.protocol);
        let mut done = Err(Error::Filling);
        for _ in 0..ATTEMPTS {
            done = run(&node, &who, spec, &words, &mut reply).await;
            if !matches!(done, Err(Error::Filling)) {
                break;
            }
        }
        match done {
            Ok(()) => std::mem::take(reply.buffer()),
            Err(error) => {
                node.stats.count_error(&error);
                error_reply(&who, &error)
            }
        }
    })
}

async fn run(
    node: &Arc<Node>,
    who: &Who,
    spec: &'static Spec,
    words: &OwnedArgs,
    reply: &mut Reply,
) -> Result<(), Error> {
    let coordinator = node.coordinator.as_ref().ok_or(Error::ClusterDown)?;
    let args = words.as_args();
    let all = All {
        node,
        coordinator,
        db: who.db,
    };
    let is_flush = matches!(spec.name, "flushall" | "flushdb");
    if coordinator.cluster().refuses_some() && !is_flush {
        return Err(Error::Lost);
    }
    match spec.name {
        "flushall" | "flushdb" => {
            super::keys::check_flush(args)?;
            let db = (spec.name == "flushdb").then_some(who.db);
            all.flush(db).await?;
            reply.ok();
        }
        "dbsize" => reply.integer(all.size().await? as i64),
        "keys" => {
            let wanted = |key: &[u8]| glob::matches(args.at(1), key);
            let (mut listed, mut cursor) = (Listing::default(), 0);
            loop {
                let found = all.page(cursor, PAGE, false).await?;
                let wanted = found.keys.iter().filter(|key| wanted(key));
                wanted.for_each(|key| listed.bulk(key));
                cursor = found.cursor;
                if cursor == 0 {
                    break;
                }
            }
            reply.list(listed);
        }
        "randomkey" => {
            let found = all.random().await?;
            reply.bulk_or_null(found.as_deref());
        }
        name => {
            let conflicts = name == "conflicts";
            let options = ScanOptions::parse(args, !conflicts)?;
            let found = all
                .page(options.cursor(), options.count(), conflicts)
                .await?;
            super::keys::reply_page(reply, found, &options);
        }
    }
    Ok(())
}

struct All<'a> {
    node: &'a Arc<Node>,
    coordinator: &'a Arc<Coordinator>,
    db: u8,
}

impl All<'_> {
    /// The members that answer, this node among them.
    fn members(&self) -> Vec<NodeId> {
        let cluster = self.coordinator.cluster();
        let ids = cluster.members().into_iter().map(|member| member.id);
        ids.filter(|id| cluster.answers(*id)).collect()
    }

    /// Whom to ask for which partitions.
    fn parts(&self) -> BTreeMap<NodeId, PartitionSet> {
        let mut parts: BTreeMap<NodeId, PartitionSet> = BTreeMap::new();
        for partition in 0..self.node.replica.partitions().count() {
            let node = self.coordinator.cluster().keeper(partition);
            parts.entry(node).or_default().insert(partition);
        }
        parts
    }

    async fn ask(&self, node: NodeId, request: &Request) -> Result<Response, Error> {
        let cluster = self.coordinator.cluster();
        if node == cluster.me() {
            let answer = super::peer::answer(Arc::clone(self.node), node, request.clone()).await;
            return match answer {
                Response::Empty(_) => Err(Error::Filling),
                answer => Ok(answer),
            };
        }
        let body = encode(request);
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
    async fn flush(&self, db: Option<u8>) -> Result<(), Error> {
        let mut floor = self.node.replica.everything_written();
        let members = self.members();
        let asked = members
            .iter()
            .map(|node| self.ask(*node, &Request::Everything));
        for answer in join_all(asked).await {
            match answer? {
                Response::Context(raw) => floor.join(&context(&raw)?),
                other => return Err(refused(&other)),
            }
        }
        let mut raw = Vec::new();
        row::put_context(&mut raw, &floor);
        let request = Request::Floor {
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

    async fn size(&self) -> Result<u64, Error> {
        let parts = self.parts();
        let request = Request::Counts { db: self.db };
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
    async fn page(&self, cursor: u64, count: usize, conflicts: bool) -> Result<Found, Error> {
        let parts = self.parts();
        let request = |part: PartitionSet| Request::Scan {
            db: self.db,
            cursor,
            count: count as u64,
            partitions: part.into_bytes().into(),
            conflicts,
        };
        let parts = parts.into_iter();
        let requests: Vec<(NodeId, Request)> =
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

    async fn random(&self) -> Result<Option<Vec<u8>>, Error> {
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

pub(super) fn context(raw: &[u8]) -> Result<Context, Error> {
    let mut r = Reader(raw);
    row::read_context(&mut r).map_err(|_| Error::text("ERR a member sent a broken context"))
}

fn refused(response: &Response) -> Error {
    match response {
        Response::Refused(reason) => Error::Text(format!("ERR a member refused: {reason}").into()),
        _ => Error::text("ERR a member sent something that was not asked for"),
    }
}

/// Raises this node's floors, with every command kept out.
pub(super) async fn raise_floor(node: &Arc<Node>, db: Option<u8>, raw: &[u8]) -> Result<(), Error> {
    let floor = context(raw)?;
    let counting = Arc::clone(node);
    off_worker(move || counting.replica.finish_counting()).await;
    let raising = Arc::clone(node);
    let alone = node.gate.alone().await;
    let written = off_worker(move || raising.replica.raise_floor(db, &floor)).await?;
    // Nobody sees it before it is stored.
    commit(node, &[written]).await?;
    drop(alone);
    node.replica.spare_floors(db);
    Ok(())
}
