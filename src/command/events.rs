//! Slow events, as Redis's LATENCY shows them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::spec::{Flags, Spec};
use crate::base::clock;
use crate::base::config::Config;

/// Samples kept of one event, as in Redis.
const MAX_SAMPLES: usize = 160;

/// Slow events by name.
#[derive(Debug, Default)]
pub struct Events {
    pub(super) threshold_ms: AtomicI64,
    pub(super) by_name: Mutex<BTreeMap<&'static str, Event>>,
}

/// One kind of event.
#[derive(Clone, Debug, Default)]
pub(super) struct Event {
    /// `(second since the epoch, milliseconds)`, oldest first, at most one a second.
    pub(super) samples: VecDeque<(u64, u64)>,
    pub(super) all_time_high_ms: u64,
}

impl Events {
    pub(super) fn configure(&self, config: &Config) {
        let threshold = config.number("latency-monitor-threshold");
        self.threshold_ms.store(threshold, Ordering::Relaxed);
    }

    pub(super) fn note(&self, spec: &Spec, took: Duration) {
        let threshold_ms = self.threshold_ms.load(Ordering::Relaxed);
        let took_ms = took.as_millis() as u64;
        if threshold_ms <= 0 || took_ms < threshold_ms as u64 {
            return;
        }
        let name = if spec.has(Flags::FAST) {
            "fast-command"
        } else {
            "command"
        };
        let now_secs = clock::now_ms() / 1_000;
        self.by_name
            .lock()
            .entry(name)
            .or_default()
            .add(now_secs, took_ms);
    }

    pub(super) fn event(&self, name: &str) -> Option<Event> {
        self.by_name.lock().get(name).cloned()
    }
}

impl Event {
    /// Samples of the same second are one: the worst.
    fn add(&mut self, now_secs: u64, took_ms: u64) {
        self.all_time_high_ms = self.all_time_high_ms.max(took_ms);
        match self.samples.back_mut() {
            Some((secs, ms)) if *secs == now_secs => *ms = took_ms.max(*ms),
            _ => {
                if self.samples.len() == MAX_SAMPLES {
                    self.samples.pop_front();
                }
                self.samples.push_back((now_secs, took_ms));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_the_worst_of_each_second_and_the_latest_seconds() {
        let mut event = Event::default();
        for (secs, ms) in [(1, 5), (1, 9), (1, 7), (2, 3)] {
            event.add(secs, ms);
        }
        assert_eq!(event.samples, [(1, 9), (2, 3)]);
        (3..1_000).for_each(|secs| event.add(secs, 1));
        assert_eq!(
            (event.samples.len(), event.all_time_high_ms),
            (MAX_SAMPLES, 9)
        );
        assert_eq!(event.samples.back(), Some(&(999, 1)));
    }
}
