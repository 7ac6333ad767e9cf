//! What the journal asks of the operating system, so that a test can have it fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The calls that can fail for want of a good disk.
pub trait Files: Send + Sync + 'static {
    /// Writes all of it at a place.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Has what was written on the disk.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Reserves space for a file of so many bytes.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()>;
}

/// The operating system.
#[derive(Clone, Copy, Debug)]
pub struct RealFiles;

impl Files for RealFiles {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(file, flags, 0, bytes) {
            // Not every file system can.
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes),
            allocated => Ok(allocated?),
        }
    }
}
