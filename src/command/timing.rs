//! How long commands take for those who wait for them: from their arrival to their reply, and where that
//! time goes (RINGWOOD LATENCY).

use std::fmt::Write as _;
use std::time::Instant;

use super::args::{Args, OwnedArgs};
use super::session::Session;
use super::table::{Flags, Spec};
use super::{Ctx, Node, Outcome};
use crate::clock;
use crate::metrics::Histogram;

/// What a command spends its time with: `turn` until it begins (CLIENT PAUSE, commands that it has to wait
/// for), `run` in its handler, `commit` until its writes, and those that it has read, are stored; in a
/// cluster until its coordinator's reply is there.
const PARTS: [&str; 3] = ["turn", "run", "commit"];

/// The parts of all commands.
#[derive(Debug, Default)]
pub struct Timings {
    parts: [Histogram; PARTS.len()],
    whole: Histogram,
}

impl Timings {
    pub(super) fn reset(&self) {
        self.parts.iter().for_each(Histogram::reset);
        self.whole.reset();
    }
}

/// A command that has run, and whose reply is still to come.
pub struct Timed {
    spec: &'static Spec,
    arrived: Instant,
    began: Instant,
    ran: Instant,
    /// Whether its reply is an error.
    pub failed: bool,
    /// Its first words, for the slow log.
    words: OwnedArgs,
}

impl Timed {
    /// A command that has just run.
    pub(super) fn now(ctx: &Ctx<'_>, spec: &'static Spec, args: Args<'_>, failed: bool) -> Self {
        const KEPT: usize = 2;
        let mut words = OwnedArgs::default();
        args.from(0).take(KEPT).for_each(|word| words.push(word));
        if args.len() > KEPT {
            let more = format!("... ({} more arguments)", args.len() - KEPT);
            words.push(more.as_bytes());
        }
        Self {
            spec,
            arrived: ctx.arrived,
            began: ctx.began.unwrap_or(ctx.arrived),
            ran: clock::monotonic(),
            failed,
            words,
        }
    }

    /// Its reply is there.
    pub fn replied(self, node: &Node, session: &Session, at: Instant) {
        let Self {
            spec,
            arrived,
            began,
            ran,
            failed,
            words,
        } = self;
        let times = Times {
            arrived,
            began,
            ran,
            replied: at,
        };
        times.record(node, session, (spec, words.as_args()), failed);
    }
}

/// When what became of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) arrived: Instant,
    pub(super) began: Instant,
    pub(super) ran: Instant,
    pub(super) replied: Instant,
}

impl Times {
    /// Counts it wherever commands are counted.
    pub(super) fn record(
        self,
        node: &Node,
        session: &Session,
        (spec, args): (&'static Spec, Args<'_>),
        failed: bool,
    ) {
        let took = self.replied.saturating_duration_since(self.arrived);
        node.stats.commands[spec.id()].record(took, failed);
        node.latency.note(spec, took);
        let parts = [self.arrived, self.began, self.ran, self.replied];
        let parts = parts
            .windows(2)
            .map(|w| w[1].saturating_duration_since(w[0]));
        for (part, took) in node.timings.parts.iter().zip(parts) {
            part.record(took);
        }
        node.timings.whole.record(took);
        if spec.reads_one_key() {
            node.governor.read(took);
        } else if spec.has(Flags::WRITE) && spec.keys.0 != 0 {
            node.governor.wrote(took);
        }
        let threshold_us = node.slowlog.threshold_us();
        if threshold_us >= 0 && took.as_micros() as i64 >= threshold_us {
            node.slowlog.push(session, spec, args, took);
        }
    }
}

/// RINGWOOD LATENCY.
pub(super) fn latency(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let timings = &ctx.node.timings;
    let mut text = format!(
        "{:<8} {:>12} {:>10} {:>10} {:>10}\n",
        "part", "commands", "p50 us", "p99 us", "p99.9 us"
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
