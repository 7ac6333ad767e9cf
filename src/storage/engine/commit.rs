//! Batches are completed, written and synced, and what is refused while that fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Engine, Filling, KEPT_BYTES, Sealed, Writer, batch};
use crate::storage::room::Room;
use crate::storage::{Need, StoreError};

/// From this part of the write buffer on writers are slowed down.
const SLOWER_FROM: f64 = 0.75;
/// By how much, each time they have something written, when it is full; and at most.
const SLOWED_BY: Duration = Duration::from_millis(2);
const LONGEST_REST: Duration = Duration::from_millis(20);

impl Engine {
    /// Has what was put written: at once, or, where it must be on the disk, soon.
    pub(in crate::storage) fn kick(&self) {
        if self.syncs_first.load(Ordering::Acquire) {
            self.want_sync();
        } else {
            self.slow_down();
            self.commit();
        }
    }

    /// Those who write more than the tables take are slowed down, the more the fuller the write buffer is.
    fn slow_down(&self) {
        let most = self.options.write_buffer_bytes as f64;
        let over = self.dirty_bytes() as f64 / most - SLOWER_FROM;
        if over > 0.0 {
            let share = over / (1.0 - SLOWER_FROM);
            std::thread::sleep(LONGEST_REST.min(SLOWED_BY.mul_f64(share * share)));
        }
    }

    /// Writes what was put, for everybody. Where batches are synced first that is somebody else's to do,
    /// and only then are they committed.
    pub(in crate::storage) fn commit(&self) {
        self.commit_as(false);
    }

    /// The same; whether the caller syncs it in a moment.
    fn commit_as(&self, syncs: bool) {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        {
            let mut filling = self.filling.lock();
            if filling.gathering == 0 {
                filling.seal();
            } else {
                filling.is_kicked = true;
            }
            writer.unwritten.extend(filling.sealed.drain(..));
        }
        if !writer.unwritten.is_empty() {
            let failed = self.write_out(writer).err();
            self.marks.written(self.last_written());
            self.note_doubt(failed);
        }
        if !syncs {
            self.publish_written();
        }
    }

    /// What is written is committed; or is to be synced before it is, by whoever does that.
    fn publish_written(&self) {
        let written = self.last_written();
        if !self.syncs_first.load(Ordering::Acquire) {
            self.progress.publish_committed(written, false);
        } else if written > self.progress.synced() {
            self.want_sync();
        }
    }

    fn want_sync(&self) {
        *self.wanted.0.lock() = true;
        self.wanted.1.notify_one();
    }

    pub(super) fn write_out(&self, writer: &mut Writer) -> std::io::Result<()> {
        while let Some(Sealed { number, batch }) = writer.unwritten.front_mut() {
            let synced = self.progress.synced();
            self.journal
                .add(&mut writer.segment, batch, *number, synced)?;
            self.written.store(*number, Ordering::Release);
            if let Some(done) = writer.unwritten.pop_front()
                && done.batch.capacity() <= KEPT_BYTES
            {
                self.filling.lock().spare = done.batch;
            }
        }
        Ok(())
    }

    pub(super) fn note_doubt(&self, failed: Option<std::io::Error>) {
        let is_failed = failed.is_some();
        let was = self.refuse(|filling| std::mem::replace(&mut filling.is_in_doubt, is_failed));
        match failed {
            Some(error) if !was => {
                tracing::error!(%error, "the journal cannot be written: writes are refused until it can");
            }
            None if was => tracing::info!("the journal is written again, with all that was taken"),
            _ => {}
        }
    }

    /// Changes what is refused.
    pub(super) fn refuse<R>(&self, change: impl FnOnce(&mut Filling) -> R) -> R {
        let mut filling = self.filling.lock();
        let result = change(&mut filling);
        let refuses = filling.check(Need::Grows).is_err() && !filling.is_closing;
        self.refuses.store(refuses, Ordering::Release);
        result
    }

    /// Whether writes that take space are refused.
    pub(in crate::storage) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
    }

    /// What the disk has room for.
    pub(in crate::storage) fn set_room(&self, room: Room) {
        self.refuse(|filling| filling.room = room);
        if room < Room::Plenty {
            self.journal.shrink();
        }
    }

    /// Whether batches are to be on the disk before they count as committed.
    pub(in crate::storage) fn sync_first(&self, syncs: bool) {
        let _writer = self.writer.lock();
        self.syncs_first.store(syncs, Ordering::Release);
        self.publish_written();
    }

    /// Whether something that was put is not written.
    pub(in crate::storage) fn is_in_doubt(&self) -> bool {
        self.filling.lock().is_in_doubt
    }

    /// Whether those who wait for what they put wait for a disk that fails.
    pub(in crate::storage) fn holds_up(&self) -> bool {
        let syncs = self.syncs_first.load(Ordering::Relaxed);
        self.is_in_doubt() || syncs && self.is_unsynced()
    }

    /// Whether what was written cannot be synced.
    pub(in crate::storage) fn is_unsynced(&self) -> bool {
        self.filling.lock().is_unsynced
    }

    /// Those who wait are told that nobody knows what will become of what they wait for.
    pub(in crate::storage) fn doubt(&self) {
        let last = {
            let filling = self.filling.lock();
            filling.number - u64::from(batch::is_empty(&filling.batch))
        };
        self.progress.doubt(last);
    }

    /// Has everything that is written on the disk; up to which batch. Blocks, and holds up no write.
    pub(in crate::storage) fn sync(&self) -> Result<u64, StoreError> {
        // The system tells of what it could not write once, whoever asks.
        let _one_at_a_time = self.syncing.lock();
        let (upto, file) = {
            let mut writer = self.writer.lock();
            if self.is_unsynced() && !self.is_distrusted.load(Ordering::Acquire) {
                self.leave(&mut writer)?;
            }
            let file = Arc::clone(writer.segment.file());
            (self.written.load(Ordering::Acquire), file)
        };
        if upto == self.progress.synced() && !self.is_unsynced() {
            return Ok(upto);
        }
        match self.journal.sync(&file) {
            Ok(()) => {
                self.be_synced(upto);
                Ok(upto)
            }
            Err(error) => Err(self.be_unsynced(error)),
        }
    }

    pub(super) fn be_synced(&self, upto: u64) {
        let was = self.refuse(|filling| std::mem::replace(&mut filling.is_unsynced, false));
        if was {
            tracing::info!("writes are synced again, and accepted");
        }
        self.progress.publish_committed(upto, true);
    }

    /// A sync has failed: what was written is not believed to be there, whatever a later sync says. The
    /// tables are to have it, and nothing is taken until they do.
    pub(super) fn be_unsynced(&self, error: std::io::Error) -> StoreError {
        let mut writer = self.writer.lock();
        let path = writer.segment.path().to_path_buf();
        let was = self.refuse(|filling| std::mem::replace(&mut filling.is_unsynced, true));
        if !was {
            tracing::error!(%error, file = %path.display(), "writes cannot be synced: no more are accepted until they are");
        }
        if !self.is_distrusted.load(Ordering::Acquire)
            && let Err(error) = self.leave(&mut writer)
        {
            tracing::error!(%error, "no other segment can be begun yet");
        }
        StoreError::Io {
            path,
            source: error,
        }
    }

    /// The tables have what a sync had failed for: whether what was written since can be synced.
    pub(super) fn trust_again(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.syncing.lock();
        let (upto, file) = {
            let writer = self.writer.lock();
            let file = Arc::clone(writer.segment.file());
            (self.last_written(), file)
        };
        let synced = self.journal.sync(&file);
        self.is_distrusted.store(false, Ordering::Release);
        match synced {
            Ok(()) => {
                self.be_synced(upto);
                Ok(())
            }
            Err(error) => Err(self.be_unsynced(error)),
        }
    }

    /// Leaves the segments of which a sync has failed to the tables.
    pub(super) fn leave(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let path = writer.segment.path().to_path_buf();
        let left = self.journal.distrust(&mut writer.segment);
        left.map_err(|source| StoreError::Io { path, source })?;
        self.is_distrusted.store(true, Ordering::Release);
        self.want_flush();
        Ok(())
    }

    /// Waits until a batch is to be written and synced, and does that; `false` at the end.
    pub(in crate::storage) fn commit_next(&self) -> bool {
        {
            let mut wanted = self.wanted.0.lock();
            while !*wanted {
                if self.flush_wanted.0.lock().is_closing {
                    return false;
                }
                self.wanted.1.wait(&mut wanted);
            }
            *wanted = false;
        }
        self.slow_down();
        let syncs = self.syncs_first.load(Ordering::Acquire);
        self.commit_as(syncs);
        if syncs {
            // What goes wrong is in the log, and those who wait are told after a while.
            let _ = self.sync();
        }
        true
    }
}
