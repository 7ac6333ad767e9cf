//! Publish and subscribe: who listens on this node, who does on others, and how messages come to them.
//!
//! Nothing is stored: who does not listen, or reads too slowly, does without, as in Redis. Members tell each other
//! what their clients listen to; a message goes to those members where somebody does, and to those of which that is
//! not known.

mod elsewhere;
mod here;
mod inbox;
mod kind;
mod tracked;

pub use elsewhere::Elsewhere;
pub use here::Here;
pub use inbox::{Inbox, Limits, Message};
pub use kind::Kind;
pub use tracked::{Tracked, Tracker};
