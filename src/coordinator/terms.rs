//! On what terms a write is sent.

/// How many copies a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Without these it is refused.
    pub w: u8,
    /// These are waited for as long as there is hope.
    pub hoped: u8,
}

/// The terms of a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) w: Wait,
    pub(super) blind: bool,
    /// How often it was sent again because the membership had changed.
    pub(super) again: u8,
}
