//! Clients: the listener, one task a connection, and RESP.

mod connection;
mod listener;

pub use listener::{Listener, bind};
