//! Clients: the listener, one task a connection, and RESP.

mod connection;
mod listener;
pub mod resp;

pub use listener::{Listener, bind};
