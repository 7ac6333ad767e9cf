//! Many writes that the same members are asked to store, under the same terms, in one message: one state for all of
//! them, as long as all goes well. A write that is not stored somewhere falls out, and goes on by itself with the
//! state that it would have if it had been alone from the start.

use std::collections::VecDeque;

use super::{Decision, Effect, Holder, Targets, Wanted, Write};
use crate::logic::placement::NodeId;

/// The state of writes that are stored together.
#[derive(Clone, Debug)]
pub struct Group {
    write: Write,
    here: Option<Holder>,
    /// By write: whether it goes on by itself.
    out: Vec<bool>,
    is_here: bool,
    decision: Option<Decision>,
}

impl Group {
    /// No writes yet, with those who are asked: everybody else who holds their keys, all of whom answer.
    pub fn start(wanted: Wanted, targets: &Targets) -> (Self, Vec<NodeId>) {
        let alone = Targets {
            fallbacks: Vec::new(),
            ..targets.clone()
        };
        let (write, effects) = Write::start(wanted, &alone, |_| true);
        let asked = effects.into_iter().filter_map(|effect| match effect {
            Effect::Ask { node, .. } => Some(node),
            Effect::KeepHint(_) | Effect::Decide(_) => None,
        });
        let group = Self {
            write,
            here: targets.here,
            out: Vec::new(),
            is_here: false,
            decision: None,
        };
        (group, asked.collect())
    }

    /// One write more; its number.
    pub fn add(&mut self) -> usize {
        self.out.push(false);
        self.out.len() - 1
    }

    /// What this node is to their keys.
    pub fn here(&self) -> Option<Holder> {
        self.here
    }

    /// Whether this node has all that were not out when that was said.
    pub fn is_here(&self) -> bool {
        self.is_here
    }

    /// What was decided of those that are not out.
    pub fn decision(&self) -> Option<Decision> {
        self.decision
    }

    /// This node has all that are not out. Said twice it counts once.
    pub fn on_stored_here(&mut self) {
        if !std::mem::replace(&mut self.is_here, true) {
            let effects = self.write.on_stored_here(self.here);
            self.note(&effects);
        }
    }

    /// Another node has all that are not out.
    pub fn on_stored(&mut self, node: NodeId) {
        let effects = self.write.on_stored(node);
        self.note(&effects);
    }

    /// A write goes on by itself: its state, with those who could take the place of a holder of its key. `None`
    /// where it does already.
    pub fn fall_out(&mut self, nth: usize, fallbacks: VecDeque<NodeId>) -> Option<Write> {
        let out = self.out.get_mut(nth)?;
        if std::mem::replace(out, true) {
            return None;
        }
        Some(self.write.with_fallbacks(fallbacks))
    }

    fn note(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Decide(decision) = effect {
                self.decision = Some(*decision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens to a write at a place: here, or at another node.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Stored,
        Failed,
    }

    #[derive(Clone, Debug)]
    struct Story {
        w: u8,
        fallbacks: Vec<u64>,
        /// In which order places are heard of: 0 is this node, the others are members 2 and 3.
        order: Vec<usize>,
        /// By write and place.
        fates: Vec<[Fate; 3]>,
    }

    fn stories() -> impl Strategy<Value = Story> {
        let fate = prop_oneof![4 => Just(Fate::Stored), 1 => Just(Fate::Failed)];
        let fates = prop::collection::vec(prop::array::uniform3(fate), 1..6);
        let fallbacks = prop::sample::subsequence(vec![4, 5], 0..=2);
        let order = Just(vec![0, 1, 2]).prop_shuffle();
        (1..4u8, fallbacks, order, fates).prop_map(|(w, fallbacks, order, fates)| Story {
            w,
            fallbacks,
            order,
            fates,
        })
    }

    fn wanted(w: u8) -> Wanted {
        Wanted {
            w,
            hoped: w,
            n: 3,
            strict: false,
        }
    }

    fn on(write: &mut Write, here: Option<Holder>, place: usize, fate: Fate) -> Vec<Effect> {
        let node = NodeId(place as u64 + 1);
        match (place, fate) {
            (0, Fate::Stored) => write.on_stored_here(here),
            (0, Fate::Failed) => write.on_failed_here(here),
            (_, Fate::Stored) => write.on_stored(node),
            (_, Fate::Failed) => write.on_failed(node),
        }
    }

    /// What every write does when it is alone, by step.
    fn alone(story: &Story, targets: &Targets) -> Vec<Vec<Vec<Effect>>> {
        let one = |fates: &[Fate; 3]| {
            let (mut write, _) = Write::start(wanted(story.w), targets, |_| true);
            let places = story.order.iter();
            places
                .map(|place| on(&mut write, targets.here, *place, fates[*place]))
                .collect()
        };
        story.fates.iter().map(one).collect()
    }

    /// The same in a group. What a group decides every write in it has decided.
    fn together(story: &Story, targets: &Targets) -> Vec<Vec<Vec<Effect>>> {
        let (mut group, asked) = Group::start(wanted(story.w), targets);
        assert_eq!(asked, [NodeId(2), NodeId(3)]);
        let mut by_itself: Vec<Option<Write>> = Vec::new();
        for _ in &story.fates {
            group.add();
            by_itself.push(None);
        }
        let mut told = vec![Vec::new(); story.fates.len()];
        for place in &story.order {
            for (nth, fates) in story.fates.iter().enumerate() {
                if fates[*place] == Fate::Failed {
                    let fallbacks = targets.fallbacks.iter().copied().collect();
                    by_itself[nth] = by_itself[nth].take().or(group.fall_out(nth, fallbacks));
                }
            }
            let before = group.decision();
            match place {
                0 => group.on_stored_here(),
                place => group.on_stored(NodeId(*place as u64 + 1)),
            }
            let decided = group.decision().filter(|_| before.is_none());
            for (nth, fates) in story.fates.iter().enumerate() {
                told[nth].push(match &mut by_itself[nth] {
                    Some(write) => on(write, targets.here, *place, fates[*place]),
                    None => decided.map(Effect::Decide).into_iter().collect(),
                });
            }
        }
        told
    }

    proptest! {
        #[test]
        fn in_a_group_every_write_ends_as_if_it_was_alone(story in stories()) {
            let targets = Targets::of_owners(&[2, 3], &story.fallbacks);
            prop_assert_eq!(together(&story, &targets), alone(&story, &targets));
        }
    }

    #[test]
    fn a_write_falls_out_once() {
        let (mut group, _) = Group::start(wanted(2), &Targets::of_owners(&[2, 3], &[]));
        let first = group.add();
        assert!(group.fall_out(first, VecDeque::new()).is_some());
        assert!(group.fall_out(first, VecDeque::new()).is_none());
        assert!(group.fall_out(7, VecDeque::new()).is_none());
    }
}
