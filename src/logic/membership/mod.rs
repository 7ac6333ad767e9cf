//! Who belongs to the cluster, how that spreads, and who answers.
//!
//! Membership is explicit (the paper's §4.8.1): people and tools join and remove nodes, a failure
//! never does. What is known about members is a join, spread by gossip; whether one answers is each
//! node's own opinion ([`Detector`]) and is never gossiped.

mod detector;
mod gossip;
mod member;
mod parts;

pub use detector::Detector;
pub use gossip::{Digest, Membership, Reply};
pub use member::{
    Losses, MEMBER_AS_BEFORE, MEMBER_VERSION, MEMBER_WITHOUT_LOSSES, Member, MemberError, State,
    decode_member, encode_member, encode_member_as_before, encode_member_without_losses,
};
pub use parts::{Part, Parts};
