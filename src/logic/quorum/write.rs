//! One write: sent to every node that holds the key, answered when enough have it, followed until
//! every one has it or another keeps a hint for it.
//!
//! While a part moves, W copies are wanted among those that count for reads, and as many among those
//! that count for a node that knows more of the move, or less: so every read meets the write. The second is
//! waited for and, but for strict quorums, not insisted upon: a node that fails in a move has no write refused.

use std::collections::VecDeque;

use super::{Decision, Effect, Holder, Targets};
use crate::logic::placement::{Holders, NodeId};

/// How many copies a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Copies without which it is refused (W).
    pub w: u8,
    /// Copies that are waited for as long as there is hope.
    pub hoped: u8,
    /// Owners a key (N).
    pub n: u8,
    /// Whether copies among those that count elsewhere are insisted upon.
    pub strict: bool,
}

/// The state of one write.
#[derive(Clone, Debug)]
pub struct Write {
    needs: Needs,
    /// Copies in all, among those that count for reads, and among those that count elsewhere.
    stored: Stored,
    /// Who was asked in whose place.
    waiting: Vec<(NodeId, Holder)>,
    /// Whether this node's own copy is waited for.
    waits_here: bool,
    fallbacks: VecDeque<NodeId>,
    decided: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    all: usize,
    serving: usize,
    elsewhere: usize,
}

impl Stored {
    fn count(&mut self, holder: Holder) {
        self.all += 1;
        self.serving += usize::from(holder.serves);
        self.elsewhere += usize::from(holder.elsewhere);
    }
}

#[derive(Clone, Copy, Debug)]
struct Needs {
    /// In all.
    all: usize,
    /// Among those that count for reads.
    serving: usize,
    hoped: usize,
    /// Among those that count elsewhere.
    elsewhere: usize,
    strict: bool,
}

impl Needs {
    /// A copy that is missing among those that count, of a member that was removed or has lost its
    /// disk, is one that has not got the write: all others are read instead.
    fn of(wanted: Wanted, targets: &Targets) -> Self {
        let Wanted {
            w,
            hoped,
            n,
            strict,
        } = wanted;
        // One more for every copy too many.
        let most = |wanted: u8, count: usize| {
            let wanted = usize::from(wanted + Holders::beyond(n, count));
            wanted.min(count).max(1)
        };
        let least = |wanted: u8, count: usize| {
            let vacant = usize::from(n).saturating_sub(count);
            usize::from(wanted).saturating_sub(vacant).max(1)
        };
        Self {
            all: usize::from(w).min(targets.members.max(1)),
            serving: if strict {
                most(w, targets.serving)
            } else {
                least(w, targets.serving)
            },
            hoped: most(hoped, targets.serving),
            elsewhere: most(w, targets.elsewhere),
            strict,
        }
    }
}

impl Write {
    /// Starts a write. `answers` says which holders are worth asking.
    ///
    /// This node's own copy is reported like any other, with [`Self::on_stored_here`] or
    /// [`Self::on_failed_here`].
    pub fn start(
        wanted: Wanted,
        targets: &Targets,
        answers: impl Fn(NodeId) -> bool,
    ) -> (Self, Vec<Effect>) {
        let mut write = Self {
            needs: Needs::of(wanted, targets),
            stored: Stored::default(),
            waiting: Vec::new(),
            waits_here: true,
            fallbacks: targets.fallbacks.iter().copied().collect(),
            decided: false,
        };
        let mut effects = Vec::new();
        for &holder in &targets.holders {
            if answers(holder.node) {
                write.waiting.push((holder.node, holder));
                effects.push(Effect::Ask {
                    node: holder.node,
                    hint_for: None,
                });
            } else {
                effects.extend(write.stand_in(holder));
            }
        }
        (write, effects)
    }

    /// This node has it; one that does not hold the key stands in for somebody who does, unless only those
    /// count who hold it.
    pub fn on_stored_here(&mut self, here: Option<Holder>) -> Vec<Effect> {
        if !std::mem::replace(&mut self.waits_here, false) {
            return Vec::new();
        }
        let stands_in = !self.needs.strict;
        self.stored.count(here.unwrap_or(Holder {
            node: NodeId(0),
            serves: stands_in,
            elsewhere: stands_in,
            stays: true,
        }));
        self.decide()
    }

    /// This node could not store it: a fallback stands in, if this node holds the key.
    pub fn on_failed_here(&mut self, here: Option<Holder>) -> Vec<Effect> {
        if !std::mem::replace(&mut self.waits_here, false) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if let Some(holder) = here.filter(|holder| holder.stays)
            && let Some(node) = self.fallbacks.pop_front()
        {
            self.waiting.push((node, holder));
            effects.push(Effect::Ask {
                node,
                hint_for: Some(holder.node),
            });
        }
        effects.extend(self.decide());
        effects
    }

    /// Another node has it.
    pub fn on_stored(&mut self, node: NodeId) -> Vec<Effect> {
        let Some(at) = self.waiting.iter().position(|(asked, _)| *asked == node) else {
            return Vec::new();
        };
        let (_, holder) = self.waiting.remove(at);
        self.stored.count(holder);
        self.decide()
    }

    /// Another node did not answer, or refused: the next fallback takes the holder's place.
    pub fn on_failed(&mut self, node: NodeId) -> Vec<Effect> {
        let Some(at) = self.waiting.iter().position(|(asked, _)| *asked == node) else {
            return Vec::new();
        };
        let (_, holder) = self.waiting.remove(at);
        let mut effects: Vec<Effect> = self.stand_in(holder).into_iter().collect();
        effects.extend(self.decide());
        effects
    }

    /// The same, with others who could take a holder's place.
    pub(super) fn with_fallbacks(&self, fallbacks: VecDeque<NodeId>) -> Self {
        Self {
            fallbacks,
            ..self.clone()
        }
    }

    /// Whether nobody is waited for any more.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty() && !self.waits_here
    }

    fn stand_in(&mut self, holder: Holder) -> Option<Effect> {
        if !holder.stays {
            return None;
        }
        Some(match self.fallbacks.pop_front() {
            Some(node) => {
                self.waiting.push((node, holder));
                Effect::Ask {
                    node,
                    hint_for: Some(holder.node),
                }
            }
            None => Effect::KeepHint(holder.node),
        })
    }

    fn decide(&mut self) -> Vec<Effect> {
        if self.decided {
            return Vec::new();
        }
        let (needs, stored) = (self.needs, self.stored);
        let elsewhere = stored.elsewhere >= needs.elsewhere;
        let enough = stored.all >= needs.all
            && stored.serving >= needs.serving
            && (elsewhere || !needs.strict);
        let hoped = stored.serving >= needs.hoped && elsewhere;
        let decision = if enough && (hoped || self.is_over()) {
            Decision::Met
        } else if self.is_over() {
            Decision::Short {
                answered: stored.serving.min(stored.all),
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
        Targets::of_owners(owners, fallbacks)
    }

    fn wanted(w: u8) -> Wanted {
        Wanted {
            w,
            hoped: w,
            n: 3,
            strict: false,
        }
    }

    fn here(write: &mut Write) -> Vec<Effect> {
        write.on_stored_here(Some(Holder {
            node: NodeId(1),
            serves: true,
            elsewhere: true,
            stays: true,
        }))
    }

    fn ask(node: u64, hint_for: Option<u64>) -> Effect {
        Effect::Ask {
            node: NodeId(node),
            hint_for: hint_for.map(NodeId),
        }
    }

    #[test]
    fn a_write_is_answered_when_w_have_it_and_over_when_all_have() {
        let (mut write, effects) = Write::start(wanted(2), &targets(&[2, 3], &[]), |_| true);
        assert_eq!(effects, [ask(2, None), ask(3, None)]);
        assert_eq!(here(&mut write), []);
        assert_eq!(write.on_stored(NodeId(3)), [Effect::Decide(Decision::Met)]);
        assert!(!write.is_over());
        assert_eq!(write.on_stored(NodeId(2)), []);
        assert!(write.is_over());
    }

    #[test]
    fn fallbacks_take_the_place_of_owners_in_rank_order() {
        let (mut write, effects) =
            Write::start(wanted(2), &targets(&[2, 3], &[4, 5]), |id| id != NodeId(2));
        assert_eq!(effects, [ask(4, Some(2)), ask(3, None)]);
        here(&mut write);
        assert_eq!(write.on_failed(NodeId(3)), [ask(5, Some(3))]);
        assert_eq!(write.on_failed(NodeId(4)), [Effect::KeepHint(NodeId(2))]);
        assert_eq!(write.on_stored(NodeId(5)), [Effect::Decide(Decision::Met)]);
        assert!(write.is_over());
    }

    #[test]
    fn when_nobody_is_left_the_client_learns_how_many_have_it() {
        let (mut write, effects) = Write::start(wanted(2), &targets(&[2, 3], &[]), |_| false);
        assert_eq!(
            effects,
            [Effect::KeepHint(NodeId(2)), Effect::KeepHint(NodeId(3))]
        );
        let short = Effect::Decide(Decision::Short { answered: 1 });
        assert_eq!(here(&mut write), [short]);
    }

    #[test]
    fn this_nodes_own_copy_is_one_of_those_that_count() {
        let me = Holder {
            node: NodeId(1),
            serves: true,
            elsewhere: true,
            stays: true,
        };
        // It fails first, and last, and a fallback stands in for it.
        let (mut write, _) = Write::start(wanted(2), &targets(&[2, 3], &[4]), |_| true);
        assert_eq!(write.on_failed_here(Some(me)), [ask(4, Some(1))]);
        assert_eq!(write.on_stored(NodeId(2)), []);
        assert_eq!(write.on_stored(NodeId(3)), [Effect::Decide(Decision::Met)]);
        let (mut write, _) = Write::start(wanted(2), &targets(&[2, 3], &[]), |_| true);
        write.on_stored(NodeId(2));
        assert_eq!(write.on_failed(NodeId(3)), [Effect::KeepHint(NodeId(3))]);
        let short = Effect::Decide(Decision::Short { answered: 1 });
        assert_eq!(write.on_failed_here(Some(me)), [short]);
        // Nobody has it.
        let (mut write, _) = Write::start(wanted(2), &targets(&[2, 3], &[]), |_| false);
        let short = Effect::Decide(Decision::Short { answered: 0 });
        assert_eq!(write.on_failed_here(Some(me)), [short]);
    }

    #[test]
    fn an_answer_that_comes_twice_or_from_a_stranger_counts_for_nothing() {
        let (mut write, _) = Write::start(wanted(3), &targets(&[2, 3], &[]), |_| true);
        here(&mut write);
        write.on_stored(NodeId(2));
        assert_eq!(write.on_stored(NodeId(2)), []);
        assert_eq!(write.on_stored(NodeId(9)), []);
        assert_eq!(write.on_stored(NodeId(3)), [Effect::Decide(Decision::Met)]);
    }

    /// Nodes 1 (here), 2 and 3 serve; 4 takes the place of 3.
    fn moving() -> Targets {
        let mut targets = targets(&[2, 3], &[]);
        targets.holders[1].elsewhere = false;
        targets.holders.push(Holder {
            node: NodeId(4),
            serves: false,
            elsewhere: true,
            stays: true,
        });
        targets.members = 4;
        targets
    }

    #[test]
    fn while_a_part_moves_a_read_before_and_after_the_switch_meets_the_write() {
        let (mut write, _) = Write::start(wanted(2), &moving(), |_| true);
        here(&mut write);
        // Nodes 1 and 3: a read of 2 and 4 would miss it.
        assert_eq!(write.on_stored(NodeId(3)), []);
        assert_eq!(write.on_stored(NodeId(4)), [Effect::Decide(Decision::Met)]);
        let (mut write, _) = Write::start(wanted(2), &moving(), |_| true);
        here(&mut write);
        // Nodes 1 and 4: the old owners alone count.
        assert_eq!(write.on_stored(NodeId(4)), []);
        assert_eq!(write.on_stored(NodeId(2)), [Effect::Decide(Decision::Met)]);
    }

    #[test]
    fn of_more_copies_than_owners_a_write_wants_more() {
        let mut both = targets(&[2, 3, 4, 5], &[]);
        both.elsewhere = 3;
        both.holders[0].elsewhere = false;
        both.holders[1].elsewhere = false;
        let strict = Wanted {
            strict: true,
            ..wanted(2)
        };
        // Any three of the five may be read, two at a time.
        let (mut write, _) = Write::start(strict, &both, |_| true);
        here(&mut write);
        assert_eq!(write.on_stored(NodeId(4)), []);
        assert_eq!(write.on_stored(NodeId(5)), []);
        assert_eq!(write.on_stored(NodeId(2)), [Effect::Decide(Decision::Met)]);
    }

    #[test]
    fn a_new_owner_that_fails_does_not_fail_the_write() {
        let (mut write, _) = Write::start(wanted(2), &moving(), |_| true);
        here(&mut write);
        write.on_stored(NodeId(3));
        assert_eq!(write.on_failed(NodeId(4)), [Effect::KeepHint(NodeId(4))]);
        let met = Effect::Decide(Decision::Met);
        assert_eq!(
            write.on_failed(NodeId(2)),
            [Effect::KeepHint(NodeId(2)), met]
        );
    }

    #[test]
    fn an_old_owner_that_does_not_answer_gets_no_hint() {
        let mut moved = moving();
        // By now 1, 2 and 4 serve, and 3 has not said that it knows.
        for holder in &mut moved.holders {
            std::mem::swap(&mut holder.serves, &mut holder.elsewhere);
            holder.stays = holder.serves;
        }
        moved.holders[0] = Holder {
            serves: true,
            elsewhere: true,
            stays: true,
            ..moved.holders[0]
        };
        let (mut write, effects) = Write::start(wanted(2), &moved, |id| id != NodeId(3));
        assert_eq!(effects, [ask(2, None), ask(4, None)]);
        here(&mut write);
        assert_eq!(write.on_stored(NodeId(2)), [Effect::Decide(Decision::Met)]);
    }

    #[test]
    fn what_one_node_alone_serves_is_written_there_and_to_another() {
        let mut growing = targets(&[2, 3], &[]);
        growing.holders.iter_mut().for_each(|h| h.serves = false);
        growing.serving = 1;
        let (mut write, _) = Write::start(wanted(2), &growing, |_| true);
        assert_eq!(here(&mut write), []);
        assert_eq!(write.on_stored(NodeId(3)), [Effect::Decide(Decision::Met)]);
        let lone = targets(&[], &[]);
        let (mut write, _) = Write::start(wanted(2), &lone, |_| true);
        assert_eq!(here(&mut write), [Effect::Decide(Decision::Met)]);
    }
}
