//! The scripts that all nodes have: a hash in the database that belongs to no client, replicated as every key is.

use std::sync::Arc;

use bytes::BytesMut;

use super::known::Body;
use crate::command::node::Node;
use crate::coordinator::Asked;
use crate::error::Error;
use crate::logic::types::hash;
use crate::replica::{Key, OWN_DATABASE, Reach};
use crate::resp::Protocol;
use crate::routing::args::OwnedArgs;
use crate::routing::block;
use crate::routing::{Later, Own, Runner, Who};

/// The hash of all scripts, by their names.
const SCRIPTS: &[u8] = b"scripts";

/// Runs a command on what belongs to all nodes.
fn ask(node: &Arc<Node>, words: &[&[u8]]) -> Later {
    let runner: Arc<dyn Runner> = Arc::clone(node) as Arc<dyn Runner>;
    let call = runner.call(OwnedArgs::of(words)).expect("the table has it");
    let own = Arc::<Own>::default();
    let who = Who::of(OWN_DATABASE, Protocol::Resp2, Asked::default(), &own);
    block::run(runner, who, call)
}

/// Has all nodes know a script.
///
/// # Errors
/// When it is no Lua.
pub fn load(node: &Arc<Node>, text: &[u8]) -> Result<Later, Error> {
    let body = node.scripts.compiled(text)?;
    let asked = ask(
        node,
        &[b"HSET", SCRIPTS, &body.source.sha, &body.source.text],
    );
    Ok(Box::pin(async move {
        let said = asked.await;
        if said.first() == Some(&b'-') {
            return said;
        }
        body.note_kept();
        BytesMut::from(format!("$40\r\n{}\r\n", body.source.name()).as_bytes())
    }))
}

/// Looks for a script that another node was given.
pub(super) async fn find(node: &Arc<Node>, name: &[u8]) {
    let said = ask(node, &[b"HGET", SCRIPTS, &name.to_ascii_lowercase()]).await;
    keep(node, &said);
}

/// The text of a bulk reply is at hand from now on.
fn keep(node: &Node, said: &[u8]) -> Option<Arc<Body>> {
    let text = said.strip_prefix(b"$")?;
    let end = memchr::memchr(b'\n', text)? + 1;
    let text = text.get(end..)?.strip_suffix(b"\r\n")?;
    let body = node.scripts.add(text).ok()?;
    body.note_kept();
    Some(body)
}

/// The same in what this node itself holds: all there is, where it is alone.
pub(super) fn find_here(node: &Arc<Node>, name: &[u8]) -> Option<Arc<Body>> {
    let name = name.to_ascii_lowercase();
    let key = Key {
        db: OWN_DATABASE,
        name: SCRIPTS,
    };
    let wanted = [hash::element(&name)];
    let object = node.replica.read_some(key, Reach::Named(&wanted)).ok()?;
    let text = hash::get(&object, &name)?;
    let body = node.scripts.add(&text).ok()?;
    body.note_kept();
    Some(body)
}

/// Which of some scripts are known, anywhere: an array of 1 and 0.
pub fn exist(node: &Arc<Node>, names: Vec<Vec<u8>>) -> Later {
    let node = Arc::clone(node);
    Box::pin(async move {
        let mut reply = crate::resp::Reply::default();
        reply.array(names.len());
        for name in names {
            if node.scripts.find(&name).is_none() {
                find(&node, &name).await;
            }
            reply.integer(i64::from(node.scripts.find(&name).is_some()));
        }
        std::mem::take(reply.buffer())
    })
}

/// No node knows any script any more, as far as it can be reached.
pub fn flush(node: &Arc<Node>) -> Later {
    let asked = ask(node, &[b"DEL", SCRIPTS]);
    let node = Arc::clone(node);
    Box::pin(async move {
        let said = asked.await;
        if said.first() == Some(&b'-') {
            return said;
        }
        node.scripts.forget();
        node.tell(crate::peer::message::News::ForgetScripts).await;
        BytesMut::from(&b"+OK\r\n"[..])
    })
}
