//! What every layer above `logic` may use: directives, clocks, work that blocks, measuring, the log, and how much
//! background work may take.

pub mod blocking;
pub mod clock;
pub mod config;
pub mod counter;
pub mod governor;
pub mod histogram;
pub mod log;
pub mod random;

/// Memory of this process that is resident, in bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    let pages = pages.and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
