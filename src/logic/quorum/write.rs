//! One write: sent to every owner, answered when W have it, followed until every owner has it or
//! somebody keeps a hint for him.

use std::collections::VecDeque;

use super::{Decision, Effect, Targets};
use crate::logic::placement::NodeId;

/// The state of one write.
#[derive(Clone, Debug)]
pub struct Write {
    w: usize,
    stored: usize,
    /// Who was asked in whose place.
    waiting: Vec<(NodeId, NodeId)>,
    fallbacks: VecDeque<NodeId>,
    decided: bool,
}

impl Write {
    /// Starts a write that waits for `w` copies. `answers` says which owners are worth asking.
    ///
    /// This node's own copy is reported like any other, with [`Self::on_stored_here`].
    pub fn start(
        w: usize,
        targets: &Targets,
        answers: impl Fn(NodeId) -> bool,
    ) -> (Self, Vec<Effect>) {
        let mut write = Self {
            w,
            stored: 0,
            waiting: Vec::new(),
            fallbacks: targets.fallbacks.iter().copied().collect(),
            decided: false,
        };
        let mut effects = Vec::new();
        for &owner in &targets.owners {
            if answers(owner) {
                write.waiting.push((owner, owner));
                effects.push(Effect::Ask {
                    node: owner,
                    hint_for: None,
                });
            } else {
                effects.push(write.stand_in(owner));
            }
        }
        (write, effects)
    }

    /// This node has it.
    pub fn on_stored_here(&mut self) -> Vec<Effect> {
        self.stored += 1;
        self.decide()
    }

    /// Another node has it.
    pub fn on_stored(&mut self, node: NodeId) -> Vec<Effect> {
        let before = self.waiting.len();
        self.waiting.retain(|(asked, _)| *asked != node);
        if self.waiting.len() == before {
            return Vec::new();
        }
        self.stored += 1;
        self.decide()
    }

    /// Another node did not answer, or refused: the next fallback takes the owner's place.
    pub fn on_failed(&mut self, node: NodeId) -> Vec<Effect> {
        let Some(at) = self.waiting.iter().position(|(asked, _)| *asked == node) else {
            return Vec::new();
        };
        let (_, owner) = self.waiting.remove(at);
        let mut effects = vec![self.stand_in(owner)];
        effects.extend(self.decide());
        effects
    }

    /// Whether nobody is waited for any more.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    fn stand_in(&mut self, owner: NodeId) -> Effect {
        match self.fallbacks.pop_front() {
            Some(node) => {
                self.waiting.push((node, owner));
                Effect::Ask {
                    node,
                    hint_for: Some(owner),
                }
            }
            None => Effect::KeepHint(owner),
        }
    }

    fn decide(&mut self) -> Vec<Effect> {
        if self.decided {
            return Vec::new();
        }
        let decision = if self.stored >= self.w {
            Decision::Met
        } else if self.waiting.is_empty() && self.stored > 0 {
            Decision::Short {
                answered: self.stored,
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
            others: false,
        }
    }

    fn ask(node: u64, hint_for: Option<u64>) -> Effect {
        Effect::Ask {
            node: NodeId(node),
            hint_for: hint_for.map(NodeId),
        }
    }

    #[test]
    fn a_write_is_answered_when_w_have_it_and_over_when_all_have() {
        let (mut write, effects) = Write::start(2, &targets(&[2, 3], &[]), |_| true);
        assert_eq!(effects, [ask(2, None), ask(3, None)]);
        assert_eq!(write.on_stored_here(), []);
        assert_eq!(write.on_stored(NodeId(3)), [Effect::Decide(Decision::Met)]);
        assert!(!write.is_over());
        assert_eq!(write.on_stored(NodeId(2)), []);
        assert!(write.is_over());
    }

    #[test]
    fn fallbacks_take_the_place_of_owners_in_rank_order() {
        let (mut write, effects) =
            Write::start(2, &targets(&[2, 3], &[4, 5]), |id| id != NodeId(2));
        assert_eq!(effects, [ask(4, Some(2)), ask(3, None)]);
        write.on_stored_here();
        assert_eq!(write.on_failed(NodeId(3)), [ask(5, Some(3))]);
        assert_eq!(write.on_failed(NodeId(4)), [Effect::KeepHint(NodeId(2))]);
        assert_eq!(write.on_stored(NodeId(5)), [Effect::Decide(Decision::Met)]);
        assert!(write.is_over());
    }

    #[test]
    fn when_nobody_is_left_the_client_learns_how_many_have_it() {
        let (mut write, effects) = Write::start(2, &targets(&[2, 3], &[]), |_| false);
        assert_eq!(
            effects,
            [Effect::KeepHint(NodeId(2)), Effect::KeepHint(NodeId(3))]
        );
        let short = Effect::Decide(Decision::Short { answered: 1 });
        assert_eq!(write.on_stored_here(), [short]);
    }

    #[test]
    fn an_answer_that_comes_twice_or_from_a_stranger_counts_for_nothing() {
        let (mut write, _) = Write::start(3, &targets(&[2, 3], &[]), |_| true);
        write.on_stored_here();
        write.on_stored(NodeId(2));
        assert_eq!(write.on_stored(NodeId(2)), []);
        assert_eq!(write.on_stored(NodeId(9)), []);
        assert_eq!(write.on_stored(NodeId(3)), [Effect::Decide(Decision::Met)]);
    }
}
