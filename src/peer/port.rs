//! The ports: who asks other nodes, and who answers them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::oneshot;

use super::handshake::Identity;
use super::message::{NEWEST, Request, Response};
use crate::logic::placement::NodeId;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// There is no connection. Nothing was sent.
    #[error("the node is unreachable")]
    Unreachable,
    /// The request is too long for a frame, or too much waits for the node. Nothing was sent.
    #[error("too much is to be sent")]
    TooMuch,
    /// The connection broke. The request may have been done, or may still be.
    #[error("the connection broke")]
    Lost,
    /// The connection broke, and nobody listens there any more: the request may have been done, and is
    /// not being done.
    #[error("the connection broke, and nobody is there any more")]
    Gone,
    /// No answer in time to what was sent. The request may have been done, or may still be.
    #[error("no answer in time")]
    TimedOut,
    /// The other node is older and does not know such a request. Nothing was done.
    #[error("the node is older and does not know such a request")]
    Unknown,
}

impl CallError {
    /// Whether the other node certainly did nothing.
    pub fn nothing_done(self) -> bool {
        matches!(
            self,
            CallError::Unreachable | CallError::TooMuch | CallError::Unknown
        )
    }
}

/// The answer to a request.
pub enum Answer {
    /// It is there.
    Now(Response),
    /// It comes.
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
}

/// What is done with a request's outcome. It runs between two messages and must not wait.
pub type Done = Box<dyn FnOnce(Result<Response, CallError>) + Send>;

/// The outcome of a request, when it is there.
pub type Call = Pin<Box<dyn Future<Output = Result<Response, CallError>> + Send>>;

/// Asks other nodes.
pub trait Peers: Send + Sync + 'static {
    /// Says where a node is.
    fn set_address(&self, to: NodeId, address: &str);

    /// Whether there is a connection to a node.
    fn is_up(&self, to: NodeId) -> bool;

    /// Whether the last attempt to reach a node failed.
    fn is_down(&self, to: NodeId) -> bool;

    /// A node has just been heard: where the last attempt to reach it failed, the next one comes at once.
    fn heard_from(&self, from: NodeId);

    /// Asks a node, with what [`encode`] made. The request is on its way before this returns, in
    /// order with the others to that node. `done` hears of the outcome, unless this node ends first.
    fn ask(&self, to: NodeId, body: Bytes, within: Duration, done: Done);

    /// [`Self::ask`], with the outcome as a future.
    fn call(&self, to: NodeId, body: Bytes, within: Duration) -> Call {
        let (sender, answer) = oneshot::channel();
        let done = move |outcome| drop(sender.send(outcome));
        self.ask(to, body, within, Box::new(done));
        Box::pin(async move { answer.await.unwrap_or(Err(CallError::Lost)) })
    }

    /// Asks the node at an address, outside that order; returns which one answered. A node asks so before
    /// it is a member, or a node that it does not know: to the other one it is without a cluster.
    fn call_address<'a>(
        &'a self,
        address: &'a str,
        request: &'a Request,
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = io::Result<(NodeId, Response)>> + Send + 'a>>;

    /// Ends all connections.
    fn close(&self);
}

/// A request's bytes: made once, sent to many.
pub fn encode(request: impl Into<Request>) -> Bytes {
    let mut out = Vec::new();
    request.into().encode(NEWEST, &mut out);
    out.into()
}

/// Answers what other nodes ask.
pub trait Handler: Send + Sync + 'static {
    /// Who this node is, as of now: joining a cluster changes it.
    fn identity(&self) -> Identity;

    /// Begins to answer: what must happen in the order of arrival happens before this returns. `age`
    /// says how long the request was under way: its sender may have given up.
    fn start(&self, from: NodeId, request: Request, age: Duration) -> Answer;

    /// All requests that had arrived have been started.
    fn all_started(&self);
}
