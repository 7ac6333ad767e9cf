//! What every layer above `logic` may use: directives, clocks, work that blocks, measuring, the log, and how much
//! background work may take.

pub mod blocking;
pub mod clock;
pub mod config;
pub mod counter;
pub mod governor;
pub mod histogram;
pub mod log;
pub mod numbers;
pub mod random;

/// How far background work stands back (see nice(1)).
const BACKGROUND_NICE: i32 = 10;

/// Memory of this process that is resident, in bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    let pages = pages.and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// The calling thread, and those that it makes, leave the processors to what somebody waits for.
pub fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, BACKGROUND_NICE) {
        tracing::debug!(%error, "background work has the same priority");
    }
}
