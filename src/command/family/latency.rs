//! The latency monitor: slow events (LATENCY), and every command's distribution.
//!
//! An event is `command` or, for commands of constant or logarithmic time, `fast-command`; it is
//! noted when it takes longer than `latency-monitor-threshold`.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::docs;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::parts::PARTS;
use crate::command::row::{AL, L, OWN, Row, cmd, sub};
use crate::command::spec::Spec;
use crate::error::Error;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    sub(
        "ringwood",
        "latency",
        2,
        L.and(OWN),
        parts,
        "Where commands spend their time, from their arrival to their reply, since the start or CONFIG RESETSTAT.",
    ),
    cmd(
        "latency",
        -2,
        AL,
        &[],
        "server",
        docs::help,
        "Slow events and latencies.",
    ),
    sub(
        "latency",
        "doctor",
        2,
        AL,
        doctor,
        "What was slow, in words.",
    ),
    sub(
        "latency",
        "graph",
        3,
        AL,
        graph,
        "One event's history as a picture.",
    ),
    sub("latency", "help", 2, L, docs::help, "This text."),
    sub(
        "latency",
        "histogram",
        -2,
        AL,
        histogram,
        "How long commands took.",
    ),
    sub("latency", "history", 3, AL, history, "One event's history."),
    sub("latency", "latest", 2, AL, latest, "The latest events."),
    sub("latency", "reset", -2, AL, reset, "Forgets events."),
];

pub(super) fn latest(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let events = ctx.node.latency.by_name.lock().clone();
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
    let mut events = ctx.node.latency.by_name.lock();
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
    for (name, event) in &*monitor.by_name.lock() {
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
    let called: Vec<_> = ctx
        .node
        .specs
        .all()
        .iter()
        .zip(&ctx.node.stats.commands)
        .filter(|(spec, stats)| wanted(spec) && stats.calls() > 0)
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

/// RINGWOOD LATENCY.
pub(super) fn parts(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let timings = &ctx.node.timings;
    let mut text = format!(
        "{:<8} {:>12} {:>10} {:>10} {:>10}\n",
        "part", "sampled", "p50 us", "p99 us", "p99.9 us"
    );
    let parts = PARTS.iter().zip(&timings.parts);
    let rows = parts.map(|(name, histogram)| (*name, histogram));
    for (name, histogram) in rows.chain([("whole", &timings.whole)]) {
        let micros = |share| histogram.percentile(share).as_nanos() as f64 / 1_000.0;
        let _ = writeln!(
            text,
            "{name:<8} {:>12} {:>10.1} {:>10.1} {:>10.1}",
            histogram.count(),
            micros(0.5),
            micros(0.99),
            micros(0.999)
        );
    }
    ctx.reply.verbatim(&text);
    Ok(())
}
