//! A file that occupies space, to be given up when the disk is full: then there is room for what frees
//! more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

const NAME: &str = "reserve";

/// The space that a store keeps back for itself.
#[derive(Debug)]
pub(super) struct Reserve {
    dir: PathBuf,
    /// A tenth of it is what a disk that is nearly full must have free; half of that is reserved.
    min_free_bytes: u64,
    is_held: Mutex<bool>,
}

/// A disk's size, and what is free of it, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub(super) total: u64,
    pub(super) free: u64,
}

impl Reserve {
    /// Of a data directory whose disk should keep so much free.
    pub(super) fn new(dir: &Path, min_free_bytes: u64) -> Self {
        let reserve = Self {
            dir: dir.to_path_buf(),
            min_free_bytes,
            is_held: Mutex::new(fs::metadata(dir.join(NAME)).is_ok_and(|file| file.len() > 0)),
        };
        reserve.take();
        reserve
    }

    /// What the disk has; `None` where that cannot be told.
    pub(super) fn space(&self) -> Option<Space> {
        let stat = rustix::fs::statvfs(&self.dir).ok()?;
        Some(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    /// Below this nothing that grows is written. On a small disk it is a tenth of it.
    pub(super) fn least(&self, space: Space) -> u64 {
        self.min_free_bytes.min(space.total / 10)
    }

    /// Takes the space, where there is twice as much as must be free.
    pub(super) fn take(&self) {
        if *self.is_held.lock() {
            return;
        }
        let Some(space) = self.space() else { return };
        let bytes = self.least(space) / 2;
        if bytes == 0 || space.free < 4 * bytes + bytes {
            return;
        }
        let mut is_held = self.is_held.lock();
        if *is_held {
            return;
        }
        let flags = rustix::fs::FallocateFlags::empty();
        let taken = File::create(self.dir.join(NAME))
            .and_then(|file| Ok(rustix::fs::fallocate(&file, flags, 0, bytes)?));
        match taken {
            Ok(()) => *is_held = true,
            Err(error) => {
                tracing::debug!(%error, "no space is reserved");
                let _ = fs::remove_file(self.dir.join(NAME));
            }
        }
    }

    /// Gives the space up; whether there was any.
    pub(super) fn give_up(&self) -> bool {
        let mut is_held = self.is_held.lock();
        let given = *is_held && fs::remove_file(self.dir.join(NAME)).is_ok();
        *is_held = false;
        if given {
            tracing::warn!(dir = %self.dir.display(), "the disk is full: reserved space is given up for what frees more");
        }
        given
    }
}
