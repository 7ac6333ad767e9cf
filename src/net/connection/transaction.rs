//! EXEC in a cluster: in one go, or one command after the other, each at its coordinator.

use std::sync::Arc;

use super::{Connection, Pending};
use crate::base::clock;
use crate::command::{self, After, Ctx, Exec, Node};
use crate::routing::Runner;

impl Connection {
    fn within<'a>(&'a mut self, node: &'a Arc<Node>, run: impl FnOnce(&mut Ctx<'a>)) -> After {
        let mut ctx = command::context(
            node,
            &mut self.session,
            &mut self.reply,
            &mut self.written,
            clock::monotonic(),
        );
        run(&mut ctx);
        self.timed.extend(ctx.timed.take());
        for write in ctx.seen.take() {
            self.pending.push(Pending {
                write,
                is_own: false,
                reply: 0..0,
            });
        }
        ctx.after
    }

    /// Runs a transaction's commands: in one go, or in order, each at its coordinator.
    pub(super) async fn run_transaction(&mut self, mut exec: Exec) {
        let node = Arc::clone(&self.node);
        let runner: Arc<dyn Runner> = Arc::clone(&self.node) as Arc<dyn Runner>;
        if let Some(later) = exec.as_one(&runner, |spec, args| command::called(&node, spec, args)) {
            return self.begin_later(later).await;
        }
        if !exec.may_run(&runner).await {
            if !self.silent {
                self.reply.null_array();
            }
            return;
        }
        let before = self.reply.len();
        let mut gathered = std::mem::take(&mut self.reply);
        gathered.array(exec.steps.len());
        self.reply.set_protocol(gathered.protocol());
        self.session.executing = true;
        for (spec, words) in std::mem::take(&mut exec.steps) {
            let args = words.as_args();
            let mut after = self.within(&node, |ctx| command::step(ctx, spec, args));
            if let After::Held(spec, wanted) = after {
                let turns = command::turns(&node, &wanted).await;
                after = self.within(&node, |ctx| match turns {
                    Some(turns) => command::resume(ctx, spec, args, turns),
                    None => command::refuse(ctx, spec),
                });
            }
            match after {
                After::Later(later) | After::Waiting(later) => {
                    let said = later.await;
                    self.reply.buffer().extend_from_slice(&said);
                }
                After::Close | After::Cut => self.closing = true,
                _ => {}
            }
            let said = self.reply.buffer().split();
            gathered.buffer().extend_from_slice(&said);
        }
        self.session.executing = false;
        gathered.set_protocol(self.reply.protocol());
        self.reply = gathered;
        if self.silent {
            self.reply.buffer().truncate(before);
        }
    }
}
