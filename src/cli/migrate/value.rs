//! A key's kind, and the commands that read and write values of it. Nothing here talks to a server.
//!
//! Words are as the reading command returns them: of a hash fields and values, of a sorted set members and
//! scores, in turn. Every write begins with the key's end (SET, or DEL in a transaction), so that one that is
//! done twice is done once.

use redis::{Cmd, Value};

/// Elements that are read of a large collection at a time: at first, and at most.
const FIRST_ELEMENTS: usize = 50;
const ELEMENTS: usize = 1_000;
/// So many that they have about so many bytes.
const PAGE: usize = 1 << 20;

/// A key's type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Strings, and what lives in them: counters, bitmaps, `HyperLogLogs`.
    Text,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Sorted sets, geographical ones too.
    Sorted,
    /// Hashes.
    Hash,
    /// Streams.
    Stream,
    /// Of a module, by the name that TYPE tells.
    Other(String),
}

/// A key, as its server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub key: Vec<u8>,
    /// Its type.
    pub kind: Kind,
    /// When it ends, in milliseconds since 1970.
    pub ends_at: Option<i64>,
    /// What it takes in its server's memory, in bytes; unknown where the server does not say.
    pub bytes: Option<u64>,
}

/// Where the next elements of a collection are read.
#[derive(Clone, Debug)]
pub struct Place {
    cursor: Vec<u8>,
    index: usize,
    is_last: bool,
    /// How many elements are asked for.
    count: usize,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            cursor: Vec::new(),
            index: 0,
            is_last: false,
            count: FIRST_ELEMENTS,
        }
    }
}

impl Place {
    /// Elements of a list that were read.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The next page is to be as large as a page should be.
    fn adapt(&mut self, words: &[Vec<u8>]) {
        let bytes: usize = words.iter().map(Vec::len).sum();
        let fitting = self.count * PAGE / bytes.max(1);
        self.count = fitting.clamp(1, (2 * self.count).min(ELEMENTS));
    }
}

impl Kind {
    /// By the name that TYPE tells; nothing for a key that is not there.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => return None,
            "string" => Self::Text,
            "list" => Self::List,
            "set" => Self::Set,
            "zset" => Self::Sorted,
            "hash" => Self::Hash,
            "stream" => Self::Stream,
            other => Self::Other(other.to_owned()),
        })
    }

    /// As TYPE names it.
    pub fn name(&self) -> &str {
        match self {
            Self::Text => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Sorted => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Other(name) => name,
        }
    }

    /// Reads all of a value that is not large; nothing for kinds of which there is no such command.
    pub fn read(&self, key: &[u8]) -> Option<Cmd> {
        Some(match self {
            Self::Text => command("GET", key),
            Self::List => command("LRANGE", key).arg(0).arg(-1).take(),
            Self::Set => command("SMEMBERS", key),
            Self::Sorted => {
                let mut range = command("ZRANGE", key);
                range.arg(0).arg(-1).arg("WITHSCORES").take()
            }
            Self::Hash => command("HGETALL", key),
            Self::Stream | Self::Other(_) => return None,
        })
    }

    /// Reads the next elements of a collection; nothing at its end.
    pub fn read_on(&self, key: &[u8], place: &Place) -> Option<Cmd> {
        if place.is_last {
            return None;
        }
        let scan = |name| {
            let cursor: &[u8] = if place.cursor.is_empty() {
                b"0"
            } else {
                &place.cursor
            };
            let mut scan = command(name, key);
            Some(scan.arg(cursor).arg("COUNT").arg(place.count).take())
        };
        match self {
            Self::Text => Some(command("GET", key)),
            Self::List => {
                let to = place.index + place.count - 1;
                Some(command("LRANGE", key).arg(place.index).arg(to).take())
            }
            Self::Set => scan("SSCAN"),
            Self::Sorted => scan("ZSCAN"),
            Self::Hash => scan("HSCAN"),
            Self::Stream => {
                let from = match &*place.cursor {
                    [] => b"-".to_vec(),
                    last => [b"(", last].concat(),
                };
                let mut range = command("XRANGE", key);
                Some(
                    range
                        .arg(from)
                        .arg("+")
                        .arg("COUNT")
                        .arg(place.count)
                        .take(),
                )
            }
            Self::Other(_) => None,
        }
    }

    /// The words of what [`Self::read_on`] brought, and where it goes on; nothing when it is no such reply.
    pub fn words_of(&self, reply: Value, place: &mut Place) -> Option<Vec<Vec<u8>>> {
        let words = self.page(reply, place)?;
        place.adapt(&words);
        Some(words)
    }

    fn page(&self, reply: Value, place: &mut Place) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::Text | Self::Other(_) => {
                place.is_last = true;
                words(reply)
            }
            Self::List => {
                let found = words(reply)?;
                place.index += found.len();
                place.is_last = found.len() < place.count;
                Some(found)
            }
            Self::Set | Self::Sorted | Self::Hash => {
                let Value::Array(parts) = reply else {
                    return None;
                };
                let [cursor, found] = <[Value; 2]>::try_from(parts).ok()?;
                place.cursor = word(cursor)?;
                place.is_last = place.cursor == b"0";
                words(found)
            }
            Self::Stream => {
                let Value::Array(entries) = reply else {
                    return None;
                };
                place.is_last = entries.len() < place.count;
                let mut found = Vec::new();
                for entry in entries {
                    // An entry is as XADD takes it, after how many words it is.
                    let words = words(entry)?;
                    place.cursor.clone_from(words.first()?);
                    found.push(words.len().to_string().into_bytes());
                    found.extend(words);
                }
                Some(found)
            }
        }
    }

    /// Adds such words to a key; a stream's entries are a command each.
    pub fn add(&self, key: &[u8], words: &[Vec<u8>]) -> Vec<Cmd> {
        let with = |name| vec![command(name, key).arg(words).take()];
        match self {
            Self::Text => with("SET"),
            Self::List => with("RPUSH"),
            Self::Set => with("SADD"),
            Self::Hash => with("HSET"),
            Self::Sorted => {
                let mut add = command("ZADD", key);
                for pair in words.chunks_exact(2) {
                    add.arg(&pair[1]).arg(&pair[0]);
                }
                vec![add]
            }
            Self::Stream => entries(words)
                .map(|entry| command("XADD", key).arg(entry).take())
                .collect(),
            Self::Other(_) => Vec::new(),
        }
    }
}

impl Found {
    /// The commands that make a key what it is at its source, in one step.
    pub fn write(&self, words: &[Vec<u8>]) -> Vec<Cmd> {
        if self.kind == Kind::Text {
            let mut set = command("SET", &self.key).arg(words).take();
            if let Some(at) = self.ends_at {
                set.arg("PXAT").arg(at);
            }
            return vec![set];
        }
        let mut step = vec![Cmd::new().arg("MULTI").take(), command("DEL", &self.key)];
        step.extend(self.kind.add(&self.key, words));
        step.extend(self.end());
        step.push(Cmd::new().arg("EXEC").take());
        step
    }

    /// The command that says when the key ends, where it does.
    pub fn end(&self) -> Option<Cmd> {
        let at = self.ends_at?;
        Some(command("PEXPIREAT", &self.key).arg(at).take())
    }
}

/// The entries among a stream's words.
pub fn entries(mut words: &[Vec<u8>]) -> impl Iterator<Item = &[Vec<u8>]> {
    std::iter::from_fn(move || {
        let (count, rest) = words.split_first()?;
        let count = std::str::from_utf8(count).ok()?.parse().ok()?;
        let (entry, rest) = rest.split_at_checked(count)?;
        words = rest;
        Some(entry)
    })
}

/// A command about a key.
pub fn command(name: &str, key: &[u8]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(name).arg(key);
    command
}

/// One word of a reply.
pub fn word(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        Value::Okay => Some(b"OK".to_vec()),
        _ => None,
    }
}

/// All words of a reply, whatever is nested in it; none of what is not there.
pub fn words(value: Value) -> Option<Vec<Vec<u8>>> {
    match value {
        Value::Nil => Some(Vec::new()),
        Value::Array(values) => {
            let mut all = Vec::with_capacity(values.len());
            for value in values {
                match value {
                    Value::BulkString(bytes) => all.push(bytes),
                    other => all.extend(words(other)?),
                }
            }
            Some(all)
        }
        value => Some(vec![word(value)?]),
    }
}
