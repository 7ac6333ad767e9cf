//! This node's own part of what is asked of all members: its keys, their number, what it holds of a
//! connection's writes.

use std::sync::Arc;

use bytes::Bytes;

use super::runner::{Runner, Site};
use crate::base::blocking::off_worker;
use crate::error::Error;
use crate::logic::causal::Context;
use crate::logic::codec::Reader;
use crate::logic::place::MAX_KEY_LEN;
use crate::logic::placement::PartitionSet;
use crate::logic::record;
use crate::peer::message::{KeySpaceRequest, Response, Wrote};
use crate::replica::{ALL_DATABASES, DATABASES, Key};

/// Rows that one request looks at, at most.
const MAX_SCAN: usize = 16_384;
/// Of so many writes it is looked up at once whether they are here.
const FEW_WRITES: usize = 16;

/// Answers a question about the key space.
pub async fn answer(node: &Arc<dyn Runner>, request: KeySpaceRequest) -> Response {
    let site = node.site();
    match request {
        KeySpaceRequest::Everything => {
            let replica = Arc::clone(&site.replica);
            let everything = off_worker(move || replica.everything_written()).await;
            let mut raw = Vec::new();
            record::put_context(&mut raw, &everything);
            Response::Context(raw.into())
        }
        KeySpaceRequest::Floor { db, context } => {
            if db.is_some_and(|db| db >= DATABASES) {
                return Response::Refused("no such database".into());
            }
            match raise_floor(site, db, &context).await {
                Ok(()) => Response::Done,
                Err(error) => Response::Refused(error.to_string()),
            }
        }
        KeySpaceRequest::Counts { db } => {
            let coordinator = site.coordinator.as_ref();
            if coordinator.is_some_and(|c| c.cluster().lacks_something()) {
                return Response::Empty(Bytes::new());
            }
            let replica = Arc::clone(&site.replica);
            let live = move || replica.live_by_partition(db.min(DATABASES - 1));
            Response::Counts(off_worker(live).await)
        }
        KeySpaceRequest::Scan {
            db,
            cursor,
            count,
            partitions,
            conflicts,
        } => {
            let partitions = PartitionSet::from_bytes(&partitions);
            if let Some(coordinator) = &site.coordinator {
                let mut asked = partitions.below(site.replica.partitions().count());
                if asked.any(|partition| coordinator.cluster().lacks_of(partition)) {
                    return Response::Empty(Bytes::new());
                }
            }
            let count = usize::try_from(count).unwrap_or(MAX_SCAN).min(MAX_SCAN);
            let db = db.min(DATABASES - 1);
            scan(site, (db, conflicts), (cursor, count), partitions).await
        }
        KeySpaceRequest::Holds { writes, synced } => {
            // With appendfsync = no it might never be.
            let within = site.coordinator.as_ref().map(|c| c.within());
            let held = holds(site, writes, synced);
            let held = tokio::time::timeout(within.unwrap_or_default(), held).await;
            held.unwrap_or(Response::Counts(Vec::new()))
        }
    }
}

async fn scan(
    site: &Site,
    (db, conflicts): (u8, bool),
    (cursor, count): (u64, usize),
    partitions: PartitionSet,
) -> Response {
    site.replica.settled().await;
    let replica = Arc::clone(&site.replica);
    let wanted = move |partition| partitions.contains(partition);
    // Other requests of the same connection go on meanwhile.
    let scan = move || replica.scan_parts(db, cursor, count, conflicts, &wanted);
    match off_worker(scan).await {
        Ok((next, keys)) => Response::Keys {
            next,
            keys: keys
                .into_iter()
                .map(|(place, key)| (place, Bytes::from(key)))
                .collect(),
        },
        Err(error) => Response::Refused(error.to_string()),
    }
}

/// For each write 1 if this node holds it (on the disk, if that is asked), else 0.
pub(super) async fn holds(site: &Site, writes: Vec<Wrote>, synced: bool) -> Response {
    let (replica, are_few) = (Arc::clone(&site.replica), writes.len() <= FEW_WRITES);
    let failed = replica.failed_batches();
    let held = move || -> Vec<bool> {
        let held = |Wrote { db, name, dot, .. }: &Wrote| {
            let key = Key { db: *db, name };
            *db < ALL_DATABASES && name.len() <= MAX_KEY_LEN && replica.has_seen(key, &[*dot])
        };
        writes.iter().map(held).collect()
    };
    let held = if are_few {
        held()
    } else {
        off_worker(held).await
    };
    let replica = &site.replica;
    // What was seen is at least queued by now.
    let stored = if synced {
        replica.synced().await
    } else {
        replica.committed().await
    };
    let is_stored = stored.is_ok() && replica.failed_batches() == failed;
    let count = |held: bool| u64::from(held && is_stored);
    Response::Counts(held.into_iter().map(count).collect())
}

pub(super) fn context(raw: &[u8]) -> Result<Context, Error> {
    let mut r = Reader(raw);
    record::read_context(&mut r).map_err(|_| Error::text("ERR a member sent a broken context"))
}

/// Raises this node's floors, with every command kept out.
async fn raise_floor(site: &Site, db: Option<u8>, raw: &[u8]) -> Result<(), Error> {
    let floor = context(raw)?;
    let counting = Arc::clone(&site.replica);
    off_worker(move || counting.finish_counting()).await;
    let raising = Arc::clone(&site.replica);
    let alone = site.gate.alone().await;
    let written = off_worker(move || raising.raise_floor(db, &floor)).await?;
    // Nobody sees it before it is stored.
    site.commit(&[written]).await?;
    drop(alone);
    site.replica.spare_floors(db);
    Ok(())
}
