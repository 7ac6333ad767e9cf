//! Redis types as views of the dotted map: what a reader is shown and what each write changes.

pub mod conflict;
pub mod string;
