//! The latency monitor: slow events (LATENCY), and every command's distribution.
//!
//! An event is `command` or, for commands of constant or logarithmic time, `fast-command`; it is
//! noted when it takes longer than `latency-monitor-threshold`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::args::Args;
use super::error::Error;
use super::table::{self, Flags, Spec};
use super::{Ctx, Outcome};
use crate::base::clock;
use crate::base::config::Config;

/// Samples kept of one event, as in Redis.
const MAX_SAMPLES: usize = 160;

/// Slow events by name.
#[derive(Debug, Default)]
pub struct Monitor {
    threshold_ms: AtomicI64,
    events: Mutex<BTreeMap<&'static str, Event>>,
}

#[derive(Clone, Debug, Default)]
struct Event {
    /// `(second since the epoch, milliseconds)`, oldest first, at most one a second.
    samples: VecDeque<(u64, u64)>,
    all_time_high_ms: u64,
}

impl Monitor {
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
        self.events
            .lock()
            .entry(name)
            .or_default()
            .add(now_secs, took_ms);
    }

    fn event(&self, name: &str) -> Option<Event> {
        self.events.lock().get(name).cloned()
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

pub(super) fn latest(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let events = ctx.node.latency.events.lock().clone();
    ctx.reply.array(events.len());
    for (name, event) in events {
        let (secs, ms) = event.samples.back().copied().unwrap_or_default();
        ctx.reply.array(4);
        ctx.reply.bulk(name.as_bytes());
        for number in [secs, ms, event.all_time_high_ms] {
            ctx.reply.integer(number as i64);
        }
    }
    Ok(())
}

pub(super) fn history(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let event = ctx.node.latency.event(&args.text(2)).unwrap_or_default();
    ctx.reply.array(event.samples.len());
    for (secs, ms) in event.samples {
        ctx.reply.array(2);
        ctx.reply.integer(secs as i64);
        ctx.reply.integer(ms as i64);
    }
    Ok(())
}

pub(super) fn reset(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut events = ctx.node.latency.events.lock();
    let before = events.len();
    if args.len() == 2 {
        events.clear();
    } else {
        events.retain(|name, _| args.from(2).all(|asked| asked != name.as_bytes()));
    }
    ctx.reply.integer((before - events.len()) as i64);
    Ok(())
}

/// A bar a sample, the newest last: a picture for a terminal.
pub(super) fn graph(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    const WIDTH: u64 = 60;
    let name = args.text(2);
    let Some(event) = ctx.node.latency.event(&name) else {
        let text = format!("ERR No samples available for event '{name}'");
        return Err(Error::Text(text.into()));
    };
    let high = event.samples.iter().map(|s| s.1).max().unwrap_or(0);
    let low = event.samples.iter().map(|s| s.1).min().unwrap_or(0);
    let mut text = format!(
        "{name} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        event.all_time_high_ms,
        "-".repeat(80)
    );
    let now_secs = clock::now_ms() / 1_000;
    for (secs, ms) in event.samples {
        let bar = "#".repeat((ms * WIDTH / high.max(1)).max(1) as usize);
        let ago = format!("{}s ago", now_secs.saturating_sub(secs));
        let _ = writeln!(text, "{ago:>10} {bar} {ms} ms");
    }
    ctx.reply.verbatim(&text);
    Ok(())
}

pub(super) fn doctor(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let monitor = &ctx.node.latency;
    let mut text = String::new();
    if monitor.threshold_ms.load(Ordering::Relaxed) <= 0 {
        text.push_str(
            "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> turns \
             it on.\n",
        );
    }
    for (name, event) in &*monitor.events.lock() {
        let count = event.samples.len() as u64;
        let mean = event.samples.iter().map(|s| s.1).sum::<u64>() / count.max(1);
        let _ = writeln!(
            text,
            "{name}: {count} slow seconds, mean {mean} ms, worst ever {} ms. SLOWLOG GET names the \
             commands.",
            event.all_time_high_ms
        );
    }
    if text.is_empty() {
        text.push_str("No slow event was seen.\n");
    }
    ctx.reply.verbatim(&text);
    Ok(())
}

/// `LATENCY HISTOGRAM [command …]`: how many calls stay within which power of two of microseconds.
pub(super) fn histogram(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let asked: Vec<String> = (2..args.len()).map(|nth| args.text(nth)).collect();
    let wanted = |spec: &Spec| {
        let named = |name: &String| {
            name.eq_ignore_ascii_case(&spec.full_name()) || name.eq_ignore_ascii_case(spec.parent)
        };
        asked.is_empty() || asked.iter().any(named)
    };
    let called: Vec<_> = table::all()
        .iter()
        .zip(&ctx.node.stats.commands)
        .filter(|(spec, stats)| wanted(spec) && stats.calls.load(Ordering::Relaxed) > 0)
        .collect();
    ctx.reply.map(called.len());
    for (spec, stats) in called {
        let rows = stats.latency.cumulative_micros();
        ctx.reply.bulk(spec.full_name().as_bytes());
        ctx.reply.map(2);
        ctx.reply.bulk(b"calls");
        ctx.reply.integer(rows.last().map_or(0, |row| row.1) as i64);
        ctx.reply.bulk(b"histogram_usec");
        ctx.reply.map(rows.len());
        for (micros, count) in rows {
            ctx.reply.integer(micros as i64);
            ctx.reply.integer(count as i64);
        }
    }
    Ok(())
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
