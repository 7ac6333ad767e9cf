//! One read: as many replicas are asked as it waits for, the next one whenever one fails or is slow.
//! Now and then all owners are asked, so that stale copies are found that no read waits for.

use std::collections::VecDeque;

use super::{Decision, Effect, Targets};
use crate::logic::placement::NodeId;

/// The state of one read. This node's own copy counts as the first reply.
#[derive(Clone, Debug)]
pub struct Read {
    r: usize,
    replies: usize,
    waiting: Vec<NodeId>,
    /// Owners that answer and were not asked.
    owners: VecDeque<NodeId>,
    fallbacks: VecDeque<NodeId>,
    /// Whether the replies show all that the client itself has written.
    covers: bool,
    /// Members that have not replied.
    silent: Vec<NodeId>,
    /// Whether there are more of them, who cannot be asked.
    others: bool,
    decided: bool,
}

impl Read {
    /// Starts a read that waits for `r` replies; `all` asks every owner that answers. `covers` says
    /// whether this node's copy shows all that the client itself has written: until the replies do,
    /// more are asked.
    pub fn start(
        r: usize,
        targets: &Targets,
        answers: impl Fn(NodeId) -> bool,
        all: bool,
        covers: bool,
    ) -> (Self, Vec<Effect>) {
        let owners = targets.readable().filter(|id| answers(*id));
        let mut read = Self {
            r,
            replies: 1,
            waiting: Vec::new(),
            owners: owners.collect(),
            fallbacks: targets.fallbacks.iter().copied().collect(),
            covers,
            silent: {
                let fallbacks = targets.fallbacks.iter().copied();
                targets.readable().chain(fallbacks).collect()
            },
            others: targets.others,
            decided: false,
        };
        let mut effects = Vec::new();
        while all && let Some(owner) = read.owners.pop_front() {
            effects.push(read.ask(owner));
        }
        effects.extend(read.go_on());
        (read, effects)
    }

    /// A node replied; `covers` as in [`Self::start`], now.
    pub fn on_reply(&mut self, node: NodeId, covers: bool) -> Vec<Effect> {
        if !self.stop_waiting(node) {
            return Vec::new();
        }
        self.replies += 1;
        self.silent.retain(|owner| *owner != node);
        // What was here may have been handed over, and be gone from here, since it was looked at before.
        self.covers = covers;
        self.go_on()
    }

    /// A node did not reply.
    pub fn on_failed(&mut self, node: NodeId) -> Vec<Effect> {
        if !self.stop_waiting(node) {
            return Vec::new();
        }
        self.go_on()
    }

    /// The replies take long: another owner may be quicker (a hedged read).
    pub fn on_slow(&mut self) -> Option<Effect> {
        if self.decided {
            return None;
        }
        let owner = self.owners.pop_front()?;
        Some(self.ask(owner))
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

    fn ask(&mut self, node: NodeId) -> Effect {
        self.waiting.push(node);
        Effect::Ask {
            node,
            hint_for: None,
        }
    }

    fn next(&mut self) -> Option<NodeId> {
        let owner = self.owners.pop_front();
        owner.or_else(|| self.fallbacks.pop_front())
    }

    /// Asks as many as are needed to come to R with those who may still reply, and decides.
    fn go_on(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while !self.decided
            && (self.replies + self.waiting.len() < self.r
                || !self.covers && self.waiting.is_empty())
        {
            let Some(node) = self.next() else {
                break;
            };
            effects.push(self.ask(node));
        }
        effects.extend(self.decide().map(Effect::Decide));
        effects
    }

    fn decide(&mut self) -> Option<Decision> {
        if self.decided {
            return None;
        }
        let enough = self.replies >= self.r;
        // What nobody knows any more is gone for good: a flush, or an expired key.
        let gone = self.silent.is_empty() && !self.others;
        let decision = match () {
            () if enough && self.covers => Decision::Met,
            () if enough && gone => Decision::Gone,
            () if !self.waiting.is_empty() => return None,
            () if enough => Decision::Behind,
            () => Decision::Short {
                answered: self.replies,
            },
        };
        self.decided = true;
        Some(decision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(owners: &[u64], fallbacks: &[u64]) -> Targets {
        Targets::of_owners(owners, fallbacks)
    }

    fn ask(node: u64) -> Effect {
        Effect::Ask {
            node: NodeId(node),
            hint_for: None,
        }
    }

    #[test]
    fn a_read_asks_as_many_as_it_waits_for_and_another_when_they_are_slow() {
        let (mut read, effects) = Read::start(2, &targets(&[2, 3], &[4]), |_| true, false, true);
        assert_eq!(effects, [ask(2)]);
        assert_eq!(read.on_slow(), Some(ask(3)));
        assert_eq!(read.on_slow(), None);
        assert_eq!(
            read.on_reply(NodeId(3), true),
            [Effect::Decide(Decision::Met)]
        );
        assert!(!read.is_over());
        assert_eq!(read.on_reply(NodeId(2), true), []);
        assert!(read.is_over());
    }

    #[test]
    fn a_read_of_all_is_answered_by_the_first_r() {
        let (mut read, effects) = Read::start(2, &targets(&[2, 3], &[4]), |_| true, true, true);
        assert_eq!(effects, [ask(2), ask(3)]);
        assert_eq!(
            read.on_reply(NodeId(3), true),
            [Effect::Decide(Decision::Met)]
        );
        assert_eq!(read.on_reply(NodeId(3), true), []);
        assert!(!read.is_over());
        assert_eq!(read.on_reply(NodeId(2), true), []);
        assert!(read.is_over());
        assert_eq!(read.on_slow(), None);
    }

    #[test]
    fn fallbacks_are_asked_only_where_owners_do_not_suffice() {
        let one = |id| id == NodeId(2);
        let (mut read, effects) = Read::start(2, &targets(&[2, 3], &[4]), one, false, true);
        assert_eq!(effects, [ask(2)]);
        assert_eq!(read.on_failed(NodeId(2)), [ask(4)]);
        let short = Effect::Decide(Decision::Short { answered: 1 });
        assert_eq!(read.on_failed(NodeId(4)), [short]);
    }

    #[test]
    fn a_read_of_one_is_answered_at_once_and_may_still_compare() {
        let (read, effects) = Read::start(1, &targets(&[2, 3], &[]), |_| true, true, true);
        assert_eq!(effects, [ask(2), ask(3), Effect::Decide(Decision::Met)]);
        assert!(!read.is_over());
        let (read, effects) = Read::start(1, &targets(&[2, 3], &[]), |_| true, false, true);
        assert_eq!(effects, [Effect::Decide(Decision::Met)]);
        assert!(read.is_over());
    }

    #[test]
    fn a_read_goes_on_until_somebody_has_what_the_client_has_written() {
        let all = |_| true;
        let (mut read, effects) = Read::start(1, &targets(&[2, 3], &[4]), all, false, false);
        assert_eq!(effects, [ask(2)]);
        assert_eq!(read.on_reply(NodeId(2), false), [ask(3)]);
        assert_eq!(
            read.on_reply(NodeId(3), true),
            [Effect::Decide(Decision::Met)]
        );
        let one = |id| id == NodeId(2);
        let (mut read, effects) = Read::start(2, &targets(&[2, 3], &[4]), one, false, false);
        assert_eq!(effects, [ask(2)]);
        assert_eq!(read.on_reply(NodeId(2), false), [ask(4)]);
        let behind = Effect::Decide(Decision::Behind);
        assert_eq!(read.on_reply(NodeId(4), false), [behind]);
    }

    #[test]
    fn what_nobody_knows_is_gone() {
        let (mut read, effects) = Read::start(1, &targets(&[2], &[4]), |_| true, false, false);
        assert_eq!(effects, [ask(2)]);
        assert_eq!(read.on_reply(NodeId(2), false), [ask(4)]);
        let gone = Effect::Decide(Decision::Gone);
        assert_eq!(read.on_reply(NodeId(4), false), [gone]);
    }

    #[test]
    fn what_was_here_at_first_and_is_gone_does_not_count() {
        let all = |_| true;
        let (mut read, effects) = Read::start(2, &targets(&[2, 3], &[]), all, false, true);
        assert_eq!(effects, [ask(2)]);
        assert_eq!(read.on_reply(NodeId(2), false), [ask(3)]);
        let met = Effect::Decide(Decision::Met);
        assert_eq!(read.on_reply(NodeId(3), true), [met]);
    }
}
