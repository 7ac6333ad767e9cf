//! RESP: requests in (our own resumable parser with limits), replies out (RESP2 and RESP3).

mod bulk;
mod double;
mod reply;
mod request;

pub use bulk::first_bulk;
pub use double::{format as format_double, format_digits, format_human};
pub use reply::{Listing, Protocol, Reply};
pub use request::{Limits, Parser, ProtocolError};
