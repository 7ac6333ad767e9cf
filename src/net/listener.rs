//! Accepting clients: limits, protected mode, socket options, and the end of all connections.

use std::fs::File;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::connection;
use crate::command::{Node, Session};

const PROTECTED: &[u8] =
    b"-DENIED Ringwood is running in protected mode because no password is set \
and this client is not on the same machine. Set one with the directive 'requirepass', or set \
'protected-mode' to no.\r\n";
const FULL: &[u8] = b"-ERR max number of clients reached\r\n";
/// After an error of `accept` (no descriptors left, most of the time).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a stop waits for connections to finish what they have begun.
const DRAIN: Duration = Duration::from_secs(5);

/// Listening sockets.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
}

/// Binds all addresses.
pub fn bind(addresses: &str, port: u16, backlog: i32) -> std::io::Result<Listener> {
    let mut sockets = Vec::new();
    let mut port = port;
    for address in addresses.split_whitespace() {
        let address = address.strip_prefix('-').unwrap_or(address);
        let address = if address == "*" { "0.0.0.0" } else { address };
        let resolved = (address, port).to_socket_addrs()?.next();
        let resolved = resolved.ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, address.to_owned())
        })?;
        let socket = Socket::new(
            Domain::for_address(resolved),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if resolved.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&resolved.into())?;
        socket.listen(backlog)?;
        let listener = TcpListener::from_std(socket.into())?;
        port = listener.local_addr()?.port();
        sockets.push(listener);
    }
    Ok(Listener { sockets })
}

impl Listener {
    /// The port that was bound.
    pub fn port(&self) -> u16 {
        let address = self
            .sockets
            .first()
            .and_then(|socket| socket.local_addr().ok());
        address.map_or(0, |address| address.port())
    }

    /// Accepts until the node is asked to stop, then lets connections finish.
    pub async fn serve(self, node: Arc<Node>) {
        let mut acceptors = JoinSet::new();
        for socket in self.sockets {
            acceptors.spawn(accept(socket, Arc::clone(&node)));
        }
        while acceptors.join_next().await.is_some() {}
    }
}

async fn accept(socket: TcpListener, node: Arc<Node>) {
    let mut connections = JoinSet::new();
    // Given up for a moment when there is no other: a client that comes then is told, not left waiting.
    let mut spare = File::open("/dev/null").ok();
    let mut is_said = false;
    loop {
        tokio::select! {
            biased;
            () = node.stopped() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = socket.accept() => match accepted {
                Ok((stream, address)) => {
                    is_said = false;
                    admit(stream, address, &node, &mut connections);
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::warn!(%error, "connections cannot be accepted");
                    }
                    let none_left = [Some(libc::EMFILE), Some(libc::ENFILE)];
                    if none_left.contains(&error.raw_os_error()) && spare.take().is_some() {
                        let accepted = tokio::time::timeout(ACCEPT_PAUSE, socket.accept()).await;
                        if let Ok(Ok((stream, _))) = accepted {
                            refuse(&stream, FULL, &node);
                        }
                    }
                    spare = spare.or_else(|| File::open("/dev/null").ok());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(socket);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some connections did not finish in time and are cut");
    }
}

fn admit(stream: TcpStream, address: SocketAddr, node: &Arc<Node>, connections: &mut JoinSet<()>) {
    node.stats.connections.add(1);
    let no_password = node.config.text("requirepass").is_empty();
    let refusal = if node.clients.len() as i64 >= node.config.number("maxclients") {
        Some(FULL)
    } else if no_password && node.config.is_on("protected-mode") && !address.ip().is_loopback() {
        Some(PROTECTED)
    } else {
        None
    };
    if let Some(refusal) = refusal {
        return refuse(&stream, refusal, node);
    }
    if let Err(error) = set_options(&stream, node.config.number("tcp-keepalive")) {
        tracing::debug!(%error, "socket options");
    }
    let local = stream.local_addr().unwrap_or(address);
    let client = node.clients.add(address, local);
    if node.is_stopping() {
        client.end();
    }
    let session = Session::new(client, no_password);
    let node = Arc::clone(node);
    let counted = Counted(Arc::clone(&node), session.client.id);
    connections.spawn(async move {
        connection::run(stream, node, session).await;
        drop(counted);
    });
}

/// A client, which counts until its connection has ended, however that was.
struct Counted(Arc<Node>, u64);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.clients.remove(self.1);
    }
}

/// A fresh socket has room for a line: nothing is waited for.
fn refuse(stream: &TcpStream, why: &[u8], node: &Node) {
    node.stats.rejected.add(1);
    if let Err(error) = SockRef::from(stream).send(why) {
        tracing::debug!(%error, "a client was not told why it is refused");
    }
}

fn set_options(stream: &TcpStream, keepalive_secs: i64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    if keepalive_secs > 0 {
        let time = Duration::from_secs(keepalive_secs as u64);
        let keepalive = TcpKeepalive::new()
            .with_time(time)
            .with_interval(time / 3)
            .with_retries(3);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}
