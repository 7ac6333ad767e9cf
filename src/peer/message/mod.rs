//! What nodes say to each other, and its bytes.
//!
//! Requests and responses are types of the wire: domain types are turned into them and back by the
//! layers above. Numbers are varints, unknown kinds are an error, lengths are checked against what
//! has arrived. A new message gets a new kind; a kind's fields only ever grow at the end, under a
//! higher wire version. Two nodes speak the highest version that both know; this program writes and
//! reads the one before, too, so that a cluster can be upgraded one node after the other.

mod command;
mod deltas;
mod exchange;
mod fields;
mod keys;
mod keyspace;
mod membership;
mod news;
mod request;
mod response;
mod transfer;
mod version;
mod wire;

pub use command::{Command, find_words, put_words};
pub use deltas::{Deltas, OneDelta};
pub use exchange::ExchangeRequest;
pub use keys::KeyRequest;
pub use keyspace::KeySpaceRequest;
pub use membership::MembershipRequest;
pub use news::{Listening, News};
pub use request::Request;
pub use response::{Response, WhyNot};
pub use transfer::TransferRequest;
pub(super) use version::HEARD;
#[cfg(test)]
pub(super) use version::PLACES;
pub use version::{NEWEST, OLDEST, UNKNOWN_VIEW};
pub use wire::{WireKey, WireListed, Wrote};
