//! When parts move: what this node owns and has not is copied and proven, what it has and does not hold
//! any more is given up. Until the end of both nobody has to do anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::base::blocking::off_worker;
use crate::base::governor::Governor;
use crate::convergence::{Convergence, ExchangeError};
use crate::logic::handoff::Stage;
use crate::logic::membership::Part;
use crate::logic::placement::NodeId;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often copies that are not this node's are looked for.
const GIVE_UP_EVERY: Duration = Duration::from_secs(1);
/// How often old owners are told that parts have switched.
const CONFIRM_EVERY: Duration = Duration::from_millis(400);
/// For how long they are given up in one go.
const GIVE_UP_FOR: Duration = Duration::from_secs(2);
/// The owners that are asked, and the engine later, have about as much to do with a dropped copy as this node.
const DROPPING_COSTS: u32 = 2;
/// So many times as long as it worked it rests at least: a twentieth of the time.
const DROPPING_RESTS: u32 = 19;
/// After something that broke off.
const PAUSE: Duration = Duration::from_millis(300);
/// Small parts are copied together up to so many bytes for each of `transfer-parallelism`, and so many.
const PIECE_BYTES: u64 = 256 << 10;
const MOST_AT_A_TIME: usize = 64;
/// Copied parts that are compared together.
const TOGETHER: usize = 32;
/// Copies of a part that moves are handed over one by one if there are no more than this.
const FEW_ROWS: u64 = 256;

/// How parts are taken over.
pub struct Options {
    /// How many are copied at a time.
    pub parallelism: usize,
    /// Bytes a second; 0 for as many as the governor leaves.
    pub rate: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Takes parts over and gives them up, until it is dropped.
pub async fn hand_off(convergence: Arc<Convergence>, options: Options) {
    let (mut given_up, mut confirmed) = (Instant::now(), Instant::now());
    let mut began: Option<Instant> = None;
    let mut gives_up = None;
    let mut looked_at = None;
    loop {
        let revision = convergence.cluster().revision().get();
        if looked_at != Some(revision) {
            let is_short = convergence.cluster().is_short();
            convergence.governor().hurry(is_short);
            looked_at = Some(revision);
        }
        let pause = match take_over(&convergence, &options).await {
            Ok(Taken::Nothing) => LOOK_EVERY,
            Ok(Taken::Some) => Duration::ZERO,
            Ok(Taken::Waits) => PAUSE,
            Err(error) => {
                tracing::warn!(%error, "taking parts over waits");
                PAUSE
            }
        };
        if confirmed.elapsed() >= CONFIRM_EVERY || convergence.cluster().lacking_parts().is_empty()
        {
            if let Err(error) = convergence.confirm().await {
                tracing::warn!(%error, "telling old owners waits");
            }
            confirmed = Instant::now();
        }
        note(&convergence, &mut began);
        if given_up.elapsed() >= GIVE_UP_EVERY {
            gives_up = give_up(&convergence, gives_up)
                .await
                .unwrap_or_else(|error| {
                    tracing::debug!(%error, "giving parts up waits");
                    None
                });
            if gives_up.is_none() {
                given_up = Instant::now();
            }
        }
        let changed = convergence.cluster().revision().reach(revision + 1);
        let _ = tokio::time::timeout(pause, changed).await;
    }
}

enum Taken {
    Nothing,
    Some,
    Waits,
}

/// Says when taking over begins and ends.
fn note(convergence: &Convergence, began: &mut Option<Instant>) {
    let parts = convergence.transfers().taking().len();
    match began {
        None if parts > 0 => *began = Some(Instant::now()),
        Some(since) if parts == 0 => {
            let transfers = convergence.transfers();
            let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            tracing::info!(
                took_ms = since.elapsed().as_millis() as u64,
                completed = load(&transfers.completed),
                rows = load(&transfers.rows),
                bytes = load(&transfers.bytes),
                "all that this node owns was taken over"
            );
            *began = None;
        }
        _ => {}
    }
}

async fn take_over(
    convergence: &Arc<Convergence>,
    options: &Options,
) -> Result<Taken, ExchangeError> {
    if !convergence.cluster().has_joined() {
        return Ok(Taken::Nothing);
    }
    let lacking = convergence.follow_lacking()?;
    if lacking.is_empty() {
        return Ok(Taken::Nothing);
    }
    convergence.learn_sizes().await;
    let taking = convergence.transfers().taking();
    let copied = |part: &&Part| taking[*part].progress.is_whole;
    let mut whole: Vec<Part> = taking.keys().filter(copied).copied().collect();
    let mut rest: Vec<Part> = taking
        .keys()
        .filter(|part| !copied(part))
        .copied()
        .collect();
    // Those that were under way go on; those that wait for somebody, or have failed, come last.
    rest.sort_by_key(|part| {
        let stage = match taking[part].stage {
            Stage::Copying(_) | Stage::Proving => 0,
            Stage::Queued => 1,
            Stage::Waits(_) => 2,
        };
        (taking[part].failures, stage)
    });
    whole.sort_by_key(|part| taking[part].failures);
    let bytes = |part: &Part| {
        taking[part]
            .size
            .map_or(PIECE_BYTES, |(_, bytes)| bytes.max(1))
    };
    rest.truncate(at_a_time(&rest, options.parallelism.max(1), bytes));
    let rate = match (options.rate)() {
        0 => 0,
        rate => (rate / rest.len().max(1) as u64).max(1),
    };
    let before = convergence.transfers().rows.load(Ordering::Relaxed);
    let at_a_time = rest.len() as u32;
    let copies = rest
        .iter()
        .map(|part| convergence.copy_some(*part, rate, at_a_time));
    let proves = !whole.is_empty() && (whole.len() >= TOGETHER || rest.is_empty());
    let proof = async {
        if proves {
            let together = &whole[..whole.len().min(TOGETHER * 8)];
            Some(convergence.prove(together).await)
        } else {
            None
        }
    };
    let (copied, mut proof) = tokio::join!(join_all(copies), proof);
    for copied in copied {
        copied?;
    }
    let is_copying = convergence.transfers().rows.load(Ordering::Relaxed) > before;
    if proof.is_none() && !whole.is_empty() && !is_copying {
        proof = Some(convergence.prove(&whole).await);
    }
    if let Some(proof) = proof {
        if proof?.is_empty() && !is_copying {
            return Ok(Taken::Waits);
        }
        return Ok(Taken::Some);
    }
    let now = convergence.transfers().taking();
    let has_moved = now.values().filter(|t| t.progress.is_whole).count() != whole.len();
    Ok(if is_copying || has_moved {
        Taken::Some
    } else {
        Taken::Waits
    })
}

/// How many of the next parts are copied together: so many, or more where they are small.
fn at_a_time(rest: &[Part], parallelism: usize, bytes: impl Fn(&Part) -> u64) -> usize {
    let enough = parallelism as u64 * PIECE_BYTES;
    let mut sum = 0;
    let small = rest.iter().take(MOST_AT_A_TIME).take_while(|part| {
        let fits = sum < enough;
        sum += bytes(part);
        fits
    });
    small.count().max(parallelism)
}

/// Looks for copies that this node holds no more, and gives them up, a part after the other.
///
/// It goes on at a row of a part, and says where to go on next time, when taking over has had its turn.
async fn give_up(
    convergence: &Arc<Convergence>,
    at: Option<(Part, Vec<u8>)>,
) -> Result<Option<(Part, Vec<u8>)>, ExchangeError> {
    let (until, mut failed) = (Instant::now() + GIVE_UP_FOR, Ok(()));
    let begin = at.as_ref().map(|(part, _)| *part);
    let strays = convergence.survey()?.into_iter();
    for (part, rows) in strays.filter(|(part, _)| begin.is_none_or(|begin| *part >= begin)) {
        let row = at.as_ref().filter(|(at, _)| *at == part);
        let row = row.map_or(Vec::new(), |(_, row)| row.clone());
        if Instant::now() > until {
            return Ok(Some((part, row)));
        }
        match give_up_part(convergence, (part, rows), row, until).await {
            Ok(Some(row)) => return Ok(Some((part, row))),
            Ok(None) => {}
            // One that fails does not hold up the others.
            Err(error) => failed = Err(error),
        }
    }
    failed.map(|()| None)
}

/// Where to go on, when it was not done in time.
async fn give_up_part(
    convergence: &Arc<Convergence>,
    (part, rows): (Part, u64),
    row: Vec<u8>,
    until: Instant,
) -> Result<Option<Vec<u8>>, ExchangeError> {
    let cluster = convergence.cluster();
    let holders = cluster.holders(part);
    let owners = holders.serving.iter().copied();
    let to: Vec<NodeId> = owners.filter(|id| cluster.answers(*id)).collect();
    if to.len() * 2 <= holders.serving.len() {
        return Ok(None);
    }
    if !holders.is_settled {
        if rows <= FEW_ROWS {
            hint(convergence, part, to).await?;
        }
        return Ok(None);
    }
    let mut from = Some(row);
    while let Some(at) = from {
        if Instant::now() > until {
            return Ok(Some(at));
        }
        let (next, took) = convergence.give_up(part, &to, at).await?;
        from = next;
        rest(convergence.governor(), took * DROPPING_COSTS).await;
    }
    Ok(None)
}

/// Dropping is in no hurry: beside reads it takes a small share even where they seem fast enough.
async fn rest(governor: &Governor, took: Duration) {
    let least = if governor.has_reads() {
        took * DROPPING_RESTS
    } else {
        Duration::ZERO
    };
    tokio::time::sleep(governor.rest_after(took).max(least)).await;
}

/// Notes to whom a few copies go.
async fn hint(
    convergence: &Arc<Convergence>,
    (owners, partition): Part,
    to: Vec<NodeId>,
) -> Result<(), ExchangeError> {
    let (replica, begun) = (Arc::clone(convergence.replica()), Instant::now());
    replica.settled().await;
    let hint = move || replica.hint_strays(owners, partition, &to, FEW_ROWS);
    let hinted = off_worker(hint).await?;
    let strays = &convergence.counters().strays;
    strays.fetch_add(hinted, Ordering::Relaxed);
    convergence.governor().rest(begun.elapsed()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_are_copied_many_at_a_time_and_large_ones_few() {
        let parts: Vec<Part> = (0..256).map(|partition| (3, partition)).collect();
        assert_eq!(at_a_time(&parts, 4, |_| 11 << 10), MOST_AT_A_TIME);
        assert_eq!(at_a_time(&parts, 4, |_| 128 << 10), 8);
        assert_eq!(at_a_time(&parts, 4, |_| 64 << 20), 4);
    }
}
