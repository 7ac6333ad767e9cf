//! Commands of other nodes' clients, which this node coordinates.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;

use crate::base::blocking::apart;
use crate::command::Node;
use crate::peer::message::{Command, Response, WhyNot};
use crate::peer::{Answer, LONGEST_REPLY};
use crate::routing::args::OwnedArgs;
use crate::routing::{self, Runner};

/// Begins to run one.
pub(super) fn start(node: Arc<Node>, command: Command, age: Duration) -> Answer {
    if node.replica.store().refuses_growth() && leaves_to_others(&node, &command) {
        return Answer::Now(Response::NotRun(WhyNot::Full));
    }
    // The first poll puts it into the lanes of its keys, in the order of arrival.
    let known = command.own.clone();
    let runner: Arc<dyn Runner> = node;
    let (mut later, own, runs_script) = routing::forwarded(&runner, command, age);
    let said = move |reply: BytesMut| {
        let mut wrote = own.all();
        wrote.retain(|write| !known.contains(write));
        let reply = fitting(reply, LONGEST_REPLY).freeze();
        Response::Reply { reply, wrote }
    };
    if runs_script {
        // Its sender has nothing else under way of the same connection; other requests are not to wait for it.
        return Answer::Later(Box::pin(async move {
            let lost = || BytesMut::from(&b"-ERR the script ended unexpectedly\r\n"[..]);
            said(apart(later).await.unwrap_or_else(lost))
        }));
    }
    match later.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reply) => Answer::Now(said(reply)),
        Poll::Pending => Answer::Later(Box::pin(async move { said(later.await) })),
    }
}

/// Whether this node, whose disk is full, is not to run a command that writes: somebody else is, and all
/// have to send it there, so that one node alone coordinates its keys.
fn leaves_to_others(node: &Node, command: &Command) -> bool {
    let Some(coordinator) = node.site.coordinator.as_ref().filter(|_| command.hops > 0) else {
        return false;
    };
    let steps = command
        .steps
        .iter()
        .map(|raw| OwnedArgs::from_wire(raw.clone()));
    let calls = steps.filter_map(|words| node.call(words.ok()?));
    let mut writes = calls.filter(|call| call.shape.writes);
    writes.any(|call| {
        let key = call.keys().next();
        key.is_some_and(|key| !coordinator.coordinates(key))
    })
}

/// A reply that can be passed on: the command has run, and is not to run again because of it.
fn fitting(reply: BytesMut, longest: usize) -> BytesMut {
    if reply.len() <= longest {
        return reply;
    }
    BytesMut::from(&b"-ERR the command has run, and its reply is too long to be passed on\r\n"[..])
}
