//! The shape of the house: which room may use which, no circles, small functions and files, and no
//! command known by its name where its row should say what it is.
//!
//! Each list of exceptions may only shrink: an entry that is no longer needed, or larger than what
//! is there, fails like one that is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::graph::{Crate, Functions, Place};

/// Each room with the rooms that it uses, from the bottom up.
const ROOMS: &[(&str, &[&str])] = &[
    ("logic", &[]),
    ("base", &[]),
    ("resp", &[]),
    ("script", &["base", "resp"]),
    ("storage", &["base", "logic"]),
    ("replica", &["base", "logic", "storage"]),
    ("peer", &["base", "logic"]),
    ("cluster", &["logic", "peer"]),
    ("pubsub", &["base", "cluster", "logic", "peer", "resp"]),
    ("coordinator", &["cluster", "logic", "peer", "replica"]),
    (
        "convergence",
        &["base", "cluster", "logic", "peer", "replica"],
    ),
    (
        "background",
        &["base", "cluster", "convergence", "logic", "peer", "replica"],
    ),
    ("error", &["coordinator", "replica", "storage"]),
    (
        "routing",
        &[
            "base",
            "coordinator",
            "error",
            "logic",
            "peer",
            "replica",
            "resp",
        ],
    ),
    (
        "status",
        &[
            "base",
            "convergence",
            "coordinator",
            "error",
            "logic",
            "peer",
            "replica",
            "storage",
        ],
    ),
    (
        "command",
        &[
            "base",
            "cluster",
            "convergence",
            "coordinator",
            "error",
            "logic",
            "peer",
            "pubsub",
            "replica",
            "resp",
            "routing",
            "script",
            "status",
            "storage",
        ],
    ),
    (
        "answer",
        &[
            "base",
            "cluster",
            "command",
            "convergence",
            "coordinator",
            "logic",
            "peer",
            "pubsub",
            "replica",
            "routing",
            "script",
            "status",
            "storage",
        ],
    ),
    (
        "net",
        &[
            "base", "command", "error", "pubsub", "replica", "resp", "routing",
        ],
    ),
    (
        "server",
        &[
            "answer",
            "background",
            "base",
            "cluster",
            "command",
            "convergence",
            "coordinator",
            "logic",
            "net",
            "peer",
            "replica",
            "storage",
        ],
    ),
    ("restore", &["cluster", "replica", "storage"]),
    ("cli", &["base", "restore", "server", "status"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Functions of more than [`FUNCTION`] lines, with their lines and the reason.
const LONG_FUNCTIONS: &[(&str, usize, &str)] = &[
    (
        "background::handoff::take_over",
        73,
        "one part's way, with what may stop it",
    ),
    ("convergence::answer::answer", 79, "one arm a message"),
    (
        "convergence::transfer::copy_piece",
        77,
        "one piece's way, with what may stop it",
    ),
    (
        "convergence::transfer::prove",
        104,
        "one proof's way, with what may stop it",
    ),
    (
        "coordinator::read::start_reading",
        76,
        "what a read must know before it asks",
    ),
    (
        "peer::listener::answer_all",
        84,
        "admission, one class after the other",
    ),
    ("peer::message::response::decode", 115, "one arm a message"),
    ("peer::message::response::encode", 147, "one arm a message"),
    (
        "replica::shared::join",
        84,
        "every case of a join under its key's lock",
    ),
];

/// Files of more than [`FILE`] lines, with their lines and the reason.
const LONG_FILES: &[(&str, usize, &str)] = &[
    ("cluster", 592, "the view of the cluster: to be taken apart"),
    (
        "command::family::strings",
        502,
        "one family of commands, with its rows",
    ),
    (
        "convergence::transfer",
        608,
        "taking over and giving up: to be taken apart",
    ),
    ("logic::placement::table", 635, "one subject"),
    ("net::connection", 531, "one subject"),
    (
        "replica",
        596,
        "a replica and what its files share: to be taken apart",
    ),
    ("replica::start", 517, "one subject"),
    (
        "storage::engine",
        567,
        "one thing, the order of whose locks is told in one place",
    ),
];

/// Lines of a function's body that fit on one screen.
const FUNCTION: usize = 70;
/// Lines of a file with one subject.
const FILE: usize = 500;

fn all() -> Crate {
    Crate::read(&super::root().join("src"))
}

fn text(place: &Place) -> String {
    place.join("::")
}

/// What was found must be what the list allows, no more and no less.
fn same_as_listed(what: &str, found: &BTreeMap<String, usize>, list: &[(&str, usize, &str)]) {
    let listed: BTreeMap<String, usize> = list
        .iter()
        .map(|(name, count, reason)| {
            assert!(!reason.is_empty(), "{name}: a reason");
            ((*name).to_owned(), *count)
        })
        .collect();
    let mut wrong = String::new();
    for name in found.keys().chain(listed.keys()).collect::<BTreeSet<_>>() {
        let (found, listed) = (found.get(name), listed.get(name));
        if found != listed {
            let count = |count: Option<&usize>| count.copied().unwrap_or_default();
            let (found, listed) = (count(found), count(listed));
            let _ = writeln!(wrong, "{what}: {name} has {found}, listed are {listed}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn room(place: &Place) -> &str {
    place.first().map_or("lib", String::as_str)
}

#[test]
fn rooms_use_what_architecture_draws_and_nothing_else() {
    let uses = all().uses();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, used) in &uses {
        for to in used.iter().filter(|to| room(from) != room(to)) {
            let (from_room, to_room) = (room(from), room(to));
            let allowed = ROOMS.iter().find(|(name, _)| *name == from_room);
            let (_, allowed) =
                allowed.unwrap_or_else(|| panic!("{from_room}: a room without a place"));
            assert!(
                allowed.contains(&to_room),
                "{} uses {}",
                text(from),
                text(to)
            );
            edges.entry(from_room).or_default().insert(to_room);
        }
    }
    let mut drawn = String::new();
    for (room, allowed) in ROOMS {
        let used = edges.get(room).cloned().unwrap_or_default();
        for allowed in *allowed {
            assert!(
                used.contains(allowed),
                "{room} does not use {allowed}: take it out"
            );
        }
        let _ = writeln!(drawn, "| `{room}` | {} |", allowed.join(", "));
    }
    super::same_between("ARCHITECTURE.md", "rooms", &drawn);
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let all = all();
    let uses = all.uses();
    let mut found = String::new();
    for circle in all.circles() {
        for place in &circle {
            let used = uses[place].iter().filter(|used| circle.contains(used));
            let used: Vec<String> = used.map(text).collect();
            let _ = writeln!(found, "{} uses {}", text(place), used.join(", "));
        }
    }
    assert!(found.is_empty(), "files in circles:\n{found}");
}

#[test]
fn functions_fit_on_a_screen() {
    use syn::visit::Visit as _;
    let mut found = BTreeMap::new();
    for (place, module) in &all().modules {
        let mut functions = Functions::default();
        functions.visit_file(&module.file);
        for (name, lines) in functions
            .0
            .into_iter()
            .filter(|(_, lines)| *lines > FUNCTION)
        {
            found.insert(format!("{}::{name}", text(place)), lines);
        }
    }
    same_as_listed("lines of a function", &found, LONG_FUNCTIONS);
}

#[test]
fn files_have_one_subject() {
    let all = all();
    let long = all.modules.iter().filter(|(_, module)| module.lines > FILE);
    let found = long
        .map(|(place, module)| (text(place), module.lines))
        .collect();
    same_as_listed("lines of a file", &found, LONG_FILES);
}

#[test]
fn rows_are_asked_not_names() {
    // COMMAND, HELP and LATENCY take and show names, and the table puts rows together by them.
    const SHOW: &[&str] = &[
        "command::spec",
        "command::family::docs",
        "command::family::latency",
    ];
    const ASKS: &[&str] = &["spec.name", "spec.parent", "parent == \""];
    for (place, module) in &all().modules {
        let is_asked = matches!(room(place), "command" | "routing" | "answer" | "net");
        if !is_asked || SHOW.contains(&text(place).as_str()) {
            continue;
        }
        let code = super::read(&module.path);
        for line in code.lines().take(module.lines) {
            let asks = ASKS.iter().any(|ask| line.contains(ask));
            assert!(!asks, "{} asks for a name: {line}", text(place));
        }
    }
}
