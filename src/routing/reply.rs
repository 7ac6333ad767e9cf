//! Replies that routing itself gives: errors.

use bytes::BytesMut;

use super::runner::{Later, Runner};
use super::who::Who;
use crate::coordinator::QuorumError;
use crate::error::Error;
use crate::resp::Reply;

/// An error as a client reads it.
pub fn error_reply(who: &Who, error: &Error) -> BytesMut {
    let mut reply = Reply::default();
    reply.set_protocol(who.protocol);
    reply.error(&error.to_string());
    std::mem::take(reply.buffer())
}

/// That a quorum was missing; counted.
pub(super) fn quorum_reply(node: &dyn Runner, who: &Who, error: QuorumError) -> BytesMut {
    refusal(node, who, &error.into())
}

/// That a command was not run; counted.
pub(super) fn refusal(node: &dyn Runner, who: &Who, error: &Error) -> BytesMut {
    node.count_error(error);
    error_reply(who, error)
}

/// An error that is there already.
pub fn at_once(who: Who, error: Error) -> Later {
    Box::pin(async move { error_reply(&who, &error) })
}
