//! Commands: from words to changes of objects, and from results to replies.
//!
//! Reading order: `spec` and `row` (what a row of the table says), `table`, `context` (what a handler works
//! with), `dispatch` (how one command runs), then a file a family below `family`.

mod at_hand;
mod change;
mod context;
mod dispatch;
mod events;
mod evicting;
mod eviction;
mod exec;
mod family;
mod monitor;
mod node;
mod notify;
mod parts;
mod pause;
mod queue;
mod row;
mod runner;
mod sayings;
mod scripts;
mod seal;
mod secrets;
mod session;
mod slowlog;
mod spec;
mod subscriptions;
mod table;
mod timing;
mod tracking;
mod waiting;

pub use context::{After, Ctx};
pub use dispatch::{context, execute, find, is_barrier, may_write, refuse, resume, step, turns};
pub use evicting::keep_within;
pub use exec::Exec;
pub use family::meet::{invited, peer_address};
pub use family::plan::described;
pub use family::pubsub::gone as end_listening;
pub use family::server::{appendfsync, reply_to_waitaof};
pub use monitor::Feed;
pub use node::{Node, NodeOptions};
pub use notify::tell_of_ends;
pub use queue::Transaction;
pub use runner::node;
pub use scripts::called;
pub use seal::{ContextSeal, Place as SealedPlace};
pub use session::{Client, Clients, ReplyMode, Session};
pub use spec::{Flags, Spec, Specs};
pub use table::specs;
pub use timing::Timed;
pub use tracking::hear_of as hear_of_changes;
