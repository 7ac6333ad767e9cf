//! The scripts that all nodes have: a hash in the database that belongs to no client, replicated as every key is.

use std::sync::Arc;

use bytes::BytesMut;

use super::known::Body;
use crate::command::context::{After, Ctx, Outcome};
use crate::command::node::Node;
use crate::coordinator::Asked;
use crate::logic::types::hash;
use crate::peer::message::News;
use crate::replica::{Key, OWN_DATABASE, Reach};
use crate::resp::{Protocol, Reply, first_bulk};
use crate::routing::args::OwnedArgs;
use crate::routing::block;
use crate::routing::{Later, Own, Runner, Who};

/// The hash of all scripts, by their names; it begins as [`crate::logic::quorum::OWN_KEYS`].
const SCRIPTS: &[u8] = b"\0ringwood\0scripts";

/// Runs a command on what belongs to all nodes.
pub(super) fn ask(node: &Arc<Node>, words: &[&[u8]]) -> Later {
    ask_in(node, OWN_DATABASE, words)
}

/// Runs a command of the node's own in a database.
pub fn ask_in(node: &Arc<Node>, db: u8, words: &[&[u8]]) -> Later {
    let runner: Arc<dyn Runner> = Arc::clone(node) as Arc<dyn Runner>;
    let call = runner.call(OwnedArgs::of(words)).expect("the table has it");
    let own = Arc::<Own>::default();
    let who = Who::of(db, Protocol::Resp2, Asked::default(), &own);
    block::run(runner, who, call)
}

/// Has all nodes know a script; the reply is its name.
pub fn load(ctx: &mut Ctx<'_>, text: &[u8]) -> Outcome {
    let body = ctx.node.scripts.compiled(text)?;
    let name = body.source.name().to_owned();
    let words: [&[u8]; 4] = [b"HSET", SCRIPTS, &body.source.sha, &body.source.text];
    if !ctx.is_in_cluster() {
        let said = ctx.run_on_own(&words);
        return done(ctx, &said, |reply| {
            body.note_kept();
            reply.bulk(name.as_bytes());
        });
    }
    let asked = ask(ctx.node, &words);
    ctx.after = After::Waiting(Box::pin(async move {
        let said = asked.await;
        if said.first() == Some(&b'-') {
            return said;
        }
        body.note_kept();
        BytesMut::from(format!("$40\r\n{name}\r\n").as_bytes())
    }));
    Ok(())
}

/// Replies, unless what was asked of our own database failed.
fn done(ctx: &mut Ctx<'_>, said: &[u8], reply: impl FnOnce(&mut Reply)) -> Outcome {
    if said.first() == Some(&b'-') {
        ctx.reply.buffer().extend_from_slice(said);
    } else {
        reply(ctx.reply);
    }
    Ok(())
}

/// Looks for a script that another node was given; an error, where that cannot be known.
pub(super) async fn find(node: &Arc<Node>, name: &[u8]) -> Option<BytesMut> {
    let said = ask(node, &[b"HGET", SCRIPTS, &name.to_ascii_lowercase()]).await;
    if said.first() == Some(&b'-') {
        return Some(said);
    }
    keep(node, &said);
    None
}

/// The text of a bulk reply is at hand from now on.
fn keep(node: &Node, said: &[u8]) -> Option<Arc<Body>> {
    let (text, _) = first_bulk(said)?;
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
pub fn exist(ctx: &mut Ctx<'_>, names: Vec<Vec<u8>>) -> Outcome {
    let node = Arc::clone(ctx.node);
    if !ctx.is_in_cluster() {
        ctx.reply.array(names.len());
        for name in names {
            let known = node.scripts.find(&name).or_else(|| find_here(&node, &name));
            ctx.reply.integer(i64::from(known.is_some()));
        }
        return Ok(());
    }
    ctx.after = After::Waiting(Box::pin(async move {
        let mut reply = Reply::default();
        reply.array(names.len());
        for name in names {
            if node.scripts.find(&name).is_none()
                && let Some(failed) = find(&node, &name).await
            {
                return failed;
            }
            reply.integer(i64::from(node.scripts.find(&name).is_some()));
        }
        std::mem::take(reply.buffer())
    }));
    Ok(())
}

/// No node knows any script any more, as far as it can be reached.
pub fn flush(ctx: &mut Ctx<'_>) -> Outcome {
    let node = Arc::clone(ctx.node);
    if !ctx.is_in_cluster() {
        let said = ctx.run_on_own(&[b"DEL", SCRIPTS]);
        node.scripts.forget();
        return done(ctx, &said, Reply::ok);
    }
    let asked = ask(&node, &[b"DEL", SCRIPTS]);
    ctx.after = After::Waiting(Box::pin(async move {
        let said = asked.await;
        if said.first() == Some(&b'-') {
            return said;
        }
        node.scripts.forget();
        node.tell(News::ForgetScripts).await;
        BytesMut::from(&b"+OK\r\n"[..])
    }));
    Ok(())
}
