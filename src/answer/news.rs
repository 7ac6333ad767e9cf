//! What another member tells all: about scripts, and about who listens to what.

use crate::command::{Node, hear_of_changes};
use crate::logic::placement::NodeId;
use crate::peer::Answer;
use crate::peer::message::{News, Response};
use crate::pubsub::Kind;
use crate::script::Stopped;

/// Takes it in.
pub(super) fn start(node: &Node, from: NodeId, news: News) -> Answer {
    Answer::Now(match news {
        News::ForgetScripts => {
            node.scripts.forget();
            Response::Done
        }
        News::ForgetFunctions => {
            node.libraries.forget();
            Response::Done
        }
        News::Changed(keys) => {
            hear_of_changes(node, &keys);
            Response::Done
        }
        News::StopScripts => match node.scripts.stop(None) {
            Some(Stopped::Yes) => Response::Done,
            Some(Stopped::HasWritten) => Response::InDoubt,
            None => Response::Same,
        },
        News::Publish {
            sharded,
            channel,
            message,
        } => Response::Counts(vec![node.listeners.deliver(sharded, &channel, &message)]),
        News::Count { sharded, channels } => {
            let kind = if sharded { Kind::Shard } else { Kind::Channel };
            Response::Counts(node.listeners.counts(kind, &channels))
        }
        News::Listens {
            actor,
            from: before,
            to,
            changes,
        } => {
            let elsewhere = node.elsewhere.as_ref();
            if elsewhere.is_some_and(|others| others.hear(from, (actor, before, to), changes)) {
                Response::Done
            } else {
                Response::Refused("something was missed: everything is to be told".into())
            }
        }
    })
}
