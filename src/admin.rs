//! The command line's view of a running node: an ordinary client that asks one question and prints
//! the answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use thiserror::Error;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is taken.
const MAX_ANSWER: usize = 64 << 20;

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
pub enum AdminError {
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

impl Target {
    /// Sends one command and returns the text of its reply.
    ///
    /// # Errors
    /// When the node is not there, or answers with an error.
    pub fn ask(&self, words: &[&str]) -> Result<String, AdminError> {
        let fail = |source| AdminError::Io {
            address: self.address.clone(),
            source,
        };
        let stream = TcpStream::connect(&self.address).map_err(fail)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
        let mut stream = BufReader::new(stream);
        if !self.password.is_empty() {
            call(&mut stream, &["AUTH", &self.password]).map_err(fail)??;
        }
        if self.db != "0" {
            call(&mut stream, &["SELECT", &self.db]).map_err(fail)??;
        }
        call(&mut stream, words).map_err(fail)?
    }
}

fn call(
    stream: &mut BufReader<TcpStream>,
    words: &[&str],
) -> io::Result<Result<String, AdminError>> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a reply in RESP");
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(invalid)?;
    match kind {
        "-" => Ok(Err(AdminError::Refused(rest.to_owned()))),
        "+" | ":" => Ok(Ok(rest.to_owned())),
        "$" => {
            let len: usize = rest.parse().map_err(|_| invalid())?;
            if len > MAX_ANSWER {
                return Err(invalid());
            }
            let mut body = vec![0; len + 2];
            stream.read_exact(&mut body)?;
            Ok(Ok(String::from_utf8_lossy(&body[..len]).into_owned()))
        }
        _ => Err(invalid()),
    }
}
