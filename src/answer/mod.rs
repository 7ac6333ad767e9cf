//! What this node answers to others: the asked side of `coordinator`, `routing` and `convergence`, a file a
//! family of requests.

mod commands;
mod deltas;
mod keys;
mod membership;
mod news;
mod take;

use std::sync::Arc;
use std::time::Duration;

use crate::command::Node;
use crate::convergence::Convergence;
use crate::logic::membership::Member;
use crate::logic::placement::NodeId;
use crate::peer::message::{Request, Response, WhyNot};
use crate::peer::{Answer, Handler, Identity};
use crate::routing::{self, Runner};

/// The handler of a node in a cluster.
pub struct PeerHandler(pub Arc<Node>);

impl Handler for PeerHandler {
    fn identity(&self) -> Identity {
        let coordinator = self.0.site.coordinator.as_ref();
        coordinator
            .expect("only a node in a cluster listens")
            .cluster()
            .identity()
    }

    fn start(&self, from: NodeId, request: Request, age: Duration) -> Answer {
        let node = Arc::clone(&self.0);
        if let Some(refused) = refused(&node, from, &request) {
            return Answer::Now(refused);
        }
        match request {
            Request::Key(request) => keys::start(node, request),
            Request::Forward(command) => commands::start(node, command, age),
            Request::Membership(request) => {
                Answer::Later(Box::pin(membership::answer(node, from, request)))
            }
            Request::KeySpace(request) => Answer::Later(Box::pin(async move {
                let runner: Arc<dyn Runner> = node;
                routing::answer(&runner, request).await
            })),
            Request::News(news) => news::start(&node, from, news),
            Request::Exchange(request) => converge(&node, async move |convergence| {
                convergence.answer(from, request).await
            }),
            Request::Transfer(request) => converge(&node, async move |convergence| {
                convergence.answer_transfer(request).await
            }),
        }
    }

    fn all_started(&self) {
        if let Some(coordinator) = &self.0.site.coordinator {
            coordinator.end_turn_soon();
        }
    }
}

/// What a node is told that may not ask for this.
fn refused(node: &Node, from: NodeId, request: &Request) -> Option<Response> {
    let cluster = node.site.coordinator.as_ref()?.cluster();
    let is_known = cluster.with_membership(|m| m.member(from).is_some_and(Member::is_present));
    let not_a_member = || Some(Response::Refused("the asker is not a member".into()));
    match request {
        Request::Membership(request) => {
            if let Some(reason) = membership::refusal(cluster, request, is_known) {
                return Some(Response::Refused(reason.into()));
            }
            if is_known || membership::is_open(request) {
                return None;
            }
            not_a_member()
        }
        _ if is_known => None,
        Request::Key(_) => {
            // A node that does not know that it is gone must hear it.
            let was = cluster.with_membership(|m| m.member(from).is_some());
            if was {
                return Some(Response::Outdated(cluster.everybody()));
            }
            not_a_member()
        }
        Request::Forward(_) => Some(Response::NotRun(WhyNot::NotHere)),
        Request::KeySpace(_) | Request::Exchange(_) | Request::Transfer(_) | Request::News(_) => {
            not_a_member()
        }
    }
}

/// Answers what concerns the copies of whole partitions, where it holds up nobody.
fn converge<F>(node: &Node, answer: impl FnOnce(Arc<Convergence>) -> F) -> Answer
where
    F: Future<Output = Response> + Send + 'static,
{
    let Some(convergence) = node.convergence.clone() else {
        return Answer::Now(Response::Refused("not in a cluster".into()));
    };
    let answer = answer(convergence);
    let Some(background) = &node.background else {
        return Answer::Later(Box::pin(answer));
    };
    let answer = background.spawn(answer);
    let lost = || Response::Refused("the answer was lost".into());
    Answer::Later(Box::pin(
        async move { answer.await.unwrap_or_else(|_| lost()) },
    ))
}
