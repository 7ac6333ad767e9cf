//! Links: two connections to each other node, over which many requests are in flight: one for forwarded
//! commands, one for everything else, which must not wait behind them.
//!
//! A link's task connects, keeps trying with a growing and jittered pause, and says at once that the
//! node is unreachable while it is. Requests are queued within bounds and written together; every
//! one has a deadline. Whether a failed request may have been done is part of the error.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::frame::{self, Arrived, Frames};
use super::handshake::{self, Identity, Other};
use super::message::{HEARD, NEWEST, Request, Response};
use super::port::{CallError, Done, Peers};
use crate::base::numbers::NumberMap;
use crate::logic::placement::NodeId;

/// Requests that wait to be written over one link.
const MAX_QUEUED: usize = 16_384;
/// Bytes that wait to be written over one link.
const MAX_QUEUED_BYTES: usize = 256 << 20;
/// Bytes written together.
const WRITE_BYTES: usize = 256 << 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How often a link looks for requests that have waited too long.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A look that comes so many times as late says that the process was held up.
const MUCH_LATER: u32 = 4;
/// After a connection broke it is looked so long whether anybody is there: a process that was killed on a busy
/// machine closes its connections well before its listener.
const LOOK_AGAIN: Duration = Duration::from_millis(800);
const LOOK_PAUSE: Duration = Duration::from_millis(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Unacknowledged bytes end a connection after so long.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

type WhoAmI = Box<dyn Fn() -> Identity + Send + Sync>;

/// Links to all other nodes.
pub struct Links {
    who_am_i: Arc<WhoAmI>,
    by_node: DashMap<NodeId, Pair>,
    tasks: Mutex<JoinSet<()>>,
}

const CONNECTING: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// The links to one node.
#[derive(Clone)]
struct Pair {
    data: Arc<Link>,
    commands: Arc<Link>,
}

impl Pair {
    fn both(&self) -> [&Arc<Link>; 2] {
        [&self.data, &self.commands]
    }
}

struct Link {
    to: NodeId,
    address: Mutex<String>,
    state: AtomicU8,
    queue: mpsc::Sender<Outgoing>,
    queued_bytes: AtomicUsize,
    next_id: AtomicU64,
    waiting: Mutex<NumberMap<Waiting>>,
    heard: Notify,
}

/// A request without an answer so far.
struct Waiting {
    until: Instant,
    done: Done,
    /// Whether it may have reached the other node.
    sent: bool,
}

impl Waiting {
    /// It ends without an answer, for a reason that holds for what was sent.
    fn end(self, why: CallError) {
        let why = if self.sent {
            why
        } else {
            CallError::Unreachable
        };
        (self.done)(Err(why));
    }
}

struct Outgoing {
    id: u64,
    body: Bytes,
}

impl Links {
    /// No links yet. `who_am_i` is asked at every connection.
    pub fn new(who_am_i: impl Fn() -> Identity + Send + Sync + 'static) -> Self {
        Self {
            who_am_i: Arc::new(Box::new(who_am_i)),
            by_node: DashMap::new(),
            tasks: Mutex::new(JoinSet::new()),
        }
    }
}

impl Peers for Links {
    /// The first time starts the node's link.
    fn set_address(&self, to: NodeId, address: &str) {
        if let Some(pair) = self.by_node.get(&to) {
            for link in pair.both() {
                address.clone_into(&mut link.address.lock());
            }
            return;
        }
        let start = || {
            let (queue, outgoing) = mpsc::channel(MAX_QUEUED);
            let link = Arc::new(Link {
                to,
                address: Mutex::new(address.to_owned()),
                state: AtomicU8::new(CONNECTING),
                queue,
                queued_bytes: AtomicUsize::new(0),
                next_id: AtomicU64::new(1),
                waiting: Mutex::default(),
                heard: Notify::new(),
            });
            let running = Arc::clone(&link).run(outgoing, Arc::clone(&self.who_am_i));
            self.tasks.lock().spawn(running);
            link
        };
        let pair = Pair {
            data: start(),
            commands: start(),
        };
        self.by_node.insert(to, pair);
    }

    fn is_up(&self, to: NodeId) -> bool {
        let pair = self.by_node.get(&to);
        pair.is_some_and(|pair| pair.data.state.load(Ordering::Acquire) == UP)
    }

    fn is_down(&self, to: NodeId) -> bool {
        let pair = self.by_node.get(&to);
        let is_down = |link: &Arc<Link>| link.state.load(Ordering::Acquire) == DOWN;
        pair.is_some_and(|pair| pair.both().into_iter().any(is_down))
    }

    fn heard_from(&self, from: NodeId) {
        let Some(pair) = self.by_node.get(&from) else {
            return;
        };
        for link in pair.both() {
            if link.state.load(Ordering::Acquire) == DOWN {
                link.heard.notify_one();
            }
        }
    }

    fn ask(&self, to: NodeId, body: Bytes, within: Duration, done: Done) {
        let pair = self.by_node.get(&to).map(|pair| pair.clone());
        match pair {
            Some(pair) if Request::is_forward(&body) => pair.commands.begin(body, within, done),
            Some(pair) => pair.data.begin(body, within, done),
            None => done(Err(CallError::Unreachable)),
        }
    }

    fn call_address<'a>(
        &'a self,
        address: &'a str,
        request: &'a Request,
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = io::Result<(NodeId, Response)>> + Send + 'a>> {
        let asked = async move {
            let me = Identity {
                cluster: 0,
                ..(self.who_am_i)()
            };
            let (mut frames, mut writer, other) = connect(address, me).await?;
            let Other { node, wire } = other;
            let mut out = Vec::new();
            let heard_ms = (wire >= HEARD).then(|| frames.heard_ms());
            frame::put_heard(&mut out, 1, heard_ms, |out| request.encode(wire, out));
            writer.write_all(&out).await?;
            let frame = frames.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let response = Response::decode(&frame.body, wire);
            Ok((node, response.map_err(|_| io::ErrorKind::InvalidData)?))
        };
        Box::pin(async move { tokio::time::timeout(within, asked).await? })
    }

    fn close(&self) {
        self.tasks.lock().abort_all();
        for pair in &self.by_node {
            let both = pair.both().into_iter();
            both.for_each(|link| link.go_down(CallError::Lost));
        }
    }
}

impl Link {
    /// Queues a request.
    fn begin(&self, body: Bytes, within: Duration, done: Done) {
        if self.state.load(Ordering::Acquire) == DOWN {
            return done(Err(CallError::Unreachable));
        }
        if body.len() > frame::MAX_BODY
            || self.queued_bytes.load(Ordering::Relaxed) > MAX_QUEUED_BYTES
        {
            return done(Err(CallError::TooMuch));
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let len = body.len();
        let until = Instant::now() + within;
        let waiting = Waiting {
            until,
            done,
            sent: false,
        };
        self.waiting.lock().insert(id, waiting);
        // Counted first: the writer may take it off again before this goes on.
        self.queued_bytes.fetch_add(len, Ordering::Relaxed);
        if self.queue.try_send(Outgoing { id, body }).is_err() {
            self.queued_bytes.fetch_sub(len, Ordering::Relaxed);
            if let Some(waiting) = self.forget(id) {
                (waiting.done)(Err(CallError::TooMuch));
            }
            return;
        }
        // Between the look at the state and the insertion the link may have gone down, and may have
        // sent it before.
        if self.state.load(Ordering::Acquire) == DOWN
            && let Some(waiting) = self.forget(id)
        {
            waiting.end(CallError::Lost);
        }
    }

    /// Appends a request as the other node reads it.
    fn put(&self, out: &mut Vec<u8>, Outgoing { id, body }: Outgoing, wire: u16, heard_ms: u32) {
        let heard_ms = (wire >= HEARD).then_some(heard_ms);
        let mut put =
            |body: &[u8]| frame::put_heard(out, id, heard_ms, |o| o.extend_from_slice(body));
        if wire == NEWEST {
            return put(&body);
        }
        match Request::translate(&body, wire) {
            Some(body) => put(&body),
            None => {
                if let Some(waiting) = self.forget(id) {
                    (waiting.done)(Err(CallError::Unknown));
                }
            }
        }
    }

    /// It is not queued any more.
    fn taken(&self, request: &Outgoing) {
        self.queued_bytes
            .fetch_sub(request.body.len(), Ordering::Relaxed);
    }

    fn forget(&self, id: u64) -> Option<Waiting> {
        self.waiting.lock().remove(&id)
    }

    /// Whether somebody still waits for a request; from now on it may reach the other node.
    fn is_about_to_be_sent(&self, id: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(waiting) = waiting.get_mut(&id) else {
            return false;
        };
        waiting.sent = true;
        true
    }

    /// Tells those who have waited too long.
    async fn give_up_late(&self) {
        let mut looked = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Instant::now();
            let was_held_up = now.duration_since(looked) > LOOK_EVERY * MUCH_LATER;
            looked = now;
            if was_held_up {
                // This very process was: what has come meanwhile is read first.
                continue;
            }
            let late: Vec<Waiting> = {
                let mut waiting = self.waiting.lock();
                let late = waiting.extract_if(|_, waiting| waiting.until <= now);
                late.map(|(_, waiting)| waiting).collect()
            };
            for waiting in late {
                waiting.end(CallError::TimedOut);
            }
        }
    }

    async fn run(self: Arc<Self>, outgoing: mpsc::Receiver<Outgoing>, who_am_i: Arc<WhoAmI>) {
        tokio::select! {
            () = self.keep_connected(outgoing, who_am_i) => {}
            () = self.give_up_late() => {}
        }
    }

    async fn keep_connected(&self, mut outgoing: mpsc::Receiver<Outgoing>, who_am_i: Arc<WhoAmI>) {
        let mut pause = FIRST_PAUSE;
        let mut complained = String::new();
        loop {
            let address = self.address.lock().clone();
            let mut why = CallError::Lost;
            match connect(&address, who_am_i()).await {
                Ok((frames, writer, Other { node, wire })) if node == self.to => {
                    tracing::debug!(node = %self.to, %address, wire, "link up");
                    complained.clear();
                    pause = FIRST_PAUSE;
                    self.state.store(UP, Ordering::Release);
                    let ended = self.pump((frames, writer), wire, &mut outgoing).await;
                    tracing::debug!(node = %self.to, %address, ?ended, "link down");
                    if is_refused(&address).await {
                        why = CallError::Gone;
                    }
                }
                Ok((.., Other { node, .. })) => {
                    tracing::warn!(%address, expected = %self.to, found = %node, "another node answers");
                }
                Err(error) => {
                    // Said once for each reason, not at every attempt.
                    let reason = error.to_string();
                    if error.kind() == io::ErrorKind::PermissionDenied && reason != complained {
                        tracing::warn!(%address, %reason, "no link");
                        complained = reason;
                    }
                }
            }
            self.go_down(why);
            while let Ok(dropped) = outgoing.try_recv() {
                self.taken(&dropped);
            }
            let heard = tokio::time::timeout(jittered(pause), self.heard.notified());
            pause = match heard.await {
                Ok(()) => FIRST_PAUSE,
                Err(_) => (pause * 2).min(LONGEST_PAUSE),
            };
        }
    }

    fn go_down(&self, why: CallError) {
        self.state.store(DOWN, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        // In the order in which they were asked: some are asked elsewhere now.
        let waiting: BTreeMap<u64, Waiting> = waiting.into_iter().collect();
        for waiting in waiting.into_values() {
            waiting.end(why);
        }
    }

    async fn pump(
        &self,
        (mut frames, mut writer): (Frames<OwnedReadHalf>, OwnedWriteHalf),
        wire: u16,
        outgoing: &mut mpsc::Receiver<Outgoing>,
    ) -> io::Result<()> {
        let heard_ms = AtomicU32::new(frames.heard_ms());
        let write = async {
            let mut out = Vec::new();
            while let Some(first) = outgoing.recv().await {
                self.taken(&first);
                // Whoever has something to ask in this turn does so first: one write for all.
                tokio::task::yield_now().await;
                let mut next = Some(first);
                while let Some(request) = next {
                    // A caller that was told that it failed, or gave up, must not have it done now.
                    if self.is_about_to_be_sent(request.id) {
                        self.put(&mut out, request, wire, heard_ms.load(Ordering::Relaxed));
                    }
                    next = (out.len() < WRITE_BYTES)
                        .then(|| outgoing.try_recv().ok())
                        .flatten();
                    if let Some(next) = &next {
                        self.taken(next);
                    }
                }
                writer.write_all(&out).await?;
                out.clear();
                out.shrink_to(WRITE_BYTES);
            }
            Ok(())
        };
        let read = async {
            while let Some(Arrived { id, body, .. }) = frames.next().await? {
                heard_ms.store(frames.heard_ms(), Ordering::Relaxed);
                let response =
                    Response::decode(&body, wire).map_err(|_| io::ErrorKind::InvalidData)?;
                if let Some(waiting) = self.forget(id) {
                    (waiting.done)(Ok(response));
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            ended = read => ended,
            ended = write => ended,
        }
    }
}

pub(super) async fn connect(
    address: &str,
    me: Identity,
) -> io::Result<(Frames<OwnedReadHalf>, OwnedWriteHalf, Other)> {
    let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await??;
    set_options(&stream)?;
    let (reader, mut writer) = stream.into_split();
    let mut frames = Frames::new(reader);
    let asked = handshake::ask(me, &mut frames, &mut writer);
    let other = tokio::time::timeout(handshake::LIMIT, asked).await??;
    frames.trust();
    Ok((frames, writer, other))
}

/// Whether nobody listens at an address: the process that did has ended. One that is about to end may
/// still be connected to for a moment; it closes that connection, too.
async fn is_refused(address: &str) -> bool {
    let looked = async {
        loop {
            match TcpStream::connect(address).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                Err(_) => {}
                // A node that is there waits for what is said to it.
                Ok(mut stream) => {
                    let _ = stream.read(&mut [0]).await;
                }
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    tokio::time::timeout(LOOK_AGAIN, looked).await.is_ok()
}

pub(super) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(USER_TIMEOUT)
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Between half and all of a pause, so that nodes that lost each other together do not return so.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    getrandom::fill(&mut random).expect("the operating system has randomness");
    pause / 2 + pause / 2 * u32::from(random[0]) / 255
}
