//! The wall clock: the one place that asks the operating system for the time of day.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the clock that everything else uses"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    since_epoch().as_millis() as u64
}

/// Microseconds since the epoch.
pub fn now_us() -> u64 {
    since_epoch().as_micros() as u64
}

/// A monotonic moment, for measuring durations.
pub fn monotonic() -> Instant {
    Instant::now()
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
