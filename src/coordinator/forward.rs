//! Sending a command to the node that coordinates its key.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::{Coordinator, QuorumError};
use crate::logic::placement::NodeId;
use crate::peer::message::{Command, Request, Response, WhyNot, Wrote};
use crate::peer::{CallError, encode};

/// What became of a forwarded command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// It ran.
    Reply {
        /// The reply, in the client's protocol.
        reply: Bytes,
        /// What it has written.
        wrote: Vec<Wrote>,
    },
    /// The other node is not there, and has changed nothing: somebody else may.
    Elsewhere,
    /// The other node is not there any more, and may have run it.
    Perhaps,
}

/// What may be done about a command that may have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// It changes nothing.
    Freely,
    /// It can run again as of when it was sent first.
    AsOfThen,
    /// Nothing.
    Never,
}

impl Coordinator {
    /// Has another node run a command. It is on its way before this returns. `again` says whether it
    /// may still be asked of somebody else: not behind a later command of its connection. What may have
    /// changed something must not act on what came later.
    pub fn forward<F: Fn() -> bool + Send>(
        &self,
        to: NodeId,
        command: Command,
        repeats: Repeats,
        again: F,
    ) -> impl Future<Output = Result<Forwarded, QuorumError>> + Send + use<F> {
        self.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        let patience = Duration::from_millis(command.patience_ms);
        let body = encode(Request::Forward(command));
        let call = self.cluster.peers().call(to, body, patience);
        let cluster = std::sync::Arc::clone(&self.cluster);
        let goes = move |where_to, otherwise| {
            if again() {
                Ok(where_to)
            } else {
                Err(otherwise)
            }
        };
        let perhaps =
            move |goes: &dyn Fn(Forwarded, QuorumError) -> Result<Forwarded, QuorumError>| {
                match repeats {
                    Repeats::Freely => goes(Forwarded::Elsewhere, QuorumError::NoAnswer),
                    Repeats::AsOfThen => goes(Forwarded::Perhaps, QuorumError::CoordinatorLost),
                    Repeats::Never => Err(QuorumError::CoordinatorLost),
                }
            };
        async move {
            match call.await {
                Ok(Response::Reply { reply, wrote }) => Ok(Forwarded::Reply { reply, wrote }),
                Ok(Response::NotRun(WhyNot::Busy)) => Err(QuorumError::Busy),
                Ok(Response::NotRun(why)) => {
                    if why == WhyNot::Full {
                        cluster.note_full(to);
                    }
                    goes(Forwarded::Elsewhere, QuorumError::NotSent)
                }
                // An older node, which may have run it.
                Ok(_) if repeats == Repeats::Freely => {
                    goes(Forwarded::Elsewhere, QuorumError::NoAnswer)
                }
                Ok(_) => Err(QuorumError::CoordinatorLost),
                Err(error) => {
                    cluster.failed(to, error);
                    match error {
                        CallError::TooMuch => Err(QuorumError::TooMuch),
                        error if error.nothing_done() => {
                            goes(Forwarded::Elsewhere, QuorumError::NotSent)
                        }
                        CallError::Gone => perhaps(&goes),
                        CallError::Lost if repeats == Repeats::Freely => {
                            goes(Forwarded::Elsewhere, QuorumError::NoAnswer)
                        }
                        // What only timed out may still run, later than what comes next.
                        _ if repeats == Repeats::Freely => Err(QuorumError::NoAnswer),
                        _ => Err(QuorumError::CoordinatorLost),
                    }
                }
            }
        }
    }
}
