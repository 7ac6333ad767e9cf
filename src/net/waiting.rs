//! What a connection waits for beside its own input.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::command::{Feed, Node};

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

/// Waits until the client has closed its side; who sends more is there.
pub(super) async fn gone(stream: &TcpStream) {
    match stream.peek(&mut [0]).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

pub(super) async fn next_line(monitor: &mut Option<Feed>) -> Option<Arc<str>> {
    match monitor {
        Some(monitor) => monitor.next().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn sleep_or_never(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
