//! RINGWOOD TRANSFERS: what moves from node to node, how far it is, what waits and why.

use std::convert::Infallible;

use crate::command::context::{Ctx, Outcome};
use crate::command::row::{L, NO_MULTI, OWN, Row, sub};
use crate::routing::args::Args;
use crate::status::TransferReport;

/// The rows of this family.
pub const ROWS: &[Row] = &[sub(
    "ringwood",
    "transfers",
    -2,
    L.and(OWN).and(NO_MULTI),
    transfers,
    "What moves from node to node, how far it is, what waits and why.",
)];

/// RINGWOOD TRANSFERS [JSON].
pub(super) fn transfers(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let as_json = super::wants_json(args)?;
    let convergence = ctx.node.convergence.clone();
    ctx.reply_later(async move {
        let report = match &convergence {
            Some(convergence) => TransferReport::of_all(convergence).await,
            None => TransferReport::default(),
        };
        Ok::<String, Infallible>(if as_json {
            super::json_line(&report)
        } else {
            report.to_string()
        })
    });
    Ok(())
}
