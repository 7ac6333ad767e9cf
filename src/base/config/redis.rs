//! Redis's directives that say how Redis keeps its data: what follows from them here, or nothing. And Redis's
//! second names.

use super::directive::{Directive, Kind, MAX, live};
use super::directives::OWN;
use super::error::ConfigError;

/// Directives that are taken because clients, frameworks and test suites set them.
static REDIS: &[Directive] = &[
    live(
        "hash-max-listpack-entries",
        "512",
        Kind::Number(0, MAX),
        "OBJECT ENCODING calls a hash of at most so many fields a listpack, as long as none is longer than hash-max-listpack-value.",
    ),
    live(
        "hash-max-listpack-value",
        "64",
        Kind::Bytes(0, MAX),
        "Bytes of the longest field or value of what OBJECT ENCODING calls a listpack.",
    ),
    live(
        "zset-max-listpack-entries",
        "128",
        Kind::Number(0, MAX),
        "OBJECT ENCODING calls a sorted set of at most so many members a listpack, as long as none is longer than zset-max-listpack-value.",
    ),
    live(
        "zset-max-listpack-value",
        "64",
        Kind::Bytes(0, MAX),
        "Bytes of the longest member of what OBJECT ENCODING calls a listpack.",
    ),
    live(
        "set-max-intset-entries",
        "512",
        Kind::Number(0, MAX),
        "OBJECT ENCODING calls a set of at most so many integers an intset.",
    ),
    live(
        "stream-node-max-entries",
        "100",
        Kind::Number(0, MAX),
        "Entries that XADD and XTRIM with ~ take away together: they leave at most so many more than they were asked for; 0 for 100.",
    ),
    live(
        "tracking-table-max-keys",
        "1000000",
        Kind::Number(0, MAX),
        "Keys of which a node remembers who has read them (CLIENT TRACKING); of more the oldest are told of as if they had changed. 0: any number.",
    ),
    live(
        "list-max-listpack-size",
        "-2",
        Kind::Number(-5, MAX),
        "Accepted for Redis's tools; an element is a row or part of one.",
    ),
    live(
        "list-compress-depth",
        "0",
        Kind::Number(0, MAX),
        "Accepted for Redis's tools; the tables are compressed as a whole.",
    ),
    live(
        "stream-node-max-bytes",
        "4096",
        Kind::Bytes(0, MAX),
        "Accepted for Redis's tools; an entry is a row or part of one.",
    ),
    live(
        "hll-sparse-max-bytes",
        "3000",
        Kind::Bytes(0, MAX),
        "Accepted for Redis's tools; a HyperLogLog is kept by register.",
    ),
    live(
        "activedefrag",
        "no",
        Kind::Switch,
        "Accepted for Redis's tools; the allocator does so by itself.",
    ),
    live(
        "hz",
        "10",
        Kind::Number(1, 500),
        "Accepted for Redis's tools; work that comes round paces itself.",
    ),
    live(
        "dynamic-hz",
        "yes",
        Kind::Switch,
        "Accepted for Redis's tools; work that comes round paces itself.",
    ),
    live(
        "sanitize-dump-payload",
        "no",
        Kind::Choice(&["no", "yes", "clients"]),
        "Accepted for Redis's tools; every payload of RESTORE is checked whole.",
    ),
    live(
        "rdbcompression",
        "yes",
        Kind::Switch,
        "Accepted for Redis's tools; there is no RDB file.",
    ),
    live(
        "maxmemory-samples",
        "5",
        Kind::Number(1, 64),
        "Accepted for Redis's tools; of the keys of several places the worst are evicted.",
    ),
    live(
        "lazyfree-lazy-eviction",
        "no",
        Kind::Switch,
        "Accepted for Redis's tools; deletes are always cheap.",
    ),
    live(
        "lazyfree-lazy-expire",
        "no",
        Kind::Switch,
        "Accepted for Redis's tools; deletes are always cheap.",
    ),
    live(
        "lazyfree-lazy-server-del",
        "no",
        Kind::Switch,
        "Accepted for Redis's tools; deletes are always cheap.",
    ),
    live(
        "lazyfree-lazy-user-flush",
        "no",
        Kind::Switch,
        "Accepted for Redis's tools; deletes are always cheap.",
    ),
    live(
        "slave-lazy-flush",
        "no",
        Kind::Switch,
        "Accepted for Redis's tools; deletes are always cheap.",
    ),
    live(
        "save",
        "",
        Kind::Text,
        "Accepted for Redis's tools; every write is stored as it comes.",
    ),
    live(
        "appendonly",
        "yes",
        Kind::Switch,
        "Accepted for Redis's tools; every write is journaled.",
    ),
    live(
        "lazyfree-lazy-user-del",
        "no",
        Kind::Switch,
        "Accepted for Redis's tools; deletes are always cheap.",
    ),
    live(
        "replica-read-only",
        "yes",
        Kind::Switch,
        "Accepted for Redis's tools; every node takes writes.",
    ),
];

/// Redis's other names of directives, for CONFIG GET and SET, files and flags.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("hash-max-ziplist-entries", "hash-max-listpack-entries"),
    ("hash-max-ziplist-value", "hash-max-listpack-value"),
    ("list-max-ziplist-size", "list-max-listpack-size"),
    ("lua-time-limit", "busy-reply-threshold"),
    ("maxdisk", "maxmemory"),
    ("slave-read-only", "replica-read-only"),
    ("zset-max-ziplist-entries", "zset-max-listpack-entries"),
    ("zset-max-ziplist-value", "zset-max-listpack-value"),
];

/// Every directive, in the order of the file.
pub fn directives() -> impl Iterator<Item = &'static Directive> {
    OWN.iter().chain(REDIS)
}

/// A directive's other names.
pub fn aliases_of(name: &str) -> impl Iterator<Item = &'static str> {
    let of_it = ALIASES.iter().filter(move |(_, of)| *of == name);
    of_it.map(|(alias, _)| *alias)
}

/// The directive of a name.
pub(super) fn find(name: &str) -> Result<&'static Directive, ConfigError> {
    let alias = ALIASES
        .iter()
        .find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    let name = alias.map_or(name, |(_, name)| name);
    directives()
        .find(|d| d.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| ConfigError::Unknown(name.to_owned()))
}
