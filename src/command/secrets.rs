//! What others may not see of a command's words: MONITOR and SLOWLOG show Redis's `(redacted)` instead.

use smallvec::SmallVec;

use super::spec::{Hides, Spec};
use crate::base::config;
use crate::routing::args::Args;

const REDACTED: &[u8] = b"(redacted)";

/// Which of a command's words are secret.
pub(super) struct Secrets {
    /// All after the command's name.
    all: bool,
    /// Every AUTH in HELLO: the two behind it.
    auths: SmallVec<[usize; 1]>,
    /// CONFIG SET: the values of directives that are secret.
    sets: bool,
}

impl Secrets {
    pub(super) fn of(spec: &Spec, args: Args<'_>) -> Self {
        Self {
            all: spec.hides == Hides::Words,
            auths: if spec.hides == Hides::Auths {
                auths_of(args)
            } else {
                SmallVec::new()
            },
            sets: spec.hides == Hides::Directives,
        }
    }

    /// A word as others see it.
    pub(super) fn show<'a>(&self, args: Args<'a>, nth: usize) -> &'a [u8] {
        let of_auth = |at: usize| (at + 1..=at + 2).contains(&nth);
        let is_secret = self.all && nth > 0
            || self.auths.iter().copied().any(of_auth)
            || self.sets && nth > 2 && nth % 2 == 1 && config::is_secret(args.at(nth - 1));
        if is_secret { REDACTED } else { args.at(nth) }
    }
}

/// Where HELLO's AUTHs are. A client may be named AUTH.
fn auths_of(args: Args<'_>) -> SmallVec<[usize; 1]> {
    let mut found = SmallVec::new();
    let mut nth = 2;
    while nth < args.len() {
        if args.is(nth, "AUTH") {
            found.push(nth);
            nth += 3;
        } else {
            nth += if args.is(nth, "SETNAME") { 2 } else { 1 };
        }
    }
    found
}
