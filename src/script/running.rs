//! A script that runs, as others see it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use crate::base::clock;

/// Why a script was not stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It will be.
    Yes,
    /// It has written: half of it must not stand.
    HasWritten,
}

/// A script that runs.
#[derive(Debug)]
pub struct Running {
    /// The name that its errors have.
    pub name: String,
    /// Whether it is a function of a library.
    pub is_function: bool,
    /// The words of its call, of a function.
    pub call: Vec<Vec<u8>>,
    /// When it began.
    pub since: Instant,
    /// Then it ends whatever it does.
    until: Option<Instant>,
    state: AtomicU8,
}

/// It has done nothing that others could see; it has; it is to end.
const HARMLESS: u8 = 0;
const HAS_WRITTEN: u8 = 1;
const IS_STOPPED: u8 = 2;

impl Running {
    /// One that begins.
    pub fn new(name: String, is_function: bool, since: Instant) -> Self {
        Self {
            name,
            is_function,
            call: Vec::new(),
            since,
            until: None,
            state: AtomicU8::new(HARMLESS),
        }
    }

    /// The same, of which these were the words.
    #[must_use]
    pub fn called(self, call: Vec<Vec<u8>>) -> Self {
        Self { call, ..self }
    }

    /// The same, which ends when its time is over.
    #[must_use]
    pub fn until(self, until: Instant) -> Self {
        Self {
            until: Some(until),
            ..self
        }
    }

    /// It changes something; whether it still may.
    pub fn note_write(&self) -> bool {
        self.become_one(HAS_WRITTEN) != IS_STOPPED
    }

    /// Whether it has changed something.
    pub fn has_written(&self) -> bool {
        self.state.load(Ordering::Acquire) == HAS_WRITTEN
    }

    /// Has it end at its next step, unless it has written.
    pub fn stop(&self) -> Stopped {
        match self.become_one(IS_STOPPED) {
            HAS_WRITTEN => Stopped::HasWritten,
            _ => Stopped::Yes,
        }
    }

    /// What it was before; it changes only while it is harmless.
    fn become_one(&self, state: u8) -> u8 {
        let (to, order) = (state, Ordering::AcqRel);
        let changed = self
            .state
            .compare_exchange(HARMLESS, to, order, Ordering::Acquire);
        changed.unwrap_or_else(|was| was)
    }

    /// Whether it is to end.
    pub fn is_stopped(&self) -> bool {
        let is_late = |until: Instant| clock::monotonic() >= until;
        self.state.load(Ordering::Acquire) == IS_STOPPED || self.until.is_some_and(is_late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_written_is_not_stopped_and_what_is_stopped_does_not_write() {
        let one = || Running::new(String::new(), false, clock::monotonic());
        let writes = one();
        assert!(writes.note_write() && writes.note_write());
        assert_eq!(writes.stop(), Stopped::HasWritten);
        assert!(!writes.is_stopped());
        let stopped = one();
        assert_eq!(stopped.stop(), Stopped::Yes);
        assert!(stopped.is_stopped() && !stopped.note_write());
    }
}
