//! Messages of channels, between replies and while a command waits; and how much of both may wait.

use std::time::Duration;

use super::super::waiting::{gone, has_messages};
use super::{Connection, FLUSH_BYTES};

impl Connection {
    /// Puts messages of channels behind the replies.
    pub(super) fn take_messages(&mut self) {
        let Some(inbox) = self.session.listens.inbox() else {
            return;
        };
        if inbox.is_over() {
            tracing::warn!(client = %self.session.client.address,
                "closed: its messages are beyond client-output-buffer-limit");
            self.closing = true;
        }
        inbox.set_protocol(self.reply.protocol());
        inbox.take(self.reply.buffer(), FLUSH_BYTES);
    }

    /// Waits, and delivers messages meanwhile; `None`: the connection is over.
    pub(super) async fn wait_for<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        loop {
            let inbox = self.session.listens.inbox().cloned();
            tokio::select! {
                biased;
                found = &mut future => return Some(found),
                () = gone(&self.stream) => return None,
                () = self.session.client.over() => return None,
                () = has_messages(inbox.as_deref()) => {}
            }
            self.take_messages();
            if self.closing || self.send().await.is_err() {
                return None;
            }
        }
    }

    /// How long so many bytes of replies may wait; an error when they may not wait at all.
    pub(super) fn patience(&self, len: u64) -> std::io::Result<Option<Duration>> {
        let limit = if self.session.listens.is_confined() {
            Some(self.node.config.pubsub_limit())
        } else {
            self.node.config.output_limit()
        };
        let Some(limit) = limit else {
            return Ok(None);
        };
        let beyond = |bytes: i64| bytes > 0 && len > bytes as u64;
        if beyond(limit.hard_bytes) {
            return Err(self.too_much_output(len));
        }
        let secs = Duration::from_secs(limit.soft_secs as u64);
        Ok(beyond(limit.soft_bytes).then_some(secs))
    }

    pub(super) fn too_much_output(&self, bytes: u64) -> std::io::Error {
        tracing::warn!(client = %self.session.client.address, bytes,
            "closed: its replies are beyond client-output-buffer-limit");
        std::io::ErrorKind::ConnectionAborted.into()
    }
}
