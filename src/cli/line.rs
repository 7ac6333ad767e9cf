//! The words of the command line.

use clap::builder::ValueRange;
use clap::{Arg, ArgAction, Command};

use crate::base::config::{self, Directive};

/// Everything that can be said.
pub fn command_line() -> Command {
    let config = Arg::new("config").long("config").value_name("FILE");
    let mut server = Command::new("server")
        .about("Run a node")
        .arg(config.help("The configuration file; conf/ringwood.toml shows every directive"));
    for directive in config::directives() {
        server = server.arg(flag(directive));
    }
    Command::new("ringwood")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A store that speaks Redis's protocol and replicates the way Amazon's Dynamo does.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(server)
        .subcommand(
            asking(
                "explain",
                "Where a key lives, who coordinates it, and whether its copies agree",
            )
            .arg(Arg::new("key").required(true).value_name("KEY")),
        )
        .subcommand(
            asking(
                "verify",
                "Whether all owners hold the same, or what differs",
            )
            .arg(
                Arg::new("prefix")
                    .long("prefix")
                    .value_name("TEXT")
                    .default_value("")
                    .help("Only keys that begin with it"),
            ),
        )
        .subcommand(
            asking("repair", "Compares all copies now and mends what differs").arg(
                Arg::new("partition")
                    .long("partition")
                    .value_name("N")
                    .help("Only one partition"),
            ),
        )
        .subcommand(
            asking(
                "snapshot",
                "Makes a consistent copy of a running node's data, where the node runs",
            )
            .arg(
                Arg::new("dir")
                    .required(true)
                    .value_name("DIR")
                    .help("A folder that is not there yet"),
            ),
        )
        .subcommand(restoring())
        .subcommand(importing())
        .subcommand(with_source(
            "check",
            "Whether every key is here what it is at a running Redis",
        ))
        .subcommand(cluster())
}

fn restoring() -> Command {
    Command::new("restore")
        .about("Makes a data directory from such a copy, for a node that does not run")
        .arg(Arg::new("copy").required(true).value_name("COPY"))
        .arg(
            Arg::new("dir")
                .long("dir")
                .required(true)
                .value_name("DIR")
                .help("The data directory; empty, or not there yet"),
        )
}

fn importing() -> Command {
    with_source("import", "Copies all keys of a running Redis to this store")
        .arg(
            Arg::new("replace")
                .long("replace")
                .action(ArgAction::SetTrue)
                .help("Keys that are here already give way; else they stay as they are"),
        )
        .arg(
            Arg::new("progress")
                .long("progress")
                .value_name("FILE")
                .help(
                    "How far it is, to go on after an interruption [default: ringwood-import.json]",
                ),
        )
}

/// What is asked of a whole cluster.
fn cluster() -> Command {
    Command::new("cluster")
                .about("Look at a cluster through one of its nodes, and change its membership")
                .subcommand_required(true)
                .subcommand(asking("status", "The members as the node sees them"))
                .subcommand(asking("ring", "The owners of every partition"))
                .subcommand(
                    asking(
                        "plan",
                        "Shows what a change would move, before anything happens",
                    )
                    .arg(words("change", "CHANGE", 0..).help(
                        "join ADDRESS..., leave MEMBER..., remove MEMBER..., \
                             replace MEMBER ADDRESS, weight MEMBER N ..., zone MEMBER ZONE ..., \
                             several of them with \"and\" in between; commit, cancel; nothing: \
                             what is planned",
                    )),
                )
                .subcommand(asking("commit", "Does what is planned"))
                .subcommand(asking("cancel", "Withdraws what is planned"))
                .subcommand(changing(
                    "join",
                    "Makes nodes that are alone and empty members",
                    words("words", "HOST:PORT[@PEER-PORT]", 1..),
                ))
                .subcommand(changing(
                    "leave",
                    "Lets members hand over what they have, and leave",
                    words("words", "MEMBER", 1..),
                ))
                .subcommand(changing(
                    "replace",
                    "Has a node that is alone and empty take all places of a member, who leaves",
                    words("words", "MEMBER ADDRESS", 2..=2),
                ))
                .subcommand(changing(
                    "remove",
                    "Removes members that are gone for good; the others make their copies again",
                    words("words", "MEMBER", 1..),
                ))
                .subcommand(changing(
                    "weight",
                    "Gives members another share of the data",
                    words("words", "MEMBER N", 2..),
                ))
                .subcommand(changing(
                    "zone",
                    "Says that members stand in another zone",
                    words("words", "MEMBER ZONE", 2..),
                ))
                .subcommand(
                    asking(
                        "accept-loss",
                        "Says that what is left of partitions of which every complete copy was lost is all there is",
                    )
                    .arg(words("partitions", "PARTITION|all", 1..).required(true)),
                )
                .subcommand(
                    asking("transfers", "What moves, how far it is, what waits and why").arg(
                        Arg::new("json")
                            .long("json")
                            .action(ArgAction::SetTrue)
                            .help("Once, as JSON"),
                    ),
                )
}

fn words(name: &'static str, value: &'static str, count: impl Into<ValueRange>) -> Arg {
    Arg::new(name).value_name(value).num_args(count)
}

/// A subcommand that changes the membership: a plan, and with --yes its commit.
fn changing(name: &'static str, about: &'static str, words: Arg) -> Command {
    asking(name, about).arg(words.required(true)).arg(
        Arg::new("yes")
            .long("yes")
            .action(ArgAction::SetTrue)
            .help("Do it at once, instead of showing the plan"),
    )
}

/// A subcommand that asks a running node.
fn asking(name: &'static str, about: &'static str) -> Command {
    as_somebody(Command::new(name).about(about))
        .arg(
            option("address", "HOST:PORT", "127.0.0.1:6379")
                .help("A node, as its clients reach it"),
        )
        .arg(option("db", "N", "0").help("The database"))
}

/// A subcommand about a Redis and this store.
fn with_source(name: &'static str, about: &'static str) -> Command {
    as_somebody(Command::new(name).about(about))
        .arg(
            Arg::new("from")
                .long("from")
                .required(true)
                .value_name("URL")
                .help("redis://[user:password@]host:port[/database]; all databases where none is named; all masters of a Redis Cluster"),
        )
        .arg(
            Arg::new("match")
                .long("match")
                .value_name("PATTERN")
                .help("Only keys of this pattern, as SCAN's MATCH"),
        )
        .arg(
            option("address", "HOST:PORT[,...]", "127.0.0.1:6379")
                .value_delimiter(',')
                .help("Nodes of this store, as their clients reach them; the next where one is gone"),
        )
}

fn as_somebody(command: Command) -> Command {
    command
        .arg(option("user", "NAME", "").help("For AUTH; the default user when empty"))
        .arg(option("password", "TEXT", "").help("For AUTH; none when empty"))
}

fn option(name: &'static str, value: &'static str, default: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .default_value(default)
}

/// A directive as a flag.
fn flag(directive: &'static Directive) -> Arg {
    let default = match directive.default {
        "" => "none",
        default => default,
    };
    Arg::new(directive.name)
        .long(directive.name)
        .aliases(config::aliases_of(directive.name))
        .value_name("VALUE")
        .allow_hyphen_values(true)
        .help(format!("{} [default: {default}]", directive.help))
}
