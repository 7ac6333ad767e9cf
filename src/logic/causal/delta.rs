//! How the delta of one write is built: what it overwrites, what it notes of that, what it puts there.

use super::context::Context;
use super::dot::{ActorId, Dot};
use super::hlc::Timestamp;
use super::object::Object;
use super::version::{Element, Value, Version};

/// Builds the delta of one write step by step.
#[derive(Debug)]
pub struct DeltaBuilder {
    delta: Object,
    actor: ActorId,
    /// The actor's dot before the next one.
    previous: u64,
    /// The actor's last dot on the key before this write.
    before: u64,
    overwritten: Vec<Dot>,
}

impl Object {
    /// Starts a delta by `actor`, whose previous dot on this key is `previous` (0: none, ever).
    pub fn delta(actor: ActorId, previous: u64) -> DeltaBuilder {
        DeltaBuilder {
            delta: Object::default(),
            actor,
            previous,
            before: previous,
            overwritten: Vec::new(),
        }
    }
}

impl DeltaBuilder {
    /// Marks a dot as observed and overwritten.
    pub fn overwrite(&mut self, dot: Dot) {
        self.overwritten.push(dot);
    }

    /// Marks everything that lives in an object as observed and overwritten. Of the others'
    /// contributions it notes what they were: they may be adding to them at this moment.
    pub fn overwrite_all(&mut self, object: &Object) {
        if !object.is_whole() {
            // Whatever it has seen is here, or was overwritten.
            self.delta.context.join(object.context());
        }
        for (element, versions) in object.cells() {
            self.overwrite_cell(object, element, versions);
        }
    }

    /// The same for one element.
    pub fn overwrite_element(&mut self, object: &Object, element: &Element) {
        self.overwrite_cell(object, element, object.versions(element));
    }

    fn overwrite_cell(&mut self, object: &Object, element: &Element, versions: &[Version]) {
        for version in versions {
            self.overwrite(version.dot);
        }
        let but = self.but(object);
        let contributions = Object::contributions(element, versions);
        contributions
            .filter(|reset| Some(reset.actor) != but)
            .for_each(|reset| self.delta.reset(reset));
    }

    /// Whose contributions need not be noted: the actor's own, unless another copy may have a later one.
    fn but(&self, object: &Object) -> Option<ActorId> {
        let is_whole = self.before <= object.context().last(self.actor);
        is_whole.then_some(self.actor)
    }

    /// Notes what overwritten contributions were, of those that a context has seen.
    pub fn reset_seen(&mut self, object: &Object, seen: &Context) {
        let but = self.but(object);
        for (element, versions) in object.cells() {
            let contributions = Object::contributions(element, versions).filter(|reset| {
                let dot = Dot {
                    actor: reset.actor,
                    seq: reset.seq,
                };
                Some(reset.actor) != but && seen.contains(dot)
            });
            contributions.for_each(|reset| self.delta.reset(reset));
        }
    }

    /// Marks everything that a context has seen as observed and overwritten.
    pub fn observe(&mut self, seen: &Context) {
        self.delta.context.join(seen);
    }

    /// Writes a value under the actor's next dot.
    pub fn put(&mut self, seq: u64, at: Timestamp, element: &Element, value: Value) {
        self.cover(seq);
        self.place(seq, at, element, value);
    }

    /// Writes a value under a dot of the actor's that is covered already.
    pub fn place(&mut self, seq: u64, at: Timestamp, element: &Element, value: Value) {
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
    pub fn finish(mut self) -> Object {
        if !self.overwritten.is_empty() {
            self.delta.context.join(&Context::of_dots(self.overwritten));
        }
        self.delta
    }
}
