//! Where a command runs, and how its reply comes back: on a lone node nothing of this is asked but who
//! keeps whom out (`gate`); in a cluster each command runs at the coordinator of its keys.
//!
//! Routing sees a command's shape, never its name, and runs it through the port [`Runner`]. Reading order:
//! `shape`, `runner`, `route` (where), `forward` (there), `coordinate` (here), `scatter` and `keyspace` (at
//! several nodes).

pub mod args;
pub mod block;
mod coordinate;
mod forward;
mod gate;
mod here;
mod keyspace;
mod lanes;
mod looks;
mod own;
mod reply;
mod route;
mod runner;
mod scatter;
mod script;
pub mod shape;
mod share;
pub mod wait;
mod who;
mod work;

pub use forward::forwarded;
pub use gate::{Gate, Wanted};
pub use here::answer;
pub use keyspace::{All, begin as over_all};
pub use lanes::Turns;
pub use own::Own;
pub use reply::{at_once, error_reply};
pub use route::{as_one, begin, is_barrier, is_one, start};
pub use runner::{Call, Doing, Later, Paused, Ran, Runner, Site};
pub use script::drive;
pub use who::{UnderWay, Who};
