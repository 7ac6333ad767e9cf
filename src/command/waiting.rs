//! Commands that wait where there is nothing: for how long, and for what.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use memchr::memmem;

use super::context::Ctx;
use super::node::Node;
use super::spec::Spec;
use super::timing::Timed;
use crate::error::Error;
use crate::resp::first_bulk;
use crate::routing::args::{Args, OwnedArgs};
use crate::routing::shape::Waits;
use crate::routing::{Call, Later, Who, block};

/// Has a command wait where there is nothing.
pub(super) fn wait(ctx: &mut Ctx<'_>, spec: &'static Spec, args: Args<'_>) -> Result<Later, Error> {
    let timeout = timeout(spec, args)?;
    ctx.session.client.touch(spec);
    ctx.timed = Some(Timed::now(ctx.times(), spec, args, false));
    let client = Arc::clone(&ctx.session.client);
    let unblocked = async move { client.unblocked().await };
    let (runner, who, call) = (ctx.runner(), ctx.who(), spec.call(args));
    let node = Arc::clone(ctx.node);
    // Who reads for a group, and changes it thereby, may not name the end.
    if spec.shape.waits != Some(Waits::Block) || spec.shape.writes || !names_ends(&call) {
        return Ok(block::wait(runner, who, call, timeout, unblocked));
    }
    Ok(Box::pin(async move {
        match from_here_on(&node, &who, spec, &call).await {
            Ok(call) => block::wait(runner, who, call, timeout, unblocked).await,
            Err(failed) => failed,
        }
    }))
}

/// How long a command waits where there is nothing; `None`: not at all, or for ever.
pub(super) fn timeout(spec: &Spec, args: Args<'_>) -> Result<Option<Duration>, Error> {
    let waits = spec.shape.waits;
    Ok(waits
        .map(|waits| block::timeout(args, waits))
        .transpose()?
        .flatten())
}

/// Where the keys of streams are, and the words that say where to go on in each.
fn positions(call: &Call) -> impl Iterator<Item = (usize, usize)> {
    let keys = call.shape.positions(call.args());
    let count = keys.len();
    let keys = keys.into_iter().map(|at| at as usize);
    keys.map(move |at| (at, at + count))
}

fn names_ends(call: &Call) -> bool {
    let args = call.args();
    positions(call).any(|(_, from)| args.get(from) == Some(b"$"))
}

/// The same command with the ends of its streams as they are now: it is tried again and again, and what comes
/// meanwhile is what it waits for.
async fn from_here_on(
    node: &Arc<Node>,
    who: &Who,
    spec: &'static Spec,
    call: &Call,
) -> Result<Call, BytesMut> {
    let args = call.args();
    let info = node.specs.by_name("xinfo|stream");
    let info = info.expect("the table has it");
    let mut words: Vec<Vec<u8>> = args.from(0).map(<[u8]>::to_vec).collect();
    for (key, from) in positions(call) {
        if args.get(from) != Some(b"$") {
            continue;
        }
        let asked = OwnedArgs::of(&[b"XINFO", b"STREAM", args.at(key)]);
        let runner = Arc::clone(node) as Arc<dyn crate::routing::Runner>;
        let said = block::run(runner, who.clone(), info.call(asked.as_args())).await;
        words[from] = match last_id(&said) {
            Some(last) => last.to_vec(),
            None if said.starts_with(b"-ERR no such key") => b"0-0".to_vec(),
            // The command says so itself.
            None if said.starts_with(b"-WRONGTYPE ") => continue,
            None => return Err(said),
        };
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    Ok(spec.call(OwnedArgs::of(&words).as_args()))
}

/// The last id that XINFO STREAM says.
fn last_id(said: &[u8]) -> Option<&[u8]> {
    let name = b"last-generated-id\r\n";
    let behind = said.get(memmem::find(said, name)? + name.len()..)?;
    first_bulk(behind).map(|(last, _)| last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_id_is_found_in_either_protocol() {
        for map in ["*20", "%10"] {
            let said = format!(
                "{map}\r\n$6\r\nlength\r\n:1\r\n$17\r\nlast-generated-id\r\n$5\r\n12-34\r\n$20\r\n"
            );
            assert_eq!(last_id(said.as_bytes()), Some(&b"12-34"[..]));
        }
        assert_eq!(last_id(b"-ERR no such key\r\n"), None);
    }
}
