//! Versions of the wire.

/// The oldest wire version that this program speaks.
pub const OLDEST: u16 = 2;
/// Since this one views of the membership go along with requests, members say what they have, parts are
/// transferred.
pub(super) const VIEWS: u16 = 3;
/// Since this one who does not run a command, or does not know whether a write is stored, says so, and
/// rows have contributions and expiries of their own.
pub(super) const DOUBTS: u16 = 4;
/// The newest one: objects may be streams.
pub const NEWEST: u16 = 11;
/// Since when they may.
pub(super) const STREAMS: u16 = 11;
/// Since when members tell each other news.
pub(super) const NEWS: u16 = 10;
/// Since when deltas of many keys are sent in one message.
pub(super) const GROUPS: u16 = 9;
/// Since when writes of large collections say which elements they are about, and who asks for a copy of one what it
/// has seen.
pub(super) const ELEMENTS: u16 = 8;
/// Since when objects may be collections.
pub(super) const COLLECTIONS: u16 = 7;
/// Since when places have the length of their key.
pub(in crate::peer) const PLACES: u16 = 6;
/// Since when requests say what their sender has heard.
pub(in crate::peer) const HEARD: u16 = 5;
/// Since when members say which parts were lost.
pub(super) const LOSSES: u16 = 5;
/// The view of a sender that does not say what it knows.
pub const UNKNOWN_VIEW: u64 = u64::MAX;
