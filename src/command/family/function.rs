//! FCALL, and FUNCTION: libraries of functions that all nodes have.

use std::sync::Arc;

use bytes::BytesMut;

use super::script::{SCRIPT, eval, kill};
use crate::command::context::{After, Ctx, Outcome};
use crate::command::node::Node;
use crate::command::row::{L, NO_MULTI, Row, cmd, sub};
use crate::command::scripts::{self, Functions, Goes, Library};
use crate::command::spec::{Flags, ScriptBy, keys};
use crate::error::Error;
use crate::logic::codec::{Reader, put_bytes, put_varint};
use crate::logic::glob;
use crate::resp::Reply;
use crate::routing::args::Args;
use crate::routing::{Who, error_reply};

/// Changes what all nodes have.
const CHANGES: Flags = Flags::NOSCRIPT.and(NO_MULTI);
const GROUP: &str = "scripting";
/// Begins what FUNCTION DUMP makes.
const DUMPED: &[u8] = b"ringwood functions 1\0";

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "fcall",
        -3,
        SCRIPT,
        keys::SCRIPT,
        GROUP,
        eval,
        "Runs a function of a library.",
    )
    .runs_script(true, ScriptBy::Function),
    cmd(
        "fcall_ro",
        -3,
        SCRIPT.and(Flags::READ),
        keys::SCRIPT_READS,
        GROUP,
        eval,
        "Runs a function of a library that changes nothing.",
    )
    .runs_script(false, ScriptBy::Function),
    cmd(
        "function",
        -2,
        Flags(0),
        &[],
        GROUP,
        help,
        "Libraries of functions.",
    ),
    sub(
        "function",
        "delete",
        3,
        CHANGES.and(Flags::WRITE),
        delete,
        "Removes a library from all nodes.",
    )
    .of(GROUP)
    .stays(),
    sub(
        "function",
        "dump",
        2,
        CHANGES,
        dump,
        "All libraries as one string, for RESTORE.",
    )
    .of(GROUP),
    sub(
        "function",
        "flush",
        -2,
        CHANGES.and(Flags::WRITE),
        flush,
        "Removes all libraries from all nodes.",
    )
    .of(GROUP)
    .stays(),
    sub("function", "help", 2, L, help, "What there is of FUNCTION.").of(GROUP),
    sub(
        "function",
        "kill",
        2,
        Flags::NOSCRIPT.and(Flags::ALLOW_BUSY),
        kill,
        "Ends functions and scripts that run and have written nothing.",
    )
    .of(GROUP),
    sub(
        "function",
        "list",
        -2,
        CHANGES,
        list,
        "The libraries and their functions.",
    )
    .of(GROUP),
    sub(
        "function",
        "load",
        -3,
        CHANGES.and(Flags::WRITE).and(Flags::DENYOOM),
        load,
        "Has all nodes know a library; replies its name.",
    )
    .of(GROUP)
    .stays(),
    sub(
        "function",
        "restore",
        -3,
        CHANGES.and(Flags::WRITE).and(Flags::DENYOOM),
        restore,
        "Takes the libraries of a DUMP.",
    )
    .of(GROUP)
    .stays(),
    sub(
        "function",
        "stats",
        2,
        Flags::NOSCRIPT.and(Flags::ALLOW_BUSY).and(NO_MULTI),
        stats,
        "What runs on this node, and how many libraries there are.",
    )
    .of(GROUP),
];

/// Has a reply be what comes of asking other nodes.
fn later<F, T>(ctx: &mut Ctx<'_>, asked: F, reply: impl FnOnce(&mut Reply, T) + Send + 'static)
where
    F: Future<Output = Result<T, BytesMut>> + Send + 'static,
    T: Send + 'static,
{
    let who = ctx.who();
    ctx.after = After::Waiting(Box::pin(async move {
        match asked.await {
            Ok(found) => {
                let mut said = Reply::default();
                said.set_protocol(who.protocol);
                reply(&mut said, found);
                std::mem::take(said.buffer())
            }
            Err(failed) => failed,
        }
    }));
}

/// An error as a reply, counted.
fn refused(node: &Node, who: &Who, error: &Error) -> BytesMut {
    node.stats.count_error(error);
    error_reply(who, error)
}

fn wrong_option(args: Args<'_>, nth: usize, what: &str) -> Error {
    let word = args.text(nth);
    Error::Text(format!("ERR {what} {word}").into())
}

fn load(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let last = args.len() - 1;
    for nth in 2..last {
        if !args.is(nth, "REPLACE") {
            return Err(wrong_option(args, nth, "Unknown option given:"));
        }
    }
    let library = Library::read(&ctx.node.scripts, args.at(last))?;
    let (node, who) = (Arc::clone(ctx.node), ctx.who());
    let goes = if last > 2 {
        Goes::OfTheSameName
    } else {
        Goes::Nothing
    };
    let asked = async move {
        let all = scripts::all_functions(&node).await?;
        all.take(std::slice::from_ref(&library), goes)
            .map_err(|error| refused(&node, &who, &error))?;
        scripts::store(&node, &library).await?;
        Ok(library.name)
    };
    later(ctx, asked, |reply, name: String| {
        reply.bulk(name.as_bytes());
    });
    Ok(())
}

fn delete(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (node, who, name) = (Arc::clone(ctx.node), ctx.who(), args.text(2));
    let asked = async move {
        let all = scripts::all_functions(&node).await?;
        if !all.libraries.contains_key(&name) {
            let error = Error::text("ERR Library not found");
            return Err(refused(&node, &who, &error));
        }
        scripts::remove(&node, &name).await
    };
    later(ctx, asked, |reply, ()| reply.ok());
    Ok(())
}

fn flush(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let is_known = args.is(2, "ASYNC") || args.is(2, "SYNC");
    if args.len() > 3 || args.len() == 3 && !is_known {
        let why = "ERR FUNCTION FLUSH only supports SYNC|ASYNC option";
        return Err(Error::text(why));
    }
    let node = Arc::clone(ctx.node);
    let asked = async move { scripts::remove_all(&node).await };
    later(ctx, asked, |reply, ()| reply.ok());
    Ok(())
}

fn list(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (mut pattern, mut with_code, mut nth) = (None, false, 2);
    while nth < args.len() {
        if !with_code && args.is(nth, "WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && args.is(nth, "LIBRARYNAME") {
            nth += 1;
            let word = args.get(nth);
            let none = Error::text("ERR library name argument was not given");
            pattern = Some(word.ok_or(none)?.to_vec());
        } else {
            return Err(wrong_option(args, nth, "Unknown argument"));
        }
        nth += 1;
    }
    let node = Arc::clone(ctx.node);
    let asked = async move { scripts::all_functions(&node).await };
    later(ctx, asked, move |reply, all: Arc<Functions>| {
        let is_meant = |library: &&Library| {
            let name = library.name.as_bytes();
            pattern.as_ref().is_none_or(|p| glob::matches(p, name))
        };
        let meant: Vec<&Library> = all.libraries.values().filter(is_meant).collect();
        reply.array(meant.len());
        for library in meant {
            show(reply, library, with_code);
        }
    });
    Ok(())
}

fn show(reply: &mut Reply, library: &Library, with_code: bool) {
    reply.map(3 + usize::from(with_code));
    reply.bulk(b"library_name");
    reply.bulk(library.name.as_bytes());
    reply.bulk(b"engine");
    reply.bulk(b"LUA");
    reply.bulk(b"functions");
    reply.array(library.functions.len());
    for function in &library.functions {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(function.name.as_bytes());
        reply.bulk(b"description");
        reply.bulk_or_null(function.description.as_deref().map(str::as_bytes));
        reply.bulk(b"flags");
        reply.set(function.flags.len());
        for flag in &function.flags {
            reply.simple(flag);
        }
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(&library.code);
    }
}

fn stats(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    // As far as it is known here: who asks may want to know what all others wait for.
    let all = scripts::known_functions(ctx.node);
    let running = ctx.node.scripts.running();
    let reply = &mut *ctx.reply;
    reply.map(2);
    reply.bulk(b"running_script");
    if let Some((name, call, since)) = running {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(name.as_bytes());
        reply.bulk(b"command");
        reply.bulks(&call);
        reply.bulk(b"duration_ms");
        reply.integer(since.as_millis() as i64);
    } else {
        reply.null();
    }
    let functions = all
        .libraries
        .values()
        .map(|library| library.functions.len());
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.integer(all.libraries.len() as i64);
    reply.bulk(b"functions_count");
    reply.integer(functions.sum::<usize>() as i64);
    Ok(())
}

fn dump(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let node = Arc::clone(ctx.node);
    let asked = async move { scripts::all_functions(&node).await };
    later(ctx, asked, |reply, all: Arc<Functions>| {
        let mut out = DUMPED.to_vec();
        put_varint(&mut out, all.libraries.len() as u64);
        for library in all.libraries.values() {
            put_bytes(&mut out, &library.code);
        }
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        reply.bulk(&out);
    });
    Ok(())
}

/// The codes of libraries that were dumped.
fn undumped(payload: &[u8]) -> Option<Vec<&[u8]>> {
    let (body, sum) = payload.split_at_checked(payload.len().checked_sub(4)?)?;
    if crc32fast::hash(body).to_le_bytes() != sum {
        return None;
    }
    let mut r = Reader(body.strip_prefix(DUMPED)?);
    let codes = (0..r.count(1).ok()?).map(|_| r.bytes().ok());
    let codes: Option<Vec<&[u8]>> = codes.collect();
    codes.filter(|_| r.0.is_empty())
}

fn restore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 4 {
        return Err(Error::WrongWords(args.text(1), "FUNCTION".into()));
    }
    let goes = match () {
        () if args.len() == 3 || args.is(3, "APPEND") => Goes::Nothing,
        () if args.is(3, "FLUSH") => Goes::All,
        () if args.is(3, "REPLACE") => Goes::OfTheSameName,
        () => {
            let why =
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.";
            return Err(Error::text(why));
        }
    };
    let wrong = Error::text("ERR DUMP payload version or checksum are wrong");
    let codes = undumped(args.at(2)).ok_or(wrong)?;
    let libraries = codes
        .into_iter()
        .map(|code| Library::read(&ctx.node.scripts, code));
    let libraries: Vec<Library> = libraries.collect::<Result<_, _>>()?;
    let (node, who) = (Arc::clone(ctx.node), ctx.who());
    let asked = async move {
        let all = scripts::all_functions(&node).await?;
        all.take(&libraries, goes)
            .map_err(|error| refused(&node, &who, &error))?;
        for library in &libraries {
            scripts::store(&node, library).await?;
        }
        let is_new = |name: &String| libraries.iter().any(|library| library.name == *name);
        let gone = all.libraries.keys();
        for name in gone.filter(|name| goes == Goes::All && !is_new(name)) {
            scripts::remove(&node, name).await?;
        }
        Ok(())
    };
    later(ctx, asked, |reply, ()| reply.ok());
    Ok(())
}

fn help(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.bulks(&[
        "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "LOAD [REPLACE] <FUNCTION CODE>",
        "    Has all nodes know a library.",
        "DELETE <LIBRARY NAME>",
        "    Removes a library.",
        "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
        "    The libraries, their functions, and their code.",
        "STATS",
        "    What runs on this node, and how many libraries there are.",
        "KILL",
        "    Ends functions and scripts that run and have written nothing.",
        "FLUSH [ASYNC|SYNC]",
        "    Removes all libraries.",
        "DUMP",
        "    All libraries as one string.",
        "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
        "    Takes the libraries of a DUMP.",
        "HELP",
        "    Prints this help.",
    ]);
    Ok(())
}
