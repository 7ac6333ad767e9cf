//! CLIENT PAUSE.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::clock;

/// CLIENT PAUSE: until when, and whether reads wait too.
#[derive(Debug, Default)]
pub struct Pause {
    until_ms: AtomicU64,
    all: AtomicBool,
    ended: Notify,
    /// How many commands wait for its end.
    held: AtomicUsize,
}

impl Pause {
    /// Pauses until a time.
    pub fn begin(&self, until_ms: u64, all: bool) {
        self.until_ms.fetch_max(until_ms, Ordering::AcqRel);
        self.all.store(all, Ordering::Release);
    }

    /// Ends the pause.
    pub fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Whether there is a pause that a command must wait for. One load when there is none.
    pub fn holds(&self, may_write: impl FnOnce() -> bool) -> bool {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        until_ms != 0
            && until_ms > clock::now_ms()
            && (self.all.load(Ordering::Acquire) || may_write())
    }

    /// How many commands wait for its end.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Waits until the pause is over.
    pub async fn over(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
        let _held = Held(&self.held);
        loop {
            let ended = self.ended.notified();
            let now_ms = clock::now_ms();
            let until_ms = self.until_ms.load(Ordering::Acquire);
            if until_ms <= now_ms {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(until_ms - now_ms), ended).await;
        }
    }
}

/// A command that waits, as long as it does.
struct Held<'a>(&'a AtomicUsize);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
