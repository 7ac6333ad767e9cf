//! Rows and handlers, a file a family. A handler sees its node and its connection; what concerns other nodes it
//! asks of `routing`.

pub mod causal;
pub mod cluster;
pub mod connection;
pub mod converge;
pub mod docs;
pub mod expiry;
mod float;
pub mod info;
pub mod keys;
pub mod keyspace;
pub mod latency;
mod lines;
pub mod meet;
pub mod operator;
pub mod plan;
pub mod server;
pub mod snapshot;
pub mod strings;
pub mod transactions;
pub mod transfers;
