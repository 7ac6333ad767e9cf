//! Who listens on this node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::RwLock;

use super::inbox::{Inbox, Limits, Message};
use super::kind::Kind;
use super::tracked::Tracked;
use crate::logic::glob;
use crate::resp::Protocol;

/// The clients that listen to one thing, by their numbers.
type Listeners = BTreeMap<u64, Arc<Inbox>>;

/// Who listens.
#[derive(Default)]
pub struct Here {
    channels: DashMap<Bytes, Listeners>,
    shards: DashMap<Bytes, Listeners>,
    patterns: RwLock<BTreeMap<Bytes, Listeners>>,
    /// How many patterns there are: most of the time there is none.
    pattern_count: AtomicUsize,
    tracked: Tracked,
}

impl Here {
    /// Who wants to know what changes.
    pub fn tracked(&self) -> &Tracked {
        &self.tracked
    }

    /// A client's messages come to a new inbox.
    pub fn open_inbox(&self, id: u64, limits: Limits, protocol: Protocol) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::new(limits, protocol));
        self.tracked.add_inbox(id, &inbox);
        inbox
    }

    /// It is read no more.
    pub fn close_inbox(&self, id: u64) {
        self.tracked.remove_inbox(id);
    }

    fn map(&self, kind: Kind) -> Option<&DashMap<Bytes, Listeners>> {
        match kind {
            Kind::Channel => Some(&self.channels),
            Kind::Shard => Some(&self.shards),
            Kind::Pattern => None,
        }
    }

    /// A client listens; whether it is the first.
    pub fn add(&self, kind: Kind, name: &Bytes, client: (u64, &Arc<Inbox>)) -> bool {
        let (id, inbox) = (client.0, Arc::clone(client.1));
        if let Some(map) = self.map(kind) {
            let mut listeners = map.entry(name.clone()).or_default();
            listeners.insert(id, inbox);
            return listeners.len() == 1;
        }
        let mut patterns = self.patterns.write();
        let listeners = patterns.entry(name.clone()).or_default();
        listeners.insert(id, inbox);
        let is_first = listeners.len() == 1;
        self.pattern_count.store(patterns.len(), Ordering::Release);
        is_first
    }

    /// A client listens no more; whether it was the last.
    pub fn remove(&self, kind: Kind, name: &Bytes, id: u64) -> bool {
        if let Some(map) = self.map(kind) {
            let removed = map.remove_if_mut(name, |_, listeners| {
                listeners.remove(&id);
                listeners.is_empty()
            });
            return removed.is_some();
        }
        let mut patterns = self.patterns.write();
        let Some(listeners) = patterns.get_mut(name) else {
            return false;
        };
        listeners.remove(&id);
        let was_last = listeners.is_empty();
        if was_last {
            patterns.remove(name);
        }
        self.pattern_count.store(patterns.len(), Ordering::Release);
        was_last
    }

    /// Delivers a message; to how many clients (one that listens in several ways counts as often).
    pub fn deliver(&self, sharded: bool, channel: &[u8], text: &[u8]) -> u64 {
        let kind = if sharded { Kind::Shard } else { Kind::Channel };
        let mut count = 0;
        if let Some(listeners) = self.map(kind).and_then(|map| map.get(channel)) {
            count += hand(&listeners, (kind, None), (channel, text));
        }
        if sharded || self.pattern_count.load(Ordering::Acquire) == 0 {
            return count;
        }
        for (pattern, listeners) in self.patterns.read().iter() {
            if glob::matches(pattern, channel) {
                count += hand(listeners, (Kind::Pattern, Some(pattern)), (channel, text));
            }
        }
        count
    }

    /// Everything that somebody listens to.
    pub fn all(&self) -> Vec<(Kind, Bytes)> {
        let mut all = Vec::new();
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            all.extend(self.names(kind).into_iter().map(|name| (kind, name)));
        }
        all
    }

    /// The names of one kind that somebody listens to.
    pub fn names(&self, kind: Kind) -> Vec<Bytes> {
        match self.map(kind) {
            Some(map) => map.iter().map(|entry| entry.key().clone()).collect(),
            None => self.patterns.read().keys().cloned().collect(),
        }
    }

    /// How many names of each kind somebody listens to.
    pub fn sizes(&self) -> [usize; 3] {
        let patterns = self.pattern_count.load(Ordering::Acquire);
        [self.channels.len(), patterns, self.shards.len()]
    }

    /// Whether somebody listens to something.
    pub(super) fn has(&self, kind: Kind, name: &[u8]) -> bool {
        match self.map(kind) {
            Some(map) => map.contains_key(name),
            None => self.patterns.read().contains_key(name),
        }
    }

    /// How many clients listen to each of some channels.
    pub fn counts(&self, kind: Kind, names: &[Bytes]) -> Vec<u64> {
        let count = |name: &Bytes| {
            let listeners = self.map(kind).and_then(|map| map.get(name));
            listeners.map_or(0, |listeners| listeners.len() as u64)
        };
        names.iter().map(count).collect()
    }
}

fn hand(listeners: &Listeners, how: (Kind, Option<&[u8]>), what: (&[u8], &[u8])) -> u64 {
    let mut message = Message::default();
    for inbox in listeners.values() {
        inbox.put(message.in_protocol(inbox.protocol(), how, what));
    }
    listeners.len() as u64
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn a_message_comes_to_whoever_listens_to_its_channel_or_to_a_pattern_of_it() {
        let here = Here::default();
        let inbox = Arc::new(Inbox::new(Limits::default(), Protocol::Resp2));
        let name = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert!(here.add(Kind::Channel, &name("news"), (1, &inbox)));
        assert!(here.add(Kind::Pattern, &name("n*"), (1, &inbox)));
        assert!(!here.add(Kind::Pattern, &name("n*"), (2, &inbox)));
        assert_eq!(here.deliver(false, b"news", b"x"), 3);
        assert_eq!(here.deliver(true, b"news", b"x"), 0);
        assert_eq!(here.deliver(false, b"other", b"x"), 0);
        let mut out = BytesMut::new();
        inbox.take(&mut out, usize::MAX);
        assert!(out.starts_with(b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n*4\r\n"));
        assert!(!here.remove(Kind::Pattern, &name("n*"), 1));
        assert!(here.remove(Kind::Pattern, &name("n*"), 2));
        assert!(here.remove(Kind::Channel, &name("news"), 1));
        assert!(here.all().is_empty());
    }
}
