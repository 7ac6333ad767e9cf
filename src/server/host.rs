//! What the machine gives: descriptors, memory, priorities, and the node's secret.

use std::path::Path;

use super::error::StartError;
use crate::base::config::Config;

/// Taken for the machine's memory where it cannot be told.
const DEFAULT_MEMORY: u64 = 1 << 30;

/// Descriptors that the node keeps for itself beside its clients' sockets, where there are enough.
const OWN_FILES: u64 = 2_048;
/// What it cannot do without: sockets of its own, and the files of each shard.
const LEAST_FILES: u64 = 64;
const LEAST_FILES_OF_TABLES: u64 = 24;
/// Files that the engine keeps open at least, for each shard.
const LEAST_CACHED_FILES: u64 = 10;

/// Raises the limit of open files, as far as the system lets us.
fn allow_files(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let possible = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let raised = Rlimit {
        current: Some(possible),
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(
            "Server can't set maximum open files to {wanted} because of OS error: {error}."
        );
    }
}

/// What the limit of open files leaves to whom.
pub(super) struct Files {
    /// For clients.
    pub(super) clients: u64,
    /// That the engine of one shard keeps open.
    pub(super) of_tables: usize,
}

/// Raises the limit as far as it goes. Where that is less than is wanted, fewer clients are taken in: the
/// node's own files come first.
pub(super) fn share_files(config: &Config) -> Result<Files, StartError> {
    use rustix::process::{Resource, getrlimit};
    let wanted = config.number("maxclients") as u64;
    allow_files(wanted + OWN_FILES);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let own = OWN_FILES.min(limit / 2);
    let least = LEAST_FILES + LEAST_FILES_OF_TABLES;
    if own < least {
        return Err(StartError::Files {
            limit,
            least: 2 * least,
        });
    }
    let clients = limit - own;
    if clients < wanted {
        tracing::warn!(
            "You requested maxclients of {wanted} requiring at least {} max file descriptors.",
            wanted + own
        );
        tracing::warn!(
            "Current maximum open files is {limit}. maxclients has been reduced to {clients} to \
             compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
        );
        let reduced = [("maxclients".to_owned(), clients.to_string())];
        let set = config.set(&reduced);
        debug_assert!(set.is_ok(), "it is a number in its bounds");
    }
    Ok(Files {
        clients,
        of_tables: (own / 2).max(LEAST_CACHED_FILES) as usize,
    })
}

/// The memory that this process may use: the machine's, or less if its control group says so.
pub(super) fn memory_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse::<u64>().ok());
    let machine = total_kib.map_or(DEFAULT_MEMORY, |kib| kib * 1_024);
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limit = limits
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.min(limit.unwrap_or(u64::MAX))
}

/// The secret that authenticates contexts; made at the first start, readable by the owner alone.
pub(super) fn load_secret(dir: &Path) -> Result<Vec<u8>, StartError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join("ringwood.secret");
    let fail = |source| StartError::Secret {
        path: path.clone(),
        source,
    };
    match std::fs::read(&path) {
        Ok(secret) if !secret.is_empty() => return Ok(secret),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let mut secret = vec![0; 32];
    getrandom::fill(&mut secret).expect("the operating system has randomness");
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    let mut file = file.map_err(fail)?;
    file.write_all(&secret)
        .and_then(|()| file.sync_all())
        .map_err(fail)?;
    Ok(secret)
}
