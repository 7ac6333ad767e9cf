//! Facts about commands: how many, how long, how they ended.

use super::fact::{Fact, Unit, Value, load};
use super::source::Source;
use super::stats::CommandStats;

/// `# Stats`.
pub(super) const STATS: &[Fact] = &[
    Fact::counter(
        "total_connections_received",
        Unit::None,
        "Connections accepted.",
        |s| s.stats.connections.get().into(),
    ),
    Fact::counter(
        "total_commands_processed",
        Unit::None,
        "Commands that were run.",
        |s| s.stats.total_commands().into(),
    ),
    Fact::gauge(
        "instantaneous_ops_per_sec",
        Unit::None,
        "Commands in the last second.",
        |s| s.stats.rates.commands().into(),
    ),
    Fact::counter(
        "total_net_input_bytes",
        Unit::Bytes,
        "Received from clients.",
        |s| s.stats.input_bytes.get().into(),
    ),
    Fact::counter(
        "total_net_output_bytes",
        Unit::Bytes,
        "Sent to clients.",
        |s| s.stats.output_bytes.get().into(),
    ),
    Fact::gauge(
        "instantaneous_input_kbps",
        Unit::KibibytesPerSecond,
        "Received in the last second.",
        |s| kibibytes(s.stats.rates.input_bytes()),
    ),
    Fact::gauge(
        "instantaneous_output_kbps",
        Unit::KibibytesPerSecond,
        "Sent in the last second.",
        |s| kibibytes(s.stats.rates.output_bytes()),
    ),
    Fact::counter(
        "rejected_connections",
        Unit::None,
        "Refused for maxclients or protected-mode.",
        |s| s.stats.rejected.get().into(),
    ),
    Fact::counter(
        "expired_keys",
        Unit::None,
        "Keys that had ended and were reclaimed.",
        |s| load(&s.replica.counters().expired_keys),
    ),
    Fact::counter(
        "evicted_keys",
        Unit::None,
        "Keys that this node evicted because more lived than maxmemory allows.",
        |s| s.evicted.into(),
    ),
    Fact::counter(
        "keyspace_hits",
        Unit::None,
        "Reads that found their key.",
        |s| s.stats.keyspace_hits.get().into(),
    ),
    Fact::counter("keyspace_misses", Unit::None, "Reads that did not.", |s| {
        s.stats.keyspace_misses.get().into()
    }),
    Fact::gauge(
        "pubsub_channels",
        Unit::None,
        "Channels that clients of this node listen to.",
        |s| (s.listened[0] as u64).into(),
    ),
    Fact::gauge(
        "pubsub_patterns",
        Unit::None,
        "Patterns that clients of this node listen to.",
        |s| (s.listened[1] as u64).into(),
    ),
    Fact::gauge(
        "pubsubshard_channels",
        Unit::None,
        "Shard channels that clients of this node listen to.",
        |s| (s.listened[2] as u64).into(),
    ),
    Fact::gauge(
        "tracking_total_keys",
        Unit::None,
        "Keys that clients of this node have read and are told of when they change.",
        |s| s.tracked[1].into(),
    ),
    Fact::gauge(
        "tracking_total_items",
        Unit::None,
        "The same, each as often as clients have read it.",
        |s| s.tracked[2].into(),
    ),
    Fact::gauge(
        "tracking_total_prefixes",
        Unit::None,
        "Prefixes of which clients of this node are told of every key that changes.",
        |s| s.tracked[3].into(),
    ),
    Fact::counter(
        "scripts_run",
        Unit::None,
        "Scripts that have begun to run on this node.",
        |s| s.scripts[1].into(),
    ),
    Fact::counter(
        "scripts_spread",
        Unit::None,
        "Scripts of which a command ran elsewhere: they had their keys not to themselves.",
        |s| s.scripts[2].into(),
    ),
    Fact::gauge(
        "latest_fork_usec",
        Unit::Microseconds,
        "0: nothing forks.",
        |_| 0.into(),
    ),
    Fact::counter("total_error_replies", Unit::None, "Error replies.", |s| {
        s.stats.errors().values().sum::<u64>().into()
    }),
];

/// `# Commandstats`.
pub(super) const COMMANDSTATS: &[Fact] = &[Fact::counter(
    "cmdstat_*",
    Unit::Microseconds,
    "Of each command that was run: how often, how long (usec), how often it ended in an error.",
    |s| {
        each_command(s, |stats, calls| {
            let usec = stats.nanos.get() as f64 / 1_000.0;
            vec![
                ("calls", calls.into()),
                ("usec", Value::Decimal(usec, 0)),
                ("usec_per_call", Value::Decimal(usec / calls as f64, 2)),
                ("rejected_calls", 0.into()),
                ("failed_calls", stats.failed.get().into()),
            ]
        })
    },
)];

/// `# Errorstats`.
pub(super) const ERRORSTATS: &[Fact] = &[Fact::counter(
    "errorstat_*",
    Unit::None,
    "Error replies by their first word.",
    |s| {
        let counted =
            |(prefix, count): (String, u64)| (prefix, Value::Fields(vec![("count", count.into())]));
        Value::Each(s.stats.errors().into_iter().map(counted).collect())
    },
)];

/// `# Latencystats`.
pub(super) const LATENCYSTATS: &[Fact] = &[Fact::gauge(
    "latency_percentiles_usec_*",
    Unit::Microseconds,
    "Of each command that was run: how long half, 99 % and 99.9 % took at most.",
    |s| {
        each_command(s, |stats, _| {
            let micros = |share| {
                let nanos = stats.latency.percentile(share).as_nanos();
                Value::Decimal(nanos as f64 / 1_000.0, 3)
            };
            vec![
                ("p50", micros(0.5)),
                ("p99", micros(0.99)),
                ("p99.9", micros(0.999)),
            ]
        })
    },
)];

fn each_command(
    source: &Source<'_>,
    fields: impl Fn(&CommandStats, u64) -> Vec<(&'static str, Value)>,
) -> Value {
    let run = |(name, stats): (&String, &CommandStats)| {
        let calls = stats.calls();
        (calls > 0).then(|| (name.clone(), Value::Fields(fields(stats, calls))))
    };
    let named = source.stats.names.iter().zip(&source.stats.commands);
    Value::Each(named.filter_map(run).collect())
}

fn kibibytes(bytes: u64) -> Value {
    Value::Decimal(bytes as f64 / 1_024.0, 2)
}
