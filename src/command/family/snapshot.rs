//! RINGWOOD SNAPSHOT: a consistent copy of this node's data in a folder, while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::blocking::off_worker;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::node::Node;
use crate::command::row::{ADMIN, NO_MULTI, OWN, Row, sub};
use crate::error::Error;
use crate::routing::args::Args;
use crate::storage::Frozen;
use crate::storage::archive::{self, About, ArchiveError};

/// The rows of this family.
pub const ROWS: &[Row] = &[sub(
    "ringwood",
    "snapshot",
    3,
    ADMIN.and(OWN).and(NO_MULTI),
    snapshot,
    "Makes a consistent copy of this node's data in a folder that is not there yet.",
)];

/// RINGWOOD SNAPSHOT folder.
pub(super) fn snapshot(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let dir = place(ctx.node, &args.text(2))?;
    let node = Arc::clone(ctx.node);
    ctx.reply_later(async move {
        let shown = dir.display().to_string();
        let shards = {
            // No command is half done at this moment.
            let _alone = node.site.gate.alone().await;
            let frozen = Arc::clone(&node);
            off_worker(move || frozen.replica.freeze()).await?
        };
        let copying = Arc::clone(&node);
        let about = off_worker(move || copy(&copying, &shards, &dir)).await?;
        tracing::info!(dir = %shown, rows = about.rows, "a copy was made");
        Ok::<String, ArchiveError>(format!("{} rows in {shown}\n", about.rows))
    });
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

fn copy(node: &Node, shards: &[Arc<dyn Frozen>], dir: &Path) -> Result<About, ArchiveError> {
    let about = About {
        node: node.name.clone(),
        partitions: node.replica.partitions().count(),
        made_ms: clock::now_ms(),
        shards: 0,
        rows: 0,
    };
    let begun = std::cell::Cell::new(clock::monotonic());
    archive::write(dir, shards, about, || {
        let took = clock::monotonic().duration_since(begun.get());
        std::thread::sleep(node.governor.rest_after(took));
        begun.set(clock::monotonic());
    })
}
