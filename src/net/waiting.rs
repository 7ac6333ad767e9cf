//! What a connection waits for beside its own input.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::command::{Feed, Node};
use crate::pubsub::Inbox;

/// Waits until writes are on the disk; whether they are.
pub(super) async fn await_sync(node: &Node, writes: &[u64], timeout: Option<Duration>) -> bool {
    let store = node.replica.store();
    let all = async {
        for (shard, &ticket) in writes.iter().enumerate() {
            store.kick(shard);
            // Of what was not stored its writer was told; what came before it is on the disk.
            let synced = store.progress(shard).wait_synced(ticket).await;
            if synced == Err(crate::replica::WriteFailed::Unknown) {
                return false;
            }
        }
        true
    };
    if let Some(timeout) = timeout {
        return tokio::time::timeout(timeout, all).await.unwrap_or(false);
    }
    all.await
}

/// How often it is looked whether a client has gone that has sent more before.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until the client has closed its side. Who has sent more is there, until it goes.
pub(super) async fn gone(stream: &TcpStream) {
    if let Ok(0) | Err(_) = stream.peek(&mut [0]).await {
        return;
    }
    while let Ok(ready) = stream.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) async fn next_line(monitor: &mut Option<Feed>) -> Option<Arc<str>> {
    match monitor {
        Some(monitor) => monitor.next().await,
        None => std::future::pending().await,
    }
}

/// Waits until a message of a channel is there.
pub(super) async fn has_messages(inbox: Option<&Inbox>) {
    match inbox {
        Some(inbox) => inbox.has_some().await,
        None => std::future::pending().await,
    }
}

/// Waits until more messages wait than may.
pub(super) async fn has_too_many(inbox: Option<&Inbox>) {
    match inbox {
        Some(inbox) => inbox.over().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn sleep_or_never(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
