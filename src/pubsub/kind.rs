//! What one can listen to.

/// What one can listen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A channel.
    Channel,
    /// All channels whose names match.
    Pattern,
    /// A channel of a shard: another name space.
    Shard,
}

impl Kind {
    /// Its number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Kind::Channel => 0,
            Kind::Pattern => 1,
            Kind::Shard => 2,
        }
    }

    /// The kind of a number.
    pub fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Kind::Channel),
            1 => Some(Kind::Pattern),
            2 => Some(Kind::Shard),
            _ => None,
        }
    }

    /// How a message is headed.
    pub(super) fn heads(self) -> &'static [u8] {
        match self {
            Kind::Channel => b"message",
            Kind::Pattern => b"pmessage",
            Kind::Shard => b"smessage",
        }
    }
}
