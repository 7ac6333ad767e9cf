//! One database of a server that may go away and come back. What is asked here may be asked twice: reads, and
//! writes that begin with the key's end.

use std::time::{Duration, Instant};

use redis::{Cmd, ConnectionAddr, ConnectionInfo, RedisError, Value};

use super::error::MigrateError;
use super::value::{Found, Kind, Place, command, word, words};
use crate::base::clock;
use crate::cli::client::{connect, words_of};

/// A server that is gone is asked again for so long before the work ends.
const PATIENCE: Duration = Duration::from_mins(1);
/// And so long lies between two attempts.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A reply is waited for so long.
const REPLY_PATIENCE: Duration = Duration::from_secs(30);
/// Keys that SCAN is asked for at a time.
const SCANNED: usize = 500;
/// Replies about a key.
const ABOUT: usize = 3;
/// Words in an error after which the same command may succeed a little later.
const PASSES: [&str; 10] = [
    "NOQUORUM",
    "NOREPLICAS",
    "MISCONF",
    "TRYAGAIN",
    "LOADING",
    "BUSY",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "READONLY",
    "OOM",
];

/// Commands that are sent before their replies are read, at most, and their bytes: a server may stop reading
/// while nobody reads what it says.
const SENT_TOGETHER: usize = 1_000;
const BYTES_TOGETHER: usize = 1 << 20;

/// A database of a server.
pub struct Remote {
    /// Where the server answers; the next is tried where one does not.
    at: Vec<ConnectionInfo>,
    /// The process that cursors are of: none of another may be asked on.
    run_id: Option<String>,
    was_restarted: bool,
    db: i64,
    connection: Option<redis::Connection>,
    /// A server that never was there is not waited for.
    was_there: bool,
    /// Whether the server tells the moment at which a key ends (Redis 7), not only how long that is.
    tells_ends: bool,
}

impl Remote {
    /// Connects when it is asked something.
    pub fn new(at: Vec<ConnectionInfo>, db: i64) -> Self {
        Self {
            at,
            run_id: None,
            was_restarted: false,
            db,
            connection: None,
            was_there: false,
            tells_ends: true,
        }
    }

    /// A walk through it must not go on in another process.
    pub fn of_run(self, run_id: &str) -> Self {
        Self {
            run_id: Some(run_id.to_owned()),
            ..self
        }
    }

    /// The server, as the user would say it.
    pub fn name(&self) -> String {
        self.at.first().map_or_else(String::new, name_of)
    }

    /// The moments of ends that it tells are exact.
    pub fn ends_are_exact(&self) -> bool {
        self.tells_ends
    }

    fn connection(&mut self) -> Result<&mut redis::Connection, RedisError> {
        if self.connection.is_none() {
            let mut last = None;
            for at in &self.at {
                let settings = at.redis_settings().clone().set_db(self.db);
                match connect(&at.clone().set_redis_settings(settings), REPLY_PATIENCE) {
                    Ok(mut connection) => {
                        if let Some(run_id) = self.run_id.as_ref().filter(|_| self.was_there) {
                            let info = redis::cmd("INFO")
                                .arg("server")
                                .query::<String>(&mut connection)?;
                            let same = format!("run_id:{run_id}\r\n");
                            self.was_restarted = run_id.is_empty() || !info.contains(&same);
                        }
                        self.connection = Some(connection);
                        self.was_there = true;
                        break;
                    }
                    Err(why) => last = Some(why),
                }
            }
            if let (None, Some(why)) = (&self.connection, last) {
                return Err(why);
            }
        }
        let none = || RedisError::from(std::io::Error::from(std::io::ErrorKind::NotConnected));
        self.connection.as_mut().ok_or_else(none)
    }

    /// Sends commands once. Errors of single commands are among the replies.
    ///
    /// # Errors
    /// When the server is gone; how many of the commands were done is not known then.
    pub fn once(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, RedisError> {
        let replies = self.exchange(commands);
        if replies.is_err() {
            self.connection = None;
            // What hangs is not waited for twice where there are others.
            if self.at.len() > 1 {
                self.at.rotate_left(1);
            }
        }
        replies
    }

    fn exchange(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, RedisError> {
        let mut replies = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while !rest.is_empty() {
            self.connection()?;
            let (mut packed, mut count) = (Vec::new(), 0);
            for command in rest.iter().take(SENT_TOGETHER) {
                command.write_packed_command(&mut packed);
                count += 1;
                if packed.len() >= BYTES_TOGETHER {
                    break;
                }
            }
            if self.was_restarted {
                let why = "it was started again meanwhile";
                return Err(std::io::Error::other(why).into());
            }
            let connection = self.connection.as_mut().expect("made above");
            connection.send_packed_command(&packed)?;
            for _ in 0..count {
                replies.push(connection.recv_response()?);
            }
            rest = &rest[count..];
        }
        Ok(replies)
    }

    /// Sends commands, again for a while where the server is gone, or refuses one for now.
    ///
    /// # Errors
    /// When it stays away, or goes on refusing.
    pub fn all(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, MigrateError> {
        let mut patience = Patience::default();
        loop {
            let replies = self.sent(commands)?;
            let refused = replies.iter().find_map(|reply| match reply {
                Value::ServerError(error) if passes(error.code()) => Some(words_of(error)),
                _ => None,
            });
            match refused {
                None => return Ok(replies),
                Some(words) if !patience.goes_on() => return Err(self.refused(words)),
                Some(_) => {}
            }
        }
    }

    /// Sends commands, again for a while where the server is gone.
    ///
    /// # Errors
    /// When it stays away.
    pub fn sent(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, MigrateError> {
        let mut patience = Patience::default();
        loop {
            match self.once(commands) {
                Ok(replies) => return Ok(replies),
                Err(why) => self.wait(why, &mut patience)?,
            }
        }
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    /// When there were enough, or another would end as this one did.
    pub fn wait(&self, why: RedisError, patience: &mut Patience) -> Result<(), MigrateError> {
        if self.was_restarted {
            let words = "it was started again meanwhile, and where a walk through it stood means nothing any more: \
                         run the same command again";
            return Err(self.refused(words.to_owned()));
        }
        let hopeless = why.kind() == redis::ErrorKind::AuthenticationFailed
            || why.code().is_some_and(|code| !passes(code))
            || !self.was_there;
        if hopeless || !patience.goes_on() {
            return Err(MigrateError::Lost {
                who: self.name(),
                why,
            });
        }
        Ok(())
    }

    /// Sends one command.
    ///
    /// # Errors
    /// When the server stays away, or refuses it.
    pub fn one(&mut self, command: Cmd) -> Result<Value, MigrateError> {
        let replies = self.all(&[command])?;
        match replies.into_iter().next() {
            Some(Value::ServerError(error)) => Err(self.refused(words_of(&error))),
            Some(reply) => Ok(reply),
            None => Err(self.refused("no reply".to_owned())),
        }
    }

    /// What ends the work: the server's own words.
    pub fn refused(&self, words: String) -> MigrateError {
        MigrateError::Refused {
            who: self.name(),
            words,
        }
    }

    /// The next keys, each once, and the cursor after them.
    pub fn scan(
        &mut self,
        cursor: &str,
        pattern: Option<&str>,
    ) -> Result<(String, Vec<Vec<u8>>), MigrateError> {
        let mut scan = Cmd::new();
        scan.arg("SCAN").arg(cursor);
        if let Some(pattern) = pattern {
            scan.arg("MATCH").arg(pattern);
        }
        let reply = self.one(scan.arg("COUNT").arg(SCANNED).take())?;
        let found = words(reply).unwrap_or_default();
        let mut found = found.into_iter();
        let next = found.next().and_then(|next| String::from_utf8(next).ok());
        let next = next.ok_or_else(|| self.refused("no reply of SCAN's".to_owned()))?;
        let mut keys: Vec<Vec<u8>> = found.collect();
        keys.sort_unstable();
        keys.dedup();
        Ok((next, keys))
    }

    /// Which of these keys are there.
    pub fn holds(&mut self, keys: &[Vec<u8>]) -> Result<Vec<bool>, MigrateError> {
        let ask: Vec<Cmd> = keys.iter().map(|key| command("EXISTS", key)).collect();
        let mut held = Vec::with_capacity(keys.len());
        for reply in self.all(&ask)? {
            match reply {
                Value::Int(count) => held.push(count > 0),
                // A member of a Redis cluster that has other slots.
                Value::ServerError(error) if error.code() == "MOVED" => held.push(false),
                Value::ServerError(error) => return Err(self.refused(words_of(&error))),
                _ => return Err(self.refused("no reply of EXISTS's".to_owned())),
            }
        }
        Ok(held)
    }

    /// What these keys are; those that are gone are not among them.
    pub fn look(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Found>, MigrateError> {
        let mut replies = self.about(keys)?;
        // A server before Redis 7 says of the first key already that it does not know the command.
        if let (true, Some(Value::ServerError(error))) = (self.tells_ends, replies.get(1)) {
            let words = words_of(error);
            if words.contains("unknown command") || error.code() == "NOPERM" {
                self.tells_ends = false;
                replies = self.about(keys)?;
            }
        }
        let mut found = Vec::with_capacity(keys.len());
        for (key, about) in keys.iter().zip(replies.chunks_exact(ABOUT)) {
            if let Some(Value::ServerError(error)) = about[..2].iter().find(|one| is_error(one)) {
                return Err(self.refused(words_of(error)));
            }
            let [kind, Value::Int(end), bytes] = about else {
                return Err(self.refused("no reply of PTTL's".to_owned()));
            };
            let kind = word(kind.clone()).unwrap_or_default();
            let Some(kind) = Kind::named(&String::from_utf8_lossy(&kind)) else {
                continue;
            };
            let since = if self.tells_ends {
                0
            } else {
                clock::now_ms() as i64
            };
            found.push(Found {
                key: key.clone(),
                kind,
                ends_at: (*end >= 0).then_some(since + end),
                bytes: match bytes {
                    Value::Int(bytes) => u64::try_from(*bytes).ok(),
                    _ => None,
                },
            });
        }
        Ok(found)
    }

    /// Three replies about each key: its type, its end, its size.
    fn about(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Value>, MigrateError> {
        let end = if self.tells_ends {
            "PEXPIRETIME"
        } else {
            "PTTL"
        };
        let mut ask = Vec::with_capacity(keys.len() * ABOUT);
        for key in keys {
            ask.push(command("TYPE", key));
            ask.push(command(end, key));
            ask.push(Cmd::new().arg("MEMORY").arg("USAGE").arg(key).take());
        }
        self.all(&ask)
    }

    /// The next words of a value; nothing at its end.
    pub fn read_on(
        &mut self,
        found: &Found,
        place: &mut Place,
    ) -> Result<Option<Vec<Vec<u8>>>, MigrateError> {
        let Some(read) = found.kind.read_on(&found.key, place) else {
            return Ok(None);
        };
        let reply = self.one(read)?;
        let words = found.kind.words_of(reply, place);
        let broken = || self.refused(format!("no reply of a {}'s", found.kind.name()));
        words.map(Some).ok_or_else(broken)
    }
}

/// How long an attempt is repeated.
#[derive(Default)]
pub struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// Waits; not when attempts have failed for long enough.
    pub fn goes_on(&mut self) -> bool {
        let now = clock::monotonic();
        if now.duration_since(*self.since.get_or_insert(now)) >= PATIENCE {
            return false;
        }
        std::thread::sleep(AGAIN_AFTER);
        true
    }
}

fn is_error(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(_))
}

/// Whether a command that was refused so may succeed a little later.
pub fn passes(code: &str) -> bool {
    PASSES.contains(&code)
}

/// `host:port`, or a socket's path.
pub fn name_of(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
        other => other.to_string(),
    }
}
