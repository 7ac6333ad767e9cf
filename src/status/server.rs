//! Facts about the process: those that Redis has, too, under Redis's names.

use super::fact::{Fact, Unit, Value};
use super::source::Source;
use crate::base::clock;

/// The version of Redis that clients take this for.
pub const REDIS_VERSION: &str = "7.0.15";

/// `# Server`.
pub(super) const SERVER: &[Fact] = &[
    Fact::text(
        "redis_version",
        "The version of Redis whose behaviour clients meet.",
        |_| REDIS_VERSION.into(),
    ),
    Fact::text("ringwood_version", "This program's version.", |_| {
        env!("CARGO_PKG_VERSION").into()
    }),
    Fact::text(
        "redis_git_sha1",
        "Nothing: kept for tools that read it.",
        |_| "00000000".into(),
    ),
    Fact::flag(
        "redis_git_dirty",
        "Nothing: kept for tools that read it.",
        |_| false.into(),
    ),
    Fact::text(
        "redis_mode",
        "`cluster` of a member, `standalone` of a lone node.",
        |s| {
            let is_member = s.coordinator.is_some();
            if is_member { "cluster" } else { "standalone" }.into()
        },
    ),
    Fact::text("os", "The operating system.", |_| {
        std::env::consts::OS.into()
    }),
    Fact::gauge(
        "arch_bits",
        Unit::None,
        "The width of an address in bits.",
        |_| usize::BITS.into(),
    ),
    Fact::text("multiplexing_api", "How sockets are waited for.", |_| {
        "epoll".into()
    }),
    Fact::gauge("process_id", Unit::None, "The process.", |_| {
        std::process::id().into()
    }),
    Fact::text("process_supervised", "Nobody is told of the start.", |_| {
        "no".into()
    }),
    Fact::text("run_id", "A random name of this run of the process.", |s| {
        s.run_id.to_owned().into()
    }),
    Fact::gauge(
        "tcp_port",
        Unit::None,
        "The port that was bound for clients.",
        |s| s.port.into(),
    ),
    Fact::gauge(
        "server_time_usec",
        Unit::Microseconds,
        "This node's clock, since the epoch.",
        |_| clock::now_us().into(),
    ),
    Fact::gauge(
        "uptime_in_seconds",
        Unit::Seconds,
        "Since the start.",
        |s| uptime(s).into(),
    ),
    Fact::gauge("uptime_in_days", Unit::None, "Days since the start.", |s| {
        (uptime(s) / 86_400).into()
    }),
    Fact::gauge(
        "hz",
        Unit::None,
        "As Redis has it; nothing here goes by it.",
        |_| 10.into(),
    ),
    Fact::gauge(
        "configured_hz",
        Unit::None,
        "As Redis has it; nothing here goes by it.",
        |_| 10.into(),
    ),
    Fact::gauge(
        "lru_clock",
        Unit::Seconds,
        "The clock's lowest 24 bits.",
        |_| ((clock::now_ms() / 1_000) & 0x00ff_ffff).into(),
    ),
    Fact::text("executable", "The program's file.", |_| {
        let exe = std::env::current_exe().unwrap_or_default();
        exe.display().to_string().into()
    }),
    Fact::text(
        "config_file",
        "The file of directives; empty without one.",
        |s| {
            let file = s.config.file().map(|file| file.display().to_string());
            file.unwrap_or_default().into()
        },
    ),
];

fn uptime(source: &Source<'_>) -> u64 {
    clock::now_ms().saturating_sub(source.started_ms) / 1_000
}

/// `# Clients`.
pub(super) const CLIENTS: &[Fact] = &[
    Fact::gauge(
        "connected_clients",
        Unit::None,
        "Connections of clients.",
        |s| s.clients.into(),
    ),
    Fact::gauge(
        "cluster_connections",
        Unit::None,
        "0: members are no clients.",
        |_| 0.into(),
    ),
    Fact::gauge(
        "maxclients",
        Unit::None,
        "As many connections may be.",
        |s| s.config.number("maxclients").into(),
    ),
    Fact::gauge(
        "client_recent_max_input_buffer",
        Unit::Bytes,
        "0: not measured.",
        |_| 0.into(),
    ),
    Fact::gauge(
        "client_recent_max_output_buffer",
        Unit::Bytes,
        "0: not measured.",
        |_| 0.into(),
    ),
    Fact::gauge(
        "blocked_clients",
        Unit::None,
        "Connections that wait for a key to get something (BLPOP and its like).",
        |s| s.blocked_clients.into(),
    ),
    Fact::gauge(
        "tracking_clients",
        Unit::None,
        "Connections that are told when what they have read changes (CLIENT TRACKING).",
        |s| s.tracked[0].into(),
    ),
    Fact::gauge(
        "clients_in_timeout_table",
        Unit::None,
        "0: no command blocks yet.",
        |_| 0.into(),
    ),
];

/// `# Memory`.
pub(super) const MEMORY: &[Fact] = &[
    Fact::gauge(
        "used_memory",
        Unit::Bytes,
        "The process's resident memory.",
        |s| s.resident().into(),
    ),
    Fact::text("used_memory_human", "The same for people.", |s| {
        human(s.resident())
    }),
    Fact::gauge(
        "used_memory_rss",
        Unit::Bytes,
        "The process's resident memory.",
        |s| s.resident().into(),
    ),
    Fact::text("used_memory_rss_human", "The same for people.", |s| {
        human(s.resident())
    }),
    Fact::gauge(
        "used_memory_peak",
        Unit::Bytes,
        "The most that it was, looked at every second.",
        |s| peak(s).into(),
    ),
    Fact::text("used_memory_peak_human", "The same for people.", |s| {
        human(peak(s))
    }),
    Fact::gauge(
        "maxmemory",
        Unit::Bytes,
        "Bytes that may live on this node; 0: any number.",
        |s| s.config.number("maxmemory").into(),
    ),
    Fact::text("maxmemory_human", "The same for people.", |s| {
        human(u64::try_from(s.config.number("maxmemory")).unwrap_or(0))
    }),
    Fact::text("maxmemory_policy", "Which keys go when more live.", |s| {
        s.config.text("maxmemory-policy").into()
    }),
    Fact::gauge(
        "maxmemory_used",
        Unit::Bytes,
        "What lives on this node as maxmemory counts it, about; measured while maxmemory is set.",
        |s| s.lives_bytes.into(),
    ),
    Fact::gauge(
        "number_of_cached_scripts",
        Unit::None,
        "Scripts that this node has at hand.",
        |s| s.scripts[0].into(),
    ),
    Fact::text("mem_fragmentation_ratio", "1.00: not measured.", |_| {
        "1.00".into()
    }),
    Fact::text("mem_allocator", "The allocator.", |_| "mimalloc".into()),
    Fact::gauge(
        "row_cache_bytes",
        Unit::Bytes,
        "All rows in memory: those that files have, and those to be flushed.",
        |s| s.usage().cached_bytes.into(),
    ),
    Fact::gauge(
        "write_buffer_bytes",
        Unit::Bytes,
        "What waits in memory to be flushed.",
        |s| s.usage().buffer_bytes.into(),
    ),
];

fn peak(source: &Source<'_>) -> u64 {
    source.stats.rates.peak_memory().max(source.resident())
}

fn human(bytes: u64) -> Value {
    let text = match bytes {
        0..1_024 => format!("{bytes}B"),
        1_024..1_048_576 => format!("{:.2}K", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.2}M", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2}G", bytes as f64 / 1_073_741_824.0),
    };
    text.into()
}

/// `# Persistence`.
pub(super) const PERSISTENCE: &[Fact] = &[
    Fact::flag("loading", "0: a node that answers has loaded.", |_| {
        false.into()
    }),
    Fact::flag(
        "async_loading",
        "0: a node that answers has loaded.",
        |_| false.into(),
    ),
    Fact::gauge(
        "rdb_changes_since_last_save",
        Unit::None,
        "0: every write is stored.",
        |_| 0.into(),
    ),
    Fact::flag(
        "rdb_bgsave_in_progress",
        "0: there is no dump to be made.",
        |_| false.into(),
    ),
    Fact::gauge(
        "rdb_last_save_time",
        Unit::Seconds,
        "When SAVE ran last, since the epoch.",
        |s| s.last_save.into(),
    ),
    Fact::text(
        "rdb_last_bgsave_status",
        "`err` while writes are refused: the disk is full, or does not sync.",
        health,
    ),
    Fact::flag("aof_enabled", "1: every write is stored.", |_| true.into()),
    Fact::flag(
        "aof_rewrite_in_progress",
        "0: there is nothing to rewrite.",
        |_| false.into(),
    ),
    Fact::text(
        "aof_last_bgrewrite_status",
        "There is nothing to rewrite.",
        |_| "ok".into(),
    ),
    Fact::text(
        "aof_last_write_status",
        "`err` while writes are refused: the disk is full, or does not sync.",
        health,
    ),
    Fact::gauge(
        "aof_current_size",
        Unit::Bytes,
        "The files of the store.",
        |s| s.usage().disk_bytes.into(),
    ),
];

fn health(source: &Source<'_>) -> Value {
    if source.usage().disk_full {
        "err"
    } else {
        "ok"
    }
    .into()
}

/// `# Replication`: what tools that know Redis alone expect of a node that takes writes.
pub(super) const REPLICATION: &[Fact] = &[
    Fact::text("role", "Every node takes every command.", |_| {
        "master".into()
    }),
    Fact::gauge("connected_slaves", Unit::None, "0: nobody follows.", |_| {
        0.into()
    }),
    Fact::text("master_failover_state", "Nothing fails over.", |_| {
        "no-failover".into()
    }),
    Fact::text("master_replid", "The name of this run.", |s| {
        s.run_id[..s.run_id.len().min(40)].to_owned().into()
    }),
    Fact::counter(
        "master_repl_offset",
        Unit::None,
        "This run's write events.",
        |s| s.replica.last_seq().into(),
    ),
    Fact::flag("repl_backlog_active", "0: there is none.", |_| false.into()),
];

/// `# CPU`.
pub(super) const CPU: &[Fact] = &[
    Fact::counter("used_cpu_sys", Unit::Seconds, "Time in the kernel.", |_| {
        cpu(1)
    }),
    Fact::counter(
        "used_cpu_user",
        Unit::Seconds,
        "Time in the program.",
        |_| cpu(0),
    ),
];

/// Of the process's times the nth.
fn cpu(nth: usize) -> Value {
    // utime and stime are the 14th and 15th fields; the name before them may hold blanks.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
    let field = fields.and_then(|rest| rest.split_whitespace().nth(11 + nth));
    let ticks: u64 = field.and_then(|field| field.parse().ok()).unwrap_or(0);
    Value::Decimal(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        6,
    )
}
