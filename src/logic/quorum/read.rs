//! One read: every owner that answers is asked, the client is answered after R replies, the others
//! are still compared so that stale copies are repaired.

use std::collections::VecDeque;

use super::{Decision, Effect, Targets};
use crate::logic::placement::NodeId;

/// The state of one read. This node's own copy counts as the first reply.
#[derive(Clone, Debug)]
pub struct Read {
    r: usize,
    replies: usize,
    waiting: Vec<NodeId>,
    fallbacks: VecDeque<NodeId>,
    decided: bool,
}

impl Read {
    /// Starts a read that waits for `r` replies.
    pub fn start(
        r: usize,
        targets: &Targets,
        answers: impl Fn(NodeId) -> bool,
    ) -> (Self, Vec<Effect>) {
        let mut read = Self {
            r,
            replies: 1,
            waiting: Vec::new(),
            fallbacks: targets.fallbacks.iter().copied().collect(),
            decided: false,
        };
        let mut effects = Vec::new();
        for &owner in targets.owners.iter().filter(|id| answers(**id)) {
            read.waiting.push(owner);
            effects.push(Effect::Ask {
                node: owner,
                hint_for: None,
            });
        }
        effects.extend(read.ask_fallbacks());
        effects.extend(read.decide());
        (read, effects)
    }

    /// A node replied.
    pub fn on_reply(&mut self, node: NodeId) -> Vec<Effect> {
        if !self.stop_waiting(node) {
            return Vec::new();
        }
        self.replies += 1;
        self.decide()
    }

    /// A node did not reply.
    pub fn on_failed(&mut self, node: NodeId) -> Vec<Effect> {
        if !self.stop_waiting(node) {
            return Vec::new();
        }
        let mut effects = self.ask_fallbacks();
        effects.extend(self.decide());
        effects
    }

    /// Whether nobody is waited for any more.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    fn stop_waiting(&mut self, node: NodeId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|asked| *asked != node);
        self.waiting.len() < before
    }

    /// As many as are needed to come to R with those who may still reply.
    fn ask_fallbacks(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.replies + self.waiting.len() < self.r {
            let Some(node) = self.fallbacks.pop_front() else {
                break;
            };
            self.waiting.push(node);
            effects.push(Effect::Ask {
                node,
                hint_for: None,
            });
        }
        effects
    }

    fn decide(&mut self) -> Vec<Effect> {
        if self.decided {
            return Vec::new();
        }
        let decision = if self.replies >= self.r {
            Decision::Met
        } else if self.waiting.is_empty() {
            Decision::Short {
                answered: self.replies,
            }
        } else {
            return Vec::new();
        };
        self.decided = true;
        vec![Effect::Decide(decision)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(owners: &[u64], fallbacks: &[u64]) -> Targets {
        let ids = |raw: &[u64]| raw.iter().map(|id| NodeId(*id)).collect();
        Targets {
            owners: ids(owners),
            fallbacks: ids(fallbacks),
        }
    }

    fn ask(node: u64) -> Effect {
        Effect::Ask {
            node: NodeId(node),
            hint_for: None,
        }
    }

    #[test]
    fn a_read_asks_all_owners_and_is_answered_by_the_first_r() {
        let (mut read, effects) = Read::start(2, &targets(&[2, 3], &[4]), |_| true);
        assert_eq!(effects, [ask(2), ask(3)]);
        assert_eq!(read.on_reply(NodeId(3)), [Effect::Decide(Decision::Met)]);
        assert_eq!(read.on_reply(NodeId(3)), []);
        assert!(!read.is_over());
        assert_eq!(read.on_reply(NodeId(2)), []);
        assert!(read.is_over());
    }

    #[test]
    fn fallbacks_are_asked_only_where_owners_do_not_suffice() {
        let (mut read, effects) = Read::start(2, &targets(&[2, 3], &[4]), |id| id == NodeId(2));
        assert_eq!(effects, [ask(2)]);
        assert_eq!(read.on_failed(NodeId(2)), [ask(4)]);
        let short = Effect::Decide(Decision::Short { answered: 1 });
        assert_eq!(read.on_failed(NodeId(4)), [short]);
    }

    #[test]
    fn a_read_of_one_is_answered_at_once_and_still_compares() {
        let (read, effects) = Read::start(1, &targets(&[2, 3], &[]), |_| true);
        assert_eq!(effects, [ask(2), ask(3), Effect::Decide(Decision::Met)]);
        assert!(!read.is_over());
    }
}
