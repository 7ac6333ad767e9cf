//! The second half of a write: the delta goes to the other owners.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::group::Told;
use super::grouped::InGroup;
use super::sending::Here;
use super::terms::{How, Wait};
use super::{Coordinator, QuorumError};
use crate::logic::quorum::Decision;
use crate::replica::{Delta, Uncommitted, Written};

impl Coordinator {
    /// Sends a delta, which this node has queued at a place, to the other owners; it is decided when `w` have it. It
    /// is on its way when this returns, or, with others, when the turn ends; and goes on when what this returns is
    /// dropped.
    ///
    /// A `blind` write has not read a quorum before: a replica that holds what the write has not seen
    /// sends that instead of storing a sibling, and the value is written again, over that too. Then
    /// the decision brings what was written in the end, for the caller to see committed.
    pub fn replicate(
        self: &Arc<Self>,
        (delta, at): (&Delta, Uncommitted),
        w: Wait,
        blind: bool,
    ) -> Replicating {
        let wanted = w.w.into();
        if let Some(grouped) = self.join_group((delta, at), w, blind) {
            let way = Way::Grouped(grouped);
            return Replicating { way, wanted };
        }
        // Behind what was written before it, as far as this thread goes.
        self.send_groups();
        let (decided, decision) = oneshot::channel();
        let how = How { w, blind, again: 0 };
        let here = Arc::new(Here::default());
        self.send(delta, how, (decided, None), &here);
        let way = Way::Alone { here, decision };
        Replicating { way, wanted }
    }
}

/// A write on its way.
pub struct Replicating {
    way: Way,
    wanted: usize,
}

enum Way {
    Alone { here: Arc<Here>, decision: Told },
    Grouped(InGroup),
}

impl Drop for Replicating {
    /// Nobody reports any more: who was counting does without.
    fn drop(&mut self) {
        if let Way::Alone { here, .. } = &self.way {
            here.abandon();
        }
    }
}

impl Replicating {
    /// Where what became of this node's own copy is to be reported. `None`: the write is one of a group, and sees to
    /// that itself.
    pub fn here(&self) -> Option<Arc<Here>> {
        match &self.way {
            Way::Alone { here, .. } => Some(Arc::clone(here)),
            Way::Grouped(_) => None,
        }
    }

    /// Whether it was sent by itself.
    pub fn is_alone(&self) -> bool {
        matches!(self.way, Way::Alone { .. })
    }

    /// Whether nobody can have a copy, as far as is known now.
    pub fn is_nowhere(&self) -> bool {
        match &self.way {
            Way::Alone { here, .. } => here.is_nowhere(),
            Way::Grouped(grouped) => grouped.is_nowhere(),
        }
    }

    /// Waits for the decision: what this node has written in the end instead, if anything.
    ///
    /// # Errors
    /// [`QuorumError::NotStored`] when no copy is anywhere, else [`QuorumError::WriteShort`].
    pub async fn decided(&mut self) -> Result<Option<Written>, QuorumError> {
        let wanted = self.wanted;
        let short = |stored| QuorumError::WriteShort { stored, wanted };
        let decided = match &mut self.way {
            Way::Alone { decision, .. } => decision.await.ok(),
            Way::Grouped(grouped) => grouped.decided().await,
        };
        match decided {
            Some((Decision::Met, again)) => Ok(again),
            Some((Decision::Short { .. }, _)) if self.is_nowhere() => Err(QuorumError::NotStored),
            Some((Decision::Short { answered }, _)) => Err(short(answered)),
            Some((Decision::Behind | Decision::Gone, _)) | None => Err(short(1)),
        }
    }
}
