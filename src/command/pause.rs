//! CLIENT PAUSE.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::clock;

/// Who waits for room looks again after so many milliseconds.
const LOOK_AGAIN_MS: u64 = 10;

/// CLIENT PAUSE: until when, and whether reads wait too.
#[derive(Debug, Default)]
pub struct Pause {
    until_ms: AtomicU64,
    all: AtomicBool,
    ended: Notify,
    /// How many commands wait for its end.
    held: AtomicUsize,
    /// Whether writes wait until what is evicted for them is gone.
    for_room: AtomicBool,
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
    pub fn holds(&self, may_write: impl Fn() -> bool) -> bool {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        if self.for_room.load(Ordering::Relaxed) && may_write() {
            return true;
        }
        until_ms != 0
            && until_ms > clock::now_ms()
            && (self.all.load(Ordering::Acquire) || may_write())
    }

    /// Writes wait until what is evicted for them is gone, or wait no more.
    pub(super) fn wait_for_room(&self, waits: bool) {
        if self.for_room.swap(waits, Ordering::AcqRel) && !waits {
            self.ended.notify_waiters();
        }
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
            let for_room = self.for_room.load(Ordering::Acquire);
            let wait_ms = match until_ms.saturating_sub(now_ms) {
                0 if for_room => LOOK_AGAIN_MS,
                0 => return,
                wait_ms => wait_ms,
            };
            let _ = tokio::time::timeout(Duration::from_millis(wait_ms), ended).await;
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
