//! COMMAND and the HELP of every container, straight from the table.

use crate::command::context::{Ctx, Outcome};
use crate::command::row::{L, Row, cmd, sub};
use crate::command::spec::{Flags, Spec, Specs, access_flags};
use crate::error::Error;
use crate::logic::glob;
use crate::resp::Reply;
use crate::routing::args::Args;
use crate::routing::shape::{Access, Begin, Find, Positions};

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "command",
        -1,
        L,
        &[],
        "server",
        command,
        "The command table.",
    ),
    sub(
        "command",
        "count",
        2,
        L,
        count,
        "How many commands there are.",
    ),
    sub("command", "docs", -2, L, docs, "What commands do."),
    sub(
        "command",
        "getkeys",
        -4,
        L,
        getkeys,
        "Which words of a command are keys.",
    ),
    sub(
        "command",
        "getkeysandflags",
        -4,
        L,
        getkeysandflags,
        "Which words of a command are keys, and what is done with them.",
    ),
    sub("command", "help", 2, L, help, "This text."),
    sub("command", "info", -2, L, info, "Rows of the command table."),
    sub("command", "list", -2, L, list, "The names of the commands."),
];

/// HELP: also what a container's bare row runs, which no client reaches.
pub(super) fn help(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let specs = ctx.node.specs;
    let container = specs.container(args);
    let rows: Vec<&Spec> = container
        .into_iter()
        .flat_map(|of| specs.subcommands(of))
        .collect();
    ctx.reply.array(rows.len() * 2 + 1);
    let upper = args.text(0).to_ascii_uppercase();
    ctx.reply.simple(&format!(
        "{upper} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for row in rows {
        ctx.reply.simple(&row.name.to_ascii_uppercase());
        ctx.reply.simple(&format!("    {}", row.summary));
    }
    Ok(())
}

fn top_level(specs: &'static Specs) -> impl Iterator<Item = &'static Spec> + Clone {
    specs.all().iter().filter(|spec| spec.parent.is_empty())
}

pub(super) fn command(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.array(top_level(ctx.node.specs).count());
    for spec in top_level(ctx.node.specs) {
        row(ctx, spec);
    }
    Ok(())
}

pub(super) fn count(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.integer(top_level(ctx.node.specs).count() as i64);
    Ok(())
}

pub(super) fn info(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() == 2 {
        return command(ctx, args);
    }
    ctx.reply.array(args.len() - 2);
    for nth in 2..args.len() {
        match ctx.node.specs.by_name(&args.text(nth)) {
            Some(spec) => row(ctx, spec),
            None => ctx.reply.null_array(),
        }
    }
    Ok(())
}

/// Redis 7's ten fields.
fn row(ctx: &mut Ctx<'_>, spec: &Spec) {
    let subcommands: Vec<&Spec> = ctx.node.specs.subcommands(spec).collect();
    let reply = &mut *ctx.reply;
    reply.array(10);
    reply.bulk(spec.full_name().as_bytes());
    reply.integer(i64::from(spec.arity));
    let flags: Vec<&str> = Flags::NAMES
        .iter()
        .filter(|(flag, _)| spec.has(*flag))
        .map(|(_, name)| *name)
        .chain(spec.shape.has_movable_keys().then_some("movablekeys"))
        .collect();
    reply.set(flags.len());
    for flag in &flags {
        reply.simple(flag);
    }
    let (first, last, step) = spec.key_range();
    for position in [first, last, step] {
        reply.integer(i64::from(position));
    }
    let categories = categories(spec);
    reply.set(categories.len());
    for category in &categories {
        reply.simple(category);
    }
    reply.set(spec.tips().len());
    for tip in spec.tips() {
        reply.bulk(tip.as_bytes());
    }
    key_specs(ctx, spec);
    ctx.reply.array(subcommands.len());
    for sub in subcommands {
        row(ctx, sub);
    }
}

fn categories(spec: &Spec) -> Vec<String> {
    let mut found = Vec::new();
    for (flag, name) in [
        (Flags::WRITE, "@write"),
        (Flags::READ, "@read"),
        (Flags::ADMIN, "@admin"),
        (Flags::ADMIN, "@dangerous"),
    ] {
        if spec.has(flag) {
            found.push(name.to_owned());
        }
    }
    found.push(match spec.group {
        "generic" => "@keyspace".to_owned(),
        "transactions" => "@transaction".to_owned(),
        group => format!("@{group}"),
    });
    found.push(
        if spec.has(Flags::FAST) {
            "@fast"
        } else {
            "@slow"
        }
        .to_owned(),
    );
    found
}

fn key_specs(ctx: &mut Ctx<'_>, spec: &Spec) {
    let reply = &mut *ctx.reply;
    reply.set(spec.shape.keys.len());
    for keys in spec.shape.keys {
        reply.map(3);
        reply.bulk(b"flags");
        let flags = access_flags(keys.access);
        reply.set(flags.len());
        for flag in flags {
            reply.simple(flag);
        }
        match keys.begin {
            Begin::Index(at) => {
                step(reply, "begin_search", "index", &[("index", at.into())]);
            }
            Begin::Keyword(word, from) => {
                step_of(reply, "begin_search", "keyword", 2);
                reply.bulk(b"keyword");
                reply.bulk(word.as_bytes());
                reply.bulk(b"startfrom");
                reply.integer(from.into());
            }
        }
        let facts = match keys.find {
            Find::Range { last, step, limit } => [
                ("lastkey", i64::from(last)),
                ("keystep", step.into()),
                ("limit", limit.into()),
            ],
            Find::Count { at, first, step } => [
                ("keynumidx", at.into()),
                ("firstkey", first.into()),
                ("keystep", step.into()),
            ],
        };
        let kind = match keys.find {
            Find::Range { .. } => "range",
            Find::Count { .. } => "keynum",
        };
        step(reply, "find_keys", kind, &facts);
    }
}

fn step_of(reply: &mut Reply, name: &str, kind: &str, facts: usize) {
    reply.bulk(name.as_bytes());
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(facts);
}

/// One step of how keys are found.
fn step(reply: &mut Reply, name: &str, kind: &str, facts: &[(&str, i64)]) {
    step_of(reply, name, kind, facts.len());
    for (name, value) in facts {
        reply.bulk(name.as_bytes());
        reply.integer(*value);
    }
}

pub(super) fn docs(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let wanted: Vec<&Spec> = if args.len() == 2 {
        top_level(ctx.node.specs).collect()
    } else {
        (2..args.len())
            .filter_map(|nth| ctx.node.specs.by_name(&args.text(nth)))
            .collect()
    };
    ctx.reply.map(wanted.len());
    for spec in wanted {
        doc(ctx, spec);
    }
    Ok(())
}

fn doc(ctx: &mut Ctx<'_>, spec: &Spec) {
    let subcommands: Vec<&Spec> = ctx.node.specs.subcommands(spec).collect();
    ctx.reply.bulk(spec.full_name().as_bytes());
    ctx.reply.map(2 + usize::from(!subcommands.is_empty()));
    for (name, value) in [("summary", spec.summary), ("group", spec.group)] {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.bulk(value.as_bytes());
    }
    if !subcommands.is_empty() {
        ctx.reply.bulk(b"subcommands");
        ctx.reply.map(subcommands.len());
        for sub in subcommands {
            doc(ctx, sub);
        }
    }
}

pub(super) fn list(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let filter: Box<dyn Fn(&Spec) -> bool> = match args.len() {
        2 => Box::new(|_| true),
        5 if args.is(2, "FILTERBY") && args.is(3, "PATTERN") => {
            let pattern = args.at(4).to_ascii_lowercase();
            Box::new(move |spec| glob::matches(&pattern, spec.full_name().as_bytes()))
        }
        5 if args.is(2, "FILTERBY") && args.is(3, "ACLCAT") => {
            let category = format!("@{}", args.text(4).to_ascii_lowercase());
            Box::new(move |spec| categories(spec).contains(&category))
        }
        5 if args.is(2, "FILTERBY") && args.is(3, "MODULE") => Box::new(|_| false),
        _ => return Err(Error::Syntax),
    };
    let listed = ctx.node.specs.all().iter().filter(|spec| filter(spec));
    let names: Vec<String> = listed.map(Spec::full_name).collect();
    ctx.reply.bulks(&names);
    Ok(())
}

/// The row of a command that is asked about, which has keys.
fn asked_about(ctx: &Ctx<'_>, inner: Args<'_>) -> Result<&'static Spec, Error> {
    let spec = ctx.node.specs.find(inner);
    let spec = spec.ok_or(Error::text("ERR Invalid command specified"))?;
    if spec.shape.keys.is_empty() {
        return Err(Error::text("ERR The command has no key arguments"));
    }
    if !spec.takes(inner.len()) {
        return Err(Error::text(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    Ok(spec)
}

pub(super) fn getkeysandflags(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let inner = args.skip(2);
    let spec = asked_about(ctx, inner)?;
    let mut found = Vec::new();
    for keys in spec.shape.keys {
        let mut places = Positions::new();
        keys.find(inner, &mut places);
        let gets = (0..inner.len()).any(|nth| inner.is(nth, "GET"));
        let access = match keys.access {
            Access::SetOrGet if !gets => Access::Overwrite,
            access => access,
        };
        found.extend(places.into_iter().map(|at| (at as usize, access)));
    }
    found.sort_by_key(|(at, _)| *at);
    ctx.reply.array(found.len());
    for (at, access) in found {
        ctx.reply.array(2);
        ctx.reply.bulk(inner.at(at));
        let flags = access_flags(access);
        ctx.reply.set(flags.len());
        for flag in flags {
            ctx.reply.simple(flag);
        }
    }
    Ok(())
}

pub(super) fn getkeys(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let inner = args.skip(2);
    let spec = asked_about(ctx, inner)?;
    let keys: Vec<&[u8]> = spec.keys_of(inner).collect();
    ctx.reply.bulks(&keys);
    Ok(())
}
