//! What a member does by itself, one worker a file: gossip, moving parts, handing hints over,
//! anti-entropy, keeping the pace that the others give.

mod anti_entropy;
mod gossip;
mod handoff;
mod hints;
mod pace;

pub use anti_entropy::anti_entropy;
pub use gossip::gossip;
pub use handoff::{Options as HandoffOptions, hand_off};
pub use hints::hand_over_hints;
pub use pace::keep_pace;
