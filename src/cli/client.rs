//! An ordinary client of a node: one command, one reply; several, where much is to be said.
//!
//! The crate `redis` (redis-rs) speaks the protocol. Only this file and `migrate/` name it.

use std::time::Duration;

use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ConnectionLike, FromRedisValue,
    IntoConnectionInfo as _, RedisConnectionInfo, RedisError, ServerError, Value,
};
use thiserror::Error;

/// A connection is waited for so long.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Whom to ask, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` of the node's clients.
    pub address: String,
    /// For AUTH; empty for `default`.
    pub user: String,
    /// For AUTH; empty for none.
    pub password: String,
    /// For SELECT.
    pub db: String,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The node cannot be reached or does not speak RESP.
    #[error("{address}: {source}")]
    Io {
        /// The node.
        address: String,
        /// Why.
        source: RedisError,
    },
    /// The node's own words.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a node.
pub struct Connection {
    inner: redis::Connection,
    address: String,
}

impl Target {
    /// Connects, and says who is there; a reply is waited for so long.
    ///
    /// # Errors
    /// When the node is not there, or refuses.
    pub fn connect(&self, patience: Duration) -> Result<Connection, ClientError> {
        let inner = connect(&self.info()?, patience);
        inner
            .map(|inner| Connection {
                inner,
                address: self.address.clone(),
            })
            .map_err(|source| failed(&self.address, source))
    }

    /// The same, as the library takes it.
    ///
    /// # Errors
    /// When the words are none.
    pub(super) fn info(&self) -> Result<ConnectionInfo, ClientError> {
        let parts = self.address.rsplit_once(':');
        let address = parts.and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some(ConnectionAddr::Tcp(host.to_owned(), port.parse().ok()?))
        });
        let db = if self.db.is_empty() { "0" } else { &self.db };
        let (Some(address), Ok(db)) = (address, db.parse()) else {
            let (address, db) = (&self.address, &self.db);
            let why = format!("{address} is not HOST:PORT, or {db} not a database's number");
            return Err(ClientError::Refused(why));
        };
        let mut settings = RedisConnectionInfo::default().set_db(db);
        if !self.user.is_empty() {
            settings = settings.set_username(&self.user);
        }
        if !self.password.is_empty() {
            settings = settings.set_password(&self.password);
        }
        let info = address.into_connection_info();
        info.map(|info| info.set_redis_settings(settings))
            .map_err(|source| failed(&self.address, source))
    }
}

/// A connection whose replies are waited for so long.
pub(super) fn connect(
    info: &ConnectionInfo,
    patience: Duration,
) -> Result<redis::Connection, RedisError> {
    let connection = Client::open(info.clone())?.get_connection_with_timeout(CONNECT_PATIENCE)?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    Ok(connection)
}

/// What a server said, as it said it.
pub(super) fn words_of(error: &ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

fn failed(address: &str, source: RedisError) -> ClientError {
    match (source.code(), source.detail()) {
        (Some(code), Some(detail)) => ClientError::Refused(format!("{code} {detail}")),
        _ => ClientError::Io {
            address: address.to_owned(),
            source,
        },
    }
}

impl Connection {
    /// Sends one command and returns the text of its reply.
    ///
    /// # Errors
    /// When the node is gone, answers with an error, or with something that is no text.
    pub fn ask(&mut self, words: &[&str]) -> Result<String, ClientError> {
        let mut command = Cmd::new();
        command.arg(words);
        let reply = self.inner.req_command(&command);
        let text = reply.and_then(|reply| match reply {
            Value::ServerError(error) => Err(error.into()),
            Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            reply => Ok(String::from_redis_value(reply)?),
        });
        text.map_err(|source| failed(&self.address, source))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// What a client makes of a server that answers with these bytes, after it was greeted.
    fn answered(with: Vec<u8>) -> Result<String, ClientError> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            // The client names itself first, and may go away in the middle.
            let _ = stream.write_all(b"+OK\r\n+OK\r\n");
            let _ = stream.write_all(&with);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let target = Target {
            address,
            user: String::new(),
            password: String::new(),
            db: "0".to_owned(),
        };
        let answer = target
            .connect(Duration::from_secs(20))
            .and_then(|mut connection| connection.ask(&["PING"]));
        server.join().expect("served");
        answer
    }

    #[test]
    fn flat_replies_are_text() {
        assert_eq!(answered(b"+PONG\r\n".to_vec()).expect("a reply"), "PONG");
        assert_eq!(answered(b":-3\r\n".to_vec()).expect("a reply"), "-3");
        assert_eq!(
            answered(b"$4\r\na\r\nb\r\n".to_vec()).expect("a reply"),
            "a\r\nb"
        );
        let long = [b"$200000\r\n", "x".repeat(200_000).as_bytes(), b"\r\n"].concat();
        assert_eq!(answered(long).expect("a reply").len(), 200_000);
        let refused = answered(b"-NOAUTH who\r\n".to_vec());
        assert!(
            matches!(&refused, Err(ClientError::Refused(why)) if why == "NOAUTH who"),
            "{refused:?}"
        );
    }

    #[test]
    fn what_is_no_text_is_an_error() {
        let hostile: [Vec<u8>; 7] = [
            b"*1\r\n".repeat(100_000),
            b"*1".to_vec(),
            b"$-1\r\n".to_vec(),
            b"$99999999999\r\n".to_vec(),
            b"HTTP/1.1 400\r\n".to_vec(),
            b"$-7\r\n".to_vec(),
            b"$10\r\nabc".to_vec(),
        ];
        for with in hostile {
            let shown = String::from_utf8_lossy(&with[..with.len().min(20)]).into_owned();
            let answer = answered(with);
            assert!(
                matches!(answer, Err(ClientError::Io { .. })),
                "{shown:?}: {answer:?}"
            );
        }
    }
}
