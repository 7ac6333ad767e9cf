//! Nodes among themselves: messages over raw TCP.
//!
//! Reading order: [`message`] (what is said), `frame` (how it is cut into bytes), `handshake` (who
//! may speak), `link` (asking another node), `listener` (answering). Ports: [`Handler`] answers
//! requests, [`Links`] asks. What comes from another node is checked and never trusted: a broken
//! peer loses its connection, it cannot crash or grow this node.

mod frame;
mod handshake;
mod link;
mod listener;
pub mod message;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;

use crate::logic::placement::NodeId;
use message::{Request, Response};

pub use handshake::Identity;
pub use link::{CallError, Links};
pub use listener::PeerListener;

/// The answer to a request, when it is there.
pub type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Answers what other nodes ask.
pub trait Handler: Send + Sync + 'static {
    /// Who this node is, as of now: joining a cluster changes it.
    fn identity(&self) -> Identity;

    /// Begins to answer: what must happen in the order of arrival happens before this returns.
    fn start(&self, from: NodeId, request: Request) -> Answer;
}
