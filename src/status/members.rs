//! The cluster as this node sees it: who is a member, who answers, who owns how much.

use std::fmt;

use serde::Serialize;

use super::source::Source;
use crate::coordinator::Coordinator;
use crate::replica::DATABASES;

/// The state of the node and of its cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Members {
    /// This node's name.
    pub node: String,
    /// This run's name in dots.
    pub actor: String,
    /// Equal shares of the slots.
    pub partitions: u16,
    /// Keys here, in all databases.
    pub keys: u64,
    /// Bytes of files.
    pub disk_bytes: u64,
    /// Databases of the engine.
    pub shards: usize,
    /// Whether writes are refused for want of space.
    pub disk_full: bool,
    /// What a lone node has not.
    pub cluster: Option<View>,
}

/// The cluster as this node sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// Copies of a key.
    pub n: u8,
    /// Replies that a read waits for.
    pub r: u8,
    /// Acknowledgements that a write waits for.
    pub w: u8,
    /// Bytes of hints here.
    pub hint_bytes: u64,
    /// Hints that were over the limit.
    pub hints_refused: u64,
    /// Whether this node has come to a cluster.
    pub has_joined: bool,
    /// Partitions of which nobody has a complete copy.
    pub partitions_lost: usize,
    /// Everybody.
    pub members: Vec<Member>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub clients: String,
    /// Its zone.
    pub zone: String,
    /// `this`, `answers`, `silent`, `stops`, `leaves` or `left`.
    pub state: &'static str,
    /// Partitions that it owns.
    pub partitions: usize,
    /// How much it is suspected to be away (phi).
    pub phi: f64,
    /// Hints that are kept here for it.
    pub hints: u64,
}

impl Members {
    /// As the node sees it.
    pub fn of(source: &Source<'_>) -> Self {
        let replica = source.replica;
        let usage = source.usage();
        Self {
            node: source.name.to_owned(),
            actor: replica.actor().to_string(),
            partitions: replica.partitions().count(),
            keys: (0..DATABASES).map(|db| replica.live_keys_so_far(db)).sum(),
            disk_bytes: usage.disk_bytes,
            shards: replica.store().shards(),
            disk_full: usage.disk_full,
            cluster: source
                .coordinator
                .map(|coordinator| view(source, coordinator)),
        }
    }
}

fn view(source: &Source<'_>, coordinator: &Coordinator) -> View {
    let cluster = coordinator.cluster();
    let rule = cluster.options().rules.default();
    let (hint_bytes, hints_refused) = source.replica.hint_usage();
    let hints = source.replica.hint_counts();
    let members = cluster.members().into_iter().map(|member| {
        let state = match () {
            () if member.state.is_drained() => "left",
            () if !member.is_placed() => "leaves",
            () if member.id == cluster.me() => "this",
            () if cluster.stops(member.id) => "stops",
            () if cluster.answers(member.id) => "answers",
            () => "silent",
        };
        let kept = hints.iter().find(|(id, _)| *id == member.id);
        Member {
            zone: member.place().0.to_string(),
            clients: member.client_address.clone(),
            state,
            partitions: cluster.load(member.id),
            phi: cluster.suspicion(member.id).0,
            hints: kept.map_or(0, |(_, count)| *count),
            name: member.name,
        }
    });
    View {
        n: rule.n,
        r: rule.r,
        w: rule.w,
        hint_bytes,
        hints_refused,
        has_joined: cluster.has_joined(),
        partitions_lost: cluster.lost_parts().len(),
        members: members.collect(),
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = if self.disk_full {
            ", FULL: writes are refused"
        } else {
            ""
        };
        writeln!(f, "node           {}", self.node)?;
        writeln!(f, "actor          {}", self.actor)?;
        writeln!(f, "partitions     {}", self.partitions)?;
        writeln!(f, "keys           {} here", self.keys)?;
        let (bytes, shards) = (self.disk_bytes, self.shards);
        writeln!(f, "disk           {bytes} bytes in {shards} shards{full}")?;
        match &self.cluster {
            None => writeln!(f, "members        1 (a lone node: N = R = W = 1)"),
            Some(view) => view.fmt(f),
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n, r, w, .. } = self;
        writeln!(f, "quorum         N={n} R={r} W={w}")?;
        let (bytes, refused) = (self.hint_bytes, self.hints_refused);
        writeln!(f, "hints          {bytes} bytes, {refused} refused")?;
        let alone = if self.has_joined {
            ""
        } else {
            " (not joined yet)"
        };
        writeln!(f, "members        {}{alone}", self.members.len())?;
        if self.partitions_lost > 0 {
            writeln!(
                f,
                "partitions     {} LOST: nobody has a complete copy (ringwood cluster accept-loss)",
                self.partitions_lost
            )?;
        }
        writeln!(
            f,
            "  {:<12} {:<22} {:<10} {:<8} {:>10} {:>6} {:>8}",
            "name", "clients", "zone", "state", "partitions", "phi", "hints"
        )?;
        self.members.iter().try_for_each(|member| member.fmt(f))
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<12} {:<22} {:<10} {:<8} {:>10} {:>6.1} {:>8}",
            self.name, self.clients, self.zone, self.state, self.partitions, self.phi, self.hints
        )
    }
}
