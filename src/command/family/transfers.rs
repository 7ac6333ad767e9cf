//! RINGWOOD TRANSFERS: what moves from node to node, how far it is, what waits and why.
//!
//! Every member says what it takes over and gives up itself; whoever is asked puts all of it together.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::command::context::{Ctx, Outcome};
use crate::command::row::{L, NO_MULTI, OWN, Row, sub};
use crate::convergence::{Convergence, Taking};
use crate::error::Error;
use crate::logic::handoff::{Stage, Why};
use crate::logic::membership::Part;
use crate::peer::encode;
use crate::peer::message::{MembershipRequest, Response};
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[sub(
    "ringwood",
    "transfers",
    -2,
    L.and(OWN).and(NO_MULTI),
    transfers,
    "What moves from node to node, how far it is, what waits and why.",
)];

const WITHIN: Duration = Duration::from_secs(3);
/// Parts that are named for each node; those that are under way or wait for somebody come first.
const MOST_NAMED: usize = 64;

/// RINGWOOD TRANSFERS [JSON].
pub(super) fn transfers(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let as_json = match args.get(2) {
        None => false,
        Some(_) if args.is(2, "JSON") && args.len() == 3 => true,
        Some(_) => return Err(Error::Syntax),
    };
    let convergence = ctx.node.convergence.clone();
    ctx.reply_later(async move {
        let (unsettled, nodes) = match &convergence {
            Some(convergence) => {
                let unsettled = convergence.cluster().unsettled();
                (unsettled, of_all(convergence).await)
            }
            None => (0, Vec::new()),
        };
        Ok::<String, Infallible>(if as_json {
            json!({ "unsettled": unsettled, "nodes": nodes }).to_string() + "\n"
        } else {
            shown(unsettled, &nodes)
        })
    });
    Ok(())
}

async fn of_all(convergence: &Arc<Convergence>) -> Vec<Value> {
    let cluster = convergence.cluster();
    let asked = cluster.members().into_iter().map(|member| async move {
        if member.id == cluster.me() {
            return here(convergence);
        }
        let silent = json!({ "node": member.name, "answers": false });
        if !cluster.answers(member.id) {
            return silent;
        }
        let body = encode(MembershipRequest::Transfers);
        match cluster.peers().call(member.id, body, WITHIN).await {
            Ok(Response::Transfers(raw)) => serde_json::from_slice(&raw).unwrap_or(silent),
            _ => silent,
        }
    });
    join_all(asked).await
}

/// What another member asks.
/// What a node says of what moves.
pub fn answered(convergence: &Convergence) -> Response {
    Response::Transfers(here(convergence).to_string().into())
}

/// What this node takes over and gives up.
fn here(convergence: &Convergence) -> Value {
    let (cluster, transfers) = (convergence.cluster(), convergence.transfers());
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let taking = transfers.taking();
    let mut named: Vec<(&Part, &Taking)> = taking.iter().collect();
    named.sort_by_key(|(_, taking)| match taking.stage {
        Stage::Copying(_) => 0,
        Stage::Waits(_) => 1,
        Stage::Proving => 2,
        Stage::Queued => 3,
    });
    let left = |taking: &Taking| {
        let bytes = taking.size.map_or(0, |(_, bytes)| bytes);
        bytes.saturating_sub(taking.progress.bytes)
    };
    let copying = |taking: &&Taking| !taking.progress.is_whole;
    let bytes_left: u64 = taking.values().filter(copying).map(left).sum();
    let rate = transfers.rate();
    let queued = taking.values().filter(|t| t.stage == Stage::Queued).count();
    let giving = transfers.giving();
    let hints = convergence.replica().hint_counts();
    let hints_for: Vec<String> = hints.iter().map(|(id, _)| cluster.name_of(*id)).collect();
    json!({
        "node": cluster.name_of(cluster.me()),
        "answers": true,
        "taking": taking.len(),
        "queued": queued,
        "taken": transfers.taken(),
        "bytes": load(&transfers.bytes),
        "bytes_left": bytes_left,
        "bytes_per_second": rate,
        "seconds_left": bytes_left.checked_div(rate),
        "waiting_for_others": cluster.proven_parts().len(),
        "giving_up": giving.waiting,
        "dropping": giving.dropping,
        "hints_for": hints_for,
        "leaving": cluster.leaves() && !cluster.is_drained(),
        "parts": named
            .iter()
            .take(MOST_NAMED)
            .map(|(part, taking)| of_part(convergence, **part, taking))
            .collect::<Vec<Value>>(),
    })
}

fn of_part(convergence: &Convergence, part: Part, taking: &Taking) -> Value {
    let name = |id| convergence.cluster().name_of(id);
    let (stage, from, why) = match &taking.stage {
        Stage::Queued => ("queued", None, None),
        Stage::Copying(from) => ("copying", Some(name(*from)), None),
        Stage::Proving => ("proving", None, None),
        Stage::Waits(why) => ("waits", None, Some(said(why))),
    };
    json!({
        "partition": part.1,
        "copies": part.0,
        "stage": stage,
        "from": from,
        "why": why,
        "rows": taking.progress.rows,
        "bytes": taking.progress.bytes,
        "of_rows": taking.size.map(|(rows, _)| rows),
        "of_bytes": taking.size.map(|(_, bytes)| bytes),
        "resumed": taking.is_resumed,
    })
}

/// As a text, so that it can be aligned.
fn said_bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

fn said(why: &Why) -> String {
    match why {
        Why::NoSource => "nobody who has it answers".to_owned(),
        Why::Unproven { compared, needed } => {
            format!("{needed} copies must be compared, {compared} could be")
        }
        Why::Refused(reason) => reason.clone(),
    }
}

/// The same for people.
fn shown(unsettled: usize, nodes: &[Value]) -> String {
    let mut text = format!(
        "partitions on their way: {unsettled}\n\n{:<16} {:>7} {:>7} {:>11} {:>11} {:>9} {:>10}\n",
        "member", "taken", "to take", "copied", "left", "per s", "giving up"
    );
    for node in nodes {
        let number = |name: &str| node[name].as_u64().unwrap_or(0);
        let name = node["node"].as_str().unwrap_or("?");
        if node["answers"] != Value::Bool(true) {
            let _ = writeln!(text, "{name:<16} does not answer");
            continue;
        }
        let _ = writeln!(
            text,
            "{name:<16} {:>7} {:>7} {:>11} {:>11} {:>9} {:>10}",
            number("taken"),
            number("taking"),
            said_bytes(number("bytes")),
            said_bytes(number("bytes_left")),
            said_bytes(number("bytes_per_second")),
            number("giving_up") + number("dropping"),
        );
        for part in node["parts"].as_array().into_iter().flatten() {
            line_of_part(&mut text, part);
        }
    }
    text
}

fn line_of_part(text: &mut String, part: &Value) {
    let number = |name: &str| part[name].as_u64().unwrap_or(0);
    let partition = number("partition");
    let _ = match part["stage"].as_str() {
        Some("copying") => writeln!(
            text,
            "  partition {partition}: {} of about {} from {}",
            said_bytes(number("bytes")),
            said_bytes(number("of_bytes")),
            part["from"].as_str().unwrap_or("?")
        ),
        Some("waits") => writeln!(
            text,
            "  partition {partition} waits: {}",
            part["why"].as_str().unwrap_or("?")
        ),
        _ => Ok(()),
    };
}
