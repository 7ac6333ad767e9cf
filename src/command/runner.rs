//! The node as routing sees it: who has the table, and runs what it says.

use std::sync::Arc;

use smallvec::SmallVec;

use super::context::After;
use super::node::{Node, NodeOptions};
use super::session::Session;
use super::{dispatch, scripts, table};
use crate::base::clock;
use crate::error::Error;
use crate::resp::Reply;
use crate::routing::args::OwnedArgs;
use crate::routing::{Call, Doing, Later, Ran, Runner, Site, Who};

/// A node that has started, with the commands of the table.
pub fn node(options: NodeOptions) -> Arc<Node> {
    Node::new(options, table::specs())
}

impl Runner for Node {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, words: OwnedArgs) -> Option<Call> {
        let args = words.as_args();
        let found = table::specs().find(args);
        let spec = found.filter(|spec| spec.takes(args.len()))?;
        let positions = spec.shape.positions(args);
        Some(Call::new(spec.id(), &spec.shape, words, positions))
    }

    /// SIBLINGS says the context, and whether there is a value.
    fn look_at(&self, key: &[u8]) -> Call {
        about("siblings", key)
    }

    fn is_there(&self, key: &[u8]) -> Call {
        about("exists", key)
    }

    fn run(self: Arc<Self>, who: &Who, call: &Call) -> Ran {
        let mut session = Session::new(Arc::clone(&self.inner_client), true);
        session.db = who.db;
        session.since = who.since;
        session.quorum = who.quorum;
        session.own = Arc::clone(&who.own);
        let mut reply = Reply::default();
        reply.set_protocol(who.protocol);
        let mut written = Vec::new();
        let now = clock::monotonic();
        let mut ctx = dispatch::context(&self, &mut session, &mut reply, &mut written, now);
        // Its client's node counts it.
        ctx.is_part = true;
        ctx.run(&table::specs().all()[call.row], call.args());
        let seen = ctx.seen.take();
        let paused = match std::mem::take(&mut ctx.after) {
            After::Paused(paused) => Some(paused),
            _ => None,
        };
        drop(ctx);
        Ran {
            reply: std::mem::take(reply.buffer()),
            written,
            seen,
            paused,
        }
    }

    fn fetch(self: Arc<Self>, call: &Call) -> Option<Doing> {
        scripts::fetch(self, call)
    }

    fn spread(self: Arc<Self>, who: Who, call: Call) -> Later {
        scripts::spread(self, who, call, dispatch::RUN)
    }

    fn count_error(&self, error: &Error) {
        self.stats.count_error(error);
    }
}

/// A command about one key.
fn about(command: &str, key: &[u8]) -> Call {
    let spec = table::specs().by_name(command);
    let spec = spec.expect("the table has it");
    let mut words = OwnedArgs::default();
    words.push(command.as_bytes());
    words.push(key);
    let positions = SmallVec::from_slice(&[1]);
    Call::new(spec.id(), &spec.shape, words, positions)
}
