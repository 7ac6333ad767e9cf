//! What authenticates the contexts that clients hold: bound to their key and database, under the cluster's
//! secret. A forged one could hide writes that nobody has seen.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::Error;
use crate::logic::causal::{Context, Element};
use crate::logic::codec::Reader;
use crate::logic::record;

const TAG_LEN: usize = 16;

/// What authenticates contexts.
#[derive(Clone)]
pub struct ContextSeal {
    of_keys: [u8; 32],
    of_elements: [u8; 32],
}

/// What a context is of.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The database as stored.
    pub db: u8,
    /// The key.
    pub key: &'a [u8],
    /// One element of the key's, not all of it.
    pub element: Option<&'a Element>,
}

impl ContextSeal {
    /// From the cluster's secret.
    pub fn new(secret: &[u8]) -> Self {
        Self {
            of_keys: blake3::derive_key("ringwood context token v2", secret),
            of_elements: blake3::derive_key("ringwood element context token v1", secret),
        }
    }

    fn tag(&self, place: Place<'_>, body: &[u8]) -> [u8; TAG_LEN] {
        let secret = match place.element {
            None => &self.of_keys,
            Some(_) => &self.of_elements,
        };
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher.update(&[place.db]);
        hasher.update(&(place.key.len() as u64).to_le_bytes());
        hasher.update(place.key);
        if let Some(element) = place.element {
            hasher.update(&[element.kind as u8]);
            hasher.update(&(element.name.len() as u64).to_le_bytes());
            hasher.update(&element.name);
        }
        hasher.update(body);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_LEN]);
        tag
    }

    /// A context as a client holds it.
    pub fn token(&self, place: Place<'_>, context: &Context) -> String {
        let mut raw = vec![0; TAG_LEN];
        record::put_context(&mut raw, context);
        let tag = self.tag(place, &raw[TAG_LEN..]);
        raw[..TAG_LEN].copy_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(raw)
    }

    /// The context behind it.
    ///
    /// # Errors
    /// When it was not made here for this place.
    pub fn open(&self, place: Place<'_>, token: &[u8]) -> Result<Context, Error> {
        let raw = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| Error::BadContext)?;
        let (tag, body) = raw.split_at_checked(TAG_LEN).ok_or(Error::BadContext)?;
        let expected = blake3::hash(&self.tag(place, body));
        if expected != blake3::hash(tag) {
            return Err(Error::BadContext);
        }
        let mut r = Reader(body);
        let context = record::read_context(&mut r).map_err(|_| Error::BadContext)?;
        if r.0.is_empty() {
            Ok(context)
        } else {
            Err(Error::BadContext)
        }
    }
}
