//! RINGWOOD VERIFY, REPAIR and ACCEPT-LOSS: whether all copies are equal, making them so, and going on
//! with what is left.

use std::sync::Arc;
use std::time::Duration;

use crate::command::context::{Ctx, Outcome};
use crate::command::node::Node;
use crate::command::row::{L, NO_MULTI, OWN, Row, sub};
use crate::convergence::{Convergence, ExchangeError};
use crate::error::Error;
use crate::peer::encode;
use crate::peer::message::{ExchangeRequest, Response};
use crate::routing::args::Args;
use crate::status::VerifyReport;

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
        ctx.reply.verbatim(&VerifyReport::default().to_string());
        return Ok(());
    };
    let all = 0..ctx.node.replica.partitions().count();
    let partitions = partition.map_or_else(|| all.collect(), |one| vec![one]);
    ctx.reply_later(async move {
        let report = VerifyReport::of(&convergence, &partitions, &prefix).await?;
        Ok::<String, ExchangeError>(report.to_string())
    });
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
        // A member that is asked after this must know it.
        if !cluster.noted().await {
            return Err("it could not be written down".to_owned());
        }
        Ok(format!("accepted {}\n", accepted.len()))
    });
    Ok(())
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
