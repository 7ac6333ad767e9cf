//! EVAL and its like, and SCRIPT.

use crate::command::context::{After, Ctx, Outcome};
use crate::command::row::{NL, Row, cmd, sub};
use crate::command::scripts;
use crate::command::spec::{Flags, ScriptBy, keys};
use crate::error::Error;
use crate::peer::message::{News, Response};
use crate::routing::args::Args;
use crate::script::Stopped;

/// A script: what it does its words do not say.
pub(super) const SCRIPT: Flags = Flags::NOSCRIPT
    .and(Flags::STALE)
    .and(Flags::NO_MONITOR)
    .and(Flags::NO_MANDATORY_KEYS);

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "eval",
        -3,
        SCRIPT,
        keys::SCRIPT,
        "scripting",
        eval,
        "Runs a script in Lua.",
    )
    .runs_script(true, ScriptBy::Text),
    cmd(
        "evalsha",
        -3,
        SCRIPT,
        keys::SCRIPT,
        "scripting",
        eval,
        "Runs a script that is known by its SHA-1.",
    )
    .runs_script(true, ScriptBy::Sha),
    cmd(
        "eval_ro",
        -3,
        SCRIPT.and(Flags::READ),
        keys::SCRIPT_READS,
        "scripting",
        eval,
        "Runs a script in Lua that changes nothing.",
    )
    .runs_script(false, ScriptBy::Text),
    cmd(
        "evalsha_ro",
        -3,
        SCRIPT.and(Flags::READ),
        keys::SCRIPT_READS,
        "scripting",
        eval,
        "Runs a script that is known by its SHA-1 and changes nothing.",
    )
    .runs_script(false, ScriptBy::Sha),
    cmd(
        "script",
        -2,
        Flags(0),
        &[],
        "scripting",
        container,
        "Scripts that are known.",
    ),
    sub(
        "script",
        "exists",
        -3,
        Flags::NOSCRIPT,
        exists,
        "Which of these scripts are known, by any node.",
    )
    .of("scripting"),
    sub(
        "script",
        "flush",
        -2,
        Flags::NOSCRIPT,
        flush,
        "No node knows any script any more.",
    )
    .of("scripting"),
    sub(
        "script",
        "help",
        2,
        NL,
        container,
        "What there is of SCRIPT.",
    )
    .of("scripting"),
    sub(
        "script",
        "kill",
        2,
        Flags::NOSCRIPT.and(Flags::ALLOW_BUSY),
        kill,
        "Ends scripts that run and have written nothing.",
    )
    .of("scripting"),
    sub(
        "script",
        "load",
        3,
        Flags::NOSCRIPT.and(Flags::STALE),
        load,
        "Has all nodes know a script, which does not run; replies its SHA-1.",
    )
    .of("scripting"),
];

pub(super) fn eval(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    scripts::run_here(ctx, args)
}

fn container(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.bulks(&[
        "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "EXISTS <sha1> [<sha1> ...]",
        "    Whether scripts of these names are known, to any node.",
        "FLUSH [ASYNC|SYNC]",
        "    No node knows any script any more.",
        "KILL",
        "    Ends scripts that run and have written nothing.",
        "LOAD <script>",
        "    Has all nodes know a script, without running it.",
        "HELP",
        "    Prints this help.",
    ]);
    Ok(())
}

fn load(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    scripts::load(ctx, args.at(2))
}

fn exists(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let names = args.from(2).map(<[u8]>::to_vec).collect();
    scripts::exist(ctx, names)
}

fn flush(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let is_known = args.is(2, "ASYNC") || args.is(2, "SYNC");
    if args.len() > 3 || args.len() == 3 && !is_known {
        let why = "ERR SCRIPT FLUSH only support SYNC|ASYNC option";
        return Err(Error::text(why));
    }
    scripts::flush(ctx)
}

const NOBODY: &str = "NOTBUSY No scripts in execution right now.";
const WRITTEN: &str = "UNKILLABLE Sorry the script already executed write commands against the dataset. You can \
either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.";

pub(super) fn kill(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let names_function = args.is(0, "FUNCTION");
    let only = (!ctx.is_in_cluster()).then_some(names_function);
    let here = ctx.node.scripts.stop(only);
    if here.is_none() && only.is_some() && ctx.node.scripts.runs_function().is_some() {
        return Err(Error::text(scripts::busy(!names_function)));
    }
    if !ctx.is_in_cluster() {
        return match here {
            None => Err(Error::text(NOBODY)),
            Some(Stopped::HasWritten) => Err(Error::text(WRITTEN)),
            Some(Stopped::Yes) => {
                ctx.reply.ok();
                Ok(())
            }
        };
    }
    let (node, who) = (std::sync::Arc::clone(ctx.node), ctx.who());
    ctx.after = After::Waiting(Box::pin(async move {
        let elsewhere = node.tell(News::StopScripts).await;
        let (mut stopped, mut has_written) = (here.is_some(), here == Some(Stopped::HasWritten));
        for (_, said) in elsewhere {
            stopped |= said == Response::Done;
            has_written |= said == Response::InDoubt;
        }
        match () {
            () if has_written => crate::routing::error_reply(&who, &Error::text(WRITTEN)),
            () if stopped => bytes::BytesMut::from(&b"+OK\r\n"[..]),
            () => crate::routing::error_reply(&who, &Error::text(NOBODY)),
        }
    }));
    Ok(())
}
