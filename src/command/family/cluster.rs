//! CLUSTER, for cluster-aware clients: which node coordinates which slots. Never MOVED: every node
//! takes every command, and knowing the coordinator only saves the hop.

use std::collections::BTreeSet;

use super::docs;
use crate::cluster::Cluster;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{NL, Row, cmd, sub};
use crate::error::Error;
use crate::logic::membership::Member;
use crate::logic::placement::{NodeId, SLOTS, slot_of};
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "cluster",
        -2,
        NL,
        &[],
        "cluster",
        docs::help,
        "What cluster-aware clients ask.",
    ),
    sub(
        "cluster",
        "countkeysinslot",
        3,
        NL,
        count_keys,
        "How many keys of a slot this node holds.",
    ),
    sub(
        "cluster",
        "forget",
        3,
        NL,
        forget,
        "Removes a member that is gone, by its id or its name.",
    ),
    sub(
        "cluster",
        "getkeysinslot",
        4,
        NL,
        keys_in_slot,
        "Keys of a slot that this node holds.",
    ),
    sub("cluster", "help", 2, NL, docs::help, "This text."),
    sub("cluster", "info", 2, NL, info, "The state of the cluster."),
    sub("cluster", "keyslot", 3, NL, key_slot, "The slot of a key."),
    sub(
        "cluster",
        "links",
        2,
        NL,
        links,
        "The links to other nodes.",
    ),
    sub("cluster", "myid", 2, NL, my_id, "The id of this node."),
    sub(
        "cluster",
        "nodes",
        2,
        NL,
        nodes,
        "All members with the slots that they coordinate.",
    ),
    sub("cluster", "shards", 2, NL, shards, "Slots by owners."),
    sub(
        "cluster",
        "slots",
        2,
        NL,
        slots,
        "Owners by slots, the coordinator first.",
    ),
];

/// The most keys that GETKEYSINSLOT replies.
const MAX_KEYS: i64 = 1_000_000;

/// The cluster that this node is a member of.
pub(super) fn of<'a>(ctx: &'a Ctx<'_>) -> Result<&'a Cluster, Error> {
    let coordinator = ctx.node.site.coordinator.as_ref();
    let disabled = Error::text("ERR This instance has cluster support disabled");
    coordinator.map(|c| &**c.cluster()).ok_or(disabled)
}

/// Redis's node ids have 40 digits.
pub(super) fn long_id(id: NodeId) -> String {
    format!("{:040x}", id.0)
}

/// Slots with the same owners: first, last, and the owners in rank order, those that answer before
/// the others: the first coordinates.
fn ranges(cluster: &Cluster) -> Vec<(u16, u16, Vec<NodeId>)> {
    let count = cluster.options().partitions.count();
    let width = SLOTS / count;
    let mut ranges: Vec<(u16, u16, Vec<NodeId>)> = Vec::new();
    for partition in 0..count {
        let (first, last) = (partition * width, partition * width + width - 1);
        let mut owners = cluster.owners(partition);
        owners.sort_by_key(|owner| !cluster.answers(*owner));
        match ranges.last_mut() {
            Some((_, end, same)) if *same == owners => *end = last,
            _ => ranges.push((first, last, owners)),
        }
    }
    ranges
}

fn host_and_port(address: &str) -> (&str, i64) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    (host, port.parse().unwrap_or(0))
}

pub(super) fn info(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let cluster = of(ctx)?;
    let members = cluster.members();
    let answering = members.iter().filter(|m| cluster.answers(m.id)).count();
    let (state, assigned) = if cluster.has_joined() {
        ("ok", SLOTS)
    } else {
        ("fail", 0)
    };
    let width = SLOTS / cluster.options().partitions.count();
    let lost = cluster.lost_parts().into_iter().map(|part| part.1);
    let failed = lost.collect::<BTreeSet<u16>>().len() as u16 * width;
    let text = format!(
        "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
         cluster_slots_ok:{}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:{failed}\r\n\
         cluster_known_nodes:{}\r\ncluster_answering_nodes:{answering}\r\ncluster_size:{}\r\n\
         cluster_current_epoch:{}\r\ncluster_my_epoch:{}\r\n",
        assigned.saturating_sub(failed),
        members.len(),
        members.len(),
        cluster.events(),
        cluster.events(),
    );
    ctx.reply.verbatim(&text);
    Ok(())
}

pub(super) fn my_id(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let id = long_id(of(ctx)?.me());
    ctx.reply.bulk(id.as_bytes());
    Ok(())
}

/// CLUSTER FORGET id (or name): a member that is gone for good is none any more; what it owned is made
/// again from the other owners.
pub(super) fn forget(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let cluster = of(ctx)?;
    let text = args.text(2);
    let members = cluster.members();
    let found = members
        .iter()
        .find(|member| member.name == text || long_id(member.id) == text);
    let Some(member) = found else {
        return Err(Error::Text(format!("ERR Unknown node {text}").into()));
    };
    if member.id == cluster.me() {
        return Err(Error::text("ERR I tried hard but I can't forget myself..."));
    }
    if cluster.answers(member.id) {
        let name = &member.name;
        let text = format!("ERR {name} answers: only a member that is gone can be forgotten");
        return Err(Error::Text(text.into()));
    }
    tracing::warn!(node = %member.name, "a member is removed");
    cluster.change(|membership| membership.remove(member.id));
    ctx.reply.ok();
    Ok(())
}

pub(super) fn nodes(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let cluster = of(ctx)?;
    let ranges = ranges(cluster);
    let mut text = String::new();
    for member in cluster.members() {
        let myself = if member.id == cluster.me() {
            "myself,"
        } else {
            ""
        };
        let (fail, link) = if cluster.answers(member.id) {
            ("", "connected")
        } else {
            (",fail?", "disconnected")
        };
        let (_, peer_port) = host_and_port(&member.peer_address);
        text.push_str(&format!(
            "{} {}@{peer_port} {myself}master{fail} - 0 0 {} {link}",
            long_id(member.id),
            member.client_address,
            member.joined,
        ));
        for (first, last, owners) in &ranges {
            if owners.first() == Some(&member.id) {
                text.push_str(&format!(" {first}-{last}"));
            }
        }
        text.push('\n');
    }
    ctx.reply.verbatim(&text);
    Ok(())
}

pub(super) fn slots(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let cluster = of(ctx)?;
    let (ranges, members) = (ranges(cluster), cluster.members());
    ctx.reply.array(ranges.len());
    for (first, last, owners) in ranges {
        let owners = in_order(&owners, &members);
        ctx.reply.array(2 + owners.len());
        ctx.reply.integer(i64::from(first));
        ctx.reply.integer(i64::from(last));
        for owner in owners {
            let (host, port) = host_and_port(&owner.client_address);
            ctx.reply.array(4);
            ctx.reply.bulk(host.as_bytes());
            ctx.reply.integer(port);
            ctx.reply.bulk(long_id(owner.id).as_bytes());
            ctx.reply.array(0);
        }
    }
    Ok(())
}

fn in_order<'a>(owners: &[NodeId], members: &'a [Member]) -> Vec<&'a Member> {
    let find = |id: &NodeId| members.iter().find(|member| member.id == *id);
    owners.iter().filter_map(find).collect()
}

pub(super) fn shards(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let cluster = of(ctx)?;
    let members = cluster.members();
    let mut shards: Vec<(Vec<NodeId>, Vec<(u16, u16)>)> = Vec::new();
    for (first, last, owners) in ranges(cluster) {
        match shards.iter_mut().find(|(same, _)| *same == owners) {
            Some((_, slots)) => slots.push((first, last)),
            None => shards.push((owners, vec![(first, last)])),
        }
    }
    let health = |id| {
        if cluster.answers(id) {
            "online"
        } else {
            "fail"
        }
    };
    let shards: Vec<_> = shards
        .iter()
        .map(|(owners, slots)| {
            let owners = in_order(owners, &members);
            let owners: Vec<_> = owners
                .into_iter()
                .map(|m| (m.clone(), health(m.id)))
                .collect();
            (owners, slots)
        })
        .collect();
    let reply = &mut *ctx.reply;
    reply.array(shards.len());
    for (owners, slots) in shards {
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(slots.len() * 2);
        for (first, last) in slots {
            reply.integer(i64::from(*first));
            reply.integer(i64::from(*last));
        }
        reply.bulk(b"nodes");
        reply.array(owners.len());
        for (nth, (owner, health)) in owners.iter().enumerate() {
            let (host, port) = host_and_port(&owner.client_address);
            reply.map(7);
            let role = if nth == 0 { "master" } else { "replica" };
            for (name, value) in [
                ("id", long_id(owner.id).as_str()),
                ("ip", host),
                ("endpoint", host),
                ("role", role),
                ("health", health),
            ] {
                reply.bulk(name.as_bytes());
                reply.bulk(value.as_bytes());
            }
            for (name, value) in [("port", port), ("replication-offset", 0)] {
                reply.bulk(name.as_bytes());
                reply.integer(value);
            }
        }
    }
    Ok(())
}

pub(super) fn links(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let cluster = of(ctx)?;
    let me = cluster.me();
    let others: Vec<Member> = cluster
        .members()
        .into_iter()
        .filter(|m| m.id != me)
        .collect();
    let up: Vec<bool> = others.iter().map(|m| cluster.peers().is_up(m.id)).collect();
    ctx.reply.array(others.len());
    for (member, up) in others.iter().zip(up) {
        ctx.reply.map(3);
        for (name, value) in [
            ("direction", "to"),
            ("node", long_id(member.id).as_str()),
            ("events", if up { "rw" } else { "" }),
        ] {
            ctx.reply.bulk(name.as_bytes());
            ctx.reply.bulk(value.as_bytes());
        }
    }
    Ok(())
}

pub(super) fn key_slot(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    of(ctx)?;
    ctx.reply.integer(i64::from(slot_of(args.at(2)).0));
    Ok(())
}

pub(super) fn count_keys(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    of(ctx)?;
    let keys = keys_in(ctx, args.integer(2)?, usize::MAX)?;
    ctx.reply.integer(keys.len() as i64);
    Ok(())
}

pub(super) fn keys_in_slot(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    of(ctx)?;
    let count = args.integer(3)?;
    if !(0..=MAX_KEYS).contains(&count) {
        return Err(Error::text("ERR Invalid number of keys"));
    }
    let keys = keys_in(ctx, args.integer(2)?, count as usize)?;
    ctx.reply.bulks(&keys);
    Ok(())
}

/// This node's keys of a slot in database 0, as in Redis Cluster.
fn keys_in(ctx: &Ctx<'_>, slot: i64, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
    let slot = u16::try_from(slot).ok().filter(|slot| *slot < SLOTS);
    let slot = slot.ok_or(Error::text("ERR Invalid slot"))?;
    ctx.over_keys(|replica| replica.keys_in_slot(0, slot, limit))
}
