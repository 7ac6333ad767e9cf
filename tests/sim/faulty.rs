//! One run's way to its store, which ends with the run; and a store that lies, to see whether the
//! checker notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringwood::logic::causal::{ActorId, Dot, Kind, Payload, Rest, Timestamp, Value, Version};
use ringwood::logic::spread::{self, Stored};
use ringwood::logic::types::element;
use ringwood::storage::{
    Changing, Frozen, Progress, Refused, Row, Store, StoreError, Table, Ticket, Usage, Write,
};

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Hints are acknowledged and not kept.
    SkipHints,
    /// Most objects are acknowledged and not stored.
    AcknowledgeBeforeStoring,
    /// Every run of a node is the same actor.
    ReuseDots,
    /// Blind writes are stored beside what they have not seen.
    StoreUnseen,
    /// Hints are lost now and then, which is to be borne.
    LoseHints,
    /// Tombstones are dropped by time alone: they do not outlive a run.
    DropTombstones,
    /// Some trees look equal though they are not. Hints are lost too, so that nothing but the trees tells
    /// what is missing.
    HideDifferences,
    /// New owners' copies count before they are proven.
    SwitchBeforeProof,
    /// A batch that was said to have failed is there later, and nobody is told.
    LandLate,
    /// Large collections count elements that they do not have.
    DriftCounts,
    /// The digests of large collections miss what changed of an element, and so do the trees.
    DriftDigests,
    /// An answer to many writes is taken for a "done" of all, though some were refused.
    BelieveInAll,
    /// A removal covers additions that its coordinator has not seen.
    CoverUnseen,
}

/// A store with a fault.
pub struct Faulty {
    pub inner: Arc<dyn Store>,
    pub fault: Fault,
    pub writes: AtomicU64,
    /// Whether the run has ended: nothing of it reaches the disk any more.
    pub ended: AtomicBool,
}

/// Has the head of a large collection count one element more, or have another digest.
fn drift(row: &mut Vec<u8>, counts: bool) {
    let Ok(Stored::Head(mut head)) = spread::read(row) else {
        return;
    };
    let phantom = Version {
        dot: Dot {
            actor: ActorId(1),
            seq: 1,
        },
        at: Timestamp(1),
        value: Value {
            payload: Payload::Bytes("".into()),
            expires_at_ms: None,
        },
    };
    let versions = if counts { vec![phantom] } else { Vec::new() };
    head.total
        .add(&Rest::of(&element(Kind::Set, b""), &versions, 0, 1));
    *row = head.encode();
}

impl Store for Faulty {
    fn shards(&self) -> usize {
        self.inner.shards()
    }

    fn enqueue(&self, shard: usize, mut write: Write) -> Result<Ticket, Refused> {
        let ops = &mut write.ops;
        if self.ended.load(Ordering::Relaxed) {
            return Err(Refused::Closing);
        }
        match self.fault {
            Fault::SkipHints => ops.retain(|op| op.table != Table::Hint || op.value.is_none()),
            Fault::AcknowledgeBeforeStoring => {
                let nth = self.writes.fetch_add(1, Ordering::Relaxed);
                let lies = !nth.is_multiple_of(3);
                ops.retain(|op| !(lies && op.table == Table::Data));
            }
            Fault::DriftCounts | Fault::DriftDigests => {
                let nth = self.writes.fetch_add(1, Ordering::Relaxed);
                if nth.is_multiple_of(5) {
                    let counts = self.fault == Fault::DriftCounts;
                    let rows = ops.iter_mut().filter_map(|op| op.value.as_mut());
                    rows.for_each(|row| drift(row, counts));
                }
            }
            Fault::None
            | Fault::ReuseDots
            | Fault::StoreUnseen
            | Fault::DropTombstones
            | Fault::LoseHints
            | Fault::HideDifferences
            | Fault::SwitchBeforeProof
            | Fault::CoverUnseen
            | Fault::BelieveInAll
            | Fault::LandLate => {}
        }
        self.inner.enqueue(shard, write)
    }

    fn kick(&self, shard: usize) {
        self.inner.kick(shard);
    }

    fn progress(&self, shard: usize) -> &Progress {
        self.inner.progress(shard)
    }

    fn last(&self, shard: usize) -> Ticket {
        self.inner.last(shard)
    }

    fn pending(&self, shard: usize, table: Table, key: &[u8]) -> Ticket {
        self.inner.pending(shard, table, key)
    }

    fn load(&self, shard: usize, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.load(shard, table, key)
    }

    fn look(&self, shard: usize, key: &[u8], see: &mut dyn FnMut(Option<&[u8]>)) -> Option<Ticket> {
        self.inner.look(shard, key, see)
    }

    /// What is planted in writes is planted in those of [`Self::enqueue`]: then all of them are.
    fn change(
        &self,
        shard: usize,
        key: &[u8],
        change: &mut dyn FnMut(Option<&[u8]>, &mut Changing) -> bool,
    ) -> Result<Option<Ticket>, Refused> {
        if self.ended.load(Ordering::Relaxed) {
            return Err(Refused::Closing);
        }
        match self.fault {
            Fault::AcknowledgeBeforeStoring | Fault::DriftCounts | Fault::DriftDigests => Ok(None),
            _ => self.inner.change(shard, key, change),
        }
    }

    fn scan(
        &self,
        shard: usize,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(shard, table, from, to, limit)
    }

    fn scan_back(
        &self,
        shard: usize,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.inner.scan_back(shard, from, to, limit)
    }

    fn freeze(&self, shard: usize) -> Result<Arc<dyn Frozen>, StoreError> {
        self.inner.freeze(shard)
    }

    fn was_clean(&self) -> bool {
        self.inner.was_clean()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn refuses_growth(&self) -> bool {
        self.inner.refuses_growth()
    }

    fn close(&self) {}

    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }
}
