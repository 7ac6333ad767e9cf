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
pub mod lcs;
pub mod meet;
pub mod operator;
pub mod plan;
pub mod server;
pub mod snapshot;
pub mod strings;
pub mod transactions;
pub mod transfers;

use crate::error::Error;
use crate::routing::args::Args;

/// Whether a question `RINGWOOD … [JSON]` is asked by a program.
fn wants_json(args: Args<'_>) -> Result<bool, Error> {
    match args.len() {
        2 => Ok(false),
        3 if args.is(2, "JSON") => Ok(true),
        _ => Err(Error::Syntax),
    }
}

fn json_line(report: &impl serde::Serialize) -> String {
    serde_json::to_string(report).expect("names are texts") + "\n"
}
