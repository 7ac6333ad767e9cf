//! An ordinary client of a node: one command, one reply.
//!
//! redis-protocol decodes the replies. It recurses into arrays and looks at everything again when more
//! arrives, so that neither reaches it without a bound: our nodes answer these commands with one flat
//! reply, and anything else is refused by its first byte.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::encode;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame as _};
use thiserror::Error;

/// The longest answer that is taken, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// The longest that ends with its line, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Read at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// Whom to ask, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` of the node's clients.
    pub address: String,
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
        source: io::Error,
    },
    /// The node's own words.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a node.
pub struct Connection {
    stream: TcpStream,
    address: String,
    input: Vec<u8>,
}

impl Target {
    /// Connects, and says who is there; a reply is waited for so long.
    ///
    /// # Errors
    /// When the node is not there, or refuses.
    pub fn connect(&self, patience: Duration) -> Result<Connection, ClientError> {
        let fail = |source| ClientError::Io {
            address: self.address.clone(),
            source,
        };
        let stream = TcpStream::connect(&self.address).map_err(fail)?;
        stream.set_read_timeout(Some(patience)).map_err(fail)?;
        let mut connection = Connection {
            stream,
            address: self.address.clone(),
            input: Vec::new(),
        };
        if !self.password.is_empty() {
            connection.ask(&["AUTH", &self.password])?;
        }
        if self.db != "0" {
            connection.ask(&["SELECT", &self.db])?;
        }
        Ok(connection)
    }
}

impl Connection {
    /// Sends one command and returns the text of its reply.
    ///
    /// # Errors
    /// When the node is gone, or answers with an error.
    pub fn ask(&mut self, words: &[&str]) -> Result<String, ClientError> {
        let reply = self.call(words).map_err(|source| ClientError::Io {
            address: self.address.clone(),
            source,
        })?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match reply {
            OwnedFrame::Error(why) => Err(ClientError::Refused(why)),
            OwnedFrame::SimpleString(bytes) | OwnedFrame::BulkString(bytes) => Ok(text(bytes)),
            OwnedFrame::Integer(number) => Ok(number.to_string()),
            OwnedFrame::Null | OwnedFrame::Array(_) => unreachable!("refused by its first bytes"),
        }
    }

    fn call(&mut self, words: &[&str]) -> io::Result<OwnedFrame> {
        let words = words
            .iter()
            .map(|w| OwnedFrame::BulkString(w.as_bytes().to_vec()));
        let command = OwnedFrame::Array(words.collect());
        let mut request = vec![0; command.encode_len(false)];
        encode(&mut request, &command, false).map_err(io::Error::other)?;
        self.stream.write_all(&request)?;
        loop {
            if let Some(reply) = self.decoded()? {
                return Ok(reply);
            }
            let before = self.input.len();
            self.input.resize(before + CHUNK, 0);
            let read = self.stream.read(&mut self.input[before..])?;
            self.input.truncate(before + read);
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The reply, when all of it is there.
    fn decoded(&mut self) -> io::Result<Option<OwnedFrame>> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a reply in RESP");
        let Some(kind) = self.input.first() else {
            return Ok(None);
        };
        let Some(end) = memchr::memchr(b'\n', &self.input) else {
            // The line goes on, as far as one may.
            return (self.input.len() < MAX_LINE)
                .then_some(None)
                .ok_or_else(invalid);
        };
        match kind {
            b'+' | b'-' | b':' => {}
            b'$' => {
                let line = std::str::from_utf8(&self.input[1..end]).unwrap_or_default();
                let declared = line.trim_end().parse::<usize>();
                declared
                    .ok()
                    .filter(|len| *len <= MAX_ANSWER)
                    .ok_or_else(invalid)?;
            }
            _ => return Err(invalid()),
        }
        let Some((reply, len)) = decode(&self.input).map_err(|_| invalid())? else {
            return Ok(None);
        };
        self.input.drain(..len);
        Ok(Some(reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client makes of a server that answers with these bytes.
    fn answered(with: Vec<u8>) -> Result<String, ClientError> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            // The client may go away in the middle.
            let _ = stream.write_all(&with);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let target = Target {
            address,
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
        assert!(matches!(refused, Err(ClientError::Refused(why)) if why == "NOAUTH who"));
    }

    #[test]
    fn what_is_no_flat_reply_is_refused_before_it_costs_anything() {
        let hostile: [Vec<u8>; 8] = [
            b"*1\r\n".repeat(100_000),
            b"*1".to_vec(),
            b"$-1\r\n".to_vec(),
            b"$99999999999\r\n".to_vec(),
            b"HTTP/1.1 400\r\n".to_vec(),
            [b"+".to_vec(), vec![b'a'; MAX_LINE + CHUNK]].concat(),
            [b"$1".to_vec(), vec![b'1'; MAX_LINE + CHUNK]].concat(),
            b"$-7\r\n".to_vec(),
        ];
        for with in hostile {
            let answer = answered(with);
            assert!(matches!(answer, Err(ClientError::Io { .. })), "{answer:?}");
        }
    }

    #[test]
    fn half_a_reply_is_none() {
        let answer = answered(b"$10\r\nabc".to_vec());
        assert!(matches!(answer, Err(ClientError::Io { .. })), "{answer:?}");
    }
}
