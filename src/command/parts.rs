//! Where commands spend their time, in all.

use crate::base::histogram::Histogram;

/// What a command spends its time with: `turn` until it begins (CLIENT PAUSE, commands that it has to wait
/// for), `run` in its handler, `commit` until its writes, and those that it has read, are stored; in a
/// cluster until its coordinator's reply is there.
pub(super) const PARTS: [&str; 3] = ["turn", "run", "commit"];

/// The parts of all commands.
#[derive(Debug, Default)]
pub struct Timings {
    pub(super) parts: [Histogram; PARTS.len()],
    pub(super) whole: Histogram,
}

impl Timings {
    pub(super) fn reset(&self) {
        self.parts.iter().for_each(Histogram::reset);
        self.whole.reset();
    }
}
