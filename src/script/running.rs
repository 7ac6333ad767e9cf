//! A script that runs, as others see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

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
    /// When it began.
    pub since: Instant,
    wrote: AtomicBool,
    stopped: AtomicBool,
}

impl Running {
    /// One that begins.
    pub fn new(name: String, since: Instant) -> Self {
        Self {
            name,
            since,
            wrote: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    /// It changes something.
    pub fn note_write(&self) {
        self.wrote.store(true, Ordering::Release);
    }

    /// Has it end at its next step, unless it has written.
    pub fn stop(&self) -> Stopped {
        if self.wrote.load(Ordering::Acquire) {
            return Stopped::HasWritten;
        }
        self.stopped.store(true, Ordering::Release);
        Stopped::Yes
    }

    /// Whether it is to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
