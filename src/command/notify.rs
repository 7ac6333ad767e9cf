//! Which events of keys are published when a command has changed them (`notify-keyspace-events`), in Redis's words.
//!
//! The node that ran the command publishes them, once, to whoever listens on any node. What a key holds is as the
//! event says by then on that node; that enough others have it is not waited for.

use std::sync::Arc;

use bytes::Bytes;

use super::context::Ctx;
use super::node::Node;
use super::sayings::{DEL, EXPIRE, Event, says_when};
use super::spec::Spec;
use super::tracking;
use crate::base::clock;
use crate::base::config::Events;
use crate::logic::types;
use crate::replica::{DATABASES, Ended, Reach};
use crate::routing::args::Args;

/// Publishes an event of a key.
pub fn publish(node: &Node, db: u8, key: &[u8], (class, event): Event) {
    let wanted = node.config.events();
    if !wanted.has(class) {
        return;
    }
    let send = |channel: Vec<u8>, text: &[u8]| {
        node.listeners.deliver(false, &channel, text);
        if let Some(elsewhere) = &node.elsewhere {
            // It is on its way; nobody waits for the number.
            drop(elsewhere.publish(false, &channel, text));
        }
    };
    if wanted.has(Events::BY_KEY) {
        let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
        send(channel, event.as_bytes());
    }
    if wanted.has(Events::BY_EVENT) {
        send(format!("__keyevent@{db}__:{event}").into_bytes(), key);
    }
}

/// Publishes what a command has done to the keys that it has changed.
pub(super) fn tell(ctx: &mut Ctx<'_>, spec: &Spec, args: Args<'_>) {
    let mut changed = std::mem::take(&mut ctx.changed);
    let node = Arc::clone(ctx.node);
    if node.listeners.tracked().is_wanted() {
        tracking::tell_of(ctx, changed.iter().map(|(_, key)| key.clone()));
    }
    if !node.config.events().are_published() {
        return;
    }
    // Another database is where the second key is.
    let selected = ctx.session.db;
    let place = |(db, key): &(u8, Bytes)| {
        let mut keys = spec.keys_of(args);
        let place = keys.position(|name| *name == **key).unwrap_or(0);
        if *db == selected { place } else { 1 }
    };
    if node.sayings.are_in_order(spec) {
        changed.sort_by_key(place);
    }
    for one in &changed {
        let (nth, (db, key)) = (place(one), one);
        let Some(event) = node.sayings.of(spec, args, nth) else {
            break;
        };
        let object = ctx.some_in(*db, key, Reach::Head);
        let is_gone = object.is_ok_and(|object| !types::is_present(&object, clock::now_ms()));
        let said = |event: Event| publish(&node, *db, key, event);
        match event {
            // What leaves nothing has deleted it.
            (_, name)
                if is_gone && (name.ends_with("store") || name == "set" || event == EXPIRE) =>
            {
                said(DEL);
            }
            (_, "del" | "evicted" | "rename_from" | "move_from") => said(event),
            _ if is_gone => {
                said(event);
                said(DEL);
            }
            (_, "set") if says_when(spec, args) => {
                said(event);
                said(EXPIRE);
            }
            _ => said(event),
        }
    }
    for (key, event) in std::mem::take(&mut ctx.also) {
        publish(&node, selected, &key, event);
    }
}

/// Publishes that keys have ended since the last time; each member says it of those that it coordinates. What ended
/// before the instant that is returned, in milliseconds since the epoch, has been told of.
pub fn tell_of_ends(node: &Node, since: &mut Ended) -> u64 {
    let is_tracked = node.listeners.tracked().is_wanted();
    if !node.config.events().has(Events::EXPIRED) && !is_tracked {
        // What ended before somebody wanted to know is nobody's news.
        *since = Ended::now();
        return u64::MAX;
    }
    let ended = match node.replica.ended(since) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::debug!(%error, "keys that have ended are not told of");
            return u64::MAX;
        }
    };
    let coordinator = node.site.coordinator.as_ref();
    for (db, key) in ended {
        let is_ours = coordinator.is_none_or(|coordinator| coordinator.coordinates(&key));
        if is_tracked && !is_ours {
            // Whoever was its coordinator when it ended may be no more.
            node.listeners
                .tracked()
                .changed(None, &[Bytes::copy_from_slice(&key)]);
        }
        let number = (0..DATABASES).find(|number| node.replica.database(*number) == db);
        if let Some(number) = number.filter(|_| is_ours) {
            publish(node, number, &key, (Events::EXPIRED, "expired"));
            if is_tracked {
                tracking::tell(node, None, &[Bytes::from(key)]);
            }
        }
    }
    since.until_ms()
}
