//! A script that waits for a command which runs elsewhere.

use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;

use super::host::{Kept, Reaches};
use super::known::{Begun, Body};
use crate::base::blocking::at_length;
use crate::base::clock;
use crate::command::node::Node;
use crate::routing::{Later, Paused};
use crate::script::{Machine, Step};

/// A script between two of its commands.
pub(super) struct Suspended {
    pub(super) node: Arc<Node>,
    pub(super) machine: Machine,
    pub(super) body: Arc<Body>,
    /// It counts as running meanwhile.
    pub(super) begun: Begun,
    pub(super) kept: Arc<Mutex<Kept>>,
    /// Whether nothing is known of what it does behind its first pause.
    pub(super) is_first: bool,
}

impl Paused for Suspended {
    fn awaited(&mut self) -> Later {
        let awaited = self.kept.lock().awaited.take();
        awaited.unwrap_or_else(|| Box::pin(std::future::ready(BytesMut::new())))
    }

    fn resume(mut self: Box<Self>, reply: BytesMut) -> Result<BytesMut, Box<dyn Paused>> {
        // It has its keys no longer.
        self.kept.lock().reaches = Reaches::Each;
        let machine = &mut self.machine;
        let started = clock::monotonic();
        let step = if self.body.is_slow() || self.is_first || self.node.scripts.has_long_one() {
            at_length(|| machine.resume(&reply))
        } else {
            machine.resume(&reply)
        };
        let took = clock::monotonic() - started;
        self.body.note_run(took, &self.begun.running);
        self.is_first = false;
        match step {
            Step::Done(reply) => {
                self.machine.end();
                let Self {
                    node,
                    machine,
                    begun,
                    ..
                } = *self;
                drop(begun);
                node.scripts.give_back(machine);
                Ok(reply)
            }
            Step::Paused => Err(self),
        }
    }
}
