//! Client-side caching: which clients of this node remember which keys, and telling them that those have changed.
//!
//! A client is told of a key once: it reads it again, and is tracked again. What it is told too much costs it a
//! read; what it is not told it would show for ever. So everything is taken back whenever something may have been
//! missed: when a member comes back, and when members have to be told anew that somebody here wants to know.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;

use super::inbox::Inbox;
use crate::base::clock;
use crate::resp::{Protocol, Reply};

/// The channel of old clients.
const CHANNEL: &[u8] = b"__redis__:invalidate";
/// Changes that are told again; beyond that everything has changed.
const MOST_AGAIN: usize = 1 << 20;

/// A client that wants to know what changes.
pub struct Tracker {
    /// The client.
    pub id: u64,
    /// Who is told in its place.
    pub redirect: Option<u64>,
    /// It wants to know of all keys that begin like one of these, whether it has read them or not.
    pub prefixes: Option<BTreeSet<Bytes>>,
    /// Not of what it changes itself.
    pub skips_own: bool,
    inbox: Arc<Inbox>,
    is_lost: AtomicBool,
}

impl Tracker {
    /// One whose messages come here.
    pub fn new(id: u64, inbox: &Arc<Inbox>) -> Self {
        Self {
            id,
            redirect: None,
            prefixes: None,
            skips_own: false,
            inbox: Arc::clone(inbox),
            is_lost: AtomicBool::new(false),
        }
    }

    /// Whether whom it is redirected to has gone.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}

/// Keys in the order in which they came, and some that are no longer remembered.
#[derive(Default)]
struct Order(VecDeque<Bytes>);

impl Order {
    /// A key comes; those that go, where there are more than `most` of those that are remembered (zero: any number).
    fn add(
        &mut self,
        key: Bytes,
        (count, most): (usize, usize),
        is_remembered: impl Fn(&Bytes) -> bool,
    ) -> Vec<Bytes> {
        self.0.push_back(key);
        let mut gone = Vec::new();
        while most > 0
            && gone.len() < count.saturating_sub(most)
            && let Some(oldest) = self.0.pop_front()
        {
            if is_remembered(&oldest) {
                gone.push(oldest);
            }
        }
        if self.0.len() > 2 * count.max(1_024) {
            self.0.retain(is_remembered);
        }
        gone
    }
}

/// All of them.
#[derive(Default)]
pub struct Tracked {
    clients: DashMap<u64, Arc<Tracker>>,
    /// Who has read a key since it was told of it.
    keys: DashMap<Bytes, BTreeSet<u64>>,
    key_count: AtomicUsize,
    /// Them in the order in which they came, so that the oldest go.
    order: Mutex<Order>,
    /// How many readers of keys there are in all.
    item_count: AtomicUsize,
    /// How many clients, how many of them by prefixes, and whether somebody elsewhere.
    count: AtomicUsize,
    by_prefix: AtomicUsize,
    elsewhere: AtomicBool,
    /// Where the messages of clients come, for those who are told in the place of others.
    inboxes: DashMap<u64, Arc<Inbox>>,
    /// What is told again, and when.
    again: Mutex<VecDeque<(Instant, Bytes)>>,
}

impl Tracked {
    /// Whether somebody on this node wants to know what changes.
    pub fn is_on(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether somebody on any node does.
    pub fn is_wanted(&self) -> bool {
        self.is_on() || self.elsewhere.load(Ordering::Relaxed)
    }

    pub(super) fn set_elsewhere(&self, wanted: bool) {
        self.elsewhere.store(wanted, Ordering::Relaxed);
    }

    /// A client's messages come here.
    pub(super) fn add_inbox(&self, id: u64, inbox: &Arc<Inbox>) {
        self.inboxes.insert(id, Arc::clone(inbox));
    }

    /// A client's messages come nowhere any more.
    pub(super) fn remove_inbox(&self, id: u64) {
        self.inboxes.remove(&id);
    }

    /// A client wants to know, or wants to know otherwise.
    pub fn begin(&self, tracker: Arc<Tracker>) {
        let is_by_prefix = tracker.prefixes.is_some();
        let before = self.clients.insert(tracker.id, tracker);
        if before.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        self.count_prefixes(before.as_deref(), is_by_prefix);
    }

    /// A client does not want to know any more; whether it did.
    pub fn end(&self, id: u64) -> bool {
        let Some((_, before)) = self.clients.remove(&id) else {
            return false;
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.count_prefixes(Some(&before), false);
        if !self.is_on() {
            self.forget_keys();
            self.again.lock().clear();
            // Somebody may have begun meanwhile, and read.
            for tracker in &self.clients {
                self.send(&tracker, None);
            }
        }
        true
    }

    fn count_prefixes(&self, before: Option<&Tracker>, is_now: bool) {
        let was = before.is_some_and(|before| before.prefixes.is_some());
        match (was, is_now) {
            (false, true) => self.by_prefix.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.by_prefix.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// A client has gone: those for whom it was told are told so when there is something to tell.
    pub fn lose(&self, id: u64) {
        for tracker in self.clients.iter().filter(|one| one.redirect == Some(id)) {
            tracker.is_lost.store(true, Ordering::Relaxed);
        }
    }

    /// A client reads a key. Of more keys than `most` some are told of as if they had changed; zero: any number.
    pub fn note(&self, id: u64, key: &[u8], most: usize) {
        let name = Bytes::copy_from_slice(key);
        let count = {
            let mut readers = self.keys.entry(name.clone()).or_default();
            let is_new = readers.is_empty();
            if !readers.insert(id) {
                return;
            }
            self.item_count.fetch_add(1, Ordering::Relaxed);
            if !is_new {
                return;
            }
            self.key_count.fetch_add(1, Ordering::Relaxed) + 1
        };
        let gone = self
            .order
            .lock()
            .add(name, (count, most), |key| self.keys.contains_key(key));
        self.changed(None, &gone);
    }

    /// Whether a client would be told of a key.
    pub fn remembers(&self, id: u64, key: &[u8]) -> bool {
        self.keys
            .get(key)
            .is_some_and(|readers| readers.contains(&id))
    }

    /// A client has read what has changed meanwhile.
    pub fn tell_again(&self, id: u64, key: &[u8]) {
        if let Some(tracker) = self.clients.get(&id) {
            self.send(&tracker, Some(&[Bytes::copy_from_slice(key)]));
        }
    }

    /// Keys have changed, by a client of this node or otherwise.
    pub fn changed(&self, by: Option<u64>, keys: &[Bytes]) {
        let is_told = |one: &Tracker| !(one.skips_own && by == Some(one.id));
        for key in keys {
            let Some((_, readers)) = self.keys.remove(key) else {
                continue;
            };
            self.key_count.fetch_sub(1, Ordering::Relaxed);
            self.item_count.fetch_sub(readers.len(), Ordering::Relaxed);
            for id in readers {
                let tracker = self.clients.get(&id);
                let tracker = tracker.filter(|one| one.prefixes.is_none() && is_told(one));
                if let Some(tracker) = tracker {
                    self.send(&tracker, Some(std::slice::from_ref(key)));
                }
            }
        }
        if self.by_prefix.load(Ordering::Relaxed) == 0 {
            return;
        }
        for tracker in self.clients.iter().filter(|one| is_told(one)) {
            let Some(prefixes) = &tracker.prefixes else {
                continue;
            };
            // One message a prefix, as in Redis.
            for prefix in prefixes {
                let those = keys.iter().filter(|key| key.starts_with(prefix));
                let those: Vec<Bytes> = those.cloned().collect();
                if !those.is_empty() {
                    self.send(&tracker, Some(&those));
                }
            }
        }
    }

    /// The same, and again after a while: until then a read may find what was before on some copies.
    pub fn changed_on_some(&self, by: Option<u64>, keys: &[Bytes], after: Duration) {
        if !self.is_on() {
            return;
        }
        self.changed(by, keys);
        let at = clock::monotonic() + after;
        let mut again = self.again.lock();
        again.extend(keys.iter().map(|key| (at, key.clone())));
        if again.len() > MOST_AGAIN {
            again.clear();
            drop(again);
            self.all_changed();
        }
    }

    /// Tells again what is due.
    pub fn tell_due(&self) {
        let now = clock::monotonic();
        let due = {
            let mut again = self.again.lock();
            let count = again.partition_point(|(at, _)| *at <= now);
            again.drain(..count).map(|(_, key)| key).collect::<Vec<_>>()
        };
        self.changed(None, &due);
    }

    /// Any key may have changed.
    pub fn all_changed(&self) {
        if !self.is_on() {
            return;
        }
        self.forget_keys();
        for tracker in &self.clients {
            self.send(&tracker, None);
        }
    }

    fn forget_keys(&self) {
        self.order.lock().0.clear();
        self.keys.retain(|_, readers| {
            self.key_count.fetch_sub(1, Ordering::Relaxed);
            self.item_count.fetch_sub(readers.len(), Ordering::Relaxed);
            false
        });
    }

    /// How a client is tracked, if it is.
    pub fn of(&self, id: u64) -> Option<Arc<Tracker>> {
        self.clients.get(&id).map(|tracker| Arc::clone(&tracker))
    }

    fn send(&self, tracker: &Tracker, keys: Option<&[Bytes]>) {
        let Some(target) = tracker.redirect else {
            if tracker.inbox.protocol() == Protocol::Resp3 {
                tracker.inbox.put(message(Protocol::Resp3, keys));
            }
            return;
        };
        if let Some(inbox) = self.inboxes.get(&target) {
            if inbox.takes_messages() {
                inbox.put(message(inbox.protocol(), keys));
            }
        } else if tracker.is_lost() && tracker.inbox.protocol() == Protocol::Resp3 {
            let mut lost = Reply::default();
            lost.set_protocol(Protocol::Resp3);
            lost.push(2);
            lost.bulk(b"tracking-redir-broken");
            lost.integer(target as i64);
            tracker.inbox.put(std::mem::take(lost.buffer()).freeze());
        }
    }

    /// How many clients, keys, pairs of both, and prefixes there are.
    pub fn figures(&self) -> [usize; 4] {
        let prefixes =
            |one: &Arc<Tracker>| one.prefixes.iter().flatten().cloned().collect::<Vec<_>>();
        let prefixes: BTreeSet<Bytes> =
            self.clients.iter().flat_map(|one| prefixes(&one)).collect();
        let [keys, items] =
            [&self.key_count, &self.item_count].map(|count| count.load(Ordering::Relaxed));
        [self.clients.len(), keys, items, prefixes.len()]
    }
}

fn message(protocol: Protocol, keys: Option<&[Bytes]>) -> Bytes {
    let mut reply = Reply::default();
    reply.set_protocol(protocol);
    if protocol == Protocol::Resp3 {
        reply.push(2);
        reply.bulk(b"invalidate");
    } else {
        reply.array(3);
        reply.bulk(b"message");
        reply.bulk(CHANNEL);
    }
    match keys {
        Some(keys) => reply.bulks(keys),
        None => reply.null(),
    }
    std::mem::take(reply.buffer()).freeze()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::inbox::Limits;
    use super::*;

    fn taken(inbox: &Inbox) -> String {
        let mut out = BytesMut::new();
        inbox.take(&mut out, usize::MAX);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn who_has_read_a_key_is_told_once_that_it_has_changed() {
        let tracked = Tracked::default();
        let inbox = Arc::new(Inbox::new(Limits::default(), Protocol::Resp3));
        tracked.begin(Arc::new(Tracker::new(1, &inbox)));
        tracked.note(1, b"a", 0);
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        tracked.changed(None, &[a.clone(), b.clone()]);
        tracked.changed(None, &[a.clone(), b]);
        assert_eq!(
            taken(&inbox),
            ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"
        );
        tracked.all_changed();
        assert_eq!(taken(&inbox), ">2\r\n$10\r\ninvalidate\r\n_\r\n");
        tracked.changed_on_some(None, std::slice::from_ref(&a), Duration::ZERO);
        assert_eq!(taken(&inbox), "");
        tracked.note(1, b"a", 0);
        tracked.tell_due();
        assert!(
            taken(&inbox).contains("invalidate"),
            "it read what was before"
        );
        assert!(tracked.end(1) && !tracked.end(1) && !tracked.is_wanted());
    }

    #[test]
    fn more_keys_than_may_be_remembered_are_told_of() {
        let tracked = Tracked::default();
        let inbox = Arc::new(Inbox::new(Limits::default(), Protocol::Resp3));
        tracked.begin(Arc::new(Tracker::new(1, &inbox)));
        for nth in 0..10_u8 {
            tracked.note(1, &[b'a' + nth], 4);
        }
        assert_eq!(tracked.figures(), [1, 4, 4, 0]);
        assert_eq!(taken(&inbox).matches("invalidate").count(), 6);
    }

    #[test]
    fn by_prefixes_one_is_told_of_all_of_them_but_not_of_ones_own() {
        let tracked = Tracked::default();
        let inbox = Arc::new(Inbox::new(Limits::default(), Protocol::Resp3));
        let prefixes = Some(BTreeSet::from([Bytes::from_static(b"cart:")]));
        let tracker = Tracker {
            prefixes,
            skips_own: true,
            ..Tracker::new(1, &inbox)
        };
        tracked.begin(Arc::new(tracker));
        let keys = [Bytes::from_static(b"cart:1"), Bytes::from_static(b"other")];
        tracked.changed(Some(1), &keys);
        assert_eq!(taken(&inbox), "");
        tracked.changed(Some(2), &keys);
        assert!(taken(&inbox).ends_with("*1\r\n$6\r\ncart:1\r\n"));
    }
}
