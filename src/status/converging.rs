//! Facts about how copies become and stay equal.

use std::sync::atomic::{AtomicU64, Ordering};

use super::fact::{Fact, Unit, Value, load};
use super::source::Source;
use crate::base::clock;
use crate::base::governor::Reason;
use crate::convergence::{Convergence, Counters, Standing, Transfers};
use crate::replica::Tombstones;

/// `# Hints`.
pub(super) const HINTS: &[Fact] = &[
    Fact::gauge(
        "hints",
        Unit::None,
        "Writes that are kept for members that are away.",
        |s| {
            let counts = s.replica.hint_counts();
            counts.iter().map(|(_, count)| count).sum::<u64>().into()
        },
    ),
    Fact::gauge(
        "hint_bytes",
        Unit::Bytes,
        "What they take; hint-limit is the most.",
        |s| s.replica.hint_usage().0.into(),
    ),
    Fact::counter(
        "hints_refused",
        Unit::None,
        "Hints that were over the limit.",
        |s| s.replica.hint_usage().1.into(),
    ),
    Fact::gauge(
        "hints_for_*",
        Unit::None,
        "Of each member that is away: hints for it.",
        |s| {
            let Some(coordinator) = s.coordinator else {
                return Value::Absent;
            };
            let name = |id| coordinator.cluster().name_of(id);
            let counts = s.replica.hint_counts().into_iter();
            Value::Each(counts.map(|(id, count)| (name(id), count.into())).collect())
        },
    ),
    Fact::counter(
        "hints_made_again",
        Unit::None,
        "Copies of others' keys that had lost their hint.",
        |s| converged(s, |c| &c.strays),
    ),
];

/// `# Repairs`.
pub(super) const REPAIRS: &[Fact] = &[
    Fact::counter(
        "read_repairs",
        Unit::None,
        "Stale copies that a read found and mended.",
        |s| {
            s.coordinator
                .map(|c| load(&c.counters().read_repairs))
                .into()
        },
    ),
    Fact::counter(
        "repaired_here",
        Unit::None,
        "Objects that exchanges brought here.",
        |s| converged(s, |c| &c.received),
    ),
    Fact::counter(
        "repaired_elsewhere",
        Unit::None,
        "Objects that exchanges sent to others.",
        |s| converged(s, |c| &c.sent),
    ),
    Fact::counter(
        "repair_bytes",
        Unit::Bytes,
        "Objects in exchanges, both ways.",
        |s| converged(s, |c| &c.object_bytes),
    ),
    Fact::counter(
        "dead_values_dropped",
        Unit::None,
        "Values that came though all owners had seen them overwritten.",
        |s| load(&s.replica.counters().dead_values),
    ),
    Fact::counter(
        "damaged_rows",
        Unit::None,
        "Stored rows that could not be read.",
        |s| load(&s.replica.counters().damaged_rows),
    ),
];

/// `# Exchanges`.
pub(super) const EXCHANGES: &[Fact] = &[
    Fact::text(
        "exchange_with",
        "With whom partitions are compared now.",
        |s| {
            let name = |(c, standing): (&Convergence, &Standing)| {
                let with = standing.with.map(|id| c.cluster().name_of(id));
                with.unwrap_or_default()
            };
            s.convergence.zip(s.standing()).map(name).into()
        },
    ),
    Fact::counter(
        "exchanges_completed",
        Unit::None,
        "Exchanges that came to their end.",
        |s| converged(s, |c| &c.completed),
    ),
    Fact::counter(
        "exchanges_aborted",
        Unit::None,
        "Exchanges that broke off.",
        |s| converged(s, |c| &c.aborted),
    ),
    Fact::counter(
        "partitions_compared",
        Unit::None,
        "Partitions whose trees were compared.",
        |s| converged(s, |c| &c.compared),
    ),
    Fact::counter(
        "partitions_differed",
        Unit::None,
        "Those of them whose roots differed.",
        |s| converged(s, |c| &c.differed),
    ),
    Fact::counter(
        "differences_settled",
        Unit::None,
        "Keys that differed at first and not a moment later.",
        |s| converged(s, |c| &c.settled),
    ),
    Fact::counter(
        "tree_bytes",
        Unit::Bytes,
        "Sums and lists of keys in exchanges, both ways.",
        |s| converged(s, |c| &c.tree_bytes),
    ),
    Fact::gauge(
        "seconds_since_everybody_took_part",
        Unit::Seconds,
        "Since the last round with all members; -1 before the first.",
        |s| {
            let ago = |ms: u64| (clock::now_ms().saturating_sub(ms) / 1_000) as i64;
            s.standing()
                .map(|standing| standing.complete_ms.map_or(-1, ago))
                .into()
        },
    ),
    Fact::flag("filled", "Whether this node has all that it owns.", |s| {
        s.convergence.map(|c| c.cluster().lacking() == 0).into()
    }),
    Fact::gauge(
        "partitions_lacking",
        Unit::None,
        "Partitions whose copy here may miss writes.",
        |s| s.convergence.map(|c| c.cluster().lacking()).into(),
    ),
    Fact::gauge(
        "partitions_lost",
        Unit::None,
        "Partitions of which nobody has a complete copy.",
        |s| s.convergence.map(|c| c.cluster().lost_parts().len()).into(),
    ),
];

/// `# Transfers`.
pub(super) const TRANSFERS: &[Fact] = &[
    Fact::gauge(
        "transfers_unsettled",
        Unit::None,
        "Partitions that are on their way.",
        |s| s.convergence.map(|c| c.cluster().unsettled()).into(),
    ),
    Fact::gauge(
        "transfers_taking",
        Unit::None,
        "Partitions that this node takes over.",
        |s| transferred(s, |t| t.taking().len() as u64),
    ),
    Fact::gauge(
        "transfers_waiting_for_others",
        Unit::None,
        "Those that are here and not with all owners.",
        |s| {
            s.convergence
                .map(|c| c.cluster().proven_parts().len())
                .into()
        },
    ),
    Fact::counter(
        "transfers_taken",
        Unit::None,
        "Partitions taken over.",
        |s| transferred(s, Transfers::taken),
    ),
    Fact::counter(
        "transfers_resumed",
        Unit::None,
        "Copies that went on where they had stopped.",
        |s| transferred(s, |t| t.resumed.load(Ordering::Relaxed)),
    ),
    Fact::counter(
        "transfer_rows",
        Unit::None,
        "Rows taken in by copying.",
        |s| transferred(s, |t| t.rows.load(Ordering::Relaxed)),
    ),
    Fact::counter(
        "transfer_bytes",
        Unit::Bytes,
        "Bytes taken in by copying.",
        |s| transferred(s, |t| t.bytes.load(Ordering::Relaxed)),
    ),
    Fact::gauge(
        "transfer_bytes_per_second",
        Unit::BytesPerSecond,
        "The rate of the last 5 s.",
        |s| transferred(s, Transfers::rate),
    ),
    Fact::gauge(
        "transfers_giving_up",
        Unit::None,
        "Partitions that this node gives up.",
        |s| transferred(s, |t| t.giving().waiting + t.giving().dropping),
    ),
    Fact::counter(
        "transfer_rows_given_up",
        Unit::None,
        "Rows of partitions that were given up.",
        |s| transferred(s, |t| t.dropped.load(Ordering::Relaxed)),
    ),
];

/// `# Tombstones`.
pub(super) const TOMBSTONES: &[Fact] = &[
    Fact::gauge(
        "tombstones",
        Unit::None,
        "Deleted keys that are remembered.",
        |s| s.convergence.map(|_| s.replica.tombstones()).into(),
    ),
    Fact::counter(
        "tombstones_dropped",
        Unit::None,
        "Tombstones that were forgotten.",
        |s| s.standing().map(|standing| standing.dropped).into(),
    ),
    Fact::gauge(
        "tombstones_young",
        Unit::None,
        "Those younger than tombstone-grace.",
        |s| {
            s.standing()
                .map(|standing| standing.tombstones.young)
                .into()
        },
    ),
    Fact::gauge(
        "tombstones_not_seen_by_all",
        Unit::None,
        "Those that some owner may not have.",
        |s| {
            s.standing()
                .map(|standing| standing.tombstones.unproven)
                .into()
        },
    ),
    Fact::gauge(
        "tombstones_hinted",
        Unit::None,
        "Those that are kept for a member that is away.",
        |s| {
            s.standing()
                .map(|standing| standing.tombstones.hinted)
                .into()
        },
    ),
    Fact::gauge(
        "oldest_tombstone_seconds",
        Unit::Seconds,
        "The oldest one's age.",
        |s| {
            let age = |ms: u64| clock::now_ms().saturating_sub(ms) / 1_000;
            s.standing()
                .and_then(|standing| standing.tombstones.oldest_ms)
                .map(age)
                .into()
        },
    ),
    Fact::text(
        "oldest_tombstone_stays_because",
        "Why it is not forgotten.",
        |s| {
            let found = s.standing().map(|standing| &standing.tombstones);
            found
                .filter(|found| found.oldest_ms.is_some())
                .map(why_it_stays)
                .into()
        },
    ),
];

fn why_it_stays(found: &Tombstones) -> &'static str {
    if found.unproven > 0 {
        "not every owner has been shown to have it"
    } else if found.hinted > 0 {
        "it is kept for a node that is away"
    } else {
        "tombstone-grace, or of what has ended two rounds with everybody, are not over"
    }
}

/// `# Governor`.
pub(super) const GOVERNOR: &[Fact] = &[
    Fact::gauge(
        "background_share_percent",
        Unit::Percent,
        "Of a core, for background work.",
        |s| Value::Decimal(s.governor.state().share as f64 / 10.0, 1),
    ),
    Fact::gauge(
        "reads_p99_us",
        Unit::Microseconds,
        "As long 99 % of reads take at most now.",
        |s| (s.governor.state().p99.as_micros() as u64).into(),
    ),
    Fact::gauge(
        "reads_p99_threshold_us",
        Unit::Microseconds,
        "Above it background work steps back.",
        |s| (s.governor.state().threshold.as_micros() as u64).into(),
    ),
    Fact::text(
        "background_share_because",
        "Why the share is what it is.",
        |s| {
            let reason = match s.governor.state().reason {
                Reason::Quiet => "too few reads to tell",
                Reason::Room => "reads are fast enough",
                Reason::Slow => "reads are slower than they may be",
            };
            reason.into()
        },
    ),
];

fn converged(source: &Source<'_>, counter: fn(&Counters) -> &AtomicU64) -> Value {
    source
        .convergence
        .map(|c| load(counter(c.counters())))
        .into()
}

fn transferred(source: &Source<'_>, count: fn(&Transfers) -> u64) -> Value {
    source.convergence.map(|c| count(c.transfers())).into()
}
