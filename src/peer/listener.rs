//! Answering other nodes: accepts, makes sure who asks, and answers many requests at a time.
//!
//! Forwarded commands wait for what other nodes answer, who may wait for this one. So they are admitted
//! up to a limit and refused beyond it; nothing ever waits behind them. Everything else waits for this
//! node alone, and may be held up.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::complaints::{Complaint, Complaints, MAX_REASON};
use super::frame::{self, Arrived, Frames};
use super::handshake::{self, Other};
use super::link::set_options;
use super::message::{HEARD, Request, Response, WhyNot};
use super::port::{Answer, Handler};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Connections of other nodes at a time.
const MAX_CONNECTIONS: usize = 4_096;
/// Requests of one connection that are being answered at a time, forwarded commands aside; beyond it
/// nothing more is read from it.
const MAX_IN_FLIGHT: usize = 4_096;
/// Forwarded commands of one connection that are being run at a time; beyond it they are refused.
const MAX_COMMANDS: usize = 8_192;
/// Their bytes; one larger command runs alone.
const MAX_COMMAND_BYTES: usize = 256 << 20;
/// Connections that have not proven yet who is at the other end; the oldest gives way to the next.
const MAX_STRANGERS: usize = 64;
const WRITE_BYTES: usize = 256 << 10;
/// Answers that gather while one write goes on; beyond it nothing more is answered.
const MAX_UNSENT_BYTES: usize = 64 << 20;

/// The socket on which other nodes ask.
#[derive(Debug)]
pub struct PeerListener {
    socket: TcpListener,
}

/// An address that this node has, and where nobody is listened to yet: others are refused at once, and know
/// that what they have sent did not run.
pub struct Reserved {
    socket: TcpSocket,
}

impl Reserved {
    /// The port that was bound.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// When another process does.
    pub fn listen(self) -> io::Result<PeerListener> {
        let socket = self.socket.listen(BACKLOG)?;
        Ok(PeerListener { socket })
    }
}

impl PeerListener {
    /// Takes an address.
    ///
    /// # Errors
    /// When there is none by this name, or somebody listens there. Another node that has reserved it and does
    /// not listen yet is met by [`Reserved::listen`] alone.
    pub async fn reserve(host: &str, port: u16) -> io::Result<Reserved> {
        let mut last = io::ErrorKind::AddrNotAvailable.into();
        // Of several addresses the first that this machine has will do.
        let bound = |address: SocketAddr| {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        for address in tokio::net::lookup_host((host, port)).await? {
            match bound(address) {
                Ok(socket) => return Ok(Reserved { socket }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The port that was bound.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }

    /// Answers until it is dropped.
    pub async fn serve(self, handler: Arc<dyn Handler>) {
        let shared = Arc::new(Shared {
            handler,
            strangers: Mutex::default(),
            proven: AtomicUsize::new(0),
            complaints: Complaints::default(),
        });
        let mut connections = JoinSet::new();
        let mut nth = 0;
        loop {
            tokio::select! {
                biased;
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.socket.accept() => {
                    match accepted {
                        Ok((stream, address)) => {
                            nth += 1;
                            let mine = Arc::clone(&shared);
                            let served = async move {
                                let served = serve_one(stream, nth, &mine).await;
                                mine.strangers.lock().remove(&nth);
                                if let Err(error) = served {
                                    mine.said(&address.to_string(), &error);
                                }
                            };
                            shared.meet(nth, || connections.spawn(served));
                        }
                        Err(error) => {
                            if let Some(unsaid) = shared.complaints.may_say(Complaint::Accept) {
                                tracing::warn!(%error, unsaid, "a node's connection could not be accepted");
                            }
                            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        }
                    }
                }
            }
        }
    }
}

/// What all connections have in common.
struct Shared {
    handler: Arc<dyn Handler>,
    /// Those who have proven nothing yet, in the order in which they came.
    strangers: Mutex<BTreeMap<u64, AbortHandle>>,
    proven: AtomicUsize,
    complaints: Complaints,
}

impl Shared {
    /// It is a stranger before it begins: what it proves later must find it among them.
    fn meet(&self, nth: u64, begin: impl FnOnce() -> AbortHandle) {
        let mut strangers = self.strangers.lock();
        if strangers.len() >= MAX_STRANGERS
            && let Some((_, oldest)) = strangers.pop_first()
        {
            oldest.abort();
        }
        strangers.insert(nth, begin());
    }

    /// Others can make this node say something as often as they like.
    fn said(&self, address: &str, error: &io::Error) {
        let complaint = match error.kind() {
            io::ErrorKind::PermissionDenied => Complaint::Refused,
            io::ErrorKind::InvalidData => Complaint::Closed,
            _ => return tracing::debug!(%address, %error, "a node's connection ended"),
        };
        let Some(unsaid) = self.complaints.may_say(complaint) else {
            return;
        };
        let reason: String = error.to_string().escape_debug().take(MAX_REASON).collect();
        if complaint == Complaint::Refused {
            tracing::warn!(%address, %reason, unsaid, "a node was refused");
        } else {
            tracing::warn!(%address, %reason, unsaid, "closed a node's connection");
        }
    }
}

/// A place among those whose other end is known.
struct Known<'a>(&'a AtomicUsize);

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn serve_one(stream: TcpStream, nth: u64, shared: &Shared) -> io::Result<()> {
    set_options(&stream)?;
    let (reader, mut writer) = stream.into_split();
    let mut frames = Frames::new(reader);
    let answered = handshake::answer(shared.handler.identity(), &mut frames, &mut writer);
    let from = tokio::time::timeout(handshake::LIMIT, answered).await??;
    shared.strangers.lock().remove(&nth);
    let others = shared.proven.fetch_add(1, Ordering::AcqRel);
    let _known = Known(&shared.proven);
    if others >= MAX_CONNECTIONS {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    frames.trust();
    if from.wire >= HEARD {
        frames.expect_heard();
    }
    answer_all(from, frames, writer, shared).await
}

/// Forwarded commands that are being run.
#[derive(Debug, Default)]
struct Commands {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// A place for one of them, given back when it is dropped.
struct Room {
    commands: Arc<Commands>,
    bytes: usize,
}

impl Commands {
    fn admit(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        // One task alone admits; others only give back.
        let others = self.bytes.load(Ordering::Acquire);
        let count = self.count.load(Ordering::Acquire);
        let fits = count < MAX_COMMANDS && (others == 0 || others + bytes <= MAX_COMMAND_BYTES);
        if !fits {
            return None;
        }
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.count.fetch_add(1, Ordering::AcqRel);
        Some(Room {
            commands: Arc::clone(self),
            bytes,
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.commands.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.commands.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers on their way: some take up one of a connection's places.
type Coming = FuturesUnordered<Pin<Box<dyn Future<Output = (u64, Response, bool)> + Send>>>;

async fn answer_all(
    Other { node: from, wire }: Other,
    mut frames: Frames<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    let handler = &*shared.handler;
    let commands = Arc::<Commands>::default();
    let mut coming = Coming::new();
    let mut in_flight = 0;
    let mut out = Vec::new();
    loop {
        let (mut frame, mut answer) = (None, None);
        tokio::select! {
            biased;
            Some(ready) = coming.next(), if !coming.is_empty() => answer = Some(ready),
            next = frames.next(), if in_flight < MAX_IN_FLIGHT => match next? {
                Some(next) => frame = Some(next),
                None => return Ok(()),
            },
        }
        let some_arrived = frame.is_some();
        // What else is there already goes along: one write for all.
        while let Some(Arrived { id, age, body, .. }) = frame {
            let room = if Request::is_forward(&body) {
                commands.admit(body.len()).map(Some)
            } else {
                Some(None)
            };
            let answer = match room {
                None => (Answer::Now(Response::NotRun(WhyNot::Busy)), None),
                Some(room) => {
                    let request = Request::decode(&body, wire)
                        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
                    (handler.start(from, request, age), room)
                }
            };
            match answer {
                (Answer::Now(response), _) => put(&mut out, id, &response, wire),
                (Answer::Later(later), room) => {
                    let takes_a_place = room.is_none();
                    in_flight += usize::from(takes_a_place);
                    coming.push(Box::pin(async move {
                        let response = later.await;
                        drop(room);
                        (id, response, takes_a_place)
                    }));
                }
            }
            frame = if in_flight < MAX_IN_FLIGHT && out.len() < WRITE_BYTES {
                frames.buffered()?
            } else {
                None
            };
        }
        if some_arrived {
            handler.all_started();
        }
        while let Some((id, response, took_a_place)) = answer {
            in_flight -= usize::from(took_a_place);
            put(&mut out, id, &response, wire);
            answer = if out.len() < WRITE_BYTES {
                coming.next().now_or_never().flatten()
            } else {
                None
            };
        }
        // What comes meanwhile goes on: somebody may wait for what it holds.
        while !out.is_empty() {
            let (mut sent, mut next) = (0, Vec::new());
            while sent < out.len() {
                let room = next.len() < MAX_UNSENT_BYTES && !coming.is_empty();
                tokio::select! {
                    biased;
                    written = writer.write(&out[sent..]) => match written? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        written => sent += written,
                    },
                    Some((id, response, took_a_place)) = coming.next(), if room => {
                        in_flight -= usize::from(took_a_place);
                        put(&mut next, id, &response, wire);
                    }
                }
            }
            out = next;
        }
        out.shrink_to(WRITE_BYTES);
    }
}

fn put(out: &mut Vec<u8>, id: u64, response: &Response, wire: u16) {
    let start = out.len();
    frame::put(out, id, |out| response.encode(wire, out));
    if out.len() - start > frame::MAX_BODY {
        out.truncate(start);
        let refused = Response::Refused("the answer is too long for a frame".into());
        frame::put(out, id, |out| refused.encode(wire, out));
    }
}
