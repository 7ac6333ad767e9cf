//! Clients: the listener, one task a connection, and RESP.

mod connection;
mod listener;
mod waiting;

pub use listener::{Listener, bind};
