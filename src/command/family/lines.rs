//! How INFO and its like are written: a fact a line.

use std::fmt::Write as _;

pub(super) fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(out, "{name}:{value}\r\n");
}
