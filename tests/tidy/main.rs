//! The house rules, as tests: layers, purity, file headers, and documents that come from tables.
//!
//! `make docs` writes the documents; without it a difference is a failure.
#![cfg(feature = "server")]

mod graph;
mod house;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ringwood::base::config;
use ringwood::command::{Flags, specs};
use ringwood::status::SECTIONS;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn logic_is_pure() {
    let banned = [
        "tokio",
        "std::time",
        "std::thread",
        "std::net",
        "std::fs",
        "HashMap",
        "async ",
    ];
    for path in sources(&root().join("src/logic")) {
        let text = read(&path);
        for word in banned {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn engines_stay_behind_their_ports() {
    for path in sources(&root().join("src")) {
        let text = read(&path);
        let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
        for line in code {
            let is_disk = path.ends_with("storage/fjall_tables.rs");
            assert!(
                is_disk || !line.contains("fjall::"),
                "{}: {line}",
                path.display()
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for folder in ["src", "tests"] {
        for path in sources(&root().join(folder)) {
            assert!(
                read(&path).starts_with("//!"),
                "{} has no header",
                path.display()
            );
        }
    }
}

fn same_as_generated(path: &str, generated: &str) {
    let path = root().join(path);
    if std::env::var_os("RINGWOOD_WRITE_DOCS").is_some() {
        std::fs::write(&path, generated).expect("written");
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        current == generated,
        "{} is out of date: `make docs`",
        path.display()
    );
}

/// A part of a written document, between two marks, is what a table says.
fn same_between(path: &str, mark: &str, generated: &str) {
    let text = read(&root().join(path));
    let begin = format!("<!-- {mark}: by `make docs` -->\n");
    let end = format!("<!-- {mark}: end -->\n");
    let (before, rest) = text.split_once(&begin).expect("a mark");
    let (_, after) = rest.split_once(&end).expect("an end");
    same_as_generated(path, &format!("{before}{begin}{generated}{end}{after}"));
}

#[test]
fn the_configuration_file_shows_every_directive_with_its_default() {
    let mut text = String::from(
        "# Every directive of Ringwood with its default. Each is also a flag (--port 6379) that\n\
         # overrides the file. Bytes take units: 1kb is 1024, 1k is 1000. Written by `make docs`.\n",
    );
    for directive in config::directives() {
        let value = directive
            .normalise(directive.default)
            .expect("defaults are valid");
        let shown = match directive.default.parse::<i64>() {
            Ok(_) => value,
            Err(_) if value.parse::<i64>().is_ok() => format!("\"{}\"", directive.default),
            Err(_) => directive.toml(&value).to_string(),
        };
        let when = if directive.mutable {
            ""
        } else {
            " Only at the start."
        };
        let _ = write!(
            text,
            "\n# {}{when}\n{} = {shown}\n",
            directive.help, directive.name
        );
    }
    text.push_str(
        "\n# Keys that begin alike may have other numbers of copies: any number of these tables, at the\n\
         # end and alike on all members; the longest prefix decides.\n\
         # [[prefix]]\n# prefix = \"session:\"\n# replicas-per-key = 3\n# read-quorum = 1\n\
         # write-quorum = 1\n# quorum = \"sloppy\"\n",
    );
    same_as_generated("conf/ringwood.toml", &text);
}

#[test]
fn the_compatibility_page_lists_every_command() {
    let mut text = read(&root().join("docs/compat.head.md"));
    text.push_str(
        "\n## Client libraries\n\nHow many checks of each pass, written by `make clients` (`tests/clients/counts.py`); it fails where another \
         number does.\nEach check is one call and what it has to return; what the application's own framework does is checked through it.\n\n",
    );
    text.push_str(&read(&root().join("tests/clients/counts.md")));
    text.push_str("\n## Commands\n\n| command | arity | what |\n| --- | --- | --- |\n");
    for spec in specs().all().iter().filter(|s| !specs().is_container(s)) {
        let own = if spec.has(Flags::OWN) {
            " (Ringwood only)"
        } else {
            ""
        };
        let summary = spec.summary.replace('|', "\\|");
        let name = spec.full_name().replace('|', " ").to_ascii_uppercase();
        let _ = writeln!(text, "| {name} | {} | {summary}{own} |", spec.arity);
    }
    same_as_generated("docs/compat.md", &text);
}

#[test]
fn the_page_of_facts_lists_every_fact() {
    let mut text = String::from(
        "# What INFO says\n\n\
         Every fact that a node tells of itself, by section, as `INFO` shows it and as `RINGWOOD STATUS JSON`\n\
         sends it (there as numbers, under `facts`). A counter starts at 0 with the process, and again with\n\
         `CONFIG RESETSTAT` where Redis's does. A `*` stands for a name: of a command, a member, a database.\n\
         Facts that do not apply to a lone node are not shown by one. Written by `make docs`.\n",
    );
    let mut names = std::collections::BTreeSet::new();
    for section in SECTIONS.iter().filter(|section| !section.facts.is_empty()) {
        let asked = if section.by_default {
            ""
        } else {
            " (by name, `all` or `everything`)"
        };
        let _ = write!(
            text,
            "\n## {}{asked}\n\n| fact | kind | unit | what |\n| --- | --- | --- | --- |\n",
            section.title()
        );
        for fact in section.facts {
            assert!(names.insert(fact.name), "{} is there twice", fact.name);
            assert!(fact.help.ends_with('.'), "{}: {}", fact.name, fact.help);
            let (kind, unit) = (fact.kind.name(), fact.unit.name());
            let _ = writeln!(text, "| {} | {kind} | {unit} | {} |", fact.name, fact.help);
        }
    }
    same_as_generated("docs/facts.md", &text);
}
