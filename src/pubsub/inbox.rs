//! The messages that wait for one client, within what `client-output-buffer-limit pubsub` allows.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::kind::Kind;
use crate::base::clock;
use crate::resp::{Protocol, Reply};

/// How much may wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes that may never wait; 0: any.
    pub hard_bytes: usize,
    /// Bytes that may wait for a while; 0: any.
    pub soft_bytes: usize,
    /// For how long they may.
    pub soft_for: Duration,
}

/// A message in both protocols, each written when the first client needs it.
#[derive(Default)]
pub struct Message {
    resp2: Option<Bytes>,
    resp3: Option<Bytes>,
}

impl Message {
    /// As a protocol has it.
    pub(super) fn in_protocol(
        &mut self,
        protocol: Protocol,
        (kind, pattern): (Kind, Option<&[u8]>),
        (channel, text): (&[u8], &[u8]),
    ) -> Bytes {
        let written = match protocol {
            Protocol::Resp2 => &mut self.resp2,
            Protocol::Resp3 => &mut self.resp3,
        };
        let write = || {
            let mut reply = Reply::default();
            reply.set_protocol(protocol);
            reply.push(3 + usize::from(pattern.is_some()));
            reply.bulk(kind.heads());
            if let Some(pattern) = pattern {
                reply.bulk(pattern);
            }
            reply.bulk(channel);
            reply.bulk(text);
            std::mem::take(reply.buffer()).freeze()
        };
        written.get_or_insert_with(write).clone()
    }
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// Since when more wait than may for long.
    beyond_since: Option<Instant>,
}

/// What waits for one client.
pub struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    ended: Notify,
    limits: Limits,
    /// 2 or 3.
    protocol: AtomicU8,
    is_over: AtomicBool,
    /// Whether its client listens to channels.
    listens: AtomicBool,
}

impl Inbox {
    /// An empty one.
    pub fn new(limits: Limits, protocol: Protocol) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            ended: Notify::new(),
            limits,
            protocol: AtomicU8::new(if protocol == Protocol::Resp3 { 3 } else { 2 }),
            is_over: AtomicBool::new(false),
            listens: AtomicBool::new(false),
        }
    }

    /// The client speaks another protocol now.
    pub fn set_protocol(&self, protocol: Protocol) {
        let number = if protocol == Protocol::Resp3 { 3 } else { 2 };
        self.protocol.store(number, Ordering::Relaxed);
    }

    /// Its client listens to channels, or does not.
    pub fn set_listens(&self, listens: bool) {
        self.listens.store(listens, Ordering::Relaxed);
    }

    /// Whether its client knows messages from replies.
    pub(super) fn takes_messages(&self) -> bool {
        self.protocol() == Protocol::Resp3 || self.listens.load(Ordering::Relaxed)
    }

    pub(super) fn protocol(&self) -> Protocol {
        if self.protocol.load(Ordering::Relaxed) == 3 {
            Protocol::Resp3
        } else {
            Protocol::Resp2
        }
    }

    /// A message comes.
    pub fn put(&self, message: Bytes) {
        if self.is_over() {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.bytes += message.len();
        waiting.messages.push_back(message);
        let beyond = |limit: usize| limit > 0 && waiting.bytes > limit;
        let too_much = if beyond(self.limits.hard_bytes) {
            true
        } else if beyond(self.limits.soft_bytes) {
            let now = clock::monotonic();
            let since = *waiting.beyond_since.get_or_insert(now);
            now.saturating_duration_since(since) >= self.limits.soft_for
        } else {
            waiting.beyond_since = None;
            false
        };
        if too_much {
            waiting.messages.clear();
            self.is_over.store(true, Ordering::Release);
            self.ended.notify_one();
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Whether more had to wait than may.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Waits until more has to wait than may.
    pub async fn over(&self) {
        while !self.is_over() {
            self.ended.notified().await;
        }
    }

    /// Takes messages, about so many bytes of them.
    pub fn take(&self, out: &mut BytesMut, most: usize) {
        let mut waiting = self.waiting.lock();
        while out.len() < most
            && let Some(message) = waiting.messages.pop_front()
        {
            waiting.bytes -= message.len();
            out.extend_from_slice(&message);
        }
        if waiting.bytes <= self.limits.soft_bytes {
            waiting.beyond_since = None;
        }
    }

    /// Waits until something is there.
    pub async fn has_some(&self) {
        loop {
            let arrived = self.arrived.notified();
            if self.is_over() || !self.waiting.lock().messages.is_empty() {
                return;
            }
            arrived.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_loses_what_waits_and_is_to_go() {
        let limits = Limits {
            hard_bytes: 100,
            ..Limits::default()
        };
        let inbox = Inbox::new(limits, Protocol::Resp2);
        for _ in 0..10 {
            inbox.put(Bytes::from_static(b"0123456789"));
        }
        assert!(!inbox.is_over());
        inbox.put(Bytes::from_static(b"x"));
        assert!(inbox.is_over());
        let mut out = BytesMut::new();
        inbox.take(&mut out, 1_000);
        assert!(out.is_empty());
    }

    #[test]
    fn messages_come_in_their_order_as_far_as_they_fit() {
        let inbox = Inbox::new(Limits::default(), Protocol::Resp2);
        for text in ["a", "b", "c"] {
            inbox.put(Bytes::from_static(text.as_bytes()));
        }
        let mut out = BytesMut::new();
        inbox.take(&mut out, 2);
        assert_eq!(&out[..], b"ab");
        inbox.take(&mut out, 10);
        assert_eq!(&out[..], b"abc");
    }
}
