//! RESP: requests in (our own resumable parser with limits), replies out (RESP2 and RESP3).

mod reply;
mod request;

pub use reply::{Listing, Protocol, Reply};
pub use request::{Limits, Parser, ProtocolError};
