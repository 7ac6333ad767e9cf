//! Scripts in Lua 5.1, as Redis has them: the machine that runs them, what they see, how values go in and out.
//!
//! Nothing here knows a command. What a script asks for goes through the port [`Host`]; where that is to be had
//! elsewhere only, the script pauses, and whoever drives it brings the reply later. Invariant: nothing that one
//! script leaves behind is seen by the next.

mod bits;
mod fault;
mod host;
mod json;
mod machine;
mod msgpack;
mod native;
mod random;
mod running;
mod source;
mod structs;
mod values;

pub use host::{Called, Host};
pub use machine::{Machine, Pauses, Registered, Step, Task};
pub use running::{Running, Stopped};
pub use source::{Bad, Flags, Room, Sha, Source, sha_of};
