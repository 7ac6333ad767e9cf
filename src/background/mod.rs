//! What a member does by itself, one worker a file: gossip, and handing hints over.

mod gossip;
mod hints;

pub use gossip::gossip;
pub use hints::hand_over_hints;
