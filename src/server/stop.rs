//! How a node is asked to stop, and what it says to the others before it does.

use std::time::Duration;

use futures_util::future::join_all;

use crate::command::Node;

/// How long the others may take to hear that this node stops, and how long what they have sent until
/// then may be on its way.
const TOLD_WITHIN: Duration = Duration::from_millis(500);
const LAST_REQUESTS: Duration = Duration::from_millis(300);

/// SIGTERM and SIGINT ask the node to stop; the listener then drains and returns.
pub(super) async fn stop_on_signal(node: &Node) {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    if let (Ok(mut terminate), Ok(mut interrupt)) = signals {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = node.was_asked_to_stop() => {}
        }
        tracing::info!("asked to stop: finishing what has begun");
        hand_over(node).await;
        node.stop();
    }
    std::future::pending::<()>().await;
}

/// Tells the other members that this one stops, so that they send it nothing more, and gives what is on
/// its way the time to come.
async fn hand_over(node: &Node) {
    let Some(coordinator) = node.site.coordinator.as_ref() else {
        return;
    };
    let cluster = coordinator.cluster();
    if !cluster.has_joined() {
        return;
    }
    // A member that has left and holds nothing any more is gone when it stops.
    if let Some(Err(error)) = node.convergence.as_ref().map(|c| c.survey()) {
        tracing::debug!(%error, "what this node holds is not known");
    }
    cluster.say_it_stops();
    let push = cluster.news();
    let others = cluster.members().into_iter().map(|member| member.id);
    let others = others.filter(|id| *id != cluster.me() && cluster.answers(*id));
    let told = others.map(|id| cluster.peers().call(id, push.clone(), TOLD_WITHIN));
    let told = join_all(told).await;
    if told.iter().any(Result::is_ok) {
        tokio::time::sleep(LAST_REQUESTS).await;
    }
}
