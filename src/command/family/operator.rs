//! RINGWOOD, for the person who is paged: where a key lives and why, and how its copies differ.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use super::docs;
use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::node::Node;
use crate::command::row::{L, LF, OWN, R, Row, W, cmd, sub};
use crate::command::spec::{Flags, keys};
use crate::coordinator::Coordinator;
use crate::logic::causal::{Object, Payload};
use crate::logic::digest;
use crate::logic::edit::Edit;
use crate::logic::placement;
use crate::logic::quorum::Rule;
use crate::logic::record;
use crate::logic::types;
use crate::peer::encode;
use crate::peer::message::{KeyRequest, Response, UNKNOWN_VIEW, WireKey};
use crate::replica::{Key, Reach};
use crate::routing::args::Args;
use crate::status::{self, Members};

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "ringwood",
        -2,
        L.and(OWN),
        &[],
        "causal",
        docs::help,
        "What the node knows about itself and a key.",
    ),
    sub(
        "ringwood",
        "evict",
        3,
        W.and(OWN).and(Flags::NOSCRIPT),
        evict,
        "Deletes a key as maxmemory does.",
    )
    .on(keys::SECOND_DELETE),
    sub(
        "ringwood",
        "explain",
        3,
        R.and(OWN),
        explain,
        "Where a key lives and what its copies hold.",
    )
    .on(keys::SECOND_META)
    .stays(),
    sub("ringwood", "help", 2, LF.and(OWN), docs::help, "This text."),
    sub(
        "ringwood",
        "hints",
        2,
        L.and(OWN),
        hints,
        "How many hints this node holds.",
    ),
    sub(
        "ringwood",
        "local",
        3,
        R.and(OWN),
        local,
        "This node's copy of a key, in canonical bytes.",
    )
    .on(keys::SECOND_META)
    .stays(),
    sub(
        "ringwood",
        "owners",
        3,
        R.and(OWN),
        owners,
        "The nodes of a key, in rank order.",
    )
    .on(keys::SECOND_META)
    .stays(),
    sub(
        "ringwood",
        "ring",
        2,
        L.and(OWN),
        ring,
        "Which node owns which partitions.",
    ),
    sub(
        "ringwood",
        "status",
        -2,
        L.and(OWN),
        status,
        "The state of the node and its cluster; with JSON for programs, with every fact of INFO.",
    ),
];

fn evict(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let gone = ctx.update_some(args.at(2), Reach::Head, |object, now_ms| {
        let is_there = types::is_present(object, now_ms);
        let edit = if is_there { Edit::delete() } else { Edit::Keep };
        (edit, is_there)
    })?;
    if gone {
        ctx.node.eviction.note_evicted();
    }
    ctx.reply.integer(i64::from(gone));
    Ok(())
}

pub(super) fn local(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let object = ctx.object(args.at(2))?;
    // What lives: having seen more or less of what is gone is no difference between copies.
    let bytes = (!object.is_tombstone()).then(|| record::WIRE.encode(&object.bare()));
    ctx.reply.bulk_or_null(bytes.as_deref());
    Ok(())
}

pub(super) fn owners(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let names = match &ctx.node.site.coordinator {
        None => vec![ctx.node.name.clone()],
        Some(coordinator) => {
            let cluster = coordinator.cluster();
            let (owners, _) = cluster.owners_and_fallbacks(cluster.route(args.at(2)));
            owners.into_iter().map(|id| cluster.name_of(id)).collect()
        }
    };
    ctx.reply.bulks(&names);
    Ok(())
}

pub(super) fn hints(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let counts = ctx.node.replica.hint_counts();
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    ctx.reply.integer(total as i64);
    Ok(())
}

/// RINGWOOD EXPLAIN: in a cluster every owner is asked, and every fallback for what it keeps.
pub(super) fn explain(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (key, db) = (args.at(2), ctx.session.db);
    ctx.key(db, key)?;
    if let Some(coordinator) = ctx.node.site.coordinator.clone() {
        let (node, key) = (Arc::clone(ctx.node), key.to_vec());
        ctx.reply_later(async move {
            Ok::<_, Infallible>(explanation(&node, &coordinator, db, &key).await)
        });
        return Ok(());
    }
    let object = ctx.object(key)?;
    let mut text = place(ctx.node, db, key);
    let name = &ctx.node.name;
    let _ = writeln!(text, "owners       {name}\ncoordinator  {name}");
    copy(&mut text, ctx.node, name, Some(&object));
    ctx.reply.verbatim(&text);
    Ok(())
}

async fn explanation(node: &Arc<Node>, coordinator: &Coordinator, db: u8, key: &[u8]) -> String {
    let cluster = coordinator.cluster();
    let route = cluster.route(key);
    let (owners, fallbacks) = cluster.owners_and_fallbacks(route);
    let names = |ids: &[placement::NodeId]| {
        let names: Vec<String> = ids.iter().map(|id| cluster.name_of(*id)).collect();
        names.join(", ")
    };
    let mut text = place(node, db, key);
    let Rule { n, r, w, strict } = route.rule;
    let kind = if strict { "strict" } else { "sloppy" };
    let _ = writeln!(text, "quorum       N={n} R={r} W={w}, {kind}");
    let _ = writeln!(text, "owners       {}", names(&owners));
    let _ = writeln!(text, "fallbacks    {}", names(&fallbacks));
    let holders = cluster.holders(route.part());
    if holders.is_lost {
        let _ = writeln!(text, "LOST         nobody has a complete copy");
    } else if !holders.is_settled {
        let _ = writeln!(text, "moves to     {}", names(&holders.owners));
    }
    let _ = writeln!(
        text,
        "coordinator  {}",
        cluster.name_of(cluster.coordinator(route.partition))
    );
    let list = [owners.as_slice(), &fallbacks].concat();
    let copies = join_all(list.iter().map(|id| async move {
        if *id == cluster.me() {
            return node
                .replica
                .read(Key { db, name: key })
                .ok()
                .map(|o| Object::clone(&o));
        }
        let body = encode(KeyRequest::Fetch {
            key: WireKey {
                db,
                name: bytes::Bytes::copy_from_slice(key),
            },
            // No object has this digest but by chance: an unknown one has 0.
            digest: u64::MAX,
            dots: Vec::new(),
            seen: None,
            view: UNKNOWN_VIEW,
        });
        match cluster.peers().call(*id, body, coordinator.within()).await {
            Ok(Response::Object(raw)) => record::WIRE.decode(&raw).ok(),
            _ => None,
        }
    }))
    .await;
    let lives = |object: &Object| digest::of_living(key, object);
    let of_owners: Vec<u64> = copies[..owners.len()].iter().flatten().map(lives).collect();
    let agree = of_owners.len() == owners.len() && of_owners.windows(2).all(|w| w[0] == w[1]);
    let _ = writeln!(text, "copies agree {}", if agree { "yes" } else { "no" });
    for (nth, (id, object)) in list.iter().zip(&copies).enumerate() {
        let kept = object.as_ref().is_some_and(|object| !object.is_unknown());
        if nth < owners.len() || kept {
            copy(&mut text, node, &cluster.name_of(*id), object.as_ref());
        }
    }
    text
}

fn place(node: &Node, db: u8, key: &[u8]) -> String {
    let slot = placement::slot_of(key);
    let partitions = node.replica.partitions();
    format!(
        "key          {} (database {db})\nslot         {}\npartition    {} of {}\n",
        key.escape_ascii(),
        slot.0,
        partitions.of(slot),
        partitions.count(),
    )
}

/// One node's copy of a key.
fn copy(text: &mut String, node: &Node, name: &str, object: Option<&Object>) {
    let Some(object) = object else {
        let _ = writeln!(text, "{name}: does not answer");
        return;
    };
    if object.is_unknown() {
        let _ = writeln!(text, "{name}: never heard of it");
        return;
    }
    let count = object.all_versions().count();
    let actors = object.context().actors();
    let _ = writeln!(
        text,
        "{name}: {count} versions, context of {actors} actors, digest {:016x}",
        digest::of_known(object)
    );
    let now_ms = clock::now_ms();
    for version in object.all_versions() {
        let age_ms = now_ms.saturating_sub(version.at.ms());
        let what = match &version.value.payload {
            Payload::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Payload::Gone(_) => "ended and reclaimed".to_owned(),
            Payload::Count(contribution) => format!("contribution {}", contribution.total),
            Payload::Deadline(_) => match version.value.expires_at_ms {
                Some(at) => format!("expiry at {at} ms"),
                None => "no expiry".to_owned(),
            },
        };
        let by = node.name_of(version.dot.actor);
        let _ = writeln!(text, "  {} by {by}: {what}, {age_ms} ms old", version.dot);
    }
    for reset in object.live_resets() {
        let by = node.name_of(reset.actor);
        let _ = writeln!(text, "  of {by}'s contribution {} are gone", reset.total);
    }
    if let Some(at) = object.ends_at_ms() {
        let state = if at < now_ms { "ended" } else { "ends" };
        let _ = writeln!(text, "  {state} at {at} ms");
    }
}

/// RINGWOOD STATUS [JSON]: for programs also every fact that INFO shows, by section.
pub(super) fn status(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let source = ctx.node.source();
    let state = Members::of(&source);
    let text = if super::wants_json(args)? {
        super::json_line(&json!({ "state": state, "facts": status::facts_json(&source) }))
    } else {
        state.to_string()
    };
    ctx.reply.verbatim(&text);
    Ok(())
}

pub(super) fn ring(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let partitions = ctx.node.replica.partitions().count();
    let Some(coordinator) = &ctx.node.site.coordinator else {
        let text = format!("partitions 0-{}  {}\n", partitions - 1, ctx.node.name);
        ctx.reply.verbatim(&text);
        return Ok(());
    };
    let cluster = coordinator.cluster();
    let mut text = String::new();
    for partition in 0..partitions {
        let owners = cluster.owners(partition);
        let names: Vec<String> = owners.into_iter().map(|id| cluster.name_of(id)).collect();
        let _ = writeln!(text, "partition {partition:>5}  {}", names.join(" "));
    }
    ctx.reply.verbatim(&text);
    Ok(())
}
