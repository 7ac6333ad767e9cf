//! What is counted where commands run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::counter::Counter;
use crate::base::histogram::Histogram;
use crate::base::resident_bytes;
use crate::error::Error;

/// First words of error replies that are told apart.
const MAX_ERROR_KINDS: usize = 128;

/// What is counted where commands run.
#[derive(Debug)]
pub struct Stats {
    /// Reads that found their key.
    pub keyspace_hits: Counter,
    /// Reads that did not.
    pub keyspace_misses: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections refused for `maxclients` or protected mode.
    pub rejected: Counter,
    /// Bytes received.
    pub input_bytes: Counter,
    /// Bytes sent.
    pub output_bytes: Counter,
    /// By the command's number.
    pub commands: Vec<CommandStats>,
    /// The commands' names, their containers' before them, by the same number.
    pub names: Vec<String>,
    /// What happened in the last second.
    pub rates: Rates,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// What happened in the last second; [`Stats::sample`] keeps it.
#[derive(Debug, Default)]
pub struct Rates {
    commands: AtomicU64,
    input_bytes: AtomicU64,
    output_bytes: AtomicU64,
    peak_memory: AtomicU64,
    totals: Mutex<[u64; 3]>,
}

impl Rates {
    /// Commands in the last second.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Bytes received in the last second.
    pub fn input_bytes(&self) -> u64 {
        self.input_bytes.load(Ordering::Relaxed)
    }

    /// Bytes sent in the last second.
    pub fn output_bytes(&self) -> u64 {
        self.output_bytes.load(Ordering::Relaxed)
    }

    /// The most memory that was resident at any sample, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.peak_memory.load(Ordering::Relaxed)
    }
}

/// One command's counters.
#[derive(Debug, Default)]
pub struct CommandStats {
    /// Runs that ended in an error.
    pub failed: Counter,
    /// Time in all.
    pub nanos: Counter,
    /// How long runs took.
    pub latency: Histogram,
}

impl CommandStats {
    /// Counts one run.
    pub fn record(&self, took: Duration, failed: bool) {
        self.nanos.add(took.as_nanos() as u64);
        self.latency.record(took);
        if failed {
            self.failed.add(1);
        }
    }

    /// Runs.
    pub fn calls(&self) -> u64 {
        self.latency.count()
    }
}

impl Stats {
    /// Nothing was counted yet; commands by their number.
    pub fn new(names: Vec<String>) -> Self {
        Self {
            keyspace_hits: Counter::default(),
            keyspace_misses: Counter::default(),
            connections: Counter::default(),
            rejected: Counter::default(),
            input_bytes: Counter::default(),
            output_bytes: Counter::default(),
            commands: names.iter().map(|_| CommandStats::default()).collect(),
            names,
            rates: Rates::default(),
            errors: Mutex::default(),
        }
    }

    /// Takes stock, once a second.
    pub fn sample(&self) {
        let totals = [
            self.total_commands(),
            self.input_bytes.get(),
            self.output_bytes.get(),
        ];
        let before = std::mem::replace(&mut *self.rates.totals.lock(), totals);
        let rates = [
            &self.rates.commands,
            &self.rates.input_bytes,
            &self.rates.output_bytes,
        ];
        for (nth, rate) in rates.into_iter().enumerate() {
            // CONFIG RESETSTAT sets totals back.
            let since = totals[nth].checked_sub(before[nth]).unwrap_or(totals[nth]);
            rate.store(since, Ordering::Relaxed);
        }
        let peak = &self.rates.peak_memory;
        peak.fetch_max(resident_bytes(), Ordering::Relaxed);
    }

    /// Counts an error reply by its first word.
    pub fn count_error(&self, error: &Error) {
        let mut errors = self.errors.lock();
        let prefix = error.prefix();
        if errors.len() < MAX_ERROR_KINDS || errors.contains_key(&prefix) {
            *errors.entry(prefix).or_default() += 1;
        }
    }

    /// Error replies by their first word.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// Commands run.
    pub fn total_commands(&self) -> u64 {
        self.commands.iter().map(CommandStats::calls).sum()
    }

    /// Sets everything to zero.
    pub fn reset(&self) {
        for counter in [
            &self.keyspace_hits,
            &self.keyspace_misses,
            &self.connections,
            &self.rejected,
            &self.input_bytes,
            &self.output_bytes,
        ] {
            counter.reset();
        }
        for command in &self.commands {
            command.failed.reset();
            command.nanos.reset();
            command.latency.reset();
        }
        self.errors.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_kinds_of_errors_are_counted_and_no_more() {
        let stats = Stats::new(Vec::new());
        for nth in 0..MAX_ERROR_KINDS + 10 {
            stats.count_error(&Error::Text(format!("KIND{nth} and a reason").into()));
        }
        assert_eq!(stats.errors().len(), MAX_ERROR_KINDS);
        stats.count_error(&Error::Text("KIND0 for another reason".into()));
        assert_eq!(stats.errors()["KIND0"], 2);
    }
}
