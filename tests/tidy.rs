//! The house rules, as tests: layers, purity, file headers, and documents that come from tables.
//!
//! `make docs` writes the documents; without it a difference is a failure.
#![cfg(feature = "server")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ringwood::command::{Flags, all_commands};
use ringwood::config::DIRECTIVES;

/// Each layer with the layers that it may name.
const LAYERS: &[(&str, &[&str])] = &[
    ("logic", &[]),
    ("clock", &[]),
    ("log", &["clock"]),
    ("admin", &[]),
    ("config", &[]),
    ("metrics", &[]),
    ("storage", &["logic", "clock"]),
    ("replica", &["logic", "clock", "storage"]),
    ("peer", &["logic", "clock"]),
    ("cluster", &["logic", "clock", "peer"]),
    ("governor", &["metrics", "clock"]),
    ("coordinator", &["logic", "cluster", "peer", "replica"]),
    (
        "convergence",
        &[
            "logic", "clock", "storage", "replica", "peer", "cluster", "governor",
        ],
    ),
    (
        "background",
        &[
            "logic",
            "clock",
            "cluster",
            "peer",
            "replica",
            "governor",
            "convergence",
        ],
    ),
    // The command layer writes replies and parses nothing: it names `net::resp` and no more of net.
    (
        "command",
        &[
            "logic",
            "clock",
            "config",
            "metrics",
            "storage",
            "replica",
            "peer",
            "cluster",
            "coordinator",
            "governor",
            "convergence",
            "net::resp",
        ],
    ),
    ("restore", &["cluster", "replica", "server", "storage"]),
    ("net", &["command", "replica", "config", "clock"]),
    (
        "server",
        &[
            "logic",
            "clock",
            "config",
            "storage",
            "replica",
            "peer",
            "cluster",
            "coordinator",
            "governor",
            "convergence",
            "background",
            "command",
            "net",
        ],
    ),
];

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
fn imports_flow_downward() {
    for path in sources(&root().join("src")) {
        let relative = path.strip_prefix(root().join("src")).expect("below src");
        let first = relative
            .components()
            .next()
            .expect("a part")
            .as_os_str()
            .to_string_lossy();
        let layer = first.trim_end_matches(".rs").to_owned();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            assert!(
                matches!(layer.as_str(), "lib" | "main"),
                "{layer}: a layer without a place"
            );
            continue;
        };
        for line in read(&path)
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
        {
            for used in line.split("crate::").skip(1) {
                let fits = used.starts_with(&layer) || allowed.iter().any(|a| used.starts_with(a));
                assert!(fits, "{}: {line}", relative.display());
            }
        }
    }
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
            let is_disk = path.ends_with("storage/disk.rs");
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

#[test]
fn the_configuration_file_shows_every_directive_with_its_default() {
    let mut text = String::from(
        "# Every directive of Ringwood with its default. Each is also a flag (--port 6379) that\n\
         # overrides the file. Bytes take units: 1kb is 1024, 1k is 1000. Written by `make docs`.\n",
    );
    for directive in DIRECTIVES {
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
    text.push_str("\n## Commands\n\n| command | arity | what |\n| --- | --- | --- |\n");
    for spec in all_commands().iter().filter(|s| !s.is_container()) {
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
