//! Client-side caching (CLIENT TRACKING): what a connection reads is noted before it is read; what a command has
//! changed is told to those who have read it, on any node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::context::{After, Ctx};
use super::node::Node;
use super::queue::Transaction;
use super::session::Session;
use super::spec::{Flags, Spec};
use crate::routing::args::Args;

/// Notes what a command is about to read; the keys.
pub(super) fn note(ctx: &mut Ctx<'_>, spec: &'static Spec, args: Args<'_>) -> Vec<Bytes> {
    let Some(tracking) = &mut ctx.session.tracking else {
        return Vec::new();
    };
    let notes = tracking.notes_next();
    // On a lone node what a script reads is noted when it does.
    tracking.notes_script = notes;
    // What is said of the connection itself, and MULTI, is not what CLIENT CACHING is about.
    let runs = spec.has(Flags::RUNS_QUEUE) || spec.has(Flags::BLOCKING) || spec.shape.is_script();
    if runs || !spec.has(Flags::NOSCRIPT) {
        tracking.caching = None;
    }
    if !notes {
        return Vec::new();
    }
    let is_lone = ctx.node.elsewhere.is_none();
    let mut keys = Vec::new();
    let mut take = |spec: &'static Spec, args: Args<'_>| {
        let is_script = spec.shape.is_script() && !is_lone;
        let reads = spec.has(Flags::READ) || is_script;
        if reads && !spec.has(Flags::IN_TRANSACTION) {
            keys.extend(spec.keys_of(args).map(Bytes::copy_from_slice));
        }
    };
    take(spec, args);
    let queue = ctx.session.transaction.as_ref();
    let queue = queue.filter(|_| spec.has(Flags::RUNS_QUEUE)).into_iter();
    for (spec, words) in queue.flat_map(Transaction::commands) {
        take(spec, words.as_args());
    }
    for key in &keys {
        note_key(ctx.node, ctx.session.client.id, key);
    }
    keys
}

/// A client reads a key.
pub(super) fn note_key(node: &Node, id: u64, key: &[u8]) {
    let most = node.config.number("tracking-table-max-keys");
    let most = usize::try_from(most).unwrap_or(0);
    node.listeners.tracked().note(id, key, most);
}

/// A reply that comes later may show what has changed before it comes: then the client is told after it.
pub(super) fn follow(ctx: &mut Ctx<'_>, keys: Vec<Bytes>) {
    if keys.is_empty() {
        return;
    }
    let (node, id) = (Arc::clone(ctx.node), ctx.session.client.id);
    let check = move || {
        let tracked = node.listeners.tracked();
        for key in keys.iter().filter(|key| !tracked.remembers(id, key)) {
            tracked.tell_again(id, key);
        }
    };
    match std::mem::replace(&mut ctx.after, After::Nothing) {
        After::Later(later) => {
            ctx.after = After::Later(Box::pin(async move {
                let reply = later.await;
                check();
                reply
            }));
        }
        After::Waiting(later) => {
            ctx.after = After::Waiting(Box::pin(async move {
                let reply = later.await;
                check();
                reply
            }));
        }
        other => ctx.after = other,
    }
}

/// A command has changed keys. What a transaction changes is told of when it has ended.
pub(super) fn tell_of(ctx: &mut Ctx<'_>, keys: impl Iterator<Item = Bytes>) {
    let session = &mut *ctx.session;
    session.changed.extend(keys);
    let is_within = session.executing && !session.in_script && ctx.node.elsewhere.is_none();
    if !is_within {
        let keys = std::mem::take(&mut session.changed);
        tell(ctx.node, Some(session.acts_for), &keys);
    }
}

/// A transaction has ended.
pub(super) fn tell_rest(ctx: &mut Ctx<'_>) {
    if !ctx.session.changed.is_empty() {
        tell_of(ctx, std::iter::empty());
    }
}

/// Keys have changed, by a client of this node or otherwise.
pub(super) fn tell(node: &Node, by: Option<u64>, keys: &[Bytes]) {
    let tracked = node.listeners.tracked();
    match &node.elsewhere {
        None => tracked.changed(by, keys),
        Some(elsewhere) => {
            hear(node, by, keys);
            elsewhere.tell_changed(keys);
        }
    }
}

/// Keys have changed on some copies: when those who wait for the others do no more, all that will have, have.
fn hear(node: &Node, by: Option<u64>, keys: &[Bytes]) {
    let wait = node.config.number("request-timeout-ms");
    let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
    node.listeners.tracked().changed_on_some(by, keys, wait);
}

/// Another node has told that keys have changed; none: that any may have.
pub fn hear_of(node: &Node, keys: &[Bytes]) {
    if keys.is_empty() {
        node.listeners.tracked().all_changed();
    } else {
        hear(node, None, keys);
    }
}

/// Any key may have changed, on any node.
pub(super) fn tell_all(node: &Node) {
    node.listeners.tracked().all_changed();
    if let Some(elsewhere) = &node.elsewhere {
        elsewhere.tell_changed(&[]);
    }
}

/// A connection wants to know nothing any more.
pub fn end(node: &Node, session: &mut Session) {
    if session.tracking.take().is_some() {
        node.listeners.tracked().end(session.client.id);
        tell_others(node);
    }
}

/// The other members are told whether somebody here wants to know; nobody waits for it.
fn tell_others(node: &Node) {
    if let Some(elsewhere) = &node.elsewhere {
        drop(elsewhere.tell_of_tracking());
    }
}
