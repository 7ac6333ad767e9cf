//! What every layer above `logic` may use: directives, clocks, measuring, the log, and how much
//! background work may take.

pub mod clock;
pub mod config;
pub mod governor;
pub mod histogram;
pub mod log;
