//! Requests about keys' copies.

use bytes::Bytes;

use super::deltas::Deltas;
use super::fields::{
    put_dots, put_elements, put_key, put_node, put_view, read_bytes, read_dots, read_elements,
    read_key, read_node, read_view,
};
use super::version::{ELEMENTS, GROUPS};
use super::wire::WireKey;
use crate::logic::causal::{Context, Dot, Element};
use crate::logic::codec::{DecodeError, Reader, put_bytes};
use crate::logic::placement::NodeId;
use crate::logic::record::{put_context, read_context};

/// The kind of a message with many deltas.
const ALL: u8 = 25;

/// About keys' copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRequest {
    /// Joins an object (a state or a delta) into the receiver's copy of a key.
    Apply {
        /// Which key.
        key: WireKey,
        /// The object, as a row.
        object: Bytes,
        /// The owner for whom the receiver keeps it, when it is a fallback.
        hint_for: Option<NodeId>,
        /// Not where it would stand beside something that its writer has not seen.
        only_over_seen: bool,
        /// The elements of collections that it changes or removes, where what it has seen is of no others.
        touched: Option<Vec<Element>>,
        /// How the sender sees who holds the key: a fingerprint.
        view: u64,
    },
    /// Joins deltas of many keys into the receiver's copies, each by itself. Answered with [`Response::Each`] where
    /// not all were stored.
    ///
    /// [`Response::Each`]: super::Response::Each
    ApplyAll {
        /// The deltas.
        deltas: Deltas,
        /// How the sender sees who holds the keys: a fingerprint, the same for all.
        view: u64,
    },
    /// Asks for the receiver's copy of a key.
    Fetch {
        /// Which key.
        key: WireKey,
        /// The digest of what the sender has: an equal copy need not be sent.
        digest: u64,
        /// What lives at the sender: it must hear what of that was overwritten.
        dots: Vec<Dot>,
        /// What the sender has seen, where it would rather not be sent a large copy that tells nothing new.
        seen: Option<Context>,
        /// How the sender sees who holds the key: a fingerprint.
        view: u64,
    },
}

impl KeyRequest {
    pub(super) fn encode(&self, wire: u16, out: &mut Vec<u8>) {
        match self {
            KeyRequest::Apply {
                key,
                object,
                hint_for,
                only_over_seen,
                touched,
                view,
            } => {
                out.push(4);
                put_key(out, key);
                put_bytes(out, object);
                put_node(out, *hint_for);
                out.push(u8::from(*only_over_seen));
                put_view(out, *view, wire);
                if wire >= ELEMENTS {
                    put_elements(out, touched.as_deref());
                }
            }
            KeyRequest::ApplyAll { deltas, view } => {
                out.push(ALL);
                put_bytes(out, deltas.raw());
                put_view(out, *view, wire);
            }
            KeyRequest::Fetch {
                key,
                digest,
                dots,
                seen,
                view,
            } => {
                out.push(5);
                put_key(out, key);
                out.extend_from_slice(&digest.to_le_bytes());
                put_dots(out, dots);
                put_view(out, *view, wire);
                if wire >= ELEMENTS {
                    out.push(u8::from(seen.is_some()));
                    if let Some(seen) = seen {
                        put_context(out, seen);
                    }
                }
            }
        }
    }

    /// `None` where the kind is no one's of these.
    pub(super) fn decode(
        kind: u8,
        r: &mut Reader<'_>,
        wire: u16,
    ) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            4 => KeyRequest::Apply {
                key: read_key(r)?,
                object: read_bytes(r)?,
                hint_for: read_node(r)?,
                only_over_seen: r.u8()? != 0,
                view: read_view(r, wire)?,
                touched: if wire < ELEMENTS {
                    None
                } else {
                    read_elements(r)?
                },
            },
            ALL if wire >= GROUPS => KeyRequest::ApplyAll {
                deltas: Deltas::new(read_bytes(r)?)?,
                view: read_view(r, wire)?,
            },
            5 => KeyRequest::Fetch {
                key: read_key(r)?,
                digest: r.u64_le()?,
                dots: read_dots(r)?,
                view: read_view(r, wire)?,
                seen: if wire >= ELEMENTS && r.u8()? != 0 {
                    Some(read_context(r)?)
                } else {
                    None
                },
            },
            _ => return Ok(None),
        }))
    }
}
