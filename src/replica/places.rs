//! Where reclaiming goes on.

/// How far the sweep has come in a shard's expiry index.
#[derive(Debug, Default)]
pub(super) struct ExpiryPlace {
    pub(super) next: Vec<u8>,
    pub(super) started_ms: u64,
    /// How long the last slice's first key had been due.
    pub(super) late_ms: u64,
}

/// How far reclaiming has come in the flushed spaces.
#[derive(Debug, Default)]
pub(super) struct FlushedPlace {
    /// The partition whose turn it is.
    pub(super) turn: u16,
    /// Its flushed databases when its turn began, with their flushes; empty before.
    pub(super) databases: Vec<(u8, u64)>,
    /// The failed batches then.
    pub(super) failures: u64,
    pub(super) next: Vec<u8>,
}

impl FlushedPlace {
    /// It is the next one's turn.
    pub(super) fn after(partition: u16) -> Self {
        Self {
            turn: partition.saturating_add(1),
            ..Self::default()
        }
    }
}
