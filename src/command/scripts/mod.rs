//! Scripts on this node: those that it knows, the machines that run them, and how their commands come to the
//! keys that they name.
//!
//! On a lone node a script has its keys to itself, and everything where it is not known to name them all. In a
//! cluster it runs at the coordinator of its keys, in one step, until it asks for another key: then what it has
//! written is stored, it has its keys no longer, and each further command runs at the coordinator of its own
//! keys. A script of which this is known, or without keys, does that from the start.

mod functions;
mod host;
mod known;
mod library;
mod paused;
mod run;
mod shared;

pub use functions::{all as all_functions, here as known_functions, remove, remove_all, store};
pub use known::{Scripts, busy};
pub use library::{Functions, Goes, Libraries, Library};
pub use run::{called, fetch, run_here, spread, wants_everything};
pub use shared::{ask_in, exist, flush, load};
