//! What moves from member to member, how far it is, what waits and why.
//!
//! Each member says what it takes over and gives up itself (in JSON, so that members of two versions
//! understand each other); the one that is asked puts all of it together.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use indicatif::HumanBytes;
use serde::{Deserialize, Serialize};

use crate::convergence::{Convergence, Taking};
use crate::logic::handoff::{Stage, Why};
use crate::logic::membership::Part;
use crate::peer::encode;
use crate::peer::message::{MembershipRequest, Response};

/// How long a member may take to say what it moves.
const WITHIN: Duration = Duration::from_secs(3);
/// Parts that are named for each member; those that are under way or wait for somebody come first.
const MOST_NAMED: usize = 64;

/// What moves in the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferReport {
    /// Partitions that are not yet where they shall be.
    pub unsettled: usize,
    /// What each member says.
    pub nodes: Vec<NodeTransfers>,
}

/// What one member takes over and gives up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeTransfers {
    /// Its name.
    pub node: String,
    /// Whether it said anything. If not, nothing else is known.
    pub answers: bool,
    /// Partitions that it takes over.
    pub taking: u64,
    /// Those of them that have not begun.
    pub queued: u64,
    /// Partitions that it took over since it started.
    pub taken: u64,
    /// Bytes that it copied since it started.
    pub bytes: u64,
    /// About how many bytes are left.
    pub bytes_left: u64,
    /// How many it copied a second lately.
    pub bytes_per_second: u64,
    /// How long what is left takes at that rate.
    pub seconds_left: Option<u64>,
    /// Partitions that it has and other owners have not.
    pub waiting_for_others: u64,
    /// Partitions that it owns no more and holds until their owners have them.
    pub giving_up: u64,
    /// Partitions whose copies it drops.
    pub dropping: u64,
    /// Members that it keeps hints for.
    pub hints_for: Vec<String>,
    /// Whether it leaves the cluster.
    pub leaving: bool,
    /// What it takes over, at most 64 of them.
    pub parts: Vec<PartTransfer>,
}

/// How far one partition is that a member takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartTransfer {
    /// The partition.
    pub partition: u16,
    /// Of keys with so many copies.
    pub copies: u8,
    /// `queued`, `copying`, `proving` or `waits`.
    pub stage: String,
    /// Who it is copied from.
    pub from: Option<String>,
    /// What it waits for.
    pub why: Option<String>,
    /// Rows copied.
    pub rows: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Rows in all, as far as is known.
    pub of_rows: Option<u64>,
    /// Bytes in all, as far as is known.
    pub of_bytes: Option<u64>,
    /// Whether it goes on where an earlier attempt had stopped.
    pub resumed: bool,
}

impl TransferReport {
    /// Asks all members that answer.
    pub async fn of_all(convergence: &Convergence) -> Self {
        let cluster = convergence.cluster();
        let asked = cluster.members().into_iter().map(|member| async move {
            if member.id == cluster.me() {
                return NodeTransfers::here(convergence);
            }
            let silent = NodeTransfers {
                node: member.name,
                ..NodeTransfers::default()
            };
            if !cluster.answers(member.id) {
                return silent;
            }
            let body = encode(MembershipRequest::Transfers);
            match cluster.peers().call(member.id, body, WITHIN).await {
                Ok(Response::Transfers(raw)) => serde_json::from_slice(&raw).unwrap_or(silent),
                _ => silent,
            }
        });
        Self {
            unsettled: cluster.unsettled(),
            nodes: join_all(asked).await,
        }
    }

    /// Whether anything moves or shall move.
    pub fn moves(&self) -> bool {
        self.unsettled > 0 || self.nodes.iter().any(NodeTransfers::moves)
    }
}

impl NodeTransfers {
    /// What this node takes over and gives up.
    pub fn here(convergence: &Convergence) -> Self {
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
        let name_part = |(part, taking): (&Part, &Taking)| part_of(convergence, *part, taking);
        Self {
            node: cluster.name_of(cluster.me()),
            answers: true,
            taking: taking.len() as u64,
            queued: queued as u64,
            taken: transfers.taken(),
            bytes: load(&transfers.bytes),
            bytes_left,
            bytes_per_second: rate,
            seconds_left: bytes_left.checked_div(rate),
            waiting_for_others: cluster.proven_parts().len() as u64,
            giving_up: giving.waiting,
            dropping: giving.dropping,
            hints_for: hints.iter().map(|(id, _)| cluster.name_of(*id)).collect(),
            leaving: cluster.leaves() && !cluster.is_drained(),
            parts: named.into_iter().take(MOST_NAMED).map(name_part).collect(),
        }
    }

    /// What this node answers when another member asks.
    pub fn answer(convergence: &Convergence) -> Response {
        let raw = serde_json::to_vec(&Self::here(convergence));
        Response::Transfers(raw.expect("numbers and text").into())
    }

    /// Whether it takes over or gives up anything, or leaves.
    pub fn moves(&self) -> bool {
        self.taking + self.giving() > 0 || self.leaving
    }

    /// Partitions that it holds and owns no more.
    pub fn giving(&self) -> u64 {
        self.giving_up + self.dropping
    }
}

fn part_of(convergence: &Convergence, part: Part, taking: &Taking) -> PartTransfer {
    let name = |id| convergence.cluster().name_of(id);
    let (stage, from, why) = match &taking.stage {
        Stage::Queued => ("queued", None, None),
        Stage::Copying(from) => ("copying", Some(name(*from)), None),
        Stage::Proving => ("proving", None, None),
        Stage::Waits(why) => ("waits", None, Some(said(why))),
    };
    PartTransfer {
        partition: part.1,
        copies: part.0,
        stage: stage.to_owned(),
        from,
        why,
        rows: taking.progress.rows,
        bytes: taking.progress.bytes,
        of_rows: taking.size.map(|(rows, _)| rows),
        of_bytes: taking.size.map(|(_, bytes)| bytes),
        resumed: taking.is_resumed,
    }
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

/// As a text, so that it can be aligned.
fn human(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

impl fmt::Display for TransferReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "partitions on their way: {}\n", self.unsettled)?;
        writeln!(
            f,
            "{:<16} {:>7} {:>7} {:>11} {:>11} {:>9} {:>10}",
            "member", "taken", "to take", "copied", "left", "per s", "giving up"
        )?;
        self.nodes.iter().try_for_each(|node| node.fmt(f))
    }
}

impl fmt::Display for NodeTransfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.answers {
            return writeln!(f, "{:<16} does not answer", self.node);
        }
        writeln!(
            f,
            "{:<16} {:>7} {:>7} {:>11} {:>11} {:>9} {:>10}",
            self.node,
            self.taken,
            self.taking,
            human(self.bytes),
            human(self.bytes_left),
            human(self.bytes_per_second),
            self.giving(),
        )?;
        self.parts.iter().try_for_each(|part| part.fmt(f))
    }
}

/// A line of what is under way or waits; nothing of what has not begun.
impl fmt::Display for PartTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partition = self.partition;
        match self.stage.as_str() {
            "copying" => writeln!(
                f,
                "  partition {partition}: {} of about {} from {}",
                human(self.bytes),
                human(self.of_bytes.unwrap_or(0)),
                self.from.as_deref().unwrap_or("?")
            ),
            "waits" => writeln!(
                f,
                "  partition {partition} waits: {}",
                self.why.as_deref().unwrap_or("?")
            ),
            _ => Ok(()),
        }
    }
}
