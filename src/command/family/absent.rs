//! What Redis has and a store without a primary, without slots of a node and without modules has not: refused in
//! words that say why, so that who moves here is not left with "unknown command". What such a question can be
//! answered with truthfully (no modules, no replicas, the user) is answered.

use super::docs;
use crate::cluster::Cluster;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{ADMIN, L, LF, NL, NO_MULTI, Row, cmd, sub};
use crate::command::spec::Flags;
use crate::error::Error;
use crate::logic::placement::NodeId;
use crate::routing::args::Args;

const STALE: Flags = ADMIN.and(Flags::STALE);
const OF_CLUSTER: Flags = Flags::ADMIN.and(Flags::STALE);

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd("acl", -2, L, &[], "server", docs::help, "Users."),
    sub("acl", "help", 2, L, docs::help, "This text."),
    sub(
        "acl",
        "whoami",
        2,
        NL,
        who_am_i,
        "The user of this connection: there is one.",
    ),
    no_primary("failover", -1, STALE),
    no_primary("psync", -3, ADMIN.and(NO_MULTI)),
    no_primary("replconf", -1, STALE.and(Flags::LOADING)),
    no_primary("replicaof", 3, STALE),
    no_primary("slaveof", 3, STALE),
    no_primary("sync", 1, ADMIN.and(NO_MULTI)),
    cmd(
        "lolwut",
        -1,
        LF,
        &[],
        "server",
        lolwut,
        "The version, and no art.",
    ),
    cmd(
        "pfselftest",
        1,
        Flags::ADMIN,
        &[],
        "hyperloglog",
        internal,
        "Not offered: a test of Redis's own.",
    ),
    cmd("module", -2, L, &[], "server", docs::help, "Modules."),
    sub("module", "help", 2, L, docs::help, "This text."),
    sub("module", "list", 2, ADMIN, none, "The modules: none."),
    no_modules("load", -3),
    no_modules("loadex", -3),
    no_modules("unload", 3),
    sub(
        "memory",
        "doctor",
        2,
        L,
        no_doctor,
        "Not offered: INFO tells what memory is for.",
    ),
    sub(
        "memory",
        "malloc-stats",
        2,
        L,
        malloc_stats,
        "What the allocator tells: nothing.",
    ),
    sub(
        "memory",
        "purge",
        2,
        L,
        no_purge,
        "Not offered: the allocator gives memory back by itself.",
    ),
    sub(
        "script",
        "debug",
        3,
        Flags::NOSCRIPT,
        internal,
        "Not offered: there is no debugger.",
    ),
    no_slots("addslots", -3),
    no_slots("addslotsrange", -4),
    no_slots("bumpepoch", 2),
    no_slots("delslots", -3),
    no_slots("delslotsrange", -4),
    no_slots("failover", -2),
    no_slots("flushslots", 2),
    no_slots("replicate", 3),
    no_slots("reset", -2),
    no_slots("set-config-epoch", 3),
    no_slots("setslot", -4),
    sub(
        "cluster",
        "count-failure-reports",
        3,
        OF_CLUSTER,
        failure_reports,
        "Whether this node finds that a member does not answer.",
    ),
    sub(
        "cluster",
        "replicas",
        3,
        OF_CLUSTER,
        replicas,
        "The replicas of a member: none, every member is a master.",
    ),
    sub(
        "cluster",
        "slaves",
        3,
        OF_CLUSTER,
        replicas,
        "As CLUSTER REPLICAS.",
    ),
    sub(
        "cluster",
        "saveconfig",
        2,
        OF_CLUSTER,
        saved,
        "Accepted: what is known of the cluster is written down when it changes.",
    ),
];

const fn no_primary(name: &'static str, arity: i8, flags: Flags) -> Row {
    let why = "Not offered: there is no primary.";
    cmd(name, arity, flags, &[], "server", refuse_primary, why)
}

const fn no_modules(name: &'static str, arity: i8) -> Row {
    let why = "Not offered: there are no modules.";
    sub("module", name, arity, ADMIN, refuse_module, why)
}

const fn no_slots(name: &'static str, arity: i8) -> Row {
    let why = "Not offered: RINGWOOD PLAN changes who owns what.";
    sub("cluster", name, arity, OF_CLUSTER, refuse_slots, why)
}

fn refused(words: &[&str], why: &str) -> Outcome {
    let name = words.join(" ").to_ascii_uppercase();
    Err(Error::Text(
        format!("ERR {name} is not offered: {why}").into(),
    ))
}

pub(super) fn refuse_primary(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    // A node is what this makes of it: nobody's replica.
    if args.len() == 3 && args.is(1, "NO") && args.is(2, "ONE") {
        ctx.reply.ok();
        return Ok(());
    }
    let why = "every node takes every command, and nothing is a primary or a replica";
    refused(&[&args.text(0)], why)
}

pub(super) fn refuse_module(_: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    refused(&[&args.text(0), &args.text(1)], "there are no modules")
}

pub(super) fn refuse_slots(_: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let why = "owners of slots follow from the members; RINGWOOD PLAN, or ringwood cluster, changes those";
    refused(&[&args.text(0), &args.text(1)], why)
}

pub(super) fn internal(_: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let words = [args.text(0), args.text(1)];
    let words: Vec<&str> = words.iter().map(String::as_str).take(args.len()).collect();
    refused(&words, "it is about the inside of Redis's own server")
}

pub(super) fn no_doctor(_: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    refused(
        &[&args.text(0), &args.text(1)],
        "INFO tells what memory is for",
    )
}

pub(super) fn malloc_stats(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    // Redis's words with an allocator that is not its own.
    ctx.reply
        .bulk(b"Stats not supported for the current allocator");
    Ok(())
}

pub(super) fn no_purge(_: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let why = "the allocator gives memory back by itself";
    refused(&[&args.text(0), &args.text(1)], why)
}

pub(super) fn saved(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    super::cluster::of(ctx)?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn none(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.array(0);
    Ok(())
}

pub(super) fn who_am_i(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.bulk(b"default");
    Ok(())
}

pub(super) fn lolwut(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    ctx.reply.bulk(format!("Ringwood {version}\n").as_bytes());
    Ok(())
}

pub(super) fn replicas(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    known(super::cluster::of(ctx)?, args)?;
    ctx.reply.array(0);
    Ok(())
}

pub(super) fn failure_reports(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let cluster = super::cluster::of(ctx)?;
    let silent = !cluster.answers(known(cluster, args)?);
    ctx.reply.integer(i64::from(silent));
    Ok(())
}

/// The member whose id is the command's last word.
fn known(cluster: &Cluster, args: Args<'_>) -> Result<NodeId, Error> {
    let id = args.text(2);
    let found = cluster
        .members()
        .into_iter()
        .find(|member| super::cluster::long_id(member.id) == id);
    let unknown = || Error::Text(format!("ERR Unknown node {id}").into());
    found.map(|member| member.id).ok_or_else(unknown)
}
