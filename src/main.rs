//! The command line; nothing else.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};
use ringwood::admin::{AdminError, Target};
use ringwood::config::{Config, DIRECTIVES};
use tracing_subscriber::filter::LevelFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = command_line().get_matches();
    match matches.subcommand() {
        Some(("server", flags)) => server(flags),
        Some(("explain", flags)) => {
            let key = flags.get_one::<String>("key").map_or("", String::as_str);
            ask(flags, &["RINGWOOD", "EXPLAIN", key])
        }
        Some(("verify", flags)) => verify(flags),
        Some(("repair", flags)) => repair(flags),
        Some(("cluster", cluster)) => match cluster.subcommand() {
            Some(("status", flags)) => ask(flags, &["RINGWOOD", "STATUS"]),
            Some(("ring", flags)) => ask(flags, &["RINGWOOD", "RING"]),
            Some(("join", flags)) => join(flags),
            Some(("remove", flags)) => {
                let name = flags.get_one::<String>("member").map_or("", String::as_str);
                ask(flags, &["CLUSTER", "FORGET", name])
            }
            _ => ExitCode::FAILURE,
        },
        _ => ExitCode::FAILURE,
    }
}

fn command_line() -> Command {
    let config = Arg::new("config").long("config").value_name("FILE");
    let mut server = Command::new("server")
        .about("Run a node")
        .arg(config.help("The configuration file; conf/ringwood.toml shows every directive"));
    for directive in DIRECTIVES {
        let default = if directive.default.is_empty() {
            "none"
        } else {
            directive.default
        };
        server = server.arg(
            Arg::new(directive.name)
                .long(directive.name)
                .value_name("VALUE")
                .allow_hyphen_values(true)
                .help(format!("{} [default: {default}]", directive.help)),
        );
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
            asking("verify", "Whether all owners hold the same, or what differs").arg(
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
            Command::new("cluster")
                .about("Look at a cluster through one of its nodes, or join one")
                .subcommand_required(true)
                .subcommand(asking("status", "The members as the node sees them"))
                .subcommand(asking("ring", "The owners of every partition"))
                .subcommand(
                    asking(
                        "remove",
                        "Removes a member that is gone for good; the others make its copies again",
                    )
                    .arg(
                        Arg::new("member")
                            .required(true)
                            .value_name("NAME")
                            .help("Its name or id"),
                    ),
                )
                .subcommand(
                    asking(
                        "join",
                        "Makes a node that is alone and empty a member of another's cluster",
                    )
                    .arg(
                        Arg::new("member")
                            .required(true)
                            .value_name("HOST:PORT")
                            .help("A member of the cluster, as clients reach it"),
                    )
                    .arg(
                        Arg::new("peer-port")
                            .long("peer-port")
                            .value_name("PORT")
                            .help("The member's port for other nodes, where it is not its port plus 10000"),
                    ),
                ),
        )
}

/// A subcommand that asks a running node.
fn asking(name: &'static str, about: &'static str) -> Command {
    let option = |name: &'static str, value: &'static str, default: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .default_value(default)
    };
    Command::new(name)
        .about(about)
        .arg(
            option("address", "HOST:PORT", "127.0.0.1:6379")
                .help("A node, as its clients reach it"),
        )
        .arg(option("password", "TEXT", "").help("For AUTH; none when empty"))
        .arg(option("db", "N", "0").help("The database"))
}

fn join(flags: &ArgMatches) -> ExitCode {
    let text = |name: &str| flags.get_one::<String>(name).cloned().unwrap_or_default();
    let (member, peer_port) = (text("member"), text("peer-port"));
    let Some((host, port)) = member.rsplit_once(':') else {
        eprintln!("ringwood: '{member}' is not HOST:PORT");
        return ExitCode::from(2);
    };
    let mut words = vec!["CLUSTER", "MEET", host, port];
    if !peer_port.is_empty() {
        words.push(&peer_port);
    }
    ask(flags, &words)
}

fn target(flags: &ArgMatches) -> Target {
    let text = |name: &str| flags.get_one::<String>(name).cloned().unwrap_or_default();
    Target {
        address: text("address"),
        password: text("password"),
        db: text("db"),
    }
}

fn ask(flags: &ArgMatches, words: &[&str]) -> ExitCode {
    tell(target(flags).ask(words).map(|answer| (answer, true)))
}

/// Prints an answer; whether it is a good one.
fn tell(answer: Result<(String, bool), AdminError>) -> ExitCode {
    match answer {
        Ok((answer, is_good)) => {
            print(answer.trim_end());
            if is_good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("ringwood: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whoever reads may have read enough.
fn print(line: &str) {
    if !line.is_empty() {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// Shown on a terminal only.
fn progress(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(what);
    let style = "{msg} {bar:30} {pos}/{len} partitions, {elapsed} ({eta} left)";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn verify(flags: &ArgMatches) -> ExitCode {
    let prefix = flags.get_one::<String>("prefix").map_or("", String::as_str);
    let bar = progress("comparing");
    let step = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let verified = target(flags).verify(prefix, step, |line| bar.suspend(|| print(&line)));
    bar.finish_and_clear();
    tell(verified.map(|is_equal| (String::new(), is_equal)))
}

fn repair(flags: &ArgMatches) -> ExitCode {
    let partition = flags.get_one::<String>("partition").map(String::as_str);
    let bar = progress("mending");
    let repaired = target(flags).repair(partition, |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    tell(repaired.map(|answer| (answer, true)))
}

fn server(flags: &ArgMatches) -> ExitCode {
    let file = flags.get_one::<String>("config").map(Path::new);
    let given = DIRECTIVES
        .iter()
        .filter_map(|d| Some((d.name, flags.get_one::<String>(d.name)?.as_str())));
    let config = match Config::load(file, given) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ringwood: {error}");
            return ExitCode::from(2);
        }
    };
    start_log(&config.text("loglevel"));
    match ringwood::server::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(level: &str) {
    let level = match level {
        "debug" => LevelFilter::DEBUG,
        "warning" => LevelFilter::WARN,
        "nothing" => LevelFilter::OFF,
        _ => LevelFilter::INFO,
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        .init();
}
