//! Wall clocks: virtual like everything else, and each node's wrong in its own way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ringwood::base::clock;
use tokio::time::Instant;

/// The time of day when a world begins.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// One node's wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    ahead_ms: i64,
}

impl Clock {
    /// Ahead of (or behind) the true time by so many milliseconds.
    pub fn new(ahead_ms: i64) -> Self {
        Self {
            began: Instant::now(),
            ahead_ms,
        }
    }

    /// Does something by this clock.
    pub fn during<R>(self, does: impl FnOnce() -> R) -> R {
        let true_time = EPOCH + self.began.elapsed();
        let ahead = Duration::from_millis(self.ahead_ms.unsigned_abs());
        let shown = if self.ahead_ms < 0 {
            true_time.saturating_sub(ahead)
        } else {
            true_time + ahead
        };
        let before = clock::simulate(Some(shown));
        let done = does();
        clock::simulate(before);
        done
    }

    /// Has a future live by this clock.
    pub fn rule<F: Future + Send + 'static>(self, future: F) -> Ruled<F::Output> {
        Ruled {
            clock: self,
            future: Box::pin(future),
        }
    }
}

/// A future under a clock.
pub struct Ruled<T> {
    clock: Clock,
    future: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T> Future for Ruled<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { clock, future } = &mut *self;
        clock.during(|| future.as_mut().poll(cx))
    }
}
