//! Every error that a client can read, in Redis's own words where Redis has them: clients match.

use std::borrow::Cow;

use thiserror::Error;

use crate::coordinator::QuorumError;
use crate::replica::ReplicaError;
use crate::storage::{Refused, StoreError, WriteFailed};

/// An error reply. Unless it says otherwise nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A text of one place.
    #[error("{0}")]
    Text(Cow<'static, str>),
    /// A command that there is none of in a cluster.
    #[error("ERR {0} is not allowed in cluster mode")]
    NotInCluster(String),
    /// A subcommand with words that it does not know, and its container.
    #[error("ERR unknown subcommand or wrong number of arguments for '{0}'. Try {1} HELP.")]
    WrongWords(String, String),
    /// Options that do not fit together.
    #[error("ERR syntax error")]
    Syntax,
    /// Not a 64-bit integer.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// Not a 32-bit integer.
    #[error("ERR value is out of range, value must between -2147483648 and 2147483647")]
    NotInt32,
    /// Another type than the command works on.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// Not a count.
    #[error("ERR value is out of range")]
    OutOfRange,
    /// Below zero.
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    /// Not a float.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// No owner of some keys has all of them.
    #[error("NOQUORUM the owners of some keys are being filled")]
    Filling,
    /// Nobody has all of some keys any more. Nothing was changed.
    #[error(
        "LOST every complete copy of some partitions was lost, see 'ringwood cluster accept-loss'"
    )]
    Lost,
    /// Several values where none may be chosen.
    #[error("CONFLICT key has {0} siblings; SIBLINGS shows them, RESOLVE settles")]
    Conflict(usize),
    /// A counter at its end.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// A float counter at its end.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// No such key.
    #[error("ERR no such key")]
    NoSuchKey,
    /// The key exists.
    #[error("BUSYKEY Target key name already exists.")]
    BusyKey,
    /// Source and destination are one.
    #[error("ERR source and destination objects are the same")]
    SameObject,
    /// Not a database.
    #[error("ERR DB index is out of range")]
    DbIndex,
    /// An expiry that cannot be.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    /// Too many or too few arguments.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(Cow<'static, str>),
    /// Beyond `proto-max-bulk-len`.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// Beyond the longest key.
    #[error("ERR key is too long: {0} bytes, at most 60000 are possible")]
    KeyTooLong(usize),
    /// Before AUTH.
    #[error("NOAUTH Authentication required.")]
    NoAuth,
    /// AUTH failed.
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPass,
    /// HELLO with another version.
    #[error("NOPROTO unsupported protocol version")]
    NoProto,
    /// A queued command was wrong.
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    ExecAbort,
    /// A context that this cluster did not give out for this key.
    #[error("BADCONTEXT the context is not one of this key: ask SIBLINGS for a fresh one")]
    BadContext,
    /// The disk does not take the write.
    #[error(
        "MISCONF Errors writing to the disk: the write was not stored. Reads go on; writing \
         resumes by itself when there is space"
    )]
    MisConf,
    /// The disk does not sync what it has taken before.
    #[error(
        "MISCONF Errors writing to the disk: fsync failed, and the write was not stored. Reads go on; \
         writing resumes by itself when fsync succeeds"
    )]
    Unsynced,
    /// What was read has turned out not to be stored.
    #[error("MISCONF Errors writing to the disk: what was read was not stored, ask again")]
    WasNotStored,
    /// The disk may have taken the write.
    #[error(
        "MISCONF Errors writing to the disk: whether the write was stored is not known. Reads go on; \
         writing resumes by itself when there is space"
    )]
    InDoubt,
    /// The node has not joined its cluster. Nothing was done.
    #[error("CLUSTERDOWN this node has not joined its cluster yet")]
    ClusterDown,
    /// Keys that cannot be changed together.
    #[error("CROSSSLOT Keys in request don't hash to the same slot")]
    CrossSlot,
    /// A member that is needed for the whole key space did not answer.
    #[error("ERR the member {0} did not answer")]
    Member(String),
    /// Too few members answer. Nothing was stored.
    #[error("NOREPLICAS {0}")]
    NoReplicas(QuorumError),
    /// Clients of clusters ask again. Nothing was done.
    #[error("TRYAGAIN {0}")]
    TryAgain(QuorumError),
    /// Too few answered in time.
    #[error("NOQUORUM {0}")]
    NoQuorum(QuorumError),
    /// The node stops.
    #[error("ERR the node is shutting down")]
    Closing,
    /// Reading the disk failed.
    #[error("ERR reading from the disk failed: {0}")]
    Disk(String),
    /// No such subcommand.
    #[error("ERR unknown subcommand '{0}'. Try {1} HELP.")]
    UnknownSubcommand(String, String),
}

impl Error {
    /// A text that only one place uses.
    pub const fn text(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// The error of a command that has done a part of its work before.
    #[must_use]
    pub fn after_others(self, is_partly_done: bool) -> Self {
        if is_partly_done {
            QuorumError::Partly.into()
        } else {
            self
        }
    }

    /// What EXEC says when it is itself wrong.
    #[must_use]
    pub fn discarding(self) -> Self {
        let said = self.to_string();
        let why = said.strip_prefix("ERR ").unwrap_or(&said);
        Self::Text(format!("EXECABORT Transaction discarded because of: {why}").into())
    }

    /// The first word, for INFO errorstats.
    pub fn prefix(&self) -> String {
        let text = self.to_string();
        text.split(' ').next().unwrap_or("ERR").to_owned()
    }

    /// An unknown command, with the start of its arguments, as Redis says it.
    pub fn unknown_command<'a>(args: impl Iterator<Item = &'a [u8]>) -> Self {
        // Redis prints C strings: they end at a zero byte.
        let mut args = args.map(|arg| {
            let end = memchr::memchr(0, arg).unwrap_or(arg.len()).min(128);
            String::from_utf8_lossy(&arg[..end]).into_owned()
        });
        let name = args.next().unwrap_or_default();
        let mut shown = String::new();
        for arg in args {
            if shown.len() >= 128 {
                break;
            }
            let room = 128 - shown.len();
            let cut: String = arg.chars().take(room).collect();
            shown.push_str(&format!("'{cut}' "));
        }
        Self::Text(
            format!("ERR unknown command '{name}', with args beginning with: {shown}").into(),
        )
    }
}

impl From<ReplicaError> for Error {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Refused(Refused::DiskFull | Refused::Changed) => Self::MisConf,
            ReplicaError::Refused(Refused::Unsynced) => Self::Unsynced,
            ReplicaError::Failed(failed) => failed.into(),
            ReplicaError::Refused(Refused::Closing) => Self::Closing,
            ReplicaError::Store(StoreError::Engine(reason)) => Self::Disk(reason),
            other => Self::Disk(other.to_string()),
        }
    }
}

impl From<WriteFailed> for Error {
    fn from(failed: WriteFailed) -> Self {
        match failed {
            WriteFailed::NotStored => Self::MisConf,
            WriteFailed::Unknown => Self::InDoubt,
        }
    }
}

impl From<QuorumError> for Error {
    fn from(error: QuorumError) -> Self {
        match error {
            QuorumError::NotStored => Error::MisConf,
            QuorumError::Busy => Error::TryAgain(error),
            QuorumError::Lost => Error::Lost,
            QuorumError::Unreachable { .. } | QuorumError::TooMuch => Error::NoReplicas(error),
            _ => Error::NoQuorum(error),
        }
    }
}
