//! Answering other nodes: accepts, makes sure who asks, and answers many requests at a time.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::frame::{self, Arrived, Frames};
use super::handshake::{self, Other};
use super::link::set_options;
use super::message::{Request, Response};
use super::{Answer, Handler};

/// Connections of other nodes at a time.
const MAX_CONNECTIONS: usize = 4_096;
/// Requests of one node that are being answered at a time; beyond it nothing more is read from it.
const MAX_IN_FLIGHT: usize = 4_096;
const WRITE_BYTES: usize = 256 << 10;
/// Answers that gather while one write goes on; beyond it nothing more is answered.
const MAX_UNSENT_BYTES: usize = 64 << 20;

/// The socket on which other nodes ask.
#[derive(Debug)]
pub struct PeerListener {
    socket: TcpListener,
}

impl PeerListener {
    /// Listens on an address.
    pub async fn bind(host: &str, port: u16) -> io::Result<Self> {
        let socket = TcpListener::bind((host, port)).await?;
        Ok(Self { socket })
    }

    /// The port that was bound.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }

    /// Answers until it is dropped.
    pub async fn serve(self, handler: Arc<dyn Handler>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.socket.accept(), if connections.len() < MAX_CONNECTIONS => {
                    match accepted {
                        Ok((stream, address)) => {
                            let handler = Arc::clone(&handler);
                            connections.spawn(async move {
                                if let Err(error) = serve_one(stream, handler).await {
                                    said(&address.to_string(), &error);
                                }
                            });
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a node's connection could not be accepted");
                            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        }
                    }
                }
            }
        }
    }
}

fn said(address: &str, error: &io::Error) {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            tracing::warn!(%address, reason = %error, "a node was refused");
        }
        io::ErrorKind::InvalidData => {
            tracing::warn!(%address, reason = %error, "closed a node's connection");
        }
        _ => tracing::debug!(%address, %error, "a node's connection ended"),
    }
}

async fn serve_one(stream: TcpStream, handler: Arc<dyn Handler>) -> io::Result<()> {
    set_options(&stream)?;
    let (reader, mut writer) = stream.into_split();
    let mut frames = Frames::new(reader);
    let answered = handshake::answer(handler.identity(), &mut frames, &mut writer);
    let from = tokio::time::timeout(handshake::LIMIT, answered).await??;
    frames.trust();
    answer_all(from, frames, writer, &*handler).await
}

async fn answer_all(
    Other { node: from, wire }: Other,
    mut frames: Frames<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    handler: &dyn Handler,
) -> io::Result<()> {
    let mut coming = FuturesUnordered::new();
    let mut out = Vec::new();
    loop {
        let (mut frame, mut answer) = (None, None);
        tokio::select! {
            biased;
            Some(ready) = coming.next(), if !coming.is_empty() => answer = Some(ready),
            next = frames.next(), if coming.len() < MAX_IN_FLIGHT => match next? {
                Some(next) => frame = Some(next),
                None => return Ok(()),
            },
        }
        let some_arrived = frame.is_some();
        // What else is there already goes along: one write for all.
        while let Some(Arrived { id, age, body }) = frame {
            let request = Request::decode(&body, wire)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            match handler.start(from, request, age) {
                Answer::Now(response) => put(&mut out, id, &response, wire),
                Answer::Later(later) => coming.push(later.map(move |response| (id, response))),
            }
            frame = if coming.len() < MAX_IN_FLIGHT && out.len() < WRITE_BYTES {
                frames.buffered()?
            } else {
                None
            };
        }
        if some_arrived {
            handler.all_started();
        }
        while let Some((id, response)) = answer {
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
                    Some((id, response)) = coming.next(), if room => {
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
