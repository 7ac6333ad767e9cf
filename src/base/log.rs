//! The log: lines go to the standard error output by a thread of its own, so that nobody who logs ever
//! waits for a pipe that is full, or fails because its reader is gone.
//!
//! Invariant: what is queued is bounded in lines and bytes; beyond that lines are dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::base::clock;

const MAX_LINES: usize = 4_096;
const MAX_BYTES: usize = 1 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Where lines are written.
#[derive(Clone, Debug)]
pub struct Log {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    lost: AtomicU64,
}

impl Log {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be none.
    pub fn start() -> io::Result<Self> {
        let (lines, queue) = sync_channel(MAX_LINES);
        let counts = Arc::<Counts>::default();
        let mine = Arc::clone(&counts);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&queue, &mine, io::stderr()))?;
        Ok(Self { lines, counts })
    }

    /// Waits, so long at most, until what is queued is written: before the process ends.
    pub fn finish(&self, within: Duration) {
        let begun = clock::monotonic();
        let queued = || self.counts.queued_bytes.load(Ordering::Acquire);
        while queued() > 0 && clock::monotonic().duration_since(begun) < within {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn write_all(queue: &Receiver<Vec<u8>>, counts: &Counts, mut out: impl Write) {
    while let Ok(line) = queue.recv() {
        let lost = counts.lost.swap(0, Ordering::Relaxed);
        // Nobody may be reading any more.
        if lost > 0 {
            let _ = writeln!(out, "{lost} lines were lost: nobody was reading");
        }
        let _ = out.write_all(&line);
        counts.queued_bytes.fetch_sub(line.len(), Ordering::Release);
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let len = line.len();
        let before = self.counts.queued_bytes.fetch_add(len, Ordering::AcqRel);
        if before + len > MAX_BYTES || self.lines.try_send(line.to_vec()).is_err() {
            self.counts.queued_bytes.fetch_sub(len, Ordering::Release);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_and_learns_what_it_missed() {
        let (lines, queue) = sync_channel(MAX_LINES);
        let counts = Arc::<Counts>::default();
        let mut log = Log {
            lines,
            counts: Arc::clone(&counts),
        };
        for _ in 0..MAX_LINES + 7 {
            assert_eq!(log.write(b"line\n").expect("never fails"), 5);
        }
        drop(log);
        let mut out = Vec::new();
        write_all(&queue, &counts, &mut out);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(
            text.lines().filter(|line| *line == "line").count(),
            MAX_LINES
        );
        assert!(text.starts_with("7 lines were lost"));
        assert_eq!(counts.queued_bytes.load(Ordering::Acquire), 0);
    }
}
