//! What a member does by itself beside serving: each worker by its name. They end when they are dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::background::{self, HandoffOptions};
use crate::command::Node;

/// Where a worker's chances come from.
pub type Chance = Box<dyn FnMut() -> u64 + Send>;

/// One worker.
pub struct Worker {
    /// Its name.
    pub name: &'static str,
    /// Where it runs.
    pub runs: Runs,
    /// What it does, for ever.
    pub work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Where a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Where it gives way to what somebody waits for.
    GivingWay,
    /// Not where clients are served: heartbeats wait for nobody's commands.
    Beside,
    /// Where clients are served.
    Serving,
}

impl Worker {
    fn new(
        name: &'static str,
        runs: Runs,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            name,
            runs,
            work: Box::pin(work),
        }
    }
}

/// The workers of a member; a lone node has none.
pub fn workers(
    node: &Arc<Node>,
    seeds: Vec<String>,
    chance: impl Fn(&str) -> Chance,
) -> Vec<Worker> {
    let (Some(coordinator), Some(convergence)) = (&node.site.coordinator, &node.convergence) else {
        return Vec::new();
    };
    let cluster = || Arc::clone(coordinator.cluster());
    let governor = || Arc::clone(&node.governor);
    let a_second = node.config.number("hint-rate") as u32;
    let every = Duration::from_secs(node.config.number("anti-entropy-interval") as u64);
    let moving = HandoffOptions {
        parallelism: node.config.number("transfer-parallelism") as usize,
        rate: {
            let node = Arc::clone(node);
            Box::new(move || node.config.number("transfer-rate") as u64)
        },
    };
    let convergence = || Arc::clone(convergence);
    let (sure, hedging) = (cluster(), Arc::clone(coordinator));
    let hints =
        background::hand_over_hints(cluster(), Arc::clone(&node.replica), governor(), a_second);
    let gossip = background::gossip(cluster(), seeds, chance("gossip"));
    let comparing = background::anti_entropy(convergence(), every, chance("anti-entropy"));
    let pace = background::keep_pace(cluster(), governor());
    let telling = Arc::clone(node);
    let telling = async move {
        if let Some(elsewhere) = &telling.elsewhere {
            elsewhere.keep_telling().await;
        }
    };
    let mending = Arc::clone(coordinator).mend_rows();
    vec![
        Worker::new("hints", Runs::GivingWay, hints),
        Worker::new(
            "handoff",
            Runs::GivingWay,
            background::hand_off(convergence(), moving),
        ),
        Worker::new("anti-entropy", Runs::GivingWay, comparing),
        Worker::new("gossip", Runs::Beside, gossip),
        Worker::new(
            "hedge",
            Runs::Beside,
            async move { hedging.hedge_reads().await },
        ),
        Worker::new("turns", Runs::Serving, Arc::clone(coordinator).end_turns()),
        Worker::new("sure", Runs::Beside, async move { sure.make_sure().await }),
        Worker::new("mend", Runs::Beside, mending),
        Worker::new("listening", Runs::Beside, telling),
        Worker::new("pace", Runs::Beside, pace),
    ]
}
