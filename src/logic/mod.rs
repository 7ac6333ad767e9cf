//! The pure core: data model, merge rules, placement. No IO, no async, no clock, no threads.
//!
//! Time and randomness come in as arguments, results are values. `cargo check
//! --no-default-features` builds this module and nothing else, so the compiler keeps the boundary.
//!
//! Reading order: [`causal`] (what a key is), [`edit`] (what a write changes of it), [`types`] (how a Redis type
//! looks at it),
//! [`placement`] (where a key lives), [`place`] (the order of keys), [`membership`] (who is there), [`digest`] and [`merkle`] (what differs),
//! [`handoff`] (how it moves), [`record`] (how it is written down), [`plain`] (the
//! common row, changed as it is written down), [`spread`] (the rows of a large collection).

pub mod causal;
pub mod codec;
pub mod digest;
pub mod edit;
pub mod glob;
pub mod guard;
pub mod handoff;
pub mod integer;
pub mod membership;
pub mod merkle;
pub mod place;
pub mod placement;
pub mod plain;
pub mod policy;
pub mod quorum;
pub mod record;
pub mod spread;
pub mod types;
