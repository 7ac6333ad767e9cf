//! Requests about who is a member, and what each says of itself.

use super::fields::{put_digest, put_member, put_members, read_digest, read_member, read_members};
use crate::logic::codec::{DecodeError, Reader, put_bytes};
use crate::logic::membership::{Digest, Member};

/// Of membership, and of members to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipRequest {
    /// A gossip round's first message.
    Gossip(Vec<Digest>),
    /// A gossip round's last message: what the other wanted.
    Push(Vec<Member>),
    /// A newcomer asks to be taken in.
    Join(Box<Member>),
    /// Asks a node that is alone to join the sender's cluster.
    Invite {
        /// The sender, as other nodes reach it.
        address: String,
    },
    /// Asks who the receiver is and whether it could join.
    Describe,
    /// Asks what the receiver transfers.
    Transfers,
    /// The sender does background work: which share of the time does the receiver give it?
    Pace,
}

impl MembershipRequest {
    pub(super) fn encode(&self, wire: u16, out: &mut Vec<u8>) {
        match self {
            MembershipRequest::Gossip(digest) => {
                out.push(1);
                put_digest(out, digest, wire);
            }
            MembershipRequest::Push(members) => {
                out.push(2);
                put_members(out, members, wire);
            }
            MembershipRequest::Join(member) => {
                out.push(3);
                put_member(out, member, wire);
            }
            MembershipRequest::Invite { address } => {
                out.push(12);
                put_bytes(out, address.as_bytes());
            }
            MembershipRequest::Describe => out.push(23),
            MembershipRequest::Transfers => out.push(24),
            MembershipRequest::Pace => out.push(20),
        }
    }

    /// `None` where the kind is no one's of these.
    pub(super) fn decode(
        kind: u8,
        r: &mut Reader<'_>,
        wire: u16,
    ) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            1 => MembershipRequest::Gossip(read_digest(r, wire)?),
            2 => MembershipRequest::Push(read_members(r, wire)?),
            3 => MembershipRequest::Join(Box::new(read_member(r, wire)?)),
            12 => MembershipRequest::Invite {
                address: String::from_utf8_lossy(r.bytes()?).into_owned(),
            },
            23 => MembershipRequest::Describe,
            24 => MembershipRequest::Transfers,
            20 => MembershipRequest::Pace,
            _ => return Ok(None),
        }))
    }
}
