//! The network in memory, under virtual time: seeded delay, loss of connections, duplication of
//! nothing (TCP does not), order per link, and cuts in one direction or both.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ringwood::logic::placement::NodeId;
use ringwood::peer::message::{Request, Response};
use ringwood::peer::{Answer as Answering, CallError, Done, Handler, Peers};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Random;

type Answer = Result<Response, CallError>;

/// What connects the nodes of one simulated world.
pub struct Network(Mutex<State>);

struct State {
    random: Random,
    /// Who is up, with what his messages run in.
    up: BTreeMap<NodeId, Endpoint>,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// When the last message of a link arrives: the next one comes later.
    last: BTreeMap<(NodeId, NodeId), Instant>,
    /// Of a hundred requests so many break their connection.
    breaks_percent: usize,
    panicked: bool,
}

struct Endpoint {
    handler: Arc<dyn Handler>,
    tasks: JoinSet<()>,
}

impl Network {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            random: Random::new(seed),
            up: BTreeMap::new(),
            cut: BTreeSet::new(),
            last: BTreeMap::new(),
            breaks_percent: 2,
            panicked: false,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    pub fn start(&self, node: NodeId, handler: Arc<dyn Handler>) {
        let tasks = JoinSet::new();
        self.state().up.insert(node, Endpoint { handler, tasks });
    }

    /// The node is gone, and whatever it was doing for others.
    pub fn stop(&self, node: NodeId) {
        let gone = self.state().up.remove(&node);
        drop(gone);
    }

    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state().cut.insert((from, to));
    }

    /// All cuts are mended.
    pub fn heal(&self) {
        self.state().cut.clear();
    }

    /// From now on connections hold and no message is slow.
    pub fn be_reliable(&self) {
        self.state().breaks_percent = 0;
    }

    /// A task of a node has panicked.
    pub fn note_panic(&self) {
        self.state().panicked = true;
    }

    pub fn has_panicked(&self) -> bool {
        self.state().panicked
    }

    /// When a message that is sent now arrives.
    fn arrival(&self, from: NodeId, to: NodeId) -> Instant {
        let mut state = self.state();
        let ms = match state.random.below(100) {
            0 if state.breaks_percent > 0 => 50 + state.random.below(800),
            _ => 1 + state.random.below(15),
        };
        let at = Instant::now() + Duration::from_millis(ms as u64);
        let last = state.last.entry((from, to)).or_insert(at);
        *last = at.max(*last + Duration::from_micros(1));
        *last
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.state().cut.contains(&(from, to))
    }

    fn breaks(&self) -> bool {
        let mut state = self.state();
        let percent = state.breaks_percent;
        state.random.below(100) < percent
    }

    /// Lets an answer come about among the tasks of its node.
    fn follow(
        &self,
        to: NodeId,
        later: impl Future<Output = Response> + Send + 'static,
        done: oneshot::Sender<Response>,
    ) {
        let mut state = self.state();
        let State { up, panicked, .. } = &mut *state;
        if let Some(endpoint) = up.get_mut(&to) {
            while let Some(ended) = endpoint.tasks.try_join_next() {
                *panicked |= ended.is_err_and(|e| e.is_panic());
            }
            endpoint.tasks.spawn(async move {
                let _ = done.send(later.await);
            });
        }
    }

    /// Carries a request over and its answer back.
    async fn carry(self: Arc<Self>, from: NodeId, to: NodeId, body: Bytes, at: Instant) -> Answer {
        sleep_until(at).await;
        if self.is_cut(from, to) {
            return std::future::pending().await;
        }
        if self.breaks() {
            return Err(CallError::Lost);
        }
        let request = Request::decode(&body).expect("what a node encodes another decodes");
        let (done, response) = oneshot::channel();
        let handler = self
            .state()
            .up
            .get(&to)
            .map(|endpoint| Arc::clone(&endpoint.handler));
        let Some(handler) = handler else {
            return Err(CallError::Lost);
        };
        // It may ask others before it returns.
        match handler.start(from, request) {
            Answering::Now(response) => drop(done.send(response)),
            Answering::Later(later) => self.follow(to, later, done),
        }
        handler.all_started();
        let Ok(response) = response.await else {
            return Err(CallError::Lost);
        };
        sleep_until(self.arrival(to, from)).await;
        if self.is_cut(to, from) {
            return std::future::pending().await;
        }
        if self.breaks() {
            Err(CallError::Lost)
        } else {
            Ok(response)
        }
    }
}

/// One node's way into the network.
pub struct Port {
    pub network: Arc<Network>,
    pub me: NodeId,
    /// Requests under way; they end with the node.
    pub tasks: Mutex<JoinSet<()>>,
}

impl Peers for Port {
    fn set_address(&self, _: NodeId, _: &str) {}

    fn is_up(&self, to: NodeId) -> bool {
        self.network.state().up.contains_key(&to)
    }

    fn is_down(&self, to: NodeId) -> bool {
        !self.is_up(to)
    }

    fn ask(&self, to: NodeId, body: Bytes, within: Duration, done: Done) {
        if self.is_down(to) {
            return done(Err(CallError::Unreachable));
        }
        let at = self.network.arrival(self.me, to);
        let carried = Arc::clone(&self.network).carry(self.me, to, body, at);
        let mut tasks = self.tasks.lock().expect("no panic");
        while let Some(ended) = tasks.try_join_next() {
            if ended.is_err_and(|e| e.is_panic()) {
                self.network.note_panic();
            }
        }
        // What is under way arrives though nobody waits for it any more.
        let (sender, answer) = oneshot::channel();
        tasks.spawn(async move { drop(sender.send(carried.await)) });
        tasks.spawn(async move {
            done(match tokio::time::timeout(within, answer).await {
                Ok(answer) => answer.unwrap_or(Err(CallError::Lost)),
                Err(_) => Err(CallError::TimedOut),
            });
        });
    }

    fn call_address<'a>(
        &'a self,
        _: &'a str,
        _: &'a Request,
        _: Duration,
    ) -> Pin<Box<dyn Future<Output = io::Result<(NodeId, Response)>> + Send + 'a>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn close(&self) {
        self.tasks.lock().expect("no panic").abort_all();
    }
}
