//! The bounded cache of decoded objects before the store.
//!
//! An entry whose write is not committed yet is pinned: it is the only place where readers can see
//! that write. An entry is stale when its space was flushed or when a commit of its shard failed
//! since it was made; stale entries count as misses.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, Lifecycle, Weighter};
use smallvec::SmallVec;

use crate::logic::causal::{Object, Payload};
use crate::storage::{Store, Ticket};

/// Bookkeeping of one entry, counted beside key and values.
const ENTRY_OVERHEAD_BYTES: u64 = 320;
const EXPECTED_ENTRY_BYTES: u64 = 512;
/// The cache makes room for so many entries at once, whatever its size.
const MAX_EXPECTED_ENTRIES: u64 = 1 << 20;
/// Keys up to this length stand in the entry itself: one place less in memory to go to.
const INLINE_KEY_LEN: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CacheKey {
    pub(super) db: u8,
    pub(super) key: SmallVec<[u8; INLINE_KEY_LEN]>,
}

/// The borrowed form of [`CacheKey`], for look-ups.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyRef<'a> {
    pub(super) db: u8,
    pub(super) key: &'a [u8],
}

#[derive(Clone, Debug)]
pub(super) struct Cached {
    /// `None`: the key is known to be absent.
    pub(super) object: Option<Arc<Object>>,
    pub(super) shard: usize,
    pub(super) ticket: Ticket,
    /// The space's flushes when the entry was made.
    pub(super) epoch: u64,
    /// The shard's failed batches when the entry was made.
    pub(super) failures: u64,
}

pub(super) type ObjectCache = Cache<CacheKey, Cached, Weigh, DefaultHashBuilder, PinPending>;

pub(super) fn object_cache(bytes: u64, store: Arc<dyn Store>) -> ObjectCache {
    Cache::with(
        (bytes / EXPECTED_ENTRY_BYTES).min(MAX_EXPECTED_ENTRIES) as usize,
        bytes,
        Weigh,
        DefaultHashBuilder::default(),
        PinPending(store),
    )
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyRef {
            db: self.db,
            key: &self.key,
        }
        .hash(state);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.db);
        state.write(self.key);
    }
}

impl Equivalent<CacheKey> for KeyRef<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        self.db == key.db && self.key == key.key.as_slice()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Weigh;

impl Weighter<CacheKey, Cached> for Weigh {
    fn weight(&self, key: &CacheKey, cached: &Cached) -> u64 {
        let values: usize = cached
            .object
            .iter()
            .flat_map(|o| o.all_versions())
            .map(|v| match &v.value.payload {
                Payload::Bytes(bytes) => bytes.len() + 64,
                Payload::Count(_) | Payload::Gone(_) => 64,
                Payload::Deadline(over) => 64 + 16 * over.len(),
            })
            .sum();
        let resets = cached.object.iter().map(|o| 24 * o.resets().len());
        let values = values + resets.sum::<usize>();
        ENTRY_OVERHEAD_BYTES + (key.key.len() + values) as u64
    }
}

#[derive(Clone)]
pub(super) struct PinPending(Arc<dyn Store>);

impl Lifecycle<CacheKey, Cached> for PinPending {
    type RequestState = ();

    fn on_evict(&self, (): &mut Self::RequestState, _: CacheKey, _: Cached) {}

    fn is_pinned(&self, _: &CacheKey, cached: &Cached) -> bool {
        cached.ticket > self.0.progress(cached.shard).committed()
    }
}
