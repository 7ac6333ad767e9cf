//! The handshake: both sides prove that they know the cluster's secret, without saying it, and agree
//! on the wire version.
//!
//! ```text
//! asker    -> hello (who, which cluster, a nonce)
//! answerer -> its hello and its proof over both hellos, or a refusal in words
//! asker    -> its proof over both hellos, or a refusal in words
//! ```
//!
//! A proof is a keyed hash, so neither side learns the secret and none of it can be replayed: the
//! nonces are fresh. What follows is not encrypted.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::frame::{self, Frames};
use super::message::{NEWEST, OLDEST};
use crate::logic::codec::{DecodeError, Reader};
use crate::logic::placement::NodeId;

const MAGIC: &[u8; 8] = b"ringwood";
/// How long a handshake may take.
pub(super) const LIMIT: Duration = Duration::from_secs(3);
const HELLO_LEN: usize = 47;
const PROOF_LEN: usize = 32;
const REFUSED: u8 = 0;
const ACCEPTED: u8 = 1;

/// Who a node is and what it must have in common with its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The cluster; 0 for a node that has none yet.
    pub cluster: u64,
    /// The number of partitions (Q).
    pub partitions: u16,
    /// Owners a key (N).
    pub n: u8,
    /// What proves the cluster's secret.
    pub key: [u8; 32],
    /// The newest wire version that it speaks.
    pub wire: u16,
}

/// Who is at the other end, and how the two talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Other {
    pub(super) node: NodeId,
    /// The wire version that both speak.
    pub(super) wire: u16,
}

impl Identity {
    /// The key that proves a secret.
    pub fn key_of(secret: &[u8]) -> [u8; 32] {
        blake3::derive_key("ringwood peer handshake v1", secret)
    }

    fn hello(&self) -> [u8; HELLO_LEN] {
        let mut out = Vec::with_capacity(HELLO_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&OLDEST.to_le_bytes());
        out.extend_from_slice(&self.newest().to_le_bytes());
        out.extend_from_slice(&self.cluster.to_le_bytes());
        out.extend_from_slice(&self.node.0.to_le_bytes());
        out.extend_from_slice(&self.partitions.to_le_bytes());
        out.push(self.n);
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("the operating system has randomness");
        out.extend_from_slice(&nonce);
        out.try_into().expect("the parts add up to the length")
    }

    fn newest(&self) -> u16 {
        self.wire.clamp(OLDEST, NEWEST)
    }

    fn with(&self, other: &Hello) -> Other {
        Other {
            node: other.node,
            wire: self.newest().min(other.newest),
        }
    }

    fn proof(&self, side: u8, asker: &[u8], answerer: &[u8]) -> [u8; PROOF_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[side]).update(asker).update(answerer);
        *hasher.finalize().as_bytes()
    }

    /// Why the two cannot talk, if they cannot.
    fn differs_from(&self, other: &Hello) -> Option<String> {
        if other.newest < OLDEST || other.oldest > self.newest() {
            return Some(format!(
                "wire versions {}-{} and {OLDEST}-{} have nothing in common",
                other.oldest,
                other.newest,
                self.newest()
            ));
        }
        if other.node == self.node {
            return Some(format!(
                "both nodes have the id {}: a data directory was copied, or this is the node itself",
                self.node
            ));
        }
        if self.cluster != 0 && other.cluster != 0 && self.cluster != other.cluster {
            return Some("they belong to two different clusters".to_owned());
        }
        if (self.partitions, self.n) != (other.partitions, other.n) {
            return Some(format!(
                "partitions and replicas-per-key differ: {} and {} here, {} and {} there",
                self.partitions, self.n, other.partitions, other.n
            ));
        }
        None
    }
}

#[derive(Debug)]
struct Hello {
    oldest: u16,
    newest: u16,
    cluster: u64,
    node: NodeId,
    partitions: u16,
    n: u8,
}

fn read_hello(raw: &[u8]) -> Result<Hello, DecodeError> {
    let mut r = Reader(raw);
    if r.take(8)? != MAGIC || raw.len() != HELLO_LEN {
        return Err(DecodeError::Malformed);
    }
    let short = |r: &mut Reader<'_>| -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes([r.u8()?, r.u8()?]))
    };
    Ok(Hello {
        oldest: short(&mut r)?,
        newest: short(&mut r)?,
        cluster: r.u64_le()?,
        node: NodeId(r.u64_le()?),
        partitions: short(&mut r)?,
        n: r.u8()?,
    })
}

/// The asker's side; returns who answers.
pub(super) async fn ask<R, W>(
    me: Identity,
    frames: &mut Frames<R>,
    writer: &mut W,
) -> io::Result<Other>
where
    R: tokio::io::AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mine = me.hello();
    send(writer, &mine).await?;
    let answer = receive(frames).await?;
    let theirs = accepted(&answer)?;
    let (hello, proof) = theirs.split_at_checked(HELLO_LEN).ok_or_else(broken)?;
    let other = read_hello(hello).map_err(|_| broken())?;
    let reason = if constant_time_eq(proof, &me.proof(2, &mine, hello)) {
        me.differs_from(&other)
    } else {
        Some("it does not know this cluster's secret".to_owned())
    };
    if let Some(reason) = reason {
        refuse(writer, &reason).await?;
        return Err(refused(&reason));
    }
    let mut out = vec![ACCEPTED];
    out.extend_from_slice(&me.proof(1, &mine, hello));
    send(writer, &out).await?;
    Ok(me.with(&other))
}

/// The answerer's side; returns who asks.
pub(super) async fn answer<R, W>(
    me: Identity,
    frames: &mut Frames<R>,
    writer: &mut W,
) -> io::Result<Other>
where
    R: tokio::io::AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let theirs = receive(frames).await?;
    let other = read_hello(&theirs).map_err(|_| broken())?;
    if let Some(reason) = me.differs_from(&other) {
        refuse(writer, &reason).await?;
        return Err(refused(&reason));
    }
    let mine = me.hello();
    let mut out = vec![ACCEPTED];
    out.extend_from_slice(&mine);
    out.extend_from_slice(&me.proof(2, &theirs, &mine));
    send(writer, &out).await?;
    let answer = receive(frames).await?;
    if constant_time_eq(accepted(&answer)?, &me.proof(1, &theirs, &mine)) {
        Ok(me.with(&other))
    } else {
        Err(refused("it does not know this cluster's secret"))
    }
}

/// Compares without telling by the time it takes where the first difference is.
fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    blake3::hash(a) == blake3::hash(b)
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, body: &[u8]) -> io::Result<()> {
    let mut out = Vec::new();
    frame::put(&mut out, 0, |out| out.extend_from_slice(body));
    writer.write_all(&out).await
}

async fn refuse<W: AsyncWrite + Unpin>(writer: &mut W, reason: &str) -> io::Result<()> {
    send(writer, &[&[REFUSED], reason.as_bytes()].concat()).await
}

async fn receive<R: tokio::io::AsyncRead + Unpin>(frames: &mut Frames<R>) -> io::Result<Vec<u8>> {
    let frame = frames.next().await?;
    let frame = frame.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    Ok(frame.body.to_vec())
}

fn accepted(raw: &[u8]) -> io::Result<&[u8]> {
    match raw.split_first() {
        Some((&ACCEPTED, rest)) => Ok(rest),
        Some((&REFUSED, reason)) => Err(refused(&format!(
            "refused by the other side: {}",
            String::from_utf8_lossy(reason)
        ))),
        _ => Err(broken()),
    }
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason.to_owned())
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is not the peer protocol")
}
