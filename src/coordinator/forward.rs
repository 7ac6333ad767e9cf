//! Sending a command to the node that coordinates its key.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::{Coordinator, QuorumError};
use crate::logic::placement::NodeId;
use crate::peer::message::{Command, Request, Response, Wrote};
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
    /// The other node is not there, and did nothing or nothing that matters: somebody else may.
    Elsewhere,
}

impl Coordinator {
    /// Has another node run a command. It is on its way before this returns. `again` says whether it
    /// may run twice.
    pub fn forward<F: Fn() -> bool + Send>(
        &self,
        to: NodeId,
        command: Command,
        again: F,
    ) -> impl Future<Output = Result<Forwarded, QuorumError>> + Send + use<F> {
        self.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        let patience = Duration::from_millis(command.patience_ms);
        let body = encode(&Request::Forward(command));
        let call = self.cluster.peers().call(to, body, patience);
        let cluster = std::sync::Arc::clone(&self.cluster);
        async move {
            match call.await {
                Ok(Response::Reply { reply, wrote }) => Ok(Forwarded::Reply { reply, wrote }),
                Ok(_) => Ok(Forwarded::Elsewhere),
                Err(error) => {
                    cluster.failed(to, error);
                    // A request that only timed out may still run, later than what comes next.
                    if error == CallError::TooMuch {
                        return Err(QuorumError::TooMuch);
                    }
                    let gone = error == CallError::Lost && again();
                    if gone || error.nothing_done() {
                        Ok(Forwarded::Elsewhere)
                    } else {
                        Err(QuorumError::CoordinatorLost)
                    }
                }
            }
        }
    }
}
