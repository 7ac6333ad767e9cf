//! What authenticates the contexts that clients hold: bound to their key and database, under the cluster's
//! secret. A forged one could hide writes that nobody has seen.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::Error;
use crate::logic::causal::Context;
use crate::logic::codec::Reader;
use crate::logic::record;

const TAG_LEN: usize = 16;

/// What authenticates contexts.
#[derive(Clone)]
pub struct ContextSeal([u8; 32]);

impl ContextSeal {
    /// From the cluster's secret.
    pub fn new(secret: &[u8]) -> Self {
        Self(blake3::derive_key("ringwood context token v2", secret))
    }

    fn tag(&self, db: u8, key: &[u8], body: &[u8]) -> [u8; TAG_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[db]);
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(body);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_LEN]);
        tag
    }

    /// A context as a client holds it.
    pub fn token(&self, (db, key): (u8, &[u8]), context: &Context) -> String {
        let mut raw = vec![0; TAG_LEN];
        record::put_context(&mut raw, context);
        let tag = self.tag(db, key, &raw[TAG_LEN..]);
        raw[..TAG_LEN].copy_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(raw)
    }

    /// The context behind it.
    ///
    /// # Errors
    /// When it was not made here for this key.
    pub fn open(&self, (db, key): (u8, &[u8]), token: &[u8]) -> Result<Context, Error> {
        let raw = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| Error::BadContext)?;
        let (tag, body) = raw.split_at_checked(TAG_LEN).ok_or(Error::BadContext)?;
        let expected = blake3::hash(&self.tag(db, key, body));
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
