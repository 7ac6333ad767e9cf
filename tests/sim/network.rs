//! The network in memory, under virtual time: seeded delay, loss of connections, order per link, cuts
//! in one direction or both, and nodes that pause. Now and then a request that needs no order comes
//! twice or before others, as happens when a connection breaks and is made again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ringwood::logic::causal::Dot;
use ringwood::logic::placement::NodeId;
use ringwood::logic::record;
use ringwood::peer::message::{Deltas, KeyRequest, NEWEST, OneDelta, Request, Response};
use ringwood::peer::{Answer as Answering, CallError, Done, Handler, Peers, encode};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Random;
use super::faulty::Fault;
use super::time::Clock;

type Answer = Result<Response, CallError>;

/// What connects the nodes of one simulated world.
pub struct Network(Mutex<State>);

struct State {
    random: Random,
    /// Nodes that are up, with what their messages run in.
    up: BTreeMap<NodeId, Endpoint>,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that do nothing until then.
    paused: BTreeMap<NodeId, Instant>,
    /// When the last message of a link arrives: the next one comes later.
    last: BTreeMap<(NodeId, NodeId), Instant>,
    /// Whether messages may be slow, come twice or overtake others.
    rough: bool,
    /// Of a hundred requests so many break their connection.
    breaks_percent: usize,
    panicked: bool,
    /// A hash of everything that was sent, and when.
    trace: u64,
    began: Option<Instant>,
}

struct Endpoint {
    address: String,
    handler: Arc<dyn Handler>,
    clock: Clock,
    tasks: JoinSet<()>,
}

impl Network {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            random: Random::new(seed),
            up: BTreeMap::new(),
            cut: BTreeSet::new(),
            paused: BTreeMap::new(),
            last: BTreeMap::new(),
            rough: true,
            breaks_percent: if seed.is_multiple_of(2) { 2 } else { 0 },
            panicked: false,
            trace: 0,
            began: None,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    pub fn start(&self, node: NodeId, address: &str, handler: Arc<dyn Handler>, clock: Clock) {
        let endpoint = Endpoint {
            address: address.to_owned(),
            handler,
            clock,
            tasks: JoinSet::new(),
        };
        self.state().up.insert(node, endpoint);
    }

    /// The node is gone, and whatever it was doing for others.
    pub fn stop(&self, node: NodeId) {
        let gone = self.state().up.remove(&node);
        drop(gone);
    }

    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state().cut.insert((from, to));
    }

    /// All cuts are mended, and who paused goes on.
    pub fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.paused.clear();
    }

    /// A node stands still for a while.
    pub fn pause(&self, node: NodeId, duration: Duration) {
        self.state().paused.insert(node, Instant::now() + duration);
    }

    /// Waits until a node does not stand still.
    pub async fn awake(&self, node: NodeId) {
        loop {
            let until = self.state().paused.get(&node).copied();
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => {
                    // It may be woken earlier.
                    let look = Instant::now() + Duration::from_millis(20);
                    sleep_until(until.min(look)).await;
                }
                None => return,
            }
        }
    }

    /// From now on connections hold and no message is slow.
    pub fn be_reliable(&self) {
        let mut state = self.state();
        state.rough = false;
        state.breaks_percent = 0;
    }

    /// A hash of everything that was sent, and when.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// Whether two nodes belong to two clusters.
    fn are_strangers(&self, a: NodeId, b: NodeId) -> bool {
        let handler = |id| {
            let state = self.state();
            state.up.get(&id).map(|up| Arc::clone(&up.handler))
        };
        let cluster = |id| handler(id).map_or(0, |handler| handler.identity().cluster);
        let (a, b) = (cluster(a), cluster(b));
        a != 0 && b != 0 && a != b
    }

    fn at(&self, address: &str) -> Option<NodeId> {
        let state = self.state();
        let mut up = state.up.iter();
        let found = up.find(|(_, endpoint)| endpoint.address == address);
        found.map(|(id, _)| *id)
    }

    /// A task of a node has panicked.
    pub fn note_panic(&self) {
        self.state().panicked = true;
    }

    pub fn has_panicked(&self) -> bool {
        self.state().panicked
    }

    /// When a message that is sent now arrives; one that needs no order may overtake others.
    fn arrival(&self, from: NodeId, to: NodeId, ordered: bool) -> Instant {
        let mut state = self.state();
        let ms = match state.random.below(100) {
            0 if state.rough => 50 + state.random.below(800),
            _ => 1 + state.random.below(15),
        };
        let at = Instant::now() + Duration::from_millis(ms as u64);
        let began = *state.began.get_or_insert_with(Instant::now);
        let sent =
            (from.0 ^ to.0.rotate_left(7)).wrapping_add(at.duration_since(began).as_nanos() as u64);
        state.trace = (state.trace ^ sent).wrapping_mul(0x0100_0000_01b3);
        let overtakes = state.rough && state.random.below(20) == 0;
        if !ordered && overtakes {
            return at;
        }
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

    fn repeats(&self) -> bool {
        let mut state = self.state();
        state.rough && state.random.below(50) == 0
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
            let clock = endpoint.clock;
            while let Some(ended) = endpoint.tasks.try_join_next() {
                *panicked |= ended.is_err_and(|e| e.is_panic());
            }
            endpoint.tasks.spawn(clock.rule(async move {
                let _ = done.send(later.await);
            }));
        }
    }

    /// Carries a request over and its answer back.
    async fn carry(self: Arc<Self>, from: NodeId, to: NodeId, body: Bytes, at: Instant) -> Answer {
        let sent = Instant::now();
        sleep_until(at).await;
        self.awake(to).await;
        if self.is_cut(from, to) {
            return std::future::pending().await;
        }
        if self.breaks() {
            return Err(CallError::Lost);
        }
        let request = Request::decode(&body, NEWEST).expect("what a node encodes another decodes");
        let (done, response) = oneshot::channel();
        let endpoint = self
            .state()
            .up
            .get(&to)
            .map(|endpoint| (Arc::clone(&endpoint.handler), endpoint.clock));
        let Some((handler, clock)) = endpoint else {
            return Err(CallError::Gone);
        };
        // It may ask others before it returns.
        clock.during(|| {
            match handler.start(from, request, sent.elapsed()) {
                Answering::Now(response) => drop(done.send(response)),
                Answering::Later(later) => self.follow(to, later, done),
            }
            handler.all_started();
        });
        let Ok(response) = response.await else {
            return Err(CallError::Gone);
        };
        self.awake(to).await;
        sleep_until(self.arrival(to, from, true)).await;
        self.awake(from).await;
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

impl Network {
    /// What a node would answer itself.
    async fn roots_of(self: Arc<Self>, node: NodeId, asked: Bytes) -> Vec<u64> {
        let request = Request::decode(&asked, NEWEST).expect("what a node encodes another decodes");
        let handler = self.state().up.get(&node).map(|up| Arc::clone(&up.handler));
        let answer = handler.map(|handler| handler.start(node, request, Duration::ZERO));
        match answer {
            Some(Answering::Later(later)) => match later.await {
                Response::Roots { roots, .. } => roots,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
}

/// One node's way into the network.
pub struct Port {
    pub network: Arc<Network>,
    pub me: NodeId,
    pub clock: Clock,
    pub fault: Fault,
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

    fn heard_from(&self, _: NodeId) {}

    fn ask(&self, to: NodeId, body: Bytes, within: Duration, done: Done) {
        if self.is_down(to) || self.network.are_strangers(self.me, to) {
            return done(Err(CallError::Unreachable));
        }
        let body = match Request::decode(&body, NEWEST) {
            Ok(Request::Key(KeyRequest::Apply {
                key,
                object,
                hint_for,
                touched,
                view,
                ..
            })) if self.fault == Fault::StoreUnseen => encode(KeyRequest::Apply {
                key,
                object,
                hint_for,
                only_over_seen: false,
                touched,
                view,
            }),
            Ok(Request::Key(KeyRequest::Apply {
                key,
                object,
                hint_for,
                only_over_seen,
                touched,
                view,
            })) if self.fault == Fault::CoverUnseen => encode(KeyRequest::Apply {
                key,
                object: covering_more(&object),
                hint_for,
                only_over_seen,
                touched,
                view,
            }),
            Ok(Request::Key(KeyRequest::ApplyAll { deltas, view })) => {
                let deltas = self.spoil(&deltas);
                encode(KeyRequest::ApplyAll { deltas, view })
            }
            _ => body,
        };
        let is_command =
            Request::decode(&body, NEWEST).is_ok_and(|r| matches!(r, Request::Forward(_)));
        let at = self.network.arrival(self.me, to, is_command);
        if !is_command && self.network.repeats() {
            let again = self.network.arrival(self.me, to, false);
            let network = Arc::clone(&self.network);
            let repeated = network.carry(self.me, to, body.clone(), again);
            let mut tasks = self.tasks.lock().expect("no panic");
            tasks.spawn(async move { drop(repeated.await) });
        }
        let asked = body.clone();
        let carried = Arc::clone(&self.network).carry(self.me, to, body, at);
        let mut tasks = self.tasks.lock().expect("no panic");
        while let Some(ended) = tasks.try_join_next() {
            if ended.is_err_and(|e| e.is_panic()) {
                self.network.note_panic();
            }
        }
        // What is under way arrives though nobody waits for it any more.
        let (sender, answer) = oneshot::channel();
        let hides = self.fault == Fault::HideDifferences;
        let believes = self.fault == Fault::BelieveInAll;
        let (network, me, clock) = (Arc::clone(&self.network), self.me, self.clock);
        tasks.spawn(async move {
            let mut told = carried.await;
            if believes && matches!(told, Ok(Response::Each(_))) {
                told = Ok(Response::Done);
            }
            if let (true, Ok(Response::Roots { roots, .. })) = (hides, &mut told) {
                let ours = clock.rule(network.roots_of(me, asked)).await;
                // Every third tree is not looked into.
                for (theirs, ours) in roots.iter_mut().zip(ours).step_by(3) {
                    *theirs = ours;
                }
            }
            drop(sender.send(told));
        });
        tasks.spawn(self.clock.rule(async move {
            done(match tokio::time::timeout(within, answer).await {
                Ok(answer) => answer.unwrap_or(Err(CallError::Lost)),
                Err(_) => Err(CallError::TimedOut),
            });
        }));
    }

    fn call_address<'a>(
        &'a self,
        address: &'a str,
        request: &'a Request,
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = io::Result<(NodeId, Response)>> + Send + 'a>> {
        let Some(to) = self.network.at(address) else {
            return Box::pin(std::future::ready(Err(io::ErrorKind::NotFound.into())));
        };
        let at = self.network.arrival(self.me, to, true);
        let carried = Arc::clone(&self.network).carry(self.me, to, encode(request.clone()), at);
        Box::pin(async move {
            let lost = |_| io::Error::from(io::ErrorKind::ConnectionReset);
            let answer = tokio::time::timeout(within, carried).await?;
            Ok((to, answer.map_err(lost)?))
        })
    }

    fn close(&self) {
        self.tasks.lock().expect("no panic").abort_all();
    }
}

impl Port {
    /// Deltas as the fault makes them.
    fn spoil(&self, deltas: &Deltas) -> Deltas {
        let mut raw = Vec::new();
        for (_, delta) in deltas.iter() {
            let object = Bytes::copy_from_slice(delta.object);
            let object = match self.fault {
                Fault::CoverUnseen => covering_more(&object),
                _ => object,
            };
            let object = &object;
            let only_over_seen = delta.only_over_seen && self.fault != Fault::StoreUnseen;
            let spoilt = OneDelta {
                object,
                only_over_seen,
                ..delta
            };
            spoilt.put(&mut raw);
        }
        Deltas::new(raw.into()).expect("deltas")
    }
}

/// A removal that also covers what those whose writes it overwrites will write next.
fn covering_more(raw: &Bytes) -> Bytes {
    let Ok(mut object) = record::WIRE.decode(raw) else {
        return raw.clone();
    };
    if object.is_tombstone() {
        let seen = object.context().clone();
        let next = seen.actor_ids().flat_map(|actor| {
            let last = seen.last(actor);
            (last + 1..last + 20).map(move |seq| Dot { actor, seq })
        });
        object.observe(next);
    }
    record::WIRE.encode(&object).into()
}
