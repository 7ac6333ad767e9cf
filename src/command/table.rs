//! THE table: every command with its arity, flags and keys, put together from the families. It feeds dispatch,
//! COMMAND, the docs and the tests. A container's row is followed by the rows of its subcommands.

use std::sync::LazyLock;

use super::family::{
    absent, bits, causal, client, cluster, compare, connection, converge, docs, dump, expiry,
    function, geo, hash, hll, info, keys, keyspace, latency, lcs, list, meet, operator, plan,
    pubsub, script, server, set, snapshot, sort, stream, strings, tracking, transactions,
    transfers, zset,
};
use super::row::{Handler, Row};
use super::spec::{Spec, Specs};

const FAMILIES: &[&[Row]] = &[
    strings::ROWS,
    bits::ROWS,
    hll::ROWS,
    lcs::ROWS,
    hash::ROWS,
    set::ROWS,
    zset::ROWS,
    geo::ROWS,
    list::ROWS,
    stream::ROWS,
    keys::ROWS,
    sort::ROWS,
    dump::ROWS,
    expiry::ROWS,
    keyspace::ROWS,
    transactions::ROWS,
    script::ROWS,
    function::ROWS,
    pubsub::ROWS,
    causal::ROWS,
    operator::ROWS,
    converge::ROWS,
    plan::ROWS,
    snapshot::ROWS,
    transfers::ROWS,
    cluster::ROWS,
    meet::ROWS,
    connection::ROWS,
    client::ROWS,
    absent::ROWS,
    compare::ROWS,
    tracking::ROWS,
    server::ROWS,
    docs::ROWS,
    info::ROWS,
    latency::ROWS,
];

fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().copied().flatten()
}

static SPECS: LazyLock<Specs> = LazyLock::new(|| Specs::new(rows().map(|row| row.spec)));
static HANDLERS: LazyLock<Vec<Handler>> = LazyLock::new(|| rows().map(|row| row.handler).collect());

/// What is known of all commands.
pub fn specs() -> &'static Specs {
    &SPECS
}

/// What runs a command.
pub(super) fn handler(spec: &Spec) -> Handler {
    HANDLERS[spec.id()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::shape::{Begin, Find, KeySpec, Travels};

    #[test]
    fn names_are_unique_and_every_row_is_found() {
        let all = specs().all();
        for spec in all {
            let same = all.iter().filter(|s| s.full_name() == spec.full_name());
            assert_eq!(same.count(), 1, "{}", spec.full_name());
            assert!(specs().by_name(&spec.full_name()).is_some());
            assert!(spec.parent.is_empty() || all.iter().any(|s| s.name == spec.parent));
        }
    }

    #[test]
    fn a_command_on_strings_shows_values_or_puts_something_in_their_place() {
        use crate::routing::shape::Access::{Create, Overwrite, SetOrGet};
        for spec in specs().all().iter().filter(|spec| spec.group == "string") {
            let replaces = |keys: &KeySpec| matches!(keys.access, Create | Overwrite | SetOrGet);
            let replaces = spec.shape.keys.iter().all(replaces);
            assert_eq!(spec.shows_values, !replaces, "{}", spec.name);
        }
    }

    #[test]
    fn what_is_taken_apart_has_nothing_but_keys_and_what_belongs_to_each() {
        for spec in specs().all() {
            if let Travels::Apart(_) = spec.shape.travels {
                let [keys] = spec.shape.keys else {
                    panic!("{}: one kind of keys", spec.name);
                };
                assert_eq!(keys.begin, Begin::Index(1), "{}", spec.name);
                let is_all = matches!(
                    keys.find,
                    Find::Range {
                        last: -1,
                        limit: 0,
                        ..
                    }
                );
                assert!(is_all, "{}", spec.name);
            }
        }
    }

    #[test]
    fn whatever_reads_or_changes_keys_says_where_it_runs() {
        for spec in specs().all().iter().filter(|spec| spec.parent.is_empty()) {
            let is_on_keys = spec.shape.reads || spec.shape.writes;
            let stays = spec.shape.travels == Travels::Stays;
            // WATCH asks the coordinators itself; a container runs nothing.
            let may_stay = spec.name == "watch" || specs().is_container(spec);
            assert!(!is_on_keys || !stays || may_stay, "{}", spec.name);
        }
    }
}
