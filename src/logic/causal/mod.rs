//! Dots, causal contexts, and the one object that every key is (DESIGN: the dotted map).
//!
//! After Almeida, Shoker and Baquero, "Delta state replicated data types" (2018): an object is a
//! map from element to a set of dotted values under one causal context. `join` is commutative,
//! associative and idempotent; a delta is a small object and is joined like any other.

mod context;
mod delta;
mod dot;
mod hlc;
mod object;
mod partial;
mod rest;
#[cfg(test)]
mod tests;
mod version;

pub use context::Context;
pub use delta::DeltaBuilder;
pub use dot::{ActorId, Dot};
pub use hlc::{Observed, Timestamp};
pub use object::Object;
pub use rest::{KINDS, Rest, Wrote};
pub use version::{
    Cells, Contribution, Element, Kind, Over, Payload, Reset, Value, Version, Versions, holds,
};
