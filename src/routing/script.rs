//! A script whose commands run elsewhere: each at the coordinator of its keys, in the script's order.

use bytes::BytesMut;

use super::runner::Paused;

/// Brings a script the replies that it waits for, until it has ended.
pub async fn drive(mut paused: Box<dyn Paused>) -> BytesMut {
    loop {
        let reply = paused.awaited().await;
        match paused.resume(reply) {
            Ok(reply) => return reply,
            Err(next) => paused = next,
        }
    }
}
