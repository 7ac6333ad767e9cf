//! The wall clock: the one place that asks the operating system for the time of day.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the clock that everything else uses"
)]

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

thread_local! {
    static SIMULATED: Cell<Option<Duration>> = const { Cell::new(None) };
}

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

/// Milliseconds since the process began to count them, modulo 2^32.
pub fn uptime_ms() -> u32 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_millis() as u32
}

/// Sets this thread's time of day until the next call, for simulations: nodes in one process each
/// have a clock of their own. Returns what it was before; `None` is the operating system's.
pub fn simulate(since_epoch: Option<Duration>) -> Option<Duration> {
    SIMULATED.replace(since_epoch)
}

fn since_epoch() -> Duration {
    if let Some(simulated) = SIMULATED.get() {
        return simulated;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
