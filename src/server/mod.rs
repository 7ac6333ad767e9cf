//! The composition root: builds every part from the directives, runs them, stops them in order.

mod build;
mod chores;
mod error;
mod host;
mod options;
mod program;
mod stop;
mod workers;

pub use build::{Built, MemberPorts, Ports, Reach, build};
pub use error::StartError;
pub use program::{SetLogLevel, run};
pub use workers::{Chance, Worker, workers};
