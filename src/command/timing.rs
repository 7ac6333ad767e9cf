//! How long commands take for those who wait for them: from their arrival to their reply, and where that
//! time goes (RINGWOOD LATENCY).

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::node::Node;
use super::session::Session;
use super::slowlog::{self, SLOWLOG_WORD_LEN};
use super::spec::{Flags, Spec};
use crate::base::clock;
use crate::routing::args::{Args, OwnedArgs};

/// Of a command whose reply waits so many words, and bytes, are kept for the slow log.
const KEPT_WORDS: usize = 31;
const KEPT_BYTES: usize = 256;
/// Of so many commands of a connection one is looked at closely.
const ONE_IN: u32 = 4;
/// A command that has run, and whose reply is still to come.
pub struct Timed {
    spec: &'static Spec,
    arrived: Instant,
    began: Instant,
    ran: Instant,
    /// Whether its reply is an error.
    pub failed: bool,
    /// Its first words, for the slow log.
    words: SmallVec<[u8; 128]>,
    /// Where each of them ends, and how long it is.
    ends: SmallVec<[(usize, usize); 4]>,
    /// How many there are.
    count: usize,
}

impl Timed {
    /// A command that has just run.
    pub(super) fn now(
        (arrived, began): (Instant, Instant),
        spec: &'static Spec,
        args: Args<'_>,
        failed: bool,
    ) -> Self {
        let (mut words, mut ends) = (SmallVec::new(), SmallVec::new());
        for word in args.from(0) {
            if words.len() >= KEPT_BYTES || ends.len() >= KEPT_WORDS {
                break;
            }
            words.extend_from_slice(first_bytes(word));
            ends.push((words.len(), word.len()));
        }
        Self {
            spec,
            arrived,
            began,
            ran: clock::monotonic(),
            failed,
            words,
            ends,
            count: args.len(),
        }
    }

    /// Its reply is there.
    pub fn replied(self, node: &Node, session: &mut Session, at: Instant) {
        let Self {
            spec,
            arrived,
            began,
            ran,
            failed,
            words,
            ends,
            count,
        } = self;
        let times = Times {
            arrived,
            began,
            ran,
            replied: at,
        };
        if !times.record(node, session, spec, failed) {
            return;
        }
        let mut shown = OwnedArgs::default();
        let mut from = 0;
        for (end, _) in &ends {
            shown.push(&words[from..*end]);
            from = *end;
        }
        if count > ends.len() {
            let more = format!("... ({} more arguments)", count - ends.len());
            shown.push(more.as_bytes());
        }
        let mut shown = slowlog::shorten(spec, shown.as_args());
        for (word, (_, len)) in shown.iter_mut().zip(&ends) {
            if word.len() == SLOWLOG_WORD_LEN {
                slowlog::put_what_is_left_out(word, *len);
            }
        }
        times.note_slow(node, session, shown);
    }
}

/// As much of a word as is shown of it.
fn first_bytes(word: &[u8]) -> &[u8] {
    &word[..word.len().min(SLOWLOG_WORD_LEN)]
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
    /// Counts it wherever commands are counted; whether it was a slow one.
    pub(super) fn record(
        self,
        node: &Node,
        session: &mut Session,
        spec: &'static Spec,
        failed: bool,
    ) -> bool {
        let took = self.took();
        node.stats.commands[spec.id()].record(took, failed);
        node.latency.note(spec, took);
        session.counted = session.counted.wrapping_add(1);
        // In no order that a client's commands may have too.
        if (session.counted.wrapping_mul(0x9e37_79b9) >> 16).is_multiple_of(ONE_IN) {
            self.sample(node, spec);
        }
        let threshold_us = node.slowlog.threshold_us();
        // Of EXEC what it runs is told; in a cluster some of it runs in one step.
        let is_told = spec.has(Flags::RUNS_QUEUE) && node.site.coordinator.is_none();
        threshold_us >= 0 && !is_told && took.as_micros() as i64 >= threshold_us
    }

    fn sample(self, node: &Node, spec: &'static Spec) {
        let took = self.took();
        let parts = [self.arrived, self.began, self.ran, self.replied];
        let parts = parts
            .windows(2)
            .map(|w| w[1].saturating_duration_since(w[0]));
        for (part, took) in node.timings.parts.iter().zip(parts) {
            part.record(took);
        }
        node.timings.whole.record(took);
        // That it had to wait for its turn is no background work's fault.
        let took = self.replied.saturating_duration_since(self.began);
        if spec.shape.reads_one_key() {
            node.governor.read(took);
        } else if spec.has(Flags::WRITE)
            && !spec.shape.keys.is_empty()
            && spec.shape.waits.is_none()
        {
            node.governor.wrote(took);
        }
    }

    fn took(self) -> Duration {
        self.replied.saturating_duration_since(self.arrived)
    }

    pub(super) fn note_slow(self, node: &Node, session: &Session, words: Vec<Vec<u8>>) {
        node.slowlog.push(session, words, self.took());
    }
}
