//! Nodes among themselves: messages over raw TCP.
//!
//! Reading order: [`message`] (what is said), `frame` (how it is cut into bytes), `handshake` (who
//! may speak), `link` (asking another node), `listener` (answering). Ports: [`Handler`] answers
//! requests, [`Peers`] asks; [`Links`] is the port over sockets. What comes from another node is checked and never trusted: a broken
//! peer loses its connection, it cannot crash or grow this node.

mod complaints;
mod frame;
mod handshake;
mod link;
mod listener;
pub mod message;
mod port;
#[cfg(test)]
mod tests;

/// The longest reply of a forwarded command: with what it has written it fits into a frame.
pub const LONGEST_REPLY: usize = frame::MAX_BODY - (1 << 20);

pub use handshake::Identity;
pub use link::Links;
pub use listener::{PeerListener, Reserved};
pub use port::{Answer, Call, CallError, Done, Handler, Peers, encode};
