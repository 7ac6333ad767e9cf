//! The command line: runs a node, or asks one that runs.

mod client;
mod line;
mod migrate;
mod questions;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use crate::base::config::{self, Config};
use crate::base::log::Log;
use crate::server::SetLogLevel;
use client::{ClientError, Target};
use migrate::{Asked, MigrateError};

/// How often transfers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How far a walk over partitions is.
const PARTITIONS: &str = "{msg} {bar:30} {pos}/{len} partitions, {elapsed} ({eta} left)";

/// Does what the command line says.
pub fn run() -> ExitCode {
    let matches = line::command_line().get_matches();
    match matches.subcommand() {
        Some(("server", flags)) => server(flags),
        Some(("explain", flags)) => {
            let key = flags.get_one::<String>("key").map_or("", String::as_str);
            ask(flags, &["RINGWOOD", "EXPLAIN", key])
        }
        Some(("verify", flags)) => verify(flags),
        Some(("repair", flags)) => repair(flags),
        Some(("snapshot", flags)) => {
            let dir = flags.get_one::<String>("dir").map_or("", String::as_str);
            ask(flags, &["RINGWOOD", "SNAPSHOT", dir])
        }
        Some(("restore", flags)) => restore(flags),
        Some(("import", flags)) => import(flags),
        Some(("check", flags)) => check(flags),
        Some(("cluster", cluster)) => match cluster.subcommand() {
            Some(("status", flags)) => ask(flags, &["RINGWOOD", "STATUS"]),
            Some(("ring", flags)) => ask(flags, &["RINGWOOD", "RING"]),
            Some(("plan", flags)) => plan(flags, None),
            Some(("commit", flags)) => ask(flags, &["RINGWOOD", "PLAN", "COMMIT"]),
            Some(("cancel", flags)) => ask(flags, &["RINGWOOD", "PLAN", "CANCEL"]),
            Some(("transfers", flags)) => transfers(flags),
            Some(("accept-loss", flags)) => accept_loss(flags),
            Some((verb, flags)) => plan(flags, Some(verb)),
            None => ExitCode::FAILURE,
        },
        _ => ExitCode::FAILURE,
    }
}

fn restore(flags: &ArgMatches) -> ExitCode {
    let path = |name| Path::new(flags.get_one::<String>(name).map_or("", String::as_str));
    match crate::restore::restore(path("copy"), path("dir")) {
        Ok(about) => {
            let dir = path("dir").display();
            print(&format!("{} rows of {} in {dir}", about.rows, about.node));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringwood: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Shows the plan of a change; commits it, too, where that is asked for.
fn plan(flags: &ArgMatches, verb: Option<&str>) -> ExitCode {
    let of = if verb.is_some() { "words" } else { "change" };
    let given = flags.get_many::<String>(of).into_iter().flatten();
    let words = ["RINGWOOD", "PLAN"].into_iter().chain(verb);
    let words: Vec<&str> = words.chain(given.map(String::as_str)).collect();
    let planned = target(flags).ask(&words).map(|answer| (answer, true));
    let commits = verb.is_some() && flags.get_flag("yes");
    if !commits || planned.is_err() {
        return tell(planned);
    }
    ask(flags, &["RINGWOOD", "PLAN", "COMMIT"])
}

fn accept_loss(flags: &ArgMatches) -> ExitCode {
    let partitions = flags.get_many::<String>("partitions").into_iter().flatten();
    let words = ["RINGWOOD", "ACCEPT-LOSS"].into_iter();
    let words: Vec<&str> = words.chain(partitions.map(String::as_str)).collect();
    ask(flags, &words)
}

/// What moves: once as JSON, or with bars until nothing moves any more.
fn transfers(flags: &ArgMatches) -> ExitCode {
    let target = target(flags);
    if flags.get_flag("json") {
        let words = ["RINGWOOD", "TRANSFERS", "JSON"];
        return tell(target.ask(&words).map(|answer| (answer, true)));
    }
    let bars = MultiProgress::new();
    let mut of_node: Vec<ProgressBar> = Vec::new();
    loop {
        let (lines, moves) = match target.transfers() {
            Ok(found) => found,
            Err(error) => return tell(Err(error)),
        };
        while of_node.len() < lines.len() {
            of_node.push(bars.add(transfer_bar()));
        }
        for (bar, line) in of_node.iter().zip(&lines) {
            bar.set_length(line.of.max(1));
            bar.set_position(if line.of == 0 { 1 } else { line.done });
            bar.set_prefix(line.node.clone());
            bar.set_message(line.text.clone());
        }
        if !moves {
            of_node.iter().for_each(ProgressBar::abandon);
            for line in lines {
                print(&format!("{:<14} {}", line.node, line.text));
            }
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn transfer_bar() -> ProgressBar {
    let bar = ProgressBar::new(1);
    let style = "{prefix:<14!} {bar:16} {pos:>4}/{len:<4} {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn target(flags: &ArgMatches) -> Target {
    let text = |name: &str| {
        let given = flags.try_get_one::<String>(name).ok().flatten();
        given.cloned().unwrap_or_default()
    };
    Target {
        address: text("address"),
        user: text("user"),
        password: text("password"),
        db: text("db"),
    }
}

fn ask(flags: &ArgMatches, words: &[&str]) -> ExitCode {
    tell(target(flags).ask(words).map(|answer| (answer, true)))
}

/// Prints an answer; whether it is a good one.
fn tell(answer: Result<(String, bool), ClientError>) -> ExitCode {
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

/// The reader may have read enough.
fn print(line: &str) {
    if !line.is_empty() {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// Shown on a terminal only.
fn progress(what: &'static str, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(what);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn verify(flags: &ArgMatches) -> ExitCode {
    let prefix = flags.get_one::<String>("prefix").map_or("", String::as_str);
    let bar = progress("comparing", PARTITIONS);
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
    let bar = progress("mending", PARTITIONS);
    let repaired = target(flags).repair(partition, |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    tell(repaired.map(|answer| (answer, true)))
}

fn import(flags: &ArgMatches) -> ExitCode {
    let progress = flags.get_one::<String>("progress").map(PathBuf::from);
    let replaces = flags.get_flag("replace");
    with_source(flags, "copying", |asked| {
        migrate::import(asked, replaces, progress)
    })
}

fn check(flags: &ArgMatches) -> ExitCode {
    with_source(flags, "comparing", migrate::check)
}

/// Does something with a Redis and this store; shows how far it is on a terminal.
fn with_source(
    flags: &ArgMatches,
    what: &'static str,
    run: impl FnOnce(Asked<'_>) -> Result<(String, bool), MigrateError>,
) -> ExitCode {
    let template = "{msg} {bar:30} {human_pos}/{human_len} keys, {per_sec}, {elapsed} ({eta} left)";
    let bar = progress(what, template);
    let nodes = flags.get_many::<String>("address").into_iter().flatten();
    let target = nodes.map(|address| Target {
        address: address.clone(),
        ..target(flags)
    });
    let target: Result<Vec<_>, _> = target.map(|target| target.info()).collect();
    let done = match target {
        Ok(target) => run(Asked {
            from: flags.get_one::<String>("from").map_or("", String::as_str),
            target,
            matching: flags.get_one::<String>("match").map(String::as_str),
            bar: &bar,
        }),
        Err(error) => return tell(Err(error)),
    };
    bar.finish_and_clear();
    tell(done.map_err(|error| ClientError::Refused(error.to_string())))
}

/// The last lines of the log are waited for so long.
const LAST_LINES: Duration = Duration::from_millis(200);

fn server(flags: &ArgMatches) -> ExitCode {
    let file = flags.get_one::<String>("config").map(Path::new);
    let given = config::directives()
        .filter_map(|d| Some((d.name, flags.get_one::<String>(d.name)?.as_str())));
    let config = match Config::load(file, given) {
        Ok(config) => config,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "ringwood: {error}");
            return ExitCode::from(2);
        }
    };
    let log = match Log::start() {
        Ok(log) => log,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "ringwood: {error}");
            return ExitCode::FAILURE;
        }
    };
    let set_log_level = start_log(&config.text("loglevel"), log.clone());
    let ended = match crate::server::run(config, set_log_level) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    };
    log.finish(LAST_LINES);
    ended
}

/// Starts the log; what it returns changes how much is logged.
fn start_log(level: &str, log: Log) -> SetLogLevel {
    let filter = |level: &str| {
        let level = match level {
            "debug" => LevelFilter::DEBUG,
            "warning" => LevelFilter::WARN,
            "nothing" => LevelFilter::OFF,
            _ => LevelFilter::INFO,
        };
        EnvFilter::default().add_directive(level.into())
    };
    let last = log.clone();
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(move || log.clone())
        .with_ansi(ansi)
        .with_target(false)
        .log_internal_errors(false)
        .with_filter_reloading();
    let filters = subscriber.reload_handle();
    subscriber.init();
    // The standard library's hook waits for the reader.
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("{panic}");
        last.finish(LAST_LINES);
    }));
    Box::new(move |level| {
        let set = filters.reload(filter(level));
        if let Err(error) = set {
            tracing::warn!(%error, "the log stays as it is");
        }
    })
}
