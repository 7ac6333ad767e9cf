//! MONITOR: every command that this node runs, to every monitor.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::secrets::Secrets;
use super::session::Session;
use super::spec::Spec;
use crate::base::clock;
use crate::routing::args::Args;

/// Lines that wait for one monitor, and their bytes. A monitor that does not read that fast is dropped.
const MOST_LINES: usize = 4_096;
const MOST_BYTES: usize = 32 << 20;

/// The clients that watch.
#[derive(Default)]
pub(super) struct Monitors {
    all: Mutex<Vec<Monitor>>,
    count: AtomicUsize,
}

struct Monitor {
    lines: mpsc::Sender<Arc<str>>,
    /// Bytes of the lines that wait.
    waiting: Arc<AtomicUsize>,
}

/// What one of them sees.
pub struct Feed {
    lines: mpsc::Receiver<Arc<str>>,
    waiting: Arc<AtomicUsize>,
}

impl Feed {
    /// The next line; `None` when this monitor was too slow.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        let line = self.lines.recv().await?;
        self.waiting.fetch_sub(line.len(), Ordering::AcqRel);
        Some(line)
    }
}

impl Monitor {
    fn show(&self, line: &Arc<str>) -> bool {
        let waiting = self.waiting.fetch_add(line.len(), Ordering::AcqRel);
        // One line is shown whatever its length.
        let fits = waiting == 0 || waiting + line.len() <= MOST_BYTES;
        fits && self.lines.try_send(Arc::clone(line)).is_ok()
    }
}

impl Monitors {
    /// One more.
    pub(super) fn add(&self) -> Feed {
        let (sender, lines) = mpsc::channel(MOST_LINES);
        let waiting = Arc::<AtomicUsize>::default();
        let mut all = self.all.lock();
        all.push(Monitor {
            lines: sender,
            waiting: Arc::clone(&waiting),
        });
        self.count.store(all.len(), Ordering::Release);
        Feed { lines, waiting }
    }

    /// Shows a command to all.
    pub(super) fn show(&self, session: &Session, spec: &Spec, args: Args<'_>) {
        if self.count.load(Ordering::Acquire) > 0 {
            self.show_line(&line(session, spec, args).into());
        }
    }

    fn show_line(&self, line: &Arc<str>) {
        let mut all = self.all.lock();
        all.retain(|monitor| monitor.show(line));
        self.count.store(all.len(), Ordering::Release);
    }
}

fn line(session: &Session, spec: &Spec, args: Args<'_>) -> String {
    let now_us = clock::now_us();
    let mut line = format!(
        "{}.{:06} [{} {}]",
        now_us / 1_000_000,
        now_us % 1_000_000,
        session.db,
        session.client.address
    );
    let secrets = Secrets::of(spec, args);
    for nth in 0..args.len() {
        let _ = write!(line, " \"{}\"", secrets.show(args, nth).escape_ascii());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_that_does_not_read_is_dropped_by_lines_and_by_bytes() {
        let of = |len: usize| Arc::from("x".repeat(len));
        for (line, most) in [(of(10), MOST_LINES), (of(1 << 20), MOST_BYTES >> 20)] {
            let monitors = Monitors::default();
            let feed = monitors.add();
            for _ in 0..most {
                monitors.show_line(&line);
            }
            assert_eq!(monitors.count.load(Ordering::Acquire), 1);
            monitors.show_line(&line);
            assert_eq!(monitors.count.load(Ordering::Acquire), 0);
            drop(feed);
        }
    }
}
