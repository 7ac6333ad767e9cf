//! RINGWOOD SNAPSHOT: a consistent copy of this node's data in a folder, while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::Args;
use super::distributed::{Later, Who, error_reply};
use super::error::Error;
use super::{After, Ctx, Node, Outcome};
use crate::clock;
use crate::convergence::off_worker;
use crate::net::resp::Reply;
use crate::storage::archive::{self, About, ArchiveError};

/// RINGWOOD SNAPSHOT folder.
pub(super) fn snapshot(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let dir = place(ctx.node, &args.text(2))?;
    let (node, who) = (Arc::clone(ctx.node), Who::of(ctx));
    let later: Later = Box::pin(async move {
        let making = Arc::clone(&node);
        let shown = dir.display().to_string();
        match off_worker(move || copy(&making, &dir)).await {
            Ok(about) => {
                tracing::info!(dir = %shown, rows = about.rows, "a copy was made");
                let mut reply = Reply::default();
                reply.set_protocol(who.protocol);
                reply.verbatim(&format!("{} rows in {shown}\n", about.rows));
                std::mem::take(reply.buffer())
            }
            Err(error) => {
                let error = Error::Text(format!("ERR {error}").into());
                node.stats.count_error(&error);
                error_reply(&who, &error)
            }
        }
    });
    ctx.after = After::Later(later);
    Ok(())
}

/// Where copies may be made.
fn place(node: &Node, asked: &str) -> Result<PathBuf, Error> {
    let within = node.config.text("snapshot-dir");
    if within.is_empty() {
        return Ok(PathBuf::from(asked));
    }
    let is_name = !asked.is_empty() && !asked.contains(['/', '\\']) && !asked.starts_with('.');
    if is_name {
        Ok(PathBuf::from(within).join(asked))
    } else {
        let text = format!("ERR a name is wanted: copies are made in {within} (snapshot-dir)");
        Err(Error::Text(text.into()))
    }
}

fn copy(node: &Node, dir: &std::path::Path) -> Result<About, ArchiveError> {
    let shards = {
        // No command is half done at this moment.
        let _alone = node.gate.write();
        node.replica.freeze()?
    };
    let about = About {
        node: node.name.clone(),
        partitions: node.replica.partitions().count(),
        made_ms: clock::now_ms(),
        shards: 0,
        rows: 0,
    };
    let begun = std::cell::Cell::new(clock::monotonic());
    archive::write(dir, &shards, about, || {
        let took = clock::monotonic().duration_since(begun.get());
        std::thread::sleep(node.governor.rest_after(took));
        begun.set(clock::monotonic());
    })
}
