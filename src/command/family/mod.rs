//! Rows and handlers, a file a family. A handler sees its node and its connection; what concerns other nodes it
//! asks of `routing`.

pub mod absent;
pub mod bits;
pub mod causal;
pub mod client;
pub mod cluster;
pub mod compare;
pub mod connection;
pub mod converge;
pub mod docs;
pub mod dump;
mod elements;
pub mod expiry;
mod float;
pub mod function;
pub mod geo;
pub mod hash;
pub mod hll;
pub mod info;
pub mod keys;
pub mod keyspace;
pub mod latency;
pub mod lcs;
pub mod list;
pub mod meet;
pub mod operator;
pub mod plan;
pub mod pubsub;
mod random;
pub mod script;
pub mod server;
pub mod set;
mod setting;
pub mod snapshot;
pub mod sort;
pub mod stream;
pub mod strings;
pub mod tracking;
pub mod transactions;
pub mod transfers;
pub mod zset;

use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::edit::{Edit, Puts};
use crate::logic::types;
use crate::replica::Reach;
use crate::routing::args::Args;

/// Puts values in the place of what a key holds; without any the key goes.
fn replace(ctx: &mut Ctx<'_>, key: &[u8], puts: Puts) -> Outcome {
    ctx.update_some(key, Reach::Head, |object, now_ms| {
        let is_nothing = puts.is_empty() && !types::is_present(object, now_ms);
        let edit = if is_nothing {
            Edit::Keep
        } else {
            Edit::Replace(puts)
        };
        (edit, ())
    })
}

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
