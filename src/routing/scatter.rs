//! Commands over keys of several coordinators, taken apart and put together again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::join_all;

use super::args::OwnedArgs;
use super::forward::single;
use super::reply::quorum_reply;
use super::runner::{Call, Runner};
use super::shape::{Merge, Positions};
use super::who::Who;
use super::work::Work;
use crate::coordinator::{Coordinator, QuorumError};
use crate::logic::placement::NodeId;
use crate::resp::Reply;

/// Runs each coordinator's part and puts the replies together.
pub(super) async fn scatter(
    node: Arc<dyn Runner>,
    coordinator: Arc<Coordinator>,
    who: Who,
    (call, merge): (Call, Merge),
    places: BTreeMap<NodeId, Positions>,
) -> BytesMut {
    let parts: Vec<Positions> = places.into_values().collect();
    let run = |positions: &Positions| {
        let (node, coordinator) = (Arc::clone(&node), Arc::clone(&coordinator));
        let work = Work::of(part_of(&call, positions));
        single(node, coordinator, who.clone(), work)
    };
    let replies = join_all(parts.iter().map(run)).await;
    let failed = |reply: &&BytesMut| reply.first() == Some(&b'-');
    if let Some(error) = replies.iter().find(failed) {
        let none_done = replies.iter().filter(failed).count() == replies.len();
        if none_done || !call.shape.writes {
            return error.clone();
        }
        return quorum_reply(&*node, &who, QuorumError::Partly);
    }
    let mut out = Reply::default();
    out.set_protocol(who.protocol);
    match merge {
        Merge::Ok => out.ok(),
        Merge::Elements => {
            let mut values: BTreeMap<u32, &[u8]> = BTreeMap::new();
            for (positions, reply) in parts.iter().zip(&replies) {
                let elements = elements(reply);
                values.extend(positions.iter().copied().zip(elements));
            }
            out.array(values.len());
            for value in values.values() {
                out.buffer().extend_from_slice(value);
            }
        }
        Merge::Sum => out.integer(replies.iter().map(|reply| integer(reply)).sum()),
    }
    std::mem::take(out.buffer())
}

/// The command's name, and these of its keys with what belongs to each.
fn part_of(call: &Call, positions: &Positions) -> Call {
    let (args, step) = (call.args(), call.shape.step());
    let mut words = OwnedArgs::default();
    words.push(args.at(0));
    for position in positions {
        let at = *position as usize;
        (at..at + step).for_each(|at| words.push(args.at(at)));
    }
    let places = (0..positions.len()).map(|nth| (1 + nth * step) as u32);
    Call::new(call.row, call.shape, words, places.collect())
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
