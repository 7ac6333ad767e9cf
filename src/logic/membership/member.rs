//! What is known about one member, and how two accounts of it are joined.
//!
//! A node writes its own description, versioned by (incarnation, version). That it joined and that
//! it left are facts of the cluster: they are set once, by whoever ran the command, and stay.

use crate::logic::causal::ActorId;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::placement::{NodeId, Placed};

/// The layout that this program writes.
const VERSION: u8 = 1;
/// The longest name, zone or address that is taken from another node.
const MAX_TEXT_LEN: usize = 255;

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub id: NodeId,
    /// Its name for people.
    pub name: String,
    /// Where other nodes reach it: `host:port`.
    pub peer_address: String,
    /// Where clients reach it: `host:port`.
    pub client_address: String,
    /// What fails together.
    pub zone: String,
    /// Its share of the data relative to the others'.
    pub weight: u32,
    /// The actor of its present run.
    pub actor: ActorId,
    /// Raised at every start, and whenever the node hears something else about itself.
    pub incarnation: u64,
    /// Raised with every change within an incarnation.
    pub version: u64,
    /// The event at which it joined.
    pub joined: u64,
    /// The event at which it left or was removed.
    pub left: Option<u64>,
}

/// Why an account of a member was not taken.
pub type MemberError = DecodeError;

impl Member {
    /// Whether it belongs to the cluster now.
    pub fn is_present(&self) -> bool {
        self.left.is_none()
    }

    /// The host part of its peer address: members on one machine share it.
    pub fn machine(&self) -> &str {
        self.peer_address
            .rsplit_once(':')
            .map_or(&self.peer_address, |(host, _)| host)
    }

    /// As placement sees it.
    pub fn placed(&self) -> Placed {
        Placed {
            id: self.id,
            machine: self.machine().to_owned(),
            zone: self.zone.clone(),
            weight: self.weight,
            joined: self.joined,
            left: self.left,
        }
    }

    /// Joins with another account of the same member; whether that taught anything.
    pub fn join(&mut self, other: &Member) -> bool {
        let before = self.clone();
        if (other.incarnation, other.version) > (self.incarnation, self.version) {
            *self = other.clone();
        }
        // 0 stands for a newcomer who does not know it yet.
        self.joined = match (before.joined, other.joined) {
            (0, known) | (known, 0) => known,
            (a, b) => a.min(b),
        };
        self.left = match (before.left, other.left) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        *self != before
    }
}

/// Writes a member down, for the disk and for other nodes.
pub fn encode_member(member: &Member) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&member.id.0.to_le_bytes());
    out.extend_from_slice(&member.actor.0.to_le_bytes());
    for text in [
        &member.name,
        &member.peer_address,
        &member.client_address,
        &member.zone,
    ] {
        put_bytes(&mut out, text.as_bytes());
    }
    for number in [
        u64::from(member.weight),
        member.incarnation,
        member.version,
        member.joined,
        member.left.map_or(0, |at| at + 1),
    ] {
        put_varint(&mut out, number);
    }
    out
}

/// Reads what [`encode_member`] wrote.
pub fn decode_member(raw: &[u8]) -> Result<Member, MemberError> {
    let mut r = Reader(raw);
    let version = r.u8()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let (id, actor) = (NodeId(r.u64_le()?), ActorId(r.u64_le()?));
    let mut text = || -> Result<String, DecodeError> {
        let bytes = r.bytes()?;
        if bytes.len() > MAX_TEXT_LEN {
            return Err(DecodeError::Malformed);
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed)
    };
    let (name, peer_address) = (text()?, text()?);
    let (client_address, zone) = (text()?, text()?);
    let weight = u32::try_from(r.varint()?).map_err(|_| DecodeError::Malformed)?;
    let (incarnation, version, joined) = (r.varint()?, r.varint()?, r.varint()?);
    let left = r.varint()?.checked_sub(1);
    if !r.0.is_empty() {
        return Err(DecodeError::Malformed);
    }
    Ok(Member {
        id,
        name,
        peer_address,
        client_address,
        zone,
        weight,
        actor,
        incarnation,
        version,
        joined,
        left,
    })
}
