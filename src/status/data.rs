//! Facts about what this node holds, and how it serves what it holds.

use std::sync::atomic::AtomicU64;

use super::fact::{Fact, Unit, Value, load};
use super::source::Source;
use crate::coordinator;
use crate::replica::DATABASES;

/// `# Cluster`.
pub(super) const CLUSTER: &[Fact] = &[Fact::flag(
    "cluster_enabled",
    "Whether the node is a member of a cluster.",
    |s| s.coordinator.is_some().into(),
)];

/// `# Keyspace`.
pub(super) const KEYSPACE: &[Fact] = &[Fact::gauge(
    "db*",
    Unit::None,
    "Of each database that is not empty: the keys here, and how many of them end.",
    |s| {
        let held = |number: u8| {
            let db = s.replica.database(number);
            let keys = s.replica.live_keys_so_far(db);
            let fields = || {
                let expires = s.replica.expiring_keys(db);
                vec![
                    ("keys", keys.into()),
                    ("expires", expires.into()),
                    ("avg_ttl", 0.into()),
                ]
            };
            (keys > 0).then(|| (number.to_string(), Value::Fields(fields())))
        };
        Value::Each((0..DATABASES).filter_map(held).collect())
    },
)];

/// `# Ringwood`.
pub(super) const RINGWOOD: &[Fact] = &[
    Fact::text("node_name", "The node's name for people.", |s| {
        s.name.to_owned().into()
    }),
    Fact::text("actor", "This run's name in dots.", |s| {
        s.replica.actor().to_string().into()
    }),
    Fact::gauge(
        "partitions",
        Unit::None,
        "Equal shares of the slots.",
        |s| s.replica.partitions().count().into(),
    ),
    Fact::counter(
        "write_events",
        Unit::None,
        "Dots that this run has used.",
        |s| s.replica.last_seq().into(),
    ),
    Fact::flag(
        "counting",
        "Whether keys are still counted after a start.",
        |s| (!s.replica.is_counted()).into(),
    ),
    Fact::counter(
        "row_cache_hits",
        Unit::None,
        "Rows that were found in memory.",
        |s| s.usage().hits.into(),
    ),
    Fact::counter(
        "row_cache_misses",
        Unit::None,
        "Rows that were looked for in files.",
        |s| s.usage().misses.into(),
    ),
    Fact::counter(
        "flushed_rows_reclaimed",
        Unit::None,
        "Rows below a floor that went.",
        |s| load(&s.replica.counters().flushed_rows),
    ),
    Fact::counter(
        "keys_with_many_siblings",
        Unit::None,
        "Times a key came to have many.",
        |s| load(&s.replica.counters().many_siblings),
    ),
    Fact::counter(
        "siblings_merged",
        Unit::None,
        "Siblings that went since a key had too many.",
        |s| load(&s.replica.counters().merged_siblings),
    ),
    Fact::flag(
        "disk_full",
        "Whether writes are refused for want of space.",
        |s| s.usage().disk_full.into(),
    ),
    Fact::counter(
        "forwarded_commands",
        Unit::None,
        "Commands that another member ran.",
        |s| coordinated(s, |c| &c.forwarded),
    ),
    Fact::counter(
        "quorum_reads",
        Unit::None,
        "Reads that asked other owners.",
        |s| coordinated(s, |c| &c.reads),
    ),
    Fact::counter(
        "hedged_reads",
        Unit::None,
        "Reads that asked one more, since one was slow.",
        |s| coordinated(s, |c| &c.hedged_reads),
    ),
    Fact::counter(
        "rewrites",
        Unit::None,
        "Writes tried again on what an owner had more.",
        |s| coordinated(s, |c| &c.rewrites),
    ),
    Fact::counter(
        "write_groups",
        Unit::None,
        "Messages with the writes of a turn: one to each of those that hold their keys.",
        |s| coordinated(s, |c| &c.groups),
    ),
    Fact::counter(
        "grouped_writes",
        Unit::None,
        "Writes that went in these.",
        |s| coordinated(s, |c| &c.writes_grouped),
    ),
    Fact::counter(
        "writes_fallen_out",
        Unit::None,
        "Of these, writes that went on by themselves: they wait for the disk here, or an owner refused them, had more, or did not answer.",
        |s| coordinated(s, |c| &c.writes_out),
    ),
    Fact::counter(
        "writes_alone",
        Unit::None,
        "Writes in no group: beyond 64 KiB, or an owner does not answer, has no room, is older or about to change.",
        |s| coordinated(s, |c| &c.writes_alone),
    ),
    Fact::counter(
        "shared_looks",
        Unit::None,
        "Writes that need not ask other owners, since another of the key just had.",
        |s| coordinated(s, |c| &c.looks_shared),
    ),
];

fn coordinated(source: &Source<'_>, counter: fn(&coordinator::Counters) -> &AtomicU64) -> Value {
    let coordinator = source.coordinator.map(|c| load(counter(c.counters())));
    coordinator.into()
}
