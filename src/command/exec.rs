//! A transaction in a cluster: in one go at one coordinator where that is possible, else one command after
//! the other.

use std::sync::Arc;

use bytes::Bytes;

use super::queue::{Seen, Watch};
use super::session::Session;
use super::spec::Spec;
use crate::routing::args::{Args, OwnedArgs};
use crate::routing::{self, Call, Later, Runner, Who};

/// A transaction that runs in a cluster: each command at its coordinator, one after the other.
pub struct Exec {
    watches: Vec<Watch>,
    who: Who,
    /// The commands, as they were queued.
    pub steps: Vec<(&'static Spec, OwnedArgs)>,
}

impl Exec {
    /// EXEC's. `None`: what a lone node says will do.
    pub(super) fn of(session: &mut Session, who: Who) -> Option<Self> {
        if session.transaction.as_ref()?.has_failed() {
            return None;
        }
        Some(Self {
            who,
            steps: session.transaction.take()?.into_commands(),
            watches: std::mem::take(&mut session.watches),
        })
    }

    /// Its commands in one go, where that is possible: nothing comes between them, nor between them and
    /// the look at the watched keys.
    pub fn as_one(
        &self,
        node: &Arc<dyn Runner>,
        called: impl Fn(&'static Spec, Args<'_>) -> Call,
    ) -> Option<Later> {
        let seen = |watch: &Watch| match watch.seen() {
            Seen::InCluster(seen) if watch.db() == self.who.db => {
                let seen = Bytes::copy_from_slice(seen.get()?);
                Some((Bytes::copy_from_slice(watch.key()), seen))
            }
            _ => None,
        };
        let watches: Option<Vec<_>> = self.watches.iter().map(seen).collect();
        let steps = self.steps.iter();
        let shapes = steps
            .clone()
            .map(|(spec, words)| (&spec.shape, words.as_args()));
        let watched = self.watches.iter().map(Watch::key);
        if watches.is_none() || !routing::is_one(node.site(), shapes, watched) {
            return None;
        }
        let calls = steps.map(|(spec, words)| called(spec, words.as_args()));
        routing::as_one(node, &self.who, calls.collect(), watches?)
    }

    /// Whether no watched key has changed.
    pub async fn may_run(&mut self, node: &Arc<dyn Runner>) -> bool {
        for watch in std::mem::take(&mut self.watches) {
            if !still_holds(&watch, node, self.who.clone()).await {
                return false;
            }
        }
        true
    }
}

/// Whether a watched key is what it was.
async fn still_holds(watch: &Watch, node: &Arc<dyn Runner>, who: Who) -> bool {
    let Seen::InCluster(seen) = watch.seen() else {
        return false;
    };
    let who = Who {
        db: watch.db(),
        ..who
    };
    let now = routing::begin(node, who, node.look_at(watch.key())).await;
    now.first() != Some(&b'-') && seen.get() == Some(&now)
}
