//! COMMAND and the HELP of every container, straight from the table.

use super::args::Args;
use super::error::Error;
use super::table::{self, Flags, Spec};
use super::{Ctx, Outcome};
use crate::logic::glob;

/// HELP: also what a container's bare row runs, which no client reaches.
pub(super) fn help(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let parent = args.text(0).to_ascii_lowercase();
    let rows: Vec<&Spec> = table::all().iter().filter(|s| s.parent == parent).collect();
    ctx.reply.array(rows.len() * 2 + 1);
    let upper = parent.to_ascii_uppercase();
    ctx.reply.simple(&format!(
        "{upper} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for row in rows {
        ctx.reply.simple(&row.name.to_ascii_uppercase());
        ctx.reply.simple(&format!("    {}", row.summary));
    }
    Ok(())
}

fn top_level() -> impl Iterator<Item = &'static Spec> + Clone {
    table::all().iter().filter(|spec| spec.parent.is_empty())
}

pub(super) fn command(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.array(top_level().count());
    for spec in top_level() {
        row(ctx, spec);
    }
    Ok(())
}

pub(super) fn count(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.integer(top_level().count() as i64);
    Ok(())
}

pub(super) fn info(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() == 2 {
        return command(ctx, args);
    }
    ctx.reply.array(args.len() - 2);
    for nth in 2..args.len() {
        match table::by_name(&args.text(nth)) {
            Some(spec) => row(ctx, spec),
            None => ctx.reply.null_array(),
        }
    }
    Ok(())
}

/// Redis 7's ten fields.
fn row(ctx: &mut Ctx<'_>, spec: &Spec) {
    let subcommands: Vec<&Spec> = table::all()
        .iter()
        .filter(|s| spec.parent.is_empty() && s.parent == spec.name)
        .collect();
    let reply = &mut *ctx.reply;
    reply.array(10);
    reply.bulk(spec.full_name().as_bytes());
    reply.integer(i64::from(spec.arity));
    let flags: Vec<&str> = Flags::NAMES
        .iter()
        .filter(|(flag, _)| spec.has(*flag))
        .map(|(_, name)| *name)
        .collect();
    reply.set(flags.len());
    for flag in &flags {
        reply.simple(flag);
    }
    for position in [spec.keys.0, spec.keys.1, spec.keys.2] {
        reply.integer(i64::from(position));
    }
    let categories = categories(spec);
    reply.set(categories.len());
    for category in &categories {
        reply.simple(category);
    }
    reply.array(0);
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
    let (first, last, step) = spec.keys;
    let reply = &mut *ctx.reply;
    if first == 0 {
        return reply.array(0);
    }
    reply.array(1);
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.simple(if spec.has(Flags::WRITE) { "RW" } else { "RO" });
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.integer(i64::from(first));
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    let relative = if last < 0 { last } else { last - first };
    for (name, value) in [("lastkey", relative), ("keystep", step), ("limit", 0)] {
        reply.bulk(name.as_bytes());
        reply.integer(i64::from(value));
    }
}

pub(super) fn docs(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let wanted: Vec<&Spec> = if args.len() == 2 {
        top_level().collect()
    } else {
        (2..args.len())
            .filter_map(|nth| table::by_name(&args.text(nth)))
            .collect()
    };
    ctx.reply.map(wanted.len());
    for spec in wanted {
        doc(ctx, spec);
    }
    Ok(())
}

fn doc(ctx: &mut Ctx<'_>, spec: &Spec) {
    let subcommands: Vec<&Spec> = table::all()
        .iter()
        .filter(|s| spec.parent.is_empty() && s.parent == spec.name)
        .collect();
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
    let listed = table::all().iter().filter(|spec| filter(spec));
    let names: Vec<String> = listed.map(Spec::full_name).collect();
    ctx.reply.bulks(&names);
    Ok(())
}

pub(super) fn getkeys(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let inner = args.skip(2);
    let spec = table::find(inner).ok_or(Error::text("ERR Invalid command specified"))?;
    let len = inner.len();
    let enough = if spec.arity >= 0 {
        len == spec.arity as usize
    } else {
        len >= spec.arity.unsigned_abs() as usize
    };
    if spec.keys.0 == 0 {
        return Err(Error::text("ERR The command has no key arguments"));
    }
    if !enough {
        return Err(Error::text(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let keys: Vec<&[u8]> = spec
        .key_positions(len)
        .into_iter()
        .map(|nth| inner.at(nth))
        .collect();
    ctx.reply.bulks(&keys);
    Ok(())
}
