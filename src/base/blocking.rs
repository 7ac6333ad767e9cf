//! Work that blocks or takes its time, done where it holds up nobody.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinSet;

/// Does something that blocks where it holds up nobody; a simulated node has but one thread.
pub async fn off_worker<R: Send + 'static>(does: impl FnOnce() -> R + Send + 'static) -> R {
    if is_simulated() {
        return does();
    }
    match tokio::task::spawn_blocking(does).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// [`off_worker`], with the processor's time that it took: how long a thread of low priority waits for
/// the processor says nothing about its work. None is counted in a simulation.
pub async fn worked_off<R: Send + 'static>(
    does: impl FnOnce() -> R + Send + 'static,
) -> (R, Duration) {
    if is_simulated() {
        return (does(), Duration::ZERO);
    }
    off_worker(move || timed(does)).await
}

/// Does something at once, with the processor's time that it took; none is counted in a simulation.
pub fn timed<R>(does: impl FnOnce() -> R) -> (R, Duration) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let begun = now();
    let done = does();
    (done, now().saturating_sub(begun))
}

/// Whether this is a simulation: it has one thread, and no time passes while it computes.
pub fn is_simulated() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

/// Does something on a task of its own, so that whoever waits for it is free for others; `None` where it has ended
/// by a panic. It ends when nobody waits any more. A simulated node has but one task.
pub async fn apart<R: Send + 'static>(does: impl Future<Output = R> + Send + 'static) -> Option<R> {
    if is_simulated() {
        return Some(does.await);
    }
    let mut running = JoinSet::new();
    running.spawn(does);
    running.join_next().await?.ok()
}

/// Does what may take its time, without others of this thread waiting for it.
pub fn at_length<R>(does: impl FnOnce() -> R) -> R {
    if is_simulated() {
        return does();
    }
    tokio::task::block_in_place(does)
}
