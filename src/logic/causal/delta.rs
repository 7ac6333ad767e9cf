//! How the delta of one write is built: what it overwrites, what it notes of that, what it puts there.

use super::context::Context;
use super::dot::{ActorId, Dot};
use super::hlc::Timestamp;
use super::object::{Element, Object, Reset, Value, Version};

/// Builds the delta of one write step by step.
#[derive(Debug)]
pub struct DeltaBuilder {
    delta: Object,
    actor: ActorId,
    previous: u64,
}

impl Object {
    /// Starts a delta by `actor`, whose previous dot on this key is `previous` (0: none, ever).
    pub fn delta(actor: ActorId, previous: u64) -> DeltaBuilder {
        DeltaBuilder {
            delta: Object::default(),
            actor,
            previous,
        }
    }
}

impl DeltaBuilder {
    /// Marks a dot as observed and overwritten.
    pub fn overwrite(&mut self, dot: Dot) {
        self.delta.context.insert(dot);
    }

    /// Marks everything that lives in an object as observed and overwritten. Of the others'
    /// contributions it notes what they were: they may be adding to them at this moment.
    pub fn overwrite_all(&mut self, object: &Object) {
        for version in object.all_versions() {
            self.overwrite(version.dot);
        }
        let resets = object.contributions(self.but(object));
        resets.for_each(|reset| self.delta.reset(reset));
    }

    /// The same for one element. Resets are an actor's, not an element's: of a key no more than one
    /// element may be a counter.
    pub fn overwrite_element(&mut self, object: &Object, element: &Element) {
        let but = self.but(object);
        for version in object.versions(element) {
            self.overwrite(version.dot);
            if let Some(contribution) = version.value.payload.contribution()
                && Some(version.dot.actor) != but
            {
                self.delta.reset(Reset {
                    actor: version.dot.actor,
                    seq: version.dot.seq,
                    total: contribution.total,
                });
            }
        }
    }

    /// Whose contributions need not be noted: the actor's own, unless another copy may have a later one.
    fn but(&self, object: &Object) -> Option<ActorId> {
        let is_whole = self.previous <= object.context().last(self.actor);
        is_whole.then_some(self.actor)
    }

    /// Notes what overwritten contributions were, of those that a context has seen.
    pub fn reset_seen(&mut self, object: &Object, seen: &Context) {
        let resets = object.contributions(self.but(object)).filter(|reset| {
            seen.contains(Dot {
                actor: reset.actor,
                seq: reset.seq,
            })
        });
        resets.for_each(|reset| self.delta.reset(reset));
    }

    /// Marks everything that a context has seen as observed and overwritten.
    pub fn observe(&mut self, seen: &Context) {
        self.delta.context.join(seen);
    }

    /// Writes a value under the actor's next dot.
    pub fn put(&mut self, seq: u64, at: Timestamp, element: &Element, value: Value) {
        self.cover(seq);
        let dot = Dot {
            actor: self.actor,
            seq,
        };
        self.delta.insert(element, Version { dot, at, value });
    }

    /// Spends a dot without a value, so that a delete is an event of its own.
    pub fn cover(&mut self, seq: u64) {
        debug_assert!(seq > self.previous, "a dot is never issued twice");
        self.delta
            .context
            .insert_interval(self.actor, self.previous, seq);
        self.previous = seq;
    }

    /// The delta.
    pub fn finish(self) -> Object {
        self.delta
    }
}
