//! The slow log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::secrets::Secrets;
use super::session::Session;
use super::spec::Spec;
use crate::base::clock;
use crate::base::config::Config;
use crate::routing::args::Args;

/// Words of an entry, and bytes of a word.
const SLOWLOG_WORDS: usize = 32;
pub(super) const SLOWLOG_WORD_LEN: usize = 128;

/// The slow log.
#[derive(Debug, Default)]
pub struct SlowLog {
    threshold_us: AtomicI64,
    entries: Mutex<(u64, usize, VecDeque<SlowEntry>)>,
}

/// One slow command.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    /// Its number.
    pub id: u64,
    /// When, in seconds since the epoch.
    pub at_secs: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Its words, shortened.
    pub words: Vec<Vec<u8>>,
    /// Who sent it.
    pub address: String,
    /// The connection's name.
    pub name: String,
}

impl SlowLog {
    /// Microseconds from which a command is slow; negative for never.
    pub fn threshold_us(&self) -> i64 {
        self.threshold_us.load(Ordering::Relaxed)
    }

    pub(super) fn configure(&self, config: &Config) {
        let threshold = config.number("slowlog-log-slower-than");
        self.threshold_us.store(threshold, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        entries.1 = config.number("slowlog-max-len") as usize;
        let keep = entries.1;
        entries.2.truncate(keep);
    }

    pub(super) fn push(&self, session: &Session, words: Vec<Vec<u8>>, took: Duration) {
        let entry = SlowEntry {
            id: 0,
            at_secs: clock::now_ms() / 1_000,
            took_us: took.as_micros() as u64,
            words,
            address: session.client.address.to_string(),
            name: session.client.names.lock().name.clone(),
        };
        let mut entries = self.entries.lock();
        let id = entries.0;
        entries.0 += 1;
        entries.2.push_front(SlowEntry { id, ..entry });
        let keep = entries.1;
        entries.2.truncate(keep);
    }

    /// The latest entries first.
    pub fn latest(&self, count: usize) -> Vec<SlowEntry> {
        self.entries.lock().2.iter().take(count).cloned().collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.lock().2.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the entries.
    pub fn reset(&self) {
        self.entries.lock().2.clear();
    }
}

/// The words of a command as they are shown.
pub(super) fn shorten(spec: &Spec, args: Args<'_>) -> Vec<Vec<u8>> {
    let secrets = Secrets::of(spec, args);
    let mut words: Vec<Vec<u8>> = (0..args.len().min(SLOWLOG_WORDS))
        .map(|nth| secrets.show(args, nth))
        .map(|word| {
            let mut shown = word[..word.len().min(SLOWLOG_WORD_LEN)].to_vec();
            put_what_is_left_out(&mut shown, word.len());
            shown
        })
        .collect();
    if args.len() > SLOWLOG_WORDS {
        let more = args.len() - SLOWLOG_WORDS + 1;
        words[SLOWLOG_WORDS - 1] = format!("... ({more} more arguments)").into_bytes();
    }
    words
}

/// Says of a shortened word how much longer it is.
pub(super) fn put_what_is_left_out(shown: &mut Vec<u8>, len: usize) {
    if len > SLOWLOG_WORD_LEN {
        let more = format!("... ({} more bytes)", len - SLOWLOG_WORD_LEN);
        shown.extend_from_slice(more.as_bytes());
    }
}
