//! What the directives say, for each part in its own terms.

use std::sync::Arc;
use std::time::Duration;

use super::error::StartError;
use super::host;
use crate::base::config::{Config, Prefix};
use crate::base::governor;
use crate::cluster;
use crate::command::appendfsync;
use crate::coordinator;
use crate::logic::causal::ActorId;
use crate::logic::guard;
use crate::logic::placement::Partitions;
use crate::logic::policy::{OnConflict, Policies};
use crate::logic::quorum::{Rule, Rules};
use crate::peer::Identity;
use crate::peer::message::NEWEST;
use crate::replica::{HintLimits, Options as ReplicaOptions};
use crate::storage::{DEFAULT_CACHED_FILES, DiskOptions};

/// Bounds of the write buffer where its size follows from the memory, in bytes.
const MOST_WRITE_BUFFER: u64 = 256 << 20;
const LEAST_WRITE_BUFFER: u64 = 1 << 20;

/// The partitions of the key space.
pub(super) fn partitions(config: &Config) -> Result<Partitions, StartError> {
    let count = config.number("partitions");
    let partitions = u16::try_from(count).ok().and_then(Partitions::new);
    partitions.ok_or(StartError::Partitions(count))
}

/// How many copies keys have and how many count, for all and by prefix.
pub(super) fn rules(config: &Config) -> Result<Rules, StartError> {
    let rule = |prefix: Option<&Prefix>| -> Result<Rule, StartError> {
        let number = |name| config.text_for(prefix, name).parse().unwrap_or(0);
        let rule = Rule {
            n: number("replicas-per-key"),
            r: number("read-quorum"),
            w: number("write-quorum"),
            strict: config.text_for(prefix, "quorum") == "strict",
        };
        let of = prefix.map_or(String::new(), |p| format!("[[prefix]] '{}': ", p.prefix));
        let checked = rule.check();
        checked.map_err(|reason| StartError::Quorum(of + &reason))?;
        Ok(rule)
    };
    let of_prefix = |prefix: &Prefix| Ok((prefix.prefix.clone().into_bytes(), rule(Some(prefix))?));
    let by_prefix: Result<_, StartError> = config.prefixes().iter().map(of_prefix).collect();
    Ok(Rules::new(rule(None)?, by_prefix?))
}

/// What is shown of keys with siblings, for all and by prefix.
fn policies(config: &Config) -> Policies {
    let policy = |prefix: Option<&Prefix>| {
        let named = OnConflict::named(&config.text_for(prefix, "on-conflict"));
        named.unwrap_or_default()
    };
    let of_prefix = |prefix: &Prefix| (prefix.prefix.clone().into_bytes(), policy(Some(prefix)));
    Policies::new(
        policy(None),
        config.prefixes().iter().map(of_prefix).collect(),
    )
}

fn expired_grace_ms(config: &Config) -> u64 {
    (config.number("expired-grace") as u64).saturating_mul(1_000)
}

pub(super) fn replica(
    config: &Config,
    partitions: Partitions,
    rules: Rules,
    actor: ActorId,
) -> ReplicaOptions {
    ReplicaOptions {
        rules: Arc::new(rules),
        policies: Arc::new(policies(config)),
        limits: guard::Limits {
            warn: config.number("sibling-warning") as usize,
            siblings: config.number("sibling-limit") as usize,
            bytes: config.number("sibling-bytes-limit") as u64,
        },
        actor,
        partitions,
        shared: config.is_on("cluster-enabled"),
        grace_ms: expired_grace_ms(config),
        tombstone_grace_ms: (config.number("tombstone-grace") as u64).saturating_mul(1_000),
        hints: HintLimits {
            bytes: config.number("hint-limit") as u64,
            age_ms: (config.number("hint-max-age") as u64).saturating_mul(1_000),
        },
        max_clock_drift_ms: config.number("max-clock-drift-ms") as u64,
        most_in_one_row: config.number("collection-row-size") as usize,
    }
}

fn cache_bytes(config: &Config) -> u64 {
    match config.number("cache-size") {
        0 => host::memory_bytes() / 4,
        bytes => bytes as u64,
    }
}

fn write_buffer_bytes(config: &Config) -> u64 {
    match config.number("write-buffer-size") {
        0 => (host::memory_bytes() / 8).min(MOST_WRITE_BUFFER),
        bytes => (bytes as u64).max(LEAST_WRITE_BUFFER),
    }
}

pub(super) fn disk(config: &Config) -> DiskOptions {
    DiskOptions {
        dir: config.text("dir").into(),
        partitions: config.number("partitions") as u16,
        cache_bytes: cache_bytes(config),
        appendfsync: appendfsync(&config.text("appendfsync")),
        write_buffer_bytes: write_buffer_bytes(config),
        block_cache_bytes: config.number("block-cache-size") as u64,
        min_free_bytes: config.number("min-free-disk") as u64,
        accept_damage: config.is_on("accept-damaged-store"),
        cached_files: DEFAULT_CACHED_FILES,
    }
}

/// How a member sees its cluster.
pub(super) fn cluster(
    config: &Config,
    partitions: Partitions,
    secret: &[u8],
) -> Result<cluster::Options, StartError> {
    Ok(cluster::Options {
        partitions,
        rules: rules(config)?,
        phi_threshold: config.number("phi-threshold") as f64,
        key: Identity::key_of(secret),
        reads_lost: config.text("lost-partitions") == "empty",
        wire: match config.number("peer-wire-version") {
            0 => NEWEST,
            version => version as u16,
        },
    })
}

/// How long a coordinator waits, and how often it repairs by chance.
pub(super) fn coordinator(config: &Config) -> coordinator::Options {
    coordinator::Options {
        within: Duration::from_millis(config.number("request-timeout-ms") as u64),
        read_repair_chance: config.number("read-repair-chance") as u8,
    }
}

/// How far background work may slow down what somebody waits for.
pub(super) fn governor(config: &Config) -> governor::Limits {
    governor::Limits {
        fixed: Duration::from_micros(config.number("background-p99-us") as u64),
        percent: config.number("background-slowdown") as u64,
    }
}
