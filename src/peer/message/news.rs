//! What a member tells all others at once: about scripts, and about who listens to what. Nothing of it is stored;
//! who does not hear it does without.

use bytes::Bytes;

use super::fields::read_bytes;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};

/// The kind of all news.
const NEWS: u8 = 40;

/// One change of what a member's clients listen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Channels, patterns, shard channels: 0, 1, 2.
    pub kind: u8,
    /// Which one.
    pub name: Bytes,
    /// Whether somebody listens now.
    pub begins: bool,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// All scripts were flushed.
    ForgetScripts,
    /// Scripts that run, and have written nothing, are to end.
    StopScripts,
    /// The libraries of functions have changed.
    ForgetFunctions,
    /// Keys have changed of which the receiver's clients may want to know; none: any may have.
    Changed(Vec<Bytes>),
    /// A message for whoever listens to a channel; how many do is the answer.
    Publish {
        /// Whether it is for shard channels.
        sharded: bool,
        /// The channel.
        channel: Bytes,
        /// The message.
        message: Bytes,
    },
    /// Asks how many clients listen to each of some channels.
    Count {
        /// Whether they are shard channels.
        sharded: bool,
        /// The channels.
        channels: Vec<Bytes>,
    },
    /// What the sender's clients listen to.
    Listens {
        /// The sender's run.
        actor: u64,
        /// The number of changes that the receiver must know of; 0: none, and these are all.
        from: u64,
        /// That number with these.
        to: u64,
        /// The changes.
        changes: Vec<Listening>,
    },
}

impl News {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(NEWS);
        match self {
            News::ForgetScripts => out.push(0),
            News::StopScripts => out.push(1),
            News::ForgetFunctions => out.push(5),
            News::Changed(keys) => {
                out.push(6);
                put_varint(out, keys.len() as u64);
                for key in keys {
                    put_bytes(out, key);
                }
            }
            News::Publish {
                sharded,
                channel,
                message,
            } => {
                out.extend_from_slice(&[2, u8::from(*sharded)]);
                put_bytes(out, channel);
                put_bytes(out, message);
            }
            News::Count { sharded, channels } => {
                out.extend_from_slice(&[4, u8::from(*sharded)]);
                put_varint(out, channels.len() as u64);
                for channel in channels {
                    put_bytes(out, channel);
                }
            }
            News::Listens {
                actor,
                from,
                to,
                changes,
            } => {
                out.push(3);
                out.extend_from_slice(&actor.to_le_bytes());
                put_varint(out, *from);
                put_varint(out, *to);
                put_varint(out, changes.len() as u64);
                for change in changes {
                    out.extend_from_slice(&[change.kind, u8::from(change.begins)]);
                    put_bytes(out, &change.name);
                }
            }
        }
    }

    /// `None` where the kind is not that of news.
    pub(super) fn decode(kind: u8, r: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        if kind != NEWS {
            return Ok(None);
        }
        Ok(Some(match r.u8()? {
            0 => News::ForgetScripts,
            1 => News::StopScripts,
            5 => News::ForgetFunctions,
            6 => {
                let count = r.count(1)?;
                let keys = (0..count).map(|_| read_bytes(r));
                News::Changed(keys.collect::<Result<_, _>>()?)
            }
            2 => News::Publish {
                sharded: r.u8()? != 0,
                channel: read_bytes(r)?,
                message: read_bytes(r)?,
            },
            3 => News::Listens {
                actor: r.u64_le()?,
                from: r.varint()?,
                to: r.varint()?,
                changes: read_changes(r)?,
            },
            4 => News::Count {
                sharded: r.u8()? != 0,
                channels: {
                    let count = r.count(1)?;
                    (0..count)
                        .map(|_| read_bytes(r))
                        .collect::<Result<_, _>>()?
                },
            },
            _ => return Err(DecodeError::Malformed),
        }))
    }
}

fn read_changes(r: &mut Reader<'_>) -> Result<Vec<Listening>, DecodeError> {
    let count = r.count(3)?;
    let change = |_| {
        Ok(Listening {
            kind: r.u8()?,
            begins: r.u8()? != 0,
            name: read_bytes(r)?,
        })
    };
    (0..count).map(change).collect()
}
