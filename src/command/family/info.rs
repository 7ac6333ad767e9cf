//! INFO: the sections that monitoring tools read, and our own.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::connection::REDIS_VERSION;
use super::converge;
use super::lines::line;
use crate::base::clock;
use crate::base::resident_bytes;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{L, Row, cmd};
use crate::replica::DATABASES;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[cmd("info", -1, L, &[], "server", info, "Statistics.")];

type Section = (&'static str, fn(&Ctx<'_>, &mut String));

const SECTIONS: &[Section] = &[
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cpu", cpu),
    ("modules", |_, _| {}),
    ("commandstats", commandstats),
    ("errorstats", errorstats),
    ("latencystats", latencystats),
    ("cluster", cluster),
    ("keyspace", keyspace),
    ("ringwood", ringwood),
    ("hints", converge::hints),
    ("repairs", converge::repairs),
    ("exchanges", converge::exchanges),
    ("transfers", converge::transfers),
    ("tombstones", converge::tombstones),
    ("governor", converge::governor),
];

/// Shown only when asked for by name, `all` or `everything`.
const NOT_BY_DEFAULT: &[&str] = &["commandstats", "latencystats"];

pub(super) fn info(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let asked: Vec<String> = (1..args.len())
        .map(|n| args.text(n).to_ascii_lowercase())
        .collect();
    let has = |word: &str| asked.iter().any(|a| a == word);
    let everything = has("all") || has("everything");
    let defaults = asked.is_empty() || has("default");
    let mut text = String::new();
    for (name, write) in SECTIONS {
        let by_default = defaults && !NOT_BY_DEFAULT.contains(name);
        if !(everything || by_default || has(name)) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let title = match *name {
            "cpu" => "CPU".to_owned(),
            name => name[..1].to_ascii_uppercase() + &name[1..],
        };
        let _ = write!(text, "# {title}\r\n");
        write(ctx, &mut text);
    }
    ctx.reply.verbatim(&text);
    Ok(())
}

fn server(ctx: &Ctx<'_>, out: &mut String) {
    let now_ms = clock::now_ms();
    let uptime = now_ms.saturating_sub(ctx.node.started_ms) / 1_000;
    line(out, "redis_version", REDIS_VERSION);
    line(out, "ringwood_version", env!("CARGO_PKG_VERSION"));
    line(out, "redis_git_sha1", "00000000");
    line(out, "redis_git_dirty", 0);
    let mode = if ctx.node.site.coordinator.is_some() {
        "cluster"
    } else {
        "standalone"
    };
    line(out, "redis_mode", mode);
    line(out, "os", std::env::consts::OS);
    line(out, "arch_bits", usize::BITS);
    line(out, "multiplexing_api", "epoll");
    line(out, "process_id", std::process::id());
    line(out, "process_supervised", "no");
    line(out, "run_id", &ctx.node.run_id);
    line(out, "tcp_port", ctx.node.port);
    line(out, "server_time_usec", clock::now_us());
    line(out, "uptime_in_seconds", uptime);
    line(out, "uptime_in_days", uptime / 86_400);
    line(out, "hz", 10);
    line(out, "configured_hz", 10);
    line(out, "lru_clock", (now_ms / 1_000) & 0x00ff_ffff);
    let exe = std::env::current_exe().unwrap_or_default();
    line(out, "executable", exe.display());
    let file = ctx
        .node
        .config
        .file()
        .map(|f| f.display().to_string())
        .unwrap_or_default();
    line(out, "config_file", file);
}

fn clients(ctx: &Ctx<'_>, out: &mut String) {
    line(out, "connected_clients", ctx.node.clients.len());
    line(out, "cluster_connections", 0);
    line(out, "maxclients", ctx.node.config.number("maxclients"));
    line(out, "client_recent_max_input_buffer", 0);
    line(out, "client_recent_max_output_buffer", 0);
    line(out, "blocked_clients", 0);
    line(out, "tracking_clients", 0);
    line(out, "clients_in_timeout_table", 0);
}

fn memory(ctx: &Ctx<'_>, out: &mut String) {
    let rss = resident_bytes();
    let usage = ctx.node.replica.store().usage();
    line(out, "used_memory", rss);
    line(out, "used_memory_human", human(rss));
    line(out, "used_memory_rss", rss);
    line(out, "used_memory_rss_human", human(rss));
    let peak = ctx.node.stats.rates.peak_memory.load(Ordering::Relaxed);
    line(out, "used_memory_peak", peak.max(rss));
    line(out, "used_memory_peak_human", human(peak.max(rss)));
    line(out, "maxmemory", 0);
    line(out, "maxmemory_human", "0B");
    line(out, "maxmemory_policy", "noeviction");
    line(out, "mem_fragmentation_ratio", "1.00");
    line(out, "mem_allocator", "mimalloc");
    line(out, "object_cache_bytes", ctx.node.replica.cache_bytes());
    line(out, "write_buffer_bytes", usage.buffer_bytes);
}

fn human(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes}B"),
        1_024..1_048_576 => format!("{:.2}K", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.2}M", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2}G", bytes as f64 / 1_073_741_824.0),
    }
}

fn persistence(ctx: &Ctx<'_>, out: &mut String) {
    let usage = ctx.node.replica.store().usage();
    let health = if usage.disk_full { "err" } else { "ok" };
    line(out, "loading", 0);
    line(out, "async_loading", 0);
    line(out, "rdb_changes_since_last_save", 0);
    line(out, "rdb_bgsave_in_progress", 0);
    line(
        out,
        "rdb_last_save_time",
        ctx.node.last_save.load(Ordering::Relaxed),
    );
    line(out, "rdb_last_bgsave_status", health);
    line(out, "aof_enabled", 1);
    line(out, "aof_rewrite_in_progress", 0);
    line(out, "aof_last_bgrewrite_status", "ok");
    line(out, "aof_last_write_status", health);
    line(out, "aof_current_size", usage.disk_bytes);
}

fn stats(ctx: &Ctx<'_>, out: &mut String) {
    let stats = &ctx.node.stats;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let expired = load(&ctx.node.replica.counters().expired_keys);
    line(out, "total_connections_received", load(&stats.connections));
    line(out, "total_commands_processed", stats.total_commands());
    let rates = &stats.rates;
    let kbps = |counter| format!("{:.2}", load(counter) as f64 / 1_024.0);
    line(out, "instantaneous_ops_per_sec", load(&rates.commands));
    line(out, "total_net_input_bytes", load(&stats.input_bytes));
    line(out, "total_net_output_bytes", load(&stats.output_bytes));
    line(out, "instantaneous_input_kbps", kbps(&rates.input_bytes));
    line(out, "instantaneous_output_kbps", kbps(&rates.output_bytes));
    line(out, "rejected_connections", load(&stats.rejected));
    line(out, "expired_keys", expired);
    line(out, "evicted_keys", 0);
    line(out, "keyspace_hits", load(&stats.keyspace_hits));
    line(out, "keyspace_misses", load(&stats.keyspace_misses));
    line(out, "pubsub_channels", 0);
    line(out, "pubsub_patterns", 0);
    line(out, "latest_fork_usec", 0);
    line(
        out,
        "total_error_replies",
        stats.errors().values().sum::<u64>(),
    );
}

fn replication(ctx: &Ctx<'_>, out: &mut String) {
    line(out, "role", "master");
    line(out, "connected_slaves", 0);
    line(out, "master_failover_state", "no-failover");
    line(
        out,
        "master_replid",
        &ctx.node.run_id[..ctx.node.run_id.len().min(40)],
    );
    line(out, "master_repl_offset", ctx.node.replica.last_seq());
    line(out, "repl_backlog_active", 0);
}

fn cpu(_: &Ctx<'_>, out: &mut String) {
    // utime and stime are the 14th and 15th fields; the name before them may hold blanks.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(11).take(2).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .filter_map(|field| field.parse().ok())
        .collect();
    let secs = |nth: usize| {
        let ticks = fields.get(nth).copied().unwrap_or(0);
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    };
    line(out, "used_cpu_sys", format!("{:.6}", secs(1)));
    line(out, "used_cpu_user", format!("{:.6}", secs(0)));
}

fn commandstats(ctx: &Ctx<'_>, out: &mut String) {
    for (spec, stats) in ctx.node.specs.all().iter().zip(&ctx.node.stats.commands) {
        let calls = stats.calls.load(Ordering::Relaxed);
        if calls == 0 {
            continue;
        }
        let usec = stats.nanos.load(Ordering::Relaxed) as f64 / 1_000.0;
        let failed = stats.failed.load(Ordering::Relaxed);
        let value = format!(
            "calls={calls},usec={usec:.0},usec_per_call={:.2},rejected_calls=0,failed_calls={failed}",
            usec / calls as f64
        );
        line(out, &format!("cmdstat_{}", spec.full_name()), value);
    }
}

fn latencystats(ctx: &Ctx<'_>, out: &mut String) {
    for (spec, stats) in ctx.node.specs.all().iter().zip(&ctx.node.stats.commands) {
        if stats.calls.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let micros = |share| stats.latency.percentile(share).as_nanos() as f64 / 1_000.0;
        let value = format!(
            "p50={:.3},p99={:.3},p99.9={:.3}",
            micros(0.5),
            micros(0.99),
            micros(0.999)
        );
        line(
            out,
            &format!("latency_percentiles_usec_{}", spec.full_name()),
            value,
        );
    }
}

fn errorstats(ctx: &Ctx<'_>, out: &mut String) {
    for (prefix, count) in ctx.node.stats.errors() {
        line(
            out,
            &format!("errorstat_{prefix}"),
            format!("count={count}"),
        );
    }
}

fn cluster(ctx: &Ctx<'_>, out: &mut String) {
    let enabled = u8::from(ctx.node.site.coordinator.is_some());
    line(out, "cluster_enabled", enabled);
}

fn keyspace(ctx: &Ctx<'_>, out: &mut String) {
    for number in 0..DATABASES {
        let replica = &ctx.node.replica;
        let db = replica.database(number);
        let (keys, expires) = (replica.live_keys_so_far(db), replica.expiring_keys(db));
        if keys > 0 {
            let value = format!("keys={keys},expires={expires},avg_ttl=0");
            line(out, &format!("db{number}"), value);
        }
    }
}

fn ringwood(ctx: &Ctx<'_>, out: &mut String) {
    let replica = &ctx.node.replica;
    let counters = replica.counters();
    line(out, "node_name", &ctx.node.name);
    line(out, "actor", replica.actor());
    line(out, "partitions", replica.partitions().count());
    line(out, "storage_shards", replica.store().shards());
    line(out, "write_events", replica.last_seq());
    line(out, "counting", u8::from(!replica.is_counted()));
    line(
        out,
        "object_cache_hits",
        counters.cache_hits.load(Ordering::Relaxed),
    );
    line(
        out,
        "object_cache_misses",
        counters.cache_misses.load(Ordering::Relaxed),
    );
    line(
        out,
        "flushed_rows_reclaimed",
        counters.flushed_rows.load(Ordering::Relaxed),
    );
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    line(
        out,
        "keys_with_many_siblings",
        load(&counters.many_siblings),
    );
    line(out, "siblings_merged", load(&counters.merged_siblings));
    line(
        out,
        "disk_full",
        u8::from(replica.store().usage().disk_full),
    );
    if let Some(coordinator) = &ctx.node.site.coordinator {
        let counters = coordinator.counters();
        line(out, "forwarded_commands", load(&counters.forwarded));
        line(out, "quorum_reads", load(&counters.reads));
        line(out, "hedged_reads", load(&counters.hedged_reads));
        line(out, "rewrites", load(&counters.rewrites));
    }
}
