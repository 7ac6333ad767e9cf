//! RINGWOOD VERIFY and RINGWOOD REPAIR: whether all copies are equal, and making them so; and what
//! INFO says about convergence.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::lines::line;
use crate::base::clock;
use crate::base::governor::Reason;
use crate::command::context::{Ctx, Outcome};
use crate::command::node::Node;
use crate::command::row::{L, NO_MULTI, OWN, Row, sub};
use crate::convergence::{Convergence, ExchangeError, MOST_NAMED};
use crate::error::Error;
use crate::peer::encode;
use crate::peer::message::{ExchangeRequest, Response};
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    sub(
        "ringwood",
        "accept-loss",
        -3,
        L.and(OWN).and(NO_MULTI),
        accept_loss,
        "Says that what is left of partitions that were lost, or of all of them, is all there is.",
    ),
    sub(
        "ringwood",
        "repair",
        -2,
        L.and(OWN).and(NO_MULTI),
        repair,
        "Compares one partition or all with the other owners now, and mends them.",
    ),
    sub(
        "ringwood",
        "verify",
        -2,
        L.and(OWN).and(NO_MULTI),
        verify,
        "Whether all owners of one partition or of all hold the same, or what differs.",
    ),
];

/// How long another owner may take to mend a partition.
const REPAIR_WITHIN: Duration = Duration::from_mins(10);
/// An exchange that is under way already is waited for so often, for so long.
const ATTEMPTS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// RINGWOOD VERIFY [partition] [PREFIX p].
pub(super) fn verify(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut at = 2;
    let partition = match args.get(at) {
        Some(_) if !args.is(at, "prefix") => {
            at += 1;
            Some(partition_of(ctx.node, args, at - 1)?)
        }
        _ => None,
    };
    let prefix = match args.get(at) {
        None => Vec::new(),
        Some(_) if args.is(at, "prefix") && args.len() == at + 2 => args.at(at + 1).to_vec(),
        Some(_) => return Err(Error::Syntax),
    };
    let Some(convergence) = ctx.node.convergence.clone() else {
        ctx.reply.verbatim("compared 0\n");
        return Ok(());
    };
    let all = 0..ctx.node.replica.partitions().count();
    let partitions = partition.map_or_else(|| all.collect(), |one| vec![one]);
    ctx.reply_later(async move { verified(&convergence, &partitions, &prefix).await });
    Ok(())
}

/// RINGWOOD REPAIR [partition].
pub(super) fn repair(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 3 {
        return Err(Error::Syntax);
    }
    let partitions: Vec<u16> = match args.get(2) {
        Some(_) => vec![partition_of(ctx.node, args, 2)?],
        None => (0..ctx.node.replica.partitions().count()).collect(),
    };
    let Some(convergence) = ctx.node.convergence.clone() else {
        ctx.reply.verbatim("received 0\nsent 0\n");
        return Ok(());
    };
    ctx.reply_later(async move {
        let (mut received, mut sent) = (0, 0);
        for partition in partitions {
            let (more_received, more_sent) = repaired(&convergence, partition).await?;
            received += more_received;
            sent += more_sent;
        }
        Ok::<String, ExchangeError>(format!("received {received}\nsent {sent}\n"))
    });
    Ok(())
}

fn partition_of(node: &Node, args: Args<'_>, at: usize) -> Result<u16, Error> {
    let count = node.replica.partitions().count();
    let partition: Option<u16> = args.text(at).parse().ok();
    let invalid =
        || Error::Text(format!("ERR partition must be between 0 and {}", count - 1).into());
    partition.filter(|one| *one < count).ok_or_else(invalid)
}

/// RINGWOOD ACCEPT-LOSS partition … | ALL.
pub(super) fn accept_loss(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let is_all = args.len() == 3 && args.is(2, "all");
    let partitions: Vec<u16> = if is_all {
        Vec::new()
    } else {
        let each = (2..args.len()).map(|at| partition_of(ctx.node, args, at));
        each.collect::<Result<_, _>>()?
    };
    let Some(convergence) = ctx.node.convergence.clone() else {
        return Err(Error::text(
            "ERR This instance has cluster support disabled",
        ));
    };
    ctx.reply_later(async move {
        let cluster = convergence.cluster();
        let wanted = |partition| is_all || partitions.contains(&partition);
        let accepted = cluster.accept_loss(wanted);
        // Whoever is asked after this must know it.
        if !cluster.noted().await {
            return Err("it could not be written down".to_owned());
        }
        Ok(format!("accepted {}\n", accepted.len()))
    });
    Ok(())
}

/// A line for each thing that is not as it should be, and how many comparisons were made.
async fn verified(
    convergence: &Convergence,
    partitions: &[u16],
    prefix: &[u8],
) -> Result<String, ExchangeError> {
    let found = convergence.verify(partitions).await?;
    let cluster = convergence.cluster();
    let mut text = format!("compared {}\n", found.compared);
    let lost = cluster.lost_parts().into_iter().map(|part| part.1);
    let lost: BTreeSet<u16> = lost.collect();
    for partition in partitions.iter().filter(|one| lost.contains(one)) {
        let _ = writeln!(text, "lost {partition}");
    }
    for (node, count) in found.silent {
        let _ = writeln!(text, "silent {} {count}", cluster.name_of(node));
    }
    for mut differs in found.differs {
        let is_full = differs.keys.len() >= MOST_NAMED;
        differs.keys.retain(|(_, key)| key.starts_with(prefix));
        if differs.keys.is_empty() && !is_full {
            continue;
        }
        let [a, b] = differs.between.map(|id| cluster.name_of(id));
        let partition = differs.partition;
        let _ = writeln!(text, "differs {partition} {a} {b} {}", differs.keys.len());
        for (db, key) in differs.keys {
            let _ = writeln!(text, "key {partition} {db} {}", key.escape_ascii());
        }
    }
    Ok(text)
}

/// Has the first owner that answers mend a partition.
async fn repaired(
    convergence: &Arc<Convergence>,
    partition: u16,
) -> Result<(u64, u64), ExchangeError> {
    let cluster = convergence.cluster();
    let sizes = convergence.replica().sizes().iter();
    let most = sizes.max().copied().unwrap_or(1);
    let owners = cluster.holders((most, partition)).serving.clone();
    for attempt in 1.. {
        // The first owner owns the keys of every number of owners.
        let answering = owners.iter().copied().find(|id| cluster.answers(*id));
        let to = answering.ok_or_else(|| ExchangeError::Refused("no owner answers".into()))?;
        let done = if to == cluster.me() {
            let done = convergence.repair(partition).await;
            done.map(|exchanged| (exchanged.received, exchanged.sent))
        } else {
            let body = encode(ExchangeRequest::Repair { partition });
            match cluster.peers().call(to, body, REPAIR_WITHIN).await? {
                Response::Repaired { received, sent } => Ok((received, sent)),
                Response::Refused(reason) => Err(ExchangeError::Refused(reason)),
                _ => Err(ExchangeError::Unexpected),
            }
        };
        match done {
            Err(ExchangeError::Yielded | ExchangeError::Counting | ExchangeError::Refused(_))
                if attempt < ATTEMPTS =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
    Ok((0, 0))
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub(super) fn hints(ctx: &Ctx<'_>, out: &mut String) {
    let replica = &ctx.node.replica;
    let counts = replica.hint_counts();
    let (bytes, refused) = replica.hint_usage();
    line(out, "hints", counts.iter().map(|(_, n)| n).sum::<u64>());
    line(out, "hint_bytes", bytes);
    line(out, "hints_refused", refused);
    if let Some(coordinator) = &ctx.node.site.coordinator {
        for (node, count) in counts {
            let name = coordinator.cluster().name_of(node);
            line(out, &format!("hints_for_{name}"), count);
        }
    }
    if let Some(convergence) = &ctx.node.convergence {
        let strays = load(&convergence.counters().strays);
        line(out, "hints_made_again", strays);
    }
}

pub(super) fn repairs(ctx: &Ctx<'_>, out: &mut String) {
    if let Some(coordinator) = &ctx.node.site.coordinator {
        line(
            out,
            "read_repairs",
            load(&coordinator.counters().read_repairs),
        );
    }
    if let Some(convergence) = &ctx.node.convergence {
        let counters = convergence.counters();
        line(out, "repaired_here", load(&counters.received));
        line(out, "repaired_elsewhere", load(&counters.sent));
        line(out, "repair_bytes", load(&counters.object_bytes));
    }
    let dead = load(&ctx.node.replica.counters().dead_values);
    line(out, "dead_values_dropped", dead);
    let damaged = load(&ctx.node.replica.counters().damaged_rows);
    line(out, "damaged_rows", damaged);
}

pub(super) fn exchanges(ctx: &Ctx<'_>, out: &mut String) {
    let Some(convergence) = &ctx.node.convergence else {
        return;
    };
    let (counters, standing) = (convergence.counters(), convergence.standing());
    let with = standing.with.map(|id| convergence.cluster().name_of(id));
    line(out, "exchange_with", with.unwrap_or_default());
    line(out, "exchanges_completed", load(&counters.completed));
    line(out, "exchanges_aborted", load(&counters.aborted));
    line(out, "partitions_compared", load(&counters.compared));
    line(out, "partitions_differed", load(&counters.differed));
    line(out, "differences_settled", load(&counters.settled));
    line(out, "tree_bytes", load(&counters.tree_bytes));
    let ago = |ms: u64| clock::now_ms().saturating_sub(ms) / 1_000;
    let complete = standing.complete_ms.map(|ms| ago(ms).to_string());
    let seconds = complete.unwrap_or_else(|| "-1".to_owned());
    line(out, "seconds_since_everybody_took_part", seconds);
    let lacking = convergence.cluster().lacking();
    line(out, "filled", u8::from(lacking == 0));
    line(out, "partitions_lacking", lacking);
    let lost = convergence.cluster().lost_parts();
    line(out, "partitions_lost", lost.len());
}

pub(super) fn transfers(ctx: &Ctx<'_>, out: &mut String) {
    let Some(convergence) = &ctx.node.convergence else {
        return;
    };
    let (transfers, giving) = (convergence.transfers(), convergence.transfers().giving());
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let proven = convergence.cluster().proven_parts().len();
    for (field, count) in [
        (
            "transfers_unsettled",
            convergence.cluster().unsettled() as u64,
        ),
        ("transfers_taking", transfers.taking().len() as u64),
        ("transfers_waiting_for_others", proven as u64),
        ("transfers_taken", load(&transfers.completed)),
        ("transfers_resumed", load(&transfers.resumed)),
        ("transfer_rows", load(&transfers.rows)),
        ("transfer_bytes", load(&transfers.bytes)),
        ("transfer_bytes_per_second", transfers.rate()),
        ("transfers_giving_up", giving.waiting + giving.dropping),
        ("transfer_rows_given_up", load(&transfers.dropped)),
    ] {
        line(out, field, count);
    }
}

pub(super) fn tombstones(ctx: &Ctx<'_>, out: &mut String) {
    let Some(convergence) = &ctx.node.convergence else {
        return;
    };
    let standing = convergence.standing();
    let found = standing.tombstones;
    line(out, "tombstones", ctx.node.replica.tombstones());
    line(out, "tombstones_dropped", standing.dropped);
    line(out, "tombstones_young", found.young);
    line(out, "tombstones_not_seen_by_all", found.unproven);
    line(out, "tombstones_hinted", found.hinted);
    if let Some(oldest_ms) = found.oldest_ms {
        let age = clock::now_ms().saturating_sub(oldest_ms) / 1_000;
        line(out, "oldest_tombstone_seconds", age);
        let reason = match () {
            () if found.unproven > 0 => "not every owner has been shown to have it",
            () if found.hinted > 0 => "it is kept for a node that is away",
            () => "tombstone-grace, or of what has ended two rounds with everybody, are not over",
        };
        line(out, "oldest_tombstone_stays_because", reason);
    }
}

pub(super) fn governor(ctx: &Ctx<'_>, out: &mut String) {
    let state = ctx.node.governor.state();
    let percent = format!("{}.{}", state.share / 10, state.share % 10);
    line(out, "background_share_percent", percent);
    line(out, "reads_p99_us", state.p99.as_micros());
    line(out, "reads_p99_threshold_us", state.threshold.as_micros());
    let reason = match state.reason {
        Reason::Quiet => "too few reads to tell",
        Reason::Room => "reads are fast enough",
        Reason::Slow => "reads are slower than they may be",
    };
    line(out, "background_share_because", reason);
}
