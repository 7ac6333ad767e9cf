//! Commands over keys of several coordinators, taken apart and put together again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::join_all;

use super::coordinate::Work;
use super::{Who, quorum_reply, single};
use crate::command::Node;
use crate::command::args::OwnedArgs;
use crate::command::table::{Flags, Spec};
use crate::coordinator::{Coordinator, QuorumError};
use crate::logic::placement::NodeId;
use crate::resp::Reply;

/// Runs each coordinator's part and puts the replies together.
pub(super) async fn split(
    node: Arc<Node>,
    coordinator: Arc<Coordinator>,
    who: Who,
    spec: &'static Spec,
    words: OwnedArgs,
    places: BTreeMap<NodeId, Vec<usize>>,
) -> BytesMut {
    let args = words.as_args();
    let parts: Vec<Vec<usize>> = places.into_values().collect();
    let run = |positions: &Vec<usize>| {
        let mut part = OwnedArgs::default();
        part.push(args.at(0));
        for &position in positions {
            part.push(args.at(position));
            if spec.name == "mset" {
                part.push(args.at(position + 1));
            }
        }
        let (node, coordinator) = (Arc::clone(&node), Arc::clone(&coordinator));
        single(node, coordinator, who.clone(), Work::of(spec, part))
    };
    let replies = join_all(parts.iter().map(run)).await;
    let failed = |reply: &&BytesMut| reply.first() == Some(&b'-');
    if let Some(error) = replies.iter().find(failed) {
        let none_done = replies.iter().filter(failed).count() == replies.len();
        if none_done || !spec.has(Flags::WRITE) {
            return error.clone();
        }
        return quorum_reply(&node, &who, QuorumError::Partly);
    }
    let mut out = Reply::default();
    out.set_protocol(who.protocol);
    match spec.name {
        "mset" => out.ok(),
        "mget" => {
            let mut values: BTreeMap<usize, &[u8]> = BTreeMap::new();
            for (positions, reply) in parts.iter().zip(&replies) {
                let elements = elements(reply);
                values.extend(positions.iter().copied().zip(elements));
            }
            out.array(values.len());
            for value in values.values() {
                out.buffer().extend_from_slice(value);
            }
        }
        _ => out.integer(replies.iter().map(|reply| integer(reply)).sum()),
    }
    std::mem::take(out.buffer())
}

/// The number in `:n\r\n`.
fn integer(reply: &[u8]) -> i64 {
    let text = reply
        .strip_prefix(b":")
        .and_then(|rest| rest.strip_suffix(b"\r\n"));
    let text = text.and_then(|digits| std::str::from_utf8(digits).ok());
    text.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The elements of an array of bulks and nils, each as it stands in the reply; fewer when it is cut.
fn elements(reply: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    let mut rest = after_line(reply).1;
    while !rest.is_empty() {
        let (line, behind) = after_line(rest);
        let len = line
            .strip_prefix(b"$")
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let len = len.and_then(|digits| digits.trim_end().parse::<usize>().ok());
        let body = len.map_or(0, |len| len.saturating_add(2).min(behind.len()));
        let (element, next) = rest.split_at(rest.len() - behind.len() + body);
        out.push(element);
        rest = next;
    }
    out
}

/// The first line, and what comes after it.
fn after_line(reply: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', reply).map_or(reply.len(), |at| at + 1);
    reply.split_at(end)
}
