//! What a node writes down about its cluster, for its next start.

use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::membership::{Losses, Part};
use crate::logic::membership::{Member, decode_member, encode_member};
use crate::logic::placement::NodeId;

/// The layout of what is written down; the first did not say what is lacking.
const VERSION: u8 = 2;
const FIRST_VERSION: u8 = 1;

/// The note under which a node keeps what it knows about its cluster.
pub const CLUSTER_NOTE: &[u8] = b"cluster";

/// What a node has written down about its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notes {
    /// This node.
    pub node: NodeId,
    /// Its cluster; 0 for none.
    pub cluster: u64,
    /// Everybody that was ever known.
    pub members: Vec<Member>,
    /// What it owns and may not have.
    pub lacking: Vec<Part>,
}

impl Notes {
    /// Of a node whose data is an old copy that was put back: where nobody has more, that is all there is.
    pub fn forget_what_is_complete(&mut self) {
        let id = self.node;
        for me in self.members.iter_mut().filter(|member| member.id == id) {
            let restored = me.lose_everything();
            me.losses = Losses {
                restored,
                ..Losses::default()
            };
        }
    }

    /// As bytes, for the disk.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.node.0.to_le_bytes());
        out.extend_from_slice(&self.cluster.to_le_bytes());
        put_varint(&mut out, self.members.len() as u64);
        for member in &self.members {
            put_bytes(&mut out, &encode_member(member));
        }
        put_varint(&mut out, self.lacking.len() as u64);
        for (owners, partition) in &self.lacking {
            out.push(*owners);
            put_varint(&mut out, u64::from(*partition));
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(raw: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader(raw);
        let version = r.u8()?;
        if !matches!(version, VERSION | FIRST_VERSION) {
            return Err(DecodeError::Version(version));
        }
        let (node, cluster) = (NodeId(r.u64_le()?), r.u64_le()?);
        let count = r.count(1)?;
        let members: Result<_, _> = (0..count).map(|_| decode_member(r.bytes()?)).collect();
        let members = members?;
        let count = if version == FIRST_VERSION {
            0
        } else {
            r.count(2)?
        };
        let part = |_| {
            let (owners, partition) = (r.u8()?, r.varint()?);
            let partition = u16::try_from(partition).map_err(|_| DecodeError::Malformed)?;
            Ok((owners, partition))
        };
        let lacking: Result<_, DecodeError> = (0..count).map(part).collect();
        Ok(Self {
            node,
            cluster,
            members,
            lacking: lacking?,
        })
    }
}
